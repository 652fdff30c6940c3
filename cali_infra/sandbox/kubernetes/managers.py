"""Who owns which field: `metadata.managedFields`, server-side apply and its conflicts.

It owns the reading and writing of the entries and the decision what an apply changes. The set algebra is
in `fieldsets.py`; storing the outcome is the caller's. The rules are those of structured-merge-diff's
`merge.Updater` and of the API server's field manager (k8s.io/apimachinery/pkg/util/managedfields).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cali_infra.sandbox.kubernetes import fieldsets
from cali_infra.sandbox.kubernetes.errors import Cause, Obj, apply_conflict
from cali_infra.sandbox.kubernetes.fieldsets import FieldSet
from cali_infra.sandbox.kubernetes.schemas import Shape

# What the server itself sets is nobody's field.
_SERVERS: FieldSet = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {
        ".": {},
        "f:name": {},
        "f:namespace": {},
        "f:creationTimestamp": {},
        "f:deletionTimestamp": {},
        "f:deletionGracePeriodSeconds": {},
        "f:selfLink": {},
        "f:uid": {},
        "f:clusterName": {},
        "f:generation": {},
        "f:managedFields": {},
        "f:resourceVersion": {},
    },
}


# Nobody owns an object's name, and yet its metadata never goes as a whole.
_NAME: FieldSet = {"f:metadata": {"f:name": {}}}


@dataclass(frozen=True)
class Manager:
    """A field manager: one of these owns one set. `operation` is Apply or Update."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


@dataclass(frozen=True)
class Entry:
    """What a manager owns and since when (RFC 3339)."""

    fields: FieldSet
    time: str


Owners = dict[Manager, Entry]


def read(obj: Mapping[str, Any]) -> Owners:
    """The owners recorded in an object; entries that cannot be read are left out."""
    owners: Owners = {}
    for item in obj.get("metadata", {}).get("managedFields") or ():
        if not isinstance(item, dict) or "manager" not in item or not isinstance(item.get("fieldsV1"), dict):
            continue
        manager = Manager(
            item["manager"],
            item.get("operation", ""),
            item.get("apiVersion", ""),
            item.get("subresource", ""),
        )
        owners[manager] = Entry(item["fieldsV1"], item.get("time", ""))
    return owners


def write(owners: Owners) -> list[Obj]:
    """The entries as they stand in `metadata.managedFields`, in the real server's order."""
    entries = []
    for manager, entry in sorted(
        owners.items(), key=lambda pair: (pair[0].operation, pair[1].time, pair[0].name, pair[0].subresource)
    ):
        item: Obj = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fieldsets.ordered(entry.fields),
        }
        if manager.subresource:
            item["subresource"] = manager.subresource
        entries.append(item)
    return entries


def with_owners(obj: Obj, owners: Owners) -> Obj:
    """The object with these owners recorded in it."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    if owners:
        metadata["managedFields"] = write(owners)
    return {**obj, "metadata": metadata}


def without_owners(obj: Obj) -> Obj:
    """The object as the field managers see it: without their own record."""
    metadata = obj.get("metadata", {})
    if "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


def apply(
    shape: Shape, live: Obj, config: Obj, owners: Owners, manager: Manager, *, force: bool, time: str
) -> tuple[Obj, Owners]:
    """The object after `manager` applied `config`, and who owns what then.

    `live` is without its managed fields; for a missing object it holds nothing but what names it. Raises
    ApiError 409 when another manager owns a field that would change and `force` is not set, and FieldError
    when a list of the configuration cannot be keyed.
    """
    if not owners and live.get("metadata", {}).get("uid"):
        # Nobody kept a record so far: what is there belongs to somebody all the same.
        unknown = Manager("before-first-apply", "Update", manager.api_version)
        owners = update(shape, {}, live, {}, unknown, time=time)
    wanted = fieldsets.difference(fieldsets.fields_of(shape, config), _SERVERS)
    last = owners.get(manager, Entry({}, "")).fields
    others = {other: entry for other, entry in owners.items() if other != manager}
    merged = fieldsets.merge(shape, live, config)
    owned = fieldsets.union(wanted, _NAME)
    for entry in others.values():
        owned = fieldsets.union(owned, entry.fields)
    stale = fieldsets.abandoned(last, owned)
    if stale:
        merged = fieldsets.remove(shape, merged, stale) or {}
    change = fieldsets.compare(shape, live, merged)
    touched = fieldsets.union(change.added, change.modified)
    conflicts = {
        other: both
        for other, entry in others.items()
        if (both := fieldsets.intersection(entry.fields, touched))
    }
    if conflicts and not force:
        raise _conflict(conflicts)
    result = _released(others, fieldsets.union(touched, change.removed) if force else change.removed, time)
    if wanted:
        same = manager in owners and owners[manager].fields == wanted
        result[manager] = owners[manager] if same else Entry(wanted, time)
    return merged, result


def update(shape: Shape, live: Obj, new: Obj, owners: Owners, manager: Manager, *, time: str) -> Owners:
    """Who owns what after a write that was not an apply: the writer takes what it changed."""
    change = fieldsets.compare(shape, live, new)
    if change.is_same:
        return owners
    touched = fieldsets.difference(fieldsets.union(change.added, change.modified), _SERVERS)
    others = {other: entry for other, entry in owners.items() if other != manager}
    result = _released(others, fieldsets.union(touched, change.removed), time)
    before = owners.get(manager, Entry({}, ""))
    fields = fieldsets.union(fieldsets.difference(before.fields, change.removed), touched)
    if fields:
        result[manager] = before if fields == before.fields else Entry(fields, time)
    return result


def _released(owners: Owners, fields: FieldSet, time: str) -> Owners:
    result: Owners = {}
    for manager, entry in owners.items():
        rest = fieldsets.difference(entry.fields, fields)
        if rest:
            result[manager] = entry if rest == entry.fields else replace(entry, fields=rest)
    return result


def _conflict(conflicts: Mapping[Manager, FieldSet]) -> Exception:
    causes: list[Cause] = []
    lines: list[str] = []
    for manager in sorted(conflicts, key=lambda item: (item.name, item.operation, item.subresource)):
        who = _printed(manager)
        lines.append(f"conflicts with {who}:")
        for path in fieldsets.paths(conflicts[manager]):
            causes.append(Cause("FieldManagerConflict", f"conflict with {who}", path))
            lines.append(f"- {path}")
    if len(causes) == 1:
        return apply_conflict(causes, f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}")
    return apply_conflict(causes, f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines))


def _printed(manager: Manager) -> str:
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    return f"{text} using {manager.api_version}" if manager.operation == "Update" else text
