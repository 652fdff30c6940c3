"""Small servers on loopback: one that stands for an application, and a wire that can be cut and unplugged."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

HOST = "127.0.0.1"
_CHUNK = 64 * 1024


def reset(sock: socket.socket) -> None:
    """End a connection as a broken one ends."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Wakes whoever waits for it in another thread; a close alone does not.
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


class Server:
    """A TCP server: `serve` is called with each connection, in a thread of its own, and may let OSError out."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return host, port

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        with self._lock:
            remaining = list(self._open)
        for sock in remaining:
            reset(sock)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
            with self._lock:
                self._open.add(sock)
                self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            self._serve(sock)
        except OSError:
            pass
        finally:
            sock.close()
            with self._lock:
                self._open.discard(sock)


class Wire:
    """Carries connections to a server, and every kind of trouble on the way there."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._unplugged = False
        self._flowing = threading.Event()
        self._flowing.set()
        self.connections = 0
        # How often something came from a client.
        self.messages = 0
        self._server = Server(self._carry)
        self.address = self._server.address

    def cut(self) -> None:
        """Cut every connection that is open now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for sock in pair:
                reset(sock)

    def unplug(self) -> None:
        """Cut every connection, and each new one at once."""
        self._unplugged = True
        self.cut()

    def plug(self) -> None:
        self._unplugged = False

    def freeze(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        self.thaw()
        self.unplug()
        self._server.close()

    def _carry(self, sock: socket.socket) -> None:
        if self._unplugged:
            reset(sock)
            return
        with socket.create_connection(self._target) as other:
            pair = (sock, other)
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add(pair)
                self.connections += 1
            back = threading.Thread(target=self._copy, args=(other, sock), daemon=True)
            back.start()
            self._copy(sock, other)
            back.join()
            with self._lock:
                self._pairs.discard(pair)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                self._flowing.wait()
                if sink.getpeername() == self._target:
                    self.messages += 1
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for sock in (source, sink):
                with suppress(OSError):
                    reset(sock)
