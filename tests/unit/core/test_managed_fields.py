"""Which fields cali manages, and when to ask the server is not worth it.

The truth is the API server's: whatever `settled` says is held against what an apply really does.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cali_infra.core.managed_fields import owned, owned_paths, settled

if TYPE_CHECKING:
    from conftest import Cluster


def agent(**changes: Any) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "agent",
        "image": "example.com/agent:1",
        "ports": [{"containerPort": 2020, "name": "http"}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "args": ["--one", "--two"],
    }
    container |= changes
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default", "labels": {"example.com/team": "logs"}},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [container], "tolerations": [{"operator": "Exists"}]},
            },
        },
    }


def with_container(obj: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = copy.deepcopy(obj)
    changed["spec"]["template"]["spec"]["containers"][0] |= changes
    return changed


def test_what_was_applied_is_settled_with_the_servers_defaults_around_it(cluster: Cluster) -> None:
    live = cluster.connect().apply(agent())
    assert live["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] == "TCP"
    assert settled(live, agent())


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "example.com/agent:2"},
        {"args": ["--two", "--one"]},
        {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]},
        {"ports": [{"containerPort": 2020, "name": "http", "protocol": "TCP"}]},
        {"ports": [{"containerPort": 2021, "name": "http"}]},
        {"imagePullPolicy": "Always"},
        {"resources": {"requests": {"cpu": "100m"}}},
    ],
    ids=str,
)
def test_a_change_is_never_taken_for_settled(cluster: Cluster, changes: dict[str, Any]) -> None:
    live = cluster.connect().apply(agent())
    assert not settled(live, with_container(agent(), **changes))


def test_a_key_that_is_left_out_again_is_a_change(cluster: Cluster) -> None:
    live = cluster.connect().apply(with_container(agent(), ports=[{"containerPort": 53, "protocol": "UDP"}]))
    assert not settled(live, with_container(agent(), ports=[{"containerPort": 53}]))


def test_what_cali_never_applied_or_another_has_taken_is_not_settled(cluster: Cluster) -> None:
    kubernetes = cluster.connect()
    settings_of = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}}
    theirs = kubernetes.create({**settings_of, "data": {"colour": "blue"}})
    assert owned(theirs) is None
    assert owned_paths(theirs) == frozenset()
    assert not settled(theirs, {**settings_of, "data": {"colour": "blue"}})


def test_paths_are_written_as_in_a_conflict(cluster: Cluster) -> None:
    paths = owned_paths(cluster.connect().apply(agent()))
    assert '.spec.template.spec.containers[name="agent"].image' in paths
    assert '.spec.template.spec.containers[name="agent"]' in paths
    assert (
        '.spec.template.spec.containers[name="agent"].ports[containerPort=2020,protocol="TCP"].name' in paths
    )
    assert ".metadata.labels.example.com/team" in paths
    assert ".spec" not in paths


VALUES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"]), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=VALUES, second=VALUES, labels=VALUES, new_labels=VALUES)
def test_settled_means_that_an_apply_changes_nothing(
    cluster: Cluster,
    first: dict[str, str],
    second: dict[str, str],
    labels: dict[str, str],
    new_labels: dict[str, str],
) -> None:
    kubernetes = cluster.connect()

    def config_map(data: dict[str, str], marks: dict[str, str]) -> dict[str, Any]:
        meta = {"name": "x", "namespace": "default", "labels": marks}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}

    live = kubernetes.apply(config_map(first, labels))
    wanted = config_map(second, new_labels)
    said = settled(live, wanted)
    after = kubernetes.apply(wanted, dry_run=True)
    same = live["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"] and owned(
        live
    ) == owned(after)
    if said:
        assert same
        assert live.get("data") == after.get("data")
    # Where every map has something in it, it is never missed either.
    if first == second and labels == new_labels and first and labels:
        assert said
