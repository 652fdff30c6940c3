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
from cali_infra.core.sweep import release_attached


class Holding:
    """A cluster with one load balancer and one claim."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    def list(self, api: str, kind: str) -> list[dict[str, Any]]:
        meta = {"namespace": "shop", "name": kind.lower()}
        return [{"metadata": meta, "spec": {"type": "LoadBalancer"}}]

    def delete(self, ref: ObjectRef, *, wait: float) -> bool:
        self.deleted.append(ref.kind)
        return True


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
    eks = SimpleNamespace(outputs=lambda: {"cluster_endpoint": "https://e", "cluster_ca": "Y2E="})
    platform = SimpleNamespace(
        target=SimpleNamespace(rehearsal=rehearsal, kubeconfig=kubeconfig),
        stack=lambda name: eks,
        kubernetes=lambda: cluster,
    )

    release_attached(cast(Platform, platform), Silent(), Event())

    assert cluster.deleted == deleted
