"""Label and field selectors, in the three forms that the API has.

A query's `labelSelector` and `fieldSelector` are text; a workload's selector is an object with matchLabels
and matchExpressions. Source: k8s.io/apimachinery/pkg/labels and .../pkg/fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cali_infra.sandbox.kubernetes.errors import Obj, bad_request

Predicate = Callable[[Obj], bool]
_SET = re.compile(r"(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)\Z")
_EQUAL = re.compile(r"(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s,()]*)\Z")
_EXISTS = re.compile(r"(?P<not>!?)\s*(?P<key>[^\s!=,()]+)\Z")


def label_selector(text: str) -> Predicate:
    """The predicate of a `labelSelector` query. Raises ApiError 400 when it cannot be parsed."""
    tests = [_label_test(part.strip()) for part in _split(text)]
    return lambda obj: _all(tests, obj["metadata"].get("labels") or {})


def _all(tests: Sequence[Callable[[Mapping[str, str]], bool]], labels: Mapping[str, str]) -> bool:
    return all(test(labels) for test in tests)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _label_test(part: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(part):
        key, values = found["key"], {item.strip() for item in found["values"].split(",")}
        if found["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(part):
        key, value = found["key"], found["value"]
        if found["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(part):
        key, absent = found["key"], bool(found["not"])
        return lambda labels: (key in labels) is not absent
    raise bad_request(f"unable to parse requirement: found {part!r}, expected: a label selector")


def field_selector(text: str, supported: Sequence[str]) -> Predicate:
    """The predicate of a `fieldSelector` query over `supported` dotted paths, ApiError 400 for others."""
    tests: list[tuple[tuple[str, ...], bool, str]] = []
    for part in _split(text):
        found = _EQUAL.match(part.strip())
        if not found:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        if found["key"] not in supported:
            raise bad_request(f"field label not supported: {found['key']}")
        tests.append((tuple(found["key"].split(".")), found["op"] != "!=", found["value"]))
    return lambda obj: all((_value(obj, path) == value) is wanted for path, wanted, value in tests)


def _value(obj: Any, path: Sequence[str]) -> str:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    if isinstance(obj, bool):
        return str(obj).lower()
    return "" if obj is None else str(obj)


def matches_selector(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """True when a LabelSelector object selects these labels; an empty one selects everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(item, labels) for item in selector.get("matchExpressions") or ())


def _expression(item: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = item.get("key", ""), item.get("operator"), item.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator in ("Gt", "Lt") and values and labels.get(key, "").lstrip("-").isdigit():
        number, bound = int(labels[key]), int(values[0])
        return number > bound if operator == "Gt" else number < bound
    return False
