"""Multiline parsers of patterns and states, and the processor `multiline` that joins a stack trace with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import regex

from cali_infra.sandbox.fluent_bit import parsers
from cali_infra.sandbox.fluent_bit.records import Record
from cali_infra.sandbox.fluent_bit.sections import Section
from cali_infra.sandbox.fluent_bit.tail import LogFile

_START = "start_state"
# What Fluent Bit takes at least.
_SHORTEST_FLUSH = 500


@dataclass(frozen=True)
class Rule:
    """In one of these states a line with the pattern belongs to the record, and the next state is another one."""

    states: frozenset[str]
    pattern: regex.Pattern[str]
    next_state: str


Rules = tuple[Rule, ...]


@dataclass(frozen=True)
class Condition:
    """Which records a processor is for: the fields that have to have these texts; `every` or one of them."""

    every: bool
    fields: tuple[tuple[str, str], ...]

    def holds(self, record: Record) -> bool:
        """Whether the record is meant."""
        said = [record.get(key) == value for key, value in self.fields]
        return all(said) if self.every else any(said)


@dataclass(frozen=True)
class Multiline:
    """`multiline`: lines of a field that belong together become one record, with the first line's other fields.

    It begins anew with each call: what waits for its next line at the end is sent, as after `flush_ms`.
    """

    key: str
    rules: Rules
    condition: Condition | None

    def run(self, file: LogFile, tag: str, records: list[Record]) -> list[Record]:
        """Join; records that are not meant pass by."""
        joining = _Joining(self.key, self.rules)
        for record in records:
            if self.condition is None or self.condition.holds(record):
                joining.take(record)
            else:
                joining.done.append(record)
        joining.flush()
        return joining.done


@dataclass
class _Joining:
    """The state of one multiline parser over one file's records.

    The last rule stays when a record is sent: the line behind a trace is still looked at with its state.
    """

    key: str
    rules: Rules
    done: list[Record] = field(default_factory=list)
    _first: Record | None = None
    _text: str = ""
    _last: Rule | None = None

    def take(self, record: Record) -> None:
        text = record.get(self.key)
        if not isinstance(text, str):
            self._alone(record)
        elif (rule := self._continues(text)) is not None:
            self._append(text)
            self._first = self._first or record
            self._step(rule)
        elif (rule := self._starts(text)) is not None:
            self.flush()
            self._first, self._text = record, text
            self._step(rule)
        else:
            self._alone(record)

    def flush(self) -> None:
        if self._first is not None:
            fields = self._first.fields
            if self._text:
                fields = tuple((key, self._text if key == self.key else value) for key, value in fields)
            self.done.append(replace(self._first, fields=fields))
        self._first, self._text = None, ""

    def _alone(self, record: Record) -> None:
        self.flush()
        self.done.append(record)

    def _continues(self, text: str) -> Rule | None:
        if self._last is None:
            return None
        return self._fitting(text, self._last.next_state, start=False)

    def _starts(self, text: str) -> Rule | None:
        return self._fitting(text, _START, start=True)

    def _fitting(self, text: str, state: str, start: bool) -> Rule | None:
        fitting = (
            rule
            for rule in self.rules
            if state in rule.states and (_START in rule.states) is start and rule.pattern.search(text)
        )
        return next(fitting, None)

    def _append(self, text: str) -> None:
        if self._text and not self._text.endswith("\n"):
            self._text += "\n"
        self._text += text or "\n"

    def _step(self, rule: Rule) -> None:
        self._last = rule
        if any(_START in one.states for one in self.rules if rule.next_state in one.states) and self._text:
            # Whatever comes next may be a start: nothing waits for it.
            self.flush()


def rules_of(sections: list[Section]) -> Mapping[str, Rules]:
    """The section `multiline_parsers` by name. Raises ConfigurationError."""
    found: dict[str, Rules] = {}
    for section in sections:
        name = section.text("name")
        section.choice("type", "regex")
        section.ignore("flush_timeout")
        rules = tuple(_rule(one) for one in section.sections("rules"))
        section.end()
        states = {state for rule in rules for state in rule.states}
        for rule in rules:
            if rule.next_state not in states:
                section.refuse("rules", f"no rule is for the state {rule.next_state}")
        if name in found or _START not in states:
            section.refuse("name", f"it stands twice, or has no {_START}")
        found[name] = rules
    return found


def read(section: Section, multiline_parsers: Mapping[str, Rules]) -> Multiline:
    """`multiline` from its section. Raises ConfigurationError."""
    section.ignore("emitter_name")
    section.choice("mode", "parser", default="parser")
    section.must_be("buffer", wanted=True, default=True)
    name, flush = section.text("multiline.parser"), section.text("flush_ms", "2000")
    if name not in multiline_parsers:
        section.refuse("multiline.parser", f"one of multiline_parsers is modelled, not {name}")
    if not flush.isdecimal() or int(flush) < _SHORTEST_FLUSH:
        section.refuse("flush_ms", f"{_SHORTEST_FLUSH} and more is taken by Fluent Bit")
    condition = _condition(section.section("condition")) if "condition" in section else None
    return Multiline(section.text("multiline.key_content"), multiline_parsers[name], condition)


def _rule(section: Section) -> Rule:
    states = frozenset(state.strip() for state in section.text("state").split(","))
    rule = Rule(states, parsers.pattern(section, "regex"), section.text("next_state"))
    section.end()
    return rule


def _condition(section: Section) -> Condition:
    every = section.choice("op", "and", "or") == "and"
    fields = []
    for rule in section.sections("rules"):
        name = rule.text("field")
        if not name.startswith("$") or not name[1:].isidentifier():
            rule.refuse("field", "$FIELD of the top level is modelled")
        rule.choice("op", "eq")
        fields.append((name[1:], rule.text("value")))
        rule.end()
    if not fields:
        section.refuse("rules", "they are needed")
    section.end()
    return Condition(every, tuple(fields))
