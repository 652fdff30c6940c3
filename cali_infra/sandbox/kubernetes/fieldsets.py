"""Sets of field paths, and what server-side apply does with them: merge, compare, prune.

A set is kept in the wire form of `fieldsV1`, a tree of path elements (`f:` a field, `k:` an item of an
associative list, `v:` an item of a set). A node is a member when it is empty or holds the key `.`. Trees
are never changed once made, so objects may share them. The rules follow structured-merge-diff
(sigs.k8s.io/structured-merge-diff, packages `typed` and `fieldpath`); who owns a set is `managers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cali_infra.sandbox.kubernetes.schemas import ANY, Form, Shape, printed

FieldSet = dict[str, Any]
SELF = "."


class FieldError(Exception):
    """An associative list holds an item twice, or one without its key; the text names the place."""


@dataclass(frozen=True)
class Comparison:
    """How two versions of an object differ, as three disjoint sets."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet

    @property
    def is_same(self) -> bool:
        return not (self.added or self.modified or self.removed)


def _node(member: bool, children: FieldSet) -> FieldSet | None:
    if not children:
        return {} if member else None
    return {SELF: {}, **children} if member else children


def _is_member(node: FieldSet) -> bool:
    return not node or SELF in node


def _combine(left: FieldSet | None, right: FieldSet | None, keep: tuple[bool, bool, bool]) -> FieldSet | None:
    """One node of a set operation; `keep` says what stays: only left, in both, only right."""
    in_left = left is not None and _is_member(left)
    in_right = right is not None and _is_member(right)
    member = keep[1] if in_left and in_right else (in_left and keep[0]) or (in_right and keep[2])
    left, right = left or {}, right or {}
    if not right and keep[0]:
        children = {key: node for key, node in left.items() if key != SELF}
    elif not left and keep[2]:
        children = {key: node for key, node in right.items() if key != SELF}
    else:
        children = {}
        for key in left.keys() | right.keys():
            if key != SELF:
                node = _combine(left.get(key), right.get(key), keep)
                if node is not None:
                    children[key] = node
    return _node(member, children)


def _operate(left: FieldSet, right: FieldSet, keep: tuple[bool, bool, bool]) -> FieldSet:
    # The root itself is never a member; an empty root would read as one.
    result = {}
    for key in left.keys() | right.keys():
        node = _combine(left.get(key), right.get(key), keep)
        if node is not None and key != SELF:
            result[key] = node
    return result


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of either."""
    return _operate(left, right, (True, True, True))


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of both."""
    return _operate(left, right, (False, True, False))


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of `left` that are not members of `right`."""
    return _operate(left, right, (True, False, False))


def ordered(fields: FieldSet) -> FieldSet:
    """The same set with its keys in the order in which the real server writes them."""
    return {key: ordered(fields[key]) for key in sorted(fields)}


def paths(fields: FieldSet, prefix: str = "") -> Iterator[str]:
    """Each member as the real server prints it, such as `.spec.containers[name="a"].image`."""
    for key in sorted(fields):
        if key == SELF:
            continue
        node, path = fields[key], prefix + printed(key)
        if _is_member(node):
            yield path
        yield from paths(node, path)


def _shape_for(shape: Shape, value: object) -> tuple[bool, Shape]:
    """Whether a value is owned as a whole, and the shape to go on with; without a schema it is deduced."""
    if shape.form is Form.ANY:
        return shape.atomic or not isinstance(value, dict), shape
    return shape.is_leaf, shape


def _keyed(shape: Shape, items: list[Any], path: str) -> dict[str, Any]:
    """An associative list's items by path element, in order; raises FieldError."""
    result: dict[str, Any] = {}
    for index, item in enumerate(items):
        try:
            key = shape.item_key(item)
        except KeyError as missing:
            raise FieldError(
                f"{path}: element {index}: associative list with keys has an element that omits key field "
                f'"{missing.args[0]}" (and doesn\'t have default value)'
            ) from None
        if key in result:
            raise FieldError(f"{path}: duplicate entries for key {printed(key)}")
        result[key] = item
    return result


def fields_of(shape: Shape, value: Any, path: str = "") -> FieldSet:
    """The set that an applied configuration owns. Raises FieldError on a duplicate or missing list key."""
    result: FieldSet = {}
    if isinstance(value, dict):
        for key, item in value.items():
            inner = shape.child(key) or ANY
            whole, inner = _shape_for(inner, item)
            if item is None or whole:
                result[f"f:{key}"] = {}
                continue
            member = shape.form is not Form.STRUCT or (isinstance(item, dict) and not item)
            node = _node(member, fields_of(inner, item, f"{path}.{key}"))
            if node is not None:
                result[f"f:{key}"] = node
    elif isinstance(value, list):
        for key, item in _keyed(shape, value, path).items():
            result[key] = _node(True, fields_of(shape.element, item, path + printed(key)))
    return result


def merge(shape: Shape, live: Any, config: Any) -> Any:
    """The live value with the configuration laid over it, list items matched by their keys."""
    if config is None:
        return live
    whole, shape = _shape_for(shape, config)
    if live is None or whole or type(live) is not type(config):
        return config
    if isinstance(config, dict):
        result = dict(live)
        for key, item in config.items():
            result[key] = merge(shape.child(key) or ANY, live.get(key), item)
        return result
    return _merge_lists(shape, live, config)


def _merge_lists(shape: Shape, live: list[Any], config: list[Any]) -> list[Any]:
    """The configuration's order holds; an item that only the live list has keeps its place before the next."""
    old, new = _keyed(shape, live, ""), _keyed(shape, config, "")
    result: list[Any] = []
    taken: set[str] = set()
    left, right = list(old), list(new)
    while left or right:
        if left and (left[0] not in new or left[0] in taken):
            key = left.pop(0)
            if key not in taken:
                result.append(old[key])
            continue
        if left and right and left[0] != right[0] and right[0] in old:
            # Both have it, and the configuration wants another one of both first.
            left.pop(0)
            continue
        key = right.pop(0)
        taken.add(key)
        result.append(merge(shape.element, old[key], new[key]) if key in old else new[key])
    return result


def compare(shape: Shape, old: Any, new: Any) -> Comparison:
    """What changed from one object to the other."""
    nodes = _compare_children(shape, old or {}, new or {})
    return Comparison(*nodes)


_Nodes = tuple[FieldSet, FieldSet, FieldSet]


def _compare_children(shape: Shape, old: Any, new: Any) -> _Nodes:
    result: _Nodes = ({}, {}, {})
    if isinstance(old, list) or isinstance(new, list):
        left, right = _keyed(shape, old or [], ""), _keyed(shape, new or [], "")
        pairs = [(key, shape.element, left.get(key), right.get(key)) for key in {**left, **right}]
        always_member = True
    else:
        left, right = old or {}, new or {}
        pairs = [
            (f"f:{key}", shape.child(key) or ANY, left.get(key), right.get(key)) for key in {**left, **right}
        ]
        always_member = shape.form is not Form.STRUCT
    for key, inner, before, after in pairs:
        if before is after or before == after:
            continue
        for target, node in zip(result, _compare_node(inner, before, after, always_member), strict=True):
            if node is not None:
                target[key] = node
    return result


def _compare_node(
    shape: Shape, old: Any, new: Any, member: bool
) -> tuple[FieldSet | None, FieldSet | None, FieldSet | None]:
    whole, shape = _shape_for(shape, new if new is not None else old)
    mixed = old is not None and new is not None and type(old) is not type(new)
    # Two empty containers that differ only in being there are told apart as leaves.
    if whole or mixed or not (old or new):
        leaf: FieldSet = {}
        return (
            (leaf if old is None else None),
            (leaf if old is not None and new is not None else None),
            (leaf if new is None else None),
        )
    added, modified, removed = _compare_children(shape, old, new)
    member = member or shape.form is not Form.STRUCT
    return (
        _node(member and old is None, added),
        _node(False, modified),
        _node(member and new is None, removed),
    )


def abandoned(last: FieldSet, owned: FieldSet) -> FieldSet:
    """What an applier no longer sets and nobody else owns, as the topmost paths to remove."""
    result: FieldSet = {}
    for key, node in last.items():
        if key == SELF:
            continue
        kept = owned.get(key)
        # A named field is kept by whoever owns something below it, an item of a list only by who owns the item.
        if kept is not None and not key.startswith("f:") and not _is_member(kept):
            kept = None
        # A field that was only a parent of owned fields goes when nothing below it is owned any more.
        if kept is None and (_is_member(node) or key.startswith("f:")):
            result[key] = {}
        else:
            inner = abandoned(node, kept or {})
            if inner:
                result[key] = inner
    return result


def remove(shape: Shape, value: Any, fields: FieldSet) -> Any:
    """The value without these fields; what becomes empty by that goes too (None)."""
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            node = fields.get(f"f:{key}")
            if node is None:
                result[key] = item
            elif not _is_member(node):
                rest = remove(shape.child(key) or ANY, item, node)
                if rest is not None:
                    result[key] = rest
        return result or None
    if isinstance(value, list):
        items = []
        for item in value:
            node = fields.get(shape.item_key(item))
            if node is None:
                items.append(item)
            elif not _is_member(node):
                # The keys are what makes it this item: as long as it stays, they stay.
                rest = {name: inner for name, inner in node.items() if name[2:] not in shape.keys}
                items.append(remove(shape.element, item, rest) if rest else item)
        return items or None
    return value
