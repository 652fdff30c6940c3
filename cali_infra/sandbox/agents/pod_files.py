"""What a container finds around it: its environment and its volumes, out of a cluster's ConfigMaps and Secrets.

It owns how `env`, `envFrom` and `volumes` are read and where volumes lie on this machine. Sources of a kind that
it does not know are refused. Source: the kubelet's `makeEnvironmentVariables`, and Kubernetes'
`third_party/forked/golang/expansion`.
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class Places:
    """Where the paths of a container lie on this machine."""

    folders: Mapping[str, Path]

    def __call__(self, text: str) -> str:
        """The text with every path of the container's that is a mount replaced by the folder behind it."""
        for path in sorted(self.folders, key=len, reverse=True):
            pattern = rf"(?<![\w./-]){re.escape(path.rstrip('/'))}(?![\w-])"
            # A folder's name holds no backslash, so that it is no template.
            text = re.sub(pattern, str(self.folders[path]), text)
        return text


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """The text with `$(NAME)` replaced by what is known; `$$` is one dollar."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return environ.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def environment(container: Obj, pod: Obj, find: Find) -> dict[str, str]:
    """The variables that a container's spec gives it. Raises NotModelledError and MissingError."""
    environ: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for kind, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if kind in source:
                found = _found(find, plural, source[kind])
                prefix = source.get("prefix", "")
                environ |= {prefix + key: value.decode() for key, value in _values(found).items()}
    for item in container.get("env") or ():
        value = _value(item, pod, find)
        if value is not None:
            environ[item["name"]] = expanded(value, environ) if "valueFrom" not in item else value
    return environ


def _value(item: Obj, pod: Obj, find: Find) -> str | None:
    source = item.get("valueFrom")
    if source is None:
        return str(item.get("value", ""))
    for kind, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if kind in source:
            values = _values(_found(find, plural, source[kind]))
            key = source[kind]["key"]
            if key not in values and not source[kind].get("optional"):
                raise MissingError(f"{plural} {source[kind].get('name')}: no key {key}")
            return values[key].decode() if key in values else None
    path = (source.get("fieldRef") or {}).get("fieldPath", "")
    if path not in _FIELDS:
        raise NotModelledError(f"{item['name']}: valueFrom {path or ', '.join(source)}")
    part, name = _FIELDS[path]
    return str(pod[part].get(name, ""))


def volumes(pod: Obj, folder: Path, claim: Callable[[str], Path], find: Find) -> dict[str, Path]:
    """The pod's volumes by name, each a folder that is there; those of the pod's own lie in `folder`.

    `claim` gives the folder of a claim. Raises NotModelledError and MissingError.
    """
    found: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        if "persistentVolumeClaim" in volume:
            found[name] = claim(volume["persistentVolumeClaim"]["claimName"])
            continue
        path = found[name] = folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        if "projected" in volume:
            for source in volume["projected"].get("sources") or ():
                _write(path, source, find, name)
        elif "emptyDir" not in volume:
            _write(path, volume, find, name)
    return found


def _write(path: Path, source: Obj, find: Find, name: str) -> None:
    for kind, plural in (("configMap", "configmaps"), ("secret", "secrets")):
        if kind in source:
            reference = source[kind]
            values = _values(_found(find, plural, reference))
            for key, where in _items(reference, values):
                target = path / where
                if not target.resolve().is_relative_to(path.resolve()):
                    raise NotModelledError(f"volume {name}: the path {where}")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(values[key])
            return
    raise NotModelledError(f"volume {name}: {', '.join(set(source) - {'name'})}")


def _items(reference: Obj, values: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    if not reference.get("items"):
        yield from ((key, key) for key in values)
        return
    for item in reference["items"]:
        if item["key"] in values:
            yield item["key"], item["path"]
        elif not reference.get("optional"):
            raise MissingError(f"references non-existent config key: {item['key']}")


def mounts(container: Obj, found: Mapping[str, Path]) -> Places:
    """Where a container's mount paths lie."""
    folders = {}
    for mount in container.get("volumeMounts") or ():
        if mount["name"] not in found:
            raise NotModelledError(f"the mount {mount['mountPath']}")
        folders[mount["mountPath"]] = found[mount["name"]] / mount.get("subPath", "")
    return Places(folders)


def _found(find: Find, plural: str, reference: Obj) -> Obj:
    name = reference.get("name") or reference.get("secretName") or ""
    found = find(plural, name)
    if found is None and not reference.get("optional"):
        raise MissingError(f"{plural} {name}")
    return {"plural": plural, **(found or {})}


def _values(obj: Obj) -> dict[str, bytes]:
    """The keys of a ConfigMap or a Secret."""
    if obj["plural"] == "secrets":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    binary = {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return {**{key: str(value).encode() for key, value in (obj.get("data") or {}).items()}, **binary}
