"""One cluster's objects in memory, their versions, and who is told of a change.

Objects are never changed in place: a write puts a new one, so readers and watchers may hold the old. It
owns resourceVersion, the history that watches resume from, and the index of owners; what may be written is
decided before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cali_infra.sandbox.kubernetes.catalogue import Resource
from cali_infra.sandbox.kubernetes.errors import Obj, expired

# How many changes of one resource a watch may lie behind; the real server's window is of this order.
HISTORY = 2000
Key = tuple[str, str]  # namespace ("" for none) and name


@dataclass(frozen=True)
class Change:
    """One write: `before` is None for a new object; `kind` is ADDED, MODIFIED or DELETED."""

    version: int
    kind: str
    resource: Resource
    key: Key
    before: Obj | None
    obj: Obj


@dataclass
class _Shelf:
    objects: dict[Key, Obj] = field(default_factory=dict)
    history: deque[Change] = field(default_factory=deque)
    dropped: int = 0
    watchers: set[asyncio.Queue[Change | None]] = field(default_factory=set)


class Store:
    """All objects of a cluster. Used from one event loop only."""

    def __init__(self, history: int = HISTORY) -> None:
        self.version = 1000
        self._limit = history
        self._shelves: dict[tuple[str, str], _Shelf] = {}
        self._dependents: dict[str, set[tuple[str, str, Key]]] = {}
        self._listeners: list[Callable[[Change], None]] = []

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Calls `listener` after each write, in the write's own call."""
        self._listeners.append(listener)

    def get(self, resource: Resource, key: Key) -> Obj | None:
        """The object, or None."""
        return self._shelf(resource).objects.get(key)

    def all(self, resource: Resource, namespace: str = "") -> list[Obj]:
        """The objects of one namespace, or of all, sorted as etcd sorts them: by namespace and name."""
        objects = self._shelf(resource).objects
        return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def count(self) -> int:
        """How many objects there are."""
        return sum(len(shelf.objects) for shelf in self._shelves.values())

    def put(self, resource: Resource, key: Key, obj: Obj) -> Obj:
        """Stores an object under a new resourceVersion and returns it with that."""
        shelf = self._shelf(resource)
        before = shelf.objects.get(key)
        stored = self._stamped(obj)
        shelf.objects[key] = stored
        self._index(resource, key, before, stored)
        self._record(
            shelf, Change(self.version, "MODIFIED" if before else "ADDED", resource, key, before, stored)
        )
        return stored

    def drop(self, resource: Resource, key: Key) -> Obj | None:
        """Removes an object; watchers see it with the resourceVersion of its removal."""
        shelf = self._shelf(resource)
        before = shelf.objects.pop(key, None)
        if before is None:
            return None
        last = self._stamped(before)
        self._index(resource, key, before, None)
        self._record(shelf, Change(self.version, "DELETED", resource, key, before, last))
        return last

    def dependents(self, uid: str) -> list[tuple[str, str, Key]]:
        """Group, plural and key of every object whose ownerReferences name this uid."""
        return sorted(self._dependents.get(uid, ()))

    def since(self, resource: Resource, version: int) -> list[Change]:
        """The changes after a resourceVersion. Raises ApiError 410 when they are no longer remembered."""
        shelf = self._shelf(resource)
        if version < shelf.dropped:
            raise expired(f"too old resource version: {version} ({shelf.dropped})")
        return [change for change in shelf.history if change.version > version]

    def subscribe(self, resource: Resource) -> asyncio.Queue[Change | None]:
        """A queue of the changes from now on; None in it means that the watch must end."""
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._shelf(resource).watchers.add(queue)
        return queue

    def unsubscribe(self, resource: Resource, queue: asyncio.Queue[Change | None]) -> None:
        """Ends a subscription."""
        self._shelf(resource).watchers.discard(queue)

    def end_watches(self) -> None:
        """Ends every watch, as a server does that goes down."""
        for shelf in self._shelves.values():
            for queue in shelf.watchers:
                queue.put_nowait(None)

    def everything(self) -> Iterator[tuple[tuple[str, str], Key, Obj]]:
        """Every object with its group and plural; a copy of the list, so that writes may follow."""
        for name, shelf in list(self._shelves.items()):
            for key, obj in list(shelf.objects.items()):
                yield name, key, obj

    def _shelf(self, resource: Resource) -> _Shelf:
        name = (resource.group, resource.plural)
        shelf = self._shelves.get(name)
        if shelf is None:
            shelf = self._shelves[name] = _Shelf()
        return shelf

    def _stamped(self, obj: Obj) -> Obj:
        self.version += 1
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}

    def _index(self, resource: Resource, key: Key, before: Obj | None, after: Obj | None) -> None:
        old, new = _owners(before), _owners(after)
        entry = (resource.group, resource.plural, key)
        for uid in old - new:
            self._dependents.get(uid, set()).discard(entry)
        for uid in new - old:
            self._dependents.setdefault(uid, set()).add(entry)

    def _record(self, shelf: _Shelf, change: Change) -> None:
        shelf.history.append(change)
        if len(shelf.history) > self._limit:
            shelf.dropped = shelf.history.popleft().version
        for queue in shelf.watchers:
            queue.put_nowait(change)
        for listener in self._listeners:
            listener(change)


def _owners(obj: Obj | None) -> set[str]:
    if obj is None:
        return set()
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}
