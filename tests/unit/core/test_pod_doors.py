"""A door held open for a block: what is behind it answers, and afterwards nothing is left of it."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cali_infra.adapters.kubernetes import Kubernetes
from cali_infra.core.pod_doors import reach
from cali_infra.core.service_doors import DOORS
from cali_infra.errors import KubernetesError, PreconditionError
from cali_infra.sandbox.ports import NodeSpec

DOOR, NAME = DOORS["grafana"], "demo"


@pytest.fixture
def kubernetes(cluster: Any) -> Kubernetes:
    cluster.standin.set_nodes(NAME, "nodes", [NodeSpec("node-1", "a", "m6i.xlarge")])
    found: Kubernetes = cluster.connect(patience=0.5)
    return found


@pytest.fixture
def page() -> Iterator[tuple[str, int]]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield ("127.0.0.1", server.server_address[1])
        server.shutdown()


def deploy(cluster: Any, kubernetes: Kubernetes, **meta: Any) -> None:
    kubernetes.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "grafana"}})
    where = {"namespace": "grafana", "labels": {"app": "grafana"}}
    kubernetes.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "grafana", "namespace": "grafana"},
            "spec": {"selector": {"app": "grafana"}, "ports": [{"port": 80, "targetPort": 3000}]},
        }
    )
    kubernetes.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "grafana-0", **where, **meta},
            "spec": {"containers": [{"name": "grafana", "image": "grafana:1"}]},
        }
    )


def test_what_is_behind_the_door_answers_until_the_block_ends(
    cluster: Any, kubernetes: Kubernetes, page: tuple[str, int]
) -> None:
    deploy(cluster, kubernetes)
    cluster.standin.set_port(NAME, "grafana", "grafana-0", 3000, page)
    before = threading.active_count()

    with reach(kubernetes, DOOR) as url:
        for _ in range(3):
            with urllib.request.urlopen(f"{url}/x", timeout=5) as answer:
                assert answer.read() == b"hello"

    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=1)
    assert threading.active_count() <= before


def test_an_error_in_the_block_closes_it_as_well(
    cluster: Any, kubernetes: Kubernetes, page: tuple[str, int]
) -> None:
    deploy(cluster, kubernetes)
    cluster.standin.set_port(NAME, "grafana", "grafana-0", 3000, page)
    with pytest.raises(ValueError, match="no"), reach(kubernetes, DOOR) as url:
        raise ValueError("no")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=1)


def test_without_a_service_or_a_ready_pod_it_says_so_at_once(cluster: Any, kubernetes: Kubernetes) -> None:
    with pytest.raises(PreconditionError, match="no Service grafana"), reach(kubernetes, DOOR):
        pass
    deploy(cluster, kubernetes, annotations={"sandbox.cali.dev/fail": "CrashLoopBackOff"})
    with pytest.raises(KubernetesError, match="has nobody to answer"), reach(kubernetes, DOOR):
        pass
