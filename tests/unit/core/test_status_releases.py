"""What `status` says of the services: the release, the chart's and the application's version, what is ready."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml
from test_wedged import CHART, START, Helm

from cali_infra.core.status import Release, _releases
from cali_infra.sandbox.helm.releases import Release as Record
from cali_infra.sandbox.helm.releases import encode
from cali_infra.sandbox.ports import NodeSpec

if TYPE_CHECKING:
    from conftest import Cluster


def deployment(name: str, fail: str = "") -> dict[str, Any]:
    labels = {"app": name}
    notes = {"sandbox.cali.dev/fail": fail} if fail else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "grafana"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": notes},
                "spec": {"containers": [{"name": "app", "image": "x:1"}]},
            },
        },
    }


def test_a_release_is_told_with_its_versions_and_what_of_it_is_ready(cluster: Cluster) -> None:
    cluster.standin.set_nodes("demo", "nodes", [NodeSpec("ip-10-0-0-1", "ap-northeast-2a", "m6i.xlarge")])
    helm = Helm(cluster)
    objects = [deployment("one"), deployment("two", "ImagePullBackOff"), deployment("never-made")]
    for obj in objects[:2]:
        helm.kubernetes.create(obj)
    rendered = "---\n".join(yaml.safe_dump(json.loads(json.dumps(obj))) for obj in objects)
    record = Record("grafana", "grafana", 2, "deployed", CHART, {}, START, START, "", manifest=rendered)
    helm.kubernetes.create(encode(replace(record, revision=1, status="superseded"), "createdAt"))
    helm.kubernetes.create(encode(record, "createdAt"))

    expected = Release("grafana", "grafana", "deployed", 2, "grafana", "12.11.1", "13.2.0", 3, 1)
    end = time.monotonic() + 10
    problems: list[str] = []
    while _releases(helm.kubernetes, problems) != (expected,) and time.monotonic() < end:
        time.sleep(0.05)
    assert _releases(helm.kubernetes, problems) == (expected,)
    assert problems == []


def test_where_nothing_was_installed_nothing_is_ready(cluster: Cluster) -> None:
    helm = Helm(cluster)
    record = Record("grafana", "grafana", 1, "deployed", CHART, {}, START, START, "")
    helm.kubernetes.create(encode(record, "createdAt"))
    (found,) = _releases(helm.kubernetes, [])
    assert (found.workloads, found.ready, found.app_version) == (0, 0, "13.2.0")


def test_what_is_recorded_and_not_there_is_not_ready(cluster: Cluster) -> None:
    helm = Helm(cluster)
    helm.install()
    (found,) = _releases(helm.kubernetes, [])
    assert (found.workloads, found.ready) == (1, 0)
