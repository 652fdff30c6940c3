"""What `--yes` never approves, and how an address is read."""

from __future__ import annotations

import pytest

from cali_infra.core import guard
from cali_infra.errors import GuardedChangeError
from cali_infra.plans import Action, ResourceChange, StagePlan


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("aws_vpc.this", "aws_vpc"),
        ('aws_subnet.private["ap-northeast-2a"]', "aws_subnet"),
        ('aws_eks_access_entry.this["arn:aws:iam::123456789012:role/a.b/c"]', "aws_eks_access_entry"),
        ('module.a["x.y"].module.b.aws_kms_key.this[0]', "aws_kms_key"),
        ("data.aws_vpc.this", ""),
        ("module.a.data.aws_vpc.this", ""),
    ],
)
def test_the_type_in_an_address(address: str, kind: str) -> None:
    assert guard.resource_type(address) == kind


@pytest.mark.parametrize("kind", sorted(guard.GUARDED_TYPES))
@pytest.mark.parametrize("action", [Action.DELETE, Action.REPLACE])
def test_what_is_guarded_is_neither_deleted_nor_replaced(kind: str, action: Action) -> None:
    plan = StagePlan("eks", (ResourceChange(f"{kind}.this", action),))

    with pytest.raises(GuardedChangeError, match=f"{kind}.this"):
        guard.check(plan, [])
    guard.check(plan, [f"{kind}.this"])


@pytest.mark.parametrize(
    "change",
    [
        ResourceChange("aws_vpc.this", Action.UPDATE),
        ResourceChange("aws_eks_cluster.this", Action.CREATE),
        ResourceChange("aws_route.nat", Action.DELETE),
    ],
)
def test_everything_else_passes(change: ResourceChange) -> None:
    guard.check(StagePlan("network", (change,)), [])
