"""Objects as a client makes, changes and deletes them, and the words in which the server says no."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.sandbox.kubernetes import protobuf

if TYPE_CHECKING:
    from conftest import Client

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
CONFIG_MAP = f"{CONFIG_MAPS}/settings"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def config_map(name: str = "settings", **rest: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **rest}


def deployment(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
            **spec,
        },
    }


def test_a_new_object_has_what_the_server_gives_it(api: Client) -> None:
    made = api("POST", DEPLOYMENTS, deployment())

    assert made.status == 201
    metadata = made.body["metadata"]
    assert metadata["generation"] == 1
    assert {"uid", "resourceVersion", "creationTimestamp", "managedFields"} <= set(metadata)
    assert made.body["spec"]["replicas"] == 1


def test_a_name_can_be_left_to_the_server(api: Client) -> None:
    made = api("POST", CONFIG_MAPS, {"metadata": {"generateName": "settings-"}})

    assert made.body["metadata"]["name"].startswith("settings-")
    assert len(made.body["metadata"]["name"]) == len("settings-") + 5


def test_twice_the_same_name_is_refused(api: Client) -> None:
    api("POST", CONFIG_MAPS, config_map())

    refused = api("POST", CONFIG_MAPS, config_map())

    assert (refused.status, refused.body["reason"]) == (409, "AlreadyExists")
    assert refused.message == 'configmaps "settings" already exists'


def test_what_is_not_there_is_not_found_by_its_name(api: Client) -> None:
    missing = api("GET", f"{DEPLOYMENTS}/web")

    assert (missing.status, missing.body["reason"]) == (404, "NotFound")
    assert missing.message == 'deployments.apps "web" not found'
    assert missing.body["details"] == {"name": "web", "group": "apps", "kind": "deployments"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/apis/example.com/v1/widgets", 404),
        ("/api/v1/widgets", 404),
        ("/api/v1/namespaces/default/pods/x/attach", 501),
        ("/metrics", 404),
    ],
)
def test_what_the_server_does_not_serve_is_said(api: Client, path: str, status: int) -> None:
    assert api("GET", path).status == status


def test_a_status_that_is_not_modelled_names_the_operation(api: Client) -> None:
    refused = api("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", {})

    assert refused.status == 501
    assert refused.message.endswith("does not model this: serviceaccounts/token")


class TestValidation:
    def test_an_unknown_field_is_refused_when_asked_to_be_strict(self, api: Client) -> None:
        body = deployment()
        body["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"

        refused = api("POST", DEPLOYMENTS, body, fieldValidation="Strict")

        assert (refused.status, refused.body["reason"]) == (400, "BadRequest")
        assert refused.message == (
            'Deployment in version "v1" cannot be handled as a Deployment: '
            'strict decoding error: unknown field "spec.template.spec.containers[0].imagePulPolicy"'
        )

    def test_it_is_dropped_with_a_warning_otherwise(self, api: Client) -> None:
        made = api("POST", CONFIG_MAPS, config_map(dat={}))

        assert made.status == 201
        assert "dat" not in made.body
        assert made.headers["Warning"] == '299 - "unknown field \\"dat\\""'

    def test_a_value_of_the_wrong_type_names_the_field(self, api: Client) -> None:
        refused = api("POST", DEPLOYMENTS, deployment(replicas="three"))

        assert refused.status == 400
        assert refused.message == (
            'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go '
            "struct field DeploymentSpec.spec.replicas of type int32"
        )

    @pytest.mark.parametrize(
        ("change", "field", "words"),
        [
            (
                {"selector": {"matchLabels": {"app": "x"}}},
                "spec.template.metadata.labels",
                "does not match template",
            ),
            ({"selector": {}}, "spec.selector", "empty selector is invalid for deployment"),
            (
                {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
                "spec.template.spec.containers",
                "Required value",
            ),
            (
                {
                    "template": {
                        "metadata": {"labels": {"app": "web"}},
                        "spec": {
                            "containers": [
                                {
                                    "name": "web",
                                    "image": "w",
                                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                                }
                            ]
                        },
                    }
                },
                "spec.template.spec.containers[0].volumeMounts[0].name",
                'Not found: "v"',
            ),
            (
                {
                    "template": {
                        "metadata": {"labels": {"app": "web"}},
                        "spec": {"containers": [{"name": "web"}]},
                    }
                },
                "spec.template.spec.containers[0].image",
                "Required value",
            ),
        ],
    )
    def test_a_workload_that_cannot_work_is_invalid(
        self, api: Client, change: dict[str, Any], field: str, words: str
    ) -> None:
        refused = api("POST", DEPLOYMENTS, deployment(**change))

        assert (refused.status, refused.body["reason"]) == (422, "Invalid")
        causes = {cause["field"]: cause["message"] for cause in refused.body["details"]["causes"]}
        assert words in causes[field]

    def test_a_bad_name_and_a_bad_key_are_listed_together(self, api: Client) -> None:
        refused = api("POST", CONFIG_MAPS, config_map("Settings_", data={"a b": "1"}))

        assert [cause["field"] for cause in refused.body["details"]["causes"]] == [
            "metadata.name",
            "data[a b]",
        ]

    def test_a_secrets_data_must_be_base64(self, api: Client) -> None:
        body = {"metadata": {"name": "s"}, "data": {"a": "not base64!"}}

        assert "illegal base64 data" in api("POST", "/api/v1/namespaces/default/secrets", body).message

    def test_too_much_in_a_config_map(self, api: Client) -> None:
        refused = api("POST", CONFIG_MAPS, config_map(data={"a": "x" * 1_100_000}))

        assert (refused.status, "may not be more than 1048576 bytes" in refused.message) == (422, True)


class TestImmutableFields:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"provisioner": "ebs.csi.aws.com"}, "provisioner"),
            ({"parameters": {"type": "gp3"}}, "parameters"),
            ({"reclaimPolicy": "Retain"}, "reclaimPolicy"),
            ({"volumeBindingMode": "Immediate"}, "volumeBindingMode"),
        ],
    )
    def test_of_a_storage_class(self, api: Client, change: dict[str, Any], field: str) -> None:
        refused = api.merge(f"{CLASSES}/gp2", change)

        assert refused.status == 422
        assert [cause["field"] for cause in refused.body["details"]["causes"]] == [field]
        assert "field is immutable" in refused.message

    def test_the_rest_of_a_storage_class_may_change(self, api: Client) -> None:
        default = {"storageclass.kubernetes.io/is-default-class": "true"}
        changed = api.merge(
            f"{CLASSES}/gp2", {"allowVolumeExpansion": True, "metadata": {"annotations": default}}
        )

        assert changed.status == 200

    def test_a_dry_run_finds_it_too(self, api: Client) -> None:
        body = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "gp2"},
            "provisioner": "ebs.csi.aws.com",
        }

        assert api.apply(f"{CLASSES}/gp2", body, force="true", dryRun="All").status == 422

    def test_of_a_workloads_selector(self, api: Client) -> None:
        api("POST", DEPLOYMENTS, deployment())
        change = {
            "selector": {"matchLabels": {"app": "other"}},
            "template": {"metadata": {"labels": {"app": "other"}}},
        }

        refused = api.merge(f"{DEPLOYMENTS}/web", {"spec": change})

        assert (refused.status, "spec.selector" in refused.message) == (422, True)

    def test_of_what_says_that_it_is_immutable(self, api: Client) -> None:
        api("POST", CONFIG_MAPS, config_map(data={"a": "1"}, immutable=True))

        refused = api.merge(CONFIG_MAP, {"data": {"a": "2"}})

        assert "data: Forbidden: field is immutable when `immutable` is set" in refused.message


class TestChanges:
    def test_nothing_changed_is_no_new_version(self, api: Client) -> None:
        made = api("POST", CONFIG_MAPS, config_map(data={"a": "1"})).body

        assert api.merge(CONFIG_MAP, {"data": {"a": "1"}}).body == made

    def test_generation_counts_what_is_asked_for(self, api: Client) -> None:
        api("POST", DEPLOYMENTS, deployment())
        path = f"{DEPLOYMENTS}/web"

        assert api.merge(path, {"metadata": {"labels": {"a": "b"}}}).body["metadata"]["generation"] == 1
        assert api.merge(path, {"spec": {"paused": True}}).body["metadata"]["generation"] == 2

    def test_an_old_version_is_a_conflict(self, api: Client) -> None:
        made = api("POST", CONFIG_MAPS, config_map(data={"a": "1"})).body
        api.merge(CONFIG_MAP, {"data": {"a": "2"}})

        refused = api("PUT", CONFIG_MAP, {**made, "data": {"a": "3"}})

        assert (refused.status, refused.body["reason"]) == (409, "Conflict")
        assert refused.message.startswith(
            'Operation cannot be fulfilled on configmaps "settings": the object has'
        )

    def test_json_patch(self, api: Client) -> None:
        api("POST", CONFIG_MAPS, config_map(data={"a": "1"}))
        kind = "application/json-patch+json"

        changed = api("PATCH", CONFIG_MAP, [{"op": "replace", "path": "/data/a", "value": "2"}], kind)
        assert changed.body["data"] == {"a": "2"}
        refused = api("PATCH", CONFIG_MAP, [{"op": "test", "path": "/data/a", "value": "9"}], kind)
        assert refused.status == 422

    def test_a_merge_patch_removes_with_null(self, api: Client) -> None:
        api("POST", CONFIG_MAPS, config_map(data={"a": "1", "b": "2"}))

        assert api.merge(CONFIG_MAP, {"data": {"a": None}}).body["data"] == {"b": "2"}

    def test_a_strategic_merge_patch_knows_list_keys_and_directives(self, api: Client) -> None:
        api("POST", DEPLOYMENTS, deployment())
        kind, path = "application/strategic-merge-patch+json", f"{DEPLOYMENTS}/web"

        def patched(*containers: dict[str, Any]) -> list[str]:
            change = {"spec": {"template": {"spec": {"containers": list(containers)}}}}
            body = api("PATCH", path, change, kind).body
            return [
                f"{item['name']}={item['image']}" for item in body["spec"]["template"]["spec"]["containers"]
            ]

        assert patched({"name": "side", "image": "side:1"}) == ["web=web:1", "side=side:1"]
        assert patched({"name": "web", "image": "web:2"}) == ["web=web:2", "side=side:1"]
        assert patched({"name": "side", "$patch": "delete"}) == ["web=web:2"]

    def test_an_unknown_patch_is_refused(self, api: Client) -> None:
        api("POST", CONFIG_MAPS, config_map())

        assert api("PATCH", CONFIG_MAP, {}, "application/json").status == 415

    def test_a_dry_run_of_every_verb_changes_nothing(self, api: Client) -> None:
        assert api("POST", CONFIG_MAPS, config_map(), dryRun="All").status == 201
        assert api("GET", CONFIG_MAP).status == 404
        made = api("POST", CONFIG_MAPS, config_map(data={"a": "1"})).body
        assert api.merge(CONFIG_MAP, {"data": {"a": "2"}}, dryRun="All").body["data"] == {"a": "2"}
        assert api("PUT", CONFIG_MAP, {**made, "data": {"a": "3"}}, dryRun="All").status == 200
        assert api("DELETE", CONFIG_MAP, dryRun="All").status == 200
        assert api("GET", CONFIG_MAP).body == made
        assert api("DELETE", CONFIG_MAP, dryRun="Some").status == 422

    def test_the_scale_subresource(self, api: Client) -> None:
        api("POST", DEPLOYMENTS, deployment())

        scaled = api.merge(f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": 4}}).body

        assert (scaled["kind"], scaled["spec"]) == ("Scale", {"replicas": 4})
        assert api("GET", f"{DEPLOYMENTS}/web").body["spec"]["replicas"] == 4


class TestDeletion:
    def test_says_what_is_gone(self, api: Client) -> None:
        uid = api("POST", CONFIG_MAPS, config_map()).body["metadata"]["uid"]

        gone = api("DELETE", CONFIG_MAP)

        assert gone.body["status"] == "Success"
        assert gone.body["details"] == {"name": "settings", "kind": "configmaps", "uid": uid}
        assert api("GET", CONFIG_MAP).status == 404

    def test_a_precondition_protects_another_object_of_the_same_name(self, api: Client) -> None:
        api("POST", CONFIG_MAPS, config_map())

        refused = api("DELETE", CONFIG_MAP, {"preconditions": {"uid": "somebody-elses"}})

        assert refused.status == 409
        assert "the UID in the precondition (somebody-elses) does not match" in refused.message

    def test_a_finalizer_keeps_the_object_until_it_is_taken_off(self, api: Client) -> None:
        body = config_map()
        body["metadata"]["finalizers"] = ["example.com/wait"]
        api("POST", CONFIG_MAPS, body)

        kept = api("DELETE", CONFIG_MAP).body
        assert "deletionTimestamp" in kept["metadata"]
        assert api("GET", CONFIG_MAP).status == 200
        api.merge(CONFIG_MAP, {"metadata": {"finalizers": None}})
        assert api("GET", CONFIG_MAP).status == 404

    def test_what_it_owns_goes_with_it(self, api: Client, eventually: Callable[..., Any]) -> None:
        owner = api("POST", CONFIG_MAPS, config_map("owner")).body
        reference = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "owner",
            "uid": owner["metadata"]["uid"],
        }
        for name in ("one", "two"):
            body = config_map(name)
            body["metadata"]["ownerReferences"] = [reference]
            api("POST", CONFIG_MAPS, body)

        api("DELETE", f"{CONFIG_MAPS}/owner")

        eventually(lambda: {api("GET", f"{CONFIG_MAPS}/{name}").status for name in ("one", "two")} == {404})

    def test_unless_it_is_orphaned(self, api: Client, eventually: Callable[..., Any]) -> None:
        owner = api("POST", CONFIG_MAPS, config_map("owner")).body
        body = config_map("owned")
        body["metadata"]["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        ]
        api("POST", CONFIG_MAPS, body)

        api("DELETE", f"{CONFIG_MAPS}/owner", propagationPolicy="Orphan")

        assert "ownerReferences" not in api("GET", f"{CONFIG_MAPS}/owned").body["metadata"]

    def test_foreground_waits_for_what_it_owns(self, api: Client, eventually: Callable[..., Any]) -> None:
        owner = api("POST", CONFIG_MAPS, config_map("owner")).body
        body = config_map("owned")
        body["metadata"] |= {
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
            ],
            "finalizers": ["example.com/wait"],
        }
        api("POST", CONFIG_MAPS, body)

        kept = api("DELETE", f"{CONFIG_MAPS}/owner", {"propagationPolicy": "Foreground"}).body
        assert kept["metadata"]["finalizers"] == ["foregroundDeletion"]
        eventually(lambda: "deletionTimestamp" in api("GET", f"{CONFIG_MAPS}/owned").body["metadata"])
        api.merge(f"{CONFIG_MAPS}/owned", {"metadata": {"finalizers": None}})
        eventually(lambda: api("GET", f"{CONFIG_MAPS}/owner").status == 404)

    def test_a_collection_by_label(self, api: Client) -> None:
        for name in ("a", "b", "c"):
            body = config_map(name)
            body["metadata"]["labels"] = {"keep": str(name == "c")}
            api("POST", CONFIG_MAPS, body)

        api("DELETE", CONFIG_MAPS, labelSelector="keep=False")

        names = [
            item["metadata"]["name"] for item in api("GET", CONFIG_MAPS, labelSelector="keep").body["items"]
        ]
        assert names == ["c"]


class TestNamespaces:
    def namespace(self, api: Client, name: str = "logging") -> None:
        assert api("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).status == 201

    def test_a_new_one_has_its_account_and_its_authority(
        self, api: Client, eventually: Callable[..., Any]
    ) -> None:
        self.namespace(api)

        eventually(lambda: api("GET", "/api/v1/namespaces/logging/serviceaccounts/default").status == 200)
        found = api("GET", "/api/v1/namespaces/logging/configmaps/kube-root-ca.crt").body
        assert found["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
        labels = api("GET", "/api/v1/namespaces/logging").body["metadata"]["labels"]
        assert labels == {"kubernetes.io/metadata.name": "logging"}

    def test_nothing_is_made_in_one_that_is_not_there(self, api: Client) -> None:
        refused = api("POST", "/api/v1/namespaces/logging/configmaps", config_map())

        assert (refused.status, refused.message) == (404, 'namespaces "logging" not found')
        assert refused.body["details"] == {"name": "logging", "kind": "namespaces"}

    def test_it_takes_everything_with_it(self, api: Client, eventually: Callable[..., Any]) -> None:
        self.namespace(api)
        api("POST", "/api/v1/namespaces/logging/configmaps", config_map())

        assert api("DELETE", "/api/v1/namespaces/logging").body["status"]["phase"] == "Terminating"

        eventually(lambda: api("GET", "/api/v1/namespaces/logging").status == 404)
        assert api("GET", "/api/v1/namespaces/logging/configmaps").body["items"] == []

    def test_one_that_ends_takes_nothing_more(self, api: Client, eventually: Callable[..., Any]) -> None:
        self.namespace(api)
        body = config_map()
        body["metadata"]["finalizers"] = ["example.com/wait"]
        api("POST", "/api/v1/namespaces/logging/configmaps", body)
        api("DELETE", "/api/v1/namespaces/logging")

        refused = api("POST", "/api/v1/namespaces/logging/configmaps", config_map("late"))

        assert refused.status == 403
        assert "because it is being terminated" in refused.message
        assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
        api.merge("/api/v1/namespaces/logging/configmaps/settings", {"metadata": {"finalizers": None}})
        eventually(lambda: api("GET", "/api/v1/namespaces/logging").status == 404)

    def test_the_clusters_own_stay(self, api: Client) -> None:
        refused = api("DELETE", "/api/v1/namespaces/kube-system")

        assert refused.message == 'namespaces "kube-system" is forbidden: this namespace may not be deleted'


def test_kubectls_protobuf_is_read() -> None:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    # What `kubectl create secret` sends: a type, then a message whose empty fields are written out.
    metadata = (
        field(1, b"keys") + field(2, b"") + field(3, b"default") + field(11, field(1, b"a") + field(2, b"b"))
    )
    secret = field(1, metadata) + field(2, field(1, b"key") + field(2, b"\x00\xff")) + field(3, b"")
    raw = b"k8s\x00" + field(1, field(1, b"v1") + field(2, b"Secret")) + field(2, secret) + field(3, b"")

    assert protobuf.decode(raw) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys", "namespace": "default", "labels": {"a": "b"}},
        "data": {"key": "AP8="},
    }
