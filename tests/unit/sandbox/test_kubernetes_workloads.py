"""What happens by itself: pods for workloads, volumes for claims, and why something does not become ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Client, Cluster

NAMESPACE = "/api/v1/namespaces/default"
APPS = "/apis/apps/v1/namespaces/default"
Eventually = Callable[..., Any]


def workload(kind: str, pod: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "agent", "image": "agent:1"}], **(pod or {})},
            },
            **spec,
        },
    }


def pods(api: Client) -> list[dict[str, Any]]:
    return list(api("GET", f"{NAMESPACE}/pods").body["items"])


def status(api: Client, path: str, **wanted: Any) -> Callable[[], Any]:
    """True once the object's status has these values and speaks of its present generation."""

    def check() -> Any:
        found = api("GET", path).body
        said = found.get("status", {})
        current = said.get("observedGeneration") == found["metadata"].get("generation")
        return current and all(said.get(key, 0) == value for key, value in wanted.items())

    return check


def reasons(api: Client) -> set[str]:
    return {item["reason"] for item in api("GET", f"{NAMESPACE}/events").body["items"]}


class TestDaemonSets:
    def test_one_ready_pod_on_each_node(self, cluster: Cluster, api: Client, eventually: Eventually) -> None:
        cluster.nodes(3)
        api("POST", f"{APPS}/daemonsets", workload("DaemonSet"))

        path = f"{APPS}/daemonsets/agent"
        eventually(status(api, path, desiredNumberScheduled=3, numberReady=3, updatedNumberScheduled=3))
        assert len({pod["spec"]["nodeName"] for pod in pods(api)}) == 3
        assert {pod["status"]["phase"] for pod in pods(api)} == {"Running"}

    def test_nodes_that_come_and_go(self, cluster: Cluster, api: Client, eventually: Eventually) -> None:
        api("POST", f"{APPS}/daemonsets", workload("DaemonSet"))
        path = f"{APPS}/daemonsets/agent"
        cluster.nodes(2)
        eventually(status(api, path, desiredNumberScheduled=2, numberReady=2))

        cluster.nodes(1)

        eventually(status(api, path, desiredNumberScheduled=1, numberReady=1))
        assert len(pods(api)) == 1

    def test_only_where_the_selector_allows(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(3)
        zone = {"topology.kubernetes.io/zone": "ap-northeast-2b"}
        api("POST", f"{APPS}/daemonsets", workload("DaemonSet", {"nodeSelector": zone}))

        eventually(status(api, f"{APPS}/daemonsets/agent", desiredNumberScheduled=1, numberReady=1))

    def test_a_new_template_makes_new_pods(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(1)
        api("POST", f"{APPS}/daemonsets", workload("DaemonSet"))
        path = f"{APPS}/daemonsets/agent"
        eventually(status(api, path, numberReady=1))
        before = pods(api)[0]["metadata"]["name"]

        body = workload("DaemonSet", {"containers": [{"name": "agent", "image": "agent:2"}]})
        api.apply(path, body, manager="tester", force="true")

        eventually(status(api, path, numberReady=1, updatedNumberScheduled=1))
        assert [pod["spec"]["containers"][0]["image"] for pod in pods(api)] == ["agent:2"]
        assert pods(api)[0]["metadata"]["name"] != before

    def test_its_pods_go_with_it(self, cluster: Cluster, api: Client, eventually: Eventually) -> None:
        cluster.nodes(2)
        api("POST", f"{APPS}/daemonsets", workload("DaemonSet"))
        eventually(lambda: len(pods(api)) == 2)

        api("DELETE", f"{APPS}/daemonsets/agent")

        eventually(lambda: pods(api) == [])


class TestWhyNotReady:
    @pytest.fixture
    def node(self, cluster: Cluster) -> None:
        cluster.nodes(1)

    def waiting(self, api: Client) -> list[str]:
        return [
            item["state"]["waiting"]["reason"]
            for pod in pods(api)
            for item in pod["status"].get("containerStatuses", ())
            if "waiting" in item["state"]
        ]

    def test_a_secret_that_is_missing(self, node: None, api: Client, eventually: Eventually) -> None:
        env = [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "password", "key": "p"}}}]
        pod = {"containers": [{"name": "agent", "image": "a:1", "env": env}]}
        api("POST", f"{APPS}/daemonsets", workload("DaemonSet", pod))
        eventually(lambda: self.waiting(api) == ["CreateContainerConfigError"])

        api("POST", f"{NAMESPACE}/secrets", {"metadata": {"name": "password"}})
        eventually(
            lambda: (
                "couldn't find key p in Secret default/password"
                in str(api("GET", f"{NAMESPACE}/events").body["items"])
            )
        )
        api.merge(f"{NAMESPACE}/secrets/password", {"stringData": {"p": "x"}})

        eventually(status(api, f"{APPS}/daemonsets/agent", numberReady=1))

    def test_a_config_map_that_cannot_be_mounted(
        self, node: None, api: Client, eventually: Eventually
    ) -> None:
        api(
            "POST",
            f"{APPS}/daemonsets",
            workload("DaemonSet", {"volumes": [{"name": "c", "configMap": {"name": "c"}}]}),
        )

        eventually(lambda: self.waiting(api) == ["ContainerCreating"])
        eventually(lambda: "FailedMount" in reasons(api))

    def test_a_service_account_that_is_missing(self, node: None, api: Client, eventually: Eventually) -> None:
        api("POST", f"{APPS}/daemonsets", workload("DaemonSet", {"serviceAccountName": "agent"}))
        eventually(lambda: "FailedCreate" in reasons(api))
        assert pods(api) == []

        api("POST", f"{NAMESPACE}/serviceaccounts", {"metadata": {"name": "agent"}})

        eventually(status(api, f"{APPS}/daemonsets/agent", numberReady=1))

    def test_no_node(self, api: Client, eventually: Eventually) -> None:
        api("POST", f"{APPS}/deployments", workload("Deployment"))

        eventually(lambda: "FailedScheduling" in reasons(api))
        eventually(status(api, f"{APPS}/deployments/agent", unavailableReplicas=1, readyReplicas=0))

    @pytest.mark.parametrize("reason", ["ImagePullBackOff", "CrashLoopBackOff"])
    def test_what_a_test_asks_for(self, node: None, api: Client, eventually: Eventually, reason: str) -> None:
        body = workload("DaemonSet")
        body["spec"]["template"]["metadata"]["annotations"] = {"sandbox.cali.dev/fail": reason}
        api("POST", f"{APPS}/daemonsets", body)

        eventually(lambda: self.waiting(api) == [reason])
        eventually(status(api, f"{APPS}/daemonsets/agent", numberReady=0, numberUnavailable=1))


class TestOtherWorkloads:
    def test_a_deployment_is_available_and_can_be_scaled(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(2)
        api("POST", f"{APPS}/deployments", workload("Deployment", replicas=3))
        path = f"{APPS}/deployments/agent"
        eventually(status(api, path, replicas=3, readyReplicas=3, updatedReplicas=3, unavailableReplicas=0))
        conditions = {item["type"]: item["status"] for item in api("GET", path).body["status"]["conditions"]}
        assert conditions == {"Available": "True", "Progressing": "True"}

        api.merge(path, {"spec": {"replicas": 1}})

        eventually(status(api, path, replicas=1, readyReplicas=1))

    def test_a_cordoned_node_gets_no_new_pod(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(2)
        api.merge("/api/v1/nodes/ip-10-40-0-0.ec2.internal", {"spec": {"unschedulable": True}})

        api("POST", f"{APPS}/deployments", workload("Deployment", replicas=2))

        eventually(status(api, f"{APPS}/deployments/agent", readyReplicas=2))
        assert {pod["spec"]["nodeName"] for pod in pods(api)} == {"ip-10-40-0-1.ec2.internal"}

    def test_a_new_template_leaves_an_empty_replica_set_behind(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(1)
        api("POST", f"{APPS}/deployments", workload("Deployment"))
        path = f"{APPS}/deployments/agent"
        eventually(status(api, path, readyReplicas=1))

        body = workload("Deployment", {"containers": [{"name": "agent", "image": "agent:2"}]})
        api.apply(path, body, force="true")

        eventually(status(api, path, replicas=1, updatedReplicas=1, readyReplicas=1))
        sets = api("GET", f"{APPS}/replicasets").body["items"]
        assert sorted(item["spec"]["replicas"] for item in sets) == [0, 1]

    def test_a_stateful_set_has_numbered_pods_with_their_volumes(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(1)
        cluster.standin.set_addon(cluster.name, "aws-ebs-csi-driver", "v1.50.0")
        api.merge(
            "/apis/storage.k8s.io/v1/storageclasses/gp2",
            {"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}},
        )
        claim = {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        body = workload("StatefulSet", replicas=2, serviceName="agent", volumeClaimTemplates=[claim])
        # A container mounts a claim by its template's name.
        mounts = [{"name": "data", "mountPath": "/data"}]
        body["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = mounts
        assert api("POST", f"{APPS}/statefulsets", body).status == 201

        eventually(status(api, f"{APPS}/statefulsets/agent", readyReplicas=2))
        assert [pod["metadata"]["name"] for pod in pods(api)] == ["agent-0", "agent-1"]
        claims = api("GET", f"{NAMESPACE}/persistentvolumeclaims").body["items"]
        assert {item["status"]["phase"] for item in claims} == {"Bound"}
        assert [item["spec"]["storageClassName"] for item in claims] == ["gp2", "gp2"]

    def test_a_stateful_set_takes_over_the_pods_of_one_that_was_deleted_without_them(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(1)
        body = workload("StatefulSet", replicas=1, serviceName="agent")
        api("POST", f"{APPS}/statefulsets", body)
        eventually(status(api, f"{APPS}/statefulsets/agent", readyReplicas=1))
        (before,) = pods(api)

        orphan = {"propagationPolicy": "Orphan"}
        assert api("DELETE", f"{APPS}/statefulsets/agent", orphan).status == 200
        assert api("POST", f"{APPS}/statefulsets", body).status == 201

        eventually(status(api, f"{APPS}/statefulsets/agent", readyReplicas=1))
        (after,) = pods(api)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        owner = api("GET", f"{APPS}/statefulsets/agent").body["metadata"]["uid"]
        assert [one["uid"] for one in after["metadata"]["ownerReferences"]] == [owner]

    def test_a_job_completes(self, cluster: Cluster, api: Client, eventually: Eventually) -> None:
        cluster.nodes(1)
        jobs = "/apis/batch/v1/namespaces/default/jobs"
        pod = {"containers": [{"name": "once", "image": "once:1"}], "restartPolicy": "Never"}
        made = api("POST", jobs, {"metadata": {"name": "once"}, "spec": {"template": {"spec": pod}}})
        assert made.status == 201

        eventually(lambda: api("GET", f"{jobs}/once").body.get("status", {}).get("succeeded") == 1)
        conditions = api("GET", f"{jobs}/once").body["status"]["conditions"]
        assert {item["type"] for item in conditions} == {"SuccessCriteriaMet", "Complete"}


class TestVolumes:
    CLAIMS = f"{NAMESPACE}/persistentvolumeclaims"

    def claim(self, api: Client) -> None:
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "gp2",
            "resources": {"requests": {"storage": "10Gi"}},
        }
        api("POST", self.CLAIMS, {"metadata": {"name": "data"}, "spec": spec})

    def phase(self, api: Client) -> str:
        return str(api("GET", f"{self.CLAIMS}/data").body["status"]["phase"])

    def use(self, api: Client) -> None:
        volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
        body = {"containers": [{"name": "user", "image": "user:1"}], "volumes": volumes}
        api("POST", f"{NAMESPACE}/pods", {"metadata": {"name": "user"}, "spec": body})

    def test_a_claim_is_bound_when_a_pod_uses_it_and_its_volume_goes_with_it(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(1)
        cluster.standin.set_addon(cluster.name, "aws-ebs-csi-driver", "v1.50.0")
        self.claim(api)
        assert self.phase(api) == "Pending"

        self.use(api)

        eventually(lambda: self.phase(api) == "Bound")
        eventually(lambda: api("GET", f"{NAMESPACE}/pods/user").body["status"]["phase"] == "Running")
        volumes = api("GET", "/api/v1/persistentvolumes").body["items"]
        assert [item["spec"]["claimRef"]["name"] for item in volumes] == ["data"]
        api("DELETE", f"{NAMESPACE}/pods/user")
        api("DELETE", f"{self.CLAIMS}/data")
        eventually(lambda: api("GET", "/api/v1/persistentvolumes").body["items"] == [])

    def test_a_bound_volume_grows_with_its_claim(
        self, cluster: Cluster, api: Client, eventually: Eventually
    ) -> None:
        cluster.nodes(1)
        cluster.standin.set_addon(cluster.name, "aws-ebs-csi-driver", "v1.50.0")
        api.merge("/apis/storage.k8s.io/v1/storageclasses/gp2", {"allowVolumeExpansion": True})
        self.claim(api)
        self.use(api)
        eventually(lambda: self.phase(api) == "Bound")

        larger = {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}
        assert api.merge(f"{self.CLAIMS}/data", larger).status == 200

        def capacity() -> str:
            return str(api("GET", f"{self.CLAIMS}/data").body["status"]["capacity"]["storage"])

        eventually(lambda: capacity() == "20Gi")
        (volume,) = api("GET", "/api/v1/persistentvolumes").body["items"]
        assert volume["spec"]["capacity"] == {"storage": "20Gi"}

    def test_without_the_driver_it_waits(self, cluster: Cluster, api: Client, eventually: Eventually) -> None:
        cluster.nodes(1)
        self.claim(api)
        self.use(api)

        eventually(lambda: "ExternalProvisioning" in reasons(api))
        assert self.phase(api) == "Pending"
        cluster.standin.set_addon(cluster.name, "aws-ebs-csi-driver", "v1.50.0")
        eventually(lambda: self.phase(api) == "Bound")


def test_a_pods_log_is_what_was_recorded(cluster: Cluster, api: Client, eventually: Eventually) -> None:
    cluster.nodes(1)
    api(
        "POST",
        f"{NAMESPACE}/pods",
        {"metadata": {"name": "one"}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}},
    )
    eventually(lambda: pods(api)[0]["status"]["phase"] == "Running")
    cluster.standin.set_log(cluster.name, "default", "one", "c", "first\nsecond\n")

    assert api("GET", f"{NAMESPACE}/pods/one/log").body == "first\nsecond\n"
    assert api("GET", f"{NAMESPACE}/pods/one/log", tailLines="1").body == "second\n"
    assert api("GET", f"{NAMESPACE}/pods/one/log", container="x").status == 400
    assert "previous terminated" in api("GET", f"{NAMESPACE}/pods/one/log", previous="true").message
