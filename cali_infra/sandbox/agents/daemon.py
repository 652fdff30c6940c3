"""The configuration's file that the container of a DaemonSet is started with."""

from __future__ import annotations

from pathlib import PurePosixPath

from cali_infra.sandbox.fluent_bit import ConfigurationError
from cali_infra.sandbox.pod_environment import Find, Obj


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


def _argument(arguments: list[str]) -> PurePosixPath | None:
    """The value of `--config`, in any of the forms that the program takes."""
    for number, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return PurePosixPath(argument.removeprefix("--config="))
        if argument in ("-c", "--config") and number + 1 < len(arguments):
            return PurePosixPath(arguments[number + 1])
    return None
