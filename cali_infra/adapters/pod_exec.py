"""Commands in the containers of pods, through the Kubernetes API: a part of the door to it.

What a command is given stands in lines on its input: arguments show up in lists of processes and in the API's
audit log, its input in neither. The protocol is `v4.channel.k8s.io`: channel 0 is the input, 1 and 2 what it
prints, 3 how it ended, as a Status. It cannot end an input, so a command has to know which line is the last.
The official client's own `stream` is not used: it wants the cluster's authority in a file, and prints requests when
it is asked to be verbose. Source: Kubernetes, `staging/src/k8s.io/client-go/tools/remotecommand`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from cali_infra.adapters.kubernetes import tls_context
from cali_infra.adapters.kubernetes_errors import error_from, unreachable
from cali_infra.errors import KubernetesError, PodCommandError, UnauthorizedError, UnreachableError

if TYPE_CHECKING:
    from websocket import WebSocket

    from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes

_PROTOCOL = "v4.channel.k8s.io"
_INPUT, _OUT, _ERR, _ENDED = range(4)
# To connect, and for a command as a whole, in seconds.
CONNECT, PATIENCE = 10.0, 120.0
# So much of what a command prints is kept, in bytes.
_LARGEST = 64 * 1024


@dataclass(frozen=True)
class Container:
    """One container of one particular pod."""

    namespace: str
    pod: str
    name: str

    def __str__(self) -> str:
        return f"container {self.name} of Pod {self.namespace}/{self.pod}"


@dataclass
class _Said:
    streams: dict[int, bytearray] = field(
        default_factory=lambda: {n: bytearray() for n in (_OUT, _ERR, _ENDED)}
    )

    def take(self, data: bytes) -> None:
        stream = self.streams.get(data[0]) if data else None
        if stream is not None and len(stream) < _LARGEST:
            stream += data[1:]

    def text(self, channel: int) -> str:
        return self.streams[channel].decode(errors="replace")


def run(
    kubernetes: Kubernetes,
    container: Container,
    command: Sequence[str],
    lines: Sequence[str] = (),
    *,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Run a command, hand it `lines`, and return what it printed.

    Raises PodCommandError with its exit code and its last words when it ends with another code than 0;
    UnauthorizedError, ForbiddenError, KubernetesError (404: there is no such pod) or UnreachableError where it
    could not be run, or did not end within `patience` seconds.
    """
    until = clock() + patience
    bearer = kubernetes.bearer()
    try:
        socket = _open(kubernetes, container, command, bearer)
    except UnauthorizedError:
        if bearer is None:
            raise
        socket = _open(kubernetes, container, command, kubernetes.bearer(bearer))
    said = _Said()
    try:
        _converse(socket, said, lines, lambda: until - clock(), container)
    finally:
        socket.close(timeout=0)
    code = _exit_code(said.text(_ENDED), container)
    if code:
        words = [line.strip() for line in said.text(_ERR).splitlines() if line.strip()]
        raise PodCommandError(str(container), code, words[-1] if words else "it said nothing")
    return said.text(_OUT)


def _converse(
    socket: WebSocket, said: _Said, lines: Sequence[str], left: Callable[[], float], container: Container
) -> None:
    import websocket

    try:
        socket.send_binary(bytes([_INPUT]) + "".join(f"{line}\n" for line in lines).encode())
        while not said.streams[_ENDED]:
            if left() <= 0:
                raise websocket.WebSocketTimeoutException
            socket.settimeout(left())
            code, data = socket.recv_data()
            if code == websocket.ABNF.OPCODE_CLOSE:
                return
            said.take(data)
    except websocket.WebSocketTimeoutException:
        raise UnreachableError(
            f"{container}: the command has not ended in time; what it was to do may be done or not",
            object_ref=str(container),
        ) from None
    except (websocket.WebSocketException, OSError) as error:
        raise UnreachableError(f"{container}: {error}", object_ref=str(container)) from error


def _open(
    kubernetes: Kubernetes, container: Container, command: Sequence[str], bearer: str | None
) -> WebSocket:
    import websocket

    access = kubernetes.access
    named = {"server_hostname": access.server_name} if access.server_name else {}
    query = [("command", word) for word in command]
    query += [("container", container.name), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
    path = f"/api/v1/namespaces/{quote(container.namespace)}/pods/{quote(container.pod)}/exec"
    url = urlsplit(kubernetes.host)
    scheme = "wss" if url.scheme == "https" else "ws"
    try:
        return websocket.create_connection(
            f"{scheme}://{url.netloc}{url.path}{path}?{urlencode(query)}",
            timeout=CONNECT,
            subprotocols=[_PROTOCOL],
            header=["User-Agent: cali", *([f"Authorization: Bearer {bearer}"] if bearer else [])],
            sslopt={"context": tls_context(access), **named},
            **_proxy(access),
        )
    except websocket.WebSocketBadStatusException as error:
        raise error_from(error.status_code, error.resp_body or b"", str(container)) from None
    except (websocket.WebSocketException, OSError) as error:
        raise unreachable(kubernetes.host, str(error), str(container)) from error


def _proxy(access: ClusterAccess) -> dict[str, Any]:
    if access.proxy is None:
        return {}
    proxy = urlsplit(access.proxy)
    return {"http_proxy_host": proxy.hostname, "http_proxy_port": proxy.port, "proxy_type": "http"}


def _exit_code(text: str, container: Container) -> int:
    """The code in the Status by which a command ends; one that was never started has a Status of its own."""
    try:
        status = json.loads(text)
    except ValueError:
        raise UnreachableError(
            f"{container}: the connection was cut; what the command was to do may be done or not",
            object_ref=str(container),
        ) from None
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise KubernetesError(f"{container}: {status.get('message', text)}", object_ref=str(container))
