"""The record of releases, kept where Helm itself keeps it: a Secret per revision in the release's namespace.

Helm can list these records and `kubectl get secrets` shows them; nothing else is made here. Source: Helm's
storage driver "secret" and its release object, of which the chart's own fields stay empty.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from cali_infra.sandbox import charts
from cali_infra.sandbox.helm.charts import ChartVersion
from cali_infra.sandbox.helm.cluster import Cluster, ClusterError
from cali_infra.sandbox.helm.values import merge

SECRET_TYPE = "helm.sh/release.v1"
NOTES = "recorded by cali's sandbox; nothing was installed by it"
DEPLOYED, SUPERSEDED, FAILED, UNINSTALLED = "deployed", "superseded", "failed", "uninstalled"
# What Helm says of pods that are not ready in time, and the stand-in of an end that Helm cannot speak of.
_NOT_READY = "context deadline exceeded"
_HALF_WAY = "cali's stand-in for the Helm provider was told to end half way; the record stays pending"
PENDING = ("pending-install", "pending-upgrade", "pending-rollback")


class ReleaseError(Exception):
    """Helm would not do this; the text is Helm's own."""


class FailedReleaseError(ReleaseError):
    """It was tried and it failed, and this is the record that was left."""

    def __init__(self, text: str, release: Release) -> None:
        super().__init__(text)
        self.release = release


class Mishap(Enum):
    """How an install or an upgrade ends badly: the pods are not ready in time, or Helm is killed half way."""

    TIMEOUT = "timeout"
    KILLED = "killed"


class Mishaps:
    """What goes wrong next, by the release's name, as a test wishes; safe to set from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, Mishap] = {}

    def happen(self, name: str, mishap: Mishap) -> None:
        """The next install or upgrade of this release ends so."""
        with self._lock:
            self._next[name] = mishap

    def take(self, name: str) -> Mishap | None:
        """What happens to this release now."""
        with self._lock:
            return self._next.pop(name, None)


@dataclass(frozen=True)
class Release:
    """One revision of a release; `config` are the values it was given, secret ones covered."""

    name: str
    namespace: str
    revision: int
    status: str
    chart: ChartVersion
    config: Mapping[str, Any]
    first_deployed: datetime
    last_deployed: datetime
    description: str
    notes: str = NOTES
    # What the chart is rendered to, as far as the sandbox knows it.
    manifest: str = ""

    @property
    def secret_name(self) -> str:
        """The name of the Secret that holds this revision."""
        return f"sh.helm.release.v1.{self.name}.v{self.revision}"


@dataclass(frozen=True)
class Upgrade:
    """How an upgrade treats what is there: values of the last revision, how many revisions to keep, and whether a
    failed one is rolled back."""

    reuse_values: bool = False
    reset_values: bool = False
    max_history: int = 0
    atomic: bool = False


class Releases:
    """The releases of one namespace of one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        clock: Callable[[], datetime],
        mishaps: Mishaps | None = None,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._clock = clock
        self._mishaps = mishaps or Mishaps()

    def history(self, name: str) -> list[Release]:
        """Every recorded revision of a release, oldest first. Raises ClusterError."""
        self._cluster.reach()
        try:
            found = self._cluster.request(
                "GET", self._path(), query={"labelSelector": f"name={name},owner=helm"}
            )
        except ClusterError as error:
            raise ClusterError(f"query: failed to query with labels: {error}", error.status) from None
        records = [decode(secret) for secret in found.get("items") or []]
        return sorted(records, key=lambda release: release.revision)

    def last(self, name: str) -> Release | None:
        """The newest revision, or None where there is no such release. Raises ClusterError."""
        history = self.history(name)
        return history[-1] if history else None

    def install(
        self,
        name: str,
        chart: ChartVersion,
        config: Mapping[str, Any],
        *,
        description: str = "",
        create_namespace: bool = False,
        replace_failed: bool = False,
        atomic: bool = False,
    ) -> Release:
        """Record the first revision of a release; one that fails is taken away again where it is `atomic`.

        Raises ReleaseError where the name is in use, FailedReleaseError, and ClusterError where the namespace is
        missing.
        """
        before = self.last(name)
        reusable = replace_failed and before is not None and before.status in (FAILED, UNINSTALLED)
        if before is not None and not reusable:
            raise ReleaseError("cannot re-use a name that is still in use")
        if create_namespace:
            self._create_namespace()
        present = self._clock()
        release = Release(
            name,
            self._namespace,
            before.revision + 1 if before else 1,
            DEPLOYED,
            chart,
            dict(config),
            present,
            present,
            description or "Install complete",
            manifest=charts.manifest(chart.name, name, self._namespace, config),
        )
        match self._mishaps.take(name):
            case Mishap.KILLED:
                self._create(
                    replace(release, status="pending-install", description="Initial install underway")
                )
                raise ReleaseError(_HALF_WAY)
            case Mishap.TIMEOUT:
                failed = replace(release, status=FAILED, description=f'Release "{name}" failed: {_NOT_READY}')
                self._create(failed)
                if atomic:
                    self.uninstall(name)
                    raise ReleaseError(
                        f"release {name} failed, and has been uninstalled due to atomic being set: {_NOT_READY}"
                    )
                raise FailedReleaseError(_NOT_READY, failed)
        self._create(release)
        if before is not None:
            self._update(replace(before, status=SUPERSEDED))
        return release

    def upgrade(
        self,
        name: str,
        chart: ChartVersion,
        config: Mapping[str, Any],
        how: Upgrade,
        *,
        description: str = "",
    ) -> Release:
        """Record the next revision of a release; the one before it becomes superseded.

        Raises ReleaseError where nothing is deployed or something is under way, ClusterError.
        """
        history = self.history(name)
        if not history:
            raise ReleaseError(f'"{name}" has no deployed releases')
        before = history[-1]
        if before.status in PENDING:
            raise ReleaseError("another operation (install/upgrade/rollback) is in progress")
        deployed = [old for old in history if old.status == DEPLOYED]
        if not deployed and before.status not in (FAILED, SUPERSEDED):
            raise ReleaseError(f'"{name}" has no deployed releases')
        present, merged = self._clock(), _upgraded_config(before.config, config, how)
        release = Release(
            name,
            self._namespace,
            before.revision + 1,
            DEPLOYED,
            chart,
            merged,
            history[0].first_deployed,
            present,
            description or "Upgrade complete",
            manifest=charts.manifest(chart.name, name, self._namespace, merged),
        )
        match self._mishaps.take(name):
            case Mishap.KILLED:
                self._create(replace(release, status="pending-upgrade", description="Preparing upgrade"))
                raise ReleaseError(_HALF_WAY)
            case Mishap.TIMEOUT:
                failed = replace(release, status=FAILED, description=f'Upgrade "{name}" failed: {_NOT_READY}')
                self._create(failed)
                if how.atomic and deployed:
                    self._roll_back(failed, deployed[-1])
                    raise ReleaseError(
                        f"release {name} failed, and has been rolled back due to atomic being set: {_NOT_READY}"
                    )
                raise FailedReleaseError(_NOT_READY, failed)
        self._create(release)
        for old in history:
            if old.status == DEPLOYED:
                self._update(replace(old, status=SUPERSEDED))
        if how.max_history > 0:
            for old in [*history, release][: -how.max_history]:
                self._delete(old)
        return release

    def _roll_back(self, failed: Release, deployed: Release) -> None:
        """Record the last good revision once more, as the newest."""
        again = replace(
            deployed,
            revision=failed.revision + 1,
            last_deployed=self._clock(),
            description=f"Rollback to {deployed.revision}",
        )
        self._create(again)
        self._update(replace(deployed, status=SUPERSEDED))

    def uninstall(self, name: str) -> None:
        """Remove every record of a release; none is no error. Raises ClusterError."""
        for release in self.history(name):
            self._delete(release)

    def _path(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self._namespace}/secrets" + (f"/{name}" if name else "")

    def _create_namespace(self) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self._namespace, "labels": {"name": self._namespace}},
        }
        try:
            self._cluster.request("POST", "/api/v1/namespaces", body=body)
        except ClusterError as error:
            if error.status != 409:
                raise

    def _create(self, release: Release) -> None:
        try:
            self._cluster.request("POST", self._path(), body=encode(release, "createdAt"))
        except ClusterError as error:
            raise ClusterError(f"create: failed to create: {error}", error.status) from None

    def _update(self, release: Release) -> None:
        try:
            self._cluster.request(
                "PUT", self._path(release.secret_name), body=encode(release, "modifiedAt", self._clock())
            )
        except ClusterError as error:
            raise ClusterError(f"update: failed to update: {error}", error.status) from None

    def _delete(self, release: Release) -> None:
        try:
            self._cluster.request("DELETE", self._path(release.secret_name))
        except ClusterError as error:
            if error.status != 404:
                raise


def encode(release: Release, stamp: str, at: datetime | None = None) -> dict[str, Any]:
    """The Secret of a revision; `stamp` names the label that carries the time."""
    document = {
        "name": release.name,
        "info": {
            "first_deployed": release.first_deployed.isoformat(),
            "last_deployed": release.last_deployed.isoformat(),
            "deleted": "",
            "description": release.description,
            "status": release.status,
            "notes": release.notes,
        },
        "chart": {
            "metadata": {
                "name": release.chart.name,
                "version": release.chart.version,
                "appVersion": release.chart.app_version,
                "apiVersion": "v2",
            },
            "lock": None,
            "templates": [],
            "values": {},
            "schema": None,
            "files": [],
        },
        "config": release.config,
        "manifest": release.manifest,
        "version": release.revision,
        "namespace": release.namespace,
    }
    packed = base64.b64encode(gzip.compress(json.dumps(document).encode(), mtime=0))
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": SECRET_TYPE,
        "metadata": {
            "name": release.secret_name,
            "namespace": release.namespace,
            "labels": {
                "name": release.name,
                "owner": "helm",
                "status": release.status,
                "version": str(release.revision),
                stamp: str(int((at or release.last_deployed).timestamp())),
            },
        },
        "data": {"release": base64.b64encode(packed).decode()},
    }


def decode(secret: Mapping[str, Any]) -> Release:
    """The revision that a Secret holds. Raises ReleaseError for a record that is none of Helm's."""
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        document = json.loads(gzip.decompress(packed))
        metadata, info = document["chart"]["metadata"], document["info"]
        return Release(
            document["name"],
            document["namespace"],
            document["version"],
            info["status"],
            ChartVersion(metadata["name"], metadata["version"], metadata.get("appVersion", "")),
            document.get("config") or {},
            datetime.fromisoformat(info["first_deployed"]),
            datetime.fromisoformat(info["last_deployed"]),
            info.get("description", ""),
            info.get("notes", ""),
            document.get("manifest", ""),
        )
    except (KeyError, TypeError, ValueError, OSError, EOFError):
        name = (secret.get("metadata") or {}).get("name", "")
        raise ReleaseError(f"the release record {name} cannot be decoded") from None


def summaries(secrets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The deployed releases among a cluster's Secrets, as `cali sandbox status` shows them."""
    found = [decode(secret) for secret in secrets if secret.get("type") == SECRET_TYPE]
    return [
        {
            "name": release.name,
            "namespace": release.namespace,
            "chart": release.chart.name,
            "version": release.chart.version,
            "values": dict(release.config),
        }
        for release in sorted(found, key=lambda one: (one.namespace, one.name))
        if release.status == DEPLOYED
    ]


def _upgraded_config(before: Mapping[str, Any], given: Mapping[str, Any], how: Upgrade) -> dict[str, Any]:
    if how.reset_values:
        return dict(given)
    if how.reuse_values:
        return merge(before, given)
    # Helm keeps the last values when an upgrade brings none at all.
    return dict(given) if given else dict(before)
