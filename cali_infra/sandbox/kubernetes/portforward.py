"""`pods/portforward` over a WebSocket: a pod's port is a server on loopback that a test has registered for it.

A port without one refuses the connection, as that of a pod in which nothing listens. SPDY, which kubectl speaks, is
not modelled. Source: the kubelet's streaming server (`portforward/websocket.go`): each port has a channel for data
and one for an error, each opened by the port in two little-endian bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from aiohttp import WSMsgType, web

from cali_infra.sandbox.kubernetes.errors import Obj, bad_request, not_modelled

# A pod's port, by namespace, pod and number, and the address behind it.
Ports = Mapping[tuple[str, str, int], tuple[str, int]]

_PROTOCOL = "v4.channel.k8s.io"
# Source: the default of golang.org/x/net/websocket.
_LARGEST_FRAME = 32 * 1024 * 1024
_CHUNK = 32 * 1024


async def serve(
    request: web.BaseRequest, pod: Obj, ports: Ports, opened: Callable[[], None]
) -> web.StreamResponse:
    """Carries the connection to the ports of a pod until an end is done, after it has called `opened`.

    Raises ApiError 400, 501.
    """
    upgrade = request.headers.get("Upgrade", "").lower()
    if not upgrade:
        raise bad_request("Upgrade request required")
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if upgrade != "websocket" or (offered != [""] and _PROTOCOL not in offered):
        raise not_modelled("pods/portforward by another protocol than a WebSocket's " + _PROTOCOL)
    numbers = _numbers(request)
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {name} does not have a host assigned")
    socket = web.WebSocketResponse(protocols=(_PROTOCOL,), max_msg_size=_LARGEST_FRAME, compress=False)
    await socket.prepare(request)
    opened()
    for channel in range(2 * len(numbers)):
        await socket.send_bytes(bytes([channel]) + numbers[channel // 2].to_bytes(2, "little"))
    channels = [
        _Channel(socket, 2 * index, number, ports.get((namespace, name, number)), pod)
        for index, number in enumerate(numbers)
    ]
    reading = asyncio.create_task(_dispatch(socket, channels))
    # The connection is closed once every port is done; a client that goes away ends them.
    working = [asyncio.create_task(channel.run()) for channel in channels]
    try:
        await asyncio.wait(working)
    finally:
        for task in (reading, *working):
            task.cancel()
        await asyncio.gather(reading, *working, return_exceptions=True)
    with contextlib.suppress(ConnectionError):
        await socket.close()
    return socket


def _numbers(request: web.BaseRequest) -> list[int]:
    texts = [part for value in request.query.getall("ports", []) for part in value.split(",")]
    if not texts:
        raise bad_request('query parameter "port" is required')
    if any(not text.isdecimal() or not 0 < int(text) < 65536 for text in texts):
        raise bad_request(f"unable to parse {','.join(texts)!r} as a port")
    return [int(text) for text in texts]


class _Channel:
    """One port of one connection: what comes from the client goes to the server behind the port, and back."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        number: int,
        port: int,
        address: tuple[str, int] | None,
        pod: Obj,
    ) -> None:
        self._socket, self._number, self._port, self._address, self._pod = socket, number, port, address, pod
        # As long as it is full, nothing more is read from the client; nothing is the end.
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)

    async def run(self) -> None:
        try:
            if self._address is None:
                raise ConnectionRefusedError("connect: connection refused")
            reader, writer = await asyncio.open_connection(*self._address)
        except OSError as error:
            await self._fail(error)
            return
        copying = [asyncio.create_task(self._send(writer)), asyncio.create_task(self._receive(reader))]
        try:
            await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in copying:
                task.cancel()
            # Whichever end is gone, the other one sees it.
            await asyncio.gather(*copying, return_exceptions=True)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        while data := await self.incoming.get():
            writer.write(data)
            await writer.drain()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            await self._socket.send_bytes(bytes([self._number]) + data)

    async def _fail(self, error: OSError) -> None:
        meta = self._pod["metadata"]
        reason = "connect: connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
        text = (
            f"error forwarding port {self._port} to pod {meta['name']}, uid {meta['uid']}: failed to execute "
            f"portforward in network namespace: failed to connect to localhost:{self._port} inside namespace, "
            f"IPv4: dial tcp4 127.0.0.1:{self._port}: {reason}"
        )
        with contextlib.suppress(ConnectionError):
            await self._socket.send_bytes(bytes([self._number + 1]) + text.encode())


async def _dispatch(socket: web.WebSocketResponse, channels: list[_Channel]) -> None:
    """Hands on what the client sends, until it closes the connection or it is cut."""
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        number = message.data[0]
        # An error's channel is the kubelet's alone.
        if number % 2 == 0 and number // 2 < len(channels) and len(message.data) > 1:
            await channels[number // 2].incoming.put(message.data[1:])
    for channel in channels:
        await channel.incoming.put(b"")
