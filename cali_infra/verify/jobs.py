"""What the checks make in a cluster: a namespace of their own, and Jobs that run in it to their end.

It owns what is made: its labels, its security context, that it is put down, and what is told of one that does not
end well. What a Job proves is its check's business. A Job that cali no longer watches ends by itself and is removed
by the cluster, so that a killed run costs nothing for long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cali_infra.adapters.kubernetes import ObjectRef, ref_of
from cali_infra.core.rollout import event_words, events, pod_reasons
from cali_infra.errors import JobError, KubernetesError, RunInterruptedError

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes, Object
    from cali_infra.verify.context import Context

# On all that a check makes; it is found again by them.
LABELS: Mapping[str, str] = {
    "app.kubernetes.io/name": "cali-verify",
    "app.kubernetes.io/managed-by": "cali",
}
PREFIX = "cali-verify-"
# The container's name in every Job.
CONTAINER = "main"
# Nobody's: files of a volume belong to this group, so that a user without rights may write them.
USER = 65532
# For so long, in seconds, a namespace may take to go: a pod's end, and the volumes that are detached.
GOING = 90.0
# A container that waits for so long, in seconds, for the same thing waits for ever.
_STUCK = 20.0
# Beyond its own deadline, in seconds: for the controller to see it.
_SLACK = 15.0
# Ends of a container that never ran, and of one that its node has lost; their times are none.
_NO_START = ("StartError", "ContainerCannotRun", "ContainerStatusUnknown")
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")
# A run that is still alive has ended by then.
OLD = timedelta(hours=1)
_SHORTEST, _LONGEST = 0.1, 1.0
_LOG_LINES = 2000
_LAST_LINES = 3
# After its end, in seconds, a Job that nobody removed is removed by the cluster.
_KEPT = 600
_JOB_NAME = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Mount:
    """A volume of a pod at a `path` in its container; `source` as in a pod's `volumes`, without the name."""

    path: str
    source: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A Job's container that ran to its end, whatever its exit code; `log` is what it wrote, both streams, and None
    where that cannot be read.

    `started` and `finished` are the node's times, to the second.
    """

    pod: Object = field(repr=False)
    started: datetime
    finished: datetime
    exit_code: int
    log: str | None

    @property
    def last_words(self) -> str:
        """The last lines that it wrote, on one line, for a sentence that says why."""
        if self.log is None:
            return "its log cannot be read"
        return " / ".join(line for line in self.log.splitlines()[-_LAST_LINES:] if line.strip())


def scratch(context: Context, purpose: str) -> str:
    """Make a namespace for one check, and have it deleted with all that is in it when the check ends; its name.

    Every call makes another one, with `purpose` in its labels. The check needs `grace` of at least GOING seconds.
    Raises KubernetesError.
    """
    kubernetes, name = context.kubernetes(), f"{PREFIX}{context.suffix()}"
    sweep(kubernetes, context.now())
    ref = ObjectRef("v1", "Namespace", None, name)
    look = f"kubectl get namespace {name} -o jsonpath='{{.status.conditions}}'"
    context.defer(f"namespace {name}", partial(_gone, kubernetes, ref), look)
    kubernetes.create(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    **LABELS,
                    "app.kubernetes.io/component": purpose,
                    "pod-security.kubernetes.io/enforce": "restricted",
                },
            },
        }
    )
    return name


def namespaces(kubernetes: Kubernetes, now: datetime) -> dict[str, timedelta]:
    """The namespaces that checks have made, with their age."""
    return {
        item["metadata"]["name"]: now - moment(item["metadata"]["creationTimestamp"])
        for item in kubernetes.list("v1", "Namespace", labels=LABELS)
        if item["metadata"]["name"].startswith(PREFIX)
    }


def sweep(kubernetes: Kubernetes, now: datetime) -> dict[str, timedelta]:
    """Delete the namespaces of runs that were killed and could not put them down; returns their names and ages.

    It does not wait until they are gone. Raises KubernetesError.
    """
    old = {name: age for name, age in namespaces(kubernetes, now).items() if age > OLD}
    for name in old:
        kubernetes.delete(ObjectRef("v1", "Namespace", None, name))
    return old


def _deleted(kubernetes: Kubernetes, ref: ObjectRef) -> None:
    kubernetes.delete(ref)


def _gone(kubernetes: Kubernetes, ref: ObjectRef) -> None:
    kubernetes.delete(ref, wait=GOING)


def job(
    name: str,
    namespace: str,
    *,
    image: str,
    command: Sequence[str],
    seconds: int,
    env: Mapping[str, str] | None = None,
    env_from: Sequence[Mapping[str, Any]] = (),
    volumes: Sequence[Mount] = (),
    service_account: str | None = None,
    user: int = USER,
    labels: Mapping[str, str] | None = None,
) -> Object:
    """The manifest of a Job that runs one command once, for `seconds` at the most, with no rights at all.

    `env_from` is as in a container's `envFrom`. Without a `service_account` it has no token of the cluster's.
    `labels` are those of the Job and its pod, beside LABELS.
    """
    both = {**LABELS, **(labels or {})}
    mounts = [{"name": f"volume-{number}", "mountPath": mount.path} for number, mount in enumerate(volumes)]
    container: Object = {
        "name": CONTAINER,
        "image": image,
        "command": list(command),
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if env:
        container["env"] = [{"name": key, "value": value} for key, value in env.items()]
    if env_from:
        container["envFrom"] = [dict(source) for source in env_from]
    if mounts:
        container["volumeMounts"] = mounts
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": service_account is not None,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    if service_account is not None:
        pod["serviceAccountName"] = service_account
    if volumes:
        pod["volumes"] = [
            {"name": f"volume-{number}", **mount.source} for number, mount in enumerate(volumes)
        ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": both},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": both}, "spec": pod},
        },
    }


def start(context: Context, job: Object) -> ObjectRef:
    """Make a Job, and have it deleted with its pods when the check ends. Raises KubernetesError."""
    kubernetes, ref = context.kubernetes(), ref_of(job)
    look = f"kubectl -n {ref.namespace} delete job {ref.name}"
    context.defer(str(ref), partial(_deleted, kubernetes, ref), look)
    kubernetes.create(job)
    return ref


def run(context: Context, job: Object) -> Ended:
    """Make a Job and wait until its container has ended; an exit code other than 0 is an answer like any other.

    Raises JobError where it does not come to an end: it never starts, its time is over, somebody removed it;
    RunInterruptedError when the check is to stop. The Job is deleted when the check ends, and not before.
    """
    ref = start(context, job)
    return wait(context, ref, float(job["spec"]["activeDeadlineSeconds"]))


def wait(context: Context, ref: ObjectRef, seconds: float) -> Ended:
    """The same for a Job that has been made, with a deadline of so many `seconds`."""
    kubernetes, began, pace = context.kubernetes(), context.clock(), Pace(context)
    why, since = "", began
    while True:
        pods = pods_of(kubernetes, ref)
        for pod in pods:
            if (ended := _ended(kubernetes, pod)) is not None:
                return ended
            if words := _refused(pod):
                raise JobError(f"{ref} does not run: {words}", reason="NotStarted", object_ref=str(ref))
        found = kubernetes.get(ref)
        if found is None:
            raise JobError(f"{ref} was deleted while it ran", reason="Gone", object_ref=str(ref))
        now, before = context.clock(), why
        why = next(_reasons(kubernetes, found, pods), "")
        if why != before:
            since = now
        verdict = _verdict(found)
        if verdict is not None:
            reason, message = verdict
            raise JobError(
                f"{ref}: {why or message}",
                reason=reason,
                object_ref=str(ref),
                remedy=_remedy(context, why, pods),
            )
        if _waits_for_ever(pods) and now - since > _STUCK:
            raise JobError(
                f"{ref} does not start: {why}",
                reason="NotStarted",
                object_ref=str(ref),
                remedy=_remedy(context, why, pods),
            )
        if now - began > seconds + _SLACK:
            raise JobError(
                f"{ref} has not ended within {seconds:.0f} seconds" + (f": {why}" if why else ""),
                reason="DeadlineExceeded",
                object_ref=str(ref),
                remedy=_remedy(context, why, pods),
            )
        pace.rest()


def pods_of(kubernetes: Kubernetes, ref: ObjectRef) -> list[Object]:
    """The pods of a Job."""
    return kubernetes.list("v1", "Pod", ref.namespace, {_JOB_NAME: ref.name})


class Pace:
    """The pauses between two looks at something: short at first, when it may be a matter of moments."""

    def __init__(self, context: Context, longest: float = _LONGEST) -> None:
        self._context, self._length, self._longest = context, _SHORTEST, longest

    def rest(self) -> None:
        """Wait; raises RunInterruptedError when the check is to stop."""
        if self._context.cancel.wait(self._length):
            raise RunInterruptedError("interrupted before it ended")
        self._length = min(2 * self._length, self._longest)


def _ended(kubernetes: Kubernetes, pod: Object) -> Ended | None:
    """What came of a pod's container; None while it has not ended."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        terminated = (status.get("state") or {}).get("terminated")
        if terminated and terminated.get("reason") not in _NO_START:
            meta = pod["metadata"]
            log: str | None = None
            with suppress(KubernetesError):
                log = kubernetes.log(
                    meta["namespace"], meta["name"], container=status["name"], lines=_LOG_LINES
                )
            return Ended(
                pod,
                moment(terminated["startedAt"]),
                moment(terminated["finishedAt"]),
                int(terminated.get("exitCode", 0)),
                log,
            )
    return None


def _refused(pod: Object) -> str:
    """What the runtime says of a container whose command it cannot start."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        terminated = (status.get("state") or {}).get("terminated") or {}
        if terminated.get("reason") in _NO_START:
            return f"{terminated['reason']}: {terminated.get('message', '')}"
    return ""


def _reasons(kubernetes: Kubernetes, job: Object, pods: Sequence[Object]) -> Iterator[str]:
    """Why a Job's pod does not run, the nearest cause first."""
    for pod in pods:
        if _runs(pod):
            return
        yield from pod_reasons(kubernetes, pod)
    for obj in (*pods, job):
        for event in events(kubernetes, obj):
            if event.get("type") == "Warning":
                yield event_words(event)


def _remedy(context: Context, why: str, pods: Sequence[Object]) -> str:
    """What to do about a pod that does not run; empty where only the check knows."""
    if any(word in why for word in _NO_IMAGE):
        image = pods[0]["spec"]["containers"][0]["image"] if pods else "its image"
        if image == context.subject.settings.verify.image:
            return f"# the nodes cannot pull {image}: name one that they can, by verify.image in cali.yaml"
        return f"# the nodes cannot pull {image}\nkubectl get events -A --field-selector reason=Failed"
    if "is not scheduled" in why:
        return "cali verify kubernetes autoscaler"
    return ""


def _runs(pod: Object) -> bool:
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return bool(found) and all("running" in (status.get("state") or {}) for status in found)


def _waits_for_ever(pods: Sequence[Object]) -> bool:
    """Whether a container waits for what does not come by itself, as an image and a Secret do not.

    A place on a node and a volume may come: another node, a driver that starts.
    """
    waiting = [
        (status.get("state") or {}).get("waiting") or {}
        for pod in pods
        for status in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
    return any(
        each.get("reason", "ContainerCreating") not in ("ContainerCreating", "PodInitializing")
        for each in waiting
        if each
    )


def _verdict(job: Object) -> tuple[str, str] | None:
    """The reason and the message with which the controller gave a Job up."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Failed", "FailureTarget") and condition["status"] == "True":
            reason = str(condition.get("reason") or "Failed")
            return reason, f"{reason}: {condition.get('message') or 'no reason is given'}"
    return None


def moment(text: str) -> datetime:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(text).astimezone(UTC)
