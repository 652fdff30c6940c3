"""A stage of manifests: applied, changed, in conflict, pruned, and taken away."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from cali_infra.core.manifests import MANAGED_BY
from cali_infra.errors import ConflictError
from contract.conftest import Watch
from contract.grounds import Corner
from contract.manifests import (
    apply,
    config_map,
    deployment,
    encoded,
    fields,
    fluent_bit_objects,
    named,
    pod,
    said,
    secret,
    space,
    work,
)

Object = dict[str, Any]


def owners(obj: Object | None) -> set[tuple[str, str]]:
    assert obj is not None
    return {(entry["manager"], entry["operation"]) for entry in obj["metadata"]["managedFields"]}


# -- apply --------------------------------------------------------------------------------------------------


def many_kinds(place: Corner) -> list[Object]:
    """Of every place in the order, the last first, with values that a server writes its own way."""
    rbac = "rbac.authorization.k8s.io"
    labels = {"app": "agent"}
    # Where there are nodes, none of them is meant.
    daemon = {**pod(), "serviceAccountName": "agent", "nodeSelector": {"example.com/none": "yes"}}
    daemons: Object = {"selector": {"matchLabels": labels}}
    daemons["template"] = {"metadata": {"labels": labels}, "spec": daemon}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
    role = {"apiGroup": rbac, "kind": "Role", "name": "agent"}
    account = {"kind": "ServiceAccount", "name": "agent", "namespace": place.name}
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    return [
        deployment(place, app="other"),
        named("apps/v1", "DaemonSet", "agent", place.name, spec=daemons),
        named("policy/v1", "PodDisruptionBudget", "agent", place.name, spec=budget),
        named(f"{rbac}/v1", "RoleBinding", "agent", place.name, roleRef=role, subjects=[account]),
        config_map(place, colour="파랑", empty="", text="two\nlines\n"),
        secret(place, "sentinel"),
        named("v1", "PersistentVolumeClaim", "agent", place.name, spec={**claim, "storageClassName": "none"}),
        named("v1", "Service", "agent", place.name, spec={"selector": labels, "ports": ports}),
        named(f"{rbac}/v1", "ClusterRole", place.name, rules=[rule]),
        named(f"{rbac}/v1", "Role", "agent", place.name, rules=[rule]),
        named("scheduling.k8s.io/v1", "PriorityClass", place.name, value=1000),
        named("v1", "ServiceAccount", "agent", place.name),
        space(place),
    ]


def test_a_first_plan_names_everything_and_writes_nothing(place: Corner, watch: Watch) -> None:
    stage = work(place, *many_kinds(place))
    plan = stage.plan(watch)
    assert said(plan) == [
        f"create Namespace {place.name}",
        f"create ClusterRole {place.name}",
        f"create Role {place.name}/agent",
        f"create PriorityClass {place.name}",
        f"create ServiceAccount {place.name}/agent",
        f"create RoleBinding {place.name}/agent",
        f"create ConfigMap {place.name}/settings",
        f"create Secret {place.name}/login",
        f"create PersistentVolumeClaim {place.name}/agent",
        f"create Service {place.name}/agent",
        f"create PodDisruptionBudget {place.name}/agent",
        f"create Deployment {place.name}/agent",
        f"create DaemonSet {place.name}/agent",
        f"create {place.record}",
    ]
    assert plan.only_creates
    assert (plan.add, plan.change, plan.destroy) == (14, 0, 0)
    assert place.somebody.get("Namespace", place.name) is None
    assert place.recorded() is None
    assert not stage.exists()


def test_what_is_applied_stands_there_as_calis_own_and_is_unchanged_the_next_time(
    place: Corner, watch: Watch
) -> None:
    stage = work(place, *many_kinds(place))
    apply(stage, watch)
    live = place.live("ConfigMap", "settings")
    assert live is not None and live["data"] == {"colour": "파랑", "empty": "", "text": "two\nlines\n"}
    assert live["metadata"]["labels"] == {MANAGED_BY: "cali"}
    assert owners(live) == {("cali", "Apply")}
    found = place.live("Secret", "login")
    assert found is not None and found["data"] == {"password": encoded("sentinel")}
    running = place.live("Deployment", "agent", "apps/v1")
    assert running is not None and ("cali", "Apply") in owners(running)
    # What a server fills in or writes its own way (0.1 is 100m) is nobody's change.
    plan = stage.plan(watch)
    assert (said(plan), plan.warnings) == ([], ())
    assert stage.exists()
    recorded = place.recorded()
    assert recorded is not None
    assert recorded[0] and set(recorded[1].values()) == {True} and len(recorded[1]) == 13
    # In the order in which one stands on the other, and the workload is waited for.
    started = [line.split()[2] for line in watch.lines if line.startswith("started")]
    assert started[0] == "Namespace"
    assert started.index("ServiceAccount") < started.index("Secret") < started.index("PodDisruptionBudget")
    assert set(started[-2:]) == {"DaemonSet", "Deployment"}
    assert f"Deployment {place.name}/agent: 0 of 0 ready" in watch.lines


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on this machine")
def test_fluent_bit_as_it_is_shipped_is_taken_and_unchanged_the_next_time(
    place: Corner, watch: Watch, tmp_path: Path
) -> None:
    shipped = fluent_bit_objects(place, tmp_path / "rendered")
    stage = work(place, *shipped)
    plan = stage.plan(watch)
    assert {change.action.value for change in plan.changes} == {"create"}
    # Without its DaemonSet: a rollout on whatever nodes there are is no business of this case.
    quiet = work(place, *[obj for obj in shipped if obj["kind"] != "DaemonSet"])
    apply(quiet, watch)
    assert quiet.plan(watch).empty
    # Now that its namespace is there, the server looks at the DaemonSet too.
    assert f"create DaemonSet {place.name}/fluent-bit" in said(stage.plan(watch))
    assert "Sentinel-1" not in "\n".join(watch.lines)


# -- change -------------------------------------------------------------------------------------------------


def test_a_change_is_shown_field_by_field_and_only_that_is_written(place: Corner, watch: Watch) -> None:
    apply(work(place, space(place), config_map(place, colour="blue", size="big"), secret(place, "a")), watch)
    before = place.live("Secret", "login")
    stage = work(place, space(place), config_map(place, colour="red", shape="round"), secret(place, "a"))
    plan = stage.plan(watch)
    assert said(plan) == [f"update ConfigMap {place.name}/settings"]
    assert fields(plan, f"ConfigMap {place.name}/settings") == (
        'data.colour: "blue" -> "red"',
        'data.shape: (none) -> "round"',
        'data.size: "big" -> (none)',
    )
    assert place.data() == {"colour": "blue", "size": "big"}
    stage.apply(plan, watch, threading.Event())
    assert place.data() == {"colour": "red", "shape": "round"}
    assert place.live("Secret", "login") == before
    assert stage.plan(watch).empty


def test_a_change_deep_in_a_list_is_shown_by_its_place(place: Corner, watch: Watch) -> None:
    apply(work(place, space(place), deployment(place)), watch)
    plan = apply(work(place, space(place), deployment(place, "example.com/agent:2")), watch)
    assert fields(plan, f"Deployment {place.name}/agent") == (
        'spec.template.spec.containers[0].image: "example.com/agent:1" -> "example.com/agent:2"',
    )
    live = place.live("Deployment", "agent", "apps/v1")
    assert live is not None
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/agent:2"
    assert live["metadata"]["generation"] == 2


def test_what_is_taken_out_of_a_manifest_goes_with_all_that_the_server_put_in_beside_it(
    place: Corner, watch: Watch
) -> None:
    rich = deployment(place)
    rich["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 3}}
    template = rich["spec"]["template"]["spec"]
    template["volumes"] = [{"name": "v", "configMap": {"name": "settings"}}]
    template["containers"][0]["livenessProbe"] = {"httpGet": {"port": "http"}, "periodSeconds": 7}
    template["containers"].append({"name": "second", "image": "example.com/second:1"})
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    service = named("v1", "Service", "agent", place.name, spec={"ports": ports})
    apply(work(place, space(place), rich, service), watch)
    poor = deployment(place)
    poor["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    stage = work(place, space(place), poor, {**service, "spec": {"ports": ports[1:]}})
    apply(stage, watch)
    spec = _live(place, poor)["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert spec["template"]["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["name"] == "agent" and "livenessProbe" not in container
    assert [port["port"] for port in _live(place, service)["spec"]["ports"]] == [81]
    assert stage.plan(watch).empty


def test_a_secret_that_changes_is_named_and_not_shown(place: Corner, watch: Watch) -> None:
    apply(work(place, space(place), secret(place, "old-sentinel")), watch)
    plan = apply(work(place, space(place), secret(place, "new-sentinel")), watch)
    assert fields(plan, f"Secret {place.name}/login") == ("data.password: changed",)
    shown = repr(plan) + "\n".join(watch.lines)
    for password in ("old-sentinel", "new-sentinel"):
        assert password not in shown and encoded(password) not in shown
    live = place.live("Secret", "login")
    assert live is not None and live["data"] == {"password": encoded("new-sentinel")}


def test_what_others_added_beside_it_stays(place: Corner, watch: Watch) -> None:
    stage = work(place, space(place), config_map(place))
    apply(stage, watch)
    theirs = {"metadata": {"annotations": {"example.com/note": "theirs"}}, "data": {"extra": "theirs"}}
    place.somebody.edit(config_map(place), theirs)
    assert stage.plan(watch).empty
    apply(work(place, space(place), config_map(place, colour="red")), watch)
    assert place.data() == {"colour": "red", "extra": "theirs"}
    live = place.live("ConfigMap", "settings")
    assert live is not None and live["metadata"]["annotations"] == {"example.com/note": "theirs"}


def test_what_somebody_deleted_is_made_again(place: Corner, watch: Watch) -> None:
    stage = work(place, space(place), config_map(place))
    apply(stage, watch)
    place.somebody.delete(f"/api/v1/namespaces/{place.name}/configmaps/settings")
    assert said(apply(stage, watch)) == [f"create ConfigMap {place.name}/settings"]
    assert place.data() == {"colour": "blue"}


# -- conflict -----------------------------------------------------------------------------------------------


def test_a_field_that_cali_never_owned_is_a_conflict_with_field_and_owner(
    place: Corner, watch: Watch
) -> None:
    place.somebody.create(space(place))
    place.ground.somebody("helm").apply(config_map(place, colour="red", size="big"))
    stage = work(place, config_map(place, colour="blue"))
    with pytest.raises(ConflictError, match=r"other field managers own \.data\.colour \(helm\)") as caught:
        stage.plan(watch)
    assert caught.value.owners == {".data.colour": "helm"}
    assert caught.value.object_ref == f"ConfigMap {place.name}/settings"
    assert caught.value.status == 409
    assert "take these fields out of the other tool" in caught.value.remedy
    assert "--force-conflicts" in caught.value.remedy
    assert place.data() == {"colour": "red", "size": "big"}
    assert place.recorded() is None


def test_every_owner_and_every_field_is_named(place: Corner, watch: Watch) -> None:
    place.somebody.create(space(place))
    place.ground.somebody("helm").apply(config_map(place, colour="red"))
    place.ground.somebody("kubectl-edit").edit(config_map(place), {"data": {"size": "big"}})
    place.ground.somebody("helm").apply(
        named("v1", "Secret", "login", place.name, data={"password": encoded("theirs")})
    )
    with pytest.raises(ConflictError) as caught:
        place.connect().apply(config_map(place, colour="blue", size="small"))
    assert caught.value.owners == {".data.colour": "helm", ".data.size": "kubectl-edit"}
    # Of a Secret the field is named, and no value.
    with pytest.raises(ConflictError) as caught:
        place.connect().apply(secret(place, "ours"))
    assert caught.value.owners == {".data.password": "helm"}
    assert encoded("theirs") not in caught.value.message and encoded("ours") not in caught.value.message


def test_with_force_the_field_is_taken_over_and_the_plan_says_from_whom(place: Corner, watch: Watch) -> None:
    place.somebody.create(space(place))
    place.ground.somebody("helm").apply(config_map(place, colour="red", size="big"))
    stage = work(place, config_map(place, colour="blue"), force=True)
    plan = stage.plan(watch)
    assert plan.warnings == (f"ConfigMap {place.name}/settings: takes over .data.colour from helm",)
    assert 'data.colour: "red" -> "blue"' in fields(plan, f"ConfigMap {place.name}/settings")
    assert place.data() == {"colour": "red", "size": "big"}
    stage.apply(plan, watch, threading.Event())
    assert place.data() == {"colour": "blue", "size": "big"}
    assert owners(place.live("ConfigMap", "settings")) == {("cali", "Apply"), ("helm", "Apply")}
    assert stage.plan(watch).empty
    # It was there before cali: it is cared for and not deleted.
    recorded = place.recorded()
    assert recorded is not None and recorded[1] == {"ConfigMap/settings": False}


def test_an_object_of_which_nobody_kept_a_record_belongs_to_somebody_all_the_same(
    place: Corner, watch: Watch
) -> None:
    place.somebody.create(space(place))
    place.somebody.create(config_map(place, colour="red"))
    place.somebody.edit(config_map(place), {"metadata": {"managedFields": [{}]}})
    with pytest.raises(ConflictError) as caught:
        work(place, config_map(place, colour="blue")).plan(watch)
    assert caught.value.owners == {".data.colour": "before-first-apply"}
    assert place.data() == {"colour": "red"}


def test_an_item_of_a_list_goes_although_somebody_has_a_field_in_it(place: Corner, watch: Watch) -> None:
    two = deployment(place)
    two["spec"]["template"]["spec"]["containers"].append({"name": "second", "image": "example.com/second:1"})
    apply(work(place, space(place), two), watch)
    theirs = [dict(item) for item in two["spec"]["template"]["spec"]["containers"]]
    theirs[1]["image"] = "example.com/second:2"
    place.somebody.edit(two, {"spec": {"template": {"spec": {"containers": theirs}}}})
    stage = work(place, space(place), deployment(place))
    apply(stage, watch)
    containers = _live(place, two)["spec"]["template"]["spec"]["containers"]
    assert [item["name"] for item in containers] == ["agent"]
    assert stage.plan(watch).empty


def test_the_same_value_of_another_manager_is_no_conflict_and_shared(place: Corner, watch: Watch) -> None:
    place.somebody.create(space(place))
    place.ground.somebody("helm").apply(config_map(place, colour="blue"))
    stage = work(place, config_map(place, colour="blue"))
    apply(stage, watch)
    assert owners(place.live("ConfigMap", "settings")) == {("cali", "Apply"), ("helm", "Apply")}
    assert stage.plan(watch).empty


def test_a_field_that_cali_owned_and_somebody_edited_is_shown_as_drift_and_taken_back(
    place: Corner, watch: Watch
) -> None:
    stage = work(place, space(place), config_map(place, colour="blue"))
    apply(stage, watch)
    place.somebody.edit(config_map(place), {"data": {"colour": "red"}})
    plan = stage.plan(watch)
    assert said(plan) == [f"update ConfigMap {place.name}/settings"]
    assert fields(plan, f"ConfigMap {place.name}/settings") == ('data.colour: "red" -> "blue"',)
    assert plan.warnings == (f"ConfigMap {place.name}/settings: takes back .data.colour from kubectl-edit",)
    assert place.data() == {"colour": "red"}
    stage.apply(plan, watch, threading.Event())
    assert place.data() == {"colour": "blue"}
    assert owners(place.live("ConfigMap", "settings")) == {("cali", "Apply")}
    assert stage.plan(watch).empty


def test_a_field_that_somebody_took_out_is_put_back(place: Corner, watch: Watch) -> None:
    stage = work(place, space(place), config_map(place, colour="blue", size="big"))
    apply(stage, watch)
    place.somebody.edit(config_map(place), {"data": {"colour": None}})
    plan = apply(stage, watch)
    assert fields(plan, f"ConfigMap {place.name}/settings") == ('data.colour: (none) -> "blue"',)
    assert plan.warnings == ()
    assert place.data() == {"colour": "blue", "size": "big"}


def edited(place: Corner) -> list[tuple[Object, Object, list[str]]]:
    """Objects, how somebody edits them, and the paths of what he takes, as a server writes them."""
    marked = config_map(place, **{"agent.conf": "a", "plain": "b"})
    marked["metadata"]["annotations"] = {"example.com/note": "ours"}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    other = pod("example.com/agent:9")
    other["containers"][0]["ports"][0]["name"] = "web"
    other["containers"][0]["resources"]["limits"]["memory"] = "1Gi"
    container = '.spec.template.spec.containers[name="agent"]'
    role = named("rbac.authorization.k8s.io/v1", "Role", "agent", place.name, rules=[rule])
    return [
        (
            marked,
            {"data": {"agent.conf": "theirs"}, "metadata": {"annotations": {"example.com/note": "theirs"}}},
            [".data.agent.conf", ".metadata.annotations.example.com/note"],
        ),
        (
            deployment(place),
            {"spec": {"template": {"spec": other}}},
            [
                f"{container}.image",
                f'{container}.ports[containerPort=2020,protocol="TCP"].name',
                f"{container}.resources.limits.memory",
            ],
        ),
        (
            named("v1", "Service", "agent", place.name, spec={"ports": ports}),
            {"spec": {"ports": [{**ports[0], "targetPort": "web"}]}},
            ['.spec.ports[port=80,protocol="TCP"].targetPort'],
        ),
        (role, {"rules": [{**rule, "verbs": ["list"]}]}, [".rules"]),
    ]


def test_a_field_of_whatever_place_in_an_object_is_known_as_calis_own(place: Corner, watch: Watch) -> None:
    edits = edited(place)
    stage = work(place, space(place), *[obj for obj, _, _ in edits])
    apply(stage, watch)
    before = [_live(place, obj) for obj, _, _ in edits]
    for obj, change, _ in edits:
        place.somebody.edit(obj, change)
    plan = stage.plan(watch)
    shown = {line.split(": ")[0]: line.split(": ", 1)[1] for line in plan.warnings}
    assert len(shown) == len(edits)
    for obj, _, paths in edits:
        line = shown[f"{obj['kind']} {place.name}/{obj['metadata']['name']}"]
        assert line.startswith("takes back ")
        assert set(line.removeprefix("takes back ").split(", ")) == {f"{p} from kubectl-edit" for p in paths}
    stage.apply(plan, watch, threading.Event())
    assert [_content(_live(place, obj)) for obj, _, _ in edits] == [_content(obj) for obj in before]
    assert stage.plan(watch).empty


def _live(place: Corner, obj: Object) -> Object:
    group = "" if obj["apiVersion"] == "v1" else obj["apiVersion"]
    found = place.live(obj["kind"], obj["metadata"]["name"], group)
    assert found is not None
    return found


def _content(obj: Object) -> Object:
    """What was asked for, without what controllers and the server count."""
    metadata = {key: obj["metadata"].get(key) for key in ("name", "labels")}
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": metadata}


def test_of_two_fields_only_the_one_that_was_never_calis_is_a_conflict(place: Corner, watch: Watch) -> None:
    apply(work(place, space(place), config_map(place, colour="blue")), watch)
    place.somebody.edit(config_map(place), {"data": {"colour": "red", "size": "big"}})
    stage = work(place, space(place), config_map(place, colour="blue", size="small"))
    with pytest.raises(ConflictError) as caught:
        stage.plan(watch)
    assert caught.value.owners == {".data.size": "kubectl-edit"}
    assert place.data() == {"colour": "red", "size": "big"}
    forced = work(place, space(place), config_map(place, colour="blue", size="small"), force=True)
    plan = apply(forced, watch)
    assert plan.warnings == (
        f"ConfigMap {place.name}/settings: takes back .data.colour from kubectl-edit",
        f"ConfigMap {place.name}/settings: takes over .data.size from kubectl-edit",
    )
    assert place.data() == {"colour": "blue", "size": "small"}
    assert stage.plan(watch).empty


def test_what_somebody_takes_between_plan_and_apply_is_not_taken_unseen(place: Corner, watch: Watch) -> None:
    apply(work(place, space(place), config_map(place, colour="blue", size="big")), watch)
    stage = work(place, space(place), config_map(place, colour="red", size="small"))
    plan = stage.plan(watch)
    place.somebody.edit(config_map(place), {"data": {"size": "huge"}})
    with pytest.raises(ConflictError) as caught:
        stage.apply(plan, watch, threading.Event())
    assert caught.value.owners == {".data.size": "kubectl-edit"}
    assert place.data() == {"colour": "blue", "size": "huge"}
    # The next plan shows it, and then it is taken back.
    assert apply(stage, watch).warnings == (
        f"ConfigMap {place.name}/settings: takes back .data.size from kubectl-edit",
    )
    assert place.data() == {"colour": "red", "size": "small"}


# -- prune --------------------------------------------------------------------------------------------------


def test_what_has_no_place_any_more_is_pruned_after_the_new_stands(place: Corner, watch: Watch) -> None:
    apply(work(place, space(place), config_map(place, "settings-aaa"), deployment(place)), watch)
    watch.lines.clear()
    stage = work(
        place, space(place), config_map(place, "settings-bbb"), deployment(place, "example.com/agent:2")
    )
    plan = stage.plan(watch)
    assert said(plan) == [
        f"create ConfigMap {place.name}/settings-bbb",
        f"update Deployment {place.name}/agent",
        f"delete ConfigMap {place.name}/settings-aaa",
        f"update {place.record}",
    ]
    assert place.data("settings-aaa") is not None
    stage.apply(plan, watch, threading.Event())
    assert place.data("settings-aaa") is None
    assert place.data("settings-bbb") == {"colour": "blue"}
    assert watch.lines.index(f"Deployment {place.name}/agent: 0 of 0 ready") < watch.lines.index(
        f"started delete ConfigMap {place.name}/settings-aaa"
    )
    recorded = place.recorded()
    assert recorded is not None and "ConfigMap/settings-aaa" not in recorded[1]
    assert stage.plan(watch).empty


def test_what_was_there_before_cali_is_not_pruned_and_that_is_said(place: Corner, watch: Watch) -> None:
    place.somebody.create(space(place))
    place.somebody.create(config_map(place, "theirs"))
    apply(work(place, config_map(place, "theirs"), config_map(place, "ours")), watch)
    plan = apply(work(place, config_map(place, "ours")), watch)
    assert said(plan) == [f"update {place.record}"]
    assert plan.warnings == (
        f"ConfigMap {place.name}/theirs has no place in the stage any more and stays: cali did not make it",
    )
    assert place.data("theirs") == {"colour": "blue"}


def test_what_somebody_made_under_an_old_name_is_not_pruned(place: Corner, watch: Watch) -> None:
    apply(work(place, space(place), config_map(place, "old")), watch)
    place.somebody.delete(f"/api/v1/namespaces/{place.name}/configmaps/old")
    place.somebody.create(config_map(place, "old", theirs="yes"))
    plan = apply(work(place, space(place), config_map(place, "new")), watch)
    assert f"delete ConfigMap {place.name}/old" not in said(plan)
    assert place.data("old") == {"theirs": "yes"}


def test_a_twin_that_took_the_name_between_plan_and_apply_is_not_deleted(place: Corner, watch: Watch) -> None:
    apply(work(place, space(place), config_map(place, "old")), watch)
    stage = work(place, space(place))
    plan = stage.plan(watch)
    assert f"delete ConfigMap {place.name}/old" in said(plan)
    place.somebody.delete(f"/api/v1/namespaces/{place.name}/configmaps/old")
    place.somebody.create(config_map(place, "old", theirs="yes"))
    with pytest.raises(ConflictError) as caught:
        stage.apply(plan, watch, threading.Event())
    assert caught.value.object_ref == f"ConfigMap {place.name}/old"
    assert place.data("old") == {"theirs": "yes"}


def test_destroy_takes_what_cali_made_with_its_namespace_and_nothing_else(
    place: Corner, watch: Watch
) -> None:
    theirs = f"{place.name}-theirs"
    place.somebody.create(named("v1", "Namespace", theirs))
    place.somebody.create(named("v1", "ConfigMap", "settings", theirs, data={"a": "b"}))
    taken = named("v1", "ConfigMap", "settings", theirs, data={"a": "b"})
    stage = work(place, space(place), config_map(place), deployment(place), taken)
    apply(stage, watch)
    shown = [change.address for change in stage.contents()]
    gone = [change.address for change in stage.destroy(watch, threading.Event())]
    assert (
        gone
        == shown
        == [
            f"Deployment {place.name}/agent",
            f"ConfigMap {place.name}/settings",
            f"Namespace {place.name}",
            place.record,
        ]
    )
    assert place.somebody.get("Namespace", place.name) is None
    kept = place.somebody.get("ConfigMap", "settings", theirs)
    assert kept is not None and kept["data"] == {"a": "b"}
    assert f"ConfigMap {theirs}/settings was there before cali and stays" in watch.lines
    assert not stage.exists()
    assert stage.destroy(watch, threading.Event()) == ()
