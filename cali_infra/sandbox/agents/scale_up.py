"""Where the autoscaler makes the cluster larger: for which pods, by which group, and what it says of it.

It scales up only; nodes that nobody needs stay. A pod with a claim does not move it, and how much a node holds is
not modelled, so that a pod needs a new node where it must not stand beside others or where no node takes pods at
all. Sources: cluster-autoscaler's `eventing_scale_up_processor.go` and `orchestrator.go` for the events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cali_infra.sandbox.kubernetes.pods import FAIL, anti_affinity
from cali_infra.sandbox.kubernetes.state import claim_names, fits
from cali_infra.sandbox.ports import ScalingGroup

Obj = dict[str, Any]
_GROUP_LABEL = "eks.amazonaws.com/nodegroup"
_HOST = "kubernetes.io/hostname"


@dataclass(frozen=True)
class Step:
    """A group that is to have `size` nodes for the sake of these pods."""

    group: ScalingGroup
    size: int
    pods: tuple[Obj, ...]

    @property
    def message(self) -> str:
        """What the pods' events say."""
        group = self.group
        return (
            f"pod triggered scale-up: [{{{group.name} {group.desired}->{self.size} (max: {group.maximum})}}]"
        )


def waiting(pods: Sequence[Obj]) -> list[Obj]:
    """The pods that the scheduler has found no place for, and that another node may help."""
    return [
        pod
        for pod in pods
        if _unschedulable(pod)
        and "deletionTimestamp" not in pod["metadata"]
        and FAIL not in (pod["metadata"].get("annotations") or {})
        and not claim_names(pod)
    ]


def plan(
    pods: Sequence[Obj], nodes: Sequence[Obj], groups: Sequence[ScalingGroup]
) -> tuple[list[Step], list[tuple[Obj, str]]]:
    """Which group grows for whom, and why none does for the others."""
    steps: list[Step] = []
    refused: list[tuple[Obj, str]] = []
    served: dict[str, list[Obj]] = {group.name: [] for group in groups}
    for pod in pods:
        able = [group for group in groups if _takes(group, pod, nodes)]
        room = [group for group in able if group.desired + len(served[group.name]) < group.maximum]
        # A new node takes all that do not shun each other.
        shared = [group for group in able if served[group.name] and not anti_affinity(pod["spec"])]
        if shared:
            continue
        if room:
            served[room[0].name].append(pod)
            continue
        reasons = []
        if able:
            reasons.append(f"{len(able)} max node group size reached")
        if len(able) < len(groups):
            reasons.append(f"{len(groups) - len(able)} node(s) didn't match Pod's node affinity/selector")
        refused.append((pod, "pod didn't trigger scale-up: " + ", ".join(reasons)))
    for group in groups:
        if served[group.name]:
            size = group.desired + len(served[group.name])
            steps.append(Step(group, size, tuple(served[group.name])))
    return steps, refused


def _unschedulable(pod: Mapping[str, Any]) -> bool:
    return not pod["spec"].get("nodeName") and any(
        item["type"] == "PodScheduled" and item["status"] == "False" and item.get("reason") == "Unschedulable"
        for item in (pod.get("status") or {}).get("conditions") or ()
    )


def _takes(group: ScalingGroup, pod: Obj, nodes: Sequence[Obj]) -> bool:
    """Whether another node of a group would take a pod: one like those that it has."""
    like = [
        node for node in nodes if (node["metadata"].get("labels") or {}).get(_GROUP_LABEL) == group.node_group
    ]
    if not like:
        return fits(pod["spec"], {"metadata": {"labels": {_GROUP_LABEL: group.node_group}}})
    labels = {**like[0]["metadata"]["labels"], _HOST: "another"}
    return fits(pod["spec"], {"metadata": {"labels": labels}}) and _is_held_up(pod, nodes)


def _is_held_up(pod: Obj, nodes: Sequence[Obj]) -> bool:
    """Whether it is the nodes that hold a pod up, and a new one would not."""
    cordoned = all((node.get("spec") or {}).get("unschedulable") for node in nodes if fits(pod["spec"], node))
    return cordoned or bool(anti_affinity(pod["spec"]))
