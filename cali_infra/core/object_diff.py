"""What differs between two versions of an object, for a person and for the decision to write.

What the server keeps by itself is no difference; a Secret's values are compared and never shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from cali_infra.core.managed_fields import owned

# What the server sets by itself.
_SERVERS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_LONGEST = 60


def differences(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """What differs, as dotted paths with old and new value; a key with dots of its own stands in brackets.

    `wanted` is the outcome of a dry run, with its owners: where only those differ, that is a difference, since
    what cali does not own it can neither keep nor remove later.
    """
    found = False
    for path, old, new in walk(comparable(live), comparable(wanted)):
        found = True
        secret = wanted.get("kind") == "Secret" and path.startswith(("data", "stringData"))
        yield f"{path}: changed" if secret else f"{path}: {_changed(old, new)}"
    if not found and owned(live) != owned(wanted):
        yield "metadata.managedFields: the fields that cali manages"


def comparable(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an object that somebody wrote."""
    rest = {key: value for key, value in obj.items() if key != "status"}
    rest["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in _SERVERS}
    return rest


def walk(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value of everything that differs; None is what is not there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from walk(old.get(key), new.get(key), _join(path, str(key)))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from walk(before, after, f"{path}[{index}]")
    elif old != new:
        yield path, old, new


def _changed(old: Any, new: Any) -> str:
    """The old and the new value; of texts of many lines the first line that differs, and how many more do."""
    if not (isinstance(old, str) and isinstance(new, str) and "\n" in old and "\n" in new):
        return f"{brief(old)} -> {brief(new)}"
    before, after = old.splitlines(), new.splitlines()
    blocks = [code for code in SequenceMatcher(None, before, after).get_opcodes() if code[0] != "equal"]
    if not blocks:
        return "the ends of its lines"
    _, start, end, at, to = blocks[0]
    first = " -> ".join(_apart(before[start] if start < end else None, after[at] if at < to else None))
    more = sum(max(end - start, to - at) for _, start, end, at, to in blocks) - 1
    return f"line {at + 1}: {first}" + (f", and {more} more" if more else "")


def _apart(old: str | None, new: str | None) -> tuple[str, str]:
    """Two lines in short: without their indentation where that is the same, from where long ones differ."""
    if old is None or new is None:
        return brief(old and old.strip()), brief(new and new.strip())
    if old.strip() != new.strip():
        old, new = old.strip(), new.strip()
    same = next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    if max(len(old), len(new)) <= _LONGEST - 2 or same < _LONGEST // 2:
        return brief(old), brief(new)
    start = same - _LONGEST // 4
    return brief(f"...{old[start:]}"), brief(f"...{new[start:]}")


def brief(value: Any) -> str:
    """A value in one short line."""
    text = "(none)" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _join(path: str, key: str) -> str:
    if "." in key or "/" in key:
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
