"""What a namespace's labels forbid its pods: the refusal's words, the warning, and the workload without pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.sandbox.kubernetes.pod_security import violations
from cali_infra.verify.jobs import Mount, job

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
UNRESTRICTED = (
    f"{NO_ESCALATION}, unrestricted capabilities "
    '(container "a" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true '
    '(pod or container "a" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "a" must '
    'set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
)


def restricted(pod: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    """A pod's spec that every level takes, but for what is given."""
    spec = job("a", "b", image="a:1", command=["true"], seconds=5)["spec"]["template"]["spec"]
    (main,) = spec["containers"]
    security = {**main["securityContext"], **container.pop("securityContext", {})}
    own = {**main, "name": "a", "securityContext": security, **container}
    changes = dict(pod or {})
    context = {**spec["securityContext"], **changes.pop("securityContext", {})}
    return {**spec, "containers": [own], "securityContext": context, **changes}


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


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (PLAIN, ""),
        (restricted(), ""),
        (
            restricted(securityContext={"privileged": True}),
            'privileged (container "a" must not set securityContext.privileged=true)',
        ),
        (
            {**PLAIN, "hostNetwork": True, "hostPID": True},
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            restricted(
                ports=[{"containerPort": 80, "hostPort": 80}, {"containerPort": 8080, "hostPort": 81}]
            ),
            'hostPort (container "a" uses hostPorts 80, 81)',
        ),
        (
            {**PLAIN, "volumes": [{"name": name, "hostPath": {"path": "/"}} for name in ("logs", "rest")]},
            'hostPath volumes (volumes "logs", "rest")',
        ),
        (
            {
                "initContainers": [
                    {
                        "name": "first",
                        "securityContext": {"capabilities": {"add": ["SYS_ADMIN", "NET_ADMIN"]}},
                    }
                ],
                "containers": [{"name": "a", "securityContext": {"capabilities": {"add": ["CHOWN"]}}}],
            },
            'non-default capabilities (container "first" must not include "NET_ADMIN", "SYS_ADMIN" in '
            "securityContext.capabilities.add)",
        ),
        (
            restricted({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
    ],
)
def test_what_the_baseline_forbids(spec: dict[str, Any], why: str) -> None:
    assert violations("baseline", spec) == (f'PodSecurity "baseline:latest": {why}' if why else "")
    assert violations("privileged", spec) == ""


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (restricted(), ""),
        (PLAIN, UNRESTRICTED),
        (
            restricted({"volumes": [{"name": "logs", "hostPath": {"path": "/"}}, {"name": "s", "nfs": {}}]}),
            'restricted volume types (volumes "logs", "s" use restricted volume types "hostPath", "nfs")',
        ),
        (
            restricted(securityContext={"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}),
            'unrestricted capabilities (container "a" must not include "CHOWN" in '
            "securityContext.capabilities.add)",
        ),
        (
            restricted({"securityContext": {"runAsUser": 0}}, securityContext={"runAsUser": 0}),
            'runAsUser=0 (pod and container "a" must not set runAsUser=0)',
        ),
        (
            restricted(securityContext={"runAsNonRoot": False}),
            'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)',
        ),
        (
            restricted(securityContext={"seccompProfile": {"type": "Unconfined"}}),
            'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
    ],
)
def test_what_the_restricted_level_forbids(spec: dict[str, Any], why: str) -> None:
    assert violations("restricted", spec) == (f'PodSecurity "restricted:latest": {why}' if why else "")


def test_a_job_of_the_checks_is_restricted_with_all_that_it_may_mount() -> None:
    mounts = [
        Mount(f"/{kind}", {kind: {}}) for kind in ("emptyDir", "configMap", "secret", "persistentVolumeClaim")
    ]
    manifest = job("a", "b", image="a:1", command=["true"], seconds=5, volumes=mounts)
    assert violations("restricted", manifest["spec"]["template"]["spec"]) == ""


def test_a_pod_is_refused_when_it_is_made_and_when_it_is_applied(api: Client) -> None:
    space(api, "restricted")
    for answer in (
        api("POST", f"{SPACE}/pods", pod(PLAIN)),
        api("POST", f"{SPACE}/pods", pod(PLAIN), dryRun="All"),
        api.apply(f"{SPACE}/pods/one", {"apiVersion": "v1", "kind": "Pod", **pod(PLAIN)}),
    ):
        assert answer.status == 403
        assert (
            answer.message
            == f'pods "one" is forbidden: violates PodSecurity "restricted:latest": {UNRESTRICTED}'
        )
        assert answer.body["reason"] == "Forbidden"
        assert answer.body["details"] == {"name": "one", "kind": "pods"}
    assert api("POST", f"{SPACE}/pods", pod(restricted())).status == 201


def test_a_pod_that_is_there_may_get_labels_and_no_other_image(api: Client) -> None:
    space(api, "privileged")
    assert api("POST", f"{SPACE}/pods", pod(PLAIN)).status == 201
    assert (
        api.merge("/api/v1/namespaces/guarded", {"metadata": {"labels": {ENFORCE: "restricted"}}}).status
        == 200
    )
    assert api.merge(f"{SPACE}/pods/one", {"metadata": {"labels": {"a": "b"}}}).status == 200
    image = {"spec": {"containers": [{"name": "a", "image": "a:2"}]}}
    assert api.merge(f"{SPACE}/pods/one", image).status == 403


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


def test_a_namespace_warns_of_what_it_lets_in(api: Client) -> None:
    space(api, "baseline", **{"pod-security.kubernetes.io/warn": "restricted"})
    answer = api("POST", f"{SPACE}/pods", pod(PLAIN))
    assert answer.status == 201
    assert "would violate PodSecurity" in answer.headers["Warning"]
    assert "restricted:latest" in answer.headers["Warning"]


def test_a_level_or_a_version_that_nobody_knows(api: Client) -> None:
    answer = api(
        "POST", "/api/v1/namespaces", {"metadata": {"name": "guarded", "labels": {ENFORCE: "strict"}}}
    )
    assert answer.status == 422
    assert (
        'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": '
        "must be one of privileged, baseline, restricted" in answer.message
    )
    space(api, "baseline", **{f"{ENFORCE}-version": "v1.30"})
    assert api("POST", f"{SPACE}/pods", pod(PLAIN)).status == 501
