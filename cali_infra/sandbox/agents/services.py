"""The services: what Helm would make of their releases, and the applications behind their pods.

Helm's stand-in installs nothing: it records, with the objects that a chart is rendered to. For every deployed
release of a chart that has any, they are made here; what a later revision leaves out is taken away, and all of them
when the release is gone, but for what its annotation keeps. Which server answers at a pod's port and what a command
finds in its containers is `services/site.py`'s. GitSync is played here: as often as its period says it looks which
commit the branch is at, where the repository is on this machine; of any other it has brought forty zeros.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cali_infra.adapters import git
from cali_infra.errors import GitError
from cali_infra.sandbox.charts.objects import KEEP, POLICY
from cali_infra.sandbox.helm.releases import DEPLOYED, Release, decode
from cali_infra.sandbox.kubernetes.errors import ApiError
from cali_infra.sandbox.kubernetes.executing import Surroundings
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.pod_programs import Programs
from cali_infra.sandbox.services.site import Site

_log = logging.getLogger(__name__)
_MANAGER = "helm"
# The charts that are played, each in the namespace of its name.
CHARTS = ("airflow", "milvus", "grafana")
NO_COMMIT = "0" * 40
_HERE = ("127.0.0.1", "localhost", "::1")
_GIT_PATIENCE = 5.0
_WORKLOADS = (("deployments", "Deployment"), ("statefulsets", "StatefulSet"))
# Pods are ready at once here: so many short looks, and it goes on without them.
_LOOKS, _PAUSE = 50, 0.02

Obj = Mapping[str, Any]
Key = tuple[str, str]
# The commit of a branch or a tag of a repository. Raises GitError.
FindHead = Callable[[str, str], str | None]


def find_head(url: str, ref: str) -> str | None:
    """What a repository that anybody may read says of a branch or a tag. Raises GitError."""
    return git.head(git.Remote(url), ref, os.environ, _GIT_PATIENCE)


@dataclass
class _Known:
    """One cluster as this agent knows it."""

    site: Site
    # By the Secret that records it: each is decoded once.
    records: dict[str, Release] = field(default_factory=dict)
    made: dict[Key, tuple[int, list[dict[str, Any]]]] = field(default_factory=dict)
    synced: datetime | None = None
    held_back: bool = False


class Services:
    """The services in every cluster of a stand-in. `folder` is for what their containers find, and the agent's own;
    `ca_file` is the authority behind the domains."""

    def __init__(
        self,
        clusters: KubernetesStandIn,
        folder: Path,
        ca_file: str,
        now: Callable[[], datetime],
        *,
        head: FindHead = find_head,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clusters, self._folder, self._ca_file, self._now = clusters, folder, ca_file, now
        self._head, self._sleep = head, sleep
        self._known: dict[str, _Known] = {}

    def tick(self, cluster: str) -> None:
        """Bring the objects to what Helm's records say, and the applications to the pods."""
        known = self._of(cluster)
        releases = self._deployed(cluster, known)
        changed: list[dict[str, Any]] = []
        for key in known.made.keys() - releases.keys():
            self._remove(cluster, known.made.pop(key)[1], [])
        for key, release in releases.items():
            before = known.made.get(key)
            if before is None or before[0] != release.revision:
                objects = _documents(release)
                self._remove(cluster, before[1] if before else [], objects)
                self._apply(cluster, objects)
                known.made[key] = release.revision, objects
                changed += objects
        if changed:
            self._await(cluster, changed)
        values = {
            release.chart.name: release.config
            for (namespace, _), release in releases.items()
            if release.chart.name == namespace
        }
        self._sync(known, values.get("airflow"))
        known.site.look(values)

    def forget(self, cluster: str) -> None:
        """A cluster is gone."""
        known = self._known.pop(cluster, None)
        if known is not None:
            known.site.close()
            shutil.rmtree(known.site.programs.folder, ignore_errors=True)

    def close(self) -> None:
        """Forget them all."""
        for cluster in list(self._known):
            self.forget(cluster)

    def network(self, cluster: str) -> Mapping[str, str]:
        """The variables by which a process that runs in the place of a pod reaches the cluster's Services by their
        names, and trusts the sandbox's authority."""
        return self._of(cluster).site.network()

    def programs(self, cluster: str) -> Programs:
        """What the containers find, and what the applications remember; for a test."""
        return self._of(cluster).site.programs

    def hold_git_sync_back(self, cluster: str, held: bool = True) -> None:
        """Let GitSync bring nothing new, or go on."""
        self._of(cluster).held_back = held

    def hold_scheduler_back(self, cluster: str, held: bool = True, *, ago: timedelta = timedelta()) -> None:
        """Let Airflow's scheduler hang in a pod that stays ready, its last heartbeat so long `ago`; or go on.

        It is unhealthy to Airflow itself from an age of 30 seconds on.
        """
        self._of(cluster).site.hold_scheduler_back(held, ago)

    def _of(self, cluster: str) -> _Known:
        if cluster not in self._known:
            folder = self._folder / cluster
            shutil.rmtree(folder, ignore_errors=True)
            self._known[cluster] = _Known(
                Site(_View(self._clusters, cluster), folder, self._ca_file, self._now)
            )
        return self._known[cluster]

    # -- releases ---------------------------------------------------------------------------------------

    def _deployed(self, cluster: str, known: _Known) -> dict[Key, Release]:
        """The newest deployed revision of each release of the charts that are played."""
        found: dict[Key, Release] = {}
        records: dict[str, Release] = {}
        for secret in self._clusters.objects(cluster, "secrets"):
            labels = secret["metadata"].get("labels") or {}
            if labels.get("owner") != "helm" or labels.get("status") != DEPLOYED:
                continue
            identity = f"{secret['metadata']['uid']}/{secret['metadata']['resourceVersion']}"
            release = records[identity] = known.records.get(identity) or decode(secret)
            key = release.namespace, release.name
            if release.chart.name in CHARTS and (key not in found or found[key].revision < release.revision):
                found[key] = release
        known.records = records
        return found

    def _apply(self, cluster: str, objects: Sequence[dict[str, Any]]) -> None:
        for obj in objects:
            try:
                self._clusters.apply(cluster, obj, _MANAGER)
            except ApiError as error:
                _log.warning("%s %s: %s", obj["kind"], obj["metadata"]["name"], error.message)

    def _remove(self, cluster: str, objects: Sequence[Obj], but: Sequence[Obj]) -> None:
        """Take away what is not in `but`; what is to be kept stays, as after `helm uninstall`."""
        stay = {_identity(obj) for obj in but}
        for obj in reversed(objects):
            policy = (obj["metadata"].get("annotations") or {}).get(POLICY)
            if _identity(obj) not in stay and policy != KEEP:
                group, _, _ = obj["apiVersion"].rpartition("/")
                meta = obj["metadata"]
                self._clusters.remove(cluster, obj["kind"], meta["namespace"], meta["name"], group)

    def _await(self, cluster: str, objects: Sequence[Obj]) -> None:
        """Until the workloads are ready, as Helm waits for them; those that cannot be, are not waited for long."""
        wanted = {_identity(obj) for obj in objects}
        for _ in range(_LOOKS):
            waiting = [
                obj
                for plural, kind in _WORKLOADS
                for obj in self._clusters.objects(cluster, plural, "apps")
                if (kind, obj["metadata"]["namespace"], obj["metadata"]["name"]) in wanted and not _is_up(obj)
            ]
            if not waiting:
                return
            self._sleep(_PAUSE)

    # -- GitSync ----------------------------------------------------------------------------------------

    def _sync(self, known: _Known, values: Obj | None) -> None:
        git_sync = ((values or {}).get("dags") or {}).get("gitSync") or {}
        if not git_sync.get("enabled"):
            known.synced = None
            return
        now = self._now()
        if known.synced is not None and (
            known.held_back or (now - known.synced).total_seconds() < _seconds(git_sync.get("period"))
        ):
            return
        known.synced = now
        url, ref = str(git_sync.get("repo") or ""), str(git_sync.get("ref") or "HEAD")
        commit: str | None = NO_COMMIT
        if _is_here(url):
            try:
                commit = self._head(url, ref)
            except GitError as error:
                _log.info("GitSync: %s", error.message)
                return
        if commit is not None and known.site.programs.state.get("commit") != commit:
            known.site.programs.change(commit=commit)


class _View:
    """One cluster of the stand-in, as `site.Cluster`; one that has gone has nothing in it."""

    def __init__(self, clusters: KubernetesStandIn, name: str) -> None:
        self._clusters, self._name = clusters, name

    def objects(self, plural: str, group: str = "") -> Sequence[Obj]:
        try:
            return self._clusters.objects(self._name, plural, group)
        except LookupError:
            return ()

    def set_port(self, namespace: str, pod: str, port: int, address: tuple[str, int] | None) -> None:
        self._clusters.set_port(self._name, namespace, pod, port, address)

    def set_container(self, namespace: str, pod: str, container: str, surroundings: Surroundings) -> None:
        self._clusters.set_container(self._name, namespace, pod, container, surroundings)


def _documents(release: Release) -> list[dict[str, Any]]:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    objects = [obj for obj in yaml.load_all(release.manifest, loader) if obj]
    for obj in objects:
        obj["metadata"].setdefault("namespace", release.namespace)
    return objects


def _identity(obj: Obj) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]


def _is_up(workload: Obj) -> bool:
    status = workload.get("status") or {}
    return bool(
        status.get("observedGeneration") == workload["metadata"].get("generation", 1)
        and status.get("readyReplicas", 0) >= workload["spec"].get("replicas", 1)
        and status.get("updatedReplicas", 0) >= workload["spec"].get("replicas", 1)
    )


def _is_here(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return url.startswith(("/", "file:///"))
    return parts.scheme in ("http", "https") and parts.hostname in _HERE


def _seconds(period: Any) -> float:
    found = re.fullmatch(r"(\d+)s", str(period))
    return float(found[1]) if found else 5.0
