"""When a workload counts as rolled out."""

from __future__ import annotations

from typing import Any

import pytest

from cali_infra.core.rollout import replicas


def workload(kind: str, generation: int = 2, wanted: int = 3, **status: int) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": "w", "generation": generation},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 2, **status},
    }


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(
            workload("DaemonSet", desiredNumberScheduled=3, updatedNumberScheduled=3, numberAvailable=3),
            (3, 3),
            id="a daemon set on every node",
        ),
        pytest.param(
            workload("DaemonSet", desiredNumberScheduled=3, updatedNumberScheduled=1, numberAvailable=3),
            (1, 3),
            id="a daemon set half way",
        ),
        pytest.param(workload("DaemonSet", desiredNumberScheduled=0), (0, 0), id="a cluster without nodes"),
        pytest.param(
            workload(
                "DaemonSet",
                generation=3,
                desiredNumberScheduled=3,
                updatedNumberScheduled=3,
                numberAvailable=3,
            ),
            (0, 3),
            id="a change that the controller has not seen",
        ),
        pytest.param(
            workload("Deployment", replicas=3, updatedReplicas=3, availableReplicas=3),
            (3, 3),
            id="a deployment",
        ),
        pytest.param(
            workload("Deployment", replicas=4, updatedReplicas=3, availableReplicas=4),
            (2, 3),
            id="a deployment with an old pod left",
        ),
        pytest.param(
            workload("StatefulSet", updatedReplicas=3, readyReplicas=2), (2, 3), id="a stateful set"
        ),
    ],
)
def test_replicas(obj: dict[str, Any], expected: tuple[int, int]) -> None:
    assert replicas(obj) == expected


def test_a_workload_without_a_status_is_not_ready() -> None:
    obj = {**workload("DaemonSet"), "status": None}
    ready, wanted = replicas(obj)
    assert ready < wanted
