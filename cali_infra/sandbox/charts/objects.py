"""The forms in which a chart's objects are written, and the values that decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Obj = dict[str, Any]
# The annotation by which Helm leaves an object behind.
POLICY, KEEP = "helm.sh/resource-policy", "keep"


@dataclass(frozen=True)
class Release:
    """A release and the values that it was given."""

    name: str
    namespace: str
    values: Mapping[str, Any]

    def value(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path, or the chart's own."""
        found: Any = self.values
        for key in path.split("."):
            if not isinstance(found, Mapping) or key not in found:
                return default
            found = found[key]
        return default if found is None else found

    def meta(self, name: str, labels: Mapping[str, str], annotations: Mapping[str, Any] | None = None) -> Obj:
        meta: Obj = {
            "name": name,
            "namespace": self.namespace,
            "labels": {**labels, "app.kubernetes.io/managed-by": "Helm"},
        }
        return meta | ({"annotations": dict(annotations)} if annotations else {})


@dataclass(frozen=True)
class PodShape:
    """A workload's pods; `claims` are the StatefulSet's own volumes, by name, as claims' specs."""

    labels: Mapping[str, str]
    containers: Sequence[Obj]
    account: str = "default"
    annotations: Mapping[str, Any] = field(default_factory=dict)
    volumes: Sequence[Obj] = ()
    claims: Mapping[str, Obj] = field(default_factory=dict)

    def template(self) -> Obj:
        spec: Obj = {"serviceAccountName": self.account, "containers": list(self.containers)}
        if self.volumes:
            spec["volumes"] = list(self.volumes)
        meta: Obj = {"labels": dict(self.labels)}
        if self.annotations:
            meta["annotations"] = {key: str(value) for key, value in self.annotations.items()}
        return {"metadata": meta, "spec": spec}


def deployment(
    release: Release, name: str, pods: PodShape, replicas: int = 1, *, recreate: bool = False
) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": release.meta(name, pods.labels),
        "spec": {
            "replicas": int(replicas),
            "selector": {"matchLabels": dict(pods.labels)},
            "strategy": {"type": "Recreate" if recreate else "RollingUpdate"},
            "template": pods.template(),
        },
    }


def stateful_set(release: Release, name: str, pods: PodShape, service: str, replicas: int = 1) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": release.meta(name, pods.labels),
        "spec": {
            "replicas": int(replicas),
            "serviceName": service,
            "selector": {"matchLabels": dict(pods.labels)},
            "template": pods.template(),
            "volumeClaimTemplates": [
                {"metadata": {"name": volume}, "spec": spec} for volume, spec in pods.claims.items()
            ],
        },
    }


def service(
    release: Release, name: str, selector: Mapping[str, str], ports: Mapping[str, tuple[int, Any]]
) -> Obj:
    """A Service; `ports` give each name its number and the container's port that it leads to."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": release.meta(name, selector),
        "spec": {
            "type": "ClusterIP",
            "selector": dict(selector),
            "ports": [
                {"name": port, "port": number, "protocol": "TCP", "targetPort": target}
                for port, (number, target) in ports.items()
            ],
        },
    }


def service_account(release: Release, name: str, labels: Mapping[str, str], annotations: Any = None) -> Obj:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": release.meta(name, labels, annotations)}


def config_map(release: Release, name: str, labels: Mapping[str, str], data: Mapping[str, str]) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": release.meta(name, labels),
        "data": dict(data),
    }


def claim(release: Release, name: str, labels: Mapping[str, str], spec: Obj, annotations: Any = None) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": release.meta(name, labels, annotations),
        "spec": spec,
    }


def claim_spec(size: str, storage_class: str | None) -> Obj:
    spec: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return spec | ({"storageClassName": storage_class} if storage_class else {})


def container(
    name: str,
    image: str,
    *,
    ports: Mapping[str, int] | None = None,
    env: Sequence[Obj] = (),
    env_from: Sequence[Obj] = (),
    resources: Any = None,
    mounts: Mapping[str, str] | None = None,
) -> Obj:
    """A container; `mounts` give each volume's name the path of it."""
    made: Obj = {"name": name, "image": image}
    if ports:
        made["ports"] = [{"name": port, "containerPort": number} for port, number in ports.items()]
    if env:
        made["env"] = list(env)
    if env_from:
        made["envFrom"] = list(env_from)
    if resources:
        made["resources"] = resources
    if mounts:
        made["volumeMounts"] = [{"name": volume, "mountPath": path} for volume, path in mounts.items()]
    return made


def secret_env(variable: str, secret: str, key: str) -> Obj:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def checksum(data: Any) -> str:
    """What a chart writes beside its pods, so that a change of a ConfigMap starts them anew."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def config_volume(name: str, config: str) -> Obj:
    return {"name": name, "configMap": {"name": config}}


def claim_volume(name: str, claimed: str) -> Obj:
    return {"name": name, "persistentVolumeClaim": {"claimName": claimed}}
