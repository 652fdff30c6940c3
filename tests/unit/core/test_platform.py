"""The equipment of a run: one connection for as long as the cluster is the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cali_infra.adapters.kubernetes import Kubernetes
from cali_infra.core.platform import _connect, _Once
from cali_infra.core.settings import Settings
from cali_infra.core.target import Target
from cali_infra.errors import PreconditionError


def test_a_replaced_cluster_gets_a_connection_of_its_own() -> None:
    cluster = ["https://one"]
    kubernetes = _Once(lambda: cast(Kubernetes, object()), lambda: cluster[0])

    first = kubernetes()
    assert kubernetes() is first
    cluster[0] = "https://two"
    assert kubernetes() is not first


@pytest.mark.parametrize("kubeconfig", [None, Path("config")])
def test_a_cluster_that_was_never_made_is_named(kubeconfig: Path | None) -> None:
    target = Target(Path(), {}, "aws", kubeconfig=kubeconfig)
    stack: Any = SimpleNamespace(outputs=dict)
    with pytest.raises(PreconditionError, match="does not exist yet") as caught:
        _connect(target, Settings(), cast(Any, None), lambda name: stack)
    assert "cali up --through eks" in caught.value.remedy
