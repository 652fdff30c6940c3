"""A cluster's life as the AWS stand-in leads it, trouble on demand, and the clients that people use."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from cali_infra.sandbox.ports import NodeSpec

if TYPE_CHECKING:
    from conftest import Client, Cluster

KUBE_SYSTEM = "/apis/apps/v1/namespaces/kube-system"


class TestLife:
    def test_a_new_cluster_has_what_eks_puts_into_it(self, api: Client) -> None:
        names = [item["metadata"]["name"] for item in api("GET", "/api/v1/namespaces").body["items"]]
        assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
        (found,) = api("GET", "/apis/storage.k8s.io/v1/storageclasses").body["items"]
        assert found["metadata"]["name"] == "gp2"
        assert found["provisioner"] == "kubernetes.io/aws-ebs"
        assert "annotations" not in found["metadata"]

    def test_clusters_know_nothing_of_each_other(self, cluster: Cluster, api: Client) -> None:
        other = cluster.standin.create(f"{cluster.name}-other", "1.34")
        assert other.endpoint != cluster.url
        api("POST", "/api/v1/namespaces", {"metadata": {"name": "mine"}})

        client = type(api)(other.endpoint, str(cluster.ca), "admin")
        assert client("GET", "/api/v1/namespaces/mine").status == 404
        assert client("GET", "/version").body["minor"] == "34"
        client.close()
        cluster.standin.delete(f"{cluster.name}-other")
        cluster.standin.delete(f"{cluster.name}-other")

    def test_a_version_that_nobody_knows_is_refused(self, cluster: Cluster) -> None:
        with pytest.raises(LookupError, match=r"no schemas for Kubernetes 1\.10"):
            cluster.standin.create("too-old", "1.10")

    def test_nodes_are_ready_and_labelled(self, cluster: Cluster, api: Client) -> None:
        spec = NodeSpec("ip-10-40-1-7.ec2.internal", "ap-northeast-2a", "m6i.xlarge", {"pool": "system"})
        cluster.standin.set_nodes(cluster.name, "workers", [spec])

        (node,) = api("GET", "/api/v1/nodes").body["items"]
        labels = node["metadata"]["labels"]
        assert labels["topology.kubernetes.io/zone"] == "ap-northeast-2a"
        assert labels["topology.kubernetes.io/region"] == "ap-northeast-2"
        assert labels["node.kubernetes.io/instance-type"] == "m6i.xlarge"
        assert labels["eks.amazonaws.com/nodegroup"] == "workers"
        assert labels["pool"] == "system"
        assert node["spec"]["providerID"].startswith("aws:///ap-northeast-2a/i-")
        conditions = {item["type"]: item["status"] for item in node["status"]["conditions"]}
        assert conditions["Ready"] == "True"
        assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": "10.40.1.7"}

    def test_a_node_group_is_replaced_and_others_stay(self, cluster: Cluster, api: Client) -> None:
        cluster.nodes(3)
        cluster.standin.set_nodes(cluster.name, "other", [NodeSpec("other", "us-east-1a", "t3.large")])
        cluster.nodes(1)

        names = [item["metadata"]["name"] for item in api("GET", "/api/v1/nodes").body["items"]]
        assert names == ["ip-10-40-0-0.ec2.internal", "other"]

    def test_add_ons_bring_their_workloads_and_take_them_away(
        self, cluster: Cluster, api: Client, eventually: Callable[..., Any]
    ) -> None:
        cluster.nodes(2)
        for addon in ("vpc-cni", "kube-proxy", "coredns", "aws-ebs-csi-driver", "eks-pod-identity-agent"):
            cluster.standin.set_addon(cluster.name, addon, "v1.0.0")

        sets = {
            item["metadata"]["name"]: item["status"]["numberReady"]
            for item in api("GET", f"{KUBE_SYSTEM}/daemonsets").body["items"]
        }
        assert sets == {"aws-node": 2, "ebs-csi-node": 2, "eks-pod-identity-agent": 2, "kube-proxy": 2}
        deployments = api("GET", f"{KUBE_SYSTEM}/deployments").body["items"]
        assert {item["metadata"]["name"]: item["status"]["readyReplicas"] for item in deployments} == {
            "coredns": 2,
            "ebs-csi-controller": 2,
        }
        cluster.standin.set_addon(cluster.name, "coredns", "v2.0.0")
        image = api("GET", f"{KUBE_SYSTEM}/deployments/coredns").body["spec"]["template"]["spec"][
            "containers"
        ][0]
        assert image["image"].endswith(":v2.0.0")
        cluster.standin.set_addon(cluster.name, "coredns", None)
        assert api("GET", f"{KUBE_SYSTEM}/deployments/coredns").status == 404

    def test_an_add_on_that_is_not_known_is_refused(self, cluster: Cluster) -> None:
        with pytest.raises(LookupError, match="does not know the add-on tea-maker"):
            cluster.standin.set_addon(cluster.name, "tea-maker", "v1")

    def test_an_authenticator_that_calls_back_does_not_block(self, cluster: Cluster, api: Client) -> None:
        """The AWS stand-in may hold a lock while it calls the host, and need it to name a caller."""
        assert api("GET", "/api/v1/nodes").status == 200
        cluster.nodes(1)
        assert len(api("GET", "/api/v1/nodes").body["items"]) == 1


class TestFaults:
    def test_the_next_requests_are_throttled(self, cluster: Cluster, api: Client) -> None:
        cluster.standin.faults.answer(429, times=2, retry_after=3)

        first = api("GET", "/api/v1/nodes")
        assert (first.status, first.headers["Retry-After"]) == (429, "3")
        assert first.body["reason"] == "TooManyRequests"
        assert api("GET", "/api/v1/nodes").status == 429
        assert api("GET", "/api/v1/nodes").status == 200

    def test_only_what_is_meant_fails(self, cluster: Cluster, api: Client) -> None:
        cluster.standin.faults.answer(503, method="GET", path="/nodes")

        assert api("GET", "/api/v1/namespaces").status == 200
        assert api("GET", "/api/v1/nodes").status == 503

    def test_a_connection_is_cut(self, cluster: Cluster, api: Client) -> None:
        cluster.standin.faults.cut()

        with pytest.raises(urllib3.exceptions.HTTPError):
            api("GET", "/api/v1/nodes")
        assert api("GET", "/api/v1/nodes").status == 200

    def test_an_answer_is_lost_and_the_work_is_done(self, cluster: Cluster, api: Client) -> None:
        cluster.standin.faults.lose_answer(method="POST")
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "made"}}

        with pytest.raises(urllib3.exceptions.HTTPError):
            api("POST", "/api/v1/namespaces", namespace)
        assert api("POST", "/api/v1/namespaces", namespace).status == 409

    def test_nothing_answers_for_a_while(self, cluster: Cluster, api: Client) -> None:
        cluster.standin.faults.unreachable(60)

        for _ in range(2):
            with pytest.raises(urllib3.exceptions.HTTPError):
                api("GET", "/version")
        cluster.standin.faults.clear()
        assert api("GET", "/version").status == 200


def test_plain_http_is_not_spoken(cluster: Cluster) -> None:
    pool = urllib3.PoolManager(retries=False, timeout=5)
    with pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("GET", cluster.url.replace("https", "http"))
    pool.clear()


def test_the_certificate_is_verified(cluster: Cluster) -> None:
    pool = urllib3.PoolManager(retries=False, timeout=5, ssl_context=ssl.create_default_context())
    with pytest.raises(urllib3.exceptions.SSLError):
        pool.request("GET", cluster.url)
    pool.clear()


def test_requests_are_remembered(cluster: Cluster, api: Client) -> None:
    api("GET", "/api/v1/nodes", limit="5")

    last = cluster.standin.requests(cluster.name)[-1]
    assert (last.method, last.path, last.query, last.status) == ("GET", "/api/v1/nodes", {"limit": "5"}, 200)


class TestOfficialClient:
    @pytest.fixture
    def client(self, cluster: Cluster) -> Any:
        kubernetes = pytest.importorskip("kubernetes")
        configuration = kubernetes.client.Configuration(host=cluster.url)
        configuration.ssl_ca_cert = str(cluster.ca)
        configuration.api_key = {"authorization": "Bearer admin"}
        client = kubernetes.client.ApiClient(configuration)
        yield client
        client.rest_client.pool_manager.clear()
        client.close()

    def test_typed_models(self, client: Any) -> None:
        from kubernetes import client as kubernetes

        core = kubernetes.CoreV1Api(client)
        body = kubernetes.V1ConfigMap(metadata=kubernetes.V1ObjectMeta(name="a"), data={"k": "v"})
        core.create_namespaced_config_map("default", body)
        assert core.read_namespaced_config_map("a", "default").data == {"k": "v"}
        core.delete_namespaced_config_map("a", "default")
        with pytest.raises(kubernetes.ApiException) as caught:
            core.read_namespaced_config_map("a", "default")
        assert caught.value.status == 404
        assert kubernetes.VersionApi(client).get_code().major == "1"

    def test_the_dynamic_client_applies_and_watches(self, client: Any, tmp_path: Path) -> None:
        from kubernetes.dynamic import DynamicClient

        dynamic = DynamicClient(client, cache_file=str(tmp_path / "discovery"))
        maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
        made = maps.server_side_apply(body=body, namespace="default", field_manager="cali")
        assert made.data.k == "v"
        events = maps.watch(
            namespace="default", timeout=5, resource_version=int(made.metadata.resourceVersion) - 1
        )
        assert next(events)["raw_object"]["metadata"]["name"] == "a"
        events.close()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
class TestKubectl:
    @pytest.fixture
    def kubectl(self, cluster: Cluster, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [
                {"name": "c", "cluster": {"server": cluster.url, "certificate-authority": str(cluster.ca)}}
            ],
            "users": [{"name": "admin", "user": {"token": "admin"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "admin"}}],
        }
        path = tmp_path / "config"
        path.write_text(json.dumps(config))
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(path)}

        def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["kubectl", "--request-timeout=10s", *arguments],
                env=environ,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )

        return run

    MANIFEST = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: default}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      containers: [{name: agent, image: "agent:1"}]
"""

    def test_people_use_it(self, cluster: Cluster, kubectl: Callable[..., Any]) -> None:
        cluster.nodes(2)
        assert kubectl("get", "nodes").stdout.count(" Ready ") == 2
        assert kubectl("create", "namespace", "mine").stdout == "namespace/mine created\n"
        assert kubectl("auth", "can-i", "*", "*").stdout == "yes\n"
        assert kubectl("apply", "-f", "-", stdin=self.MANIFEST).stdout == "daemonset.apps/agent created\n"
        assert kubectl("apply", "-f", "-", stdin=self.MANIFEST).stdout == "daemonset.apps/agent unchanged\n"
        assert "successfully rolled out" in kubectl("rollout", "status", "ds/agent", "--timeout=10s").stdout
        assert kubectl("diff", "-f", "-", stdin=self.MANIFEST).returncode == 0
        changed = self.MANIFEST.replace("agent:1", "agent:2")
        difference = kubectl("diff", "-f", "-", stdin=changed)
        assert (
            difference.returncode,
            "+        image: agent:2" in difference.stdout.replace("      - image", "        image"),
        ) == (1, True)
        assert (
            "conflict with"
            in kubectl("apply", "--server-side", "--field-manager=x", "-f", "-", stdin=changed).stderr
        )
        assert kubectl("delete", "-f", "-", stdin=self.MANIFEST).stdout == 'daemonset.apps "agent" deleted\n'

    def test_mistakes_read_as_from_a_real_server(self, kubectl: Callable[..., Any]) -> None:
        wrong = self.MANIFEST.replace("containers:", "container:")
        assert (
            'strict decoding error: unknown field "spec.template.spec.container"'
            in kubectl("apply", "-f", "-", stdin=wrong).stderr
        )
        foreign = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n"
        assert (
            'no matches for kind "Widget" in version "example.com/v1"'
            in kubectl("apply", "-f", "-", stdin=foreign).stderr
        )


def test_a_thousand_applies_take_seconds(api: Client) -> None:
    """A guard against something quadratic, not a measurement: here it takes one second or two."""
    started = time.monotonic()
    for number in range(1000):
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"c{number}"},
            "data": {"a": "b" * 100},
        }
        assert api.apply(f"/api/v1/namespaces/default/configmaps/c{number}", body).status == 201
    assert time.monotonic() - started < 20
