"""The checks of `cali verify` that look at a cluster: what they say of a whole one, and of one that is broken.

That of the default StorageClass is in `test_storage_classes.py`, which alone touches those.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import SystemRandom
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from cali_infra.adapters.aws_eks import NodeGroup
from cali_infra.core import service_secrets
from cali_infra.core.init import Answers, secrets_text
from cali_infra.core.secrets import Secrets
from cali_infra.core.service_secrets import SERVICES
from cali_infra.core.settings import Settings
from cali_infra.errors import UnauthorizedError
from cali_infra.sandbox.helm import releases as helm_releases
from cali_infra.sandbox.helm.charts import ChartVersion
from cali_infra.verify import kubernetes, releases
from cali_infra.verify.checks import Check, Result, Status
from contract.checking import ask
from contract.conftest import Watch
from contract.grounds import Corner
from contract.manifests import apply, deployment, fluent_bit_objects, moved, named, pod, space, work

Object = dict[str, Any]
FAIL = "sandbox.cali.dev/fail"
ZONE = "topology.kubernetes.io/zone"
STATUS = "cluster-autoscaler-status"


def eventually(check: Check, place: Corner, holds: Callable[[Result], bool], **rest: Any) -> Result:
    """The first result that fits: what controllers do by themselves takes its time on a real cluster."""
    door, until = place.connect(), time.monotonic() + 30
    while not holds(result := ask(check, door, **rest)):
        assert time.monotonic() < until, result
        time.sleep(0.05)
    return result


@pytest.fixture
def nodes(place: Corner) -> Iterator[list[Object]]:
    """Two nodes in two zones; nothing runs on them."""
    made = [node(place, zone) for zone in ("a", "b")]
    for one in made:
        place.somebody.create(one)
    yield made
    for one in made:
        place.somebody.delete(f"/api/v1/nodes/{one['metadata']['name']}")


def node(place: Corner, zone: str) -> Object:
    name = f"{place.name}-{zone}"
    labels = {ZONE: f"ap-northeast-2{zone}", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    capacity = {"cpu": "4", "memory": "16Gi", "pods": "58"}
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it posts"}
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    made = named("v1", "Node", name, spec={}, status={"capacity": capacity, "allocatable": capacity})
    made["status"]["conditions"] = [{**ready, **times}]
    made["metadata"]["labels"] = labels
    return made


def test_an_api_that_answers_is_measured_and_a_stranger_is_told(place: Corner) -> None:
    result = ask(kubernetes.api, place.connect())
    assert result.status is Status.PASS
    assert re.match(r"v1\.\d+\.", result.detail)
    assert 0 < result.measurements["round trip"] < 10
    with pytest.raises(UnauthorizedError):
        ask(kubernetes.api, place.connect("nobody-s"))


def test_nodes_that_are_ready_and_one_that_is_not(place: Corner, nodes: list[Object]) -> None:
    assert ask(kubernetes.nodes_ready, place.connect()).status is Status.PASS
    assert "1 in ap-northeast-2a, 1 in ap-northeast-2b" in ask(kubernetes.zones, place.connect()).detail

    condition = {**nodes[0]["status"]["conditions"][0], "status": "Unknown", "message": "it posts no more"}
    path = f"/api/v1/nodes/{place.name}-a/status"
    body = {"status": {"conditions": [condition]}}
    place.somebody.call("PATCH", path, body, "application/merge-patch+json")

    result = ask(kubernetes.nodes_ready, place.connect())
    assert result.status is Status.FAIL
    assert f"{place.name}-a: not Ready: it posts no more" in result.detail
    assert result.remedy == f"kubectl describe node {place.name}-a"


def test_nodes_that_stand_in_one_zone(place: Corner, nodes: list[Object]) -> None:
    place.somebody.edit(nodes[1], {"metadata": {"labels": {ZONE: "ap-northeast-2a"}}})
    result = ask(kubernetes.zones, place.connect())
    assert result.status is Status.FAIL
    assert "all 2 in ap-northeast-2a" in result.detail


def test_a_system_pod_that_crashes_is_named_with_the_reason(place: Corner, nodes: list[Object]) -> None:
    name = f"{place.name}-crash"
    crash = named("v1", "Pod", name, "kube-system", spec=pod())
    # The stand-in's kubelet does as it is told; on a real cluster without one its report is written here.
    crash["metadata"]["annotations"] = {FAIL: "CrashLoopBackOff"}
    place.somebody.create(crash)
    container = crash["spec"]["containers"][0]
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
    report = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 5,
                "state": waiting,
            }
        ],
    }
    path = f"/api/v1/namespaces/kube-system/pods/{name}"
    try:
        place.somebody.call("PATCH", f"{path}/status", {"status": report}, "application/merge-patch+json")
        result = eventually(kubernetes.system_pods, place, lambda result: "CrashLoop" in result.detail)
        assert result.status is Status.FAIL
        assert f"{name}: CrashLoopBackOff back-off 5m0s" in result.detail
        assert result.remedy == f"kubectl -n kube-system describe pod {name}"
    finally:
        place.somebody.delete(path, wait=60)


def test_a_claim_that_nobody_fills_and_a_pod_waits_for(place: Corner) -> None:
    place.somebody.create(space(place))
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = named(
        "v1", "PersistentVolumeClaim", "data", place.name, spec={**spec, "storageClassName": "none"}
    )
    place.somebody.create(claim)
    result = ask(kubernetes.claims_bound, place.connect())
    assert result.status in (Status.WARN, Status.FAIL)
    assert f"{place.name}/data" in result.detail or result.status is Status.FAIL

    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    # A namespace's service account comes a moment after the namespace.
    waiting = named("v1", "Pod", "web", place.name, spec={**pod(), "volumes": [volume]})
    waiting["spec"]["automountServiceAccountToken"] = False
    _created(place, waiting)
    result = eventually(kubernetes.claims_bound, place, lambda result: result.status is Status.FAIL)
    assert f"{place.name}/data is Pending: " in result.detail
    assert result.remedy == f"kubectl -n {place.name} describe pvc data"


def _created(place: Corner, obj: Object) -> None:
    from contract.grounds import RefusedError

    until = time.monotonic() + 20
    while True:
        try:
            place.somebody.create(obj)
            return
        except RefusedError as error:
            if "serviceaccount" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.1)


@contextmanager
def in_kube_system(place: Corner, *objects: Object) -> Iterator[None]:
    made = []
    try:
        for obj in objects:
            place.somebody.create(obj)
            made.append(obj)
        yield
    finally:
        group = {"Deployment": "/apis/apps/v1"}
        for obj in made:
            plural = f"{obj['kind'].lower()}s"
            base = group.get(obj["kind"], "/api/v1")
            place.somebody.delete(f"{base}/namespaces/kube-system/{plural}/{obj['metadata']['name']}")


def release(
    place: Corner,
    status: str,
    name: str = "cluster-autoscaler",
    namespace: str = "kube-system",
    *objects: Object,
) -> Object:
    """Helm's record of a release's third revision, with these objects in its manifest."""
    chart, now = ChartVersion(name, "9.59.0", "1.35.0"), datetime.now(UTC)
    manifest = yaml.safe_dump_all(objects)
    record = helm_releases.Release(
        name, namespace, 3, status, chart, {}, now, now, "it timed out", manifest=manifest
    )
    made = helm_releases.encode(record, "createdAt")
    # Helm finds its records by their labels.
    made["metadata"]["name"] = f"{place.name}-release"
    return made


def test_a_release_is_found_by_helm_s_labels_and_a_failed_one_says_why(place: Corner) -> None:
    with in_kube_system(place, release(place, "failed")):
        result = ask(releases.autoscaler_release, place.connect())
        assert result.status is Status.FAIL
        assert result.detail == "revision 3 of cluster-autoscaler is failed: it timed out"
    with in_kube_system(place, release(place, "deployed")):
        result = ask(releases.autoscaler_release, place.connect())
        assert (result.status, result.detail) == (Status.PASS, "cluster-autoscaler 9.59.0, revision 3")


def test_the_autoscaler_s_image_is_compared_with_the_server(place: Corner) -> None:
    server = place.connect().version()
    minor = re.match(r"v1\.(\d+)", server)
    assert minor is not None

    def deployment(tag: str) -> Object:
        labels = {"app.kubernetes.io/instance": "cluster-autoscaler"}
        container = {"name": "autoscaler", "image": f"registry.k8s.io/autoscaling/cluster-autoscaler:{tag}"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        # None are wanted: what is looked at is what they would run.
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        made = named("apps/v1", "Deployment", f"{place.name}-autoscaler", "kube-system", spec=spec)
        made["metadata"]["labels"] = labels
        return made

    with in_kube_system(place, deployment(f"v1.{minor[1]}.0")):
        assert ask(releases.autoscaler_version, place.connect()).status is Status.PASS
    with in_kube_system(place, deployment("v1.20.0")):
        result = ask(releases.autoscaler_version, place.connect())
        assert result.status is Status.FAIL
        assert "cluster-autoscaler:v1.20.0 in a cluster of v1." in result.detail


def test_the_autoscaler_s_status_is_read_as_it_writes_it(place: Corner) -> None:
    if place.somebody.get("ConfigMap", STATUS, "kube-system") is not None:
        pytest.skip("the cluster has an autoscaler of its own")

    for age, health, said in (
        (timedelta(seconds=5), "Healthy", "Healthy"),
        (timedelta(hours=3), "Healthy", "3 hours old"),
        (timedelta(seconds=5), "Unhealthy", "the cluster is Unhealthy to it"),
    ):
        with in_kube_system(place, written(age, health)):
            assert said in ask(releases.autoscaler_status, place.connect()).detail
    assert "has written no status" in ask(releases.autoscaler_status, place.connect()).detail


def written(age: timedelta, health: str, *groups: str) -> Object:
    """The status that the autoscaler wrote so long ago."""
    at = datetime.now(UTC) - age
    status = {
        "time": f"{at:%Y-%m-%d %H:%M:%S.%f}000 +0000 UTC",
        "autoscalerStatus": "Running",
        "clusterWide": {"health": {"status": health}},
        "nodeGroups": [{"name": name, "health": {"status": "Healthy"}} for name in groups or ("nodes",)],
    }
    return named("v1", "ConfigMap", STATUS, "kube-system", data={"status": yaml.safe_dump(status)})


def test_the_groups_in_the_autoscaler_s_status_are_compared_with_those_of_aws(place: Corner) -> None:
    if place.somebody.get("ConfigMap", STATUS, "kube-system") is not None:
        pytest.skip("the cluster has an autoscaler of its own")
    groups = (NodeGroup("nodes", "ACTIVE", "1.35", (), ("eks-nodes-1", "eks-nodes-2")),)
    rest = {"settings": Settings(), "aws": SimpleNamespace(node_groups=lambda cluster: groups)}
    for watched, status, said in (
        (("eks-nodes-1", "eks-nodes-2"), Status.PASS, "eks-nodes-1, eks-nodes-2"),
        (("eks-nodes-1",), Status.FAIL, "it does not see eks-nodes-2"),
        (
            ("eks-nodes-1", "eks-nodes-2", "others"),
            Status.FAIL,
            "it watches what is no node group of this cluster: others",
        ),
    ):
        with in_kube_system(place, written(timedelta(seconds=5), "Healthy", *watched)):
            result = ask(releases.autoscaler_node_groups, place.connect(), **rest)
            assert (result.status, result.detail) == (status, said)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_s_release_and_its_workloads(place: Corner, service: str) -> None:
    """What a Deployment's controller would say where there is one is written here where there is none."""
    if place.somebody.get("Namespace", service) is not None:
        pytest.skip(f"the cluster has a namespace {service} of its own")
    by_id = {check.id: check for check in releases.CHECKS}
    deployed, ready = by_id[f"{service}.release"], by_id[f"{service}.workloads"]
    rest = {"settings": Settings()}
    workload = deployment(place)
    workload["metadata"]["namespace"] = service
    ref = f"Deployment {service}/agent"
    path = f"/apis/apps/v1/namespaces/{service}/deployments/agent"
    place.somebody.create(named("v1", "Namespace", service))
    try:
        result = ask(deployed, place.connect(), **rest)
        assert result.detail == f"there is no release {service} in {service}"
        place.somebody.create(release(place, "failed", service, service))
        result = ask(deployed, place.connect(), **rest)
        assert result.detail == f"revision 3 of {service} is failed: it timed out"
        assert ask(ready, place.connect(), **rest).status is Status.SKIP

        place.somebody.replace(release(place, "deployed", service, service, workload))
        result = ask(deployed, place.connect(), **rest)
        assert (result.status, result.detail) == (Status.PASS, f"{service} 9.59.0, revision 3")
        assert ask(ready, place.connect(), **rest).detail == f"{ref} is gone"
        place.somebody.create(workload)
        seen = {"status": {"observedGeneration": 1}}
        place.somebody.call("PATCH", f"{path}/status", seen, "application/merge-patch+json")
        result = eventually(ready, place, lambda result: result.status is Status.PASS, **rest)
        assert result.detail == "1 workload, 0 replica ready"
        place.somebody.edit(workload, {"spec": {"replicas": 1}})
        result = ask(ready, place.connect(), **rest)
        assert result.status is Status.FAIL
        assert result.detail.startswith(f"{ref} has 0 of 1 replicas ready: ")
        assert result.remedy == f"kubectl -n {service} describe deployment agent"
    finally:
        place.somebody.delete(f"/api/v1/namespaces/{service}", wait=120)


def test_fluent_bit_on_every_node(place: Corner, nodes: list[Object]) -> None:
    """Where no kubelet reports, the reports are written here."""
    if place.somebody.get("Namespace", "logging") is not None:
        pytest.skip("the cluster has a namespace logging of its own")
    assert "there is no DaemonSet" in ask(kubernetes.fluent_bit_ready, place.connect()).detail
    labels = {"app.kubernetes.io/name": "fluent-bit"}
    template = {"metadata": {"labels": labels}, "spec": {**pod(), "automountServiceAccountToken": False}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    place.somebody.create(named("v1", "Namespace", "logging"))
    try:
        place.somebody.create(named("apps/v1", "DaemonSet", "fluent-bit", "logging", spec=spec))
        result = eventually(
            kubernetes.fluent_bit_ready,
            place,
            lambda result: _report(place) and result.status is Status.PASS,
        )
        assert result.detail == "2 of 2 pods ready, on 2 nodes"
    finally:
        place.somebody.delete("/api/v1/namespaces/logging", wait=120)


def _report(place: Corner) -> bool:
    """What a kubelet would say of each pod that has none; true."""
    path = "/api/v1/namespaces/logging/pods"
    for item in place.somebody.call("GET", path)["items"]:
        conditions = item.get("status", {}).get("conditions") or ()
        if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
            body = {"status": {"phase": "Running", "conditions": [ready]}}
            name = item["metadata"]["name"]
            place.somebody.call("PATCH", f"{path}/{name}/status", body, "application/merge-patch+json")
    return True


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on this machine")
def test_fluent_bit_s_configuration_as_rendered_and_changed_by_hand(
    place: Corner, watch: Watch, tmp_path: Path
) -> None:
    """Without its DaemonSet: a rollout on whatever nodes there are is no business of this case."""
    shipped = fluent_bit_objects(place, tmp_path / "rendered")
    stage = work(place, *[obj for obj in shipped if obj["kind"] != "DaemonSet"])

    def asked() -> Result:
        return ask(
            kubernetes.fluent_bit_configured, place.connect(), plan=lambda name, cancel: stage.plan(watch)
        )

    assert asked().status is Status.FAIL
    apply(stage, watch)
    assert (asked().status, asked().detail) == (Status.PASS, "as rendered")
    (login,) = [obj for obj in shipped if obj["kind"] == "Secret"]
    place.somebody.edit(login, {"data": {"OPENSEARCH_USER": "bm9ib2R5"}})
    result = asked()
    assert result.detail == (
        f"the cluster has another configuration: Secret {place.name}/{login['metadata']['name']}: update"
    )


def test_the_services_secrets_as_in_secrets_yaml_and_otherwise(place: Corner, watch: Watch) -> None:
    """Of all services in one namespace, which is the corner's."""
    secrets = Secrets(**yaml.safe_load(secrets_text(Answers(), SystemRandom())))
    wanted = service_secrets.objects(Settings(), secrets, "search.example.com")
    there = {
        (obj["kind"], obj["metadata"]["name"]): obj for obj in (moved(obj, place.name) for obj in wanted)
    }
    stage = work(place, *there.values())

    def asked() -> Result:
        return ask(kubernetes.secrets_current, place.connect(), plan=lambda name, cancel: stage.plan(watch))

    assert asked().status is Status.FAIL
    apply(stage, watch)
    assert (asked().status, asked().detail) == (Status.PASS, "as in secrets.yaml")
    admin = there["Secret", "grafana-admin"]
    place.somebody.edit(admin, {"data": {"admin-password": "c29tZWJvZHkncw=="}})
    assert asked().detail == f"not as in secrets.yaml: Secret {place.name}/grafana-admin: update"
    place.somebody.delete(f"/api/v1/namespaces/{place.name}/secrets/grafana-admin", wait=30)
    assert asked().detail == f"not as in secrets.yaml: Secret {place.name}/grafana-admin: create"
