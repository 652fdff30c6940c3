"""The server-side tables that `kubectl get` asks for: which columns a kind has and how they are filled.

Source: the printers of k8s.io/kubernetes/pkg/printers/internalversion; kinds that are not here get the
default columns of the real server, name and creation time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cali_infra.sandbox.kubernetes.errors import Obj

_Row = Callable[[Obj, datetime], list[Any]]


def table(kind: str, objects: Iterable[Obj], list_metadata: Obj, now: datetime) -> Obj:
    """A `meta.k8s.io/v1` Table with one row per object; each row carries the object's metadata."""
    columns, row = _KINDS.get(
        kind, (("Created At",), lambda obj, _: [obj["metadata"].get("creationTimestamp")])
    )
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": [
            {
                "name": name,
                "type": "string",
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": 0,
            }
            for name in ("Name", *columns)
        ],
        "rows": [
            {
                "cells": [obj["metadata"].get("name", ""), *row(obj, now)],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": obj["metadata"],
                },
            }
            for obj in objects
        ],
    }


def age(obj: Obj, now: datetime) -> str:
    """The object's age as kubectl writes it: 12s, 5m, 3h, 2d."""
    created = obj["metadata"].get("creationTimestamp")
    if not created:
        return "<unknown>"
    seconds = max(0, int((now - datetime.fromisoformat(created)).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _dig(obj: Any, *keys: str) -> Any:
    for key in keys:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _count(*path: str) -> Callable[[Obj], int]:
    return lambda obj: int(_dig(obj, *path) or 0)


def _node(obj: Obj, now: datetime) -> list[Any]:
    ready = any(
        item["type"] == "Ready" and item["status"] == "True"
        for item in _dig(obj, "status", "conditions") or ()
    )
    version = _dig(obj, "status", "nodeInfo", "kubeletVersion") or ""
    return ["Ready" if ready else "NotReady", "<none>", age(obj, now), version]


def _pod(obj: Obj, now: datetime) -> list[Any]:
    statuses = _dig(obj, "status", "containerStatuses") or []
    total = len(_dig(obj, "spec", "containers") or ())
    reason = _dig(obj, "status", "phase")
    for item in statuses:
        waiting = _dig(item, "state", "waiting", "reason")
        if waiting:
            reason = waiting
    if reason == "Succeeded":
        reason = "Completed"
    restarts = sum(item.get("restartCount", 0) for item in statuses)
    ready = sum(1 for item in statuses if item.get("ready"))
    return [f"{ready}/{total}", reason, str(restarts), age(obj, now)]


def _daemon_set(obj: Obj, now: datetime) -> list[Any]:
    names = (
        "desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled",
        "numberAvailable",
    )  # fmt: skip
    counts = [_count("status", name)(obj) for name in names]
    selector = _dig(obj, "spec", "template", "spec", "nodeSelector") or {}
    return [*counts, _pairs(selector), age(obj, now)]


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>"


def _deployment(obj: Obj, now: datetime) -> list[Any]:
    ready, wanted = _count("status", "readyReplicas")(obj), _count("spec", "replicas")(obj)
    updated, available = _count("status", "updatedReplicas")(obj), _count("status", "availableReplicas")(obj)
    return [f"{ready}/{wanted}", updated, available, age(obj, now)]


def _replica_set(obj: Obj, now: datetime) -> list[Any]:
    counts = [_count("spec", "replicas"), _count("status", "replicas"), _count("status", "readyReplicas")]
    return [*(count(obj) for count in counts), age(obj, now)]


def _stateful_set(obj: Obj, now: datetime) -> list[Any]:
    return [f"{_count('status', 'readyReplicas')(obj)}/{_count('spec', 'replicas')(obj)}", age(obj, now)]


def _job(obj: Obj, now: datetime) -> list[Any]:
    done = any(item["type"] == "Complete" for item in _dig(obj, "status", "conditions") or ())
    completions = f"{_count('status', 'succeeded')(obj)}/{_count('spec', 'completions')(obj)}"
    return ["Complete" if done else "Running", completions, age(obj, now)]


def _service(obj: Obj, now: datetime) -> list[Any]:
    ports = ",".join(f"{item['port']}/{item['protocol']}" for item in _dig(obj, "spec", "ports") or ())
    kind, address = _dig(obj, "spec", "type"), _dig(obj, "spec", "clusterIP")
    return [kind, address or "<none>", "<none>", ports or "<none>", age(obj, now)]


def _storage_class(obj: Obj, now: datetime) -> list[Any]:
    expansion = obj.get("allowVolumeExpansion", False)
    return [
        obj.get("provisioner"),
        obj.get("reclaimPolicy"),
        obj.get("volumeBindingMode"),
        str(expansion).lower(),
        age(obj, now),
    ]


def _claim(obj: Obj, now: datetime) -> list[Any]:
    return [
        _dig(obj, "status", "phase"),
        _dig(obj, "spec", "volumeName") or "",
        _dig(obj, "status", "capacity", "storage") or "",
        ",".join(_dig(obj, "spec", "accessModes") or ()),
        _dig(obj, "spec", "storageClassName") or "",
        age(obj, now),
    ]


def _volume(obj: Obj, now: datetime) -> list[Any]:
    claim = _dig(obj, "spec", "claimRef") or {}
    return [
        _dig(obj, "spec", "capacity", "storage"),
        ",".join(_dig(obj, "spec", "accessModes") or ()),
        _dig(obj, "spec", "persistentVolumeReclaimPolicy"),
        _dig(obj, "status", "phase"),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _dig(obj, "spec", "storageClassName"),
        age(obj, now),
    ]


def _event(obj: Obj, now: datetime) -> list[Any]:
    about = obj.get("involvedObject") or {}
    return [
        age(obj, now),
        obj.get("type"),
        obj.get("reason"),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        obj.get("message"),
    ]


_KINDS: Mapping[str, tuple[Sequence[str], _Row]] = {
    "Node": (("Status", "Roles", "Age", "Version"), _node),
    "Pod": (("Ready", "Status", "Restarts", "Age"), _pod),
    "DaemonSet": (
        ("Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"),
        _daemon_set,
    ),
    "Deployment": (("Ready", "Up-to-date", "Available", "Age"), _deployment),
    "ReplicaSet": (("Desired", "Current", "Ready", "Age"), _replica_set),
    "StatefulSet": (("Ready", "Age"), _stateful_set),
    "Job": (("Status", "Completions", "Age"), _job),
    "Service": (("Type", "Cluster-IP", "External-IP", "Port(s)", "Age"), _service),
    "Namespace": (("Status", "Age"), lambda obj, now: [_dig(obj, "status", "phase"), age(obj, now)]),
    "ConfigMap": (("Data", "Age"), lambda obj, now: [len(obj.get("data") or {}), age(obj, now)]),
    "Secret": (
        ("Type", "Data", "Age"),
        lambda obj, now: [obj.get("type"), len(obj.get("data") or {}), age(obj, now)],
    ),
    "ServiceAccount": (("Age",), lambda obj, now: [age(obj, now)]),
    "StorageClass": (
        ("Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
        _storage_class,
    ),
    "PersistentVolumeClaim": (
        ("Status", "Volume", "Capacity", "Access Modes", "StorageClass", "Age"),
        _claim,
    ),
    "PersistentVolume": (
        ("Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass", "Age"),
        _volume,
    ),
    "Event": (("Last Seen", "Type", "Reason", "Object", "Message"), _event),
}
