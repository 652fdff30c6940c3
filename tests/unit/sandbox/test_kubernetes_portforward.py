"""The port-forward of the Kubernetes stand-in: what a client that knows the kubelet's protocol sees."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import websocket
from loopback import Server

if TYPE_CHECKING:
    from conftest import Client, Cluster

PATH = "/api/v1/namespaces/default/pods/web/portforward"
PROTOCOL = "v4.channel.k8s.io"


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "web", "image": "web:1"}], **spec},
    }


@pytest.fixture
def web(cluster: Cluster, api: Client, eventually: Callable[..., Any]) -> Cluster:
    """A cluster with a pod that runs."""
    cluster.nodes(1)
    assert api("POST", "/api/v1/namespaces/default/pods", pod()).status == 201
    eventually(lambda: api("GET", PATH.removesuffix("/portforward")).body["status"].get("phase") == "Running")
    return cluster


@pytest.fixture
def upper() -> Iterator[Server]:
    """A server that says everything louder, until the other side or `!` ends it."""

    def serve(sock: socket.socket) -> None:
        while (data := sock.recv(1000)) and data != b"!":
            sock.sendall(data.upper())

    server = Server(serve)
    yield server
    server.close()


def talk(
    cluster: Cluster, *said: bytes, query: str = "?ports=80", token: str = "admin", **options: Any
) -> list[tuple[int, bytes]]:
    """The messages (channel, data) up to the connection's end; one is said after each that comes on channel 0."""

    host, _, port = cluster.url.removeprefix("https://").partition(":")
    context = ssl.create_default_context(cafile=str(cluster.ca))
    # Its own socket it would leave open after a refusal.
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        ws = websocket.create_connection(
            cluster.url.replace("https", "wss") + options.get("path", PATH) + query,
            header=[f"Authorization: Bearer {token}"],
            subprotocols=options.get("protocols", [PROTOCOL]),
            socket=secure,
        )
        heard, rest = [], list(said)
        while True:
            kind, frame = ws.recv_data_frame()
            if kind == websocket.ABNF.OPCODE_CLOSE:
                assert frame.data[:2] == (1000).to_bytes(2, "big")
                return heard
            heard.append((frame.data[0], frame.data[1:]))
            if heard[-1][0] == 0 and rest:
                ws.send_binary(b"\x00" + rest.pop(0))


def refused(cluster: Cluster, **options: Any) -> int:
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        talk(cluster, **options)
    return int(caught.value.status_code)


def test_bytes_go_to_the_server_that_was_registered_and_back(web: Cluster, upper: Server) -> None:
    web.standin.set_port(web.name, "default", "web", 80, upper.address)

    assert talk(web, b"one", b"two", b"!") == [(0, b"\x50\x00"), (1, b"\x50\x00"), (0, b"ONE"), (0, b"TWO")]
    # Without a protocol's name it is the same one.
    assert talk(web, b"one", b"!", protocols=[])[2:] == [(0, b"ONE")]


def test_two_ports_have_channels_of_their_own(web: Cluster, upper: Server) -> None:
    web.standin.set_port(web.name, "default", "web", 80, upper.address)

    heard = talk(web, b"one", b"!", query="?ports=80,8080")

    assert heard[:4] == [(0, b"\x50\x00"), (1, b"\x50\x00"), (2, b"\x90\x1f"), (3, b"\x90\x1f")]
    rest = dict(heard[4:])
    assert rest[0] == b"ONE"
    assert rest[3].startswith(b"error forwarding port 8080 to pod web, uid ")


def test_where_nothing_listens_the_connection_is_refused(web: Cluster, upper: Server) -> None:
    *_, (channel, said) = talk(web)
    assert channel == 1
    assert said.endswith(b"dial tcp4 127.0.0.1:80: connect: connection refused")

    web.standin.set_port(web.name, "default", "web", 80, upper.address)
    web.standin.set_port(web.name, "default", "web", 80, None)
    assert talk(web)[-1][1].endswith(b"connection refused")


def test_a_websocket_needs_create_as_well_from_1_35_on(web: Cluster, api: Client) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader", "namespace": "default"},
        "rules": [{"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "reader", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}],
    }
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    assert api("POST", f"{rbac}/roles", role).status == 201
    assert api("POST", f"{rbac}/rolebindings", binding).status == 201
    assert refused(web, token="nobody") == 403
    role["rules"][0]["verbs"].append("create")  # type: ignore[index]
    assert api("PUT", f"{rbac}/roles/reader", role).status == 200
    assert talk(web, token="nobody")[-1][0] == 1


def test_who_may_and_what_is_there(web: Cluster, api: Client) -> None:
    assert refused(web, token="wrong") == 401
    assert refused(web, token="view") == 403
    assert talk(web, token="edit")
    assert refused(web, path=PATH.replace("web", "other")) == 404
    assert refused(web, query="") == 400
    assert refused(web, query="?ports=http") == 400
    assert api("POST", "/api/v1/namespaces/default/pods", pod("far", nodeSelector={"a": "b"})).status == 201
    assert refused(web, path=PATH.replace("web", "far")) == 400
    answer = api("GET", f"{PATH}?ports=80")
    assert (answer.status, answer.message) == (400, "Upgrade request required")


def test_other_protocols_are_refused_by_name(web: Cluster) -> None:
    # What kubectl tries first, and what it falls back to.
    assert refused(web, protocols=["SPDY/3.1+portforward.k8s.io"]) == 501
    client = web.client()
    client._headers = {**client._headers, "Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    answer = client("POST", PATH)
    assert answer.status == 501
    assert "pods/portforward by another protocol" in answer.message


def test_it_is_recorded_and_discovered(web: Cluster, api: Client) -> None:
    talk(web)
    assert [(r.user, r.status) for r in web.standin.requests(web.name) if r.path == PATH] == [("admin", 101)]
    found = {entry["name"]: entry for entry in api("GET", "/api/v1").body["resources"]}
    assert found["pods/portforward"]["kind"] == "PodPortForwardOptions"
    assert found["pods/portforward"]["verbs"] == ["create", "get"]
