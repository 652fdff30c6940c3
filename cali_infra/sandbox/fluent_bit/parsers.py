"""The parsers of the section `parsers`: a pattern whose named groups become fields, and JSON in one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import regex

from cali_infra.sandbox.fluent_bit.patterns import compiled
from cali_infra.sandbox.fluent_bit.records import Fields
from cali_infra.sandbox.fluent_bit.sections import Section


@dataclass(frozen=True)
class RegexParser:
    """One parser with `format: regex`; `decoded` are the groups whose JSON is read."""

    pattern: regex.Pattern[str]
    decoded: frozenset[str]

    def parse(self, text: str) -> Fields | None:
        """The fields that the named groups make, or None where the pattern is not found; empty ones are none."""
        found = self.pattern.search(text)
        if found is None:
            return None
        groups = [(name, found[name]) for name in self.pattern.groupindex]
        return tuple((name, self._decoded(name, value)) for name, value in groups if value)

    def _decoded(self, name: str, value: str) -> Any:
        return decoded(value) if name in self.decoded else value


def read(sections: list[Section]) -> Mapping[str, RegexParser]:
    """The parsers by name. Raises ConfigurationError."""
    found: dict[str, RegexParser] = {}
    for section in sections:
        name = section.text("name")
        section.choice("format", "regex")
        parser = RegexParser(pattern(section, "regex"), frozenset(_fields(section)))
        section.end()
        if name in found:
            section.refuse("name", "it stands twice")
        found[name] = parser
    return found


def pattern(section: Section, key: str) -> regex.Pattern[str]:
    """A property that is a pattern."""
    try:
        return compiled(section.text(key))
    except ValueError as error:
        section.refuse(key, str(error))


def decoded(text: str) -> Any:
    """The JSON object that the text begins with, as Fluent Bit's decoder takes it; else the text itself.

    What stands behind it is dropped, unless that is JSON as well: several values are none.
    """
    start = text.lstrip(" ")
    if not start.startswith("{"):
        return text
    decoder = json.JSONDecoder(parse_int=_number, parse_constant=_no_json)
    try:
        found, end = decoder.raw_decode(start)
    except (ValueError, RecursionError):
        return text
    try:
        decoder.raw_decode(start, len(start) - len(start[end:].lstrip(" \t\r\n")))
    except (ValueError, RecursionError):
        return found
    return text


def _fields(section: Section) -> list[str]:
    found = []
    for value in section.texts("decode_field_as"):
        words = value.split()
        if len(words) != 2 or words[0] != "json":
            section.refuse("decode_field_as", "`json FIELD` is modelled")
        found.append(words[1])
    return found


def _number(text: str) -> int | float:
    """An integer of 64 bits, as MessagePack has them; beyond that a double."""
    found = int(text)
    return found if -(2**63) <= found < 2**64 else float(text)


def _no_json(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
