"""Where the autoscaler makes the cluster larger: for which pods, by which group, and what it says of it.

It scales up only; nodes that nobody needs stay. A pod with a claim does not move it, and how much a node holds is
not modelled, so that a pod needs a new node where it must not stand beside others or where no node takes pods at
all. A group that could not grow is left alone for a while, twice as long each time. Sources: cluster-autoscaler's
`eventing_scale_up_processor.go`, `orchestrator.go` and `skippedreasons.go` for the events,
`exponential_backoff.go` for the pauses, and its flags for their lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cali_infra.sandbox.kubernetes.pods import FAIL, anti_affinity
from cali_infra.sandbox.kubernetes.state import claim_names, fits
from cali_infra.sandbox.ports import ScalingGroup

Obj = dict[str, Any]
_GROUP_LABEL = "eks.amazonaws.com/nodegroup"
_HOST = "kubernetes.io/hostname"
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=5), timedelta(minutes=30)
_FORGOTTEN = timedelta(hours=3)
# In which order the reasons of a refusal are told: the real one goes through a map, so in any.
Arrange = Callable[[Sequence[str]], Iterable[str]]


@dataclass(frozen=True)
class Backoff:
    """For how long a group is left alone that failed to grow, the last time at `failed`."""

    failed: datetime
    pause: timedelta

    def holds(self, now: datetime) -> bool:
        """Whether the group is still to be left alone."""
        return now <= self.failed + self.pause

    @classmethod
    def after(cls, before: Backoff | None, now: datetime) -> Backoff:
        """That of a group which has failed now."""
        if before is None or before.failed + _FORGOTTEN < now:
            return cls(now, _FIRST_PAUSE)
        return cls(now, before.pause if before.holds(now) else min(2 * before.pause, _LONGEST_PAUSE))


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
    pods: Sequence[Obj],
    nodes: Sequence[Obj],
    groups: Sequence[ScalingGroup],
    left_alone: Collection[str] = (),
    arrange: Arrange = tuple,
) -> tuple[list[Step], list[tuple[Obj, str]]]:
    """Which group grows for whom, and why none does for the others; `left_alone` are the groups in backoff."""
    steps: list[Step] = []
    refused: list[tuple[Obj, str]] = []
    served: dict[str, list[Obj]] = {group.name: [] for group in groups}
    backing_off = [group for group in groups if group.name in left_alone]
    tried = [group for group in groups if group not in backing_off]
    for pod in pods:
        able = [group for group in tried if _takes(group, pod, nodes)]
        room = [group for group in able if group.desired + len(served[group.name]) < group.maximum]
        # A new node takes all that do not shun each other.
        shared = [group for group in able if served[group.name] and not anti_affinity(pod["spec"])]
        if shared:
            continue
        if room:
            served[room[0].name].append(pod)
            continue
        counts = {
            "max node group size reached": len(able),
            "node(s) didn't match Pod's node affinity/selector": len(tried) - len(able),
            "in backoff after failed scale-up": len(backing_off),
        }
        reasons = [f"{count} {reason}" for reason, count in counts.items() if count]
        refused.append((pod, "pod didn't trigger scale-up: " + ", ".join(arrange(reasons))))
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
