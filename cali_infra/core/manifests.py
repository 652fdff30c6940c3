"""A set of Kubernetes objects as a stage: what would change, in which order it is written, what is pruned.

A plan asks the server by dry runs; an apply writes what differs, many objects at a time, waits until the
workloads run, and only then prunes. What was made here is remembered by `inventory.py`, and nothing else is ever
deleted. What a difference is stands in `object_diff.py`, waiting in `rollout.py`.

Fields that another manager holds are left alone and told, with two exceptions: what cali applied before is taken
back like any other drift, and `force` takes over the rest. The plan says which.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from threading import Event, Lock
from typing import TypeVar

from cali_infra.adapters.kubernetes import CONNECTIONS, FIELD_MANAGER, Kubernetes, Object, ObjectRef, ref_of
from cali_infra.adapters.kubernetes_errors import conflict
from cali_infra.core.inventory import Holdings, Inventory
from cali_infra.core.managed_fields import owned, owned_paths, settled
from cali_infra.core.object_diff import differences
from cali_infra.core.progress import Progress
from cali_infra.core.rollout import ROLLED_OUT, wait_for_rollout
from cali_infra.errors import ConflictError, InvalidObjectError, KubernetesError, RunInterruptedError
from cali_infra.plans import Action, ResourceChange, StagePlan

MANAGED_BY = "app.kubernetes.io/managed-by"
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
# Seconds until a deleted object is gone: a namespace waits for its pods, which have their grace period.
_GONE = {"Namespace": 300.0}
_GONE_OTHERS = 60.0
# From so many objects of a kind in a namespace on, one list is cheaper than a look at each.
_MANY = 8
# Of more new objects than this that are alike but for their values, only so many are shown to the server by a plan.
_ALIKE, _SAMPLES = 64, 8

T = TypeVar("T")
R = TypeVar("R")


def tier(kind: str) -> int:
    """The place of a kind in the order of writing."""
    return _TIER.get(kind, _OTHERS)


@dataclass(frozen=True)
class Write:
    """One object to be applied, what that does to it, and the fields that it takes from other managers."""

    obj: Object
    action: Action
    takes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ManifestPlan(StagePlan):
    """A plan with what it takes to apply it.

    `objects` is the whole set, `writes` what differs, `prunes` what has no place any more, with the uid that it
    had; `holdings` is the record afterwards, but for the fields of what is written.
    """

    objects: tuple[Object, ...] = field(default=(), repr=False)
    writes: tuple[Write, ...] = field(default=(), repr=False)
    prunes: tuple[tuple[ObjectRef, str], ...] = ()
    holdings: Holdings = field(default_factory=Holdings)


@dataclass(frozen=True)
class _Found:
    """What a dry run says of one object."""

    existed: bool
    change: ResourceChange | None
    fields: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Obsolete:
    """What the record names and the stage no longer has: what to delete, what stays recorded, what to say of it."""

    prunes: tuple[tuple[ObjectRef, str], ...]
    kept: tuple[ObjectRef, ...]
    words: tuple[str, ...]


class ManifestWork:
    """The work of a stage that is a set of objects; satisfies `cluster_stages.Work`.

    `objects()` renders them; it is called once a plan. With `force` fields of other managers are taken over that
    were never cali's; without it they make a ConflictError. What is of a kind in `keep` and has no place any more
    stays, and stays recorded: only `destroy` deletes it.
    """

    def __init__(
        self,
        stage: str,
        kubernetes: Kubernetes,
        objects: Callable[[], Sequence[Object]],
        *,
        force: bool = False,
        keep: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._kubernetes = kubernetes
        self._objects = objects
        self._force = force
        self._keep = keep
        self._clock = clock
        self._inventory = Inventory(stage, kubernetes)

    def exists(self) -> bool:
        return self._inventory.read() is not None

    def plan(self, watch: Progress) -> ManifestPlan:
        """Ask the server, by a dry run of every object, what would differ; nothing is written.

        Raises the KubernetesError of the one object that is refused, or one that names them all.
        """
        objects = sorted(map(_labelled, self._objects()), key=lambda obj: tier(obj["kind"]))
        refs = [ref_of(obj) for obj in objects]
        _refuse_twins(refs)
        spaces = {ref.name for ref in refs if ref.kind == "Namespace"}
        before = self._inventory.read()
        known = before or Holdings()
        look, alike = _Live(self._kubernetes, refs), _beyond_samples(objects)
        found = _each(lambda obj: self._compare(obj, look, known, spaces, alike), objects)
        obsolete = self._obsolete(known, set(refs))
        # What an interrupted apply made is there by now, and still ours.
        made = {
            ref: not one.existed or known.made.get(ref, False) for ref, one in zip(refs, found, strict=True)
        }
        fields = {ref: one.fields for ref, one in zip(refs, found, strict=True) if one.fields}
        made |= dict.fromkeys(obsolete.kept, True)
        fields |= {ref: known.fields[ref] for ref in obsolete.kept if ref in known.fields}
        holdings = Holdings(made, complete=True, fields=fields)
        changes = [one.change for one in found if one.change is not None]
        changes += [ResourceChange(str(ref), Action.DELETE) for ref, _ in obsolete.prunes]
        # That an object which is written sets other fields goes without saying.
        written = {ref for ref, one in zip(refs, found, strict=True) if one.change is not None}
        told = {
            ref: known.fields.get(ref, frozenset()) if ref in written else paths
            for ref, paths in fields.items()
        }
        record = self._inventory.change(
            before, replace(holdings, fields={r: p for r, p in told.items() if p})
        )
        if record is not None:
            changes.append(record)
        return ManifestPlan(
            self._stage,
            tuple(changes),
            (*(warning for one in found for warning in one.warnings), *obsolete.words),
            objects=tuple(objects),
            writes=tuple(
                Write(obj, one.change.action, one.takes)
                for obj, one in zip(objects, found, strict=True)
                if one.change is not None
            ),
            prunes=obsolete.prunes,
            holdings=holdings,
        )

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Write what differs, tier by tier, wait for the rollout, then prune what has no place any more.

        A tier is tried whole before an error is raised: one bad object hides no other. Raises KubernetesError,
        and RunInterruptedError after `cancel`; the next apply goes on from there.
        """
        assert isinstance(plan, ManifestPlan)
        before = self._inventory.read() or Holdings()
        # What is about to be made is remembered first: after a crash it is known whose it is.
        made = {**before.made, **plan.holdings.made}
        self._inventory.write(Holdings(made, complete=False, fields=before.fields))
        fields = dict(plan.holdings.fields)
        for writes in _tiers(plan.writes, lambda write: str(write.obj["kind"])):
            if cancel.is_set():
                raise RunInterruptedError(f"interrupted; `cali up {self._stage}` goes on from there")
            written = _each(lambda write: self._write(write, watch), writes)
            fields |= {ref_of(write.obj): paths for write, paths in zip(writes, written, strict=True)}
        for obj in plan.objects:
            if obj["kind"] in ROLLED_OUT:
                wait_for_rollout(self._kubernetes, ref_of(obj), watch, self._stage, cancel, clock=self._clock)
        _each(lambda prune: self._delete(*prune, watch), plan.prunes)
        self._inventory.write(replace(plan.holdings, fields=fields))

    def contents(self) -> tuple[ResourceChange, ...]:
        holdings = self._inventory.read()
        if holdings is None:
            return ()
        refs = [*_backwards(holdings.own), self._inventory.ref]
        return tuple(ResourceChange(str(ref), Action.DELETE) for ref in refs)

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        """Delete what cali made here, workloads first and namespaces last, and then the record itself."""
        holdings = self._inventory.read()
        if holdings is None:
            return ()
        gone: list[ResourceChange] = []
        for refs in _tiers(_backwards(holdings.own), lambda ref: ref.kind):
            if cancel.is_set():
                raise RunInterruptedError("interrupted; what is not deleted yet is still recorded")
            found = self._ours(refs)
            _each(lambda item: self._delete(*item, watch), found)
            gone += [ResourceChange(str(ref), Action.DELETE) for ref, _ in found]
        for ref in sorted(set(holdings.made) - set(holdings.own), key=str):
            watch.note(f"{ref} was there before cali and stays", stage=self._stage)
        self._inventory.remove()
        return (*gone, ResourceChange(str(self._inventory.ref), Action.DELETE))

    # -- one object -------------------------------------------------------------------------------------

    def _compare(
        self,
        obj: Object,
        look: _Live,
        known: Holdings,
        spaces: Collection[str],
        alike: Collection[ObjectRef],
    ) -> _Found:
        ref = ref_of(obj)
        live = look(ref)
        if live is not None and settled(live, obj):
            return _Found(True, None, owned_paths(live))
        if live is None and ref in alike:
            return _Found(False, ResourceChange(str(ref), Action.CREATE))
        owners: Mapping[str, str] = {}
        try:
            wanted = self._kubernetes.apply(obj, dry_run=True)
        except ConflictError as error:
            owners = error.owners
            strange = {path: owner for path, owner in owners.items() if path not in known.fields.get(ref, ())}
            if not owners:
                raise
            if strange and not self._force:
                raise conflict(str(ref), strange, status=error.status) from error
            wanted = self._kubernetes.apply(obj, dry_run=True, force=True)
        except KubernetesError as error:
            # Its namespace comes with this very stage, so the server cannot look at it yet.
            if live is None and error.status == 404 and ref.namespace in spaces:
                return _Found(False, ResourceChange(str(ref), Action.CREATE))
            raise
        fields = owned_paths(wanted)
        if live is None:
            return _Found(False, ResourceChange(str(ref), Action.CREATE), fields)
        changed = tuple(differences(live, wanted))
        return _Found(
            True,
            ResourceChange(str(ref), Action.UPDATE, changed) if changed else None,
            fields,
            frozenset(owners),
            tuple(_taken(ref, owners, known.fields.get(ref, frozenset()))),
        )

    def _obsolete(self, before: Holdings, wanted: Collection[ObjectRef]) -> _Obsolete:
        left = {ref: made for ref, made in before.made.items() if ref not in wanted}
        own = self._ours([ref for ref, made in left.items() if made])
        kept = tuple(ref for ref, _ in own if ref.kind in self._keep)
        # Said by the plan with which what is in it leaves the record, and not by each one after that.
        emptied = {ref.namespace for ref in left}
        return _Obsolete(
            tuple(one for one in own if one[0] not in kept),
            kept,
            (
                *(
                    f"{ref} has no place in the stage any more and stays: cali did not make it"
                    for ref, made in left.items()
                    if not made
                ),
                *(
                    f"{ref} stays, with its volumes and whatever else is in it; `cali down` deletes it"
                    for ref in kept
                    if ref.name in emptied
                ),
            ),
        )

    def _ours(self, refs: Sequence[ObjectRef]) -> list[tuple[ObjectRef, str]]:
        """Those that are there, with their uid; not what somebody else made under the same name since."""
        found = zip(refs, _each(self._kubernetes.get, refs), strict=True)
        return [
            (ref, str(live["metadata"]["uid"])) for ref, live in found if live and owned(live) is not None
        ]

    def _write(self, write: Write, watch: Progress) -> frozenset[str]:
        """Apply one object; returns the fields that cali manages in it then."""

        def send() -> Object:
            try:
                return self._kubernetes.apply(write.obj)
            except ConflictError as error:
                # Only what was shown, or asked for: somebody may have set another field since.
                if not error.owners or not (self._force or error.owners.keys() <= write.takes):
                    raise
                return self._kubernetes.apply(write.obj, force=True)

        return owned_paths(self._watched(ref_of(write.obj), write.action, watch, send))

    def _delete(self, ref: ObjectRef, uid: str, watch: Progress) -> bool:
        wait = _GONE.get(ref.kind, _GONE_OTHERS)
        return self._watched(
            ref, Action.DELETE, watch, lambda: self._kubernetes.delete(ref, wait=wait, uid=uid)
        )

    def _watched(self, ref: ObjectRef, action: Action, watch: Progress, do: Callable[[], R]) -> R:
        started = self._clock()
        watch.resource(self._stage, str(ref), action.value, "started", 0.0)
        state = "errored"
        try:
            done = do()
            state = "complete"
        finally:
            watch.resource(self._stage, str(ref), action.value, state, self._clock() - started)
        return done


class _Live:
    """The objects as they are in the cluster: many of a kind in a namespace by one list, a few one by one."""

    def __init__(self, kubernetes: Kubernetes, refs: Iterable[ObjectRef]) -> None:
        self._kubernetes = kubernetes
        self._counts = Counter(map(_group, refs))
        self._locks = {group: Lock() for group in self._counts}
        self._lists: dict[_Group, dict[ObjectRef, Object] | KubernetesError] = {}

    def __call__(self, ref: ObjectRef) -> Object | None:
        group = _group(ref)
        if self._counts[group] < _MANY:
            return self._kubernetes.get(ref)
        with self._locks[group]:
            if group not in self._lists:
                self._lists[group] = self._list(group)
            found = self._lists[group]
        if isinstance(found, KubernetesError):
            raise found
        return found.get(ref)

    def _list(self, group: _Group) -> dict[ObjectRef, Object] | KubernetesError:
        try:
            return {ref_of(obj): obj for obj in self._kubernetes.list(*group)}
        except KubernetesError as error:
            return error


_Group = tuple[str, str, str | None]


def _group(ref: ObjectRef) -> _Group:
    return ref.api_version, ref.kind, ref.namespace


def _taken(ref: ObjectRef, owners: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    """What a plan says of the fields that it takes from other managers."""
    for words, mine in (("takes back", True), ("takes over", False)):
        listed = [f"{path} from {owner}" for path, owner in owners.items() if (path in known) is mine]
        if listed:
            yield f"{ref}: {words} {', '.join(listed)}"


def _beyond_samples(objects: Iterable[Object]) -> frozenset[ObjectRef]:
    """Of many objects with the same fields, those that need not be looked at: what is wrong with the fields shows
    in a few, and a wrong value in the apply, which tells each object's error."""
    shapes: dict[object, list[ObjectRef]] = {}
    for obj in objects:
        ref = ref_of(obj)
        shapes.setdefault((_group(ref), tuple(_leaves(obj))), []).append(ref)
    return frozenset(ref for refs in shapes.values() if len(refs) > _ALIKE for ref in refs[_SAMPLES:])


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves(value[key], (*path, str(key)))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, (*path, "[]"))
    else:
        yield path


def _labelled(obj: Object) -> Object:
    """The object with a label that says whose it is: cali then owns a field of it, were it only this one."""
    labels = {MANAGED_BY: FIELD_MANAGER, **(obj["metadata"].get("labels") or {})}
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


def _refuse_twins(refs: Iterable[ObjectRef]) -> None:
    seen: set[ObjectRef] = set()
    for ref in refs:
        if ref in seen:
            raise InvalidObjectError(
                f"{ref} stands twice in the manifests", object_ref=str(ref), remedy="take one of them out"
            )
        seen.add(ref)


def _tiers(items: Iterable[T], kind: Callable[[T], str]) -> Iterator[list[T]]:
    """Neighbours of the same place in the order, together."""
    for _, group in groupby(items, key=lambda item: tier(kind(item))):
        yield list(group)


def _backwards(refs: Iterable[ObjectRef]) -> list[ObjectRef]:
    return sorted(refs, key=lambda ref: (-tier(ref.kind), str(ref)))


def _each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Do it to all of them at the same time; the errors are raised as one after the last has ended."""
    if not items:
        return []

    def attempt(item: T) -> R | KubernetesError:
        try:
            return work(item)
        except KubernetesError as error:
            return error

    with ThreadPoolExecutor(min(CONNECTIONS, len(items)), thread_name_prefix="objects") as pool:
        outcomes = list(pool.map(attempt, items))
    errors = [outcome for outcome in outcomes if isinstance(outcome, KubernetesError)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        remedies = dict.fromkeys(error.remedy for error in errors if error.remedy)
        raise KubernetesError(
            f"{len(errors)} of {len(items)} objects failed:\n"
            + "\n".join(dict.fromkeys(f"- {error.message}" for error in errors)),
            remedy="\n".join(remedies),
        )
    return [outcome for outcome in outcomes if not isinstance(outcome, KubernetesError)]
