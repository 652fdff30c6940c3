"""What AWS says of a resource, in the one word by which an interrupted run is repaired."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cali_infra.adapters.aws import Aws
from cali_infra.core.guard import GUARDED_TYPES
from cali_infra.core.health import inspect
from cali_infra.core.recovery import Health

JIN = "arn:aws:iam::123456789012:user/jin"


def account(**answers: Any) -> Aws:
    """An AWS that has only what is said: a method by name, with its arguments and the answer to them."""

    def method(expected: tuple[str, ...], answer: Any) -> Any:
        return lambda *arguments: answer if arguments == expected else None

    return cast(Aws, SimpleNamespace(**{name: method(*value) for name, value in answers.items()}))


def standing(status: str) -> Any:
    return SimpleNamespace(status=status)


@pytest.mark.parametrize(
    ("kind", "attributes", "aws", "health"),
    [
        ("aws_eks_cluster", {"name": "c"}, account(cluster=(("c",), standing("CREATING"))), Health.CREATING),
        ("aws_eks_cluster", {"id": "c"}, account(cluster=(("c",), standing("ACTIVE"))), Health.HEALTHY),
        ("aws_eks_cluster", {"name": "c"}, account(cluster=(("c",), standing("FAILED"))), Health.FAILED),
        ("aws_eks_cluster", {"name": "c"}, account(cluster=(("other",), None)), Health.GONE),
        (
            "aws_eks_node_group",
            {"id": "c:nodes"},
            account(nodegroup=(("c", "nodes"), standing("CREATE_FAILED"))),
            Health.FAILED,
        ),
        (
            "aws_opensearch_domain",
            {"id": "arn:aws:es:ap-northeast-2:123456789012:domain/d"},
            account(domain=(("d",), SimpleNamespace(deleted=False, endpoint=""))),
            Health.CREATING,
        ),
        (
            "aws_opensearch_domain",
            {"domain_name": "d"},
            account(domain=(("d",), SimpleNamespace(deleted=False, endpoint="d.example"))),
            Health.HEALTHY,
        ),
        (
            "aws_opensearch_domain",
            {"domain_name": "d"},
            account(domain=(("d",), SimpleNamespace(deleted=True, endpoint="d.example"))),
            Health.GONE,
        ),
        (
            "aws_eks_access_entry",
            {"id": f"c:{JIN}"},
            account(has_access_entry=(("c", JIN), True)),
            Health.HEALTHY,
        ),
        (
            "aws_eks_access_entry",
            {"id": f"c:{JIN}"},
            account(has_access_entry=(("c", "another"), True)),
            Health.GONE,
        ),
        ("aws_vpc", {"id": "vpc-1"}, account(vpc_state=(("vpc-1",), "available")), Health.HEALTHY),
        ("aws_subnet", {"id": "subnet-1"}, account(subnet_state=(("subnet-1",), "pending")), Health.CREATING),
        ("aws_kms_key", {"id": "k"}, account(key_state=(("k",), "PendingDeletion")), Health.GONE),
        ("aws_kms_key", {"id": "k"}, account(key_state=(("k",), "a word of tomorrow")), Health.UNKNOWN),
        ("aws_s3_bucket", {"id": "b"}, account(), Health.UNKNOWN),
    ],
)
def test_health(kind: str, attributes: dict[str, str], aws: Aws, health: Health) -> None:
    assert inspect(aws, kind, attributes) is health


@pytest.mark.parametrize("kind", sorted(GUARDED_TYPES))
def test_every_guarded_type_can_be_asked_for(kind: str) -> None:
    class AskedError(Exception):
        pass

    class Asking:
        def __getattr__(self, name: str) -> Any:
            raise AskedError

    with pytest.raises(AskedError):
        inspect(cast(Aws, Asking()), kind, {"id": "a:b", "name": "a"})
