"""What an API server refuses: said with object, field and remedy, and nothing is half done."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.errors import ForbiddenError, InvalidObjectError, KubernetesError, UnauthorizedError
from contract.conftest import Watch
from contract.grounds import Corner
from contract.manifests import apply, config_map, deployment, named, space, work

Object = dict[str, Any]


@pytest.fixture
def made(place: Corner) -> Corner:
    """A corner whose namespace is there."""
    place.somebody.create(space(place))
    return place


def refused(place: Corner, watch: Watch, wrong: Object) -> InvalidObjectError:
    """How a stage with a wrong object beside a right one is refused; neither is written."""
    stage = work(place, config_map(place, "right"), wrong)
    with pytest.raises(InvalidObjectError) as caught:
        stage.plan(watch)
    assert place.data("right") is None
    assert place.recorded() is None
    assert caught.value.object_ref == f"{wrong['kind']} {place.name}/{wrong['metadata']['name']}"
    assert caught.value.object_ref in caught.value.message
    return caught.value


# -- bad manifests ------------------------------------------------------------------------------------------


def test_a_field_that_the_kind_does_not_have(made: Corner, watch: Watch) -> None:
    error = refused(made, watch, {**config_map(made, "wrong"), "datta": {}})
    assert error.fields == (".datta",)
    assert "field not declared in schema" in error.message
    assert error.remedy == "correct .datta in the manifest"


def test_a_field_that_a_part_deep_inside_does_not_have(made: Corner, watch: Watch) -> None:
    wrong = deployment(made)
    wrong["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    error = refused(made, watch, wrong)
    assert error.fields == ('.spec.template.spec.containers[name="agent"].imagee',)


def test_a_value_of_the_wrong_type(made: Corner, watch: Watch) -> None:
    error = refused(made, watch, {**config_map(made, "wrong"), "data": {"count": 5}})
    assert error.fields == (".data.count",)
    assert "expected string" in error.message
    assert error.remedy == "correct .data.count in the manifest"


def test_several_values_of_the_wrong_type_are_told_at_once(made: Corner, watch: Watch) -> None:
    error = refused(made, watch, {**config_map(made, "wrong"), "data": {"count": 5, "size": 6}})
    assert set(error.fields) == {".data.count", ".data.size"}


def test_of_the_fields_that_one_object_does_not_have_one_is_told(made: Corner, watch: Watch) -> None:
    """Which one is chance on a real server, and so is whether it came to the others before."""
    wrong = {**config_map(made, "wrong"), "datta": {}, "daata": {}, "data": {"count": 5}}
    error = refused(made, watch, wrong)
    assert len(set(error.fields) & {".datta", ".daata"}) == 1
    assert set(error.fields) <= {".datta", ".daata", ".data.count"}


def test_a_number_without_its_quotes_that_is_no_number_for_the_server(made: Corner, watch: Watch) -> None:
    wrong = deployment(made)
    wrong["spec"]["replicas"] = "none"
    error = refused(made, watch, wrong)
    assert error.fields == (".spec.replicas",)


def test_two_items_of_a_list_with_one_key(made: Corner, watch: Watch) -> None:
    port = {"name": "http", "port": 80}
    wrong = named("v1", "Service", "wrong", made.name, spec={"ports": [port, {**port, "name": "web"}]})
    error = refused(made, watch, wrong)
    assert "duplicate entries for key" in error.message
    assert error.fields == (".spec.ports",)


def test_a_quantity_that_is_none(made: Corner, watch: Watch) -> None:
    wrong = deployment(made)
    wrong["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "lots"}}
    error = refused(made, watch, wrong)
    assert "quantities must match" in error.message
    assert error.remedy == "correct the manifest"


def test_a_secret_that_is_not_base64_is_told_without_its_value(made: Corner, watch: Watch) -> None:
    wrong = named("v1", "Secret", "wrong", made.name, data={"password": "sentinel!"})
    error = refused(made, watch, wrong)
    assert "illegal base64 data at input byte 8" in error.message
    assert "sentinel" not in error.message


def test_an_item_of_a_list_without_its_name(made: Corner, watch: Watch) -> None:
    wrong = deployment(made)
    del wrong["spec"]["template"]["spec"]["containers"][0]["name"]
    error = refused(made, watch, wrong)
    assert (error.status, error.fields) == (422, ("spec.template.spec.containers[0].name",))


def test_a_service_whose_ports_share_a_name(made: Corner, watch: Watch) -> None:
    ports = [{"name": "http", "port": 80}, {"name": "http", "port": 81}]
    error = refused(made, watch, named("v1", "Service", "wrong", made.name, spec={"ports": ports}))
    assert (error.status, error.fields) == (422, ("spec.ports[1].name",))


def test_a_value_that_is_not_allowed(made: Corner, watch: Watch) -> None:
    error = refused(made, watch, {**config_map(made, "wrong"), "data": {"a b": "c"}})
    assert (error.status, error.fields) == (422, ("data[a b]",))
    assert error.remedy == "correct data[a b] in the manifest"


def test_a_name_that_is_not_allowed(made: Corner, watch: Watch) -> None:
    error = refused(made, watch, config_map(made, "Wrong"))
    assert (error.status, error.fields) == (422, ("metadata.name",))
    assert "RFC 1123" in error.message


def test_a_workload_that_does_not_select_its_own_pods(made: Corner, watch: Watch) -> None:
    wrong = deployment(made)
    wrong["spec"]["selector"] = {"matchLabels": {"app": "another"}}
    error = refused(made, watch, wrong)
    assert (error.status, error.fields) == (422, ("spec.template.metadata.labels",))


def test_a_kind_that_the_cluster_does_not_have(made: Corner, watch: Watch) -> None:
    with pytest.raises(InvalidObjectError, match=r"no kind Sprocket in example\.com/v1") as caught:
        work(made, config_map(made), named("example.com/v1", "Sprocket", "one", made.name)).plan(watch)
    assert "install the CustomResourceDefinition first" in caught.value.remedy
    assert made.data() is None


def test_a_field_that_cannot_be_changed(made: Corner, watch: Watch) -> None:
    apply(work(made, deployment(made)), watch)
    with pytest.raises(InvalidObjectError, match="field is immutable") as caught:
        work(made, deployment(made, app="renamed")).plan(watch)
    assert caught.value.status == 422
    assert "spec.selector" in caught.value.fields
    live = made.live("Deployment", "agent", "apps/v1")
    assert live is not None and live["spec"]["selector"] == {"matchLabels": {"app": "agent"}}


def test_every_bad_object_is_named_and_each_only_once_asked(made: Corner, watch: Watch) -> None:
    wrong = [{**config_map(made, f"wrong-{n}"), "datta": {}} for n in range(3)]
    with pytest.raises(KubernetesError, match="3 of 4 objects failed") as caught:
        work(made, config_map(made, "right"), *wrong).plan(watch)
    for n in range(3):
        assert f"ConfigMap {made.name}/wrong-{n}" in caught.value.message
    assert made.data("right") is None


# -- missing namespace --------------------------------------------------------------------------------------


def test_a_namespace_that_is_missing(place: Corner, watch: Watch) -> None:
    with pytest.raises(KubernetesError) as caught:
        work(place, config_map(place)).plan(watch)
    assert caught.value.status == 404
    assert f'namespaces "{place.name}" not found' in caught.value.message
    assert caught.value.object_ref == f"ConfigMap {place.name}/settings"
    assert caught.value.remedy == "create the namespace first, or put it into the kustomization"
    assert place.somebody.get("Namespace", place.name) is None


def test_a_namespace_that_is_on_its_way_out(place: Corner, watch: Watch) -> None:
    leaving = {**space(place), "spec": {"finalizers": ["kubernetes"]}}
    place.somebody.create(leaving)
    held = config_map(place, "held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    place.somebody.create(held)
    place.somebody.delete(f"/api/v1/namespaces/{place.name}")
    try:
        with pytest.raises(ForbiddenError, match="is being terminated") as caught:
            work(place, config_map(place)).plan(watch)
        assert "wait until the namespace is gone" in caught.value.remedy
    finally:
        place.somebody.edit(held, {"metadata": {"finalizers": None}})
    assert place.data() is None


# -- forbidden ----------------------------------------------------------------------------------------------


def test_who_may_nothing_is_told_what_he_may_not(made: Corner, watch: Watch) -> None:
    with pytest.raises(ForbiddenError) as caught:
        work(made, config_map(made), door=made.connect(made.ground.outsider)).plan(watch)
    assert caught.value.status == 403
    assert "outsider" in caught.value.message
    assert 'resource "configmaps"' in caught.value.message and made.name in caught.value.message
    assert "access entry with a higher level" in caught.value.remedy
    assert made.data() is None


def test_who_may_only_look_cannot_write(made: Corner, watch: Watch) -> None:
    door = made.connect(made.ground.viewer)
    assert door.get(ObjectRef("v1", "ConfigMap", made.name, "settings")) is None
    with pytest.raises(ForbiddenError, match='cannot patch resource "configmaps"') as caught:
        door.apply(config_map(made))
    assert "viewer" in caught.value.message
    assert caught.value.object_ref == f"ConfigMap {made.name}/settings"
    assert made.data() is None


def test_who_lost_his_rights_between_plan_and_apply_writes_nothing(made: Corner, watch: Watch) -> None:
    plan = work(made, config_map(made)).plan(watch)
    with pytest.raises(ForbiddenError):
        work(made, config_map(made), door=made.connect(made.ground.viewer)).apply(
            plan, watch, threading.Event()
        )
    assert made.data() is None
    assert made.recorded() is None


def test_a_bearer_that_the_cluster_does_not_know(made: Corner, watch: Watch) -> None:
    with pytest.raises(UnauthorizedError, match="does not know this caller") as caught:
        work(made, config_map(made), door=made.connect("no-such-bearer")).plan(watch)
    assert caught.value.status == 401
    assert "cali up access" in caught.value.remedy
    assert "no-such-bearer" not in caught.value.message + caught.value.remedy
