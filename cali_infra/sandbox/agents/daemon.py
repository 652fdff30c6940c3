"""What the container of a DaemonSet is started with: the configuration's file and the environment."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from cali_infra.sandbox.fluent_bit import ConfigurationError

Obj = Mapping[str, Any]
# An object of the daemon's namespace by plural and name.
Find = Callable[[str, str], Obj | None]


def configuration(daemon: Obj, find: Find) -> tuple[str, str]:
    """The name and the text of the file that `--config` names, from the ConfigMap that is mounted there.

    The template is what counts, no name is fixed. Raises ConfigurationError where there is no such thing.
    """
    spec = daemon["spec"]["template"]["spec"]
    (container, *_) = spec["containers"]
    where = f"{daemon['kind']} {daemon['metadata']['namespace']}/{daemon['metadata']['name']}"
    file = _argument([*(container.get("command") or ()), *(container.get("args") or ())])
    if file is None:
        raise ConfigurationError(where, "args", "--config=FILE is modelled, and it is needed")
    for mount in container.get("volumeMounts") or ():
        if PurePosixPath(mount["mountPath"]) == file.parent and not mount.get("subPath"):
            for volume in spec.get("volumes") or ():
                source = volume.get("configMap") or {}
                if volume["name"] == mount["name"] and "name" in source and not source.get("items"):
                    found = find("configmaps", source["name"]) or {}
                    if file.name not in (found.get("data") or {}):
                        raise ConfigurationError(where, "", f"no ConfigMap {source['name']} has {file.name}")
                    return file.name, found["data"][file.name]
    raise ConfigurationError(where, "volumes", f"no ConfigMap is mounted at {file.parent}")


def environment(daemon: Obj, find: Find) -> Iterator[tuple[str, str]]:
    """The variables from ConfigMaps, Secrets and the template; one that cannot be had is left out.

    What comes from a field of the pod differs from pod to pod, and is left out as well.
    """
    (container, *_) = daemon["spec"]["template"]["spec"]["containers"]
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix") or ""
        if "configMapRef" in source:
            found = find("configmaps", source["configMapRef"]["name"]) or {}
            for key, value in (found.get("data") or {}).items():
                yield f"{prefix}{key}", value
        if "secretRef" in source:
            found = find("secrets", source["secretRef"]["name"]) or {}
            for key, value in (found.get("data") or {}).items():
                yield f"{prefix}{key}", base64.b64decode(value).decode()
    for variable in container.get("env") or ():
        if "value" in variable:
            yield variable["name"], variable["value"]


def _argument(arguments: list[str]) -> PurePosixPath | None:
    """The value of `--config`, in any of the forms that the program takes."""
    for number, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return PurePosixPath(argument.removeprefix("--config="))
        if argument in ("-c", "--config") and number + 1 < len(arguments):
            return PurePosixPath(arguments[number + 1])
    return None
