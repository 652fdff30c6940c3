"""Who gets in, and who may do what: access policies, RBAC, and the questions that a caller asks about himself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Client, Cluster

PODS = "/api/v1/namespaces/{}/pods"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.mark.parametrize("token", [None, "wrong"])
def test_who_has_no_entry_is_not_let_in(cluster: Cluster, token: str | None) -> None:
    refused = cluster.client(token)("GET", "/api/v1/namespaces")

    assert refused.status == 401
    assert refused.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }


def test_the_version_and_the_health_are_for_everybody(cluster: Cluster) -> None:
    anyone = cluster.client(None)

    assert anyone("GET", "/version").body["gitVersion"].startswith("v1.35.0-eks-")
    assert anyone("GET", "/readyz").body == "ok"


def test_an_entry_without_a_policy_gives_nothing(cluster: Cluster) -> None:
    refused = cluster.client("nobody")("GET", "/api/v1/nodes")

    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert refused.message == (
        'nodes is forbidden: User "nobody" cannot list resource "nodes" in API group "" at the cluster scope'
    )


def test_a_refusal_names_object_subresource_and_namespace(cluster: Cluster) -> None:
    refused = cluster.client("nobody").merge("/apis/apps/v1/namespaces/x/deployments/web/scale", {})

    assert refused.message == (
        'deployments.apps "web" is forbidden: User "nobody" cannot patch resource "deployments/scale" in API group '
        '"apps" in the namespace "x"'
    )


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("admin", "GET", "/api/v1/nodes", 200),
        ("ns-admin", "GET", "/api/v1/nodes", 403),
        ("ns-admin", "GET", RBAC + "/namespaces/default/roles", 200),
        ("edit", "GET", RBAC + "/namespaces/default/roles", 403),
        ("edit", "GET", "/api/v1/namespaces/default/secrets", 200),
        ("edit", "POST", "/api/v1/namespaces/default/configmaps", 201),
        ("view", "POST", "/api/v1/namespaces/default/configmaps", 403),
        ("view", "GET", "/api/v1/namespaces/default/configmaps", 200),
        ("view", "GET", "/api/v1/namespaces/default/secrets", 403),
        ("view", "GET", "/api/v1/pods", 200),
        ("view@default", "GET", "/api/v1/pods", 403),
        ("view@default", "GET", "/api/v1/namespaces/default/pods", 200),
        ("view@default", "GET", "/api/v1/namespaces/kube-system/pods", 403),
        ("view@kube-*", "GET", "/api/v1/namespaces/kube-system/pods", 200),
        ("admin@default", "GET", "/api/v1/namespaces/default/secrets", 200),
        ("admin@default", "GET", "/api/v1/nodes", 403),
        ("view@default", "GET", "/api/v1/namespaces/default", 200),
        ("view@default", "GET", "/api/v1/namespaces/kube-system", 403),
    ],
)
def test_a_policy_gives_its_rights_in_its_scope(
    cluster: Cluster, token: str, method: str, path: str, status: int
) -> None:
    body = {"metadata": {"name": "a"}} if method == "POST" else None

    assert cluster.client(token)(method, path, body).status == status


def test_a_groups_binding_adds_to_an_entry(cluster: Cluster, api: Client) -> None:
    grouped = cluster.client("grouped")
    assert grouped("GET", PODS.format("default")).status == 403
    api(
        "POST",
        f"{RBAC}/namespaces/default/rolebindings",
        {
            "metadata": {"name": "auditors"},
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "Group", "name": "auditors"}],
        },
    )

    assert grouped("GET", PODS.format("default")).status == 200
    assert grouped("GET", PODS.format("kube-system")).status == 403


def review(client: Client, **attributes: str) -> Any:
    body = {"spec": {"resourceAttributes": attributes}}
    answer = client("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    assert answer.status == 201
    return answer.body["status"]


def test_everybody_may_ask_what_he_may_do(cluster: Cluster) -> None:
    viewer = cluster.client("view@default")

    assert review(viewer, verb="list", resource="pods", namespace="default")["allowed"] is True
    assert review(viewer, verb="list", resource="pods")["allowed"] is False
    assert review(cluster.client(), verb="*", resource="*", group="*")["allowed"] is True


def test_rights_from_access_policies_are_not_listed(cluster: Cluster) -> None:
    """As on EKS: `kubectl auth can-i --list` shows RBAC alone."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    said = cluster.client()("POST", path, {"spec": {"namespace": "default"}}).body

    assert said["status"]["resourceRules"] == []


def test_everybody_may_ask_who_he_is(cluster: Cluster) -> None:
    said = cluster.client("view")("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}).body

    assert said["status"]["userInfo"]["username"] == "view"
    assert said["status"]["userInfo"]["extra"]["arn"] == ["arn:aws:iam::123456789012:role/view"]


def test_a_service_accounts_rights_can_be_tried(cluster: Cluster, api: Client) -> None:
    api(
        "POST",
        f"{RBAC}/clusterroles",
        {
            "metadata": {"name": "reader"},
            "rules": [
                {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get", "list", "watch"]}
            ],
        },
    )
    api(
        "POST",
        f"{RBAC}/clusterrolebindings",
        {
            "metadata": {"name": "reader"},
            "roleRef": {"kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "logging"}],
        },
    )

    def allowed(verb: str, account: str) -> bool:
        spec = {
            "user": f"system:serviceaccount:logging:{account}",
            "resourceAttributes": {"verb": verb, "resource": "pods"},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(api("POST", path, {"spec": spec}).body["status"]["allowed"])

    assert allowed("watch", "agent")
    assert not allowed("delete", "agent")
    assert not allowed("watch", "other")


def test_only_who_may_do_all_may_act_for_another(cluster: Cluster) -> None:
    viewer = cluster.client("view")
    viewer._headers["Impersonate-User"] = "somebody"

    refused = viewer("GET", "/api/v1/pods")

    assert refused.message.startswith(
        'users "somebody" is forbidden: User "view" cannot impersonate resource "users"'
    )
