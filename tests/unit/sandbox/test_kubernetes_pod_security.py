"""What a namespace's labels forbid its pods where it takes the sandbox's own controllers: a workload without pods.

What the API server alone says is in `tests/contract/test_pod_security.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.sandbox.kubernetes.pod_security import violations
from cali_infra.verify.jobs import job

if TYPE_CHECKING:
    from conftest import Client, Cluster

SPACE = "/api/v1/namespaces/guarded"
APPS = "/apis/apps/v1/namespaces/guarded"
ENFORCE = "pod-security.kubernetes.io/enforce"
PLAIN = {"containers": [{"name": "a", "image": "a:1"}]}
NO_ESCALATION = (
    'allowPrivilegeEscalation != false (container "a" must set '
    "securityContext.allowPrivilegeEscalation=false)"
)


def space(api: Client, level: str, **labels: str) -> None:
    meta = {"name": "guarded", "labels": {ENFORCE: level, **labels}}
    assert api("POST", "/api/v1/namespaces", {"metadata": meta}).status == 201


def pod(spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "one"}, "spec": spec}


def workload(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": "one"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "metadata": {"name": "one"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
        "kind": kind,
    }


def test_a_privileged_container() -> None:
    spec = {"containers": [{"name": "a", "image": "a:1", "securityContext": {"privileged": True}}]}
    why = 'privileged (container "a" must not set securityContext.privileged=true)'
    assert violations("baseline", spec) == f'PodSecurity "baseline:latest": {why}'
    assert f"{why}, {NO_ESCALATION}" in violations("restricted", spec)
    assert violations("privileged", spec) == ""


def test_what_a_refused_pod_is_told_beside_the_words(api: Client) -> None:
    space(api, "restricted")
    answer = api("POST", f"{SPACE}/pods", pod(PLAIN), dryRun="All")
    assert answer.status == 403
    assert answer.body["reason"] == "Forbidden"
    assert answer.body["details"] == {"name": "one", "kind": "pods"}


@pytest.mark.parametrize(
    ("kind", "plural", "begin"),
    [
        ("Deployment", "deployments", 'Error creating: pods "one-'),
        ("DaemonSet", "daemonsets", 'Error creating: pods "one-'),
        ("StatefulSet", "statefulsets", 'create Pod one-0 in StatefulSet one failed error: pods "one-0'),
    ],
)
def test_a_workload_is_warned_of_and_gets_no_pods(
    cluster: Cluster, api: Client, eventually: Callable[..., Any], kind: str, plural: str, begin: str
) -> None:
    cluster.nodes(1)
    space(api, "restricted")
    made = api("POST", f"{APPS}/{plural}", {"apiVersion": "apps/v1", **workload(kind, PLAIN)})
    assert made.status == 201
    assert "would violate PodSecurity" in made.headers["Warning"]

    def said() -> list[str]:
        events = api("GET", f"{SPACE}/events").body["items"]
        return [one["message"] for one in events if one["reason"] == "FailedCreate"]

    (why, *_) = eventually(said)
    assert why.startswith(begin)
    assert f'is forbidden: violates PodSecurity "restricted:latest": {NO_ESCALATION}' in why
    assert api("GET", f"{SPACE}/pods").body["items"] == []

    api.merge("/api/v1/namespaces/guarded", {"metadata": {"labels": {ENFORCE: "baseline"}}})
    eventually(lambda: api("GET", f"{SPACE}/pods").body["items"])


def test_a_job_gets_no_pod_and_says_why(api: Client, eventually: Callable[..., Any]) -> None:
    space(api, "baseline")
    body = job("one", "guarded", image="a:1", command=["true"], seconds=60)
    body["spec"]["template"]["spec"]["hostIPC"] = True
    assert api("POST", "/apis/batch/v1/namespaces/guarded/jobs", body).status == 201

    def said() -> list[str]:
        events = api("GET", f"{SPACE}/events").body["items"]
        return [one["message"] for one in events if one["involvedObject"]["kind"] == "Job"]

    (why, *_) = eventually(said)
    assert why.endswith('violates PodSecurity "baseline:latest": host namespaces (hostIPC=true)')


def test_a_version_that_is_not_modelled(api: Client) -> None:
    space(api, "baseline", **{f"{ENFORCE}-version": "v1.30"})
    assert api("POST", f"{SPACE}/pods", pod(PLAIN)).status == 501
