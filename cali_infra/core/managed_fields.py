"""Which fields of an object cali manages, as the API server keeps it in `metadata.managedFields`.

A set of fields comes as a tree of path elements: `f:` a field, `k:` an item of a list by its keys, `v:` an item
by its value. A node is a member of the set when it is empty or holds the key `.`. Source: the API reference,
FieldsV1, and structured-merge-diff, which prints the paths in conflicts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cali_infra.adapters.kubernetes import FIELD_MANAGER

_SELF = "."
# Names the object; nobody manages it.
_IDENTITY = frozenset({"apiVersion", "kind"})
_OWN_NAME = frozenset({"name", "namespace"})


def owned(obj: Mapping[str, Any]) -> Any:
    """The fields that cali applied, as the server keeps them; None where it never did."""
    entry = _entry(obj)
    return None if entry is None else entry.get("fieldsV1")


def owned_paths(obj: Mapping[str, Any]) -> frozenset[str]:
    """The same as paths, written as the server writes them in a conflict: `.spec.containers[name="a"].image`."""
    return frozenset(_paths(owned(obj) or {}, ""))


def settled(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether to apply `wanted` to `live` would evidently change nothing.

    True only when cali manages exactly the fields that `wanted` sets and each has that value already. False says
    nothing: a default of the server's, or another spelling of a value, needs the server's own answer.
    """
    entry = _entry(live)
    if entry is None or entry.get("apiVersion") != wanted["apiVersion"]:
        return False
    fields = dict(entry.get("fieldsV1") or {})
    rest = {key: value for key, value in wanted.items() if key not in _IDENTITY and key != "metadata"}
    meta = {key: value for key, value in wanted["metadata"].items() if key not in _OWN_NAME}
    managed_meta = fields.pop("f:metadata", {})
    return _same_keys(live, rest, fields) and _same_keys(live["metadata"], meta, managed_meta)


def _entry(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for entry in obj["metadata"].get("managedFields") or ():
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            return dict(entry)
    return None


def _same(live: Any, wanted: Any, fields: Mapping[str, Any]) -> bool:
    """Whether `fields` are those that `wanted` sets, and `live` has them as `wanted` does."""
    below = {key: node for key, node in fields.items() if key != _SELF}
    if not below:
        return bool(live == wanted)
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return _same_keys(live, wanted, below)
    if isinstance(wanted, list) and isinstance(live, list) and len(below) == len(wanted):
        return _same_items(live, wanted, below)
    return False


def _same_keys(live: Mapping[str, Any], wanted: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return fields.keys() == {f"f:{key}" for key in wanted} and all(
        key in live and _same(live[key], value, fields[f"f:{key}"]) for key, value in wanted.items()
    )


def _same_items(live: list[Any], wanted: list[Any], fields: Mapping[str, Any]) -> bool:
    last = -1
    for item in wanted:
        # A key that is left out got its default; had cali ever set it, it would be among the item's fields.
        found = [(key, node) for key, node in fields.items() if _names(key, item, with_defaults=True)]
        places = [place for place, other in enumerate(live) if found and _names(found[0][0], other)]
        # Their order is part of what is applied.
        if len(found) != 1 or len(places) != 1 or places[0] < last:
            return False
        last = places[0]
        if not _same(live[last], item, found[0][1]):
            return False
    return True


def _names(element: str, item: Any, *, with_defaults: bool = False) -> bool:
    kind, value = element[:2], json.loads(element[2:])
    if kind == "v:":
        return bool(item == value)
    if kind != "k:" or not isinstance(item, Mapping):
        return False
    return all((with_defaults and key not in item) or item.get(key) == value[key] for key in value)


def _paths(fields: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for element, node in fields.items():
        if element == _SELF:
            continue
        path = prefix + _printed(element)
        if not node or _SELF in node:
            yield path
        yield from _paths(node, path)


def _printed(element: str) -> str:
    kind, text = element[:2], element[2:]
    if kind == "k:":
        return (
            "[" + ",".join(f"{key}={_json(value)}" for key, value in sorted(json.loads(text).items())) + "]"
        )
    if kind == "v:":
        return f"[={_json(json.loads(text))}]"
    return f"[{text}]" if kind == "i:" else f".{text}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
