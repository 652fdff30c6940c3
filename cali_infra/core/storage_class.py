"""The default StorageClass `gp2`, over whatever class of that name EKS has made.

A new EKS cluster holds a `gp2` with the in-tree provisioner. Most fields of a StorageClass cannot be changed, so
such a class is deleted and made anew; volumes keep what they were made with. Afterwards exactly one class is the
default. Source: facts, "StorageClass".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from cali_infra.adapters.kubernetes import Kubernetes, Object, ref_of
from cali_infra.core.manifests import Inventory, differences
from cali_infra.core.plans import Action, ResourceChange, StagePlan
from cali_infra.core.progress import Progress
from cali_infra.errors import KubernetesError

DEFAULT = "storageclass.kubernetes.io/is-default-class"
_BETA_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"
_IMMUTABLE: Mapping[str, Any] = {
    "provisioner": None,
    "parameters": {},
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "Immediate",
}
_API = "storage.k8s.io/v1"


@dataclass(frozen=True)
class StorageClassPlan(StagePlan):
    """A plan with the class to write and the names of the classes that stop being the default."""

    wanted: Object = field(default_factory=dict, repr=False)
    demoted: tuple[str, ...] = ()


class StorageClassWork:
    """The work of the stage `storage`; satisfies `cluster_stages.Work`. `objects()` renders the one class."""

    def __init__(self, stage: str, kubernetes: Kubernetes, objects: Callable[[], Sequence[Object]]) -> None:
        self._stage = stage
        self._kubernetes = kubernetes
        self._objects = objects
        self._inventory = Inventory(stage, kubernetes)

    def exists(self) -> bool:
        return self._inventory.read() is not None

    def plan(self, watch: Progress) -> StorageClassPlan:
        (wanted,) = self._objects()
        ref = ref_of(wanted)
        classes = {c["metadata"]["name"]: c for c in self._kubernetes.list(_API, "StorageClass")}
        live = classes.pop(ref.name, None)
        changes = []
        if live is None:
            changes.append(ResourceChange(str(ref), Action.CREATE))
        elif _immutable(live) != _immutable(wanted):
            fields = tuple(differences(_shown(live), _shown(wanted)))
            changes.append(ResourceChange(str(ref), Action.REPLACE, fields))
        else:
            fields = tuple(differences(live, self._kubernetes.apply(wanted, dry_run=True)))
            if fields:
                changes.append(ResourceChange(str(ref), Action.UPDATE, fields))
        demoted = tuple(sorted(name for name, other in classes.items() if _is_default(other)))
        changes += [
            ResourceChange(f"StorageClass {name}", Action.UPDATE, (f'{DEFAULT}: "true" -> "false"',))
            for name in demoted
        ]
        return StorageClassPlan(
            self._stage,
            tuple(changes),
            ("volumes made with the old gp2 are not touched",) if _replaces(changes) else (),
            wanted=wanted,
            demoted=demoted,
        )

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Write the class, then take the default from every other.

        Raises KubernetesError when the new class is refused; the old one is put back first.
        """
        assert isinstance(plan, StorageClassPlan)
        ref = ref_of(plan.wanted)
        if _replaces(plan.changes):
            old = self._kubernetes.get(ref)
            self._kubernetes.apply(_renamed(plan.wanted), dry_run=True)
            self._kubernetes.delete(ref, wait=30)
            try:
                self._kubernetes.apply(plan.wanted)
            except KubernetesError:
                if old is not None:
                    self._kubernetes.create(_bare(old))
                    watch.warn(f"the new {ref} was refused; the old one is back", stage=self._stage)
                raise
        else:
            self._kubernetes.apply(plan.wanted)
        watch.resource(self._stage, str(ref), "create", "complete", 0.0)
        for name in plan.demoted:
            other = ref_of({"apiVersion": _API, "kind": "StorageClass", "metadata": {"name": name}})
            off = {DEFAULT: "false", _BETA_DEFAULT: None}
            self._kubernetes.patch(other, {"metadata": {"annotations": off}})
            watch.note(f"{other} is no longer the default", stage=self._stage)
        self._inventory.write([ref])

    def contents(self) -> tuple[ResourceChange, ...]:
        return tuple(ResourceChange(str(ref), Action.DELETE) for ref in self._inventory.read() or ())

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        gone = self.contents()
        for ref in self._inventory.read() or ():
            self._kubernetes.delete(ref)
        self._inventory.remove()
        return gone


def _replaces(changes: Sequence[ResourceChange]) -> bool:
    return any(change.action is Action.REPLACE for change in changes)


def _immutable(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {key: obj.get(key) or default for key, default in _IMMUTABLE.items()}


def _shown(obj: Mapping[str, Any]) -> Object:
    return {**_immutable(obj), "metadata": {}}


def _is_default(obj: Mapping[str, Any]) -> bool:
    annotations = obj["metadata"].get("annotations") or {}
    return "true" in (annotations.get(DEFAULT), annotations.get(_BETA_DEFAULT))


def _renamed(obj: Object) -> Object:
    """The class under a name that is free: the server looks at it before the old one is deleted."""
    return {**obj, "metadata": {**obj["metadata"], "name": f"{obj['metadata']['name']}-cali-check"}}


def _bare(obj: Object) -> Object:
    """An object that was read, without what the server set, so that it can be created again."""
    kept = ("name", "labels", "annotations")
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key in kept}}
