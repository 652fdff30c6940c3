"""Which clusters these tests may use, and that they leave one as they found it."""

from __future__ import annotations

import pytest

from contract.grounds import CONSENT, PREFIX, Corner, Ground, classes_kept, corner, objection, written
from contract.manifests import config_map, named, space

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


@pytest.mark.parametrize("server", ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443"])
def test_a_cluster_of_this_machine_is_used_without_further_ado(server: str) -> None:
    assert objection({}, server) == ""


def test_a_cluster_elsewhere_is_used_only_when_it_is_named() -> None:
    server = "https://ABC.gr7.ap-northeast-2.eks.amazonaws.com"
    assert "NOT RUN" in objection({}, server)
    assert f"export {CONSENT}={server}" in objection({}, server)
    # A permission for one cluster is none for the next.
    assert "NOT RUN" in objection({CONSENT: "1"}, server)
    assert "NOT RUN" in objection({CONSENT: "https://another.example.com"}, server)
    assert objection({CONSENT: server}, server) == ""


def test_the_storage_classes_are_put_back_as_they_were_also_after_a_failure(place: Corner) -> None:
    somebody = place.ground.somebody("helm")
    extra = named("storage.k8s.io/v1", "StorageClass", f"{place.name}-extra", provisioner="example.com/none")
    extra["metadata"]["annotations"] = {"example.com/note": "theirs"}
    somebody.create(extra)
    before = {name: place.somebody.read(f"{CLASSES}/{name}") for name in place.somebody.names(CLASSES)}
    with pytest.raises(ZeroDivisionError), classes_kept(place.somebody):
        for name in before:
            place.somebody.delete(f"{CLASSES}/{name}")
        place.somebody.create({**extra, "provisioner": "example.com/other"})
        new = named("storage.k8s.io/v1", "StorageClass", f"{place.name}-new", provisioner="example.com/none")
        place.somebody.create(new)
        raise ZeroDivisionError
    after = {name: place.somebody.read(f"{CLASSES}/{name}") for name in place.somebody.names(CLASSES)}
    assert after.keys() == before.keys()
    for name, old in before.items():
        live = after[name]
        assert old is not None and live is not None
        # Labels, annotations and owners with their times are the old ones; only the uid and its kin are new.
        assert written(live) == written(old)


def test_classes_that_nobody_touched_are_not_written(place: Corner) -> None:
    before = place.somebody.call("GET", CLASSES)["items"]
    with classes_kept(place.somebody):
        pass
    assert place.somebody.call("GET", CLASSES)["items"] == before


def test_a_corner_is_taken_away_also_after_a_failure(ground: Ground, place: Corner) -> None:
    with pytest.raises(ZeroDivisionError), corner(ground) as other:
        assert other.name.startswith(PREFIX) and other.name != place.name
        other.somebody.create(space(other))
        other.somebody.create(config_map(other))
        other.somebody.create(named("scheduling.k8s.io/v1", "PriorityClass", f"{other.name}-high", value=1))
        record = named("v1", "ConfigMap", f"cali-inventory-{other.stage}", "kube-system")
        other.somebody.create(record)
        raise ZeroDivisionError
    assert place.somebody.get("PriorityClass", f"{other.name}-high", group="scheduling.k8s.io/v1") is None
    assert place.somebody.get("ConfigMap", f"cali-inventory-{other.stage}", "kube-system") is None
    left = place.somebody.get("Namespace", other.name)
    assert left is None or left["status"]["phase"] == "Terminating"
