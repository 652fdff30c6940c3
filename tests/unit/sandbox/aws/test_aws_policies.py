"""How IAM policies are read: what allows, what denies, and what the sandbox will not judge."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from cali_infra.sandbox.aws import policies
from cali_infra.sandbox.aws.policies import Verdict

ENTRY = "arn:aws:eks:eu-west-1:123456789012:access-entry/demo/role/123456789012/ops/1f2e"
ACTION = "eks:DeleteAccessEntry"
SOURCE = "arn:aws:eks:eu-west-1:1:cluster/x"
ALLOW = {"Effect": "Allow", "Action": ACTION, "Resource": "*"}


def document(*statements: Any) -> str:
    found = list(statements) if len(statements) != 1 else statements[0]
    return json.dumps({"Version": "2012-10-17", "Statement": found})


def judge(*statements: Any, context: dict[str, str | None] | None = None) -> Verdict:
    return policies.permitted([document(each) for each in statements], ACTION, ENTRY, context or {})


@pytest.mark.parametrize(
    ("resource", "verdict"),
    [
        ("*", Verdict.ALLOW),
        (ENTRY, Verdict.ALLOW),
        ("arn:aws:eks:*:123456789012:access-entry/demo/*", Verdict.ALLOW),
        ("arn:aws:eks:eu-west-?:123456789012:access-entry/demo/role/*/ops/*", Verdict.ALLOW),
        ("arn:aws:eks:eu-west-1:123456789012:access-entry/DEMO/*", Verdict.SILENT),
        ("arn:aws:eks:eu-west-1:123456789012:access-entry/demo", Verdict.SILENT),
        ("arn:aws:eks:eu-west-1:123456789012:access-entry/dem[o]/*", Verdict.SILENT),
    ],
)
def test_resources_match_with_wildcards_and_capitals(resource: str, verdict: Verdict) -> None:
    assert judge({**ALLOW, "Resource": resource}) is verdict


def test_a_denial_outweighs_what_others_allow() -> None:
    deny = {"Effect": "Deny", "Action": "eks:*", "Resource": "*"}
    assert judge(ALLOW, deny) is Verdict.DENY
    assert judge(deny) is Verdict.DENY
    assert judge() is Verdict.SILENT
    assert judge(ALLOW, {**deny, "Resource": "arn:aws:eks:*:*:cluster/*"}) is Verdict.ALLOW


def test_a_document_may_be_url_encoded_as_iam_hands_it_out() -> None:
    assert policies.permitted([quote(document(ALLOW))], ACTION, ENTRY, {}) is Verdict.ALLOW


@pytest.mark.parametrize(
    ("condition", "context", "verdict"),
    [
        ({"StringEquals": {"aws:SourceAccount": "1"}}, {"aws:sourceaccount": "1"}, Verdict.ALLOW),
        ({"StringEquals": {"AWS:SOURCEACCOUNT": ["2", "1"]}}, {"aws:sourceaccount": "1"}, Verdict.ALLOW),
        ({"StringEquals": {"aws:SourceAccount": "1"}}, {"aws:sourceaccount": None}, Verdict.SILENT),
        ({"StringLike": {"sts:ExternalId": "team-*"}}, {"sts:externalid": "team-a"}, Verdict.ALLOW),
        ({"StringEquals": {"sts:ExternalId": "team-*"}}, {"sts:externalid": "team-a"}, Verdict.SILENT),
        (
            {"ArnLike": {"aws:SourceArn": "arn:aws:eks:*:1:cluster/*"}},
            {"aws:sourcearn": SOURCE},
            Verdict.ALLOW,
        ),
        ({"ArnEquals": {"aws:SourceArn": "arn:*:cluster/x"}}, {"aws:sourcearn": SOURCE}, Verdict.SILENT),
        (
            {"StringEquals": {"aws:SourceAccount": "1"}, "ArnLike": {"aws:SourceArn": "arn:aws:eks:*:2:*"}},
            {"aws:sourceaccount": "1", "aws:sourcearn": SOURCE},
            Verdict.SILENT,
        ),
    ],
)
def test_every_condition_has_to_be_met(
    condition: dict[str, Any], context: dict[str, str | None], verdict: Verdict
) -> None:
    assert judge({**ALLOW, "Condition": condition}, context=context) is verdict


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ({"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}, "aws:MultiFactorAuthPresent"),
        ({"Condition": {"StringEquals": {"aws:ResourceTag/a": "b"}}}, "aws:ResourceTag/a"),
        ({"Resource": "arn:aws:eks:*:*:access-entry/${aws:username}/*"}, "${aws:username}"),
    ],
)
def test_what_cannot_be_judged_is_no_guess(statement: dict[str, Any], named: str) -> None:
    with pytest.raises(NotImplementedError) as refusal:
        judge({**ALLOW, **statement})
    assert named in str(refusal.value)


def test_what_cannot_be_judged_does_not_matter_where_nothing_hangs_on_it() -> None:
    elsewhere = {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": {"Bool": {"x": "y"}}}
    assert judge(ALLOW, elsewhere) is Verdict.ALLOW


@pytest.mark.parametrize(
    ("principal", "trusted"),
    [
        ({"Service": "pods.eks.amazonaws.com"}, True),
        ({"Service": ["ec2.amazonaws.com", "pods.eks.amazonaws.com"]}, True),
        ({"Service": "ec2.amazonaws.com"}, False),
        ({"AWS": "*"}, False),
        ("*", False),
    ],
)
def test_a_service_is_trusted_by_its_name(principal: Any, trusted: bool) -> None:
    statement = {"Effect": "Allow", "Principal": principal, "Action": ["sts:AssumeRole", "sts:TagSession"]}
    actions = ["sts:AssumeRole", "sts:TagSession"]
    assert policies.service_may(document(statement), "pods.eks.amazonaws.com", actions, {}) is trusted


def test_a_service_needs_every_action() -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    trust = document(statement)
    assert policies.service_may(trust, "pods.eks.amazonaws.com", ["sts:AssumeRole"], {})
    assert not policies.service_may(trust, "pods.eks.amazonaws.com", ["sts:AssumeRole", "sts:TagSession"], {})


def test_whom_a_policy_leaves_out_is_not_judged() -> None:
    statement = {"Effect": "Allow", "NotPrincipal": {"AWS": "x"}, "Action": "sts:AssumeRole"}
    with pytest.raises(NotImplementedError, match="NotPrincipal"):
        policies.service_may(document(statement), "eks.amazonaws.com", ["sts:AssumeRole"], {})
