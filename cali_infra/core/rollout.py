"""Waiting until a workload runs what was applied, and saying why it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

from cali_infra.adapters.kubernetes import Kubernetes, Object, ObjectRef
from cali_infra.core.progress import Progress
from cali_infra.errors import InterruptedError_, KubernetesError

ROLLED_OUT = ("DaemonSet", "Deployment", "StatefulSet")
PATIENCE = 300.0
_EVERY = 2.0


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
    """Return when every replica is updated and ready.

    Raises KubernetesError, with the reasons that pods and events give, when that takes longer than `patience`
    seconds, and InterruptedError_ after `cancel`.
    """
    started = clock()
    while True:
        obj = kubernetes.get(ref)
        ready, wanted = replicas(obj) if obj else (0, 1)
        if ready == wanted:
            watch.resource(stage, str(ref), "rollout", "complete", clock() - started)
            return
        watch.resource(stage, f"{ref} {ready}/{wanted}", "rollout", "progress", clock() - started)
        if clock() - started > patience:
            reasons = "; ".join(dict.fromkeys(_reasons(kubernetes, obj))) if obj else "it is gone"
            raise KubernetesError(
                f"{ref} has {ready} of {wanted} replicas ready after {patience:.0f} seconds: "
                f"{reasons or 'its pods give no reason yet'}",
                object_ref=str(ref),
                remedy=f"kubectl -n {ref.namespace} describe {ref.kind.lower()} {ref.name}",
            )
        if cancel.wait(_EVERY):
            raise InterruptedError_(f"interrupted while {ref} rolls out; it goes on by itself")


def replicas(obj: Object) -> tuple[int, int]:
    """How many replicas are updated and ready, and how many there are to be; what the controller has not yet
    looked at counts as not ready."""
    status, spec = obj.get("status", {}), obj["spec"]
    if obj["kind"] == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled", 1))
        ready = min(int(status.get("updatedNumberScheduled", 0)), int(status.get("numberReady", 0)))
    else:
        wanted = int(spec.get("replicas", 1))
        ready = min(int(status.get("updatedReplicas", 0)), int(status.get("readyReplicas", 0)))
    if int(status.get("observedGeneration", 0)) < int(obj["metadata"].get("generation", 0)):
        return 0, max(wanted, 1)
    return ready, wanted


def _reasons(kubernetes: Kubernetes, obj: Object) -> Iterator[str]:
    namespace = obj["metadata"]["namespace"]
    labels = obj["spec"]["selector"]["matchLabels"]
    pods = kubernetes.list("v1", "Pod", namespace, labels)
    names = {pod["metadata"]["name"] for pod in pods}
    for pod in pods:
        yield from _pod_reasons(kubernetes, pod)
    for event in kubernetes.list("v1", "Event", namespace):
        about = event.get("involvedObject", {}).get("name")
        if event.get("type") == "Warning" and about in names | {obj["metadata"]["name"]}:
            yield f"{event.get('reason', '')}: {event.get('message', '')}"


def _pod_reasons(kubernetes: Kubernetes, pod: dict[str, Any]) -> Iterator[str]:
    status, meta = pod.get("status", {}), pod["metadata"]
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{meta['name']} is not scheduled: {condition.get('message', '')}"
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if not waiting or waiting.get("reason") in ("ContainerCreating", "PodInitializing"):
            continue
        yield f"{meta['name']}: {waiting.get('reason')} {waiting.get('message', '')}".rstrip()
        if waiting.get("reason") == "CrashLoopBackOff":
            last = kubernetes.log(
                meta["namespace"], meta["name"], container=container["name"], previous=True, lines=5
            )
            yield f"last lines of {container['name']}: {last.strip()}"
