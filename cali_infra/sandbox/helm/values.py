"""How `values`, `set`, `set_list`, `set_sensitive` and `set_wo` become the one document a chart gets.

The order and the rules are the provider's: YAML documents merged left to right, then the entries in that
order, each read by the grammar of Helm's `--set`. Sources: `helm/resource_helm_release.go` of the provider
and "The Format and Limitations of --set" of Helm's documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import yaml

CLOAK = "(sensitive value)"
MAX_INDEX = 65536


class ValuesError(Exception):
    """A value cannot be read; `summary` is the heading of the provider's own diagnostic.

    The text never quotes a value, since it may be a secret.
    """

    def __init__(self, summary: str, detail: str) -> None:
        super().__init__(detail)
        self.summary = summary
        self.detail = detail


class _Loader(yaml.SafeLoader):
    """YAML as Helm reads it: a date stays the text that it is, since values are JSON in the end."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def document(release: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a release's attributes, without the write-only ones.

    Raises ValuesError.
    """
    base: dict[str, Any] = {}
    for text in release.get("values") or []:
        if text:
            base = merge(base, _parse_document(text))
    for entry in release.get("set") or []:
        _enter(base, entry)
    for entry in release.get("set_list") or []:
        joined = ",".join(part for part in entry["value"] if part is not None)
        _assign(base, f"{entry['name']}={{{joined}}}", entry["name"], "Error parsing list value")
    for entry in release.get("set_sensitive") or []:
        _enter(base, entry)
    return base


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Both documents, maps merged deeply, `high` winning everywhere else."""
    merged = dict(low)
    for key, value in high.items():
        before = merged.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            merged[key] = merge(before, value)
        else:
            merged[key] = value
    return merged


def sensitive(entries: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    """The document that these entries, of `set_sensitive` or `set_wo`, make alone. Raises ValuesError."""
    base: dict[str, Any] = {}
    for entry in entries or []:
        _enter(base, entry)
    return base


def cloak(values: Mapping[str, Any], hidden: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the values in which everything that `hidden` holds reads "(sensitive value)"."""
    covered: dict[str, Any] = _cover(values, hidden)
    return covered


def as_json(values: Mapping[str, Any]) -> str:
    """The document as Go writes JSON: sorted, compact, with the characters of HTML escaped."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _cover(values: Any, hidden: Any) -> Any:
    if isinstance(hidden, Mapping) and isinstance(values, Mapping):
        return {key: _cover(part, hidden[key]) if key in hidden else part for key, part in values.items()}
    if isinstance(hidden, list) and isinstance(values, list):
        # An entry such as `a[2]` leaves gaps before it; what other entries put there is no secret.
        shown = [None] * (len(values) - len(hidden))
        pairs = zip(values, [*hidden, *shown], strict=False)
        return [part if secret is None else _cover(part, secret) for part, secret in pairs]
    return CLOAK


def _parse_document(text: str) -> dict[str, Any]:
    try:
        # The loader is a SafeLoader with fewer rules, not more.
        parsed = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        # What PyYAML puts in quotes is the user's own text.
        problem = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", error.problem or "")
        detail = f"a document of values is no YAML: line {line}: {problem}"
        raise ValuesError("Error unmarshaling values", detail) from None
    except yaml.YAMLError:
        raise ValuesError("Error unmarshaling values", "a document of values is no YAML") from None
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ValuesError("Error unmarshaling values", "a document of values must be a map")
    return {_json_key(key): _json_keys(part) for key, part in parsed.items()}


def _json_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_json_key(key): _json_keys(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_json_keys(part) for part in value]
    return value


def _json_key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


def _enter(base: dict[str, Any], entry: Mapping[str, Any]) -> None:
    name, value, kind = entry["name"], entry.get("value") or "", entry.get("type") or "auto"
    if kind == "literal":
        try:
            parsed = yaml.load(f"{name}: {value}", Loader=_Loader)  # noqa: S506
        except yaml.YAMLError:
            raise ValuesError(
                "Failed parsing literal value", f'the value of key "{name}" is no YAML'
            ) from None
        base[name] = _json_keys(parsed.get(name)) if isinstance(parsed, dict) else parsed
        return
    summary = "Failed parsing string value" if kind == "string" else "Failed parsing value"
    _assign(base, f"{name}={value}", name, summary, typed=kind != "string")


def _assign(base: dict[str, Any], text: str, name: str, summary: str, *, typed: bool = True) -> None:
    try:
        for path, value in _read(text, typed):
            _put(base, path, value)
    except _GrammarError as error:
        raise ValuesError(summary, f'Failed parsing key "{name}": {error}') from None


class _GrammarError(Exception):
    """The text is not in the grammar of `--set`."""


_Path = tuple[str | int, ...]


def _read(text: str, typed: bool) -> Sequence[tuple[_Path, Any]]:
    """The assignments of `a.b=1,c[0]=x,d={p,q}`, in order."""
    found: list[tuple[_Path, Any]] = []
    position = 0
    while position < len(text):
        key, stop, position = _until(text, position, "=,")
        if stop != "=":
            if not key:
                break
            raise _GrammarError("key has no value")
        path = _path(key)
        if text.startswith("{", position):
            value, position = _list(text, position + 1, typed)
        else:
            raw, _, position = _until(text, position, ",")
            value = _scalar(raw, typed)
        found.append((path, value))
    return found


def _list(text: str, position: int, typed: bool) -> tuple[list[Any], int]:
    items: list[Any] = []
    while True:
        raw, stop, position = _until(text, position, ",}")
        if not stop:
            raise _GrammarError("list must terminate with '}'")
        if raw or stop == "," or items:
            items.append(_scalar(raw, typed))
        if stop == "}":
            return items, position + 1 if text.startswith(",", position) else position


def _until(text: str, position: int, stops: str) -> tuple[str, str, int]:
    """The text up to an unescaped character of `stops`, that character ("" at the end), what comes after.

    Backslashes are kept, for `_path` and `_scalar` to take off.
    """
    start = position
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        if text[position] in stops:
            return text[start:position], text[position], position + 1
        position += 1
    return text[start:], "", len(text)


_STEP = re.compile(r"\[(?P<index>-?\d+)\]|\.?(?P<name>(?:\\.|[^.\[\\])+)")


def _path(key: str) -> _Path:
    steps: list[str | int] = []
    position = 0
    while position < len(key):
        step = _STEP.match(key, position)
        if step is None:
            raise _GrammarError("the key is not a path of names and [indexes]")
        if step["index"] is not None:
            index = int(step["index"])
            if index < 0:
                raise _GrammarError(f"negative {index} index not allowed")
            if index > MAX_INDEX:
                raise _GrammarError(
                    f"index of {index} is greater than maximum supported index of {MAX_INDEX}"
                )
            steps.append(index)
        else:
            steps.append(_unescape(step["name"]))
        position = step.end()
    if not steps:
        raise _GrammarError("the key is empty")
    return tuple(steps)


def _scalar(raw: str, typed: bool) -> Any:
    text = _unescape(raw)
    if not typed:
        return text
    if text in ("true", "false"):
        return text == "true"
    if text == "null":
        return None
    if text == "0" or re.fullmatch(r"[+-]?[1-9]\d{0,18}", text):
        return int(text)
    return text


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _put(base: dict[str, Any], path: _Path, value: Any) -> None:
    holder: Any = base
    for step, following in pairwise(path):
        wanted: type = list if isinstance(following, int) else dict
        inside = _at(holder, step)
        if not isinstance(inside, wanted):
            inside = wanted()
            _set(holder, step, inside)
        holder = inside
    _set(holder, path[-1], value)


def _at(holder: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return holder[step] if step < len(holder) else None
    return holder.get(step)


def _set(holder: Any, step: str | int, value: Any) -> None:
    if isinstance(step, int):
        holder.extend([None] * (step + 1 - len(holder)))
    holder[step] = value
