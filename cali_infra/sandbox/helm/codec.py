"""Values between Terraform's msgpack and Python.

Objects and maps are dicts, lists and sets are lists, null is None, and what Terraform does not know yet is
an `Unknown`. Source: "Encoding of values" in Terraform's plugin protocol documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import msgpack

from cali_infra.sandbox.helm.schema import Attribute

_UNKNOWN = 0
_REFINED_UNKNOWN = 12


@dataclass(frozen=True)
class Unknown:
    """A value that is known only after the apply, with Terraform's own notes about it left as they were."""

    code: int = _UNKNOWN
    data: bytes = b"\x00"


UNKNOWN = Unknown()


def decode(encoded: bytes) -> Any:
    """A value from msgpack; no bytes at all are null. Raises ValueError for an extension it does not know."""
    if not encoded:
        return None
    return msgpack.unpackb(encoded, ext_hook=_extension, strict_map_key=False, raw=False)


def encode(value: object) -> bytes:
    """A value as msgpack."""
    packed: bytes = msgpack.packb(value, default=_pack)
    return packed


def is_unknown(value: object) -> TypeGuard[Unknown]:
    """The value itself is unknown."""
    return isinstance(value, Unknown)


def wholly_known(value: object) -> bool:
    """Neither the value nor anything in it is unknown."""
    if isinstance(value, Mapping):
        return all(wholly_known(part) for part in value.values())
    if isinstance(value, list):
        return all(wholly_known(part) for part in value)
    return not is_unknown(value)


def conform(value: object, attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """A decoded state as an object of exactly these attributes: what is missing is null, the rest dropped."""
    given: Mapping[str, object] = value if isinstance(value, Mapping) else {}
    return {name: _conform(given.get(name), attribute) for name, attribute in attributes.items()}


def _conform(value: object, attribute: Attribute) -> object:
    if attribute.nesting is None or value is None or is_unknown(value):
        return value
    if attribute.nesting == "single":
        return conform(value, attribute.attributes)
    return [conform(part, attribute.attributes) for part in value] if isinstance(value, list) else None


def _extension(code: int, data: bytes) -> Unknown:
    if code in (_UNKNOWN, _REFINED_UNKNOWN):
        return Unknown(code, data)
    raise ValueError(f"unknown msgpack extension {code}")


def _pack(value: object) -> msgpack.ExtType:
    if isinstance(value, Unknown):
        return msgpack.ExtType(value.code, value.data)
    raise TypeError(f"{type(value).__name__} is no value of Terraform's")
