"""What a container finds around it: its volumes, out of a cluster's ConfigMaps and Secrets.

It owns how `volumes` are read and where they lie on this machine. Sources of a kind that it does not know are
refused.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cali_infra.sandbox.pod_environment import Find, MissingError, NotModelledError, Obj, values_of


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
            values = values_of(plural, reference, find)
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
