"""Sizes of the services' volumes against the claims of a cluster, as `up` meets them before it begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from test_service_secrets import secret_values

from cali_infra.adapters.aws import InstanceType
from cali_infra.adapters.kubernetes import ref_of
from cali_infra.core.preflight import check_up, check_volumes
from cali_infra.core.service_pods import wanted
from cali_infra.core.settings import Settings
from cali_infra.core.stages import named
from cali_infra.errors import SettingsError

if TYPE_CHECKING:
    from conftest import Cluster

DATABASE = "data-airflow-postgresql-0"


def put(cluster: Cluster, *objects: dict[str, Any]) -> None:
    kubernetes = cluster.connect()
    for obj in objects:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": obj["metadata"]["namespace"]}}
        kubernetes.apply(space)
        kubernetes.create(obj)


def spec(size: str) -> dict[str, Any]:
    return {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "gp2",
        "resources": {"requests": {"storage": size}},
    }


def claim(namespace: str, name: str, size: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec(size),
    }


def stateful_set(size: str) -> dict[str, Any]:
    labels = {"app": "postgresql"}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"namespace": "airflow", "name": "airflow-postgresql"},
        "spec": {
            "serviceName": "airflow-postgresql",
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "postgresql", "image": "example/postgresql:16"}]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": spec(size)}],
        },
    }


def check(cluster: Cluster, *, bundled: bool = True, **sections: dict[str, Any]) -> None:
    check_volumes(Settings.model_validate(sections), cluster.connect, bundled_database=bundled)


def refused(cluster: Cluster, **sections: dict[str, Any]) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        check(cluster, **sections)
    return caught.value


def test_where_nothing_is_yet_every_size_will_do(cluster: Cluster) -> None:
    check(cluster)
    check_volumes(Settings(), lambda: None, bundled_database=True)


@pytest.mark.parametrize("size", ["50Gi", "51200Mi", "53687091200", "20Gi"])
def test_a_volume_that_is_as_large_or_smaller_passes(cluster: Cluster, size: str) -> None:
    put(cluster, claim("milvus", "milvus", size))
    check(cluster)


@pytest.mark.parametrize(
    ("namespace", "name", "key", "asked"),
    [
        ("milvus", "milvus", "milvus.volume_gib", 50),
        ("milvus", "milvus-minio", "milvus.object_store_gib", 100),
        ("grafana", "grafana", "grafana.volume_gib", 10),
        ("airflow", DATABASE, "airflow.database_gib", 20),
    ],
)
def test_a_volume_cannot_shrink(cluster: Cluster, namespace: str, name: str, key: str, asked: int) -> None:
    put(cluster, claim(namespace, name, "1.5Ti"))

    (problem,) = refused(cluster).problems

    assert (problem.key, problem.example) == (key, "1536")
    assert f"{asked} GiB is less than the 1536 GiB of the claim {namespace}/{name}" in problem.problem


def test_all_of_them_are_said_at_once(cluster: Cluster) -> None:
    put(cluster, claim("milvus", "milvus", "51Gi"), claim("grafana", "grafana", "11Gi"))
    assert {one.key for one in refused(cluster).problems} == {"milvus.volume_gib", "grafana.volume_gib"}


def test_what_is_off_or_set_up_otherwise_is_not_asked_for(cluster: Cluster) -> None:
    put(
        cluster,
        claim("milvus", "milvus", "90Gi"),
        claim("grafana", "grafana", "90Gi"),
        claim("airflow", DATABASE, "90Gi"),
    )
    check(
        cluster,
        bundled=False,
        services={"grafana": False},
        milvus={"mode": "cluster", "bucket": "acme-milvus"},
    )


def test_the_database_grows_by_two_commands_after_which_it_goes_on(cluster: Cluster) -> None:
    put(cluster, stateful_set("20Gi"), claim("airflow", DATABASE, "20Gi"))
    check(cluster)

    error = refused(cluster, airflow={"database_gib": 40})

    (problem,) = error.problems
    assert "40 GiB is not the 20 GiB of the StatefulSet airflow/airflow-postgresql" in problem.problem
    _, patch, delete = error.remedy.splitlines()
    assert patch.strip() == (
        f"kubectl -n airflow patch pvc {DATABASE} "
        """--patch '{"spec": {"resources": {"requests": {"storage": "40Gi"}}}}'"""
    )
    assert delete.strip() == "kubectl -n airflow delete statefulset airflow-postgresql --cascade=orphan"

    kubernetes = cluster.connect()
    claims = {
        obj["metadata"]["name"]: obj for obj in kubernetes.list("v1", "PersistentVolumeClaim", "airflow")
    }
    claims[DATABASE]["spec"]["resources"]["requests"]["storage"] = "40Gi"
    kubernetes.apply(_bare(claims[DATABASE]), force=True)
    assert "patch" not in refused(cluster, airflow={"database_gib": 40}).remedy
    # A claim that somebody let grow is no reason to stop as long as the release asks for what it did.
    check(cluster)
    kubernetes.delete(ref_of(stateful_set("20Gi")))
    check(cluster, airflow={"database_gib": 40})


def test_the_database_of_an_earlier_installation_is_patched_only(cluster: Cluster) -> None:
    put(cluster, claim("airflow", DATABASE, "20Gi"))

    error = refused(cluster, airflow={"database_gib": 40})

    assert f"40 GiB is not the 20 GiB of the claim airflow/{DATABASE}" in error.problems[0].problem
    assert len(error.remedy.splitlines()) == 2


def test_a_cluster_that_lets_nobody_in_stops_nothing(cluster: Cluster) -> None:
    put(cluster, claim("milvus", "milvus", "90Gi"))
    check_volumes(Settings(), lambda: cluster.connect("nobody"), bundled_database=True)


def test_up_stops_at_it_before_it_begins(cluster: Cluster) -> None:
    put(cluster, claim("grafana", "grafana", "90Gi"))
    settings = Settings()
    platform: Any = SimpleNamespace(
        target=SimpleNamespace(environ={}, rehearsal=True),
        settings=settings,
        secrets=secret_values(),
        aws=SimpleNamespace(instance_types=lambda names: (InstanceType("m6i.xlarge", 4, 16384, 4, 15),)),
        inputs=SimpleNamespace(pods=lambda: wanted(settings, bundled_database=True, git_sync=False)),
        cluster_at_hand=cluster.connect,
    )
    with pytest.raises(SettingsError, match=r"grafana\.volume_gib: 10 GiB is less than the 90 GiB"):
        check_up(platform, named(["services"]))
    assert check_up(platform, named(["autoscaler"])) == ()


def _bare(obj: dict[str, Any]) -> dict[str, Any]:
    meta = {key: obj["metadata"][key] for key in ("name", "namespace")}
    return {"apiVersion": "v1", "kind": obj["kind"], "metadata": meta, "spec": obj["spec"]}
