"""What happens by itself: the queue of what is due, garbage collection, and namespaces.

Level-triggered like the real controllers, and small: a write marks objects as due, and a short tick later each
is looked at once and brought to where it should be. Workloads, pods and volumes have modules of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from cali_infra.sandbox.kubernetes.errors import ApiError, Obj
from cali_infra.sandbox.kubernetes.pods import Pods
from cali_infra.sandbox.kubernetes.registry import FOREGROUND, Deletion, Options, Registry
from cali_infra.sandbox.kubernetes.state import MANAGER, State, key_of
from cali_infra.sandbox.kubernetes.store import Change, Key
from cali_infra.sandbox.kubernetes.volumes import DRIVER, Volumes
from cali_infra.sandbox.kubernetes.workloads import Workloads

_log = logging.getLogger(__name__)
TICK_SECONDS = 0.005


class Timer(Protocol):
    """What a scheduled call can do: not happen."""

    def cancel(self) -> None: ...


Due = tuple[str, str, Key]


class Controllers:
    """The controllers of one cluster. Runs in the cluster's event loop only."""

    def __init__(
        self,
        registry: Registry,
        call_later: Callable[[float, Callable[[], None]], Timer],
        ca_pem: str,
    ) -> None:
        self._state = State(registry)
        self._volumes = Volumes(self._state, self._mark)
        self._call_later = call_later
        self._ca_pem = ca_pem
        self._due: dict[Due, None] = {}
        self._timer: Timer | None = None
        self._stopped = False
        pods, workloads = Pods(self._state, self._volumes), Workloads(self._state, self._mark_later)
        self._sync: Mapping[tuple[str, str], Callable[[Key, Obj], None]] = {
            ("", "namespaces"): self._namespace,
            ("", "pods"): pods.pod,
            ("", "persistentvolumeclaims"): self._volumes.claim,
            ("", "nodes"): pods.node,
            ("apps", "daemonsets"): workloads.daemon_set,
            ("apps", "deployments"): workloads.deployment,
            ("apps", "replicasets"): workloads.replica_set,
            ("apps", "statefulsets"): workloads.stateful_set,
            ("batch", "jobs"): workloads.job,
        }
        self._state.store.on_change(self._changed)

    def stop(self) -> None:
        """Nothing happens by itself any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def settle(self) -> None:
        """Does now all that is due, and what that makes due."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(50):
            if not self._due:
                break
            self._tick()
        self._timer = None

    def _mark(self, group: str, plural: str, key: Key) -> None:
        if self._stopped:
            return
        self._due[group, plural, key] = None
        if self._timer is None:
            self._timer = self._call_later(TICK_SECONDS, self._fired)

    def _mark_later(self, seconds: float, group: str, plural: str, key: Key) -> None:
        self._call_later(seconds, lambda: self._mark(group, plural, key))

    def _fired(self) -> None:
        self._timer = None
        self._tick()

    def _tick(self) -> None:
        due, self._due = list(self._due), {}
        for group, plural, key in due:
            try:
                self._one(group, plural, key)
            except ApiError as error:
                # A quota of reality: somebody changed or removed it meanwhile; that write marks it again.
                _log.debug("%s %s: %s", plural, key, error.message)
            except Exception:
                _log.exception("controller of %s at %s", plural, key)
        if self._due and self._timer is None and not self._stopped:
            self._timer = self._call_later(TICK_SECONDS, self._fired)

    def _one(self, group: str, plural: str, key: Key) -> None:
        obj = self._state.store.get(self._state.resource(group, plural), key)
        if obj is None:
            return
        if FOREGROUND in (obj["metadata"].get("finalizers") or ()) and "deletionTimestamp" in obj["metadata"]:
            self._foreground(group, plural, key, obj)
            return
        self._collect(group, plural, key, obj)
        sync = self._sync.get((group, plural))
        if sync is not None:
            sync(key, obj)

    def _changed(self, change: Change) -> None:
        """Marks what a write may concern."""
        group, plural, key = change.resource.group, change.resource.plural, change.key
        metadata = change.obj["metadata"]
        if change.kind == "DELETED":
            for dependent in self._state.store.dependents(metadata["uid"]):
                self._mark(*dependent)
        elif (
            (group, plural) in self._sync or "deletionTimestamp" in metadata or "ownerReferences" in metadata
        ):
            self._mark(group, plural, key)
        for owner in metadata.get("ownerReferences") or ():
            resource = self._state.registry.catalogue.by_kind(
                owner["apiVersion"].rpartition("/")[0], owner["kind"]
            )
            if resource is not None:
                self._mark(
                    resource.group, resource.plural, (key[0] if resource.namespaced else "", owner["name"])
                )
        if plural == "pods" and change.kind == "DELETED":
            # Its place on a node is free for one that must not stand beside it.
            for pod in self._state.store.all(change.resource, key[0]):
                if not pod["spec"].get("nodeName"):
                    self._mark("", "pods", key_of(pod))
        if key[0] and change.kind == "DELETED":
            self._mark("", "namespaces", ("", key[0]))
        if change.kind == "MODIFIED":
            if plural in ("configmaps", "secrets"):
                self._mark_all("", "pods", namespace=key[0])
            elif plural == "namespaces":
                # Its labels may let pods in that they kept out.
                for due in (name for name in self._sync if name[0] in ("apps", "batch")):
                    self._mark_all(*due, namespace=key[1])
            return
        if plural == "nodes":
            self._mark_all("apps", "daemonsets")
            self._mark_all("", "pods")
        elif plural in ("configmaps", "secrets", "serviceaccounts", "persistentvolumeclaims") and key[0]:
            for due in [("", "pods"), *(name for name in self._sync if name[0] in ("apps", "batch"))]:
                self._mark_all(*due, namespace=key[0])
        elif plural in ("storageclasses", "pods", "persistentvolumes"):
            self._mark_all("", "persistentvolumeclaims", namespace=key[0])
        elif (plural, *key) == ("deployments", *DRIVER):
            self._mark_all("", "pods")
            self._mark_all("", "persistentvolumeclaims")
        if plural == "persistentvolumeclaims" and change.kind == "DELETED":
            self._volumes.reclaim(change.obj)

    def _mark_all(self, group: str, plural: str, namespace: str = "") -> None:
        for obj in self._state.store.all(self._state.resource(group, plural), namespace):
            self._mark(group, plural, key_of(obj))

    def _foreground(self, group: str, plural: str, key: Key, obj: Obj) -> None:
        waiting = False
        for dependent_group, dependent_plural, dependent in self._state.store.dependents(
            obj["metadata"]["uid"]
        ):
            resource = self._state.resource(dependent_group, dependent_plural)
            _, gone = self._state.registry.delete(resource, dependent, Deletion("Foreground"))
            waiting = waiting or not gone
        if not waiting:
            self._state.registry.release(self._state.resource(group, plural), key, FOREGROUND)

    def _collect(self, group: str, plural: str, key: Key, obj: Obj) -> None:
        """Deletes an object none of whose owners is there any more."""
        owners = obj["metadata"].get("ownerReferences")
        if owners and not any(self._is_there(owner, key[0]) for owner in owners):
            self._state.registry.delete(self._state.resource(group, plural), key, Deletion())

    def _is_there(self, owner: Obj, namespace: str) -> bool:
        resource = self._state.registry.catalogue.by_kind(
            owner["apiVersion"].rpartition("/")[0], owner["kind"]
        )
        if resource is None:
            # Its kind is not modelled, so nobody can say that it is gone.
            return True
        found = self._state.store.get(resource, (namespace if resource.namespaced else "", owner["name"]))
        return found is not None and found["metadata"]["uid"] == owner["uid"]

    def _namespace(self, key: Key, obj: Obj) -> None:
        name = key[1]
        if "deletionTimestamp" in obj["metadata"]:
            left = False
            for (group, plural), inner, item in self._state.store.everything():
                if inner[0] != name:
                    continue
                if "deletionTimestamp" not in item["metadata"]:
                    _, gone = self._state.registry.delete(
                        self._state.resource(group, plural), inner, Deletion()
                    )
                    left = left or not gone
                else:
                    left = True
            if not left:
                self._state.store.drop(self._state.resource("", "namespaces"), key)
            return
        for kind, item in (
            ("serviceaccounts", {"metadata": {"name": "default"}}),
            ("configmaps", {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": self._ca_pem}}),
        ):
            resource = self._state.resource("", kind)
            if self._state.store.get(resource, (name, item["metadata"]["name"])) is None:
                self._state.registry.create(resource, name, item, Options(MANAGER))
