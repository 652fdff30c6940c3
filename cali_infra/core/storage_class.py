"""The default StorageClass `gp2`, over whatever class of that name EKS has made.

A new EKS cluster holds a `gp2` with the in-tree provisioner. Most fields of a StorageClass cannot be changed, so
such a class is deleted and made anew; volumes keep what they were made with. Afterwards exactly one class is the
default. Source: facts, "StorageClass".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from cali_infra.adapters.kubernetes import Kubernetes, Object, ObjectRef, ref_of
from cali_infra.core.inventory import Holdings, Inventory
from cali_infra.core.object_diff import brief, differences, walk
from cali_infra.core.progress import Progress
from cali_infra.errors import ConflictError, KubernetesError, RunInterruptedError
from cali_infra.plans import Action, ResourceChange, StagePlan

DEFAULT = "storageclass.kubernetes.io/is-default-class"
# The older name, which the API server still heeds.
BETA_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"
# What cannot be changed, with what the server puts in when it is left out.
_IMMUTABLE: Mapping[str, Any] = {
    "provisioner": None,
    "parameters": {},
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "Immediate",
}
_API = "storage.k8s.io/v1"
_GONE = 30.0


@dataclass(frozen=True)
class StorageClassPlan(StagePlan):
    """A plan with the class to write, what that does to the one that is there, and who is demoted.

    `old` is the class that is to be replaced, with all that it takes to put it back.
    """

    wanted: Object = field(default_factory=dict, repr=False)
    action: Action | None = None
    old: Object | None = field(default=None, repr=False)
    demoted: tuple[ObjectRef, ...] = ()
    holdings: Holdings = field(default_factory=Holdings)


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
        """Compare, and have the server look at the new class; nothing is written. Raises KubernetesError."""
        (wanted,) = self._objects()
        ref = ref_of(wanted)
        classes = {item["metadata"]["name"]: item for item in self._kubernetes.list(_API, "StorageClass")}
        live = classes.pop(ref.name, None)
        own = self._compare(live, wanted)
        demoted = tuple(_ref(name) for name, other in sorted(classes.items()) if is_default(other))
        before = self._inventory.read()
        replaced = own is not None and own.action is Action.REPLACE
        # A class that was there and fits is not ours to delete later, a replaced one is.
        made = live is None or replaced or (before is not None and before.made.get(ref, False))
        holdings = Holdings({ref: made}, complete=True)
        record = self._inventory.change(before, holdings)
        demotions = [
            ResourceChange(str(other), Action.UPDATE, (f"default class: true -> false, {ref.name} is it",))
            for other in demoted
        ]
        changes = [change for change in (own, *demotions, record) if change is not None]
        return StorageClassPlan(
            self._stage,
            tuple(changes),
            (f"{ref} is deleted and made anew; volumes that are bound are not touched",) if replaced else (),
            wanted=wanted,
            action=own.action if own else None,
            old=live if replaced else None,
            demoted=demoted,
            holdings=holdings,
        )

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Write the class, then take the default from every other.

        Raises KubernetesError when the new class is refused; the old one is put back first. Raises
        RunInterruptedError after `cancel`, before anything is written or once the class stands.
        """
        assert isinstance(plan, StorageClassPlan)
        ref = ref_of(plan.wanted)
        _stop(cancel)
        self._inventory.write(Holdings(plan.holdings.made, complete=False))
        if plan.action is not None:
            watch.resource(self._stage, str(ref), plan.action.value, "started", 0.0)
            if plan.old is not None:
                self._replace(ref, plan.old, plan.wanted, watch)
            else:
                self._kubernetes.apply(plan.wanted, force=True)
            watch.resource(self._stage, str(ref), plan.action.value, "complete", 0.0)
        for other in plan.demoted:
            _stop(cancel)
            annotations = {DEFAULT: "false", BETA_DEFAULT: None}
            self._kubernetes.patch(other, {"metadata": {"annotations": annotations}})
            watch.resource(self._stage, str(other), Action.UPDATE.value, "complete", 0.0)
        self._inventory.write(plan.holdings)

    def contents(self) -> tuple[ResourceChange, ...]:
        holdings = self._inventory.read()
        if holdings is None:
            return ()
        return tuple(ResourceChange(str(r), Action.DELETE) for r in (*holdings.own, self._inventory.ref))

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        """Delete the class if cali made it; volumes made with it stay, and so does what was demoted."""
        gone = self.contents()
        for ref in (self._inventory.read() or Holdings()).own:
            _stop(cancel)
            self._kubernetes.delete(ref)
            watch.resource(self._stage, str(ref), Action.DELETE.value, "complete", 0.0)
        self._inventory.remove()
        return gone

    def _compare(self, live: Object | None, wanted: Object) -> ResourceChange | None:
        ref = ref_of(wanted)
        if live is None:
            self._kubernetes.apply(wanted, dry_run=True)
            return ResourceChange(str(ref), Action.CREATE)
        fields = tuple(immutable_differences(live, wanted))
        if fields:
            # The server looks at the new class under a name that is free, before the old one is deleted.
            self._kubernetes.apply(_renamed(wanted), dry_run=True)
            return ResourceChange(str(ref), Action.REPLACE, fields)
        # Whoever set a field, the default annotation say: this class is the platform's, and the plan shows it.
        fields = tuple(differences(live, self._kubernetes.apply(wanted, dry_run=True, force=True)))
        return ResourceChange(str(ref), Action.UPDATE, fields) if fields else None

    def _replace(self, ref: ObjectRef, old: Object, wanted: Object, watch: Progress) -> None:
        # Only the class that was shown: another one of the name made since would be a ConflictError.
        self._kubernetes.delete(ref, wait=_GONE, uid=old["metadata"]["uid"])
        try:
            self._kubernetes.apply(wanted)
        except KubernetesError as error:
            self._put_back(ref, old, error)
            watch.warn(f"the new {ref} was refused; the old one is back", stage=self._stage)
            raise

    def _put_back(self, ref: ObjectRef, old: Object, refusal: KubernetesError) -> None:
        """Make the old class again; raises KubernetesError, with the refusal in it, where that fails too."""
        try:
            try:
                self._kubernetes.create(_bare(old))
            except ConflictError:
                # There is one. Where only an answer was lost on its way, it is the old one.
                live = self._kubernetes.get(ref)
                if live is None or any(immutable_differences(live, old)):
                    raise
        except KubernetesError as again:
            remedy = "there is no such class now, which harms no volume: run `cali up storage` again"
            if isinstance(again, ConflictError):
                remedy = f"look at the one that is there: kubectl get storageclass {ref.name} -o yaml"
            raise KubernetesError(
                f"{refusal.message}; and the old {ref} could not be put back: {again.message}",
                object_ref=str(ref),
                status=refusal.status,
                remedy=remedy,
            ) from refusal


def immutable_differences(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Where two classes differ in what cannot be changed, as dotted paths with old and new value."""
    for path, old, new in walk(_fixed(live), _fixed(wanted)):
        yield f"{path}: {brief(old)} -> {brief(new)}"


def is_default(obj: Mapping[str, Any]) -> bool:
    """Whether claims without a class get this one."""
    annotations = obj["metadata"].get("annotations") or {}
    return "true" in (annotations.get(DEFAULT), annotations.get(BETA_DEFAULT))


def _fixed(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {key: obj.get(key) or default for key, default in _IMMUTABLE.items()}


def _ref(name: str) -> ObjectRef:
    return ObjectRef(_API, "StorageClass", None, name)


def _renamed(obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "name": f"{obj['metadata']['name']}-cali-check"}}


def _bare(obj: Object) -> Object:
    """An object that was read, without what the server set, so that it can be created again."""
    kept = ("name", "labels", "annotations")
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key in kept}}


def _stop(cancel: Event) -> None:
    if cancel.is_set():
        raise RunInterruptedError("interrupted; `cali up storage` goes on from there")
