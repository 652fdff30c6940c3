"""Helm's records of releases, which lie in Secrets: their status, and the objects that a release is made of.

Only what is asked for is decoded, and values are not: they are nobody's business here. Source: Helm's storage
driver "secret".
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core.rollout import ROLLED_OUT

Object = Mapping[str, Any]
DEPLOYED = "deployed"


@dataclass(frozen=True)
class Release:
    """The newest revision of a release. `description` is Helm's own sentence on how it came about."""

    name: str
    namespace: str
    status: str
    revision: int
    secret: Object = field(default_factory=dict, repr=False)

    @property
    def description(self) -> str:
        return str((self._document().get("info") or {}).get("description") or "")

    @property
    def chart(self) -> str:
        """Name and version of the chart."""
        metadata = (self._document().get("chart") or {}).get("metadata") or {}
        return f"{metadata.get('name', '?')} {metadata.get('version', '?')}"

    def workloads(self) -> tuple[ObjectRef, ...]:
        """The DaemonSets, Deployments and StatefulSets in its manifest; none where nothing was installed."""
        return tuple(self._workloads())

    def _workloads(self) -> Iterator[ObjectRef]:
        import yaml

        # Airflow's manifest has some thousand lines, and libyaml reads it ten times as fast.
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for obj in yaml.load_all(self._document().get("manifest") or "", loader):
            if isinstance(obj, Mapping) and obj.get("kind") in ROLLED_OUT:
                meta = obj["metadata"]
                namespace = meta.get("namespace") or self.namespace
                yield ObjectRef(obj["apiVersion"], obj["kind"], namespace, meta["name"])

    def _document(self) -> Mapping[str, Any]:
        try:
            packed = base64.b64decode(base64.b64decode(self.secret["data"]["release"]))
            document: Mapping[str, Any] = json.loads(gzip.decompress(packed))
            return document
        except (KeyError, ValueError, OSError, EOFError):
            # A record that cannot be read says nothing more than its labels do.
            return {}


def releases(secrets: Sequence[Object]) -> dict[tuple[str, str], Release]:
    """The newest revision of every release among Secrets, by namespace and name."""
    newest: dict[tuple[str, str], Release] = {}
    for secret in secrets:
        labels = secret["metadata"].get("labels") or {}
        if labels.get("owner") != "helm":
            continue
        release = Release(
            labels.get("name", ""),
            secret["metadata"]["namespace"],
            labels.get("status", ""),
            int(labels.get("version") or 0),
            secret,
        )
        key = (release.namespace, release.name)
        if key not in newest or newest[key].revision < release.revision:
            newest[key] = release
    return newest
