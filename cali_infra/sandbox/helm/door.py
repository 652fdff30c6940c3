"""The socket that Terraform connects to, and what makes one connection known from another behind it.

The provider runs the commands that a configuration names, so nobody but the owner may reach it: it listens
on a Unix socket in a private folder, not on a loopback port that every user of the machine can open. gRPC
cannot tell such connections apart, as a client's end has no name. So each is passed on from an end that
this module has given a name of its own, which gRPC then reports as the peer.
"""

from __future__ import annotations

import itertools
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CHUNK = 1 << 16


class Door:
    """A Unix socket whose connections reach the server with a name each; `closed` is told when one ends.

    The folder is a short one of its own, since a socket's path may have about 100 characters only.
    """

    def __init__(self, closed: Callable[[str], None]) -> None:
        self._closed = closed
        self._folder = Path(tempfile.mkdtemp(prefix="cali-"))
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None

    @property
    def server_address(self) -> str:
        """Where the gRPC server is to listen, as gRPC writes it."""
        return f"unix:{self._folder / 'server'}"

    def open(self) -> str:
        """Let clients in, once the server listens; returns the path of the socket for them."""
        path = str(self._folder / "provider")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), name="helm door", daemon=True).start()
        return path

    def close(self) -> None:
        """Let nobody in any more and take the folder away; connections that are open go on."""
        self._stopping.set()
        if self._listener is not None:
            # The thread that waits for a client sees the end when it gets one.
            with suppress(OSError), socket.socket(socket.AF_UNIX) as last:
                last.connect(self._listener.getsockname())
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                client, _ = listener.accept()
                if self._stopping.is_set():
                    client.close()
                    return
                threading.Thread(
                    target=self._pass_on, args=(client,), name="helm client", daemon=True
                ).start()

    def _pass_on(self, client: socket.socket) -> None:
        name = self._folder / f"client-{next(self._numbers)}"
        with client, socket.socket(socket.AF_UNIX) as server:
            try:
                server.bind(str(name))
                server.connect(str(self._folder / "server"))
            except OSError:
                return
            back = threading.Thread(target=_pump, args=(server, client), name="helm answers", daemon=True)
            back.start()
            _pump(client, server)
            back.join()
        name.unlink(missing_ok=True)
        self._closed(f"unix:{name}")


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes from one socket until it ends, and then that end."""
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    # The other direction may still be flowing, unless this one broke: then gRPC ends both.
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
