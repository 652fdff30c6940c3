"""Ports of this machine that lead to Services of the cluster, for as long as the command runs.

The listener on 127.0.0.1 stays whatever happens behind it: each connection to it asks which pod answers now, and
waits a while for one. A connection that was cut on its way is cut on this side too, never closed as if it had come
to its end: a client must be able to tell a whole answer from half of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cali_infra.adapters.pod_ports import CHUNK, PodConnection, in_thread
from cali_infra.errors import (
    CaliError,
    ForbiddenError,
    KubernetesError,
    RunInterruptedError,
    UnauthorizedError,
    UsageError,
)

if TYPE_CHECKING:
    from cali_infra.adapters.pod_ports import PodPorts
    from cali_infra.core.pod_targets import PodPort

HOST = "127.0.0.1"
# How many ports after the first one are tried before the system may choose any.
_NEIGHBOURS = 20
_BACKLOG = 128
# For so many seconds what was found out about the pod is taken for true.
_FRESH = 3.0
# For so many seconds a connection waits for a pod that takes it; between two attempts, at first and at most.
_PATIENCE, _PAUSE, _LONGEST_PAUSE = 30.0, 0.2, 2.0
# A client that has said its last word is still answered, until the pod has been silent for so many seconds: the
# protocol cannot tell the pod, and a client that went away altogether looks the same.
_LINGER = 10.0
# Seconds between a write that fails and the reason for it.
_MOMENT = 1.0

Find = Callable[["PodPort | None"], "PodPort"]
# What is said, and whether it is trouble.
Tell = Callable[[str, bool], None]


@dataclass(frozen=True)
class Timing:
    """Seconds, and who counts and waits them."""

    fresh: float = _FRESH
    patience: float = _PATIENCE
    pause: float = _PAUSE
    linger: float = _LINGER
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


def listen(port: int, *, exactly: bool = False) -> socket.socket:
    """A listening socket on 127.0.0.1: at this port, or, unless it has to be `exactly` this one, the next that is
    free.

    Raises UsageError when the port is taken or may not be used.
    """
    for candidate in (port,) if exactly else (*range(port, min(port + _NEIGHBOURS, 65536)), 0):
        try:
            return _bound(candidate)
        except OSError as error:
            if exactly or error.errno not in (errno.EADDRINUSE, errno.EACCES):
                why = (
                    "is in use on this machine"
                    if error.errno == errno.EADDRINUSE
                    else f"cannot be used: {error}"
                )
                raise UsageError(
                    f"port {candidate} {why}",
                    remedy="choose another, or leave --port out: the next free one is taken",
                ) from error
    raise AssertionError("the system gave no port")


def _bound(port: int) -> socket.socket:
    # Elsewhere than on Linux somebody who listens at every address would not be in the way, and lose his callers.
    if port and _somebody_answers(port):
        raise OSError(errno.EADDRINUSE, "somebody listens there")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Connections that were closed a moment ago do not keep the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _somebody_answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=0.5):
        return True
    return False


class Forward:
    """One local port that leads to a Service's port.

    `find` says which pod answers now, given the one before; it may block. `tell` is told what becomes of it,
    each thing once. To be used in one event loop.
    """

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        find: Find,
        ports: PodPorts,
        tell: Tell,
        timing: Timing | None = None,
    ) -> None:
        self.name = name
        self.port: int = listener.getsockname()[1]
        self._listener, self._find, self._ports, self._tell = listener, find, ports, tell
        self._timing = timing or Timing()
        self._pod: PodPort | None = None
        self._fresh_until = 0.0
        self._finding = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._said = ""

    async def start(self) -> PodPort:
        """Find a pod, prove that a connection to it can be made, and let callers in.

        Raises PreconditionError and KubernetesError, at once.
        """
        pod = await self._current()
        await (await self._ports.connect(pod.namespace, pod.pod, pod.port)).close()
        self._server = await asyncio.start_server(self._accepted, sock=self._listener, limit=CHUNK)
        return pod

    async def stop(self) -> None:
        """Free the port and cut every connection."""
        if self._server is not None:
            self._server.close()
        self._listener.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    # -- which pod --------------------------------------------------------------------------------------

    async def _current(self) -> PodPort:
        loop = asyncio.get_running_loop()
        # Many callers at once ask the cluster once.
        async with self._finding:
            if self._pod is not None and loop.time() < self._fresh_until:
                return self._pod
            before = self._pod
            pod = await in_thread(lambda: self._find(before))
            if before is not None and pod.uid != before.uid:
                self._tell(f"{self.name}: Pod {before.pod} is gone, Pod {pod.pod} answers now", False)
            self._pod, self._fresh_until = pod, loop.time() + self._timing.fresh
            return pod

    async def _open(self) -> PodConnection:
        """A connection to a pod that takes it, waited for as long as `patience` lasts."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._timing.patience, self._timing.pause
        while True:
            try:
                pod = await self._current()
                return await self._ports.connect(pod.namespace, pod.pod, pod.port)
            except (UnauthorizedError, ForbiddenError):
                raise
            except CaliError as error:
                self._fresh_until = 0.0
                if loop.time() + pause > until:
                    raise
                self._trouble(error, f"callers wait for it, for up to {self._timing.patience:.0f} seconds")
            await self._timing.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    # -- one connection ---------------------------------------------------------------------------------

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            # Only `stop` does that, and asyncio would log it as a mistake.
            _cut(writer)
        finally:
            self._connections.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connection = await self._open()
        except CaliError as error:
            self._trouble(error, "its callers are sent away")
            _cut(writer)
            return
        try:
            await _Exchange(connection, reader, writer, self._timing.linger).run(self._well)
        except CaliError as error:
            # Which pod answers is asked anew.
            self._fresh_until = 0.0
            self._trouble(error, "its callers have to connect anew")
            _cut(writer)
        except OSError:
            # The caller went away, in whatever way.
            _cut(writer)
        else:
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()
        finally:
            await connection.close()

    def _trouble(self, error: CaliError, then: str) -> None:
        remedy = f"\n  {error.remedy}" if isinstance(error, KubernetesError) and error.remedy else ""
        if error.message != self._said:
            self._said = error.message
            self._tell(f"{self.name}: {error.message}; {then}{remedy}", True)

    def _well(self) -> None:
        if self._said:
            self._said = ""
            self._tell(f"{self.name}: it answers again", False)


async def serve(
    forwards: Sequence[Forward], ready: Callable[[Sequence[PodPort]], None], stop: asyncio.Event
) -> None:
    """Start them all, call `ready` with their pods once they all stand, and serve until `stop` is set.

    All or none: what the first one that cannot start raises is raised. RunInterruptedError when `stop` is set
    before they stand.
    """
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.gather(*(forward.start() for forward in forwards))
    try:
        await asyncio.wait((stopping, starting), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            raise RunInterruptedError("interrupted before anything was open")
        ready(starting.result())
        await stopping
    finally:
        stopping.cancel()
        starting.cancel()
        await asyncio.gather(stopping, starting, return_exceptions=True)
        await asyncio.gather(*(forward.stop() for forward in forwards))


class _Exchange:
    """Bytes both ways between a caller and a pod, until the pod closes the connection or the caller is done."""

    def __init__(
        self, pod: PodConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, linger: float
    ) -> None:
        self._pod, self._reader, self._writer, self._linger = pod, reader, writer, linger
        self._received = 0

    async def run(self, well: Callable[[], None]) -> None:
        """Return when it came to its end; `well` is called when the pod has said something.

        Raises PodPortError and UnreachableError when it did not, OSError when the caller is gone.
        """
        down, up = asyncio.create_task(self._to_caller(well)), asyncio.create_task(self._to_pod())
        try:
            await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
            if not down.done():
                await self._last_words(down, up)
            if down.done():
                # Its own word on the end comes first: a write fails as soon as the pod has closed.
                down.result()
            else:
                up.result()
        finally:
            for task in (down, up):
                task.cancel()
            await asyncio.gather(down, up, return_exceptions=True)

    async def _last_words(self, down: asyncio.Task[None], up: asyncio.Task[None]) -> None:
        if up.exception() is not None:
            await asyncio.wait((down,), timeout=_MOMENT)
            return
        received = -1
        while not down.done() and received != self._received:
            received = self._received
            await asyncio.wait((down,), timeout=self._linger)

    async def _to_caller(self, well: Callable[[], None]) -> None:
        while data := await self._pod.read():
            if not self._received:
                well()
            self._received += len(data)
            self._writer.write(data)
            await self._writer.drain()

    async def _to_pod(self) -> None:
        while data := await self._reader.read(CHUNK):
            await self._pod.write(data)


def _cut(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset, which no client takes for the end of an answer."""
    with contextlib.suppress(OSError):
        held = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
