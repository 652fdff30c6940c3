"""What a stage holds in the cluster, kept in the cluster: any laptop can prune and delete by it.

It is a ConfigMap `cali-inventory-STAGE` in `kube-system`, the one namespace that every cluster has, that no stage
deletes, and that access policies limited to namespaces do not reach. It holds names only. What to do about them
is `manifests.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.plans import Action, ResourceChange

NAMESPACE = "kube-system"


@dataclass(frozen=True)
class Holdings:
    """The objects of a stage, each with whether cali made it or found it there.

    `complete` is False from the first write of an apply to its end: an interrupted one shows.
    """

    made: Mapping[ObjectRef, bool] = field(default_factory=dict)
    complete: bool = True

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
        items = json.loads(data.get("objects") or "[]")
        return Holdings(dict(_read(item) for item in items), data.get("complete") == "true")

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
        return ResourceChange(str(self.ref), Action.UPDATE, tuple(fields))


def _read(item: Mapping[str, Any]) -> tuple[ObjectRef, bool]:
    ref = ObjectRef(item["apiVersion"], item["kind"], item.get("namespace"), item["name"])
    return ref, bool(item["made"])


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
