"""Server-side apply: who owns what, who is in whose way, and what goes when nobody wants it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Client

CONFIG_MAP = "/api/v1/namespaces/default/configmaps/settings"
DAEMON_SET = "/apis/apps/v1/namespaces/default/daemonsets/agent"


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}


def daemon_set(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "labels": {"app": "agent"}},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": list(containers) or [{"name": "agent", "image": "agent:1"}], **spec},
            },
        },
    }


def owners(obj: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {
        (item["manager"], item["operation"]): item["fieldsV1"] for item in obj["metadata"]["managedFields"]
    }


def test_creates_what_is_missing_and_owns_what_it_set(api: Client) -> None:
    made = api.apply(CONFIG_MAP, config_map(a="1"))

    assert made.status == 201
    assert made.body["metadata"]["uid"]
    assert owners(made.body) == {("cali", "Apply"): {"f:data": {"f:a": {}}}}


def test_the_same_again_changes_nothing(api: Client) -> None:
    first = api.apply(DAEMON_SET, daemon_set()).body
    again = api.apply(DAEMON_SET, daemon_set())

    assert again.status == 200
    assert again.body["metadata"]["generation"] == 1
    # The controllers may have written its status in between.
    assert owners(again.body)["cali", "Apply"] == owners(first)["cali", "Apply"]


def test_a_field_of_another_manager_is_a_conflict_with_his_name(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1"), manager="helm")

    refused = api.apply(CONFIG_MAP, config_map(a="2"))

    assert refused.status == 409
    assert refused.message == 'Apply failed with 1 conflict: conflict with "helm": .data.a'
    assert refused.body["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "helm"', "field": ".data.a"}
    ]
    assert api("GET", CONFIG_MAP).body["data"] == {"a": "1"}


def test_several_conflicts_are_listed_by_manager(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1", b="1"), manager="helm")
    api("PATCH", CONFIG_MAP, {"data": {"c": "1"}}, "application/merge-patch+json", fieldManager="editor")

    refused = api.apply(CONFIG_MAP, config_map(a="2", b="2", c="2"))

    lines = refused.message.splitlines()
    assert lines[0] == 'Apply failed with 3 conflicts: conflicts with "editor" using v1:'
    assert lines[1:] == ["- .data.c", 'conflicts with "helm":', "- .data.a", "- .data.b"]


def test_force_takes_the_field_over(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1", b="1"), manager="helm")

    taken = api.apply(CONFIG_MAP, config_map(a="2"), force="true")

    assert taken.body["data"] == {"a": "2", "b": "1"}
    assert owners(taken.body)[("helm", "Apply")] == {"f:data": {"f:b": {}}}


def test_the_same_value_is_owned_by_both(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1"), manager="helm")
    api.apply(CONFIG_MAP, config_map(a="1"))

    nothing = {key: value for key, value in config_map().items() if key != "data"}
    left = api.apply(CONFIG_MAP, nothing, manager="helm").body

    assert left["data"] == {"a": "1"}
    assert list(owners(left)) == [("cali", "Apply")]


def test_what_is_no_longer_applied_goes(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1", b="2"))

    assert api.apply(CONFIG_MAP, config_map(b="2")).body["data"] == {"b": "2"}
    assert "data" not in api.apply(CONFIG_MAP, config_map()).body


def test_the_last_label_goes_alone(api: Client) -> None:
    labelled = config_map(a="1")
    labelled["metadata"]["labels"] = {"team": "sre"}
    before = api.apply(CONFIG_MAP, labelled).body

    after = api.apply(CONFIG_MAP, config_map(a="1"))

    assert after.status == 200
    assert "labels" not in after.body["metadata"]
    assert after.body["metadata"]["uid"] == before["metadata"]["uid"]


def test_what_others_set_stays(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1"))
    api.merge(CONFIG_MAP, {"data": {"z": "9"}, "metadata": {"labels": {"team": "sre"}}})

    left = api.apply(CONFIG_MAP, config_map(b="2")).body

    assert left["data"] == {"b": "2", "z": "9"}
    assert left["metadata"]["labels"] == {"team": "sre"}


def test_containers_are_matched_by_name_and_ports_by_port_and_protocol(api: Client) -> None:
    agent = {"name": "agent", "image": "agent:1", "ports": [{"containerPort": 53, "protocol": "UDP"}]}
    api.apply(DAEMON_SET, daemon_set(agent))
    side = {"name": "side", "image": "side:1"}
    other = daemon_set({"name": "agent", "ports": [{"containerPort": 53}]}, side)

    both = api.apply(DAEMON_SET, other, manager="other").body

    containers = {item["name"]: item for item in both["spec"]["template"]["spec"]["containers"]}
    assert containers["agent"]["image"] == "agent:1"
    assert [(port["containerPort"], port["protocol"]) for port in containers["agent"]["ports"]] == [
        (53, "UDP"),
        (53, "TCP"),
    ]
    tree = owners(both)[("other", "Apply")]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert set(tree) == {'k:{"name":"agent"}', 'k:{"name":"side"}'}
    assert tree['k:{"name":"agent"}']["f:ports"] == {
        'k:{"containerPort":53,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
    }


def test_a_container_and_its_defaults_go_together(api: Client) -> None:
    agent, side = {"name": "agent", "image": "agent:1"}, {"name": "side", "image": "side:1"}
    api.apply(DAEMON_SET, daemon_set(agent, side))

    left = api.apply(DAEMON_SET, daemon_set(agent)).body

    assert [item["name"] for item in left["spec"]["template"]["spec"]["containers"]] == ["agent"]


def test_an_atomic_list_is_one_field(api: Client) -> None:
    api.apply(DAEMON_SET, daemon_set(tolerations=[{"operator": "Exists"}]))

    refused = api.apply(DAEMON_SET, daemon_set(tolerations=[{"key": "a", "operator": "Exists"}]), manager="x")

    assert refused.body["details"]["causes"][0]["field"] == ".spec.template.spec.tolerations"


def test_defaults_belong_to_nobody_and_stay_when_applied_again(api: Client) -> None:
    made = api.apply(DAEMON_SET, daemon_set()).body

    assert made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    tree = owners(made)[("cali", "Apply")]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert tree == {'k:{"name":"agent"}': {".": {}, "f:name": {}, "f:image": {}}}


def test_a_dry_run_shows_the_result_and_keeps_nothing(api: Client) -> None:
    shown = api.apply(CONFIG_MAP, config_map(a="1"), dryRun="All")
    assert (shown.status, shown.body["data"]) == (201, {"a": "1"})
    assert api("GET", CONFIG_MAP).status == 404

    before = api.apply(CONFIG_MAP, config_map(a="1")).body
    changed = api.apply(CONFIG_MAP, config_map(a="2"), dryRun="All").body
    assert changed["data"] == {"a": "2"}
    assert changed["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert api("GET", CONFIG_MAP).body == before


def test_a_dry_run_meets_the_same_conflict(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1"), manager="helm")

    assert api.apply(CONFIG_MAP, config_map(a="2"), dryRun="All").status == 409


def test_writes_that_are_no_apply_are_owned_too(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1"))

    edited = api.merge(CONFIG_MAP, {"data": {"a": "2"}}, fieldManager="editor").body

    assert owners(edited) == {("editor", "Update"): {"f:data": {"f:a": {}}}}
    refused = api.apply(CONFIG_MAP, config_map(a="1"))
    assert refused.message == 'Apply failed with 1 conflict: conflict with "editor" using v1: .data.a'


def test_without_a_field_manager_there_is_no_apply(api: Client) -> None:
    refused = api("PATCH", CONFIG_MAP, config_map(), "application/apply-patch+yaml")

    assert refused.status == 422
    assert "fieldManager: Required value: is required for apply patch" in refused.message


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"spec": {"foo": 1}}, ".spec: field not declared in schema"),
        ({"data": {"a": 5}}, ".data.a: expected string, got &value.valueUnstructured{Value:5}"),
        # Of one object no more than one such field is named.
        ({"datta": {}, "daata": {}}, ".datta: field not declared in schema"),
    ],
)
def test_what_the_schema_does_not_have_is_refused_as_the_real_server_does(
    api: Client, change: dict[str, Any], line: str
) -> None:
    refused = api.apply(CONFIG_MAP, {**config_map(), **change})

    assert (refused.status, "reason" in refused.body) == (500, False)
    assert refused.message == (
        f"failed to create typed patch object (default/settings; /v1, Kind=ConfigMap): {line}"
    )


def test_a_list_item_twice_is_refused(api: Client) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]

    refused = api.apply(DAEMON_SET, daemon_set({"name": "agent", "image": "a:1", "env": env}))

    assert (
        '.spec.template.spec.containers[name="agent"].env: duplicate entries for key [name="A"]'
        in refused.message
    )


def test_a_missing_namespace_is_named(api: Client) -> None:
    refused = api.apply("/api/v1/namespaces/nowhere/configmaps/settings", config_map())

    assert (refused.status, refused.message) == (404, 'namespaces "nowhere" not found')


def test_the_name_must_be_the_paths(api: Client) -> None:
    assert api.apply("/api/v1/namespaces/default/configmaps/other", config_map()).status == 400


def test_a_resource_version_that_is_not_the_current_one_is_a_conflict(api: Client) -> None:
    api.apply(CONFIG_MAP, config_map(a="1"))
    body = config_map(a="2")
    body["metadata"]["resourceVersion"] = "1"

    refused = api.apply(CONFIG_MAP, body)

    assert refused.status == 409
    assert "the object has been modified" in refused.message


def test_a_secrets_plain_data_is_stored_encoded_and_not_again(api: Client) -> None:
    path = "/api/v1/namespaces/default/secrets/password"
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "password"},
        "stringData": {"a": "한글"},
    }
    made = api.apply(path, body).body

    assert made["data"] == {"a": "7ZWc6riA"}
    assert "stringData" not in made
    again = api.apply(path, body).body
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_status_belongs_to_its_subresource(api: Client) -> None:
    body = {**daemon_set(), "status": {"numberReady": 7}}
    made = api.apply(DAEMON_SET, body, manager="cali").body
    assert "f:status" not in owners(made)[("cali", "Apply")]

    path = "/api/v1/namespaces/default/persistentvolumeclaims/data"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    api.apply(path, claim)
    status = {**claim, "status": {"phase": "Lost"}}
    del status["spec"]
    changed = api.apply(f"{path}/status", status, manager="binder").body
    assert changed["status"]["phase"] == "Lost"
    assert changed["spec"]["resources"] == claim["spec"]["resources"]


def test_an_owner_record_that_a_client_does_not_know_survives_its_update(api: Client) -> None:
    made = api.apply(CONFIG_MAP, config_map(a="1")).body
    bare = {**made, "metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "1", "b": "2"}}

    kept = api("PUT", CONFIG_MAP, bare, fieldManager="editor").body

    assert owners(kept)[("cali", "Apply")] == {"f:data": {"f:a": {}}}
    assert owners(kept)[("editor", "Update")] == {"f:data": {"f:b": {}}}
