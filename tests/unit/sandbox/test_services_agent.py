"""The services in a cluster, made of Helm's records: their workloads, who answers behind them, and what stays."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from cali_infra.core.rotation import INSIDE
from cali_infra.core.service_doors import DOORS
from cali_infra.core.service_secrets import SECRETS, SERVICES
from cali_infra.sandbox import charts
from cali_infra.sandbox.agents.services import NO_COMMIT, Services
from cali_infra.sandbox.helm import releases
from cali_infra.sandbox.helm.charts import ChartVersion

if TYPE_CHECKING:
    from conftest import Client, Cluster

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REVISION = "cali/credentials-revision"


def values(**changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What terraform/services gives each chart, in short."""
    root = {"secretKeyRef": {"name": "milvus-root", "key": "password"}}
    admin = {"secretKeyRef": {"name": "airflow-admin", "key": "password"}}
    given: dict[str, dict[str, Any]] = {
        "airflow": {
            "defaultAirflowTag": "3.2.2",
            "fernetKeySecretName": "airflow-keys",
            "apiSecretKeySecretName": "airflow-keys",
            "jwtSecretName": "airflow-keys",
            "data": {"metadataSecretName": "airflow-database-connection"},
            "extraEnvFrom": "- secretRef: {name: airflow-connections}",
            "createUserJob": {"env": [{"name": "AIRFLOW_ADMIN_PASSWORD", "valueFrom": admin}]},
            "apiServer": {"replicas": 2},
            "postgresql": {"auth": {"username": "airflow", "existingSecret": "airflow-database"}},
        },
        "milvus": {
            "cluster": {"enabled": False},
            "etcd": {"replicaCount": 1},
            "standalone": {"extraEnv": [{"name": "COMMON_SECURITY_DEFAULTROOTPASSWORD", "valueFrom": root}]},
            "minio": {"existingSecret": "milvus-object-store"},
        },
        "grafana": {
            "persistence": {"enabled": True, "annotations": {"helm.sh/resource-policy": "keep"}},
            "admin": {"existingSecret": "grafana-admin"},
            "envFromSecrets": [{"name": "grafana-opensearch"}],
        },
    }
    return {service: {**given[service], **changes.get(service, {})} for service in given}


def secret(name: str, namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    packed = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": packed}


@dataclass
class Ground:
    """A cluster with the services' Secrets, and the agent."""

    cluster: Cluster
    api: Client
    agent: Services
    at: datetime = NOW
    revisions: dict[str, int] = field(default_factory=dict)

    def now(self) -> datetime:
        return self.at

    def tick(self, seconds: float = 0) -> None:
        self.at += timedelta(seconds=seconds)
        self.agent.tick(self.cluster.name)

    def give(self, name: str, namespace: str, **data: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        assert self.api.apply(path, secret(name, namespace, data)).status < 300

    def release(self, service: str, given: Mapping[str, Any]) -> None:
        """What Helm's stand-in records, the revision before superseded."""
        self.uninstall(service)
        number = self.revisions[service] = self.revisions.get(service, 0) + 1
        record = releases.Release(
            service,
            service,
            number,
            releases.DEPLOYED,
            ChartVersion(service, "1.0.0", "1"),
            given,
            NOW,
            NOW,
            "",
            manifest=charts.manifest(service, service, service, given),
        )
        body = releases.encode(record, "createdAt")
        assert self.api("POST", f"/api/v1/namespaces/{service}/secrets", body).status == 201
        self.tick()

    def uninstall(self, service: str) -> None:
        number = self.revisions.get(service)
        if number is not None:
            path = f"/api/v1/namespaces/{service}/secrets/sh.helm.release.v1.{service}.v{number}"
            self.api("DELETE", path)

    def names(self, plural: str, namespace: str, group: str = "") -> list[str]:
        found = self.cluster.standin.objects(self.cluster.name, plural, group)
        return sorted(o["metadata"]["name"] for o in found if o["metadata"]["namespace"] == namespace)

    def pods(self, namespace: str, **labels: str) -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.cluster.standin.objects(self.cluster.name, "pods")
            if pod["metadata"]["namespace"] == namespace
            and {key.replace("__", "/"): value for key, value in labels.items()}.items()
            <= pod["metadata"]["labels"].items()
        ]

    def ask(self, url: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
        """Through the network of pods, as from one."""
        proxy = self.agent.network(self.cluster.name)["http_proxy"]
        with urllib3.ProxyManager(proxy, retries=False, timeout=5) as pool:
            data = None if body is None else json.dumps(body)
            return pool.request(method, url, body=data, headers=headers)


@pytest.fixture
def ground(cluster: Cluster, clusters: Any, api: Client, ca: Path, tmp_path: Path) -> Iterator[Ground]:
    cluster.nodes(2)
    clusters.set_addon(cluster.name, "aws-ebs-csi-driver", "v1.50.0-eksbuild.1")
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "volumes",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "ebs.csi.aws.com",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    default = "/apis/storage.k8s.io/v1/storageclasses"
    for found in api("GET", default).body["items"]:
        api("DELETE", f"{default}/{found['metadata']['name']}")
    assert api("POST", default, storage).status == 201
    agent = Services(clusters, tmp_path / "pods", str(ca), lambda: made.at)
    made = Ground(cluster, api, agent)
    for service in SERVICES:
        api("POST", "/api/v1/namespaces", {"metadata": {"name": service}})
    for one in SECRETS:
        made.give(one.name, one.service, **{key.name: f"{one.name}/{key.name}" for key in one.keys})
    url = "postgresql://airflow:airflow-database%2Fpassword@airflow-postgresql.airflow:5432/airflow"
    made.give("airflow-database-connection", "airflow", connection=url)
    yield made
    agent.close()


def test_every_service_gets_the_workloads_that_its_chart_has_and_they_are_ready(ground: Ground) -> None:
    for service, given in values().items():
        ground.release(service, given)

    assert ground.names("deployments", "airflow", "apps") == [
        "airflow-api-server",
        "airflow-dag-processor",
        "airflow-scheduler",
        "airflow-triggerer",
    ]
    assert ground.names("statefulsets", "airflow", "apps") == ["airflow-postgresql"]
    assert ground.names("deployments", "milvus", "apps") == ["milvus-minio", "milvus-standalone"]
    assert ground.names("statefulsets", "milvus", "apps") == ["milvus-etcd"]
    assert ground.names("deployments", "grafana", "apps") == ["grafana"]
    assert "airflow-worker" in ground.names("serviceaccounts", "airflow")
    assert len(ground.pods("airflow", component="api-server")) == 2
    for service in SERVICES:
        for pod in ground.pods(service):
            assert pod["status"]["phase"] == "Running", pod["metadata"]["name"]
    for door in DOORS.values():
        assert door.service in ground.names("services", door.namespace)
    for inside in INSIDE:
        (where, *_) = inside.places
        found = ground.pods(inside.namespace, **{k.replace("/", "__"): v for k, v in where.labels.items()})
        assert where.container in {c["name"] for pod in found for c in pod["spec"]["containers"]}
        assert set(inside.claims) <= set(ground.names("persistentvolumeclaims", inside.namespace))


def test_what_the_values_say_decides(ground: Ground) -> None:
    sync = {
        "enabled": True,
        "repo": "git@git.invalid:a/b.git",
        "ref": "main",
        "sshKeySecret": "airflow-git-ssh",
    }
    ground.release(
        "airflow",
        values(airflow={"postgresql": {"enabled": False}, "dags": {"gitSync": sync}})["airflow"],
    )
    of_a_cluster = {"cluster": {"enabled": True}, "etcd": {"replicaCount": 3}, "minio": {"enabled": False}}
    ground.release("milvus", values(milvus=of_a_cluster)["milvus"])

    assert ground.names("statefulsets", "airflow", "apps") == []
    (pod,) = ground.pods("airflow", component="dag-processor")
    assert [c["name"] for c in pod["spec"]["containers"]] == [
        "dag-processor",
        "dag-processor-log-groomer",
        "git-sync",
    ]
    assert "git-sync" not in str(ground.pods("airflow", component="scheduler"))
    assert ground.agent.programs(ground.cluster.name).state["commit"] == NO_COMMIT
    assert ground.names("deployments", "milvus", "apps") == [
        "milvus-datanode",
        "milvus-mixcoord",
        "milvus-proxy",
        "milvus-querynode",
        "milvus-streamingnode",
    ]
    assert "milvus-etcd-2" in ground.names("pods", "milvus")


def test_another_revision_of_a_password_rolls_the_pods_and_no_other_release_does(ground: Ground) -> None:
    ground.release("grafana", values(grafana={"podAnnotations": {REVISION: "1"}})["grafana"])
    (before,) = ground.pods("grafana")
    ground.release("grafana", values(grafana={"podAnnotations": {REVISION: "1"}})["grafana"])
    assert ground.pods("grafana")[0]["metadata"]["uid"] == before["metadata"]["uid"]

    ground.release("grafana", values(grafana={"podAnnotations": {REVISION: "2"}})["grafana"])
    (after,) = ground.pods("grafana")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["metadata"]["annotations"][REVISION] == "2"
    assert ground.ask("http://grafana.grafana/api/health").status == 200


def test_a_password_is_read_at_the_first_start_and_kept_until_its_volume_is_gone(ground: Ground) -> None:
    programs = ground.agent.programs(ground.cluster.name)
    given = values()["grafana"]
    ground.release("grafana", given)
    assert programs.state["grafana"] == "grafana-admin/admin-password"

    ground.give("grafana-admin", "grafana", **{"admin-user": "admin", "admin-password": "another"})
    ground.release("grafana", {**given, "podAnnotations": {REVISION: "2"}})
    assert programs.state["grafana"] == "grafana-admin/admin-password"

    ground.uninstall("grafana")
    ground.tick()
    assert ground.names("persistentvolumeclaims", "grafana") == ["grafana"]
    ground.release("grafana", given)
    assert programs.state["grafana"] == "grafana-admin/admin-password"

    ground.uninstall("grafana")
    ground.tick()
    ground.api("DELETE", "/api/v1/namespaces/grafana/persistentvolumeclaims/grafana")
    ground.tick()
    assert "grafana" not in programs.state
    ground.release("grafana", given)
    assert programs.state["grafana"] == "another"


def test_an_uninstalled_release_takes_its_objects_away_but_for_volumes(
    ground: Ground, eventually: Callable[..., Any]
) -> None:
    for service, given in values().items():
        ground.release(service, given)
    for service in SERVICES:
        ground.uninstall(service)
    ground.tick()

    for service in SERVICES:
        eventually(lambda service=service: ground.pods(service) == [])
        for plural, group in (("deployments", "apps"), ("statefulsets", "apps"), ("services", "")):
            assert ground.names(plural, service, group) == []
    # Of a StatefulSet's claims nobody but a person disposes; the object store's chart keeps nothing.
    assert ground.names("persistentvolumeclaims", "airflow") == ["data-airflow-postgresql-0"]
    assert ground.names("persistentvolumeclaims", "milvus") == ["data-milvus-etcd-0", "milvus"]
    assert ground.names("persistentvolumeclaims", "grafana") == ["grafana"]
    assert ground.ask("http://grafana.grafana/api/health").status == 502


def test_a_release_that_is_not_deployed_makes_nothing(ground: Ground) -> None:
    given = values()["grafana"]
    record = releases.Release(
        "grafana",
        "grafana",
        1,
        "failed",
        ChartVersion("grafana", "12.11.1", "13"),
        given,
        NOW,
        NOW,
        "",
        manifest=charts.manifest("grafana", "grafana", "grafana", given),
    )
    body = releases.encode(record, "createdAt")
    assert ground.api("POST", "/api/v1/namespaces/grafana/secrets", body).status == 201
    ground.tick()
    assert ground.names("deployments", "grafana", "apps") == []


def test_one_state_for_milvus_rest_and_for_curl_in_its_pod(ground: Ground) -> None:
    ground.release("milvus", values()["milvus"])
    url = "http://milvus.milvus.svc.cluster.local:19530/v2/vectordb/users/describe"
    root = {"userName": "root"}
    answer = ground.ask(url, "POST", root, Authorization="Bearer root:milvus-root/password")
    assert answer.json() == {"code": 0, "data": ["admin"]}

    ground.agent.programs(ground.cluster.name).change(milvus="Another-one")
    assert ground.ask(url, "POST", root, Authorization="Bearer root:milvus-root/password").status == 401
    change = {**root, "password": "Another-one", "newPassword": "A-third-one"}
    path = url.replace("describe", "update_password")
    assert ground.ask(path, "POST", change, Authorization="Bearer root:Another-one").json()["code"] == 0
    assert ground.agent.programs(ground.cluster.name).state["milvus"] == "A-third-one"


def test_a_pod_that_is_not_ready_has_nobody_behind_its_service(
    ground: Ground, eventually: Callable[..., Any]
) -> None:
    ground.release("milvus", values()["milvus"])
    fail = {"metadata": {"annotations": {"sandbox.cali.dev/fail": "CrashLoopBackOff"}}}
    path = "/apis/apps/v1/namespaces/milvus/deployments/milvus-standalone"
    assert ground.api.merge(path, {**fail, "spec": {"template": fail}}).status == 200

    def gone() -> bool:
        ground.tick()
        return bool(
            ground.ask("http://milvus.milvus:19530/v2/vectordb/collections/list", "POST").status == 502
        )

    eventually(gone)


def test_a_scheduler_may_hang_in_a_pod_that_is_ready(ground: Ground) -> None:
    ground.release("airflow", values()["airflow"])

    def status(part: str) -> str:
        found = ground.ask("http://airflow-api-server.airflow:8080/api/v2/monitor/health").json()
        return str(found[part]["status"])

    assert status("scheduler") == "healthy"
    ground.agent.hold_scheduler_back(ground.cluster.name, ago=timedelta(seconds=20))
    ground.tick()
    assert status("scheduler") == "healthy"
    ground.tick(10)
    assert (status("scheduler"), status("triggerer")) == ("unhealthy", "healthy")
    ground.agent.hold_scheduler_back(ground.cluster.name, False)
    assert status("scheduler") == "healthy"


class TestGitSync:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        folder = tmp_path / "dags"
        subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
        self.commit(folder)
        return folder

    @staticmethod
    def commit(folder: Path) -> str:
        git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def test_it_looks_once_in_its_period_and_not_while_it_is_held_back(
        self, ground: Ground, repository: Path
    ) -> None:
        def brought() -> Any:
            return ground.agent.programs(ground.cluster.name).state.get("commit")

        first = self.commit(repository)
        sync = {"enabled": True, "repo": f"file://{repository}", "ref": "main", "period": "60s"}
        ground.release("airflow", values(airflow={"dags": {"gitSync": sync}})["airflow"])
        assert brought() == first

        second = self.commit(repository)
        ground.tick(59)
        assert brought() == first
        ground.tick(1)
        assert brought() == second

        ground.agent.hold_git_sync_back(ground.cluster.name)
        third = self.commit(repository)
        ground.tick(600)
        assert brought() == second
        ground.agent.hold_git_sync_back(ground.cluster.name, False)
        ground.tick()
        assert brought() == third

    def test_what_cannot_be_asked_is_asked_again(self, ground: Ground, tmp_path: Path) -> None:
        sync = {"enabled": True, "repo": str(tmp_path / "none"), "ref": "main", "period": "5s"}
        ground.release("airflow", values(airflow={"dags": {"gitSync": sync}})["airflow"])
        assert "commit" not in ground.agent.programs(ground.cluster.name).state
