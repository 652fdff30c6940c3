"""What a stage holds in the cluster, kept in the cluster: any laptop can prune and delete by it.

It is a ConfigMap `cali-inventory-STAGE` in `kube-system`, the one namespace that every cluster has, that no stage
deletes, and that access policies limited to namespaces do not reach. It holds names of objects and of fields, and
no values. What to do about them is `manifests.py`'s.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.plans import Action, ResourceChange

NAMESPACE = "kube-system"
# A thousand objects have much the same fields, and a ConfigMap holds a megabyte: they are packed.
_FIELDS = "fields.json.gz"


@dataclass(frozen=True)
class Holdings:
    """The objects of a stage, each with whether cali made it or found it there.

    `fields` are the paths that cali applied last: when somebody else sets one of them, the server forgets that
    cali ever had it. `complete` is False from the first write of an apply to its end: an interrupted one shows.
    """

    made: Mapping[ObjectRef, bool] = field(default_factory=dict)
    complete: bool = True
    fields: Mapping[ObjectRef, frozenset[str]] = field(default_factory=dict)

    @property
    def own(self) -> tuple[ObjectRef, ...]:
        """What cali made, and may therefore delete."""
        return tuple(ref for ref, made in self.made.items() if made)


class Inventory:
    """The record of one stage."""

    def __init__(self, stage: str, kubernetes: Kubernetes) -> None:
        self.ref = ObjectRef("v1", "ConfigMap", NAMESPACE, f"cali-inventory-{stage}")
        self._kubernetes = kubernetes

    def read(self) -> Holdings | None:
        """What the stage holds, or None where it was never applied."""
        found = self._kubernetes.get(self.ref)
        if found is None:
            return None
        data = found.get("data") or {}
        made = dict(_read(item) for item in json.loads(data.get("objects") or "[]"))
        packed = (found.get("binaryData") or {}).get(_FIELDS)
        return Holdings(made, data.get("complete") == "true", _unpacked(packed, made))

    def write(self, holdings: Holdings) -> None:
        """Replace the record."""
        lines = ",\n".join(json.dumps(item) for item in _items(holdings.made.items()))
        self._kubernetes.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": self.ref.name,
                    "namespace": self.ref.namespace,
                    "labels": {"app.kubernetes.io/managed-by": "cali"},
                },
                "data": {"complete": json.dumps(holdings.complete), "objects": f"[\n{lines}\n]\n"},
                "binaryData": {_FIELDS: _packed(holdings)},
            },
            # Nobody else has any business in it.
            force=True,
        )

    def remove(self) -> None:
        """Forget the stage."""
        self._kubernetes.delete(self.ref)

    def change(self, before: Holdings | None, after: Holdings) -> ResourceChange | None:
        """How the record itself changes."""
        if before is None:
            return ResourceChange(str(self.ref), Action.CREATE)
        if before == after:
            return None
        fields = [f"objects: {len(before.made)} -> {len(after.made)}"] if before.made != after.made else []
        if before.complete != after.complete:
            fields.append("complete: false -> true")
        if not fields:
            fields.append("fields: the ones that cali manages")
        return ResourceChange(str(self.ref), Action.UPDATE, tuple(fields))


def _read(item: Mapping[str, Any]) -> tuple[ObjectRef, bool]:
    ref = ObjectRef(item["apiVersion"], item["kind"], item.get("namespace"), item["name"])
    return ref, bool(item["made"])


def _packed(holdings: Holdings) -> str:
    """The fields of the objects, in the order of their names; the same fields make the same text."""
    fields = [sorted(holdings.fields.get(ref, ())) for ref in sorted(holdings.made, key=str)]
    return base64.b64encode(gzip.compress(json.dumps(fields).encode(), mtime=0)).decode()


def _unpacked(packed: str | None, made: Iterable[ObjectRef]) -> dict[ObjectRef, frozenset[str]]:
    if packed is None:
        return {}
    fields = json.loads(gzip.decompress(base64.b64decode(packed)))
    named = zip(sorted(made, key=str), fields, strict=True)
    return {ref: frozenset(paths) for ref, paths in named if paths}


def _items(made: Iterable[tuple[ObjectRef, bool]]) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": ref.api_version,
            "kind": ref.kind,
            **({"namespace": ref.namespace} if ref.namespace else {}),
            "name": ref.name,
            "made": own,
        }
        for ref, own in sorted(made, key=lambda item: str(item[0]))
    ]
