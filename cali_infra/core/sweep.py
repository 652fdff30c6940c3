"""What hangs on a cluster without being in any state: load balancers of Services, volumes of claims.

They are released while their controllers still live, once the pods that mount volumes are gone; afterwards AWS is
asked, by tag, what is still there. Source: facts, "Taking it down".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Event
from typing import TYPE_CHECKING

from cali_infra.core.progress import Progress
from cali_infra.errors import CaliError, RunInterruptedError

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import ObjectRef
    from cali_infra.core.platform import Platform

# How long what is being deleted may take altogether, and how often it is looked at, in seconds.
PATIENCE = 300.0
_PAUSE = 2.0


def attached(platform: Platform, watch: Progress) -> tuple[ObjectRef, ...]:
    """The Services of type LoadBalancer and the PersistentVolumeClaims of the stack's cluster.

    A cluster that cannot be reached is said and left to the stages: what hangs on it shows up as a survivor.
    One that a rehearsal only borrows, by `--kubeconfig`, stays: what hangs on it is somebody else's.
    """
    if platform.target.rehearsal and platform.target.kubeconfig is not None:
        watch.note("the cluster of --kubeconfig stays, and so do its load balancers and volumes")
        return ()
    if "cluster_ca" not in platform.stack("eks").outputs():
        return ()
    from cali_infra.adapters.kubernetes import ObjectRef

    try:
        kubernetes = platform.kubernetes()
        services = [
            service
            for service in kubernetes.list("v1", "Service")
            if service.get("spec", {}).get("type") == "LoadBalancer"
        ]
        claims = kubernetes.list("v1", "PersistentVolumeClaim")
    except CaliError as error:
        watch.warn(f"load balancers and volumes may be left: {error.message}")
        return ()
    return tuple(
        ObjectRef("v1", kind, item["metadata"]["namespace"], item["metadata"]["name"])
        for kind, objects in (("Service", services), ("PersistentVolumeClaim", claims))
        for item in objects
    )


def release(
    platform: Platform,
    refs: Sequence[ObjectRef],
    watch: Progress,
    cancel: Event,
    *,
    patience: float = PATIENCE,
) -> None:
    """Delete these objects and wait until they are gone.

    What is not by then, `patience` in seconds, is said: a volume that is still mounted shows up as a survivor.
    """
    if not refs:
        return
    try:
        kubernetes = platform.kubernetes()
        for ref in refs:
            if cancel.is_set():
                raise RunInterruptedError("interrupted; nothing but what is named above was deleted")
            watch.note(f"deleting {ref}")
            kubernetes.delete(ref)
        waited = 0.0
        while refs := [ref for ref in refs if kubernetes.get(ref)]:
            if waited >= patience:
                names = ", ".join(map(str, refs))
                watch.warn(f"not gone after {waited:.0f} seconds: {names}; what hangs on them may be left")
                return
            if cancel.wait(_PAUSE):
                raise RunInterruptedError("interrupted; nothing but what is named above was deleted")
            waited += _PAUSE
    except RunInterruptedError:
        raise
    except CaliError as error:
        watch.warn(f"load balancers and volumes may be left: {error.message}")


def survivors(platform: Platform) -> tuple[str, ...]:
    """What still carries the cluster's tags, each with what a person needs to find it."""
    cluster = platform.settings.cluster_name
    found: dict[str, str] = {}
    for tag, value in ((f"kubernetes.io/cluster/{cluster}", "owned"), ("elbv2.k8s.aws/cluster", cluster)):
        found.update(platform.aws.tagged(tag, value))
    if instances := _ids(found, ":instance/"):
        gone = platform.aws.instances_gone(instances.values())
        found = {arn: words for arn, words in found.items() if instances.get(arn) not in gone}
    if volumes := _ids(found, ":volume/"):
        sizes = platform.aws.volumes(volumes.values())
        found |= {arn: sizes.get(volume, found[arn]) for arn, volume in volumes.items()}
    return tuple(f"{arn} ({words})" if words else arn for arn, words in sorted(found.items()))


def _ids(found: Mapping[str, str], kind: str) -> dict[str, str]:
    return {arn: arn.rpartition("/")[2] for arn in found if kind in arn}
