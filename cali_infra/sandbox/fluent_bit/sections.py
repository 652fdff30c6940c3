"""Reads the configuration's YAML: sections whose every key has to be asked for, or it is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLAGS = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


class ConfigurationError(ValueError):
    """The configuration says what is not modelled, or what Fluent Bit would not start with.

    `where` is the file and the section, `key` the property, `reason` what is modelled instead. It shows values as
    they are written in the file, never those of variables.
    """

    def __init__(self, where: str, key: str, reason: str) -> None:
        super().__init__(f"{where}: {key}: {reason}" if key else f"{where}: {reason}")
        self.where, self.key, self.reason = where, key, reason


@dataclass
class Section:
    """One mapping of the file; `end` refuses the keys that nobody has asked for.

    A value is text, as Fluent Bit takes it, with `${NAME}` replaced from `environ`.
    """

    file: str
    path: str
    values: Mapping[str, Any]
    environ: Mapping[str, str] = field(repr=False)
    _asked: set[str] = field(default_factory=set)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def text(self, key: str, default: str | None = None) -> str:
        """A property's value; without a default it has to be there, and to say something."""
        self._asked.add(key)
        if key not in self.values and default is not None:
            return default
        found = self.values.get(key)
        if not isinstance(found, str) or not (value := self._expanded(key, found)):
            self.refuse(key, "one value is modelled, and it is needed")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A property's values: one, several in a list, or none."""
        self._asked.add(key)
        found = self.values.get(key, [])
        several = [found] if isinstance(found, str) else found
        if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
            self.refuse(key, "a value or a list of them is modelled")
        return tuple(self._expanded(key, one) for one in several)

    def flag(self, key: str, default: bool) -> bool:
        """A property that is on or off."""
        value = self.text(key, "on" if default else "off").lower()
        if value not in _FLAGS:
            self.refuse(key, f"on and off are modelled, not {self._shown(key)}")
        return _FLAGS[value]

    def must_be(self, key: str, wanted: bool, default: bool) -> None:
        """A property of which one side only is modelled."""
        if self.flag(key, default) is not wanted:
            self.refuse(key, f"{'on' if wanted else 'off'} is modelled only")

    def choice(self, key: str, *modelled: str, default: str | None = None) -> str:
        """A property with a few values."""
        value = self.text(key, default)
        if value not in modelled:
            self.refuse(key, f"modelled is {', '.join(modelled)}, not {self._shown(key)}")
        return value

    def section(self, key: str) -> Section:
        """A mapping below this one; it has to be there."""
        self._asked.add(key)
        return self._below(key, self.values.get(key), key)

    def sections(self, key: str) -> list[Section]:
        """A list of mappings below this one; none when there is no such key."""
        self._asked.add(key)
        found = self.values.get(key, [])
        if not isinstance(found, list):
            self.refuse(key, "a list is modelled")
        return [self._below(key, one, f"{key}[{number}]") for number, one in enumerate(found)]

    def ignore(self, *keys: str) -> None:
        """Properties that do not change records."""
        self._asked.update(keys)

    def rest(self) -> Iterator[str]:
        """The keys that nobody has asked for yet, in the order of the file."""
        yield from [key for key in self.values if key not in self._asked]

    def end(self) -> None:
        """Refuse what is left."""
        for key in self.rest():
            self.refuse(key, "this is not modelled")

    def refuse(self, key: str, reason: str) -> NoReturn:
        """Raise for a property of this section."""
        name = self.values.get("name")
        plugin = f" ({name})" if isinstance(name, str) else ""
        raise ConfigurationError(f"{self.file}: {self.path}{plugin}".removesuffix(": "), key, reason)

    def _below(self, key: str, values: Any, name: str) -> Section:
        if not isinstance(values, dict):
            self.refuse(key, "a mapping is modelled, and it is needed")
        return Section(self.file, f"{self.path}.{name}".strip("."), values, self.environ)

    def _shown(self, key: str) -> str:
        return repr(self.values.get(key))

    def _expanded(self, key: str, value: str) -> str:
        def replace(found: re.Match[str]) -> str:
            name = found[1]
            if not _NAME.fullmatch(name):
                self.refuse(key, f"${{{name}}} is not modelled, ${{NAME}} is")
            if name not in self.environ:
                # Fluent Bit would take nothing in its place and go on.
                self.refuse(key, f"the variable {name} is not set in the container")
            return self.environ[name]

        return _VARIABLE.sub(replace, value)


def read(file: str, text: str, environ: Mapping[str, str]) -> Section:
    """The file's root; `file` is its name in messages. Raises ConfigurationError."""
    try:
        # Every value is a text: Fluent Bit's `on` is no truth value of YAML's.
        found = yaml.load(text, Loader=_Texts)  # noqa: S506
    except yaml.YAMLError as error:
        raise ConfigurationError(file, "", f"it is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(file, "", "a mapping is modelled")
    return Section(file, "", found, environ)


class _Texts(yaml.BaseLoader):
    """Gives texts only, and refuses a key that stands twice: Fluent Bit would take both."""


def _mapping(loader: _Texts, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str) or key in found:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice or is no text", key_node.start_mark
            )
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Texts.add_constructor("tag:yaml.org,2002:map", _mapping)
