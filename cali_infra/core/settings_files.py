"""Reading a settings file: YAML, environment overrides, a pydantic model; every mistake at once.

It owns the words in which a mistake is told; which keys there are and what they may hold stands in
`settings.py` and `secrets.py`. A value that came from a file is never repeated in a message unless the
model's own validator does so, because it may be a secret.
"""

from __future__ import annotations

import json
import re
import types
import typing
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from cali_infra.errors import SettingsProblem

ENV_PREFIX = "CALI_"
ENV_DELIMITER = "__"

Path_ = tuple[str | int, ...]


class Section(BaseModel):
    """A block of keys inside a file."""

    # Defaults are validated too: a default can contradict what the user wrote beside it.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_true_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        return _refuse_bool(cls, value, info)


class File(BaseSettings):
    """A whole file; it is made from what `read` hands in and never looks at the process's environment."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_true_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        return _refuse_bool(cls, value, info)


def _refuse_bool(model: type[BaseModel], value: object, info: ValidationInfo) -> object:
    # pydantic takes `true` for 1.
    if isinstance(value, bool) and model.model_fields[info.field_name or ""].annotation is int:
        raise PydanticCustomError("int_type", "")
    return value


M = TypeVar("M", bound=File)


@dataclass(frozen=True)
class Outcome(Generic[M]):
    """What came of reading a file: the model, or the mistakes; `missing` when there is no such file."""

    model: M | None
    problems: tuple[SettingsProblem, ...] = ()
    missing: bool = False


@dataclass
class _Raw:
    data: dict[str, Any] = field(default_factory=dict)
    problems: list[SettingsProblem] = field(default_factory=list)
    missing: bool = False


def read(
    model: type[M], path: Path, environ: Mapping[str, str], fixed: Mapping[str, object] | None = None
) -> Outcome[M]:
    """Read the file into the model; `environ` overrides the file, `fixed` overrides both.

    Environment variables are CALI_ and the key in capitals, with `__` between the levels; a list is JSON
    or separated by commas. Others that start with CALI_ are left alone.
    """
    raw = _read_yaml(path)
    if raw.problems:
        return Outcome(None, tuple(raw.problems))
    from_environ = _Environment(model, environ)()
    data = _merge(_merge(raw.data, from_environ), _normalise(dict(fixed or {})))
    try:
        return Outcome(model(**data), missing=raw.missing)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    problems = tuple(_Words(model, path.name, data, from_environ).problem(one) for one in details)
    return Outcome(None, problems, raw.missing)


class _Environment(EnvSettingsSource):
    """pydantic-settings' environment source, reading a mapping instead of the process's environment."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(settings_cls, env_ignore_empty=True)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {
            key.lower(): unicodedata.normalize("NFC", value)
            for key, value in self._environ.items()
            if key.upper().startswith(ENV_PREFIX) and value
        }

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return json.loads(value)
        except ValueError:
            # Left as text, so that the model says what is wrong with it beside all other mistakes.
            if _strip(field.annotation)[0] is list and not str(value).lstrip().startswith(("[", "{")):
                return [part.strip() for part in str(value).split(",") if part.strip()]
            return value


class _Loader(yaml.SafeLoader):
    """YAML as people read it: `1.30` and `2026-12-31` stay text, only true and false are booleans."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.duplicates: list[tuple[str, int]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    self.duplicates.append((key.value, key.start_mark.line + 1))
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), list(_first))


def _read_yaml(path: Path) -> _Raw:
    def one(problem: str, example: str = "") -> _Raw:
        return _Raw(problems=[SettingsProblem(path.name, "", problem, example)])

    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return _Raw(missing=True)
    except UnicodeDecodeError as error:
        return one(f"is not UTF-8 text (byte {error.start + 1})")
    except OSError as error:
        return one(f"cannot be read: {error.strerror}")
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        return one(f"holds a character that YAML does not allow: U+{_code_point(error):04X}")
    try:
        data = loader.get_single_data()
    except yaml.reader.ReaderError as error:
        return one(f"holds a character that YAML does not allow: U+{_code_point(error):04X}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return one(f"{where}is not valid YAML: {_harmless(error.problem or 'cannot be read')}")
    except (ValueError, RecursionError):
        return one("is not valid YAML")
    finally:
        loader.dispose()
    if loader.duplicates:
        return _Raw(
            problems=[
                SettingsProblem(path.name, key, f"stands here twice (line {line}); keep one of them")
                for key, line in loader.duplicates
            ]
        )
    if data is None:
        return _Raw()
    if not isinstance(data, dict):
        return one(f"must be keys and values, not {_kind(data)}", "project: cali")
    wrong = [
        SettingsProblem(path.name, _dotted(at), "a key must be text; put it in quotes")
        for at in _odd_keys(data)
    ]
    # A leading underscore would reach pydantic-settings' own arguments.
    wrong += [
        SettingsProblem(path.name, key, "there is no such key")
        for key in data
        if isinstance(key, str) and key.startswith("_")
    ]
    return _Raw(problems=wrong) if wrong else _Raw(_normalise(data))


def _code_point(error: yaml.reader.ReaderError) -> int:
    character = error.character
    return ord(character) if isinstance(character, str) else int(character)


def _harmless(problem: str) -> str:
    """PyYAML quotes what it stumbled over, which may be half a password."""
    said = re.sub(r"(['\"]).{2,}\1", "a value", problem)
    if said != problem:
        said += "; a value that starts with * & ! % @ or ` must be in quotes"
    return said


def _odd_keys(data: object, at: Path_ = ()) -> Iterable[Path_]:
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(key, str):
                yield from _odd_keys(value, (*at, key))
            else:
                yield (*at, str(key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _odd_keys(value, (*at, index))


def _normalise(value: Any) -> Any:
    """Text in NFC, as Terraform stores it, and keys without a value left out, so that their default holds."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {_normalise(key): _normalise(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [_normalise(entry) for entry in value]
    return value


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merge(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


_SIMPLE = {
    "missing": "is missing",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a block of keys and values",
    "model_type": "must be a block of keys and values",
    "model_attributes_type": "must be a block of keys and values",
}
_LIMITS = {
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "greater_than": ("gt", "must be more than {}"),
    "less_than": ("lt", "must be less than {}"),
    "string_too_short": ("min_length", "must have at least {} character(s)"),
    "string_too_long": ("max_length", "must have at most {} character(s)"),
    "too_short": ("min_length", "must have at least {} entry(ies)"),
    "too_long": ("max_length", "must have at most {} entry(ies)"),
}


@dataclass(frozen=True)
class _Words:
    """Turns pydantic's errors for one file into problems for a person."""

    model: type[BaseModel]
    file: str
    data: Mapping[str, Any]
    from_environ: Mapping[str, Any]

    def problem(self, error: ErrorDetails) -> SettingsProblem:
        at: Path_ = tuple(error["loc"])
        variable = self._variable(at)
        found = field_at(self.model, at)
        example = ""
        if found and found.examples:
            shown = json.dumps(found.examples[0], ensure_ascii=False)
            last = next((str(part) for part in reversed(at) if isinstance(part, str)), "")
            example = f"{variable}={found.examples[0]}" if variable else f"{last}: {shown}"
        if error["type"] == "extra_forbidden":
            return SettingsProblem(self._file(variable), variable or _dotted(at), *self._unknown(at))
        return SettingsProblem(self._file(variable), variable or _dotted(at), self._wrong(error, at), example)

    def _file(self, variable: str) -> str:
        return "environment" if variable else self.file

    def _variable(self, at: Path_) -> str:
        """The environment variable that the value at `at` came from, or empty."""
        here: Any = self.from_environ
        names: list[str] = []
        for part in at:
            if not isinstance(part, str) or not isinstance(here, Mapping) or part not in here:
                break
            names.append(part)
            here = here[part]
        if not names or isinstance(here, Mapping):
            return ""
        return ENV_PREFIX + ENV_DELIMITER.join(names).upper()

    def _unknown(self, at: Path_) -> tuple[str, str]:
        parent = model_at(self.model, at[:-1])
        known = list(parent.model_fields) if parent else []
        elsewhere = [_dotted(path) for path in _paths(self.model) if path[-1] == at[-1]]
        if elsewhere:
            return f"there is no such key here; it belongs at {elsewhere[0]!r}", ""
        near = get_close_matches(str(at[-1]), known, n=1, cutoff=0.5)
        if near:
            return f"there is no such key; did you mean {near[0]!r}?", ""
        return f"there is no such key; known here: {', '.join(known)}", ""

    def _wrong(self, error: ErrorDetails, at: Path_) -> str:
        kind, context = error["type"], error.get("ctx", {})
        given = self._given(at)
        if kind in _SIMPLE:
            but = "" if kind == "missing" or given is None else f", not {_kind(given)}"
            return _SIMPLE[kind] + but
        if kind in _LIMITS:
            name, words = _LIMITS[kind]
            limit = context.get(name, "?")
            plural = {"(s)": "" if limit == 1 else "s", "entry(ies)": "entry" if limit == 1 else "entries"}
            text = words.format(limit)
            for before, after in plural.items():
                text = text.replace(before, after)
            return text
        if kind == "string_type":
            quotes = "; put it in quotes" if isinstance(given, (int, bool)) else ""
            return f"must be text, not {_kind(given)}{quotes}"
        if kind.startswith("int_"):
            return f"must be a whole number, not {_kind(given)}"
        if kind == "literal_error":
            near = get_close_matches(str(given), re.findall(r"'([^']*)'", context.get("expected", "")), n=1)
            return f"must be {context.get('expected', '')}" + (f"; did you mean {near[0]!r}?" if near else "")
        if kind == "value_error":
            return str(context.get("error", "is wrong"))
        return error["msg"][:1].lower() + error["msg"][1:]

    def _given(self, at: Path_) -> Any:
        here: Any = self.data
        for part in at:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return None
        return here


def _kind(value: object) -> str:
    """What a value is, in a word; never the value."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    for kind, word in ((int, "a number"), (str, "text"), (list, "a list"), (dict, "a block of keys")):
        if isinstance(value, kind):
            return word
    return "something else"


def _dotted(at: Sequence[str | int]) -> str:
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _strip(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Origin and arguments of an annotation, without Optional and Annotated around them."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _strip(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        rest = [one for one in typing.get_args(annotation) if one is not type(None)]
        if len(rest) == 1:
            return _strip(rest[0])
    return (origin or annotation), typing.get_args(annotation)


def model_at(model: type[BaseModel], at: Sequence[str | int]) -> type[BaseModel] | None:
    """The model that stands at a path inside another, through lists; None where there is none."""
    here: Any = model
    for part in at:
        origin, arguments = _strip(here)
        if isinstance(part, int):
            here = arguments[0] if origin is list and arguments else None
        elif isinstance(origin, type) and issubclass(origin, BaseModel) and part in origin.model_fields:
            here = origin.model_fields[part].annotation
        else:
            return None
    origin, _ = _strip(here)
    return origin if isinstance(origin, type) and issubclass(origin, BaseModel) else None


def field_at(model: type[BaseModel], at: Sequence[str | int]) -> FieldInfo | None:
    """The field that a path leads to; an index into a list leads to the list's own field."""
    names = list(at)
    while names and isinstance(names[-1], int):
        names.pop()
    if not names:
        return None
    parent = model_at(model, names[:-1])
    return parent.model_fields.get(str(names[-1])) if parent else None


def _paths(model: type[BaseModel], at: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        yield (*at, name)
        inner = model_at(model, (name,))
        if inner and _strip(info.annotation)[0] is not list:
            yield from _paths(inner, (*at, name))
