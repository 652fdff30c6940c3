"""The Cluster Autoscaler: its Deployment as long as Helm's record says that it is deployed, its status, and more
nodes for pods without a place.

Helm's stand-in installs nothing, so the Deployment and the service account are made here, with the names and
labels of the chart. It scales up and never down; `scale_up.py` says when. Sources: the chart's `deployment.yaml`,
and the autoscaler's `clusterstate` for the status, which is YAML since 1.30.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import yaml

from cali_infra.sandbox.agents import scale_up
from cali_infra.sandbox.agents.scale_up import Backoff
from cali_infra.sandbox.helm.releases import DEPLOYED, decode
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.ports import Cloud, ScalingGroup

CHART = "cluster-autoscaler"
STATUS = "cluster-autoscaler-status"
_NAME = "aws-cluster-autoscaler"
_MANAGER = "cluster-autoscaler"
_DEFAULT_TAG = "v1.35.0"
# Seconds between two looks of the real one.
_SCAN = 10.0


@dataclass(frozen=True)
class Release:
    """The newest revision of a release, as far as this agent needs it."""

    name: str
    namespace: str
    values: Mapping[str, Any]

    @property
    def deployment(self) -> str:
        """The chart's full name: of the release and the chart, with the cloud before the chart's own."""
        return f"{self.name}-{_NAME}"

    @property
    def service_account(self) -> str:
        """The service account that the values name, or the chart's full name."""
        account = ((self.values.get("rbac") or {}).get("serviceAccount") or {}).get("name")
        return str(account or self.deployment)


class Autoscaler:
    """The autoscaler in every cluster of a stand-in; `arrange` is the order in which it tells several reasons."""

    def __init__(
        self,
        clusters: KubernetesStandIn,
        cloud: Cloud,
        now: Callable[[], datetime],
        arrange: scale_up.Arrange = tuple,
    ) -> None:
        self._clusters = clusters
        self._cloud = cloud
        self._now = now
        self._arrange = arrange
        self._deployed: dict[str, Release] = {}
        self._written: dict[str, datetime] = {}
        # By cluster and group.
        self._backoffs: dict[tuple[str, str], Backoff] = {}

    def tick(self, cluster: str) -> None:
        """Bring the Deployment to what Helm's record says, and write the status if its time has come."""
        release = self._release(cluster)
        before = self._deployed.get(cluster)
        if before is not None and release != before:
            self._remove(cluster, before, release)
        if release is None:
            return
        if release != before:
            for obj in _objects(release):
                self._clusters.apply(cluster, obj, "helm")
            self._deployed[cluster] = release
        role = self._role(cluster, release)
        if role is None:
            self._start_anew(cluster)
            return
        # At each look, and not every ten seconds as the real one: somebody waits.
        if self._scale_up(cluster, release, role) or self._due(cluster):
            self._write(cluster, release)

    def forget(self, cluster: str) -> None:
        """A cluster is gone."""
        self._deployed.pop(cluster, None)
        self._written.pop(cluster, None)
        self._start_anew(cluster)

    def _start_anew(self, cluster: str) -> None:
        """What it knows is in its memory alone."""
        for key in [key for key in self._backoffs if key[0] == cluster]:
            del self._backoffs[key]

    def _release(self, cluster: str) -> Release | None:
        found = [
            decode(secret)
            for secret in self._clusters.objects(cluster, "secrets")
            if {"owner": "helm", "status": DEPLOYED}.items()
            <= (secret["metadata"].get("labels") or {}).items()
        ]
        mine = [record for record in found if record.chart.name == CHART]
        newest = max(mine, key=lambda record: record.revision, default=None)
        return Release(newest.name, newest.namespace, newest.config) if newest else None

    def _remove(self, cluster: str, before: Release, after: Release | None) -> None:
        del self._deployed[cluster]
        if after is not None and (after.name, after.namespace) == (before.name, before.namespace):
            return
        self._clusters.remove(cluster, "Deployment", before.namespace, before.deployment, "apps")
        self._clusters.remove(cluster, "ServiceAccount", before.namespace, before.service_account)
        self._clusters.remove(cluster, "ConfigMap", before.namespace, STATUS)

    def _scale_up(self, cluster: str, release: Release, role: str) -> bool:
        """Whether the cluster has become larger."""
        waiting = scale_up.waiting(self._clusters.objects(cluster, "pods"))
        if not waiting:
            return False
        nodes, groups = self._clusters.objects(cluster, "nodes"), self._cloud.scaling_groups(cluster)
        now = self._now()
        left_alone = [
            name for (where, name), pause in self._backoffs.items() if where == cluster and pause.holds(now)
        ]
        steps, refused = scale_up.plan(waiting, nodes, groups, left_alone, self._arrange)
        say = partial(self._clusters.record_event, cluster, component=_MANAGER)
        grown = False
        for step in steps:
            try:
                self._cloud.set_desired(cluster, step.group.name, step.size, role)
            except PermissionError as error:
                # The pods hear nothing of it, before the next look.
                key = cluster, step.group.name
                self._backoffs[key] = Backoff.after(self._backoffs.get(key), now)
                status = self._status(cluster, release)
                if status is not None:
                    words = f"Scale-up failed for group {step.group.name}: {error}"
                    say(status, "FailedToScaleUpGroup", words, kind="Warning")
                continue
            grown = True
            self._backoffs.pop((cluster, step.group.name), None)
            for pod in step.pods:
                say(pod, "TriggeredScaleUp", step.message)
        if not steps:
            # Where something was tried, the others hear with the next look.
            for pod, why in refused:
                say(pod, "NotTriggerScaleUp", why)
        return grown

    def _status(self, cluster: str, release: Release) -> dict[str, Any] | None:
        for obj in self._clusters.objects(cluster, "configmaps"):
            if (obj["metadata"]["namespace"], obj["metadata"]["name"]) == (release.namespace, STATUS):
                return obj
        return None

    def _role(self, cluster: str, release: Release) -> str | None:
        """Its role, while it has a ready pod: without its association it cannot ask AWS, and says nothing."""
        role = self._cloud.pod_role(cluster, release.namespace, release.service_account)
        found = {
            (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj
            for obj in self._clusters.objects(cluster, "deployments", "apps")
        }
        deployment = found.get((release.namespace, release.deployment))
        ready = ((deployment or {}).get("status") or {}).get("readyReplicas", 0)
        return role if ready else None

    def _due(self, cluster: str) -> bool:
        last = self._written.get(cluster)
        return last is None or (self._now() - last).total_seconds() >= _SCAN

    def _write(self, cluster: str, release: Release) -> None:
        now = self._now().astimezone(UTC)
        stamp = f"{now:%Y-%m-%d %H:%M:%S.%f}000 +0000 UTC"
        nodes = self._clusters.objects(cluster, "nodes")
        groups = self._cloud.scaling_groups(cluster)
        status = {
            "time": stamp,
            "autoscalerStatus": "Running",
            "clusterWide": {
                "health": _health(len(nodes), now),
                "scaleUp": _activity("NoActivity", now),
                "scaleDown": _activity("NoCandidates", now),
            },
            "nodeGroups": [_node_group(group, now) for group in groups],
        }
        obj = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": STATUS,
                "namespace": release.namespace,
                "annotations": {"cluster-autoscaler.kubernetes.io/last-updated": stamp},
            },
            "data": {"status": yaml.safe_dump(status, sort_keys=False)},
        }
        self._clusters.apply(cluster, obj, _MANAGER)
        self._written[cluster] = self._now()


def _objects(release: Release) -> list[dict[str, Any]]:
    labels = {
        "app.kubernetes.io/instance": release.name,
        "app.kubernetes.io/name": _NAME,
        "app.kubernetes.io/managed-by": "Helm",
    }
    selector = {key: labels[key] for key in ("app.kubernetes.io/instance", "app.kubernetes.io/name")}
    tag = (release.values.get("image") or {}).get("tag") or _DEFAULT_TAG
    where = {"namespace": release.namespace, "labels": labels}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": release.service_account, **where},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": release.deployment, **where},
            "spec": {
                "replicas": int(release.values.get("replicaCount", 1)),
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {"labels": selector},
                    "spec": {
                        "serviceAccountName": release.service_account,
                        "containers": [
                            {
                                "name": _NAME,
                                "image": f"registry.k8s.io/autoscaling/cluster-autoscaler:{tag}",
                            }
                        ],
                    },
                },
            },
        },
    ]


def _health(nodes: int, now: datetime) -> dict[str, Any]:
    registered = {"total": nodes, "ready": nodes, "notStarted": 0}
    counts = {"registered": registered, "longUnregistered": 0, "unregistered": 0}
    return {"status": "Healthy", "nodeCounts": counts, **_times(now)}


def _node_group(group: ScalingGroup, now: datetime) -> dict[str, Any]:
    health = {
        **_health(group.desired, now),
        "cloudProviderTarget": group.desired,
        "minSize": group.minimum,
        "maxSize": group.maximum,
    }
    return {
        "name": group.name,
        "health": health,
        "scaleUp": _activity("NoActivity", now),
        "scaleDown": _activity("NoCandidates", now),
    }


def _activity(status: str, now: datetime) -> dict[str, Any]:
    return {"status": status, **_times(now)}


def _times(now: datetime) -> dict[str, str]:
    moment = f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z"
    return {"lastProbeTime": moment, "lastTransitionTime": moment}
