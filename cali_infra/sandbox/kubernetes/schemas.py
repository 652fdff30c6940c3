"""The built-in kinds' structure, read from the strict JSON schemas that `kubernetes-validate` carries.

A `Shape` says what a value may be and how it is merged: which fields a struct has, by which keys a list is
associative, what is atomic. Both validation and server-side apply walk shapes; nothing here knows about
requests or objects in the store. Sources: the schemas themselves, and the rules for reading
`x-kubernetes-list-type` and `x-kubernetes-map-type` in the Kubernetes documentation of server-side apply.
"""

from __future__ import annotations

import base64
import binascii
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any

from cali_infra.sandbox.kubernetes import quantities
from cali_infra.sandbox.kubernetes.errors import show

_PREFIX = "#/$defs/"
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/\r\n")
_QUANTITY = re.compile(r"^[+-]?(\d+|\d+\.\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$")
# The schemas lost the default values that an associative list's keys have: this one, and nothing for a key that the
# item has to have, whose absence is found later.
_KEY_DEFAULTS: Mapping[str, str] = {"protocol": "TCP"}


class Form(Enum):
    """What a value is on the wire."""

    STRUCT = "struct"
    MAP = "map"
    LIST = "list"
    STRING = "string"
    INTEGER = "int32"
    NUMBER = "float64"
    BOOLEAN = "bool"
    BYTES = "[]uint8"
    QUANTITY = "resource.Quantity"
    INT_OR_STRING = "intstr.IntOrString"
    ANY = "any"


@dataclass(frozen=True)
class Problem:
    """One place where a value does not fit: `path` in the style of `.spec.containers[0].name`.

    `keyed` is the same place as a server-side apply names it, `.spec.containers[name="a"].name`.
    """

    what: str  # "unknown", "type", "required", "bytes", "quantity", "item"
    path: str
    keyed: str = ""
    struct: str = ""
    form: Form = Form.ANY
    value: object = None


@dataclass
class Shape:
    """One node of a kind's structure. Struct fields are compiled when they are first looked at."""

    form: Form
    name: str = ""
    atomic: bool = False
    element_ref: Any = None
    field_refs: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    is_set: bool = False
    merge_key: str = ""
    merge_strategy: tuple[str, ...] = ()
    schemas: Schemas | None = None

    @cached_property
    def fields(self) -> dict[str, Shape]:
        assert self.schemas is not None
        return {name: self.schemas.compile(ref) for name, ref in self.field_refs.items()}

    @cached_property
    def element(self) -> Shape:
        if self.element_ref is None or self.schemas is None:
            return ANY
        return self.schemas.compile(self.element_ref)

    def child(self, key: str) -> Shape | None:
        """The shape under a key of a struct or a map; None when a struct has no such field."""
        if self.form is Form.STRUCT:
            return self.fields.get(key)
        return self.element

    @property
    def is_leaf(self) -> bool:
        """True when the value is owned and compared as a whole."""
        return self.atomic or self.form not in (Form.STRUCT, Form.MAP, Form.LIST, Form.ANY)

    def item_key(self, item: object) -> str:
        """A list item's path element: `k:{...}` in an associative list, `v:...` in a set.

        Raises KeyError with the key's name when the item omits it.
        """
        if self.is_set:
            return "v:" + show(item)
        values: dict[str, object] = {}
        for key in sorted(self.keys):
            value = item.get(key) if isinstance(item, dict) else None
            if value is None:
                value = _KEY_DEFAULTS.get(key)
            if value is None and key in self.element.required:
                value = "" if self.element.fields[key].form is Form.STRING else 0
            if value is None:
                raise KeyError(key)
            values[key] = value
        return "k:" + show(values)

    @cached_property
    def is_respelled(self) -> bool:
        """True when somewhere in it is a quantity, or bytes: what a server stores in a spelling of its own."""
        todo, seen = [self], set[int]()
        while todo:
            shape = todo.pop()
            if shape.form in (Form.QUANTITY, Form.BYTES):
                return True
            if id(shape) in seen or shape.schemas is None:
                continue
            seen.add(id(shape))
            todo += shape.fields.values() if shape.form is Form.STRUCT else [shape.element]
        return False


ANY = Shape(Form.ANY)
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": Form.QUANTITY,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": Form.INT_OR_STRING,
}


class Schemas:
    """The shapes of one Kubernetes minor version.

    The nearest version that is not newer is taken; one that is older than all known ones raises LookupError.
    """

    def __init__(self, version: str) -> None:
        self.version = _nearest(version)
        folder = importlib.resources.files("kubernetes_validate").joinpath("kubernetes-json-schema")
        text = folder.joinpath(f"v{self.version}-local-strict", "_definitions.json").read_text("utf-8")
        self.definitions: dict[str, Any] = json.loads(text)["$defs"]
        self._compiled: dict[str, Shape] = {}
        self._kinds: dict[tuple[str, str, str], str] = {}
        for name, definition in self.definitions.items():
            for gvk in definition.get("x-kubernetes-group-version-kind", ()):
                self._kinds.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)

    def definition_of(self, group: str, version: str, kind: str) -> str | None:
        """The definition's name, such as `io.k8s.api.apps.v1.DaemonSet`, or None."""
        return self._kinds.get((group, version, kind))

    def shape_of(self, group: str, version: str, kind: str) -> Shape | None:
        """The kind's shape, or None when this version of Kubernetes has no such kind."""
        name = self.definition_of(group, version, kind)
        return None if name is None else self._named(name)

    def _named(self, name: str) -> Shape:
        shape = self._compiled.get(name)
        if shape is None:
            shape = self._compiled[name] = self._build(self.definitions[name], name)
        return shape

    def compile(self, schema: Mapping[str, Any]) -> Shape:
        """The shape of one schema node; a reference that carries no extensions of its own is shared."""
        reference = schema.get("$ref")
        if isinstance(reference, str):
            base = self._named(reference.rsplit("/", 1)[-1])
            atomic = base.atomic or schema.get("x-kubernetes-map-type") == "atomic"
            strategy = tuple(schema.get("x-kubernetes-patch-strategy", "").split(","))
            if atomic != base.atomic or strategy != ("",):
                return replace(base, atomic=atomic, merge_strategy=strategy)
            return base
        return self._build(schema, "")

    def _build(self, schema: Mapping[str, Any], name: str) -> Shape:
        if name in _SPECIAL:
            return Shape(_SPECIAL[name], name)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((item for item in kind if item != "null"), None)
        if kind == "object":
            return self._object(schema, name)
        if kind == "array":
            return self._array(schema, name)
        if kind == "string":
            return Shape(Form.BYTES if schema.get("format") == "byte" else Form.STRING, name)
        scalar = {"integer": Form.INTEGER, "number": Form.NUMBER, "boolean": Form.BOOLEAN}.get(str(kind))
        return Shape(scalar, name) if scalar else Shape(Form.ANY, name)

    def _object(self, schema: Mapping[str, Any], name: str) -> Shape:
        atomic = schema.get("x-kubernetes-map-type") == "atomic"
        strategy = tuple(schema.get("x-kubernetes-patch-strategy", "").split(","))
        if "properties" in schema:
            required = tuple(schema.get("required", ()))
            return Shape(
                Form.STRUCT,
                name,
                atomic,
                field_refs=schema["properties"],
                required=required,
                schemas=self,
                merge_strategy=strategy,
            )
        if isinstance(schema.get("additionalProperties"), Mapping):
            return Shape(Form.MAP, name, atomic, element_ref=schema["additionalProperties"], schemas=self)
        return Shape(Form.ANY, name, atomic)

    def _array(self, schema: Mapping[str, Any], name: str) -> Shape:
        style = schema.get("x-kubernetes-list-type", "atomic")
        return Shape(
            Form.LIST,
            name,
            atomic=style == "atomic",
            element_ref=schema.get("items"),
            keys=tuple(schema.get("x-kubernetes-list-map-keys", ())) if style == "map" else (),
            is_set=style == "set",
            merge_key=schema.get("x-kubernetes-patch-merge-key", ""),
            merge_strategy=tuple(schema.get("x-kubernetes-patch-strategy", "").split(",")),
            schemas=self,
        )


def _nearest(version: str) -> str:
    import kubernetes_validate.utils

    wanted = _minor(version)
    known = [item for item in kubernetes_validate.utils.all_versions() if _minor(item) <= wanted]
    if not known:
        raise LookupError(f"kubernetes-validate carries no schemas for Kubernetes {version} or older")
    return str(known[-1])


def _minor(version: str) -> tuple[int, int]:
    major, minor, *_ = version.lstrip("v").split(".")
    return int(major), int(minor)


def without_nulls(value: Any) -> Any:
    """The value without null members: an absent field and a null one are the same to the API server."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def without_unknown(shape: Shape, value: Any) -> Any:
    """The value without the fields that the shape does not have: what a lenient server stores."""
    if shape.form is Form.STRUCT and isinstance(value, dict):
        return {
            key: without_unknown(shape.fields[key], item)
            for key, item in value.items()
            if key in shape.fields
        }
    if shape.form is Form.MAP and isinstance(value, dict):
        return {key: without_unknown(shape.element, item) for key, item in value.items()}
    if shape.form is Form.LIST and isinstance(value, list):
        return [without_unknown(shape.element, item) for item in value]
    return value


def respelled(shape: Shape, value: Any) -> Any:
    """The value as the server spells it: `1024Mi` is 1Gi, 0.1 is 100m, and base64 has no line breaks."""
    if not shape.is_respelled or value is None:
        return value
    if isinstance(value, dict):
        return {key: respelled(shape.child(key) or ANY, item) for key, item in value.items()}
    if isinstance(value, list):
        return [respelled(shape.element, item) for item in value]
    if shape.form is Form.QUANTITY:
        return quantities.canonical(str(value))
    if shape.form is Form.BYTES:
        return base64.b64encode(base64.b64decode(value)).decode()
    return value


def problems(
    shape: Shape,
    value: Any,
    path: str = "",
    struct: str = "",
    keyed: str | None = None,
    *,
    for_apply: bool = False,
) -> Iterator[Problem]:
    """Everything in `value` that does not fit; absent and null are the same.

    `for_apply` is what a server-side apply comes to: it looks no further into an object when it has met a field
    that is not declared (structured-merge-diff, `visitMapItems`). A real server goes through the fields in an
    order of chance; here it is the value's own.
    """
    form, keyed = shape.form, path if keyed is None else keyed
    if form is Form.STRUCT:
        if not isinstance(value, dict):
            yield Problem("type", path, keyed, struct, form, value)
            return
        fields, name = shape.fields, shape.name.rsplit(".", 1)[-1]
        for key, item in value.items():
            inner = fields.get(key)
            if inner is None:
                yield Problem("unknown", f"{path}.{key}", f"{keyed}.{key}", name)
                if for_apply:
                    return
            elif item is not None:
                yield from problems(inner, item, f"{path}.{key}", name, f"{keyed}.{key}", for_apply=for_apply)
        for key in shape.required:
            if value.get(key) is None:
                yield Problem("required", f"{path}.{key}", f"{keyed}.{key}", name, value=fields[key])
    elif form is Form.MAP:
        if not isinstance(value, dict):
            yield Problem("type", path, keyed, struct, form, value)
            return
        for key, item in value.items():
            if item is not None:
                yield from problems(
                    shape.element, item, f"{path}.{key}", struct, f"{keyed}.{key}", for_apply=for_apply
                )
    elif form is Form.LIST:
        if not isinstance(value, list):
            yield Problem("type", path, keyed, struct, form, value)
            return
        for index, item in enumerate(value):
            if shape.keys and not isinstance(item, dict):
                yield Problem("item", f"{path}[{index}]", keyed, struct, shape.element.form, index)
                continue
            inner_key = _printed_key(shape, item, index)
            yield from problems(
                shape.element, item, f"{path}[{index}]", struct, keyed + inner_key, for_apply=for_apply
            )
    elif not _fits(form, value):
        yield Problem("type", path, keyed, struct, form, value)
    elif form is Form.BYTES and not _is_base64(value):
        yield Problem("bytes", path, keyed, struct, form, value)
    elif form is Form.QUANTITY and not _QUANTITY.match(str(value)):
        yield Problem("quantity", path, keyed, struct, form, value)


def _printed_key(shape: Shape, item: object, index: int) -> str:
    if not shape.keys:
        return f"[{index}]"
    try:
        element = shape.item_key(item)
    except KeyError:
        return f"[{index}]"
    return printed(element)


def printed(element: str) -> str:
    """A path element as the server prints it: `.field`, `[name="a"]` or `[="a"]`."""
    kind, text = element[:2], element[2:]
    if kind == "k:":
        keys = json.loads(text)
        return "[" + ",".join(f"{key}={_quoted(keys[key])}" for key in sorted(keys)) + "]"
    if kind == "v:":
        return f"[={_quoted(json.loads(text))}]"
    return f".{text}"


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _fits(form: Form, value: object) -> bool:
    if form in (Form.STRING, Form.BYTES):
        return isinstance(value, str)
    if form is Form.BOOLEAN:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return form is Form.ANY
    if form is Form.INTEGER:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if form in (Form.NUMBER,):
        return isinstance(value, int | float)
    if form is Form.QUANTITY:
        return isinstance(value, str | int | float)
    if form is Form.INT_OR_STRING:
        return isinstance(value, str | int)
    return True


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def json_word(value: object) -> str:
    """What Go's decoder calls a JSON value in its messages."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def undecodable(problem: Problem) -> str:
    """What Go says of bytes or a quantity that it cannot read, or nothing for another problem."""
    if problem.what == "bytes":
        return f"illegal base64 data at input byte {_first_illegal(str(problem.value))}"
    if problem.what == "quantity":
        return "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    return ""


def _first_illegal(text: str) -> int:
    """Where Go's decoder gives up: a wrong letter, what comes after the padding, or an incomplete last four."""
    plain, padding, _ = text.partition("=")
    for index, letter in enumerate(plain):
        if letter not in _BASE64:
            return len(text[:index].encode())
    if not padding:
        return len(text) // 4 * 4
    return len(plain) if len(plain) % 4 < 2 else min(len(text), len(plain) // 4 * 4 + 4)


def decode_error(kind: str, version: str, problem: Problem) -> str:
    """The 400 message for a field of the wrong type, as Go's decoder words it."""
    lead = f'{kind} in version "{version}" cannot be handled as a {kind}: '
    if text := undecodable(problem):
        return lead + text
    where = re.sub(r"\[\d+\]", "", problem.path).lstrip(".")
    word = json_word(problem.value)
    form = {Form.STRUCT: "struct", Form.MAP: "map[string]string", Form.LIST: "[]string"}.get(
        problem.form, problem.form.value
    )
    return (
        lead + f"json: cannot unmarshal {word} into Go struct field {problem.struct}.{where} of type {form}"
    )


def apply_error(problem: Problem) -> str:
    """One line of a server-side apply's refusal, as structured-merge-diff words it."""
    if problem.what == "unknown":
        return f"{problem.keyed}: field not declared in schema"
    if problem.what == "item":
        return (
            f"{problem.keyed}: element {problem.value}: associative list with keys may not have non-map "
            "elements"
        )
    value = problem.value
    if problem.form in (Form.INTEGER, Form.NUMBER):
        return f"{problem.keyed}: expected numeric (int or float), got {_go_type(value)}"
    if problem.form in (Form.QUANTITY, Form.INT_OR_STRING):
        return f"{problem.keyed}: expected any scalar, got &{{{_go(value)}}}"
    wanted = {Form.STRUCT: "map", Form.MAP: "map", Form.LIST: "list", Form.BOOLEAN: "boolean"}
    if problem.form in wanted:
        return f"{problem.keyed}: expected {wanted[problem.form]}, got &{{{_go(value)}}}"
    return f"{problem.keyed}: expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"


def _go_type(value: object) -> str:
    names = {bool: "bool", str: "string", float: "float64", int: "int64"}
    return names.get(type(value)) or (
        "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
    )


def _go(value: object) -> str:
    """A value as Go prints it for people."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    return value if isinstance(value, str) else show(value)


def _go_syntax(value: object) -> str:
    """A value as Go's source would have it."""
    if isinstance(value, dict):
        return (
            _go_type(value) + f"{{{', '.join(f'{show(k)}:{_go_syntax(value[k])}' for k in sorted(value))}}}"
        )
    if isinstance(value, list):
        return _go_type(value) + f"{{{', '.join(map(_go_syntax, value))}}}"
    return show(value)
