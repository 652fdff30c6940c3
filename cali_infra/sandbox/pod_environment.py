"""A container's environment, out of a cluster's ConfigMaps and Secrets.

It owns how `env` and `envFrom` are read. Sources of a kind that it does not know are refused. Source: the kubelet's
`makeEnvironmentVariables`, and Kubernetes' `third_party/forked/golang/expansion`.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

Obj = Mapping[str, Any]
# An object by its plural and name, in the pod's namespace.
Find = Callable[[str, str], "Obj | None"]
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][\w.-]*)\))")
_FIELDS: Mapping[str, tuple[str, str]] = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "metadata.uid": ("metadata", "uid"),
    "spec.nodeName": ("spec", "nodeName"),
    "spec.serviceAccountName": ("spec", "serviceAccountName"),
}


class NotModelledError(Exception):
    """A pod asks for something that the sandbox cannot give."""


class MissingError(Exception):
    """Something that a pod names is not there, or not any more."""


def environment(
    container: Obj, find: Find, pod: Obj | None = None, *, lenient: bool = False
) -> dict[str, str]:
    """The variables that a container's spec gives it; without a `pod` its fields are not known.

    Raises NotModelledError and MissingError; where it is `lenient`, what cannot be had is left out.
    """
    environ: dict[str, str] = {}
    left_out = contextlib.suppress(*((MissingError, NotModelledError) if lenient else ()))
    for source in container.get("envFrom") or ():
        for kind, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if kind in source:
                with left_out:
                    values = values_of(plural, source[kind], find)
                    prefix = source.get("prefix") or ""
                    environ |= {prefix + key: value.decode() for key, value in values.items()}
    for item in container.get("env") or ():
        with left_out:
            value = _value(item, pod, find)
            if value is not None:
                environ[item["name"]] = value if "valueFrom" in item else expanded(value, environ)
    return environ


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """The text with `$(NAME)` replaced by what is known; `$$` is one dollar."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return environ.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def values_of(plural: str, reference: Obj, find: Find) -> dict[str, bytes]:
    """The keys of the ConfigMap or Secret that is named; none where it may be missing. Raises MissingError."""
    name = reference.get("name") or reference.get("secretName") or ""
    found = find(plural, name)
    if found is None and not reference.get("optional"):
        raise MissingError(f"{plural} {name}")
    data, binary = ((found or {}).get(key) or {} for key in ("data", "binaryData"))
    if plural == "secrets":
        return {key: base64.b64decode(value) for key, value in data.items()}
    decoded = {key: base64.b64decode(value) for key, value in binary.items()}
    return {**{key: str(value).encode() for key, value in data.items()}, **decoded}


def _value(item: Obj, pod: Obj | None, find: Find) -> str | None:
    source = item.get("valueFrom")
    if source is None:
        return str(item.get("value", ""))
    for kind, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if kind in source:
            values = values_of(plural, source[kind], find)
            key = source[kind]["key"]
            if key not in values and not source[kind].get("optional"):
                raise MissingError(f"{plural} {source[kind].get('name')}: no key {key}")
            return values[key].decode() if key in values else None
    path = (source.get("fieldRef") or {}).get("fieldPath", "")
    if pod is None or path not in _FIELDS:
        raise NotModelledError(f"{item['name']}: valueFrom {path or ', '.join(source)}")
    part, name = _FIELDS[path]
    return str(pod[part].get(name, ""))
