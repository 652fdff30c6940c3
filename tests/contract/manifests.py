"""Objects that the cases apply, and how they are applied: as a stage, the way that `cali up` does it."""

from __future__ import annotations

import base64
import os
import threading
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cali_infra.adapters.kubernetes import Kubernetes
from cali_infra.adapters.kustomize import Kustomize
from cali_infra.core import assets, fluent_bit
from cali_infra.core.manifests import ManifestPlan, ManifestWork
from cali_infra.core.progress import Progress
from cali_infra.plans import StagePlan
from contract.grounds import Corner

Object = dict[str, Any]


def named(api_version: str, kind: str, name: str, namespace: str = "", **rest: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def space(place: Corner) -> Object:
    return named("v1", "Namespace", place.name)


def config_map(place: Corner, name: str = "settings", **data: str) -> Object:
    return named("v1", "ConfigMap", name, place.name, data=data or {"colour": "blue"})


def secret(place: Corner, password: str) -> Object:
    return named("v1", "Secret", "login", place.name, data={"password": encoded(password)})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def pod(image: str = "example.com/agent:1") -> Object:
    return {
        "containers": [
            {
                "name": "agent",
                "image": image,
                "ports": [{"name": "http", "containerPort": 2020}],
                "resources": {"requests": {"cpu": "0.1", "memory": "128Mi"}, "limits": {"memory": "0.5Gi"}},
            }
        ]
    }


def deployment(place: Corner, image: str = "example.com/agent:1", app: str = "agent") -> Object:
    """Of no replicas: there is a rollout to be waited for, and no node is needed."""
    template = {"metadata": {"labels": {"app": app}}, "spec": pod(image)}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": app}}, "template": template}
    return named("apps/v1", "Deployment", "agent", place.name, spec=spec)


def fluent_bit_objects(place: Corner, folder: Path) -> list[Object]:
    """Fluent Bit as it is shipped, rendered in `folder` and moved to the corner. It takes kubectl."""
    objects = fluent_bit.build(
        fluent_bit.FluentBit(
            cluster_name="contract",
            endpoint="search.example.com",
            index_prefix="logs",
            user="writer",
            password=SecretStr("Sentinel-1"),
            revision_key=SecretStr("key"),
        ),
        source=assets.folder("k8s") / "fluent-bit",
        folder=folder,
        render=Kustomize(environ=os.environ).render,
    )
    return [moved(obj, place.name) for obj in objects]


def moved(obj: Object, name: str) -> Object:
    """The object in another namespace, and under another name where it belongs to the whole cluster."""
    metadata = dict(obj["metadata"])
    if "namespace" in metadata:
        metadata["namespace"] = name
    else:
        metadata["name"] = name
    there = {**obj, "metadata": metadata}
    if obj["kind"] == "ClusterRoleBinding":
        there["roleRef"] = {**obj["roleRef"], "name": name}
        there["subjects"] = [{**subject, "namespace": name} for subject in obj["subjects"]]
    if obj["kind"] == "DaemonSet":
        template = obj["spec"]["template"]
        spec = {**template["spec"], "priorityClassName": name}
        there["spec"] = {**obj["spec"], "template": {**template, "spec": spec}}
    return there


def work(
    place: Corner, *objects: Object, door: Kubernetes | None = None, force: bool = False
) -> ManifestWork:
    return ManifestWork(place.stage, door or place.connect(), lambda: list(objects), force=force)


def apply(stage: ManifestWork, watch: Progress) -> ManifestPlan:
    """Plan and apply, as `cali up --yes` does."""
    plan = stage.plan(watch)
    stage.apply(plan, watch, threading.Event())
    return plan


def said(plan: StagePlan) -> list[str]:
    """What a plan shows, a line for each object."""
    return [f"{change.action.value} {change.address}" for change in plan.changes]


def fields(plan: StagePlan, address: str) -> tuple[str, ...]:
    """What a plan shows of one object, field by field."""
    (found,) = [change.fields for change in plan.changes if change.address == address]
    return found
