"""Helm's releases as the cluster has them: one Secret per revision, in the release's namespace.

It reads what Helm wrote and writes nothing; a record is unpacked when something in it is asked for, and values are
not: they are nobody's business here. What a status means for the next apply is `wedged.py`'s. Source: Helm 4.1,
`pkg/storage/driver/secrets.go`, `util.go` and `pkg/release/v1`: the document is JSON, gzipped, in base64, and the
Secret's own base64 is around that.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core.rollout import ROLLED_OUT

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes, Object

DEPLOYED, FAILED, UNINSTALLING = "deployed", "failed", "uninstalling"
# What a revision is that worked once.
RAN = (DEPLOYED, "superseded")
PENDING = ("pending-install", "pending-upgrade", "pending-rollback")


@dataclass(frozen=True)
class Revision:
    """One revision of a release, by the labels of the Secret that holds it. What stands in its record is empty, or
    None, where the record cannot be read."""

    name: str
    namespace: str
    number: int
    status: str
    record: Object = field(default_factory=dict, repr=False)

    @property
    def secret(self) -> tuple[ObjectRef, str]:
        """The Secret that holds it, and its uid."""
        meta = self.record["metadata"]
        return ObjectRef("v1", "Secret", self.namespace, meta["name"]), str(meta["uid"])

    @property
    def chart(self) -> str:
        """The chart's name."""
        return str(self._chart.get("name") or "")

    @property
    def chart_version(self) -> str:
        return str(self._chart.get("version") or "")

    @property
    def app_version(self) -> str:
        """The version of the application that the chart is made for."""
        return str(self._chart.get("appVersion") or "")

    @property
    def description(self) -> str:
        """Helm's own sentence on how it came about."""
        return str((self._document.get("info") or {}).get("description") or "")

    @property
    def changed_at(self) -> datetime | None:
        """When Helm last began something with it."""
        return _moment(str((self._document.get("info") or {}).get("last_deployed") or ""))

    def objects(self) -> tuple[ObjectRef, ...]:
        """The objects of its manifest, without hooks; none where nothing was installed."""
        return tuple(self._objects())

    def workloads(self) -> tuple[ObjectRef, ...]:
        """The DaemonSets, Deployments and StatefulSets among its objects."""
        return tuple(ref for ref in self._objects() if ref.kind in ROLLED_OUT)

    @property
    def _chart(self) -> Mapping[str, Any]:
        return (self._document.get("chart") or {}).get("metadata") or {}

    def _objects(self) -> Iterator[ObjectRef]:
        import yaml

        # Airflow's manifest has some thousand lines, and libyaml reads it ten times as fast.
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            documents = list(yaml.load_all(self._document.get("manifest") or "", loader))
        except yaml.YAMLError:
            return
        for obj in documents:
            if isinstance(obj, Mapping) and obj.get("kind") and (obj.get("metadata") or {}).get("name"):
                meta = obj["metadata"]
                namespace = str(meta.get("namespace") or self.namespace)
                yield ObjectRef(str(obj["apiVersion"]), str(obj["kind"]), namespace, str(meta["name"]))

    @cached_property
    def _document(self) -> Mapping[str, Any]:
        try:
            packed = base64.b64decode(base64.b64decode(self.record["data"]["release"]))
            document = json.loads(gzip.decompress(packed))
        except (KeyError, TypeError, ValueError, OSError, EOFError):
            # What its labels say is still true.
            return {}
        return document if isinstance(document, dict) else {}


def histories(secrets: Sequence[Object]) -> dict[tuple[str, str], list[Revision]]:
    """Every release's revisions among Secrets, the oldest first, by namespace and name."""
    found: dict[tuple[str, str], list[Revision]] = {}
    for secret in secrets:
        labels = secret["metadata"].get("labels") or {}
        if labels.get("owner") != "helm" or not {"name", "version", "status"} <= labels.keys():
            continue
        revision = Revision(
            labels["name"],
            secret["metadata"]["namespace"],
            int(labels["version"]) if labels["version"].isdecimal() else 0,
            labels["status"],
            secret,
        )
        found.setdefault((revision.namespace, revision.name), []).append(revision)
    return {key: sorted(found[key], key=lambda revision: revision.number) for key in sorted(found)}


def read(kubernetes: Kubernetes, namespace: str | None = None) -> dict[tuple[str, str], list[Revision]]:
    """The histories of the releases in a namespace, or in all. Raises KubernetesError."""
    return histories(kubernetes.list("v1", "Secret", namespace, {"owner": "helm"}))


def newest(secrets: Sequence[Object]) -> dict[tuple[str, str], Revision]:
    """The newest revision of every release among Secrets, by namespace and name."""
    return {key: history[-1] for key, history in histories(secrets).items()}


def _moment(text: str) -> datetime | None:
    """Go writes nine digits of a second, of which Python takes six."""
    whole, dot, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    try:
        found = datetime.fromisoformat(f"{whole}{dot}{rest[: min(digits, 6)]}{rest[digits:]}")
    except ValueError:
        return None
    return found if found.tzinfo else None
