"""What is released before `down`: never in a cluster that a rehearsal only borrows."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core.platform import Platform
from cali_infra.core.progress import Silent
from cali_infra.core.sweep import attached, release
from cali_infra.errors import RunInterruptedError


class Holding:
    """A cluster with one load balancer and one claim."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.stuck: set[str] = set()

    def list(self, api: str, kind: str) -> list[dict[str, Any]]:
        meta = {"namespace": "shop", "name": kind.lower()}
        return [{"metadata": meta, "spec": {"type": "LoadBalancer"}}]

    def delete(self, ref: ObjectRef) -> bool:
        self.deleted.append(ref.kind)
        return True

    def get(self, ref: ObjectRef) -> dict[str, Any] | None:
        return {"metadata": {}} if ref.kind in self.stuck else None


@pytest.mark.parametrize(
    ("rehearsal", "kubeconfig", "deleted"),
    [
        (True, Path("kubeconfig"), []),
        (True, None, ["Service", "PersistentVolumeClaim"]),
        (False, Path("kubeconfig"), ["Service", "PersistentVolumeClaim"]),
    ],
)
def test_a_borrowed_cluster_keeps_what_hangs_on_it(
    rehearsal: bool, kubeconfig: Path | None, deleted: list[str]
) -> None:
    cluster = Holding()

    world = platform(cluster, rehearsal, kubeconfig)
    release(world, attached(world, Silent()), Silent(), Event())

    assert cluster.deleted == deleted


def test_what_does_not_go_is_named_and_stops_nothing() -> None:
    cluster, warnings = Holding(), list[str]()
    cluster.stuck.add("Service")

    class Words(Silent):
        def warn(self, text: str, *, stage: str = "") -> None:
            warnings.append(text)

    world = platform(cluster, False, None)
    release(world, attached(world, Silent()), Words(), Event(), patience=0)

    assert cluster.deleted == ["Service", "PersistentVolumeClaim"]
    (warning,) = warnings
    assert "shop/service" in warning
    assert "persistentvolumeclaim" not in warning


def test_waiting_ends_with_an_interrupt() -> None:
    cluster, cancel = Holding(), Event()
    cluster.stuck.add("Service")

    class Interrupting(Silent):
        def note(self, text: str, *, stage: str = "") -> None:
            if "PersistentVolumeClaim" in text:
                cancel.set()

    world = platform(cluster, False, None)
    refs = attached(world, Silent())
    assert [str(ref) for ref in refs] == [
        "Service shop/service",
        "PersistentVolumeClaim shop/persistentvolumeclaim",
    ]
    with pytest.raises(RunInterruptedError):
        release(world, refs, Interrupting(), cancel)


def platform(cluster: Holding, rehearsal: bool, kubeconfig: Path | None) -> Platform:
    eks = SimpleNamespace(outputs=lambda: {"cluster_endpoint": "https://e", "cluster_ca": "Y2E="})
    made = SimpleNamespace(
        target=SimpleNamespace(rehearsal=rehearsal, kubeconfig=kubeconfig),
        stack=lambda name: eks,
        kubernetes=lambda: cluster,
    )
    return cast(Platform, made)
