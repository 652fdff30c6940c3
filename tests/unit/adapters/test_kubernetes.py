"""The Kubernetes door against the API server in memory: what a caller gets, and what a user is told."""

from __future__ import annotations

import json
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes, ObjectRef, ref_of
from cali_infra.errors import (
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    KubernetesError,
    UnauthorizedError,
    UnreachableError,
)
from cali_infra.sandbox.certificates import Authority

if TYPE_CHECKING:
    from conftest import Clock, Cluster


def config_map(name: str = "settings", namespace: str = "default", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "data": data or {"colour": "blue"},
    }


SETTINGS = ObjectRef("v1", "ConfigMap", "default", "settings")


class Bearer:
    def __init__(self, value: str, expires_at: datetime | None = None) -> None:
        self.value, self.expires_at = value, expires_at


# -- objects ------------------------------------------------------------------------------------------------


def test_an_object_is_applied_read_listed_and_deleted(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    assert kubernetes.get(SETTINGS) is None
    kubernetes.apply(config_map())
    live = kubernetes.get(SETTINGS)
    assert live is not None and live["data"] == {"colour": "blue"}
    listed = kubernetes.list("v1", "ConfigMap", "default", {"app": "settings"})
    assert [(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in listed] == [
        ("v1", "ConfigMap", "settings")
    ]
    assert kubernetes.list("v1", "ConfigMap", "default", {"app": "other"}) == []
    assert kubernetes.delete(SETTINGS, wait=5.0)
    assert not kubernetes.delete(SETTINGS)


def test_what_is_applied_belongs_to_the_field_manager_cali(cluster: Cluster) -> None:
    applied = cluster.connect().apply(config_map())
    assert [(e["manager"], e["operation"]) for e in applied["metadata"]["managedFields"]] == [
        ("cali", "Apply")
    ]


def test_a_field_that_is_no_longer_applied_goes(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    kubernetes.apply(config_map(colour="blue", size="big"))
    assert kubernetes.apply(config_map(colour="blue"))["data"] == {"colour": "blue"}


def test_a_dry_run_answers_and_writes_nothing(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    assert kubernetes.apply(config_map(), dry_run=True)["data"] == {"colour": "blue"}
    assert kubernetes.get(SETTINGS) is None


def test_a_merge_patch_changes_only_what_it_names(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    kubernetes.create(config_map(colour="blue", size="big"))
    assert kubernetes.patch(SETTINGS, {"data": {"size": None, "shape": "round"}})["data"] == {
        "colour": "blue",
        "shape": "round",
    }


def test_objects_of_the_whole_cluster_and_of_groups_are_found_by_discovery(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    found = kubernetes.get(ObjectRef("storage.k8s.io/v1", "StorageClass", None, "gp2"))
    assert found is not None and found["provisioner"] == "kubernetes.io/aws-ebs"
    assert kubernetes.version().startswith("v1.35")


def test_many_threads_share_one_discovery(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    kubernetes.apply(config_map())
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: kubernetes.apply(config_map(f"c{n}")), range(100)))
    assert len(cluster.objects("configmaps")) >= 101
    assert len([r for r in cluster.requests("GET") if r.path == "/api/v1"]) == 1


def test_a_long_list_arrives_whole_in_pages(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cali_infra.adapters.kubernetes.PAGE", 3)
    kubernetes = cluster.connect()
    for number in range(8):
        kubernetes.apply(config_map(f"c{number}", "kube-public"))
    names = [o["metadata"]["name"] for o in kubernetes.list("v1", "ConfigMap", "kube-public")]
    assert sorted(names)[:8] == [f"c{number}" for number in range(8)]
    assert len([r for r in cluster.requests("GET", "/configmaps") if "continue" in r.query]) >= 2


def test_only_the_object_of_that_uid_is_deleted(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    kubernetes.apply(config_map())
    with pytest.raises(ConflictError):
        kubernetes.delete(SETTINGS, uid="another-one")
    assert kubernetes.get(SETTINGS) is not None


def test_waiting_for_an_object_that_stays_says_where_to_look(cluster: Cluster, clock: Clock) -> None:
    kubernetes = cluster.connect(clock=clock, sleep=clock.sleep)
    held = config_map()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    kubernetes.create(held)
    with pytest.raises(KubernetesError, match="still there 10 seconds after") as caught:
        kubernetes.delete(SETTINGS, wait=10.0)
    assert "finalizers" in caught.value.remedy


# -- refusals -----------------------------------------------------------------------------------------------


def test_an_unknown_field_is_named(cluster: Cluster) -> None:
    wrong = {**config_map(), "datta": {}}
    with pytest.raises(InvalidObjectError, match="datta") as caught:
        cluster.connect().apply(wrong)
    assert caught.value.object_ref == "ConfigMap default/settings"
    assert caught.value.fields == (".datta",)


def test_an_immutable_field_is_named_by_its_path(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    ours = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "gp2"},
        "provisioner": "ebs.csi.aws.com",
    }
    with pytest.raises(InvalidObjectError) as caught:
        kubernetes.apply(ours, force=True)
    assert caught.value.status == 422
    assert "provisioner" in caught.value.fields


def test_a_conflict_says_who_owns_which_field_and_force_takes_it(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    kubernetes.create(config_map(colour="red"))
    other = cluster.connect()
    with pytest.raises(ConflictError, match=r"\.data\.colour") as caught:
        # `create` writes as an Update of the same name, which is another manager than its Apply.
        other.apply(config_map(colour="blue"))
    assert caught.value.owners == {".data.colour": "cali"}
    assert other.apply(config_map(colour="blue"), force=True)["data"] == {"colour": "blue"}


def test_a_missing_namespace_is_said_with_what_to_do(cluster: Cluster) -> None:
    with pytest.raises(KubernetesError, match="nowhere") as caught:
        cluster.connect().apply(config_map(namespace="nowhere"))
    assert caught.value.status == 404
    assert "create the namespace first" in caught.value.remedy


def test_who_may_not_is_told_so(cluster: Cluster) -> None:
    with pytest.raises(ForbiddenError, match="viewer"):
        cluster.connect("viewer").apply(config_map())


def test_a_kind_that_the_cluster_lacks_is_told(cluster: Cluster) -> None:
    with pytest.raises(InvalidObjectError, match=r"no kind Sprocket in example\.com/v1"):
        cluster.connect().get(ObjectRef("example.com/v1", "Sprocket", "default", "one"))


def test_an_object_without_its_namespace_is_refused_before_any_request(cluster: Cluster) -> None:
    with pytest.raises(InvalidObjectError, match="names no namespace"):
        cluster.connect().get(ObjectRef("v1", "ConfigMap", None, "settings"))


def test_a_refusal_is_never_sent_twice(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    kubernetes.version()
    for wrong in ({**config_map(), "datta": {}}, config_map(namespace="nowhere")):
        with pytest.raises(KubernetesError):
            kubernetes.apply(wrong)
    assert len(cluster.requests("PATCH")) == 2


# -- bearers ------------------------------------------------------------------------------------------------


def test_a_caller_without_access_is_told_what_to_ask_for(cluster: Cluster) -> None:
    with pytest.raises(UnauthorizedError, match="does not know this caller") as caught:
        cluster.connect("stranger").get(SETTINGS)
    assert "cali up access" in caught.value.remedy


def test_a_bearer_is_fetched_when_it_is_needed_and_kept(cluster: Cluster) -> None:
    fetched: list[str] = []

    def fetch() -> Bearer:
        fetched.append("one")
        return Bearer("admin", datetime.now(UTC) + timedelta(minutes=15))

    kubernetes = cluster.connect(fetch)
    assert fetched == []
    for _ in range(3):
        kubernetes.get(SETTINGS)
    assert fetched == ["one"]


def test_a_bearer_is_fetched_anew_before_it_ends(cluster: Cluster, clock: Clock) -> None:
    fetched: list[datetime] = []

    def fetch() -> Bearer:
        fetched.append(clock.now())
        return Bearer("admin", clock.now() + timedelta(minutes=15))

    kubernetes = cluster.connect(fetch, now=clock.now)
    kubernetes.get(SETTINGS)
    clock.seconds += 13 * 60
    kubernetes.get(SETTINGS)
    assert len(fetched) == 1
    clock.seconds += 90
    kubernetes.get(SETTINGS)
    assert len(fetched) == 2


def test_a_401_is_answered_with_one_new_bearer_and_a_replay(cluster: Cluster) -> None:
    bearers = iter(["expired", "admin"])
    kubernetes = cluster.connect(lambda: Bearer(next(bearers)))
    assert kubernetes.get(SETTINGS) is None


def test_a_new_access_entry_gets_its_time(cluster: Cluster, clock: Clock) -> None:
    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.seconds > 8:
            cluster.callers["new"] = cluster.callers["admin"]

    kubernetes = cluster.connect("new", grace=60.0, clock=clock, sleep=sleep)
    assert kubernetes.get(SETTINGS) is None
    assert 8 < clock.seconds < 20


def test_the_time_for_a_new_entry_is_bounded(cluster: Cluster, clock: Clock) -> None:
    kubernetes = cluster.connect("never", grace=30.0, clock=clock, sleep=clock.sleep)
    with pytest.raises(UnauthorizedError):
        kubernetes.get(SETTINGS)
    assert 20 < clock.seconds <= 30


# -- trouble ------------------------------------------------------------------------------------------------


def test_a_throttled_request_waits_as_long_as_it_is_told(cluster: Cluster, clock: Clock) -> None:
    kubernetes = cluster.connect(clock=clock, sleep=clock.sleep)
    kubernetes.get(SETTINGS)
    cluster.standin.faults.answer(429, 2, retry_after=7)
    assert kubernetes.get(SETTINGS) is None
    assert clock.slept == [7.0, 7.0]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(cluster: Cluster, clock: Clock, status: int) -> None:
    kubernetes = cluster.connect(clock=clock, sleep=clock.sleep)
    cluster.standin.faults.answer(status, 3, retry_after=0)
    kubernetes.apply(config_map())
    assert len(clock.slept) == 3


def test_the_patience_with_a_server_in_trouble_is_bounded(cluster: Cluster, clock: Clock) -> None:
    kubernetes = cluster.connect(clock=clock, sleep=clock.sleep, patience=30.0)
    cluster.standin.faults.answer(503, 1000, retry_after=1)
    with pytest.raises(KubernetesError) as caught:
        kubernetes.get(SETTINGS)
    assert caught.value.status == 503
    assert 20 < clock.seconds <= 30


def test_connections_that_are_cut_are_no_failure(cluster: Cluster, clock: Clock) -> None:
    kubernetes = cluster.connect(clock=clock, sleep=clock.sleep)
    kubernetes.get(SETTINGS)
    cluster.standin.faults.cut(3, method="PATCH")
    assert kubernetes.apply(config_map())["data"] == {"colour": "blue"}
    assert len(clock.slept) == 3


def test_a_server_that_is_away_is_named_with_what_to_check(clock: Clock) -> None:
    kubernetes = Kubernetes(
        ClusterAccess("https://127.0.0.1:9", None, lambda: Bearer("x")), clock=clock, sleep=clock.sleep
    )
    with pytest.raises(UnreachableError, match=r"https://127\.0\.0\.1:9 cannot be reached") as caught:
        kubernetes.version()
    assert "allowed_cidrs" in caught.value.remedy
    kubernetes.close()


def test_a_certificate_of_somebody_else_is_not_tried_again(cluster: Cluster, clock: Clock) -> None:
    kubernetes = cluster.connect(ca_pem=Authority.create().ca_pem, clock=clock, sleep=clock.sleep)
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        kubernetes.version()
    assert clock.slept == []


def test_the_caller_s_own_name(cluster: Cluster) -> None:
    assert cluster.connect("viewer").whoami() == "viewer"
    with pytest.raises(UnauthorizedError):
        cluster.connect("stranger").whoami()


# -- kubeconfigs --------------------------------------------------------------------------------------------


def kubeconfig(folder: Path, cluster: Cluster, user: dict[str, Any]) -> Path:
    (folder / "ca.pem").write_bytes(cluster.address.ca_pem)
    path = folder / "config"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "demo",
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": cluster.address.endpoint, "certificate-authority": "ca.pem"},
            }
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "demo", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_kubeconfig_with_a_token_works(cluster: Cluster, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, cluster, {"token": "admin"})
    kubernetes = Kubernetes.from_kubeconfig(path)
    assert kubernetes.get(SETTINGS) is None
    assert kubernetes.host == cluster.address.endpoint
    kubernetes.close()


def plugin(folder: Path, body: str) -> dict[str, Any]:
    script = folder / "plugin.py"
    script.write_text(body)
    script.chmod(stat.S_IRWXU)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": sys.executable,
            "args": [str(script)],
            "env": [{"name": "OWN", "value": "1"}],
        }
    }


PRINT_TOKEN = """
import json, os
token = os.environ["WHO"] if os.environ["OWN"] == "1" else ""
print(json.dumps({
    "apiVersion": "client.authentication.k8s.io/v1beta1",
    "kind": "ExecCredential",
    "status": {"token": token, "expirationTimestamp": "2099-01-01T00:00:00Z"},
}))
"""


def test_an_exec_plugin_gets_the_environment_that_is_handed_in(cluster: Cluster, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, cluster, plugin(tmp_path, PRINT_TOKEN))
    kubernetes = Kubernetes.from_kubeconfig(path, "demo", environ={"WHO": "admin"})
    assert kubernetes.get(SETTINGS) is None
    kubernetes.close()


def test_a_plugin_that_fails_is_told_with_its_words(cluster: Cluster, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, cluster, plugin(tmp_path, "import sys; sys.exit('no such profile')"))
    kubernetes = Kubernetes.from_kubeconfig(path, environ={})
    with pytest.raises(UnauthorizedError, match="no such profile") as caught:
        kubernetes.get(SETTINGS)
    assert "plugin.py" in caught.value.remedy
    kubernetes.close()


def test_a_kubeconfig_or_context_that_is_not_there_is_told(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="there is no kubeconfig"):
        Kubernetes.from_kubeconfig(tmp_path / "none")
    path = kubeconfig(tmp_path, cluster, {"token": "admin"})
    with pytest.raises(UnreachableError, match="prod"):
        Kubernetes.from_kubeconfig(path, "prod")


def test_a_ref_reads_as_kubectl_writes_it() -> None:
    assert str(ref_of(config_map())) == "ConfigMap default/settings"
    assert str(ObjectRef("v1", "Namespace", None, "logging")) == "Namespace logging"
    assert json.dumps(str(SETTINGS))
