"""A kubeconfig's text: its entries, and the same text with some of them put in.

What is not put in stays as it was written, comments, order and indentation too: a change is a few pieces of text
at the positions that the YAML parser names, not a load and a dump, which every YAML library does with losses. A
text with new entries is read again, and is right only if it means exactly the old entries and the new ones.
Files are `kubeconfig_file.py`'s; what an entry should hold is `core/kubeconfig.py`'s.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cali_infra.errors import InvalidKubeconfigError

Entry = dict[str, Any]

# The lists of named entries, and the key under which each entry holds its body.
BODIES = {"clusters": "cluster", "contexts": "context", "users": "user"}
_CURRENT = "current-context"
_FIXED = {"kind": "Config", "apiVersion": "v1"}
_NEW = "apiVersion: v1\nkind: Config\n"
# Longer than any line: a certificate stays on one.
_WIDTH = 1 << 30
_Splice = tuple[int, int, str]


class _Dumper(yaml.SafeDumper):
    """Quotes what kubectl's parser takes for a number and PyYAML's does not, such as 1e3 and 0o17."""


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if re.match(r"[-+.]?\d", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)


@dataclass(frozen=True)
class Kubeconfig:
    """A kubeconfig as it was read; `where` names its file in errors, `data` is what the text means."""

    where: str
    text: str
    data: dict[str, Any]
    _root: yaml.Node | None

    @classmethod
    def parse(cls, text: str, where: str) -> Kubeconfig:
        """Read a text; an empty one is a kubeconfig without entries.

        Raises InvalidKubeconfigError with file and line for what is no YAML or no kubeconfig.
        """
        try:
            # Not CSafeLoader: its positions are those of bytes.
            loader = yaml.SafeLoader(text)
            root = loader.get_single_node()
            data = None if root is None else loader.construct_document(root)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InvalidKubeconfigError(where, _line(error), _words(error)) from error
        if root is None:
            return cls(where, text, {}, None)
        return cls(where, text, _checked(root, data, where), root)

    @property
    def current(self) -> str | None:
        """The name of the current context."""
        return self.data.get(_CURRENT) or None

    def body(self, section: str, name: str) -> Entry | None:
        """The body of a named entry in `clusters`, `contexts` or `users`; None where there is none."""
        index = _index(self.data, section, name)
        return None if index is None else dict(self.data[section][index].get(BODIES[section]) or {})

    def put(self, bodies: Mapping[str, tuple[str, Entry]], current: str | None = None) -> Kubeconfig:
        """This kubeconfig with an entry put into each of the sections, by name, and another current context.

        An entry's other keys stay. Nothing else changes, whatever it is.
        """
        wanted = copy.deepcopy(self.data) or {"apiVersion": "v1", "kind": "Config"}
        places: dict[str, int] = {}
        for section, (name, body) in bodies.items():
            wanted[section] = entries = list(wanted.get(section) or [])
            index = _index(wanted, section, name)
            if index is None:
                entries.append({"name": name, BODIES[section]: body})
            else:
                entries[index] = {**entries[index], BODIES[section]: body}
            places[section] = len(entries) - 1 if index is None else index
        if current is not None:
            wanted[_CURRENT] = current
        for text in self._texts(wanted, places, current):
            try:
                found = Kubeconfig.parse(text, self.where)
            except InvalidKubeconfigError:
                continue
            if found.data == wanted:
                return found
        raise InvalidKubeconfigError(self.where, None, "no YAML that is written back means the same")

    def _texts(self, wanted: dict[str, Any], places: Mapping[str, int], current: str | None) -> Iterator[str]:
        """Texts that should mean what is wanted, the one that keeps most of this one first."""
        if _is_json(self.text):
            yield json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"
        else:
            entries = {section: (index, wanted[section][index]) for section, index in places.items()}
            yield self._spliced(entries, current)
        # Where no pieces fit, as in one flow mapping around it all: as kubectl writes it, without comments.
        yield _dump(wanted)

    def _spliced(self, entries: Mapping[str, tuple[int, Entry]], current: str | None) -> str:
        newline = "\r\n" if "\r\n" in self.text else "\n"
        text = self.text + ("" if not self.text or self.text.endswith("\n") else newline)
        root = self._root
        if root is None:
            text += _NEW.replace("\n", newline)
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        assert root is not None
        values = {key.value: value for key, value in root.value}
        splices: list[_Splice] = []
        added = ""
        for section, (index, entry) in entries.items():
            if section in values:
                splices.append(_with_entry(text, values[section], index, entry))
            else:
                added += _dump({section: [entry]})
        if current is not None and _CURRENT in values:
            node = values[_CURRENT]
            start, end = node.start_mark.index, node.end_mark.index
            splices.append((start, end, ("" if end > start else " ") + _scalar(current)))
        elif current is not None:
            added += _dump({_CURRENT: current})
        place = _next_line(text, _end(root))
        splices.append((place, place, added))
        return _applied(text, splices, newline)


def _applied(text: str, splices: list[_Splice], newline: str) -> str:
    """The text with its pieces put in; of two at one place the first comes first."""
    pieces, at = [], 0
    for start, end, new in sorted(splices, key=lambda splice: splice[:2]):
        pieces += [text[at:start], new.replace("\n", newline)]
        at = end
    return "".join([*pieces, text[at:]])


def _with_entry(text: str, node: yaml.Node, index: int, entry: Entry) -> _Splice:
    """Where an entry belongs in the list that `node` is, and its text there."""
    start, end = node.start_mark.index, node.end_mark.index
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        # `clusters: []`, or nothing behind the colon.
        return len(text[:start].rstrip(" ")), end, "\n" + _dump([entry]).rstrip("\n")
    item = node.value[index] if index < len(node.value) else None
    if item is None and node.flow_style:
        comma = "" if text[: end - 1].rstrip().endswith(",") else ", "
        return end - 1, end - 1, comma + _flow(entry)
    if item is None:
        place = _next_line(text, _end(node))
        return place, place, _indented(_dump([entry]), node.start_mark.column)
    if isinstance(item, yaml.CollectionNode) and item.flow_style:
        return item.start_mark.index, item.end_mark.index, _flow(entry)
    start, end = item.start_mark.index, _end(item)
    block = _indented(_dump(entry), item.start_mark.column).lstrip(" ")
    return start, end, block if text[end - 1] == "\n" else block.rstrip("\n")


def _end(node: yaml.Node) -> int:
    """Where the last thing of a node ends. A block's own end is where the next thing begins, behind comments."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)


def _next_line(text: str, place: int) -> int:
    """The beginning of the line behind a place; a literal's end is one already."""
    if place and text[place - 1] == "\n":
        return place
    found = text.find("\n", place)
    return len(text) if found < 0 else found + 1


def _indented(text: str, column: int) -> str:
    return "".join(" " * column + line for line in text.splitlines(keepends=True))


def _dump(value: object) -> str:
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH))


def _flow(entry: Entry) -> str:
    return json.dumps(entry, ensure_ascii=False, default=str)


def _scalar(text: str) -> str:
    return _dump({"_": text}).partition(": ")[2].rstrip("\n")


def _is_json(text: str) -> bool:
    try:
        return text.lstrip().startswith("{") and isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _index(data: Mapping[str, Any], section: str, name: str) -> int | None:
    entries = data.get(section) or ()
    return next((index for index, entry in enumerate(entries) if entry["name"] == name), None)


def _checked(root: yaml.Node, data: object, where: str) -> dict[str, Any]:
    """The data, if kubectl would read it too: it takes any other key as it comes, but these for what they are."""

    def invalid(node: yaml.Node, problem: str) -> InvalidKubeconfigError:
        return InvalidKubeconfigError(where, node.start_mark.line + 1, problem)

    if not isinstance(root, yaml.MappingNode) or not isinstance(data, dict):
        raise invalid(root, "this is no kubeconfig: it holds no keys")
    seen = set[str]()
    for key, value in root.value:
        name, found = str(key.value), data.get(key.value)
        if name in seen:
            raise invalid(key, f"the key {name} is there twice")
        seen.add(name)
        if name in _FIXED and found != _FIXED[name]:
            raise invalid(value, f"this is no kubeconfig: {name} is not {_FIXED[name]}")
        if name == _CURRENT and not isinstance(found, (str, type(None))):
            raise invalid(value, f"{_CURRENT} is not the name of a context")
        if name not in BODIES or found is None:
            continue
        if not isinstance(found, list):
            raise invalid(value, f"{name} is not a list")
        names = set[str]()
        for node, entry in zip(value.value, found, strict=True):
            own = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(own, str):
                # kubectl takes no number either.
                raise invalid(node, f"an entry of {name} has no name, or one that is no text: quote it")
            if not isinstance(entry.get(BODIES[name]), (dict, type(None))):
                raise invalid(node, f"{name}: the {BODIES[name]} of {own} holds no keys")
            if own in names:
                raise invalid(node, f"{name} holds {own} twice")
            names.add(own)
    return data


def _line(error: Exception) -> int | None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return None if mark is None else mark.line + 1


def _words(error: Exception) -> str:
    """What the parser says, without the file's own words: a kubeconfig holds secrets."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    context = getattr(error, "context", None)
    return f"this is no valid YAML: {context + ', ' if context else ''}{problem}"
