"""How big the services' pods are, and whether a node group holds them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cali_infra.adapters.aws import InstanceType
from cali_infra.core import service_pods
from cali_infra.core.service_pods import PODS, Misfit, Pod, Room, allocatable, misfit, requests, variable
from cali_infra.core.settings import Settings

XLARGE = InstanceType("m6i.xlarge", 4, 16384, 4, 15)
LARGE = InstanceType("m6i.large", 2, 8192, 3, 10)


def wanted(
    document: dict[str, Any] | None = None, *, bundled_database: bool = True, git_sync: bool = True
) -> tuple[Pod, ...]:
    found = Settings.model_validate(document or {})
    return service_pods.wanted(found, bundled_database=bundled_database, git_sync=git_sync)


def names(pods: tuple[Pod, ...]) -> set[str]:
    return {f"{pod.service}/{pod.name}" for pod in pods}


def test_the_defaults_fit_the_default_node_group_also_at_its_smallest() -> None:
    eks = Settings().eks
    assert eks.instance_types == [XLARGE.name]
    assert misfit(wanted(), [XLARGE], eks.min_nodes) is None


def test_a_milvus_cluster_fits_the_nodes_at_the_start() -> None:
    pods = wanted({"milvus": {"mode": "cluster", "bucket": "acme-milvus"}})
    assert misfit(pods, [XLARGE], Settings().eks.desired_nodes) is None


@pytest.mark.parametrize(
    ("document", "there", "not_there"),
    [
        ({}, {"milvus/standalone", "milvus/minio", "milvus/etcd"}, {"milvus/proxy"}),
        (
            {"milvus": {"mode": "cluster", "bucket": "acme-milvus"}},
            {"milvus/proxy", "milvus/streamingnode", "milvus/etcd"},
            {"milvus/standalone", "milvus/minio"},
        ),
        ({"services": {"airflow": False}}, {"grafana/grafana"}, {"airflow/scheduler", "airflow/worker"}),
    ],
)
def test_only_what_is_on_in_its_mode_is_counted(
    document: dict[str, Any], there: set[str], not_there: set[str]
) -> None:
    found = names(wanted(document))
    assert there <= found
    assert not not_there & found


def test_a_database_elsewhere_is_no_pod_and_without_a_repository_nothing_syncs() -> None:
    assert "airflow/postgresql" in names(wanted())
    assert "airflow/postgresql" not in names(wanted(bundled_database=False))
    (with_git,) = [pod for pod in wanted() if pod.name == "triggerer"]
    (without,) = [pod for pod in wanted(git_sync=False) if pod.name == "triggerer"]
    assert requests(with_git) - requests(without) == Room(50, 128)


def test_etcd_keeps_a_majority_in_a_cluster() -> None:
    def replicas(document: dict[str, Any]) -> int:
        return next(pod.replicas for pod in wanted(document) if pod.name == "etcd")

    assert replicas({}) == 1
    assert replicas({"milvus": {"mode": "cluster", "bucket": "acme-milvus"}}) == 3


def test_a_size_of_one_s_own_is_what_is_checked_and_what_is_asked_for() -> None:
    pods = wanted({"milvus": {"sizes": {"standalone": {"cpu": "3", "memory": "13Gi"}}}})
    given_to_terraform = variable(pods)
    assert given_to_terraform["milvus/standalone"] == {"cpu": "3", "memory": "13Gi", "replicas": 1}
    assert given_to_terraform["git-sync"] == {"cpu": "50m", "memory": "128Mi", "replicas": 1}
    (standalone,) = [pod for pod in pods if pod.name == "standalone"]
    assert requests(standalone) == Room(3000, 13 * 1024, 1)
    # The other pods are as they were.
    assert set(given_to_terraform) == set(variable(wanted()))


def test_a_pod_that_no_node_holds_is_named_with_the_numbers() -> None:
    pods = wanted({"milvus": {"sizes": {"standalone": {"cpu": "2", "memory": "30Gi"}}}})
    found = misfit(pods, [XLARGE], 8)
    assert found is not None
    assert [pod.name for pod in found.too_big] == ["standalone"]
    assert "milvus/standalone asks for 2 CPU and 30.0 GiB" in str(found)
    assert "m6i.xlarge has 3.57 CPU and 13." in str(found)


def test_pods_that_fit_one_by_one_but_not_together_are_told_with_the_sum() -> None:
    found = misfit(wanted(), [XLARGE], 1)
    assert found is not None
    assert found.too_big == ()
    assert "ask for 4.88 CPU and 21.4 GiB together; of at most 1 x m6i.xlarge each has 3.57" in str(found)


def test_the_smallest_type_counts() -> None:
    assert misfit(wanted(), [XLARGE], 8) is None
    found = misfit(wanted(), [XLARGE, LARGE], 8)
    assert isinstance(found, Misfit)
    assert found.instance_type == "m6i.large"


def test_a_node_gives_less_to_pods_than_it_has() -> None:
    """The processors and pods are EKS' own figures for m6i.xlarge; the memory is a little below what it gives."""
    room = allocatable(XLARGE)
    assert (room.cpu, room.pods) == (3920, 58)
    assert 13 * 1024 < room.memory < 15 * 1024


def test_every_pod_has_a_name_of_its_own_and_a_service() -> None:
    assert len({(pod.service, pod.name) for pod in PODS}) == len(PODS)
    assert {pod.service for pod in PODS} == {"airflow", "milvus", "grafana"}
    assert service_pods.names("grafana") == ("grafana",)


SIZES = st.builds(
    lambda cpu, memory, replicas: Pod("grafana", "grafana", f"{cpu}m", f"{memory}Mi", replicas),
    st.integers(10, 5000),
    st.integers(16, 20000),
    st.integers(1, 5),
)


@given(st.lists(SIZES, min_size=1, max_size=8), st.integers(1, 12))
@settings(deadline=None)
def test_more_nodes_never_fit_less_and_what_fits_is_no_more_than_there_is(
    pods: list[Pod], nodes: int
) -> None:
    found = misfit(pods, [XLARGE], nodes)
    if found is None:
        assert misfit(pods, [XLARGE], nodes + 1) is None
        room = allocatable(XLARGE)
        assert sum(requests(pod).memory * pod.replicas for pod in pods) <= room.memory * nodes
        assert sum(requests(pod).cpu * pod.replicas for pod in pods) <= room.cpu * nodes
    else:
        assert found.asked.cpu == sum(requests(pod).cpu * pod.replicas for pod in pods)
