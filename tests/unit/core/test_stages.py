"""The graph of stages, as the design has it."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter

from cali_infra.core import assets
from cali_infra.core.stages import BY_NAME, STAGES, Kind, backward, closure, forward


def walk(sorter: TopologicalSorter[str]) -> Iterator[str]:
    while sorter.is_active():
        for name in sorter.get_ready():
            yield name
            sorter.done(name)


def test_every_need_is_a_stage_and_comes_before() -> None:
    order = list(walk(forward(STAGES)))

    for stage in STAGES:
        assert all(order.index(need) < order.index(stage.name) for need in stage.needs)
    assert sorted(order) == sorted(BY_NAME)


def test_cluster_and_domain_are_made_side_by_side() -> None:
    sorter = forward(STAGES)
    (first,) = sorter.get_ready()
    sorter.done(first)

    assert set(sorter.get_ready()) == {"eks", "search"}


def test_backwards_access_outlives_all_that_speaks_to_the_cluster() -> None:
    order = list(walk(backward(STAGES)))

    for speaker in ("autoscaler", "storage", "logging", "service-secrets"):
        assert order.index(speaker) < order.index("access") < order.index("eks")
    assert order[-1] == "network"


def test_a_stage_and_what_it_needs() -> None:
    assert [stage.name for stage in closure("index")] == ["network", "search", "index"]


def test_every_terraform_stage_has_a_folder() -> None:
    folders = {path.name for path in assets.folder("terraform").iterdir() if path.is_dir()}

    assert folders == {stage.name for stage in STAGES if stage.kind is Kind.TERRAFORM}
