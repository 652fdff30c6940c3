"""What a namespace's labels forbid its pods, and that the Jobs of `cali verify` are within the strictest level.

A pod is shown to the server by a dry run: no controller is needed. Privileged containers are left to the unit
tests, since an API server may have a word of its own on them (`--allow-privileged`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from cali_infra.errors import ForbiddenError, InvalidObjectError
from cali_infra.verify import jobs
from cali_infra.verify.jobs import Mount, job
from contract.checking import context
from contract.grounds import Corner, RefusedError
from contract.manifests import named

Object = dict[str, Any]
ENFORCE, WARN = "pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/warn"
PLAIN: Object = {"containers": [{"name": "a", "image": "example.com/a:1"}]}
UNRESTRICTED = (
    'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
    '"Localhost")'
)


def restricted(pod: Object | None = None, **container: Any) -> Object:
    """A pod's spec that every level takes, but for what is given."""
    spec = job("a", "b", image="example.com/a:1", command=["true"], seconds=5)["spec"]["template"]["spec"]
    (main,) = spec["containers"]
    security = {**main["securityContext"], **container.pop("securityContext", {})}
    changes = dict(pod or {})
    whole = {**spec["securityContext"], **changes.pop("securityContext", {})}
    own = {**main, "name": "a", "securityContext": security, **container}
    return {**spec, "containers": [own], "securityContext": whole, **changes}


def space(place: Corner, level: str, **labels: str) -> None:
    """The corner's namespace, with the account that pods want: a cluster without controllers makes none."""
    made = named("v1", "Namespace", place.name)
    made["metadata"]["labels"] = {ENFORCE: level, **labels}
    place.somebody.create(made)
    try:
        place.somebody.create(named("v1", "ServiceAccount", "default", place.name))
    except RefusedError as error:
        if error.status != 409:
            raise


def pod(place: Corner, spec: Object) -> Object:
    return named("v1", "Pod", "one", place.name, spec=spec)


def refusal(place: Corner, spec: Object) -> str:
    """What the server says of a pod, from `violates` on; empty is consent."""
    try:
        place.connect().create(pod(place, spec), dry_run=True)
    except ForbiddenError as error:
        assert error.status == 403
        assert 'pods "one" is forbidden: violates ' in error.message
        return error.message.partition(" is forbidden: violates ")[2]
    return ""


# -- what each level forbids ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        pytest.param(PLAIN, "", id="plain"),
        pytest.param(restricted(), "", id="restricted"),
        pytest.param(
            {**PLAIN, "hostNetwork": True, "hostPID": True},
            "host namespaces (hostNetwork=true, hostPID=true)",
            id="host namespaces",
        ),
        pytest.param(
            restricted(
                ports=[{"containerPort": 80, "hostPort": 80}, {"containerPort": 8080, "hostPort": 81}]
            ),
            'hostPort (container "a" uses hostPorts 80, 81)',
            id="host ports",
        ),
        pytest.param(
            {**PLAIN, "volumes": [{"name": name, "hostPath": {"path": "/"}} for name in ("logs", "rest")]},
            'hostPath volumes (volumes "logs", "rest")',
            id="host paths",
        ),
        pytest.param(
            {
                "initContainers": [
                    {
                        "name": "first",
                        "image": "example.com/a:1",
                        "securityContext": {"capabilities": {"add": ["SYS_TIME", "NET_ADMIN"]}},
                    }
                ],
                "containers": [
                    {**PLAIN["containers"][0], "securityContext": {"capabilities": {"add": ["CHOWN"]}}}
                ],
            },
            'non-default capabilities (container "first" must not include "NET_ADMIN", "SYS_TIME" in '
            "securityContext.capabilities.add)",
            id="capabilities",
        ),
        pytest.param(
            restricted({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
            id="unconfined",
        ),
    ],
)
def test_what_the_baseline_forbids(place: Corner, spec: Object, why: str) -> None:
    space(place, "baseline")
    assert refusal(place, spec) == (f'PodSecurity "baseline:latest": {why}' if why else "")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        pytest.param(restricted(), "", id="restricted"),
        pytest.param(PLAIN, UNRESTRICTED, id="plain"),
        pytest.param(
            restricted(
                {
                    "volumes": [
                        {"name": "logs", "hostPath": {"path": "/"}},
                        {"name": "s", "nfs": {"server": "example.com", "path": "/"}},
                    ]
                }
            ),
            'restricted volume types (volumes "logs", "s" use restricted volume types "hostPath", "nfs")',
            id="volumes",
        ),
        pytest.param(
            restricted(securityContext={"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}),
            'unrestricted capabilities (container "a" must not include "CHOWN" in '
            "securityContext.capabilities.add)",
            id="capabilities",
        ),
        pytest.param(
            restricted({"securityContext": {"runAsUser": 0}}, securityContext={"runAsUser": 0}),
            'runAsUser=0 (pod and container "a" must not set runAsUser=0)',
            id="root",
        ),
        pytest.param(
            restricted(securityContext={"runAsNonRoot": False}),
            'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)',
            id="maybe root",
        ),
        pytest.param(
            restricted(securityContext={"seccompProfile": {"type": "Unconfined"}}),
            'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
            id="unconfined",
        ),
    ],
)
def test_what_the_restricted_level_forbids(place: Corner, spec: Object, why: str) -> None:
    space(place, "restricted")
    assert refusal(place, spec) == (f'PodSecurity "restricted:latest": {why}' if why else "")


def test_a_pod_is_refused_when_it_is_applied_and_when_it_is_made(place: Corner) -> None:
    space(place, "restricted")
    for make in (place.somebody.create, place.somebody.apply):
        with pytest.raises(RefusedError, match="violates PodSecurity") as caught:
            make(pod(place, PLAIN))
        assert caught.value.status == 403
    assert place.live("Pod", "one") is None


def test_a_pod_that_is_there_may_get_labels_and_no_other_image(place: Corner) -> None:
    space(place, "privileged")
    one = pod(place, PLAIN)
    place.somebody.create(one)
    place.somebody.edit(
        named("v1", "Namespace", place.name), {"metadata": {"labels": {ENFORCE: "restricted"}}}
    )
    place.somebody.edit(one, {"metadata": {"labels": {"a": "b"}}})
    # As it stands there: on a real server its account's token is mounted, and may not be taken away.
    live = place.live("Pod", "one")
    assert live is not None
    (container,) = live["spec"]["containers"]
    # A real server may see the namespace as it was for a moment.
    until, images = time.monotonic() + 10, count(2)
    with pytest.raises(RefusedError, match="violates PodSecurity"):
        while time.monotonic() < until:
            changed = {**container, "image": f"example.com/a:{next(images)}"}
            place.somebody.edit(one, {"spec": {"containers": [changed]}})
    # What may never change is invalid before any level is asked.
    with pytest.raises(RefusedError, match="pod updates may not change fields") as caught:
        place.somebody.edit(one, {"spec": {"hostNetwork": True}})
    assert caught.value.status == 422


def test_a_level_that_nobody_knows(place: Corner) -> None:
    made = named("v1", "Namespace", place.name)
    made["metadata"]["labels"] = {ENFORCE: "strict"}
    with pytest.raises(InvalidObjectError) as caught:
        place.connect().create(made, dry_run=True)
    assert (
        f'metadata.labels[{ENFORCE}]: Invalid value: "strict": must be one of privileged, baseline, restricted'
        in caught.value.message
    )


# -- what is only warned of -----------------------------------------------------------------------------------


def test_a_namespace_warns_of_what_it_lets_in(place: Corner) -> None:
    space(place, "baseline", **{WARN: "restricted"})
    assert place.somebody.warnings(pod(place, PLAIN)) == [
        f'would violate PodSecurity "restricted:latest": {UNRESTRICTED}'
    ]
    assert place.somebody.warnings(pod(place, restricted())) == []


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet", "StatefulSet"])
def test_a_workload_is_taken_and_warned_of(place: Corner, kind: str) -> None:
    """By the level that is enforced, where the namespace names none to warn of."""
    space(place, "restricted")
    labels = {"app": "one"}

    def workload(spec: Object) -> Object:
        template = {"metadata": {"labels": labels}, "spec": spec}
        own = {"selector": {"matchLabels": labels}, "template": template}
        return named("apps/v1", kind, "one", place.name, spec=own)

    assert place.somebody.warnings(workload(PLAIN)) == [
        f'would violate PodSecurity "restricted:latest": {UNRESTRICTED}'
    ]
    always = {**restricted(), "restartPolicy": "Always"}
    assert place.somebody.warnings(workload(always)) == []


# -- the Jobs of the checks -----------------------------------------------------------------------------------

MOUNTS = (
    Mount("/empty", {"emptyDir": {}}),
    Mount("/settings", {"configMap": {"name": "settings"}}),
    Mount("/login", {"secret": {"secretName": "login"}}),
    Mount("/data", {"persistentVolumeClaim": {"claimName": "data"}}),
)


def manifest(namespace: str) -> Object:
    """A Job with all that a check may ask for."""
    return job(
        "one",
        namespace,
        image="example.com/a:1",
        command=["sh", "-c", "true"],
        seconds=60,
        env={"LINE": "text"},
        env_from=[{"secretRef": {"name": "login"}}],
        volumes=MOUNTS,
        service_account="default",
        labels={"app": "one"},
    )


def test_a_job_of_the_checks_is_taken_without_a_warning_and_so_is_its_pod(place: Corner) -> None:
    space(place, "restricted")
    wanted = manifest(place.name)
    place.connect().create(wanted, dry_run=True)
    assert place.somebody.warnings(wanted) == []
    assert refusal(place, wanted["spec"]["template"]["spec"]) == ""
    assert place.live("Job", "one", "batch/v1") is None


def test_a_job_beyond_the_level_is_warned_of_and_its_pod_refused(place: Corner) -> None:
    space(place, "restricted")
    wanted = manifest(place.name)
    wanted["spec"]["template"]["spec"]["hostIPC"] = True
    why = 'PodSecurity "restricted:latest": host namespaces (hostIPC=true)'
    place.connect().create(wanted, dry_run=True)
    assert place.somebody.warnings(wanted) == [f"would violate {why}"]
    assert refusal(place, wanted["spec"]["template"]["spec"]) == why


def test_a_scratch_namespace_takes_the_jobs_of_the_checks_and_nothing_beyond_the_level(place: Corner) -> None:
    """Its name holds the corner's, so that it is taken away with it."""
    door = place.connect()
    name = jobs.scratch(replace(context(door), suffix=lambda: place.name), "contract")
    door.create(manifest(name), dry_run=True)
    assert place.somebody.warnings(manifest(name)) == []
    beyond = manifest(name)
    beyond["spec"]["template"]["spec"]["hostNetwork"] = True
    assert place.somebody.warnings(beyond) == [
        'would violate PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'
    ]
