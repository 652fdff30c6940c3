"""Stack traces as Python, Java, Go and Node.js print them, a line each."""

from __future__ import annotations

PYTHON = """\
Traceback (most recent call last):
  File "/app/shop/orders.py", line 41, in total
    return sum(line["price"] * line["count"] for line in lines)
               ~~~~^^^^^^^^^
  [Previous line repeated 3 more times]
KeyError: 'price'
""".splitlines()

PYTHON_CHAIN = """\
Traceback (most recent call last):
  File "/app/shop/db.py", line 12, in connect
    return driver.connect(host)
ConnectionRefusedError: [Errno 111] Connection refused

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/shop/orders.py", line 7, in load
    with connect() as db:
shop.db.<locals>.Unavailable: no database

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/shop/main.py", line 3, in <module>
    main()
KeyboardInterrupt
""".splitlines()

PYTHON_GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/app/shop/main.py", line 5, in main
  |     async with TaskGroup() as group:
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/app/shop/main.py", line 9, in work
    |     raise ValueError("bad")
    | ValueError: bad
    +------------------------------------
""".splitlines()

JAVA = """\
Exception in thread "main" java.lang.IllegalStateException: order 17 is closed
\tat com.example.shop.Order.add(Order.java:88)
\tat com.example.shop.Main.main(Main.java:12) ~[shop.jar:1.2]
\tSuppressed: java.io.IOException: stream closed
\t\tat com.example.shop.Log.close(Log.java:5)
Caused by: java.lang.NullPointerException
\tat com.example.shop.Price.of(Price.java:3)
\t... 2 more
Caused by: com.example.shop.Missing: no price
\tat java.base/java.util.HashMap.get(HashMap.java:556)
\t... 14 common frames omitted
""".splitlines()

# Without a word behind the exception's name.
JAVA_BARE = """\
java.lang.NullPointerException
\tat com.example.shop.Price.of(Price.java:3)
""".splitlines()

# Behind the words of a log line.
JAVA_LOGGED = """\
2026-01-27 03:04:05,123 ERROR [http-1] c.e.s.Orders - refused: java.lang.IllegalArgumentException: no items
\tat com.example.shop.Orders.place(Orders.java:31)
""".splitlines()

DOTNET = """\
Unhandled exception. System.InvalidOperationException: no items
 ---> System.ArgumentNullException: Value cannot be null.
   at Shop.Price.Of(String name) in /src/Price.cs:line 3
   --- End of inner exception stack trace ---
   at Shop.Program.Main(String[] args)
""".splitlines()

NODE = """\
TypeError: Cannot read properties of undefined (reading 'price')
    at total (/app/orders.js:4:17)
    at async main (file:///app/main.mjs:9:3)
""".splitlines()

GO_PANIC = """\
panic: runtime error: invalid memory address or nil pointer dereference [recovered]
\tpanic: again
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48f5a6]

goroutine 1 gp=0xc000002380 m=0 mp=0x5a1f40 [running]:
panic({0x4a3e40?, 0x5521f0?})
\t/usr/local/go/src/runtime/panic.go:787 +0x132
github.com/example/shop/order.(*Order).Total(...)
\t/app/order/order.go:12
main.main()
\t/app/main.go:9 +0x26

goroutine 18 [chan receive, 2 minutes]:
main.work[...](0xc0000240c0, {0x1, 0x2})
\t/app/work.go:20 +0x3f
created by main.main in goroutine 1
\t/app/main.go:7 +0x25
""".splitlines()

GO_FATAL = """\
fatal error: all goroutines are asleep - deadlock!

goroutine 1 [select (no cases)]:
main.main()
\t/app/main.go:4 +0xf
""".splitlines()

GO_HTTP = """\
2026/01/27 03:04:05 http: panic serving 10.40.1.7:51812: order 17 is closed
goroutine 35 [running]:
net/http.(*conn).serve.func1()
\t/usr/local/go/src/net/http/server.go:1947 +0xbe
""".splitlines()

ALL = {
    "python": PYTHON,
    "python-chain": PYTHON_CHAIN,
    "python-group": PYTHON_GROUP,
    "java": JAVA,
    "java-bare": JAVA_BARE,
    "java-logged": JAVA_LOGGED,
    "dotnet": DOTNET,
    "node": NODE,
    "go-panic": GO_PANIC,
    "go-fatal": GO_FATAL,
    "go-http": GO_HTTP,
}
