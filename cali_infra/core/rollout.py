"""Waiting until a workload runs what was applied, and saying why it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event
from typing import Any

from cali_infra.adapters.kubernetes import Kubernetes, Object, ObjectRef
from cali_infra.core.progress import Progress
from cali_infra.errors import KubernetesError, RunInterruptedError

ROLLED_OUT = ("DaemonSet", "Deployment", "StatefulSet")
PATIENCE = 300.0
# Seconds between two looks: at first a rollout may be a matter of moments.
_SHORTEST, _LONGEST = 0.1, 2.0
# For this long, in seconds, a pod that waits for something is nothing to speak of.
_QUIET = 15.0
_EARLY = ("ContainerCreating", "PodInitializing")
_LAST_LINES = 5


def wait_for_rollout(
    kubernetes: Kubernetes,
    ref: ObjectRef,
    watch: Progress,
    stage: str,
    cancel: Event,
    *,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return when every replica is updated and ready; what holds it up is said as it turns up.

    Raises KubernetesError, with the reasons that pods and events give, when that takes longer than `patience`
    seconds, and RunInterruptedError after `cancel`.
    """
    started, pause, shown = clock(), _SHORTEST, -1
    said: set[str] = set()
    while True:
        obj = kubernetes.get(ref)
        ready, wanted = replicas(obj) if obj else (0, 1)
        elapsed = clock() - started
        if ready >= wanted:
            # Looked at to the end, and not one more change that was made.
            watch.resource(stage, str(ref), "read", "complete", elapsed)
            watch.note(f"{ref}: {ready} of {wanted} ready", stage=stage)
            return
        if ready != shown:
            doing = f"rolling out, {ready} of {wanted} ready"
            watch.resource(stage, str(ref), doing, "progress", elapsed)
            shown = ready
        late = elapsed > patience
        if obj and (late or elapsed > _QUIET):
            for reason in reasons(kubernetes, obj):
                if reason not in said:
                    said.add(reason)
                    watch.warn(f"{ref}: {reason}", stage=stage)
        if late:
            why = "\n".join(f"- {reason}" for reason in dict.fromkeys(reasons(kubernetes, obj or {})))
            raise KubernetesError(
                f"{ref} has {ready} of {wanted} replicas ready after {patience:.0f} seconds"
                + (f":\n{why}" if why else "; its pods give no reason"),
                object_ref=str(ref),
                remedy=f"kubectl -n {ref.namespace} describe {ref.kind.lower()} {ref.name}",
            )
        if cancel.wait(pause):
            raise RunInterruptedError(f"interrupted while {ref} rolls out; it goes on by itself")
        pause = min(pause * 2, _LONGEST)


def replicas(obj: Object) -> tuple[int, int]:
    """How many replicas are updated and available, and how many there are to be.

    What the controller has not looked at yet counts as none, and a Deployment's old pods have to be gone.
    Source: `kubectl rollout status`.
    """
    status, spec = obj.get("status") or {}, obj["spec"]

    def count(name: str) -> int:
        return int(status.get(name) or 0)

    if obj["kind"] == "DaemonSet":
        wanted = count("desiredNumberScheduled")
        ready = min(count("updatedNumberScheduled"), count("numberAvailable"))
    else:
        wanted = int(spec.get("replicas", 1))
        available = "availableReplicas" if obj["kind"] == "Deployment" else "readyReplicas"
        ready = min(count("updatedReplicas"), count(available))
        if obj["kind"] == "Deployment" and count("replicas") > count("updatedReplicas"):
            return min(ready, wanted - 1), wanted
    if count("observedGeneration") < int(obj["metadata"].get("generation", 1)):
        return 0, max(wanted, 1)
    return ready, wanted


def reasons(kubernetes: Kubernetes, obj: Object) -> Iterator[str]:
    """Why a workload is not ready, as its pods and the events tell it; an empty object is one that is gone."""
    if not obj:
        yield "it is gone"
        return
    namespace = obj["metadata"]["namespace"]
    labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
    pods = kubernetes.list("v1", "Pod", namespace, labels)
    for pod in pods:
        yield from pod_reasons(kubernetes, pod)
    names = {obj["metadata"]["name"], *(pod["metadata"]["name"] for pod in pods)}
    for event in kubernetes.list("v1", "Event", namespace):
        if event.get("type") == "Warning" and (event.get("involvedObject") or {}).get("name") in names:
            yield event_words(event)


def pod_reasons(kubernetes: Kubernetes, pod: dict[str, Any]) -> Iterator[str]:
    """Why a pod does not run, as its status tells it; of one that crashes the last lines of its log too."""
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{name} is not scheduled: {condition.get('message', '')}"
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") and waiting["reason"] not in _EARLY:
            yield f"{name}: {waiting['reason']} {waiting.get('message', '')}".rstrip()
        if ended.get("exitCode"):
            yield f"{name}: {container['name']} ended with {ended['exitCode']}"
        if waiting.get("reason") == "CrashLoopBackOff":
            yield from _last_lines(kubernetes, pod, container["name"])


def events(kubernetes: Kubernetes, obj: Mapping[str, Any]) -> Iterator[Object]:
    """The events about an object, the latest first."""
    found = kubernetes.list("v1", "Event", obj["metadata"].get("namespace", "default"))
    uid = obj["metadata"].get("uid")
    about = [event for event in found if (event.get("involvedObject") or {}).get("uid") == uid]
    yield from sorted(about, key=lambda event: event.get("lastTimestamp") or "", reverse=True)


def event_words(event: Mapping[str, Any]) -> str:
    """What an event says, with its reason in front."""
    return f"{event.get('reason', '')}: {event.get('message', '')}"


def _last_lines(kubernetes: Kubernetes, pod: dict[str, Any], container: str) -> Iterator[str]:
    meta = pod["metadata"]
    try:
        text = kubernetes.log(
            meta["namespace"], meta["name"], container=container, previous=True, lines=_LAST_LINES
        )
    except KubernetesError as error:
        # A log that is gone already must not hide what is known.
        yield f"the log of {meta['name']} cannot be read: {error.message}"
        return
    if text.strip():
        yield f"last lines of {meta['name']}: {text.strip()}"
