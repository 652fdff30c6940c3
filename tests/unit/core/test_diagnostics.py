"""What pods and events said while a release was applied, kept where it failed and only there."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.core.diagnostics import PLACES, Place, Witness
from cali_infra.errors import OperationError, RunInterruptedError, UnreachableError
from cali_infra.sandbox.ports import NodeSpec

if TYPE_CHECKING:
    from conftest import Cluster, Watch

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SPACE = Place("grafana")


def pod(name: str, fail: str = "") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "grafana",
            "annotations": {"sandbox.cali.dev/fail": fail} if fail else {},
        },
        "spec": {"containers": [{"name": "grafana", "image": "grafana/grafana:13"}]},
    }


@pytest.fixture
def kubernetes(cluster: Cluster) -> Kubernetes:
    connection = cluster.connect()
    connection.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "grafana"}})
    return connection


Make = Callable[..., Witness]


@pytest.fixture
def witness(kubernetes: Kubernetes, tmp_path: Path) -> Make:
    def make(connect: Callable[[], Kubernetes] = lambda: kubernetes) -> Witness:
        return Witness(
            "services",
            [SPACE],
            connect,
            tmp_path / "diagnostics",
            lambda text: text.replace("Sentinel", "********"),
            lambda: NOW,
            interval=0.01,
        )

    return make


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Looking:
    """A cluster that tells when it was looked at to the end."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes
        self.logged = Event()

    def log(self, *of: Any, **how: Any) -> str:
        text = self._kubernetes.log(*of, **how)
        self.logged.set()
        return text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kubernetes, name)


def fail(witness: Witness, watch: Watch, meanwhile: Callable[[], None] = lambda: None) -> OperationError:
    with pytest.raises(OperationError) as caught, witness.watching(watch):
        meanwhile()
        raise OperationError("release grafana failed, and has been uninstalled", remedy="run it again")
    return caught.value


def test_what_a_pod_said_outlives_the_pod(
    cluster: Cluster, kubernetes: Kubernetes, witness: Make, watch: Watch, tmp_path: Path
) -> None:
    looking: Any = Looking(kubernetes)
    cluster.standin.set_nodes("demo", "nodes", [NodeSpec("ip-10-0-0-1", "ap-northeast-2a", "m6i.xlarge")])
    kubernetes.create(pod("grafana-0", "CrashLoopBackOff"))
    cluster.standin.set_log("demo", "grafana", "grafana-0", "grafana", "cannot open the database Sentinel\n")

    def taken_away() -> None:
        assert looking.logged.wait(10)
        kubernetes.delete(ObjectRef("v1", "Pod", "grafana", "grafana-0"), wait=10)

    error = fail(witness(lambda: looking), watch, taken_away)

    path = tmp_path / "diagnostics" / "services-20260101-120000.txt"
    text = path.read_text()
    assert "release grafana failed" in text
    assert "grafana-0: CrashLoopBackOff" in text
    assert "cannot open the database ********" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert error.remedy == f"run it again\nwhat its pods, events and logs said is kept in {path}"
    assert any("grafana-0: CrashLoopBackOff" in line for line in watch.lines)


def test_events_from_before_are_left_out_and_new_ones_kept(
    cluster: Cluster, kubernetes: Kubernetes, witness: Make, watch: Watch, tmp_path: Path
) -> None:
    def told_of(name: str) -> bool:
        return any(e["involvedObject"]["name"] == name for e in kubernetes.list("v1", "Event", "grafana"))

    # A cluster without nodes.
    kubernetes.create(pod("old-0"))
    until(lambda: told_of("old-0"))
    looked = Event()

    class Counting(Looking):
        def list(self, *of: Any, **how: Any) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self._kubernetes.list(*of, **how)
            if of[1] == "Event":
                looked.set()
            return found

    def later() -> None:
        assert looked.wait(10)
        kubernetes.create(pod("grafana-0"))
        until(lambda: told_of("grafana-0"))

    counting: Any = Counting(kubernetes)
    fail(witness(lambda: counting), watch, later)

    (path,) = (tmp_path / "diagnostics").iterdir()
    events = path.read_text().partition("== events")[2]
    assert "FailedScheduling" in events
    assert "grafana/grafana-0" in events
    assert "old-0" not in events


def test_what_works_leaves_nothing_behind(witness: Make, watch: Watch, tmp_path: Path) -> None:
    with witness().watching(watch):
        pass
    with pytest.raises(RunInterruptedError), witness().watching(watch):
        raise RunInterruptedError("interrupted")
    assert not (tmp_path / "diagnostics").exists()


def test_a_cluster_that_cannot_be_asked_hides_no_error(witness: Make, watch: Watch, tmp_path: Path) -> None:
    def unreachable() -> Kubernetes:
        raise UnreachableError("the API cannot be reached")

    assert fail(witness(unreachable), watch).message.startswith("release grafana failed")
    (path,) = (tmp_path / "diagnostics").iterdir()
    assert "the API cannot be reached" in path.read_text()


def test_the_autoscaler_s_namespace_is_shared(kubernetes: Kubernetes) -> None:
    (place,) = PLACES["autoscaler"]
    assert place.labels
    assert place.prefix == "cluster-autoscaler"
