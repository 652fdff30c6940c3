"""`pods/exec` over a WebSocket: a command runs on this machine, in surroundings that a test has registered.

A container without any refuses, as one that was never started. The environment of a command is what was registered
and nothing else. SPDY, terminals and `v5`, by which an input can be ended, are not modelled. Source: the kubelet's
streaming server (`remotecommand/websocket.go`): channel 0 is the input, 1 and 2 what is printed, 3 a Status.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from cali_infra.sandbox.kubernetes.errors import Obj, bad_request, not_modelled

_PROTOCOL = "v4.channel.k8s.io"
_CHUNK = 32 * 1024


@dataclass(frozen=True)
class Surroundings:
    """What a command in a container has: its whole environment, PATH included."""

    environ: Mapping[str, str] = field(repr=False)


Containers = Mapping[tuple[str, str, str], Surroundings]


async def serve(request: web.BaseRequest, pod: Obj, containers: Containers) -> web.StreamResponse:
    """Runs the command and carries what it reads and prints, until it has ended. Raises ApiError 400, 501."""
    query, meta = request.query, pod["metadata"]
    upgrade = request.headers.get("Upgrade", "").lower()
    if not upgrade:
        raise bad_request("Upgrade request required")
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if upgrade != "websocket" or _PROTOCOL not in offered or query.get("tty") in ("1", "true"):
        raise not_modelled(
            f"pods/exec by another protocol than a WebSocket's {_PROTOCOL}, or with a terminal"
        )
    names = [item["name"] for item in pod["spec"].get("containers", ())]
    name = query.get("container") or names[0]
    if name not in names:
        raise bad_request(f"container {name} is not valid for pod {meta['name']}")
    command = query.getall("command", [])
    if not command:
        raise bad_request("you must specify at least one command for the container")
    socket = web.WebSocketResponse(protocols=(_PROTOCOL,), compress=False)
    surroundings = containers.get((meta["namespace"], meta["name"], name))
    if surroundings is None:
        raise bad_request(f'unable to upgrade connection: container not found ("{name}")')
    await socket.prepare(request)
    status = await _run(socket, command, surroundings)
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        await socket.close()
    return socket


async def _run(socket: web.WebSocketResponse, command: list[str], surroundings: Surroundings) -> Obj:
    pipe = asyncio.subprocess.PIPE
    try:
        child = await asyncio.create_subprocess_exec(
            *command, env=dict(surroundings.environ), stdin=pipe, stdout=pipe, stderr=pipe
        )
    except OSError as error:
        message = f'OCI runtime exec failed: exec: "{command[0]}": {error.strerror}'
        return {
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": "InternalError",
            "code": 500,
        }
    assert child.stdin and child.stdout and child.stderr
    feeding = asyncio.create_task(_feed(socket, child))
    try:
        await asyncio.gather(_print(socket, 1, child.stdout), _print(socket, 2, child.stderr))
        code = await child.wait()
    finally:
        feeding.cancel()
        if child.returncode is None:
            child.kill()
            await child.wait()
        await asyncio.gather(feeding, return_exceptions=True)
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return _failure(f"command terminated with non-zero exit code: exit status {code}", code)


async def _feed(socket: web.WebSocketResponse, child: asyncio.subprocess.Process) -> None:
    assert child.stdin
    async for message in socket:
        if message.type is WSMsgType.BINARY and message.data[:1] == b"\x00":
            with contextlib.suppress(ConnectionError):
                child.stdin.write(message.data[1:])
                await child.stdin.drain()
    # Whoever asked is gone.
    with contextlib.suppress(ProcessLookupError):
        child.kill()


async def _print(socket: web.WebSocketResponse, channel: int, stream: asyncio.StreamReader) -> None:
    while data := await stream.read(_CHUNK):
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(bytes([channel]) + data)


def _failure(message: str, code: int) -> Obj:
    return {
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
