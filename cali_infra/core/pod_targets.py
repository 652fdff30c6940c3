"""From a Service's port to a pod that answers there: what a connection through the API has to name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core.rollout import pod_reasons
from cali_infra.errors import KubernetesError, PreconditionError

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes, Object


@dataclass(frozen=True)
class PodPort:
    """A port of a container in one particular pod."""

    namespace: str
    pod: str
    uid: str
    port: int


def find(
    kubernetes: Kubernetes, namespace: str, service: str, port: int, before: PodPort | None = None
) -> PodPort:
    """A ready pod behind a Service's port; the one of `before` as long as that is ready.

    Raises PreconditionError where there is no such Service or port, and KubernetesError, with the pods' own
    reasons, where none of its pods is ready.
    """
    found = kubernetes.get(ObjectRef("v1", "Service", namespace, service))
    if found is None:
        raise PreconditionError(
            f"the cluster has no Service {service} in the namespace {namespace}",
            remedy="deploy it: cali up services; or ask whoever runs the platform",
        )
    spec = found["spec"]
    wanted = next((one for one in spec.get("ports") or () if one["port"] == port), None)
    selector = spec.get("selector")
    if wanted is None or not selector:
        has = ", ".join(str(one["port"]) for one in spec.get("ports") or ()) or "none"
        raise PreconditionError(
            f"the Service {namespace}/{service} leads to no pod by port {port}; it has the ports: {has}",
            remedy=f"look at it: kubectl -n {namespace} get service {service} -o yaml",
        )
    pods = kubernetes.list("v1", "Pod", namespace, selector)
    ready = sorted((pod for pod in pods if is_ready(pod)), key=_oldest_first)
    if not ready:
        raise _none_ready(kubernetes, namespace, service, pods)
    pod = next((one for one in ready if before is not None and _uid(one) == before.uid), ready[0])
    return PodPort(namespace, pod["metadata"]["name"], _uid(pod), _number(pod, wanted))


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a Service would send somebody to this pod."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return not pod["metadata"].get("deletionTimestamp") and any(
        one["type"] == "Ready" and one["status"] == "True" for one in conditions
    )


def _oldest_first(pod: Object) -> tuple[str, str]:
    # What has run the longest is the least likely to be on its way in.
    return pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]


def _uid(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def _number(pod: Object, port: Mapping[str, Any]) -> int:
    """The container's port: a Service's targetPort is a number, the name of a container's port, or left out."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"].get("containers") or ():
        for one in container.get("ports") or ():
            if one.get("name") == target:
                return int(one["containerPort"])
    meta = pod["metadata"]
    raise KubernetesError(
        f"Pod {meta['namespace']}/{meta['name']} has no port named {target}, to which its Service leads",
        remedy=f"look at it: kubectl -n {meta['namespace']} get pod {meta['name']} -o yaml",
    )


def _none_ready(kubernetes: Kubernetes, namespace: str, service: str, pods: list[Object]) -> KubernetesError:
    reasons: list[str] = []
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        if pod["metadata"].get("deletionTimestamp"):
            reasons.append(f"{name} is on its way out")
            continue
        told = list(pod_reasons(kubernetes, pod))
        reasons += told or [f"{name} is {status.get('phase', 'not started')}, and not ready yet"]
    what = f"none of its {len(pods)} pods is ready" if len(pods) > 1 else "its pod is not ready"
    return KubernetesError(
        f"the Service {namespace}/{service} has nobody to answer: "
        + (f"{what}:\n" + "\n".join(f"- {reason}" for reason in reasons) if pods else "it has no pod"),
        object_ref=f"Service {namespace}/{service}",
        remedy=f"kubectl -n {namespace} get pods; kubectl -n {namespace} describe pods",
    )
