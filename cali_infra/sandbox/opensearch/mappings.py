"""Mappings: what type each field has, how a new one gets it, and which values a document may not carry.

A document is checked and taken apart into values by dotted path; that is what queries look at. Source: the
mapping chapter of the OpenSearch documentation and its `mapper_parsing_exception`s.
"""

from __future__ import annotations

import copy
import ipaddress
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from cali_infra.sandbox.opensearch import dates
from cali_infra.sandbox.opensearch.errors import Obj, SearchError, illegal

_WHOLE = {"long": 63, "integer": 31, "short": 15, "byte": 7}
_DECIMAL = ("double", "float", "half_float", "scaled_float", "unsigned_long")
TEXT = ("text", "match_only_text")
EXACT = ("keyword", "constant_keyword", "wildcard", "ip")
DATE = ("date", "date_nanos")
TYPES = (*_WHOLE, *_DECIMAL, *TEXT, *EXACT, *DATE, "boolean", "object", "nested", "flat_object", "binary")
_MAPPING_KEYS = (
    "properties", "dynamic", "dynamic_templates", "date_detection", "numeric_detection", "_source", "_meta",
    "_routing", "dynamic_date_formats",
)  # fmt: skip


@dataclass(frozen=True)
class _Writing:
    """One document on its way in: its id, and the fields that it has brought so far."""

    identifier: str
    added: list[tuple[Obj, str]]


@dataclass
class Values:
    """A document's values by dotted path, in the form in which queries compare them."""

    by_path: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, path: str, value: Any) -> None:
        self.by_path.setdefault(path, []).append(value)


class IndexMapping:
    """The mapping of one index; it grows with what is written."""

    def __init__(self, body: Obj, total_fields: int) -> None:
        self.body: Obj = copy.deepcopy(body)
        self._total = total_fields
        check(self.body)

    def merge(self, body: Obj) -> None:
        """Takes more properties in; a type that would change is refused with SearchError 400."""
        check(body)
        merged = _merged(self.body, body, "")
        self._limit(merged)
        self.body = merged

    def field(self, path: str) -> Obj | None:
        """The definition of a dotted path, also of a multi-field such as `log.keyword`; None when unmapped."""
        node: Obj = self.body
        parts = path.split(".")
        for index, part in enumerate(parts):
            inner = (node.get("properties") or {}).get(part)
            if inner is None:
                inner = (node.get("fields") or {}).get(part)
            if inner is None:
                if node.get("type") == "flat_object" and index:
                    return {"type": "keyword"}
                return None
            node = inner
        return node

    def paths(self) -> Iterator[tuple[str, Obj]]:
        """Every leaf field with its definition, multi-fields too."""
        yield from _leaves(self.body, "")

    def take(self, source: Obj, identifier: str) -> Values:
        """Checks a document, maps what is new in it, and returns its values; SearchError 400 when it does not fit.

        Nothing is mapped when the document is refused.
        """
        values = Values()
        added: list[tuple[Obj, str]] = []
        try:
            self._object(self.body, source, "", values, _Writing(identifier, added), True)
            if added:
                self._limit(self.body)
        except SearchError:
            for properties, key in added:
                properties.pop(key, None)
            raise
        return values

    def _limit(self, body: Obj) -> None:
        count = sum(1 for _ in _leaves(body, "")) + sum(1 for _ in _objects(body))
        if count > self._total:
            raise illegal(f"Limit of total fields [{self._total}] has been exceeded")

    def _object(
        self, node: Obj, source: Obj, prefix: str, values: Values, writing: _Writing, dynamic: Any
    ) -> None:
        dynamic = node.get("dynamic", dynamic)
        for key, value in source.items():
            if not key.strip("."):
                raise _malformed(f"field name cannot contain only dots or be empty: [{key}]")
            parts = key.split(".")
            if len(parts) > 1:
                # A dot in a key is an object in disguise.
                for part in reversed(parts[1:]):
                    value = {part: value}
                key = parts[0]
            self._member(node, key, value, f"{prefix}{key}", values, writing, dynamic)

    def _member(
        self, node: Obj, key: str, value: Any, path: str, values: Values, writing: _Writing, dynamic: Any
    ) -> None:
        definition = (node.get("properties") or {}).get(key)
        # What is switched off is not looked into, whatever it is.
        if value is None or (definition or {}).get("enabled") is False:
            return
        if isinstance(value, list):
            for item in value:
                self._member(node, key, item, path, values, writing, dynamic)
            return
        if definition is None:
            mode = str(dynamic).lower()
            if mode == "strict":
                raise SearchError(
                    400,
                    "strict_dynamic_mapping_exception",
                    f"mapping set to strict, dynamic introduction of [{key}] within "
                    f"[{path.rpartition('.')[0] or '_doc'}] is not allowed",
                )
            if mode == "false":
                return
            definition = self._guess(path, key, value)
            properties = node.setdefault("properties", {})
            properties[key] = definition
            writing.added.append((properties, key))
        kind = definition.get("type", "object")
        if kind in ("object", "nested"):
            if not isinstance(value, dict):
                raise _malformed(
                    f"object mapping for [{path}] tried to parse field [{key}] as object, but found a "
                    "concrete value"
                )
            self._object(definition, value, f"{path}.", values, writing, dynamic)
            return
        if kind == "flat_object":
            for inner, item in _flat(value, path):
                values.add(inner, str(item))
                values.add(path, str(item))
            return
        self._value(definition, kind, value, path, values, writing)

    def _value(
        self, definition: Obj, kind: str, value: Any, path: str, values: Values, writing: _Writing
    ) -> None:
        try:
            stored = convert(definition, kind, value)
        except ValueError as error:
            cause = "illegal_argument_exception"
            preview = str(value)
            if isinstance(value, dict):
                # An object where a value belongs is refused, also with ignore_malformed: the parser fails, not
                # the value's conversion. Source: the chapter on that parameter, and elasticsearch#143533.
                cause = "illegal_state_exception"
                preview = preview.replace("'", "").replace(": ", "=")
            elif definition.get("ignore_malformed"):
                return
            raise SearchError(
                400,
                "mapper_parsing_exception",
                f"failed to parse field [{path}] of type [{kind}] in document with id '{writing.identifier}'. "
                f"Preview of field's value: '{preview}'",
                cause={"type": cause, "reason": str(error)},
            ) from error
        limit = definition.get("ignore_above")
        if limit is None or len(str(stored)) <= int(limit):
            values.add(path, stored)
        for name, inner in (definition.get("fields") or {}).items():
            self._value(inner, inner.get("type", "keyword"), value, f"{path}.{name}", values, writing)

    def _guess(self, path: str, key: str, value: Any) -> Obj:
        kind = self._kind_of(value)
        for entry in self.body.get("dynamic_templates") or ():
            for template in entry.values():
                if _applies(template, path, key, kind):
                    chosen = template.get("mapping") or {}
                    definition: Obj = {
                        name: item.replace("{dynamic_type}", kind).replace("{name}", key)
                        if isinstance(item, str)
                        else copy.deepcopy(item)
                        for name, item in chosen.items()
                    }
                    definition.setdefault("type", "text" if kind == "string" else kind)
                    return definition
        if kind == "object":
            return {"properties": {}}
        if kind == "string":
            return {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}
        return {"type": "float" if kind == "double" else kind}

    def _kind_of(self, value: Any) -> str:
        if isinstance(value, bool):
            return "boolean"
        if isinstance(value, dict):
            return "object"
        if isinstance(value, int):
            return "long"
        if isinstance(value, float):
            return "double"
        text = str(value)
        if self.body.get("date_detection", True) and re.match(r"\d{4}[-/]\d{2}[-/]\d{2}", text):
            try:
                dates.parse(text.replace("/", "-").replace(" ", "T"), "strict_date_optional_time")
            except ValueError:
                pass
            else:
                return "date"
        if self.body.get("numeric_detection"):
            if re.fullmatch(r"-?\d+", text):
                return "long"
            if re.fullmatch(r"-?\d+\.\d+", text):
                return "double"
        return "string"


def convert(definition: Obj, kind: str, value: Any) -> Any:
    """A value in the form in which its type is compared. Raises ValueError with OpenSearch's reason."""
    if isinstance(value, dict):
        raise ValueError("Can't get text on a START_OBJECT at 1:1")
    if kind in DATE:
        millis = dates.parse(value, definition.get("format", dates.DEFAULT_FORMAT))
        return millis if kind == "date_nanos" else float(math.floor(millis))
    if kind in _WHOLE:
        number = _number(value)
        if abs(number) >= 2 ** _WHOLE[kind]:
            raise ValueError(f"Value [{value}] is out of range for a {kind}")
        return float(int(number))
    if kind in _DECIMAL:
        return _number(value)
    if kind == "boolean":
        if value in (True, False) and isinstance(value, bool):
            return value
        if value in ("true", "false", ""):
            return value == "true"
        raise ValueError(f"Failed to parse value [{value}] as only [true] or [false] are allowed.")
    if kind == "ip":
        try:
            return str(ipaddress.ip_address(str(value)))
        except ValueError as error:
            raise ValueError(f"'{value}' is not an IP string literal.") from error
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("Current token (VALUE_TRUE) not numeric, can not use numeric value accessors")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f'For input string: "{value}"') from None


def check(body: Obj) -> None:
    """Refuses a mapping that holds a type or a top-level key that there is not, with SearchError 400."""
    for key in body:
        if key not in _MAPPING_KEYS:
            raise _malformed(f"Root mapping definition has unsupported parameters:  [{key} : {body[key]}]")
    for path, definition in _definitions(body, ""):
        kind = definition.get("type", "object")
        if kind not in TYPES:
            raise _malformed(f"No handler for type [{kind}] declared on field [{path.rpartition('.')[2]}]")
        for name in str(definition.get("format", "")).split("||") if kind in DATE else ():
            if name and name not in dates.KNOWN_FORMATS:
                raise SearchError(
                    501,
                    "unsupported_operation_exception",
                    f"the sandbox's OpenSearch stand-in does not model the date format [{name}] of [{path}]",
                )
    for entry in body.get("dynamic_templates") or ():
        for name, template in entry.items():
            kind = (template.get("mapping") or {}).get("type")
            if kind and "{" not in kind and kind not in TYPES:
                raise _malformed(
                    f"Failed to parse mapping [_doc]: No mapper found for type [{kind}] of [{name}]"
                )


def _malformed(reason: str) -> SearchError:
    return SearchError(400, "mapper_parsing_exception", reason)


def _definitions(node: Obj, prefix: str) -> Iterator[tuple[str, Obj]]:
    for part in ("properties", "fields"):
        for name, definition in (node.get(part) or {}).items():
            yield f"{prefix}{name}", definition
            yield from _definitions(definition, f"{prefix}{name}.")


def _leaves(node: Obj, prefix: str) -> Iterator[tuple[str, Obj]]:
    for path, definition in _definitions(node, prefix):
        if definition.get("type", "object") not in ("object", "nested"):
            yield path, definition


def _objects(node: Obj) -> Iterator[Obj]:
    for definition in (node.get("properties") or {}).values():
        if definition.get("type", "object") in ("object", "nested"):
            yield definition
            yield from _objects(definition)


def _merged(old: Obj, new: Obj, path: str) -> Obj:
    result = {**old, **{key: value for key, value in new.items() if key != "properties"}}
    if "properties" not in new:
        return result
    properties = dict(old.get("properties") or {})
    for name, definition in new["properties"].items():
        before = properties.get(name)
        where = f"{path}{name}"
        if before is None:
            properties[name] = copy.deepcopy(definition)
            continue
        was, now = before.get("type", "object"), definition.get("type", "object")
        if was != now:
            raise illegal(f"mapper [{where}] cannot be changed from type [{was}] to [{now}]")
        properties[name] = _merged(before, definition, f"{where}.")
    return {**result, "properties": properties}


def _applies(template: Mapping[str, Any], path: str, key: str, kind: str) -> bool:
    wanted = template.get("match_mapping_type", "*")
    if wanted not in ("*", kind):
        return False
    for pattern, text, positive in (
        (template.get("match"), key, True),
        (template.get("unmatch"), key, False),
        (template.get("path_match"), path, True),
        (template.get("path_unmatch"), path, False),
    ):
        if pattern is not None and fnmatchcase(text, pattern) is not positive:
            return False
    return True


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _flat(item, path)
    elif value is not None:
        yield path, value
