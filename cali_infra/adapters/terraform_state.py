"""A Terraform state as `state pull` prints it: its identity, its outputs, what is in it.

It reads state format 4, which Terraform since 0.12 and OpenTofu write; how the text is fetched is
`terraform.py`'s. Everything in a state may be secret, so nothing here goes into an error's text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cali_infra.errors import TerraformError

FORMAT = 4


@dataclass(frozen=True)
class StateResource:
    """One instance of a resource: `address` as plans name it, `mode` managed or data.

    `id` is the instance's attribute of that name; `attributes` are there for tainted instances only, where
    somebody has to look at what was left behind. Neither is shown by `repr`.
    """

    address: str
    type: str
    name: str
    mode: str
    module: str = ""
    tainted: bool = False
    deposed: bool = False
    id: str = field(default="", repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class StateSnapshot:
    """A state at one moment. `exists` is False before the first apply; then everything else is empty.

    `sensitive` names the outputs whose values are secret; `outputs` holds those values too.
    """

    exists: bool = False
    serial: int = 0
    lineage: str = ""
    terraform_version: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sensitive: frozenset[str] = frozenset()
    resources: tuple[StateResource, ...] = ()

    @property
    def empty(self) -> bool:
        """No managed resource is in it: never applied, or destroyed."""
        return not self.managed

    @property
    def managed(self) -> tuple[StateResource, ...]:
        """The resources that a destroy would delete."""
        return tuple(resource for resource in self.resources if resource.mode == "managed")

    @property
    def tainted(self) -> tuple[StateResource, ...]:
        """What an interrupt or a failure left half made: the next plan would replace it."""
        return tuple(resource for resource in self.resources if resource.tainted)


def parse(text: str) -> StateSnapshot:
    """The snapshot in the output of `state pull`; empty output is a state that does not exist yet.

    Raises TerraformError when the text is not a state of format 4.
    """
    if not text.strip():
        return StateSnapshot()
    try:
        raw = json.loads(text)
        version = raw["version"]
    except (ValueError, KeyError, TypeError):
        raise TerraformError("`terraform state pull` printed something that is not a state") from None
    if version != FORMAT:
        raise TerraformError(
            f"the state has format {version}; cali reads format {FORMAT}",
            remedy="use the cali and the Terraform version that wrote it, or upgrade cali",
        )
    lineage = str(raw.get("lineage") or "")
    if not lineage:
        # A remote backend answers for a state that nobody has written yet; a lineage comes with the first write.
        return StateSnapshot()
    outputs = raw.get("outputs") or {}
    return StateSnapshot(
        exists=True,
        serial=int(raw.get("serial", 0)),
        lineage=lineage,
        terraform_version=str(raw.get("terraform_version", "")),
        outputs={name: entry.get("value") for name, entry in outputs.items()},
        sensitive=frozenset(name for name, entry in outputs.items() if entry.get("sensitive")),
        resources=tuple(
            _instance(resource, instance)
            for resource in raw.get("resources") or ()
            for instance in resource.get("instances") or ()
        ),
    )


def _instance(resource: Mapping[str, Any], instance: Mapping[str, Any]) -> StateResource:
    tainted = instance.get("status") == "tainted"
    attributes = instance.get("attributes") or {}
    return StateResource(
        address=_address(resource, instance),
        type=resource["type"],
        name=resource["name"],
        mode=resource["mode"],
        module=resource.get("module", ""),
        tainted=tainted,
        deposed="deposed" in instance,
        id=str(attributes.get("id") or ""),
        attributes=attributes if tainted else {},
    )


def _address(resource: Mapping[str, Any], instance: Mapping[str, Any]) -> str:
    """`module.a["x"].data.type.name["key"]`, quoted as Terraform quotes it."""
    parts = [resource["module"]] if resource.get("module") else []
    if resource["mode"] == "data":
        parts.append("data")
    parts += [resource["type"], resource["name"]]
    return ".".join(parts) + _index(instance)


def _index(instance: Mapping[str, Any]) -> str:
    key = instance.get("index_key")
    if key is None:
        return ""
    return f"[{key}]" if isinstance(key, int) else f"[{_quoted(key)}]"


def _quoted(key: str) -> str:
    """A string key in HCL's quotes: `${` and `%{` are doubled, or Terraform would read a template."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return '"' + escaped.replace("${", "$${").replace("%{", "%%{") + '"'
