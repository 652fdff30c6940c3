"""Connections to the ports of pods, through the Kubernetes API: a part of the door to it, for one event loop.

One WebSocket carries one TCP connection, so that one which is cut takes no other with it. The protocol is the
channel one of the kubelet, `v4.channel.k8s.io`: channel 0 is data both ways, channel 1 what went wrong; each begins
with the port in two little-endian bytes. It has no half-closed connection: an end is the end of both ways. The
official client's own port-forward is not used: it reads the cluster's authority from a file only, grows without
bound under a slow reader, and drops what is on its way when one side has said its last word.
Source: Kubernetes, `kubelet/pkg/cri/streaming/portforward/websocket.go`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote
from weakref import WeakSet

from cali_infra.adapters.kubernetes import TIMEOUT, is_loopback, tls_context
from cali_infra.adapters.kubernetes_errors import error_from, unreachable
from cali_infra.errors import (
    ForbiddenError,
    KubernetesError,
    PodPortError,
    UnauthorizedError,
    UnreachableError,
)

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.connector import AddrInfoType

    from cali_infra.adapters.kubernetes import Kubernetes

T = TypeVar("T")
_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
# Bytes in one message; the kubelet takes up to 32 MiB.
CHUNK = 64 * 1024
_LARGEST = 32 * 1024 * 1024
# For so long, in seconds, the other side may take to say that it closes the connection as well.
_FAREWELL = 1.0
_ROUNDS = 50
# A load balancer forgets a connection on which nothing was said for 350 seconds; the kubelet answers a ping.
PING = 30.0
# Nothing heard for so long, in seconds: the way to the pod is gone.
LOST = 120.0


class _RefusedError(Exception):
    """The API answered the request to change the protocol with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(str(status))
        self.status, self.body = status, body


class PodConnection:
    """One open connection to a port of a pod."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, what: str, ping: float, lost: float) -> None:
        self._socket, self._what, self._lost = socket, what, lost
        self._begun: set[int] = set()
        self._error = ""
        self._pinging = asyncio.create_task(self._keep_alive(ping))

    async def read(self) -> bytes:
        """The next bytes from the pod; none at all once the pod has closed the connection.

        Raises PodPortError with the kubelet's reason when the pod refuses it, and UnreachableError when the
        connection is cut: what was read until then is then not all.
        """
        import aiohttp

        while True:
            try:
                message = await self._socket.receive(timeout=self._lost)
            except TimeoutError:
                raise self._cut(f"nothing was heard from it for {self._lost:.0f} seconds") from None
            if message.type is aiohttp.WSMsgType.BINARY and message.data:
                if data := self._take(message.data[0], message.data[1:]):
                    return data
            elif message.type is aiohttp.WSMsgType.CLOSE:
                if self._error:
                    raise PodPortError(self._what, self._error)
                return b""
            elif message.type in (
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.ERROR,
            ):
                if self._error:
                    raise PodPortError(self._what, self._error)
                raise self._cut("the connection was cut")

    async def write(self, data: bytes) -> None:
        """Send bytes to the pod; returns when more may be sent. Raises UnreachableError."""
        import aiohttp

        try:
            await self._socket.send_bytes(bytes([_DATA]) + data)
        except (aiohttp.ClientError, OSError) as error:
            raise self._cut(str(error)) from error

    async def close(self) -> None:
        """Close the connection; what is still on its way from the pod is dropped."""
        import aiohttp

        self._pinging.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pinging
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await self._socket.close()

    def _take(self, channel: int, data: bytes) -> bytes:
        if channel not in self._begun:
            # The port, by which a channel begins; it may come in one message with what follows.
            self._begun.add(channel)
            data = data[2:]
        if channel == _ERROR:
            self._error += data.decode(errors="replace")
        return data if channel == _DATA else b""

    async def _keep_alive(self, every: float) -> None:
        import aiohttp

        with contextlib.suppress(aiohttp.ClientError, OSError):
            while True:
                await asyncio.sleep(every)
                await self._socket.ping()

    def _cut(self, why: str) -> UnreachableError:
        return UnreachableError(f"{self._what}: {why}", object_ref=self._what)


class PodPorts:
    """Opens connections to ports of a cluster's pods; `ping` and `lost` are in seconds.

    To be used in one event loop, and closed in it.
    """

    def __init__(self, kubernetes: Kubernetes, *, ping: float = PING, lost: float = LOST) -> None:
        self._kubernetes = kubernetes
        self._ping, self._lost = ping, lost
        self._session: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._context = tls_context(kubernetes.access)

    async def connect(self, namespace: str, pod: str, port: int) -> PodConnection:
        """Open a connection to a port of a pod. A 401 is answered by one new bearer.

        Raises UnauthorizedError, ForbiddenError, KubernetesError (404: there is no such pod) or UnreachableError.
        Whether something listens at the port shows in the first `read`.
        """
        what = f"port {port} of Pod {namespace}/{pod}"
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/portforward?ports={port}"
        bearer = await in_thread(self._kubernetes.bearer)
        try:
            upgraded = await self._upgrade(path, bearer, what)
        except UnauthorizedError:
            if bearer is None:
                raise
            bearer = await in_thread(partial(self._kubernetes.bearer, bearer))
            upgraded = await self._upgrade(path, bearer, what)
        if upgraded.protocol != _PROTOCOL:
            await upgraded.close()
            raise KubernetesError(
                f"{what}: the API at {self._kubernetes.host} does not speak {_PROTOCOL}", object_ref=what
            )
        return PodConnection(upgraded, what, self._ping, self._lost)

    async def close(self) -> None:
        """Close what is left open, also where nobody answers to a farewell any more."""
        if self._session is not None:
            await self._session.close()
        for held in self._sockets:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
        # The loop closes them in its next rounds.
        for _ in range(_ROUNDS):
            if all(held.fileno() == -1 for held in self._sockets):
                break
            await asyncio.sleep(0)

    def _socket(self, address: AddrInfoType) -> socket.socket:
        """What aiohttp would make itself; kept, as it lets go of a connection that became a WebSocket."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    async def _upgrade(self, path: str, bearer: str | None, what: str) -> aiohttp.ClientWebSocketResponse:
        import aiohttp

        access, host = self._kubernetes.access, self._kubernetes.host
        if self._session is None:
            connect, silence = TIMEOUT
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, socket_factory=self._socket),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=silence),
                # As for all other requests: no proxy of the environment for what is on this machine.
                trust_env=access.proxy is None and not is_loopback(host),
                # The one place where the body of a refusal can be read.
                raise_for_status=_check,
            )
        headers = {"User-Agent": "cali"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        try:
            return await self._session.ws_connect(
                host + path,
                protocols=(_PROTOCOL,),
                headers=headers,
                ssl=self._context,
                server_hostname=access.server_name,
                proxy=access.proxy,
                max_msg_size=_LARGEST,
                timeout=aiohttp.ClientWSTimeout(ws_close=_FAREWELL),
            )
        except _RefusedError as refused:
            raise _refusal(refused.status, refused.body, what) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unreachable(host, str(error) or "no answer in time", what) from error


async def in_thread(call: Callable[[], T]) -> T:
    """What a blocking call returns or raises; an event loop that ends does not wait for it.

    The loop's own pool would: a request that hangs in a network that is gone must not hold up a Ctrl-C.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as raised:
            error = raised
        # A loop that has ended meanwhile wants no answer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise _RefusedError(response.status, await response.read())


def _refusal(status: int, data: bytes, what: str) -> KubernetesError:
    error = error_from(status, data, what)
    if isinstance(error, ForbiddenError):
        error.remedy = (
            "reading is not enough for this: ask whoever runs the cluster for an access entry with level edit or "
            "admin (cali grant-access ARN --level edit)"
        )
    return error
