"""The equipment of a run: one connection for as long as the cluster is the same."""

from __future__ import annotations

from typing import cast

from cali_infra.adapters.kubernetes import Kubernetes
from cali_infra.core.platform import _Once


def test_a_replaced_cluster_gets_a_connection_of_its_own() -> None:
    cluster = ["https://one"]
    kubernetes = _Once(lambda: cast(Kubernetes, object()), lambda: cluster[0])

    first = kubernetes()
    assert kubernetes() is first
    cluster[0] = "https://two"
    assert kubernetes() is not first
