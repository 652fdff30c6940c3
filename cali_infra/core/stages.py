"""The stage graph: which stages there are, what each needs, and what kind of work it is.

The graph is data. Who walks it (deploy, destroy, plan, status) and how a stage is worked on stays with
those modules. Source: the table "Stages" of the design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from graphlib import TopologicalSorter

from cali_infra.errors import UsageError


class Kind(Enum):
    """How a stage is worked on."""

    TERRAFORM = "terraform"
    MANIFESTS = "manifests"
    INDEX = "index"


@dataclass(frozen=True)
class Stage:
    """One node of the graph: `needs` must be applied before it, `makes` is said to the user."""

    name: str
    kind: Kind
    needs: tuple[str, ...]
    makes: str


STAGES: tuple[Stage, ...] = (
    Stage("network", Kind.TERRAFORM, (), "VPC over three zones, subnets, NAT with a fixed address"),
    Stage("eks", Kind.TERRAFORM, ("network",), "EKS cluster, managed node group, add-ons, pod identities"),
    Stage("search", Kind.TERRAFORM, ("network",), "OpenSearch domain with basic auth"),
    Stage("access", Kind.TERRAFORM, ("eks",), "one access entry and policy association per teammate"),
    Stage("autoscaler", Kind.TERRAFORM, ("eks", "access"), "Cluster Autoscaler with its IAM role"),
    Stage("storage", Kind.MANIFESTS, ("eks", "access"), "the default StorageClass gp2"),
    Stage("index", Kind.INDEX, ("search",), "index template, retention policy, writer and reader"),
    Stage("logging", Kind.MANIFESTS, ("storage", "index", "access"), "Fluent Bit on every node"),
    Stage("service-secrets", Kind.MANIFESTS, ("access", "index"), "the services' namespaces and Secrets"),
    Stage(
        "services",
        Kind.TERRAFORM,
        ("storage", "autoscaler", "service-secrets"),
        "Airflow, Milvus and Grafana as Helm releases",
    ),
)

# Stages whose pods mount volumes: while they stand, a claim that is deleted stays, and so does what it holds.
MOUNTING = frozenset({"services"})

BY_NAME = {stage.name: stage for stage in STAGES}


def named(names: Sequence[str]) -> tuple[Stage, ...]:
    """The stages of these names, in the graph's order.

    Raises UsageError for a name that is none, with the nearest one that is.
    """
    for name in names:
        if name not in BY_NAME:
            from difflib import get_close_matches

            near = get_close_matches(name, BY_NAME, n=1)
            raise UsageError(
                f"there is no stage {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                remedy=f"stages: {', '.join(BY_NAME)}",
            )
    return tuple(stage for stage in STAGES if stage.name in set(names))


def closure(name: str) -> tuple[Stage, ...]:
    """A stage and everything that it needs, directly or not, in the graph's order."""
    wanted = with_needs([named([name])[0].name], lambda stage: BY_NAME[stage].needs)
    return tuple(stage for stage in STAGES if stage.name in wanted)


def with_needs(names: Iterable[str], needs: Callable[[str], Iterable[str]]) -> frozenset[str]:
    """These names and all that they need, directly or not; `needs` tells what one of them needs."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(needs(name))
    return frozenset(wanted)


def forward(stages: Iterable[Stage]) -> TopologicalSorter[str]:
    """A prepared sorter over these stages; needs outside the selection count as met."""
    chosen = {stage.name: stage for stage in stages}
    sorter: TopologicalSorter[str] = TopologicalSorter(
        {name: [need for need in stage.needs if need in chosen] for name, stage in chosen.items()}
    )
    sorter.prepare()
    return sorter


def backward(stages: Iterable[Stage]) -> TopologicalSorter[str]:
    """A prepared sorter in which a stage comes after everything that needs it.

    `access` waits for all that speaks to the cluster: it holds the entries by which they get in.
    """
    chosen = {stage.name: stage for stage in stages}
    sorter: TopologicalSorter[str] = TopologicalSorter({name: [] for name in chosen})
    for stage in chosen.values():
        for need in stage.needs:
            if need in chosen:
                sorter.add(need, stage.name)
    sorter.prepare()
    return sorter
