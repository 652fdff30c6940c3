"""Ports that lead into the cluster: a stand-in's API, an application on loopback behind it, a wire that breaks."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from loopback import Server, Wire, reset

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.adapters.pod_ports import PodPorts
from cali_infra.core import forwarding, pod_targets
from cali_infra.core.forwarding import Forward, Timing, listen
from cali_infra.core.pod_targets import PodPort
from cali_infra.errors import (
    ForbiddenError,
    KubernetesError,
    PreconditionError,
    RunInterruptedError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
)
from cali_infra.sandbox.kubernetes.pods import FAIL
from cali_infra.sandbox.ports import NodeSpec

if TYPE_CHECKING:
    from conftest import Cluster

NAME = "demo"
MIB = 1024 * 1024
# Nothing here waits as long as it would for a person.
TIMING = Timing(fresh=0.0, patience=10.0, pause=0.01, linger=0.3)
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "app", "namespace": "default"},
    "spec": {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
}


def eventually(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return found


def steady(value: Callable[[], int]) -> int:
    """The value once it has begun to grow and grows no more."""
    before = -1
    while before != (now := value()) or not now:
        before = now
        time.sleep(0.5)
    return before


def deployment(replicas: int = 1, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}, "annotations": annotations or {}},
                "spec": {
                    "containers": [
                        {
                            "name": "app",
                            "image": "app:1",
                            "ports": [
                                {"name": "metrics", "containerPort": 9},
                                {"name": "web", "containerPort": 8080},
                            ],
                        }
                    ]
                },
            },
        },
    }


@dataclass(frozen=True)
class Bearer:
    value: str
    expires_at: None = None


@dataclass
class Platform:
    """A cluster with a Service, its pods, an application behind them, and a wire to the API."""

    cluster: Cluster
    wire: Wire
    admin: Kubernetes
    stack: ExitStack
    told: list[tuple[str, bool]] = field(default_factory=list)

    def pods(self) -> list[str]:
        """The names of the ready pods."""
        return [
            pod["metadata"]["name"]
            for pod in self.cluster.objects("pods").values()
            if pod["metadata"]["namespace"] == "default" and pod_targets.is_ready(pod)
        ]

    def serve(self, serve: Callable[[socket.socket], None], port: int = 8080) -> Server:
        """An application behind that port of every pod."""
        server = Server(serve)
        self.stack.callback(server.close)
        for pod in eventually(self.pods):
            self.cluster.standin.set_port(NAME, "default", pod, port, server.address)
        return server

    def connect(self, bearer: Any = "admin", **timing: Any) -> Kubernetes:
        """To the API, by the wire."""
        through = replace(self.cluster.address, endpoint="https://{}:{}".format(*self.wire.address))
        settings = {"patience": 0.5, "timeout": (5.0, 10.0), **timing}
        return replace(self.cluster, address=through).connect(bearer, **settings)

    def forward(self, bearer: Any = "admin", timing: Timing = TIMING, **ports: float) -> Running:
        """A forward to the Service's port 80; ended with the test."""
        running = Running(self, bearer, timing, ports)
        self.stack.callback(running.stop)
        running.start()
        return running

    @property
    def words(self) -> str:
        return "\n".join(text for text, _ in self.told)


class Running:
    """A forward in an event loop of its own thread."""

    def __init__(self, platform: Platform, bearer: Any, timing: Timing, ports: dict[str, float]) -> None:
        self._platform, self._timing, self._ports = platform, timing, ports
        self._kubernetes = platform.connect(bearer)
        self.pods: Future[list[PodPort]] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        self.pods.result(30)

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def call(self) -> socket.socket:
        """A new connection of a caller's."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self.pods.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ports = PodPorts(self._kubernetes, **self._ports)
        find = partial(find_pod, self._kubernetes)
        told = self._platform.told
        forward = Forward(
            "app", listen(0), find, ports, lambda text, bad: told.append((text, bad)), self._timing
        )
        self.port = forward.port
        try:
            await forwarding.serve([forward], lambda pods: self.pods.set_result(list(pods)), self._stop)
        finally:
            await ports.close()


def find_pod(kubernetes: Kubernetes, before: PodPort | None) -> PodPort:
    return pod_targets.find(kubernetes, "default", "app", 80, before)


@pytest.fixture
def platform(cluster: Cluster) -> Iterator[Platform]:
    cluster.standin.set_nodes(NAME, "workers", [NodeSpec("node-1", "ap-northeast-2a", "m6i.xlarge")])
    admin = cluster.connect()
    host, _, port = cluster.address.endpoint.removeprefix("https://").partition(":")
    wire = Wire((host, int(port)))
    with ExitStack() as stack:
        stack.callback(wire.close)
        admin.create(SERVICE)
        admin.create(deployment())
        yield Platform(cluster, wire, admin, stack)


# -- applications -------------------------------------------------------------------------------------------


def exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(MIB, size - len(data)))
        if not piece:
            # As a rule the connection by which a forward proves itself, which says nothing.
            raise ConnectionError(f"{len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def mirror(sock: socket.socket) -> None:
    """Takes a length and as many bytes, and sends their digest and themselves back; again and again."""
    while True:
        (size,) = struct.unpack(">Q", exactly(sock, 8))
        data = exactly(sock, size)
        sock.sendall(hashlib.sha256(data).digest() + data)


def mirrored(sock: socket.socket, data: bytes) -> None:
    """Send it to `mirror` and take it back, to the byte."""
    sending = threading.Thread(target=lambda: sock.sendall(struct.pack(">Q", len(data)) + data))
    sending.start()
    assert exactly(sock, 32) == hashlib.sha256(data).digest()
    assert exactly(sock, len(data)) == data
    sending.join()


def until_closed(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(MIB):
        data += piece
    return bytes(data)


# -- what comes through -------------------------------------------------------------------------------------


def test_megabytes_come_through_both_ways_to_the_byte_for_several_callers_at_once(platform: Platform) -> None:
    platform.serve(mirror)
    forward = platform.forward()

    def one(number: int) -> None:
        with forward.call() as sock:
            # The second time over the same connection.
            for size in (3 * MIB + number, 0, 1, 64 * 1024):
                mirrored(sock, random.Random(number + size).randbytes(size))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))

    assert platform.told == []
    # The Service's named targetPort is the pod's second port; each caller has a connection of his own.
    assert [pod.port for pod in forward.pods.result()] == [8080]
    assert len(platform.cluster.requests("GET", "/portforward")) == 7


def test_a_caller_who_has_said_his_last_word_gets_the_whole_answer(platform: Platform) -> None:
    answer = random.Random(1).randbytes(2 * MIB)

    def serve(sock: socket.socket) -> None:
        exactly(sock, 4)
        sock.sendall(answer)

    platform.serve(serve)
    with platform.forward().call() as sock:
        sock.sendall(b"GET.")
        sock.shutdown(socket.SHUT_WR)

        assert until_closed(sock) == answer


def test_a_slow_caller_holds_up_the_application_and_loses_nothing(platform: Platform) -> None:
    total, sent = 96 * MIB, 0
    piece = random.Random(2).randbytes(MIB)

    def serve(sock: socket.socket) -> None:
        nonlocal sent
        exactly(sock, 4)
        while sent < total:
            sock.sendall(piece)
            sent += len(piece)

    platform.serve(serve)
    with platform.forward().call() as sock:
        sock.sendall(b"GET.")
        # What is on its way lies in the system's buffers, not in ours.
        assert steady(lambda: sent) < total // 2

        digest = hashlib.sha256()
        for _ in range(total // MIB):
            digest.update(exactly(sock, MIB))
        assert digest.digest() == hashlib.sha256(piece * (total // MIB)).digest()
        assert sock.recv(1) == b""


def test_a_caller_who_is_gone_is_gone_for_the_application_too(platform: Platform) -> None:
    ended = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(exactly(sock, 5))
        try:
            until_closed(sock)
        finally:
            ended.set()

    platform.serve(serve)
    sock = platform.forward().call()
    sock.sendall(b"hello")
    assert exactly(sock, 5) == b"hello"
    reset(sock)

    assert ended.wait(30)
    assert platform.told == []


# -- what breaks --------------------------------------------------------------------------------------------


def test_a_cut_in_the_middle_is_no_end_and_the_next_caller_gets_through(platform: Platform) -> None:
    sent = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"x" * MIB)
        sent.set()
        until_closed(sock)

    platform.serve(serve)
    forward = platform.forward()
    with forward.call() as sock:
        exactly(sock, MIB)
        platform.wire.cut()
        # Never an end that looks like a whole answer.
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    eventually(lambda: platform.told)
    assert "app: port 8080 of Pod default/app-" in platform.words
    assert "the connection was cut; its callers have to connect anew" in platform.words

    with forward.call() as sock:
        assert exactly(sock, MIB) == b"x" * MIB
    eventually(lambda: platform.told[-1] == ("app: it answers again", False))


def test_an_upload_that_is_cut_is_cut_for_the_caller(platform: Platform) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def serve(sock: socket.socket) -> None:
        exactly(sock, 10)
        arrived.set()
        until_closed(sock)
        ended.set()

    platform.serve(serve)
    with platform.forward().call() as sock:
        sock.sendall(b"some of it")
        assert arrived.wait(30)
        platform.wire.cut()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert ended.wait(30)


def test_one_connection_that_breaks_takes_no_other_with_it(platform: Platform) -> None:
    def serve(sock: socket.socket) -> None:
        if exactly(sock, 1) == b"!":
            reset(sock)
        else:
            sock.sendall(b"fine")

    platform.serve(serve)
    forward = platform.forward()
    with forward.call() as one, forward.call() as other:
        one.sendall(b"!")
        assert until_closed(one) == b""
        other.sendall(b"?")
        assert exactly(other, 4) == b"fine"


def test_callers_wait_while_the_api_is_away(platform: Platform) -> None:
    platform.serve(mirror)
    forward = platform.forward()
    platform.wire.unplug()
    with forward.call() as sock:
        sock.sendall(struct.pack(">Q", 4) + b"data")
        eventually(lambda: "cannot be reached" in platform.words)
        platform.wire.plug()

        assert exactly(sock, 36)[32:] == b"data"
    assert "callers wait for it, for up to 10 seconds" in platform.words
    # Said once, however often it was tried.
    assert len([text for text, bad in platform.told if bad]) == 1


def test_another_pod_takes_over(platform: Platform) -> None:
    platform.serve(mirror)
    forward = platform.forward()
    (first,) = platform.pods()
    platform.admin.delete(ObjectRef("v1", "Pod", "default", first))
    (second,) = eventually(lambda: [pod for pod in platform.pods() if pod != first])
    platform.serve(mirror)

    with forward.call() as sock:
        mirrored(sock, b"to the new one")
    assert platform.told == [(f"app: Pod {first} is gone, Pod {second} answers now", False)]


def test_the_same_pod_is_kept_as_long_as_it_is_ready(platform: Platform) -> None:
    platform.admin.apply(deployment(replicas=3), force=True)
    eventually(lambda: len(platform.pods()) == 3)
    platform.serve(mirror)
    forward = platform.forward()
    for _ in range(4):
        with forward.call() as sock:
            mirrored(sock, b"x")
    assert platform.told == []
    assert len({r.path for r in platform.cluster.requests("GET", "/portforward")}) == 1


def test_a_caller_waits_for_a_pod_that_is_on_its_way(platform: Platform) -> None:
    platform.serve(mirror)
    forward = platform.forward()
    platform.admin.apply(deployment(replicas=0), force=True)
    eventually(lambda: not platform.pods())
    with forward.call() as sock:
        eventually(lambda: "has nobody to answer: it has no pod" in platform.words)
        platform.admin.apply(deployment(), force=True)
        platform.serve(mirror)

        mirrored(sock, b"here I am")


def test_who_waits_in_vain_is_sent_away_and_told_why(platform: Platform) -> None:
    platform.serve(mirror)
    forward = platform.forward(timing=replace(TIMING, patience=0.2))
    platform.admin.apply(deployment(annotations={FAIL: "ImagePullBackOff"}), force=True)
    eventually(lambda: not platform.pods())
    with forward.call() as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)
    eventually(lambda: 'ImagePullBackOff Back-off pulling image "app:1"' in platform.words)


def test_a_pod_that_does_not_listen_says_so(platform: Platform) -> None:
    eventually(platform.pods)
    forward = platform.forward()
    with forward.call() as sock:
        sock.sendall(b"anybody?")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    eventually(lambda: platform.told)
    assert "connection refused; its callers have to connect anew" in platform.words


def test_a_way_on_which_nothing_is_heard_is_given_up(platform: Platform) -> None:
    platform.serve(lambda sock: sock.sendall(b"hello") or (until_closed(sock) and None))
    forward = platform.forward(ping=0.05, lost=1.0)
    with forward.call() as sock:
        assert exactly(sock, 5) == b"hello"
        # As long as the pings are answered, silence is nothing: these take longer.
        before = platform.wire.messages
        eventually(lambda: platform.wire.messages > before + 30)
        assert platform.told == []
        platform.wire.freeze()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert "nothing was heard from it for 1 seconds" in platform.words


# -- who may ---------------------------------------------------------------------------------------------------


def test_a_bearer_that_has_ended_is_replaced(platform: Platform) -> None:
    platform.serve(mirror)
    platform.cluster.callers["old"] = platform.cluster.callers["new"] = platform.cluster.callers["admin"]
    bearers = iter(["old"])
    forward = platform.forward(lambda: Bearer(next(bearers, "new")))
    del platform.cluster.callers["old"]
    with forward.call() as sock:
        mirrored(sock, b"still me")
    assert platform.told == []


def test_a_bearer_that_ends_between_the_question_and_the_connection(platform: Platform) -> None:
    platform.serve(mirror)
    platform.cluster.callers["old"] = platform.cluster.callers["new"] = platform.cluster.callers["admin"]
    forward = platform.forward(lambda: Bearer("old"), replace(TIMING, fresh=60.0))
    del platform.cluster.callers["old"]
    with forward.call() as sock, pytest.raises(ConnectionResetError):
        # The pod is known, so the connection itself meets the 401, and asks for one new bearer.
        sock.recv(1)
    refused = [r for r in platform.cluster.requests("GET", "/portforward") if r.status == 401]
    assert len(refused) == 2
    assert "the cluster does not know this caller" in platform.words
    assert "cali up access" in platform.words


def test_a_viewer_is_told_what_he_lacks(platform: Platform) -> None:
    platform.serve(mirror)
    with pytest.raises(ForbiddenError) as caught:
        platform.forward("viewer")
    assert "pods/portforward" in caught.value.message
    assert "level edit or admin" in caught.value.remedy
    with pytest.raises(UnauthorizedError):
        platform.forward("nobody")


# -- the beginning and the end -----------------------------------------------------------------------------------


def test_what_is_not_there_is_told_before_a_port_is_open(platform: Platform) -> None:
    platform.admin.apply(deployment(annotations={FAIL: "CrashLoopBackOff"}), force=True)
    # The pod of before is on its way out, and the new one begins as Pending.
    eventually(lambda: not platform.pods() and "CrashLoopBackOff" in str(platform.cluster.objects("pods")))
    with pytest.raises(KubernetesError) as caught:
        platform.forward()
    assert "has nobody to answer: its pod is not ready" in caught.value.message
    assert "CrashLoopBackOff back-off 5m0s" in caught.value.message

    platform.admin.delete(ObjectRef("v1", "Service", "default", "app"))
    with pytest.raises(PreconditionError) as gone:
        platform.forward()
    assert gone.value.message == "the cluster has no Service app in the namespace default"
    assert "cali up services" in gone.value.remedy

    platform.wire.unplug()
    with pytest.raises(UnreachableError):
        platform.forward()


def test_the_end_frees_the_port_and_cuts_whoever_is_there(platform: Platform) -> None:
    platform.serve(mirror)
    forward = platform.forward()
    with forward.call() as sock:
        mirrored(sock, b"x")
        forward.stop()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with pytest.raises(ConnectionRefusedError):
        forward.call()
    listen(forward.port, exactly=True).close()


def test_an_end_before_the_beginning(platform: Platform) -> None:
    platform.serve(mirror)
    platform.wire.freeze()
    forward = Running(platform, "admin", TIMING, {})
    forward._thread.start()
    eventually(lambda: platform.wire.connections)
    # Its request to the API hangs, and does not hold it up.
    forward.stop()
    with pytest.raises(RunInterruptedError):
        forward.pods.result(0)


def test_a_taken_port() -> None:
    taken = listen(0)
    port = taken.getsockname()[1]
    with pytest.raises(UsageError) as caught:
        listen(port, exactly=True)
    assert caught.value.message == f"port {port} is in use on this machine"
    beside = listen(port)
    assert beside.getsockname() == ("127.0.0.1", beside.getsockname()[1])
    assert beside.getsockname()[1] != port
    for sock in (taken, beside):
        sock.close()
