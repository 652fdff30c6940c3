"""The processors that look at one record alone: `modify`, `nest` and `parser`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cali_infra.sandbox.fluent_bit.parsers import RegexParser
from cali_infra.sandbox.fluent_bit.records import Fields, Record
from cali_infra.sandbox.fluent_bit.sections import Section
from cali_infra.sandbox.fluent_bit.tail import LogFile


class Processor(Protocol):
    """A step of the pipeline."""

    def run(self, file: LogFile, tag: str, records: list[Record]) -> list[Record]:
        """What becomes of the records of one file, in their order."""
        ...


@dataclass(frozen=True)
class Rule:
    """One change of `modify`; `value` is the new key or the value, empty for `remove`."""

    operation: str
    key: str
    value: str


@dataclass(frozen=True)
class Modify:
    """`modify`: its rules one after the other; they see the top level only."""

    rules: tuple[Rule, ...]

    def run(self, file: LogFile, tag: str, records: list[Record]) -> list[Record]:
        """Change each record."""
        return [self._changed(record) for record in records]

    def _changed(self, record: Record) -> Record:
        fields = record.fields
        for rule in self.rules:
            fields = _OPERATIONS[rule.operation](fields, rule.key, rule.value)
        return record.having(fields)


@dataclass(frozen=True)
class Nest:
    """`nest`: the fields that a wildcard names become a map below `under`, last of all."""

    wildcards: tuple[str, ...]
    under: str
    prefix: Callable[[str], str]

    def run(self, file: LogFile, tag: str, records: list[Record]) -> list[Record]:
        """Nest in each record that has such a field."""
        return [self._nested(record) for record in records]

    def _nested(self, record: Record) -> Record:
        inside = {self.prefix(key): value for key, value in record.fields if self._named(key)}
        if not any(self._named(key) for key, _ in record.fields):
            return record
        outside = tuple(one for one in record.fields if not self._named(one[0]))
        return record.having((*outside, (self.under, inside)))

    def _named(self, key: str) -> bool:
        return any(key.startswith(one[:-1]) if one.endswith("*") else key == one for one in self.wildcards)


@dataclass(frozen=True)
class Lift:
    """`nest` with the operation `lift`: the fields of the map `under` come to the top, last of all."""

    under: str
    prefix: Callable[[str], str]

    def run(self, file: LogFile, tag: str, records: list[Record]) -> list[Record]:
        """Lift in each record that has such a map; what is no map stays."""
        return [self._lifted(record) for record in records]

    def _lifted(self, record: Record) -> Record:
        kept = tuple(one for one in record.fields if not self._is_map(one))
        inner = [value for key, value in record.fields if self._is_map((key, value))]
        lifted = tuple((self.prefix(key), value) for one in inner for key, value in one.items())
        return record.having((*kept, *lifted)) if inner else record

    def _is_map(self, one: tuple[str, object]) -> bool:
        return one[0] == self.under and isinstance(one[1], dict)


@dataclass(frozen=True)
class Parse:
    """`parser`: a text field is parsed by the first parser that can.

    Its fields come first; `reserve` keeps the record's others, `preserve` the field itself.
    """

    key: str
    parsers: tuple[RegexParser, ...]
    reserve: bool
    preserve: bool

    def run(self, file: LogFile, tag: str, records: list[Record]) -> list[Record]:
        """Parse in each record."""
        return [self._parsed(record) for record in records]

    def _parsed(self, record: Record) -> Record:
        text = record.get(self.key)
        if not isinstance(text, str):
            return record
        for parser in self.parsers:
            if (found := parser.parse(text)) is not None:
                return record.having((*found, *(one for one in record.fields if self._kept(one[0]))))
        return record

    def _kept(self, key: str) -> bool:
        return self.preserve if key == self.key else self.reserve


def modify(section: Section) -> Modify:
    """`modify` from its section: the rules stand in the order of the file. Raises ConfigurationError."""
    rules = []
    for key in section.rest():
        if key not in _OPERATIONS:
            section.refuse(key, f"modelled is {', '.join(_OPERATIONS)}")
        for value in section.texts(key):
            words = value.split()
            wanted = 1 if key == "remove" else 2
            if len(words) != wanted or set(value) & set("\"'\\"):
                section.refuse(key, f"{'one word is' if wanted == 1 else 'two words are'} modelled")
            rules.append(Rule(key, words[0], words[1] if wanted == 2 else ""))
    return Modify(tuple(rules))


def nest(section: Section) -> Nest | Lift:
    """`nest` from its section. Raises ConfigurationError."""
    lift = section.choice("operation", "nest", "lift") == "lift"
    if "add_prefix" in section and "remove_prefix" in section:
        section.refuse("add_prefix", "one prefix can be added or removed, not both")
    added, removed = section.text("add_prefix", ""), section.text("remove_prefix", "")

    def prefix(key: str) -> str:
        return f"{added}{key}" if added else key.removeprefix(removed)

    under = section.text("nested_under" if lift else "nest_under")
    if lift:
        return Lift(under, prefix)
    wildcards = section.texts("wildcard")
    if not all(wildcards) or not wildcards:
        section.refuse("wildcard", "it is needed")
    return Nest(wildcards, under, prefix)


def parse(section: Section, parsers: Mapping[str, RegexParser]) -> Parse:
    """`parser` from its section. Raises ConfigurationError."""
    key, names = section.text("key_name"), section.texts("parser")
    if key.startswith("$"):
        section.refuse("key_name", "a field of the top level is modelled")
    for name in names or ("",):
        if name not in parsers:
            section.refuse("parser", f"there is no parser named {name!r}")
    reserve, preserve = section.flag("reserve_data", False), section.flag("preserve_key", False)
    return Parse(key, tuple(parsers[name] for name in names), reserve, preserve)


def _rename(fields: Fields, key: str, new: str) -> Fields:
    return fields if _has(fields, new) else _hard_rename(fields, key, new)


def _hard_rename(fields: Fields, key: str, new: str) -> Fields:
    if not _has(fields, key):
        return fields
    return tuple(
        (new if name == key else name, value) for name, value in fields if name != new or name == key
    )


def _copy(fields: Fields, key: str, new: str) -> Fields:
    return fields if _has(fields, new) else _hard_copy(fields, key, new)


def _hard_copy(fields: Fields, key: str, new: str) -> Fields:
    if [name for name, _ in fields].count(key) != 1:
        return fields
    kept = tuple(one for one in fields if one[0] != new or new == key)
    return tuple(field for one in kept for field in ((one, (new, one[1])) if one[0] == key else (one,)))


def _add(fields: Fields, key: str, value: str) -> Fields:
    return fields if _has(fields, key) else (*fields, (key, value))


def _set(fields: Fields, key: str, value: str) -> Fields:
    return (*_remove(fields, key, ""), (key, value))


def _remove(fields: Fields, key: str, _: str) -> Fields:
    return tuple(one for one in fields if one[0] != key)


def _has(fields: Fields, key: str) -> bool:
    return any(name == key for name, _ in fields)


_OPERATIONS: Mapping[str, Callable[[Fields, str, str], Fields]] = {
    "hard_rename": _hard_rename,
    "rename": _rename,
    "hard_copy": _hard_copy,
    "copy": _copy,
    "add": _add,
    "set": _set,
    "remove": _remove,
}
