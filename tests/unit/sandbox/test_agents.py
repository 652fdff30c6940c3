"""What runs in the pods of a sandbox's clusters: the autoscaler's status, and log lines that arrive."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from cali_infra.sandbox.agents.autoscaler import Autoscaler
from cali_infra.sandbox.agents.fluent_bit import FluentBit
from cali_infra.sandbox.helm import releases
from cali_infra.sandbox.helm.charts import ChartVersion
from cali_infra.sandbox.ports import ScalingGroup

Eventually = Callable[..., Any]
SECRETS = "/api/v1/namespaces/kube-system/secrets"
DEPLOYMENT = "/apis/apps/v1/namespaces/kube-system/deployments/cluster-autoscaler-aws-cluster-autoscaler"
STATUS = "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"


@dataclass
class Time:
    at: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.at

    def passes(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Cloud:
    """An AWS with one group, whose roles a test takes away; `grow` is how its nodes come."""

    roles: dict[tuple[str, str], str] = field(
        default_factory=lambda: {("kube-system", "cluster-autoscaler"): "arn:aws:iam::1:role/autoscaler"}
    )
    grow: Callable[[int], None] = lambda size: None
    group: ScalingGroup = field(default_factory=lambda: ScalingGroup("eks-nodes-1", 2, 8, 3, "workers"))

    def scaling_groups(self, cluster: str) -> list[ScalingGroup]:
        return [self.group]

    def set_desired(self, cluster: str, group: str, desired: int, role: str) -> None:
        self.grow(desired)
        self.group = replace(self.group, desired=desired)

    def pod_role(self, cluster: str, namespace: str, service_account: str) -> str | None:
        return self.roles.get((namespace, service_account))


def release(revision: int = 1, tag: str = "v1.35.0", status: str = "deployed") -> dict[str, Any]:
    chart = ChartVersion("cluster-autoscaler", "9.59.0", "1.35.0")
    values = {"image": {"tag": tag}, "rbac": {"serviceAccount": {"name": "cluster-autoscaler"}}}
    now = datetime(2026, 3, 1, tzinfo=UTC)
    return releases.encode(
        releases.Release("cluster-autoscaler", "kube-system", revision, status, chart, values, now, now, ""),
        "createdAt",
    )


@pytest.fixture
def time() -> Time:
    return Time()


def status_of(api: Any) -> Any:
    answer = api("GET", STATUS)
    return yaml.safe_load(answer.body["data"]["status"]) if answer.status == 200 else None


class TestTheAutoscaler:
    @pytest.fixture
    def tick(self, cluster: Any, clusters: Any, time: Time, eventually: Eventually) -> Callable[..., None]:
        cluster.nodes(3)
        self.cloud = Cloud()
        agent = Autoscaler(clusters, self.cloud, time)

        def tick(until: Callable[[], object] = lambda: True) -> None:
            def again() -> object:
                agent.tick(cluster.name)
                return until()

            eventually(again)

        return tick

    def test_it_is_there_for_as_long_as_helm_says_that_it_is(
        self, api: Any, tick: Callable[..., None], eventually: Eventually
    ) -> None:
        tick()
        assert api("GET", DEPLOYMENT).status == 404

        api("POST", SECRETS, release())
        tick(lambda: status_of(api))
        assert api("GET", DEPLOYMENT).body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"

        api("DELETE", f"{SECRETS}/sh.helm.release.v1.cluster-autoscaler.v1")
        tick()
        assert api("GET", DEPLOYMENT).status == 404
        assert status_of(api) is None

    def test_its_status_is_the_one_of_the_real_one(self, api: Any, tick: Callable[..., None]) -> None:
        api("POST", SECRETS, release())
        tick(lambda: status_of(api))

        found = status_of(api)
        assert found["time"] == "2026-03-01 12:00:00.000000000 +0000 UTC"
        assert found["autoscalerStatus"] == "Running"
        assert found["clusterWide"]["health"]["status"] == "Healthy"
        (group,) = found["nodeGroups"]
        assert group["name"] == "eks-nodes-1"
        assert (group["health"]["minSize"], group["health"]["maxSize"]) == (2, 8)

    def test_it_writes_anew_every_ten_seconds(self, api: Any, tick: Callable[..., None], time: Time) -> None:
        api("POST", SECRETS, release())
        tick(lambda: status_of(api))
        time.passes(9)
        tick()
        assert status_of(api)["time"].startswith("2026-03-01 12:00:00")
        time.passes(1)
        tick()
        assert status_of(api)["time"].startswith("2026-03-01 12:00:10")

    def test_an_upgrade_changes_the_image(self, api: Any, tick: Callable[..., None]) -> None:
        api("POST", SECRETS, release())
        tick()
        api("POST", SECRETS, release(2, "v1.35.1"))
        tick()
        template = api("GET", DEPLOYMENT).body["spec"]["template"]
        assert template["spec"]["containers"][0]["image"].endswith(":v1.35.1")

    @pytest.mark.parametrize("trouble", ["no role", "a crash"])
    def test_it_says_nothing_while_it_cannot_work(
        self, api: Any, tick: Callable[..., None], time: Time, trouble: str, eventually: Eventually
    ) -> None:
        api("POST", SECRETS, release())
        tick(lambda: status_of(api))
        if trouble == "no role":
            self.cloud.roles.clear()
        else:
            fail = {"metadata": {"annotations": {"sandbox.cali.dev/fail": "CrashLoopBackOff"}}}
            assert api.merge(DEPLOYMENT, {**fail, "spec": {"template": fail}}).status == 200
            eventually(lambda: not api("GET", DEPLOYMENT).body["status"].get("readyReplicas"))
        time.passes(60)
        tick()
        assert status_of(api)["time"].startswith("2026-03-01 12:00:00")


class TestMoreNodes:
    PODS = "/api/v1/namespaces/default/pods"

    @pytest.fixture
    def tick(self, cluster: Any, clusters: Any, api: Any, eventually: Eventually) -> Callable[..., None]:
        """Lets the autoscaler look once it works; two nodes, of three at most."""
        cluster.nodes(2)
        self.cloud = Cloud(group=ScalingGroup("eks-nodes-1", 1, 3, 2, "workers"), grow=cluster.nodes)
        agent = Autoscaler(clusters, self.cloud, Time())
        api("POST", SECRETS, release())

        def tick(until: Callable[[], object]) -> None:
            def again() -> object:
                agent.tick(cluster.name)
                return until()

            eventually(again)

        tick(lambda: status_of(api))
        return tick

    def pod(self, api: Any, name: str, **spec: Any) -> None:
        labels = {"app": "alone"}
        term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
        alone = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        body = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "a", "image": "a:1"}], "affinity": alone, **spec},
        }
        assert api("POST", self.PODS, body).status == 201

    def said(self, api: Any) -> list[tuple[str, str]]:
        events = api("GET", "/api/v1/namespaces/default/events").body["items"]
        return [
            (event["reason"], event["message"])
            for event in events
            if event["source"]["component"] == "cluster-autoscaler" and event["type"] == "Normal"
        ]

    def running(self, api: Any) -> int:
        return sum(pod["status"]["phase"] == "Running" for pod in api("GET", self.PODS).body["items"])

    def test_a_pod_without_a_place_gets_a_node(self, api: Any, tick: Callable[..., None]) -> None:
        for name in "abc":
            self.pod(api, name)
        tick(lambda: self.running(api) == 3)
        tick(lambda: self.said(api))
        assert self.said(api) == [
            ("TriggeredScaleUp", "pod triggered scale-up: [{eks-nodes-1 2->3 (max: 3)}]")
        ]
        tick(lambda: yaml_size(api) == 3)

    def test_at_the_maximum_it_says_so(self, api: Any, tick: Callable[..., None]) -> None:
        for name in "abcd":
            self.pod(api, name)
        tick(lambda: self.running(api) == 3)
        why = "pod didn't trigger scale-up: 1 max node group size reached"
        tick(lambda: ("NotTriggerScaleUp", why) in self.said(api))

    def test_a_pod_that_no_node_of_any_group_would_take(self, api: Any, tick: Callable[..., None]) -> None:
        self.pod(api, "a", nodeSelector={"disk": "none"})
        why = "pod didn't trigger scale-up: 1 node(s) didn't match Pod's node affinity/selector"
        tick(lambda: self.said(api) == [("NotTriggerScaleUp", why)])
        assert self.cloud.group.desired == 2

    def test_what_another_node_would_not_help_moves_nothing(
        self, api: Any, tick: Callable[..., None], eventually: Eventually
    ) -> None:
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": "gone"}}
        self.pod(api, "a", volumes=[volume])
        eventually(lambda: api("GET", f"{self.PODS}/a").body["status"].get("conditions"))
        tick(lambda: True)
        assert self.said(api) == []
        assert self.cloud.group.desired == 2

    def test_a_role_that_may_not(self, api: Any, tick: Callable[..., None]) -> None:
        def refuse(size: int) -> None:
            raise PermissionError("AccessDenied: not authorized")

        self.cloud.grow = refuse
        for name in "abc":
            self.pod(api, name)

        def failures() -> list[str]:
            events = api("GET", "/api/v1/namespaces/kube-system/events").body["items"]
            return [event["message"] for event in events if event["reason"] == "FailedToScaleUpGroup"]

        tick(failures)
        assert failures() == ["Scale-up failed for group eks-nodes-1: AccessDenied: not authorized"]
        assert self.said(api) == []


def yaml_size(api: Any) -> int:
    (group,) = status_of(api)["nodeGroups"]
    return int(group["health"]["cloudProviderTarget"])


class TestFluentBit:
    PASSWORD = "Sh1pping-logs"

    @pytest.fixture
    def tick(
        self, cluster: Any, clusters: Any, master: Any, domain: Any, time: Time, ca: Any, api: Any
    ) -> Callable[[], None]:
        cluster.nodes(2)
        write = ["create_index", "indices:data/write/bulk*", "indices:data/write/index"]
        role = {
            "cluster_permissions": ["indices:data/write/bulk"],
            "index_permissions": [{"index_patterns": ["logs-*"], "allowed_actions": write}],
        }
        for path, body in (
            ("roles/writer", role),
            ("internalusers/writer", {"password": self.PASSWORD}),
            ("rolesmapping/writer", {"users": ["writer"]}),
        ):
            assert master("PUT", f"/_plugins/_security/api/{path}", body).status < 300
        api("POST", "/api/v1/namespaces", {"metadata": {"name": "logging"}})
        host, _, port = domain.address.partition(":")
        self.give(api, password=self.PASSWORD)
        settings = {"OPENSEARCH_HOST": host, "OPENSEARCH_PORT": port, "INDEX_PREFIX": "logs"}
        api(
            "POST",
            "/api/v1/namespaces/logging/configmaps",
            {"metadata": {"name": "settings"}, "data": {**settings, "CLUSTER_NAME": "demo"}},
        )
        self.run(api)
        self.domain = domain
        agent = FluentBit(clusters, str(ca), time)
        return lambda: agent.tick(cluster.name)

    @staticmethod
    def give(api: Any, password: str) -> None:
        data = {"OPENSEARCH_USER": "writer", "OPENSEARCH_PASSWORD": password}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        path = "/api/v1/namespaces/logging/secrets"
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"}, "data": encoded}
        assert api.apply(f"{path}/credentials", secret).status < 300

    @staticmethod
    def run(api: Any) -> None:
        labels = {"app": "fluent-bit"}
        sources = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "credentials"}}]
        container = {"name": "fluent-bit", "image": "fluent-bit:5", "envFrom": sources}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        body = {
            "metadata": {"name": "fluent-bit"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
        assert api("POST", "/apis/apps/v1/namespaces/logging/daemonsets", body).status == 201

    def pod(self, api: Any, name: str) -> None:
        containers = [{"name": "main", "image": "example.com/a:1"}]
        meta = {"name": name, "labels": {"app.kubernetes.io/name": "web"}}
        answer = api(
            "POST", "/api/v1/namespaces/default/pods", {"metadata": meta, "spec": {"containers": containers}}
        )
        assert answer.status == 201

    @staticmethod
    def ready(api: Any, count: int) -> bool:
        found = api("GET", "/api/v1/pods").body["items"]
        conditions = [pod.get("status", {}).get("conditions") or () for pod in found]
        ready = [any(c["type"] == "Ready" and c["status"] == "True" for c in each) for each in conditions]
        return ready.count(True) == count

    @property
    def records(self) -> list[Any]:
        found: list[Any] = self.domain.standin.documents(self.domain.name, "logs-*")
        return found

    def test_a_line_of_each_pod_arrives_once_and_one_of_them_writes_on(
        self, api: Any, tick: Callable[[], None], time: Time, eventually: Eventually
    ) -> None:
        self.pod(api, "web-1")
        eventually(lambda: self.ready(api, 3))
        tick()
        tick()
        (record,) = self.records
        assert record["@timestamp"] == record["time"] == "2026-03-01T12:00:00.000000000Z"
        assert record["cluster"] == "demo"
        assert record["kubernetes"]["pod_name"] == "web-1"
        assert record["kubernetes"]["labels"] == {"app_kubernetes_io/name": "web"}

        time.passes(61)
        tick()
        assert len(self.records) == 2

    def test_without_the_right_password_nothing_arrives_until_it_is_there(
        self, api: Any, tick: Callable[[], None], eventually: Eventually
    ) -> None:
        self.give(api, password="An0ther-one")
        self.pod(api, "web-1")
        eventually(lambda: self.ready(api, 3))
        tick()
        assert self.records == []
        self.give(api, password=self.PASSWORD)
        tick()
        assert len(self.records) == 1

    def test_a_node_without_a_ready_pod_of_it_has_no_logs(
        self, api: Any, tick: Callable[[], None], eventually: Eventually
    ) -> None:
        api("DELETE", "/apis/apps/v1/namespaces/logging/daemonsets/fluent-bit")
        self.pod(api, "web-1")
        eventually(lambda: self.ready(api, 1))
        tick()
        assert self.records == []

    def test_it_goes_to_loopback_only(
        self, api: Any, tick: Callable[[], None], eventually: Eventually
    ) -> None:
        path = "/api/v1/namespaces/logging/configmaps/settings"
        assert api.merge(path, {"data": {"OPENSEARCH_HOST": "search.invalid"}}).status == 200
        self.pod(api, "web-1")
        eventually(lambda: self.ready(api, 3))
        tick()
        assert self.records == []
