"""The default StorageClass against the API server in memory, with EKS' own `gp2` in the way."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.adapters.kustomize import Kustomize
from cali_infra.core import assets
from cali_infra.core.storage_class import (
    BETA_DEFAULT,
    DEFAULT,
    StorageClassPlan,
    StorageClassWork,
    is_default,
)
from cali_infra.errors import KubernetesError, RunInterruptedError
from cali_infra.plans import Action

if TYPE_CHECKING:
    from conftest import Cluster, Watch

GP2 = ObjectRef("storage.k8s.io/v1", "StorageClass", None, "gp2")
RECORD = "ConfigMap kube-system/cali-inventory-storage"


@pytest.fixture(scope="module")
def ours() -> list[dict[str, Any]]:
    """The class as the project ships it."""
    return Kustomize(environ=os.environ).render(assets.folder("k8s") / "storage-class")


def stage(kubernetes: Kubernetes, objects: list[dict[str, Any]]) -> StorageClassWork:
    return StorageClassWork("storage", kubernetes, lambda: objects)


def apply(work: StorageClassWork, watch: Watch) -> StorageClassPlan:
    plan = work.plan(watch)
    work.apply(plan, watch, threading.Event())
    return plan


def other(name: str, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": "ebs.csi.aws.com",
    }


def defaults(cluster: Cluster) -> list[str]:
    return [
        name for name, obj in cluster.objects("storageclasses", "storage.k8s.io").items() if is_default(obj)
    ]


def test_the_class_is_what_the_platform_needs(ours: list[dict[str, Any]]) -> None:
    (gp2,) = ours
    assert gp2["metadata"]["name"] == "gp2"
    assert gp2["provisioner"] == "ebs.csi.aws.com"
    assert gp2["parameters"] == {"type": "gp2", "encrypted": "true", "csi.storage.k8s.io/fstype": "ext4"}
    assert gp2["volumeBindingMode"] == "WaitForFirstConsumer"
    assert gp2["allowVolumeExpansion"] is True
    assert is_default(gp2)


def test_the_class_of_eks_is_shown_and_replaced(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    work = stage(cluster.connect(), ours)
    plan = work.plan(watch)
    assert [(c.action, c.address) for c in plan.changes] == [
        (Action.REPLACE, "StorageClass gp2"),
        (Action.CREATE, RECORD),
    ]
    assert 'provisioner: "kubernetes.io/aws-ebs" -> "ebs.csi.aws.com"' in plan.changes[0].fields
    assert any("volumes that are bound are not touched" in warning for warning in plan.warnings)
    assert (
        cluster.objects("storageclasses", "storage.k8s.io")["gp2"]["provisioner"] == "kubernetes.io/aws-ebs"
    )
    work.apply(plan, watch, threading.Event())
    assert cluster.objects("storageclasses", "storage.k8s.io")["gp2"]["provisioner"] == "ebs.csi.aws.com"
    assert defaults(cluster) == ["gp2"]
    assert work.exists()
    assert work.plan(watch).empty


def test_a_cluster_without_the_class_gets_it(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    kubernetes = cluster.connect()
    kubernetes.delete(GP2)
    work = stage(kubernetes, ours)
    assert work.plan(watch).only_creates
    apply(work, watch)
    assert defaults(cluster) == ["gp2"]


def test_what_can_be_changed_is_changed_in_place_whoever_set_it(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    kubernetes = cluster.connect()
    kubernetes.delete(GP2)
    theirs = {**ours[0], "metadata": {"name": "gp2", "annotations": {DEFAULT: "false"}}}
    kubernetes.create({**theirs, "allowVolumeExpansion": False})
    uid = cluster.objects("storageclasses", "storage.k8s.io")["gp2"]["metadata"]["uid"]
    plan = apply(stage(kubernetes, ours), watch)
    assert [(c.action, c.address) for c in plan.changes] == [
        (Action.UPDATE, "StorageClass gp2"),
        (Action.CREATE, RECORD),
    ]
    assert "allowVolumeExpansion: false -> true" in plan.changes[0].fields
    assert cluster.objects("storageclasses", "storage.k8s.io")["gp2"]["metadata"]["uid"] == uid
    assert defaults(cluster) == ["gp2"]


def test_every_other_default_is_taken_away(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    kubernetes = cluster.connect()
    kubernetes.create(other("gp3", **{DEFAULT: "true"}))
    kubernetes.create(other("io2", **{BETA_DEFAULT: "true"}))
    kubernetes.create(other("plain"))
    work = stage(kubernetes, ours)
    plan = apply(work, watch)
    assert [c.address for c in plan.changes] == [
        "StorageClass gp2",
        "StorageClass gp3",
        "StorageClass io2",
        RECORD,
    ]
    assert defaults(cluster) == ["gp2"]
    assert work.plan(watch).empty


def test_the_old_class_is_put_back_when_the_new_one_is_refused(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    work = stage(cluster.connect(patience=0.0), ours)
    plan = work.plan(watch)
    cluster.standin.faults.answer(503, 1, method="PATCH", path="/storageclasses/gp2")
    with pytest.raises(KubernetesError):
        work.apply(plan, watch, threading.Event())
    back = cluster.objects("storageclasses", "storage.k8s.io")["gp2"]
    assert back["provisioner"] == "kubernetes.io/aws-ebs"
    assert back["parameters"] == {"type": "gp2", "fsType": "ext4"}
    assert "the new StorageClass gp2 was refused; the old one is back" in watch.lines
    # And the next run gets there.
    apply(work, watch)
    assert defaults(cluster) == ["gp2"]


def test_a_class_that_the_server_would_refuse_is_found_by_the_plan(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    wrong = [{**ours[0], "reclaimPolicy": "Perhaps"}]
    with pytest.raises(KubernetesError, match="reclaimPolicy"):
        stage(cluster.connect(), wrong).plan(watch)
    assert "gp2" in cluster.objects("storageclasses", "storage.k8s.io")
    assert "gp2-cali-check" not in cluster.objects("storageclasses", "storage.k8s.io")


def test_a_class_that_somebody_else_replaced_meanwhile_is_left_alone(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    kubernetes = cluster.connect()
    work = stage(kubernetes, ours)
    plan = work.plan(watch)
    kubernetes.delete(GP2)
    kubernetes.create(other("gp2", theirs="yes"))
    with pytest.raises(KubernetesError):
        work.apply(plan, watch, threading.Event())
    annotations = cluster.objects("storageclasses", "storage.k8s.io")["gp2"]["metadata"]["annotations"]
    assert annotations == {"theirs": "yes"}


def test_an_interrupt_before_the_first_write_touches_nothing(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    work = stage(cluster.connect(), ours)
    plan, cancel = work.plan(watch), threading.Event()
    cancel.set()
    with pytest.raises(RunInterruptedError):
        work.apply(plan, watch, cancel)
    assert not work.exists()


def test_destroy_takes_the_class_that_cali_made(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    work = stage(cluster.connect(), ours)
    apply(work, watch)
    shown = work.contents()
    assert [c.address for c in work.destroy(watch, threading.Event())] == ["StorageClass gp2", RECORD]
    assert [c.address for c in shown] == ["StorageClass gp2", RECORD]
    assert "gp2" not in cluster.objects("storageclasses", "storage.k8s.io")
    assert work.destroy(watch, threading.Event()) == ()


def test_destroy_leaves_a_class_that_was_there_before(
    cluster: Cluster, watch: Watch, ours: list[dict[str, Any]]
) -> None:
    kubernetes = cluster.connect()
    kubernetes.delete(GP2)
    kubernetes.create(ours[0])
    work = stage(kubernetes, ours)
    apply(work, watch)
    assert [c.address for c in work.destroy(watch, threading.Event())] == [RECORD]
    assert "gp2" in cluster.objects("storageclasses", "storage.k8s.io")


def test_the_shipped_folder_is_a_kustomization() -> None:
    assert (Path(assets.folder("k8s")) / "storage-class" / "kustomization.yaml").is_file()
