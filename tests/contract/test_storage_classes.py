"""The default StorageClass where EKS' own `gp2` is in the way, and where others are default too.

The cluster's classes are borrowed: every case here puts them back as they were, and no other file touches them.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cali_infra.adapters.kubernetes import Kubernetes
from cali_infra.adapters.kustomize import Kustomize
from cali_infra.core import assets
from cali_infra.core.storage_class import (
    BETA_DEFAULT,
    DEFAULT,
    StorageClassPlan,
    StorageClassWork,
    is_default,
)
from cali_infra.errors import ConflictError, InvalidObjectError, KubernetesError
from cali_infra.verify.checks import Status
from cali_infra.verify.kubernetes import default_class
from contract.checking import ask
from contract.conftest import Watch
from contract.grounds import Corner, Somebody, classes_kept, written
from contract.manifests import fields, named, said, space
from contract.middleman import Cut, Middleman

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on this machine")

Object = dict[str, Any]
API = "storage.k8s.io/v1"
PATH = f"/apis/{API}/storageclasses"


@pytest.fixture(scope="module")
def ours() -> Object:
    """The class as the project ships it."""
    (found,) = Kustomize(environ=os.environ).render(assets.folder("k8s") / "storage-class")
    return found


@pytest.fixture
def eks(place: Corner) -> Iterator[Object]:
    """`gp2` as a new EKS cluster holds it, and no other class; the cluster's own ones are put back afterwards."""
    with classes_kept(place.somebody):
        yield _as_eks(place)


def _as_eks(place: Corner) -> Object:
    somebody = place.ground.somebody("kubectl-client-side-apply")
    for name in somebody.names(PATH):
        somebody.delete(f"{PATH}/{name}")
    made = named(
        API,
        "StorageClass",
        "gp2",
        provisioner="kubernetes.io/aws-ebs",
        parameters={"type": "gp2", "fsType": "ext4"},
        reclaimPolicy="Delete",
        volumeBindingMode="WaitForFirstConsumer",
    )
    made["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}\n"}
    return somebody.create(made)


def another(place: Corner, name: str, **annotations: str) -> Object:
    obj = named(API, "StorageClass", f"{place.name}-{name}", provisioner="ebs.csi.aws.com")
    obj["metadata"]["annotations"] = annotations
    return place.ground.somebody("helm").create(obj)


def stage(place: Corner, wanted: Object, door: Kubernetes | None = None) -> StorageClassWork:
    return StorageClassWork(place.stage, door or place.connect(), lambda: [wanted])


def apply(work: StorageClassWork, watch: Watch) -> StorageClassPlan:
    plan = work.plan(watch)
    work.apply(plan, watch, threading.Event())
    return plan


def gp2(somebody: Somebody) -> Object | None:
    return somebody.get("StorageClass", "gp2", group=API)


def defaults(somebody: Somebody) -> list[str]:
    items = somebody.call("GET", PATH)["items"]
    return [item["metadata"]["name"] for item in items if is_default(item)]


def test_the_immutable_class_of_eks_is_shown_deleted_and_made_anew(
    place: Corner, watch: Watch, ours: Object, eks: Object
) -> None:
    # This is why: the server refuses to change it.
    with pytest.raises(InvalidObjectError) as caught:
        place.connect().apply(ours, force=True)
    assert caught.value.status == 422
    assert {"provisioner", "parameters"} <= set(caught.value.fields)
    work = stage(place, ours)
    plan = work.plan(watch)
    assert said(plan) == ["replace StorageClass gp2", f"create {place.record}"]
    assert fields(plan, "StorageClass gp2") == (
        'parameters[csi.storage.k8s.io/fstype]: (none) -> "ext4"',
        'parameters.encrypted: (none) -> "true"',
        'parameters.fsType: "ext4" -> (none)',
        'provisioner: "kubernetes.io/aws-ebs" -> "ebs.csi.aws.com"',
    )
    assert plan.warnings == (
        "StorageClass gp2 is deleted and made anew; volumes that are bound are not touched",
    )
    assert gp2(place.somebody) == eks
    assert place.recorded() is None
    work.apply(plan, watch, threading.Event())
    live = gp2(place.somebody)
    assert live is not None and live["metadata"]["uid"] != eks["metadata"]["uid"]
    assert live["provisioner"] == "ebs.csi.aws.com"
    assert live["parameters"] == {"type": "gp2", "encrypted": "true", "csi.storage.k8s.io/fstype": "ext4"}
    assert (live["volumeBindingMode"], live["allowVolumeExpansion"]) == ("WaitForFirstConsumer", True)
    assert defaults(place.somebody) == ["gp2"]
    assert place.recorded() == (True, {"StorageClass/gp2": True})
    assert work.plan(watch).empty


def test_a_volume_that_is_bound_is_not_touched(
    place: Corner, watch: Watch, ours: Object, eks: Object
) -> None:
    place.somebody.create(space(place))
    reference = {"namespace": place.name, "name": "data"}
    size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
    volume = named(
        "v1",
        "PersistentVolume",
        place.name,
        spec={
            "capacity": size,
            "accessModes": modes,
            "claimRef": reference,
            "storageClassName": "gp2",
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-0123456789abcdef0"},
        },
    )
    claim = named(
        "v1",
        "PersistentVolumeClaim",
        "data",
        place.name,
        spec={
            "accessModes": modes,
            "resources": {"requests": size},
            "storageClassName": "gp2",
            "volumeName": place.name,
        },
    )
    place.somebody.create(volume)
    place.somebody.create(claim)
    until = time.monotonic() + 60
    while _phase(place.live("PersistentVolumeClaim", "data")) != "Bound":
        assert time.monotonic() < until, "the claim was not bound"
        time.sleep(0.05)
    bound = place.live("PersistentVolumeClaim", "data"), place.somebody.get("PersistentVolume", place.name)
    apply(stage(place, ours), watch)
    after = place.live("PersistentVolumeClaim", "data"), place.somebody.get("PersistentVolume", place.name)
    assert after == bound


def _phase(obj: Object | None) -> str:
    return str((obj or {}).get("status", {}).get("phase", ""))


def test_of_two_and_more_defaults_one_is_left(place: Corner, watch: Watch, ours: Object, eks: Object) -> None:
    another(place, "ga", **{DEFAULT: "true", "example.com/note": "theirs"})
    another(place, "beta", **{BETA_DEFAULT: "true"})
    another(place, "both", **{DEFAULT: "true", BETA_DEFAULT: "true"})
    before = another(place, "plain")
    work = stage(place, ours)
    plan = work.plan(watch)
    assert said(plan) == [
        "replace StorageClass gp2",
        f"update StorageClass {place.name}-beta",
        f"update StorageClass {place.name}-both",
        f"update StorageClass {place.name}-ga",
        f"create {place.record}",
    ]
    assert fields(plan, f"StorageClass {place.name}-ga") == ("default class: true -> false, gp2 is it",)
    assert len(defaults(place.somebody)) == 3
    work.apply(plan, watch, threading.Event())
    assert defaults(place.somebody) == ["gp2"]
    demoted = place.somebody.get("StorageClass", f"{place.name}-ga", group=API)
    assert demoted is not None
    assert demoted["metadata"]["annotations"] == {DEFAULT: "false", "example.com/note": "theirs"}
    assert place.somebody.get("StorageClass", f"{place.name}-plain", group=API) == before
    assert work.plan(watch).empty
    # A claim without a class gets ours.
    place.somebody.create(space(place))
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = place.somebody.create(named("v1", "PersistentVolumeClaim", "data", place.name, spec=spec))
    assert claim["spec"]["storageClassName"] == "gp2"


def test_a_default_that_somebody_sets_later_is_a_drift_that_the_next_plan_shows(
    place: Corner, watch: Watch, ours: Object, eks: Object
) -> None:
    work = stage(place, ours)
    apply(work, watch)
    later = another(place, "later", **{DEFAULT: "true"})
    place.somebody.edit(ours, {"metadata": {"annotations": {DEFAULT: "false"}}})
    plan = work.plan(watch)
    assert said(plan) == ["update StorageClass gp2", f"update StorageClass {later['metadata']['name']}"]
    work.apply(plan, watch, threading.Event())
    assert defaults(place.somebody) == ["gp2"]
    assert work.plan(watch).empty


def test_a_class_that_fits_is_changed_in_place_whoever_made_it(
    place: Corner, watch: Watch, ours: Object, eks: Object
) -> None:
    place.somebody.delete(f"{PATH}/gp2")
    theirs = {**ours, "metadata": {"name": "gp2", "annotations": {DEFAULT: "false"}}}
    made = place.ground.somebody("helm").create({**theirs, "allowVolumeExpansion": False})
    work = stage(place, ours)
    plan = apply(work, watch)
    assert said(plan) == ["update StorageClass gp2", f"create {place.record}"]
    assert "allowVolumeExpansion: false -> true" in fields(plan, "StorageClass gp2")
    live = gp2(place.somebody)
    assert live is not None and live["metadata"]["uid"] == made["metadata"]["uid"]
    assert defaults(place.somebody) == ["gp2"]
    # It is not ours to delete.
    assert place.recorded() == (True, {"StorageClass/gp2": False})
    assert [change.address for change in work.destroy(watch, threading.Event())] == [place.record]
    assert gp2(place.somebody) is not None


def test_destroy_takes_the_class_that_cali_made(
    place: Corner, watch: Watch, ours: Object, eks: Object
) -> None:
    work = stage(place, ours)
    apply(work, watch)
    gone = [change.address for change in work.destroy(watch, threading.Event())]
    assert gone == ["StorageClass gp2", place.record]
    assert gp2(place.somebody) is None
    assert place.recorded() is None


def test_a_class_that_the_server_would_refuse_is_found_before_the_old_one_is_deleted(
    place: Corner, watch: Watch, ours: Object, eks: Object
) -> None:
    with pytest.raises(InvalidObjectError, match="reclaimPolicy") as caught:
        stage(place, {**ours, "reclaimPolicy": "Perhaps"}).plan(watch)
    assert caught.value.fields == ("reclaimPolicy",)
    assert gp2(place.somebody) == eks
    assert place.somebody.names(PATH) == ["gp2"]


def test_the_old_class_is_put_back_when_the_new_one_is_refused(
    place: Corner, watch: Watch, ours: Object, eks: Object, middleman: Middleman
) -> None:
    work = stage(place, ours, place.connect(through=middleman.access, patience=0.0))
    plan = work.plan(watch)
    middleman.answer(503, method="PATCH", path="/storageclasses/gp2", times=1, retry_after=None)
    with pytest.raises(KubernetesError) as caught:
        work.apply(plan, watch, threading.Event())
    assert caught.value.status == 503
    assert "the new StorageClass gp2 was refused; the old one is back" in watch.lines
    back = gp2(place.somebody)
    assert back is not None
    for key in ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"):
        assert back[key] == eks[key]
    assert back["metadata"]["annotations"] == eks["metadata"]["annotations"]
    assert place.recorded() == (False, {"StorageClass/gp2": True})
    # And the next run gets there.
    plan = apply(work, watch)
    assert "replace StorageClass gp2" in said(plan)
    assert defaults(place.somebody) == ["gp2"]


@pytest.mark.parametrize("where", [Cut.IN_ANSWER, Cut.BEFORE_ANSWER])
def test_it_is_put_back_also_when_the_connection_is_cut_while_that_is_done(
    place: Corner, watch: Watch, ours: Object, eks: Object, middleman: Middleman, where: Cut
) -> None:
    work = stage(place, ours, place.connect(through=middleman.access, patience=2.0))
    plan = work.plan(watch)
    middleman.answer(429, method="PATCH", path="/storageclasses/gp2", times=1000, retry_after=5)
    middleman.cut(where, method="POST", path="/storageclasses", times=1)
    with pytest.raises(KubernetesError) as caught:
        work.apply(plan, watch, threading.Event())
    assert caught.value.status == 429
    assert "could not be put back" not in caught.value.message
    assert "the new StorageClass gp2 was refused; the old one is back" in watch.lines
    back = gp2(place.somebody)
    assert back is not None and back["provisioner"] == eks["provisioner"]


@pytest.mark.parametrize("where", [Cut.IN_ANSWER, Cut.BEFORE_ANSWER])
@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_a_cut_in_the_middle_of_the_replacement_is_no_failure(
    place: Corner, watch: Watch, ours: Object, eks: Object, middleman: Middleman, where: Cut, method: str
) -> None:
    another(place, "ga", **{DEFAULT: "true"})
    work = stage(place, ours, place.connect(through=middleman.access))
    plan = work.plan(watch)
    middleman.cut(where, method=method, path="/storageclasses/", each=1)
    work.apply(plan, watch, threading.Event())
    assert [r for r in middleman.requests(method, "/storageclasses/gp2") if r.outcome is where]
    live = gp2(place.somebody)
    assert live is not None and live["provisioner"] == "ebs.csi.aws.com"
    assert defaults(place.somebody) == ["gp2"]
    assert work.plan(watch).empty


def test_a_class_that_somebody_replaced_since_the_plan_is_left_alone(
    place: Corner, watch: Watch, ours: Object, eks: Object
) -> None:
    work = stage(place, ours)
    plan = work.plan(watch)
    place.somebody.delete(f"{PATH}/gp2")
    theirs = place.somebody.create(named(API, "StorageClass", "gp2", provisioner="example.com/theirs"))
    with pytest.raises(ConflictError) as caught:
        work.apply(plan, watch, threading.Event())
    assert caught.value.object_ref == "StorageClass gp2"
    assert gp2(place.somebody) == theirs


# -- the tests' own manners ---------------------------------------------------------------------------------
# Here and not beside the rest of them: a file's cases run one after the other, and there is one set of classes.


def test_the_storage_classes_are_put_back_as_they_were_also_after_a_failure(place: Corner) -> None:
    somebody = place.ground.somebody("helm")
    extra = named(API, "StorageClass", f"{place.name}-extra", provisioner="example.com/none")
    extra["metadata"]["annotations"] = {"example.com/note": "theirs"}
    somebody.create(extra)
    before = {name: place.somebody.read(f"{PATH}/{name}") for name in place.somebody.names(PATH)}
    with pytest.raises(ZeroDivisionError), classes_kept(place.somebody):
        for name in before:
            place.somebody.delete(f"{PATH}/{name}")
        place.somebody.create({**extra, "provisioner": "example.com/other"})
        new = named(API, "StorageClass", f"{place.name}-new", provisioner="example.com/none")
        place.somebody.create(new)
        raise ZeroDivisionError
    after = {name: place.somebody.read(f"{PATH}/{name}") for name in place.somebody.names(PATH)}
    assert after.keys() == before.keys()
    for name, old in before.items():
        live = after[name]
        assert old is not None and live is not None
        # Labels, annotations and owners with their times are the old ones; only the uid and its kin are new.
        assert written(live) == written(old)


def test_classes_that_nobody_touched_are_not_written(place: Corner) -> None:
    before = place.somebody.call("GET", PATH)["items"]
    with classes_kept(place.somebody):
        pass
    assert place.somebody.call("GET", PATH)["items"] == before


def test_verify_sees_whose_class_is_the_default(
    place: Corner, eks: Object, ours: Object, watch: Watch
) -> None:
    door = place.connect()
    assert ask(default_class, door).detail == "no StorageClass is the default (gp2)"
    work = stage(place, ours, door)
    work.apply(work.plan(watch), watch, threading.Event())
    assert ask(default_class, door).status is Status.PASS
    other = another(place, "other", **{DEFAULT: "true"})
    result = ask(default_class, door)
    assert result.detail == f"more than one default: {other['metadata']['name']}, gp2"
    assert result.remedy == "" and default_class.remedy == "cali up storage"
