"""The variables of one stack: which it declares, and the file that gives them their values.

Values are data here: where they come from stands in `inputs.py`. This is the one place in which a secret
is unwrapped on its way to Terraform.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cali_infra import files
from cali_infra.errors import PreconditionError, UsageError

if TYPE_CHECKING:
    from pydantic import SecretStr  # noqa: F401

_VARIABLE = re.compile(r'variable\s+"(?P<name>[^"]+)"\s*\{')
_OUTPUT = re.compile(r'output\s+"(?P<name>[^"]+)"\s*\{')
_DEFAULT = re.compile(r"default\s*=(?!=)")
# What must not be mistaken for structure: comments, heredocs and quoted text, in the order of trying.
_OPAQUE = re.compile(
    r"#[^\n]*|//[^\n]*|/\*.*?\*/"
    r"|<<-?(?P<mark>\w+)\n.*?^[ \t]*(?P=mark)[ \t]*$"
    r'|"(?:[^"\\\n]|\\.)*"',
    re.DOTALL | re.MULTILINE,
)


def declared_variables(stack_folder: Path) -> tuple[str, ...]:
    """The names of the variables that the stack's `*.tf` files declare, sorted."""
    return tuple(sorted(_declared(stack_folder)))


def declared_outputs(stack_folder: Path) -> frozenset[str]:
    """The names of the outputs that the stack's `*.tf` files declare."""
    names: set[str] = set()
    for file in sorted(stack_folder.glob("*.tf")):
        text = file.read_text(encoding="utf-8")
        bare = _OPAQUE.sub(_blank, text)
        for found in _OUTPUT.finditer(bare):
            # The name was blanked with all other quoted text; the positions are the same.
            original = _OUTPUT.match(text, found.start())
            if original and _depth(bare, found.start()) == 0:
                names.add(original["name"])
    return frozenset(names)


def required_variables(stack_folder: Path) -> tuple[str, ...]:
    """The names of those without a default, sorted."""
    return tuple(sorted(name for name, default in _declared(stack_folder).items() if not default))


def render(stack_folder: Path, values: Mapping[str, object]) -> dict[str, object]:
    """Of the values, exactly those that the stack declares, sorted by name; secrets stay wrapped.

    Raises PreconditionError that names each variable without value and without default.
    """
    declared = _declared(stack_folder)
    lacking = sorted(name for name, default in declared.items() if not default and name not in values)
    if lacking:
        raise PreconditionError(
            f"{stack_folder.name}: no value for {', '.join(lacking)}",
            remedy="the stack's variables and what cali fills in do not fit together: install cali again",
        )
    return {name: values[name] for name in sorted(declared) if name in values}


def write(path: Path, values: Mapping[str, object]) -> None:
    """Write the values as `terraform.tfvars.json`, at once and with mode 0600.

    Raises UsageError, naming the variable, for text that is not Unicode.
    """
    files.write_private(path, encode(values))


def encode(values: Mapping[str, object]) -> bytes:
    """The content of a `terraform.tfvars.json`, with every secret in clear.

    Terraform takes text in such a file literally, also with `${` in it, and keeps text in Unicode's form
    NFC; it is written in that form, so that what cali and what Terraform know are the same.
    Raises UsageError, naming the variable, for text that is not Unicode.
    """
    plain = {name: _plain(value, name) for name, value in values.items()}
    return (json.dumps(plain, indent=2) + "\n").encode("ascii")


def _plain(value: object, name: str) -> Any:
    unwrap = getattr(value, "get_secret_value", None)
    if unwrap is not None:
        return _plain(unwrap(), name)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise UsageError(f"the value of {name} is not valid Unicode text", remedy="write it anew")
        return unicodedata.normalize("NFC", value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_plain(str(key), name): _plain(entry, name) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, name) for entry in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(entry, name) for entry in sorted(value)]
    raise TypeError(f"{name}: {type(value).__name__} cannot be a value of a Terraform variable")


def _declared(stack_folder: Path) -> dict[str, bool]:
    """Each variable, and whether it has a default."""
    return {
        name: default
        for file in sorted(stack_folder.glob("*.tf"))
        for name, default in _variables(file.read_text(encoding="utf-8"))
    }


def _variables(text: str) -> Iterator[tuple[str, bool]]:
    bare = _OPAQUE.sub(_blank, text)
    position = 0
    while match := _VARIABLE.search(bare, position):
        body_start = match.end()
        outer, end = _until_closed(bare, body_start)
        position = end
        if _depth(bare, match.start()) == 0:
            # The name was blanked with all other quoted text; the positions are the same.
            original = _VARIABLE.match(text, match.start())
            if original:
                yield original["name"], bool(_DEFAULT.search(outer))


def _blank(match: re.Match[str]) -> str:
    found = match[0]
    if found.startswith('"'):
        return '"' + "_" * (len(found) - 2) + '"'
    return re.sub(r"[^\n]", " ", found)


def _until_closed(bare: str, start: int) -> tuple[str, int]:
    """The text at the block's own level, up to its closing brace, and where that is."""
    depth = 1
    own: list[str] = []
    for position in range(start, len(bare)):
        character = bare[position]
        if character in "{[(":
            depth += 1
        elif character in "}])":
            depth -= 1
            if depth == 0:
                return "".join(own), position + 1
        elif depth == 1:
            own.append(character)
    return "".join(own), len(bare)


def _depth(bare: str, position: int) -> int:
    before = bare[:position]
    return before.count("{") - before.count("}")
