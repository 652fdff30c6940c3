"""Kubernetes' protobuf bodies, for the few kinds that kubectl sends so: its typed commands leave no choice.

`kubectl create namespace|configmap|secret|serviceaccount` and `kubectl auth` write protobuf and read JSON.
Only these kinds are known here; another is refused by name. Source of the field numbers: the generated.proto
files of k8s.io/api and k8s.io/apimachinery.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cali_infra.sandbox.kubernetes.errors import ApiError, Obj, bad_request

_MAGIC = b"k8s\x00"


@dataclass(frozen=True)
class _Field:
    name: str
    kind: str = "string"  # string, bytes, int, bool, time, message, strings, bytes-map
    many: bool = False
    message: Mapping[int, _Field] | None = None


_OWNER = {
    1: _Field("kind"),
    3: _Field("name"),
    4: _Field("uid"),
    5: _Field("apiVersion"),
    6: _Field("controller", "bool"),
    7: _Field("blockOwnerDeletion", "bool"),
}
_METADATA = {
    1: _Field("name"),
    2: _Field("generateName"),
    3: _Field("namespace"),
    5: _Field("uid"),
    6: _Field("resourceVersion"),
    7: _Field("generation", "int"),
    8: _Field("creationTimestamp", "time"),
    9: _Field("deletionTimestamp", "time"),
    11: _Field("labels", "strings"),
    12: _Field("annotations", "strings"),
    13: _Field("ownerReferences", "message", many=True, message=_OWNER),
    14: _Field("finalizers", many=True),
}
_META = {1: _Field("metadata", "message", message=_METADATA)}
_ATTRIBUTES = {
    number: _Field(name)
    for number, name in enumerate(
        ("namespace", "verb", "group", "version", "resource", "subresource", "name"), start=1
    )
}
_REVIEW_SPEC = {
    1: _Field("resourceAttributes", "message", message=_ATTRIBUTES),
    2: _Field("nonResourceAttributes", "message", message={1: _Field("path"), 2: _Field("verb")}),
}
_REFERENCE = {1: _Field("kind"), 2: _Field("namespace"), 3: _Field("name"), 4: _Field("uid")}
_KINDS: Mapping[str, Mapping[int, _Field]] = {
    "Namespace": {**_META, 2: _Field("spec", "message", message={1: _Field("finalizers", many=True)})},
    "ConfigMap": {
        **_META,
        2: _Field("data", "strings"),
        3: _Field("binaryData", "bytes-map"),
        4: _Field("immutable", "bool"),
    },
    "Secret": {
        **_META,
        2: _Field("data", "bytes-map"),
        3: _Field("type"),
        4: _Field("stringData", "strings"),
        5: _Field("immutable", "bool"),
    },
    "ServiceAccount": {
        **_META,
        2: _Field("secrets", "message", many=True, message=_REFERENCE),
        3: _Field("imagePullSecrets", "message", many=True, message={1: _Field("name")}),
        4: _Field("automountServiceAccountToken", "bool"),
    },
    "SelfSubjectAccessReview": {**_META, 2: _Field("spec", "message", message=_REVIEW_SPEC)},
    "SelfSubjectRulesReview": {**_META, 2: _Field("spec", "message", message={1: _Field("namespace")})},
    "SelfSubjectReview": _META,
}  # fmt: skip


def decode(raw: bytes) -> Obj:
    """The object in a protobuf body. Raises ApiError 400 for what is none, 415 for a kind not known here."""
    if not raw.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message")
    try:
        return _envelope(raw[len(_MAGIC) :])
    except (IndexError, ValueError) as error:
        raise bad_request(f"the protobuf body cannot be read: {error}") from error


def _envelope(raw: bytes) -> Obj:
    parts = dict(_fields(raw))
    about = {number: bytes(value).decode() for number, value in _fields(parts.get(1, b""))}
    version, kind = about.get(1, ""), about.get(2, "")
    fields = _KINDS.get(kind)
    if fields is None:
        raise ApiError(
            415,
            "UnsupportedMediaType",
            f"the sandbox's Kubernetes stand-in reads a {kind} as JSON or YAML, not as protobuf",
        )
    return {"apiVersion": version, "kind": kind, **_message(parts.get(2, b""), fields)}


def _message(raw: bytes, fields: Mapping[int, _Field]) -> Obj:
    result: Obj = {}
    for number, value in _fields(raw):
        field = fields.get(number)
        if field is None:
            # A status, or something that the stand-in would not store.
            continue
        if field.kind in ("strings", "bytes-map"):
            entry = {key: bytes(item) for key, item in _fields(value)}
            name, content = entry.get(1, b"").decode(), entry.get(2, b"")
            text = base64.b64encode(content) if field.kind == "bytes-map" else content
            result.setdefault(field.name, {})[name] = text.decode()
        elif field.many:
            result.setdefault(field.name, []).append(_value(field, value))
        else:
            found = _value(field, value)
            # Go writes its zero values: an empty string there is an absent field here.
            if found not in ("", None):
                result[field.name] = found
    return result


def _value(field: _Field, value: Any) -> Any:
    if field.kind == "message":
        return _message(value, field.message or {})
    if field.kind == "bool":
        return bool(value)
    if field.kind == "int":
        return int(value) or None
    if field.kind == "time":
        seconds = dict(_fields(value)).get(1, 0)
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
    return bytes(value).decode()


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Field number and value, in order: an int for a varint, bytes for what has a length."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(raw, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(raw, at)
            if at + length > len(raw):
                raise ValueError("a field is longer than the message")
            yield number, raw[at : at + length]
            at += length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = raw[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result, at
        shift += 7
