"""Releases that an interrupted or failed apply left in a state from which Helm does not go on by itself.

What is wrong with each status, and what is done about it, is the table `REMEDIES`. cali has no helm: it takes the
record of a revision away that never ended, which makes the one before it the current one again, or does what
`helm uninstall` does, without the volumes. Source: Helm 4.1, `pkg/action`: an install refuses a name that has any
record, an upgrade a last revision that is pending; it goes on from the one that is deployed, or else from a last
one that failed or is superseded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core import releases
from cali_infra.core.diagnostics import PLACES, Evidence, Place
from cali_infra.core.manifests import tier
from cali_infra.core.releases import Revision
from cali_infra.errors import CaliError, ConflictError, InvalidObjectError

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes

# For so long Helm may still be at work on what it has not ended: the longest `timeout` of a release, and as long
# again to take it back.
AT_WORK = timedelta(minutes=31)
# What an uninstall leaves: volumes, and what others may have made objects of.
_STAYS = frozenset({"PersistentVolumeClaim", "PersistentVolume", "CustomResourceDefinition", "Namespace"})
_OWNER_NAME, _OWNER_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
_POLICY = "helm.sh/resource-policy"


class Remedy(Enum):
    """What is done about a release."""

    ROLL_BACK = "take the revision that never ended off its record, so that Helm goes on from the one before"
    UNINSTALL = "uninstall it; it never ran, and its volumes stay"
    FINISH = "end its uninstall; its volumes stay"
    NOTHING = "nothing: the next apply upgrades it"


# By what the last revision is, and whether an earlier one ever ran.
REMEDIES: Mapping[tuple[str, bool], Remedy] = {
    **{(status, True): Remedy.ROLL_BACK for status in releases.PENDING},
    **{(status, False): Remedy.UNINSTALL for status in releases.PENDING},
    (releases.FAILED, True): Remedy.NOTHING,
    (releases.FAILED, False): Remedy.UNINSTALL,
    (releases.UNINSTALLING, True): Remedy.FINISH,
    (releases.UNINSTALLING, False): Remedy.FINISH,
}

# By stage: the releases that it applies, each with its namespace.
RELEASES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "autoscaler": (("kube-system", "cluster-autoscaler"),),
    "services": (("airflow", "airflow"), ("milvus", "milvus"), ("grafana", "grafana")),
}


@dataclass(frozen=True)
class Wedged:
    """A release that has to be put right first. `goes` are the objects that are deleted for it, with their
    uid, `stays` what of it is left; `at_work` says that somebody may still be at it."""

    stage: str
    last: Revision
    remedy: Remedy
    goes: tuple[tuple[ObjectRef, str], ...]
    stays: tuple[ObjectRef, ...]
    at_work: bool
    evidence: Evidence

    def __str__(self) -> str:
        last = self.last
        since = f" since {last.changed_at:%Y-%m-%d %H:%M} UTC" if last.changed_at else ""
        told = f": {last.description}" if last.description else ""
        where = f"the Helm release {last.namespace}/{last.name}"
        return f"{where} is {last.status} (revision {last.number}{since}){told}"


def find(
    kubernetes: Kubernetes, stages: Sequence[str], now: datetime, switched_on: Callable[[str], bool]
) -> tuple[tuple[Wedged, ...], tuple[str, ...]]:
    """The releases of these stages that stand in their own way, and what is worth a word of the others.

    Those of services that are off are Terraform's to take away. Raises KubernetesError.
    """
    found: list[Wedged] = []
    notes: list[str] = []
    for stage in stages:
        for namespace, name in RELEASES.get(stage, ()):
            if not switched_on(name):
                continue
            history = releases.read(kubernetes, namespace).get((namespace, name), [])
            if not history:
                continue
            last = history[-1]
            ran = any(one.status in releases.RAN for one in history[:-1])
            remedy = REMEDIES.get((last.status, ran))
            if remedy is None:
                continue
            if remedy is Remedy.NOTHING:
                notes.append(f"{stage}: the last upgrade of the release {name} failed: {last.description}")
                continue
            found.append(_wedged(kubernetes, stage, history, remedy, now))
    return tuple(found), tuple(notes)


def mend(kubernetes: Kubernetes, wedged: Wedged, tell: Callable[[str], None]) -> None:
    """Delete what the release's remedy says, the records last: interrupted, it is found again.

    Raises KubernetesError, and ConflictError where the release has moved on since, or an object is another one.
    """
    last = wedged.last
    # Whoever was at work ends a revision in the Secret that it began in.
    history = releases.read(kubernetes, last.namespace).get((last.namespace, last.name), [])
    if not history or (history[-1].secret, history[-1].status) != (last.secret, last.status):
        raise ConflictError(
            f"the release {last.namespace}/{last.name} has moved on since it was looked at",
            remedy="run the command again: it shows how the release stands now",
        )
    for ref, uid in wedged.goes:
        tell(f"deleting {ref}")
        kubernetes.delete(ref, wait=60.0, uid=uid)


def _wedged(
    kubernetes: Kubernetes, stage: str, history: Sequence[Revision], remedy: Remedy, now: datetime
) -> Wedged:
    last = history[-1]
    if remedy is Remedy.ROLL_BACK:
        unended = takewhile(lambda one: one.status in releases.PENDING, reversed(history))
        goes = [one.secret for one in unended]
        stays: list[ObjectRef] = []
    else:
        objects, stays = _objects(kubernetes, history)
        goes = [*objects, *(one.secret for one in reversed(history))]
    evidence = Evidence()
    for place in _places(stage, last):
        try:
            evidence.look(kubernetes, place)
        except CaliError as error:
            evidence.problems[error.message] = None
    # A record without a moment is not known to be old.
    at_work = last.status != releases.FAILED and (last.changed_at is None or now - last.changed_at < AT_WORK)
    return Wedged(stage, last, remedy, tuple(goes), tuple(stays), at_work, evidence)


def _places(stage: str, last: Revision) -> Iterator[Place]:
    return (place for place in PLACES[stage] if place.namespace == last.namespace)


def _objects(
    kubernetes: Kubernetes, history: Sequence[Revision]
) -> tuple[list[tuple[ObjectRef, str]], list[ObjectRef]]:
    """What of the release's manifests is there and carries its name, workloads first; and what of it stays."""
    gone: dict[ObjectRef, str] = {}
    stays: list[ObjectRef] = []
    last = history[-1]
    for ref in dict.fromkeys(ref for revision in history for ref in revision.objects()):
        live: dict[str, Any] | None = None
        # A kind that the cluster does not have was not made either.
        with suppress(InvalidObjectError):
            live = kubernetes.get(ref)
        if live is None:
            continue
        notes = live["metadata"].get("annotations") or {}
        if (notes.get(_OWNER_NAME), notes.get(_OWNER_NAMESPACE)) != (last.name, last.namespace):
            continue
        if ref.kind in _STAYS or notes.get(_POLICY) == "keep":
            stays.append(ref)
        else:
            gone[ref] = str(live["metadata"]["uid"])
    backwards = sorted(gone, key=lambda ref: (-tier(ref.kind), str(ref)))
    return [(ref, gone[ref]) for ref in backwards], stays
