"""What the controllers share: the objects, how one owns another, conditions and events."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cali_infra.sandbox.kubernetes.catalogue import Resource
from cali_infra.sandbox.kubernetes.errors import Obj
from cali_infra.sandbox.kubernetes.registry import Options, Registry
from cali_infra.sandbox.kubernetes.selectors import matches_selector
from cali_infra.sandbox.kubernetes.store import Key

MANAGER = "kube-controller-manager"


class State:
    """One cluster as its controllers see it."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.store = registry.store

    def resource(self, group: str, plural: str) -> Resource:
        """A resource that every cluster serves."""
        return self.registry.catalogue.named(group, plural)

    def find(self, group: str, plural: str, namespace: str, name: str) -> Obj | None:
        """An object, or None."""
        return self.store.get(self.resource(group, plural), (namespace, name))

    def owned(self, resource: Resource, owner: Obj) -> list[Obj]:
        """The live objects of a kind that `owner` controls."""
        found = []
        for group, plural, key in self.store.dependents(owner["metadata"]["uid"]):
            if (group, plural) == (resource.group, resource.plural):
                obj = self.store.get(resource, key)
                if obj is not None and "deletionTimestamp" not in obj["metadata"]:
                    found.append(obj)
        return found

    def pods_of(self, owner: Obj) -> list[Obj]:
        """A workload's live pods."""
        return self.owned(self.resource("", "pods"), owner)

    def create_owned(self, resource: Resource, owner: Obj, name: str, body: Obj) -> Obj:
        """Makes an object that goes with its owner; a name that ends in a dash is completed."""
        naming = {"generateName": name} if name.endswith("-") else {"name": name}
        metadata = {**body["metadata"], **naming, "ownerReferences": [_reference(owner)]}
        namespace = owner["metadata"]["namespace"]
        return self.registry.create(resource, namespace, {**body, "metadata": metadata}, Options(MANAGER))

    def adopt(self, resource: Resource, owner: Obj, name: str) -> Obj | None:
        """Makes a live object that the owner's selector matches and that has no owner go with this one.

        None where there is none.
        """
        key = (owner["metadata"]["namespace"], name)
        live = self.store.get(resource, key)
        if live is None or {"deletionTimestamp", "ownerReferences"} & live["metadata"].keys():
            return None
        if not matches_selector(owner["spec"]["selector"], labels_of(live)):
            return None
        taken = {**live["metadata"], "ownerReferences": [_reference(owner)]}
        return self.registry.patch(
            resource, key, lambda found: {**found, "metadata": taken}, Options(MANAGER)
        )

    def since(self, obj: Obj, condition: Obj) -> str:
        """Since when a condition holds: its old time if it did not change."""
        for item in (obj.get("status") or {}).get("conditions") or ():
            if item["type"] == condition["type"] and item["status"] == condition["status"]:
                return str(item.get("lastTransitionTime") or self.registry.now())
        return self.registry.now()

    def conditions(self, obj: Obj, *wanted: tuple[str, bool, str]) -> list[Obj]:
        """Conditions (type, status, reason), each with the time since which it holds."""
        result = []
        for kind, value, reason in wanted:
            condition: Obj = {"type": kind, "status": str(value), "reason": reason, "message": reason}
            since = self.since(obj, condition)
            times = {"lastTransitionTime": since}
            if obj["kind"] != "Job":
                times["lastUpdateTime"] = since
            result.append({**condition, **times})
        return result

    def event(
        self,
        about: Obj,
        reason: str,
        message: str,
        *,
        component: str = "sandbox",
        kind: str = "Warning",
        counted: bool = False,
    ) -> None:
        """Records an event; a repetition changes nothing, or its count and its last time where it is `counted`."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        resource = self.resource("", "events")
        digest = hashlib.sha256(f"{metadata['uid']} {reason} {message}".encode()).hexdigest()[:16]
        name = f"{metadata['name']}.{digest}"
        now = self.registry.now()
        before = self.store.get(resource, (namespace, name))
        if before is not None:
            if counted and before["lastTimestamp"] != now:
                again = {"count": before["count"] + 1, "lastTimestamp": now}
                self.registry.patch(
                    resource, (namespace, name), lambda live: {**live, **again}, Options(component)
                )
            return
        body = {
            "metadata": {"name": name},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": namespace,
                "uid": metadata["uid"],
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": component},
            "reportingComponent": component,
            "reportingInstance": "",
        }
        self.registry.create(resource, namespace, body, Options(component))


def key_of(obj: Obj) -> Key:
    """An object's namespace and name."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def labels_of(obj: Obj) -> Mapping[str, str]:
    """An object's labels."""
    return obj["metadata"].get("labels") or {}


def is_ready(pod: Obj) -> bool:
    """True when a pod's Ready condition holds."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def fits(spec: Obj, node: Obj) -> bool:
    """True when a pod's node selector and required affinity allow this node; taints are not modelled."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity: Any = spec
    for part in ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"):
        affinity = (affinity or {}).get(part)
    if not affinity:
        return True
    return any(
        matches_selector({"matchExpressions": term.get("matchExpressions")}, labels)
        for term in affinity.get("nodeSelectorTerms") or ()
    )


def _reference(owner: Obj) -> Obj:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def claim_names(pod: Obj) -> list[str]:
    """The claims that a pod mounts."""
    return [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    ]
