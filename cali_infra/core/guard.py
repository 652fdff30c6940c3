"""Which resources are guarded: what a plan may not delete or replace unless the user names it.

Losing one of these loses data, access or an hour; `--yes` alone never approves it.
"""

from __future__ import annotations

from collections.abc import Collection

from cali_infra.errors import GuardedChangeError
from cali_infra.plans import Action, StagePlan

GUARDED_TYPES = frozenset(
    {
        "aws_eks_cluster",
        "aws_eks_node_group",
        "aws_vpc",
        "aws_subnet",
        "aws_opensearch_domain",
        "aws_kms_key",
        "aws_eks_access_entry",
    }
)


def resource_type(address: str) -> str:
    """The type in an address such as `module.a["x.y"].aws_subnet.private["z"]`; empty for data sources."""
    rest = address
    while rest.startswith("module."):
        rest = rest.removeprefix("module.")
        name_end = min((i for i in (rest.find("."), rest.find("[")) if i >= 0), default=len(rest))
        rest = rest[name_end:]
        if rest.startswith("["):
            rest = rest[rest.index("]") + 1 :]
        rest = rest.removeprefix(".")
    kind = rest.split(".", 1)[0]
    return "" if kind == "data" else kind


def guarded(plan: StagePlan, allowed: Collection[str]) -> tuple[str, ...]:
    """The addresses of guarded resources that the plan deletes or replaces, that `allowed` does not name and
    that were not decided before."""
    return tuple(
        change.address
        for change in plan.changes
        if change.action in (Action.DELETE, Action.REPLACE)
        and resource_type(change.address) in GUARDED_TYPES
        and change.address not in allowed
        and change.address not in plan.decided
    )


def check(plan: StagePlan, allowed: Collection[str]) -> None:
    """Raises GuardedChangeError when the plan deletes or replaces what is guarded and not named."""
    addresses = guarded(plan, allowed)
    if addresses:
        raise GuardedChangeError(plan.stage, addresses)
