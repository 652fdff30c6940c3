"""A set of Kubernetes objects as a stage: what would change, in which order it is written, what is pruned.

An inventory, a ConfigMap in `kube-system`, says what a stage made: it lives in the cluster, so that any laptop
knows what to prune and what to delete. Only what is in it is ever deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from threading import Event
from typing import Any

from cali_infra.adapters.kubernetes import CONNECTIONS, Kubernetes, Object, ObjectRef, ref_of
from cali_infra.core.plans import Action, ResourceChange, StagePlan
from cali_infra.core.progress import Progress
from cali_infra.core.rollout import ROLLED_OUT, wait_for_rollout
from cali_infra.errors import KubernetesError

INVENTORY_NAMESPACE = "kube-system"
# Kinds that others stand on come first; what is not named comes before the workloads. Backwards for deletion.
_ORDER = (
    ("Namespace", "CustomResourceDefinition"),
    ("PriorityClass", "StorageClass", "ServiceAccount", "ClusterRole", "Role"),
    ("ClusterRoleBinding", "RoleBinding", "ConfigMap", "Secret", "PersistentVolumeClaim", "Service"),
    (),
    ("DaemonSet", "Deployment", "StatefulSet", "Job", "CronJob"),
)
_TIER = {kind: tier for tier, kinds in enumerate(_ORDER) for kind in kinds}
_OTHERS = _ORDER.index(())
# What the server sets by itself and what is no difference to a reader.
_NOISE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")


def tier(kind: str) -> int:
    """The place of a kind in the order of writing."""
    return _TIER.get(kind, _OTHERS)


@dataclass(frozen=True)
class ManifestPlan(StagePlan):
    """A plan with what it takes to apply it: the objects that differ, and those that have no place any more."""

    writes: tuple[Object, ...] = field(default=(), repr=False)
    prunes: tuple[ObjectRef, ...] = ()


class ManifestWork:
    """The work of a stage that is a set of objects; satisfies `cluster_stages.Work`.

    `objects()` renders them; it is called once a plan.
    """

    def __init__(self, stage: str, kubernetes: Kubernetes, objects: Callable[[], Sequence[Object]]) -> None:
        self._stage = stage
        self._kubernetes = kubernetes
        self._objects = objects
        self._inventory = Inventory(stage, kubernetes)

    def exists(self) -> bool:
        return self._inventory.read() is not None

    def plan(self, watch: Progress) -> ManifestPlan:
        """Ask the server, by a dry run of every object, what would differ; nothing is written.

        Raises the first KubernetesError by the objects' order.
        """
        objects = sorted(self._objects(), key=lambda obj: tier(obj["kind"]))
        made_here = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "Namespace"}
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="dry-run") as pool:
            found = list(pool.map(lambda obj: self._compare(obj, made_here), objects))
        wanted = {ref_of(obj) for obj in objects}
        prunes = tuple(
            ref
            for ref in self._inventory.read() or ()
            if ref not in wanted and self._kubernetes.get(ref) is not None
        )
        changes = [change for change in found if change is not None]
        changes += [ResourceChange(str(ref), Action.DELETE) for ref in prunes]
        return ManifestPlan(
            self._stage,
            tuple(changes),
            writes=tuple(obj for obj, change in zip(objects, found, strict=True) if change is not None),
            prunes=prunes,
        )

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Write what differs, tier by tier, wait for the rollout, then prune what has no place any more.

        Raises the first error of a tier after the whole tier was tried: one bad object hides no other.
        """
        assert isinstance(plan, ManifestPlan)
        before = self._inventory.read() or ()
        self._inventory.write({*before, *(ref_of(obj) for obj in plan.writes)})
        for objects in _tiers(plan.writes):
            self._write(objects, watch)
        for obj in plan.writes:
            if obj["kind"] in ROLLED_OUT:
                wait_for_rollout(self._kubernetes, ref_of(obj), watch, self._stage, cancel)
        for ref in plan.prunes:
            self._kubernetes.delete(ref)
            watch.note(f"pruned {ref}", stage=self._stage)
        kept = {*before, *(ref_of(obj) for obj in plan.writes)} - set(plan.prunes)
        self._inventory.write(kept)

    def contents(self) -> tuple[ResourceChange, ...]:
        return tuple(ResourceChange(str(ref), Action.DELETE) for ref in self._made())

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        """Delete what the inventory names, workloads first, then the inventory itself."""
        gone = []
        for ref in self._made():
            if self._kubernetes.delete(ref):
                gone.append(ResourceChange(str(ref), Action.DELETE))
                watch.resource(self._stage, str(ref), "delete", "complete", 0.0)
        self._inventory.remove()
        return tuple(gone)

    def _made(self) -> list[ObjectRef]:
        return sorted(self._inventory.read() or (), key=lambda ref: (-tier(ref.kind), str(ref)))

    def _compare(self, obj: Object, made_here: set[str]) -> ResourceChange | None:
        ref = ref_of(obj)
        live = self._kubernetes.get(ref)
        try:
            wanted = self._kubernetes.apply(obj, dry_run=True)
        except KubernetesError as error:
            # Its namespace comes with this very stage, so the server cannot look at it yet.
            if live is None and error.status == 404 and ref.namespace in made_here:
                return ResourceChange(str(ref), Action.CREATE)
            raise
        if live is None:
            return ResourceChange(str(ref), Action.CREATE)
        fields = tuple(differences(live, wanted))
        return ResourceChange(str(ref), Action.UPDATE, fields) if fields else None

    def _write(self, objects: Sequence[Object], watch: Progress) -> None:
        def write(obj: Object) -> KubernetesError | None:
            ref = ref_of(obj)
            try:
                self._kubernetes.apply(obj)
            except KubernetesError as error:
                watch.resource(self._stage, str(ref), "create", "errored", 0.0)
                return error
            watch.resource(self._stage, str(ref), "create", "complete", 0.0)
            return None

        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="apply") as pool:
            errors = [error for error in pool.map(write, objects) if error is not None]
        for error in errors[1:]:
            watch.warn(error.message, stage=self._stage)
        if errors:
            raise errors[0]


class Inventory:
    """What a stage made, kept in the cluster as a ConfigMap."""

    def __init__(self, stage: str, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes
        self._ref = ObjectRef("v1", "ConfigMap", INVENTORY_NAMESPACE, f"cali-inventory-{stage}")

    def read(self) -> tuple[ObjectRef, ...] | None:
        """The objects, or None where the stage was never applied."""
        found = self._kubernetes.get(self._ref)
        if found is None:
            return None
        return tuple(ObjectRef(*item) for item in json.loads(found["data"]["objects"]))

    def write(self, refs: Iterable[ObjectRef]) -> None:
        """Replace the list."""
        items = sorted([ref.api_version, ref.kind, ref.namespace, ref.name] for ref in refs)
        self._kubernetes.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": self._ref.name,
                    "namespace": self._ref.namespace,
                    "labels": {"app.kubernetes.io/managed-by": "cali"},
                },
                "data": {"objects": json.dumps(items)},
            }
        )

    def remove(self) -> None:
        """Forget the stage."""
        self._kubernetes.delete(self._ref)


def differences(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two versions of an object, as dotted paths with old and new value.

    A Secret's values are never shown.
    """
    hidden = wanted.get("kind") == "Secret"
    for path, old, new in _walk(_comparable(live), _comparable(wanted), ""):
        secret = hidden and path.startswith("data")
        yield f"{path}: changed" if secret else f"{path}: {_brief(old)} -> {_brief(new)}"


def _comparable(obj: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in obj.items() if key != "status"}
    rest["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in _NOISE}
    return rest


def _walk(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _walk(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _walk(before, after, f"{path}[{index}]")
    elif old != new:
        yield path, old, new


def _brief(value: Any) -> str:
    text = "(none)" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _tiers(objects: Sequence[Object]) -> Iterator[list[Object]]:
    ordered = sorted(objects, key=lambda obj: tier(obj["kind"]))
    for _, group in groupby(ordered, key=lambda obj: tier(obj["kind"])):
        yield list(group)
