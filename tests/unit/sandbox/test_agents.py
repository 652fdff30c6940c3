"""What runs in the pods of a sandbox's clusters: the autoscaler's status, and log lines that arrive."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from cali_infra.core import assets
from cali_infra.sandbox.agents.autoscaler import Autoscaler
from cali_infra.sandbox.agents.fluent_bit import FluentBit
from cali_infra.sandbox.agents.scale_up import Backoff, plan
from cali_infra.sandbox.helm import releases
from cali_infra.sandbox.helm.charts import ChartVersion
from cali_infra.sandbox.kubernetes.logs import LogLine
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
        self.time = Time()
        agent = Autoscaler(clusters, self.cloud, self.time)
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

        grow, self.cloud.grow = self.cloud.grow, refuse
        for name in "abc":
            self.pod(api, name)

        def failures() -> list[str]:
            events = api("GET", "/api/v1/namespaces/kube-system/events").body["items"]
            return [event["message"] for event in events if event["reason"] == "FailedToScaleUpGroup"]

        tick(failures)
        assert failures() == ["Scale-up failed for group eks-nodes-1: AccessDenied: not authorized"]
        assert self.said(api) == [], "in the loop that tried, the pods hear nothing"
        why = "pod didn't trigger scale-up: 1 in backoff after failed scale-up"
        tick(lambda: self.said(api) == [("NotTriggerScaleUp", why)])
        self.cloud.grow = grow
        self.time.passes(299)
        tick(lambda: True)
        assert self.running(api) == 2, "the group is left alone for five minutes"
        self.time.passes(2)
        tick(lambda: self.running(api) == 3)

    def test_an_autoscaler_that_starts_anew_has_forgotten_what_failed(
        self, api: Any, tick: Callable[..., None], eventually: Eventually
    ) -> None:
        def refuse(size: int) -> None:
            raise PermissionError("AccessDenied: not authorized")

        grow, self.cloud.grow = self.cloud.grow, refuse
        for name in "abc":
            self.pod(api, name)
        tick(lambda: self.said(api))
        self.cloud.grow = grow

        def replicas(count: int) -> None:
            assert api.merge(DEPLOYMENT, {"spec": {"replicas": count}}).status == 200
            eventually(lambda: api("GET", DEPLOYMENT).body["status"].get("readyReplicas", 0) == count)

        replicas(0)
        tick(lambda: True)
        replicas(1)
        tick(lambda: self.running(api) == 3)

    def test_each_failure_makes_the_pause_twice_as_long(self) -> None:
        first = datetime(2026, 3, 1, 12, tzinfo=UTC)
        pause, lengths, now = None, [], first
        for _ in range(5):
            pause = Backoff.after(pause, now)
            lengths.append(pause.pause.total_seconds() / 60)
            assert pause.holds(now + pause.pause)
            now += pause.pause + timedelta(seconds=1)
            assert not pause.holds(now)
        assert lengths == [5, 10, 20, 30, 30]
        assert Backoff.after(pause, now + timedelta(hours=3)).pause == timedelta(minutes=5)

    def test_of_several_groups_each_says_its_own_in_any_order(self) -> None:
        groups = [ScalingGroup(f"eks-{name}", 1, 3, 3, name) for name in "ab"]
        pod = {"metadata": {"name": "p"}, "spec": {"affinity": {}}}
        for arrange, reasons in (
            (tuple, "1 max node group size reached, 1 in backoff after failed scale-up"),
            (reversed, "1 in backoff after failed scale-up, 1 max node group size reached"),
        ):
            _, refused = plan([pod], [], groups, ["eks-b"], arrange)
            assert refused == [(pod, f"pod didn't trigger scale-up: {reasons}")]


def yaml_size(api: Any) -> int:
    (group,) = status_of(api)["nodeGroups"]
    return int(group["health"]["cloudProviderTarget"])


class TestFluentBit:
    PASSWORD = "Sh1pping-logs"
    CONFIGMAPS = "/api/v1/namespaces/logging/configmaps"
    DAEMON = "/apis/apps/v1/namespaces/logging/daemonsets/fluent-bit"
    TEXT = (assets.folder("k8s") / "fluent-bit" / "fluent-bit.yaml").read_text()

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
            self.CONFIGMAPS,
            {"metadata": {"name": "settings"}, "data": {**settings, "CLUSTER_NAME": "demo"}},
        )
        self.configure(api, "config-a1", self.TEXT)
        self.run(api)
        self.domain, self.cluster = domain, cluster
        agent = FluentBit(clusters, str(ca), time)
        return lambda: agent.tick(cluster.name)

    @staticmethod
    def give(api: Any, password: str) -> None:
        data = {"OPENSEARCH_USER": "writer", "OPENSEARCH_PASSWORD": password}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        path = "/api/v1/namespaces/logging/secrets"
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"}, "data": encoded}
        assert api.apply(f"{path}/credentials", secret).status < 300

    def configure(self, api: Any, name: str, text: str) -> None:
        data = {"fluent-bit.yaml": text}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
        assert api.apply(f"{self.CONFIGMAPS}/{name}", body).status < 300

    def change(self, api: Any, said: str, here: str = "") -> None:
        """What the pods are configured with says this otherwise."""
        assert self.TEXT.count(said) == 1
        self.configure(api, "config-a1", self.TEXT.replace(said, here))

    @staticmethod
    def run(api: Any) -> None:
        labels = {"app": "fluent-bit"}
        sources = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "credentials"}}]
        container = {
            "name": "fluent-bit",
            "image": "fluent-bit:5",
            "args": ["--config=/fluent-bit/config/fluent-bit.yaml"],
            "envFrom": sources,
            "volumeMounts": [{"name": "config", "mountPath": "/fluent-bit/config"}],
        }
        volumes = [{"name": "config", "configMap": {"name": "config-a1"}}]
        spec = {"containers": [container], "volumes": volumes}
        template = {"metadata": {"labels": labels}, "spec": spec}
        body = {
            "metadata": {"name": "fluent-bit"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
        assert api("POST", "/apis/apps/v1/namespaces/logging/daemonsets", body).status == 201

    def pod(self, api: Any, name: str, **metadata: Any) -> None:
        containers = [{"name": "main", "image": "example.com/a:1"}]
        meta = {"name": name, "labels": {"app.kubernetes.io/name": "web"}, **metadata}
        answer = api(
            "POST", "/api/v1/namespaces/default/pods", {"metadata": meta, "spec": {"containers": containers}}
        )
        assert answer.status == 201

    def write(self, pod: str, *texts: str, at: int = 1_772_366_400_000_000_000) -> None:
        lines = [LogLine(at + number, "stdout", text) for number, text in enumerate(texts)]
        self.cluster.standin.write_log(self.cluster.name, "default", pod, "main", lines)

    @staticmethod
    def ready(api: Any, count: int) -> bool:
        found = api("GET", "/api/v1/pods").body["items"]
        conditions = [pod.get("status", {}).get("conditions") or () for pod in found]
        ready = [any(c["type"] == "Ready" and c["status"] == "True" for c in each) for each in conditions]
        return ready.count(True) == count

    @pytest.fixture
    def web(self, api: Any, tick: Callable[[], None], eventually: Eventually) -> None:
        """A pod on one of the two nodes, on which Fluent Bit runs."""
        self.pod(api, "web-1")
        eventually(lambda: self.ready(api, 3))

    @property
    def records(self) -> list[Any]:
        found: list[Any] = self.domain.standin.documents(self.domain.name, "logs-*")
        return found

    @property
    def texts(self) -> list[str]:
        return [one["log"] for one in self.records]

    def test_a_line_of_each_silent_pod_arrives_once_and_one_of_them_writes_on(
        self, tick: Callable[[], None], time: Time, web: None
    ) -> None:
        tick()
        tick()
        (record,) = self.records
        assert record["@timestamp"] == record["time"] == "2026-03-01T12:00:00.000000000Z"
        assert record["cluster"] == "demo"
        assert record["kubernetes"]["pod_name"] == "web-1"
        assert record["kubernetes"]["labels"] == {"app_kubernetes_io/name": "web"}

        time.passes(61)
        tick()
        assert self.texts == ["main: started", "main: still running"]

    def test_what_a_container_has_written_arrives_once_and_in_its_order(
        self, tick: Callable[[], None], time: Time, web: None
    ) -> None:
        self.write("web-1", "first", "second")
        tick()
        assert self.texts == ["first", "second"]
        tick()
        self.write("web-1", '{"n": 3}', at=1_772_366_401_000_000_000)
        time.passes(61)
        tick()
        tick()
        assert [one.get("log") or one["app"] for one in self.records] == ["first", "second", {"n": 3}]

    def test_a_log_that_was_replaced_is_read_from_its_head(self, tick: Callable[[], None], web: None) -> None:
        self.write("web-1", "first", "second")
        tick()
        self.cluster.standin.set_log(self.cluster.name, "default", "web-1", "main", "another\nlog\n")
        tick()
        assert sorted(self.texts) == ["another", "first", "log", "second"]

    def test_a_pod_that_has_ended_leaves_its_log(
        self, api: Any, tick: Callable[[], None], web: None, eventually: Eventually
    ) -> None:
        spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.com/a:1"}]}
        body = {"metadata": {"name": "once"}, "spec": {"template": {"spec": spec}}}
        assert api("POST", "/apis/batch/v1/namespaces/default/jobs", body).status == 201

        def ended() -> str | None:
            found = api("GET", "/api/v1/namespaces/default/pods").body["items"]
            names = [one["metadata"]["name"] for one in found if one["status"].get("phase") == "Succeeded"]
            return names[0] if names else None

        pod = eventually(ended)
        self.write(pod, "done")
        tick()
        assert [one["log"] for one in self.records if one["kubernetes"]["pod_name"] == pod] == ["done"]

    def test_a_pod_that_asks_to_be_left_out_is(
        self, api: Any, tick: Callable[[], None], web: None, eventually: Eventually
    ) -> None:
        self.pod(api, "quiet", annotations={"fluentbit.io/exclude": "true"})
        eventually(lambda: self.ready(api, 4))
        self.write("quiet", "not wanted")
        tick()
        assert self.texts == ["main: started"]

    def test_without_the_right_password_nothing_arrives_until_it_is_there(
        self, api: Any, tick: Callable[[], None], time: Time, web: None
    ) -> None:
        self.give(api, password="An0ther-one")
        self.write("web-1", "hello")
        tick()
        assert self.records == []
        self.give(api, password=self.PASSWORD)
        time.passes(5)
        tick()
        assert self.texts == ["hello"]

    def test_without_the_secret_nothing_arrives_and_the_reason_is_said_once(
        self, api: Any, tick: Callable[[], None], web: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        api("DELETE", "/api/v1/namespaces/logging/secrets/credentials")
        tick()
        tick()
        assert self.records == []
        (said,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        assert "the variable OPENSEARCH_USER is not set" in said

    def test_a_node_without_a_ready_pod_of_it_has_no_logs(
        self, api: Any, tick: Callable[[], None], web: None, eventually: Eventually
    ) -> None:
        api("DELETE", self.DAEMON)
        eventually(lambda: self.ready(api, 1))
        self.write("web-1", "hello")
        tick()
        assert self.records == []

    def test_it_goes_to_loopback_only(self, api: Any, tick: Callable[[], None], web: None) -> None:
        path = f"{self.CONFIGMAPS}/settings"
        assert api.merge(path, {"data": {"OPENSEARCH_HOST": "search.invalid"}}).status == 200
        tick()
        assert self.records == []

    def test_without_the_hard_rename_a_line_takes_the_runtimes_time_away(
        self, api: Any, tick: Callable[[], None], web: None
    ) -> None:
        """The lines' keys at the top, and the renaming that keeps the runtime's time there, or not."""
        lifted = self.TEXT.replace("            add_prefix: __app__\n", "")
        self.configure(api, "config-a1", lifted)
        self.write("web-1", '{"@timestamp": "2001-02-03T04:05:06Z", "n": 1}')
        tick()
        self.configure(
            api, "config-a1", lifted.replace("              - '@timestamp source_timestamp'\n", "")
        )
        self.write("web-1", '{"@timestamp": "2001-02-03T04:05:06Z", "n": 2}')
        tick()
        renamed, kept = sorted(self.records, key=lambda one: one["n"])
        assert renamed["@timestamp"] == "2026-03-01T12:00:00.000000000Z"
        assert renamed["source_timestamp"] == "2001-02-03T04:05:06Z"
        assert kept["@timestamp"] == "2001-02-03T04:05:06Z"

    def test_without_the_renaming_of_the_lines_own_time_it_is_not_kept_beside(
        self, api: Any, tick: Callable[[], None], web: None
    ) -> None:
        self.change(api, "              - '__app__@timestamp source_timestamp'\n")
        self.write("web-1", '{"@timestamp": "2001-02-03T04:05:06Z"}')
        tick()
        (record,) = self.records
        assert record["app"] == {"@timestamp": "2001-02-03T04:05:06Z"}
        assert "source_timestamp" not in record

    def test_what_counts_is_the_configmap_that_the_daemonset_mounts(
        self, api: Any, tick: Callable[[], None], web: None, eventually: Eventually
    ) -> None:
        self.configure(
            api, "config-b2", self.TEXT.replace("set: cluster ${CLUSTER_NAME}", "set: cluster other")
        )
        self.write("web-1", "before")
        tick()
        pod = {"spec": {"volumes": [{"name": "config", "configMap": {"name": "config-b2"}}]}}
        assert api.merge(self.DAEMON, {"spec": {"template": pod}}).status == 200
        self.write("web-1", "behind", at=1_772_366_401_000_000_000)

        def all_there() -> bool:
            # The new pods have to be ready first.
            tick()
            return len(self.records) == 2

        eventually(all_there)
        assert {one["log"]: one["cluster"] for one in self.records} == {"before": "demo", "behind": "other"}

    def test_a_configuration_that_is_not_known_ships_nothing_and_the_reason_is_said_once(
        self, api: Any, tick: Callable[[], None], web: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.write("web-1", "hello")
        self.change(api, "      time_key_nanos: on\n", "      time_key_nanoseconds: on\n")
        tick()
        tick()
        assert self.records == []
        (said,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        assert "outputs[0] (opensearch): time_key_nanoseconds" in said
        self.configure(api, "config-a1", self.TEXT)
        tick()
        assert self.texts == ["hello"]

    def test_without_its_configmap_nothing_arrives(
        self, api: Any, tick: Callable[[], None], web: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        api("DELETE", f"{self.CONFIGMAPS}/config-a1")
        tick()
        assert self.records == []
        assert "no ConfigMap config-a1 has fluent-bit.yaml" in caplog.text

    def test_a_line_that_the_domain_refuses_holds_nothing_up(
        self, tick: Callable[[], None], time: Time, web: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        self.write("web-1", '{"user": {"id": 1}}', '{"user": "jin"}', "behind")
        tick()
        assert [one.get("log") or one["app"] for one in self.records] == [{"user": {"id": 1}}, "behind"]
        caplog.clear()
        self.write("web-1", "later", at=1_772_366_401_000_000_000)
        time.passes(1)
        tick()
        assert [one["log"] for one in self.records if "log" in one] == ["behind", "later"]
        assert "is not taken" not in caplog.text

    def test_a_domain_that_is_away_gets_every_line_later(self, tick: Callable[[], None], web: None) -> None:
        self.write("web-1", "first")
        self.domain.standin.faults.answer(503, 1, path="/_bulk")
        tick()
        assert self.records == []
        self.write("web-1", "second", at=1_772_366_401_000_000_000)
        tick()
        assert self.texts == ["first", "second"]
