"""Bearer tokens: who gets in, as whom and with which rights, and who does not."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

import pytest

from cali_infra.sandbox.ports import AccessPolicy, Authenticator, Caller

POLICIES = "arn:aws:eks::aws:cluster-access-policy/"


def test_the_creator_is_an_administrator(world: Any) -> None:
    cluster = world.cluster()
    authenticate: Authenticator = world.aws.authenticator
    operator = world.aws.operator.arn
    admin = (AccessPolicy("AmazonEKSClusterAdminPolicy"),)
    assert authenticate(cluster, world.token(world.client("sts"), cluster)) == Caller(
        operator, operator, (), admin, True
    )


@pytest.mark.parametrize("host", ["https://sts.ap-northeast-2.amazonaws.com", "https://sts.amazonaws.com"])
def test_a_token_made_for_the_hosts_of_aws_is_taken(world: Any, host: str) -> None:
    cluster = world.cluster()
    assert world.aws.authenticator(cluster, world.token(world.client("sts"), cluster, url=host)) is not None


def test_a_teammate_has_the_policies_of_the_entry(world: Any) -> None:
    cluster, arn = world.cluster(), world.user("carol", "/team/")
    sts = world.key_of("carol")
    assert "has no access entry" in world.refused(cluster, world.token(sts, cluster))
    world.eks.create_access_entry(clusterName=cluster, principalArn=arn, kubernetesGroups=["readers"])
    caller = world.aws.authenticator(cluster, world.token(sts, cluster))
    assert caller == Caller(arn, arn, ("readers",), (), False)
    scope = {"type": "namespace", "namespaces": ["logging"]}
    for policy in ("AmazonEKSEditPolicy", "AmazonEKSClusterAdminPolicy"):
        world.eks.associate_access_policy(
            clusterName=cluster, principalArn=arn, policyArn=POLICIES + policy, accessScope=scope
        )
    caller = world.aws.authenticator(cluster, world.token(sts, cluster))
    assert caller is not None
    assert caller.policies == (
        AccessPolicy("AmazonEKSEditPolicy", ("logging",)),
        AccessPolicy("AmazonEKSClusterAdminPolicy", ("logging",)),
    )
    assert caller.is_admin is False


def test_an_assumed_role_comes_in_as_its_session(world: Any) -> None:
    cluster, arn = world.cluster(), world.role("SSO", path="/aws-reserved/sso.amazonaws.com/")
    world.eks.create_access_entry(clusterName=cluster, principalArn=arn)
    taken = world.client("sts").assume_role(RoleArn=arn, RoleSessionName="kim@corp")["Credentials"]
    sts = world.client("sts", taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    caller = world.aws.authenticator(cluster, world.token(sts, cluster))
    assert caller is not None
    assert caller.arn == arn
    assert caller.username == f"arn:aws:sts::{world.aws.account}:assumed-role/SSO/kim-corp"
    stolen = world.client("sts", taken["AccessKeyId"], taken["SecretAccessKey"], "another session")
    assert "session token" in world.refused(cluster, world.token(stolen, cluster))
    world.time.ahead += 3700
    assert world.aws.authenticator(cluster, world.token(sts, cluster)) is None


def test_a_token_is_for_one_cluster(world: Any) -> None:
    one, other = world.cluster(), world.cluster()
    assert "signature does not fit" in world.refused(other, world.token(world.client("sts"), one))


def test_a_wrong_secret_does_not_get_in(world: Any) -> None:
    cluster = world.cluster()
    forged = world.client("sts", world.aws.operator.access_key_id, "not the operator's secret")
    assert "signature does not fit" in world.refused(cluster, world.token(forged, cluster))


def test_a_token_lives_for_fifteen_minutes(world: Any) -> None:
    cluster = world.cluster()
    text = world.token(world.client("sts"), cluster)
    world.time.ahead += 14 * 60
    assert world.aws.authenticator(cluster, text) is not None
    world.time.ahead += 2 * 60
    assert "expired" in world.refused(cluster, text)


def test_a_deactivated_key_and_a_deleted_user_do_not_get_in(world: Any) -> None:
    cluster, arn = world.cluster(), world.user("dave")
    sts = world.key_of("dave")
    world.eks.create_access_entry(clusterName=cluster, principalArn=arn)
    [key] = world.iam.list_access_keys(UserName="dave")["AccessKeyMetadata"]
    of_key = {"UserName": "dave", "AccessKeyId": key["AccessKeyId"]}
    world.iam.update_access_key(**of_key, Status="Inactive")
    assert "inactive" in world.refused(cluster, world.token(sts, cluster))
    world.iam.update_access_key(**of_key, Status="Active")
    assert world.aws.authenticator(cluster, world.token(sts, cluster)) is not None
    world.iam.delete_access_key(**of_key)
    world.iam.delete_user(UserName="dave")
    assert "unknown" in world.refused(cluster, world.token(sts, cluster))


def test_a_principal_made_anew_finds_a_dead_entry(world: Any) -> None:
    cluster, arn = world.cluster(), world.user("erin")
    world.eks.create_access_entry(clusterName=cluster, principalArn=arn)
    world.iam.delete_user(UserName="erin")
    world.user("erin")
    sts = world.key_of("erin")
    assert "made anew" in world.refused(cluster, world.token(sts, cluster))
    world.eks.delete_access_entry(clusterName=cluster, principalArn=arn)
    world.eks.create_access_entry(clusterName=cluster, principalArn=arn)
    assert world.aws.authenticator(cluster, world.token(sts, cluster)) is not None


def test_what_is_no_token_does_not_get_in(world: Any) -> None:
    cluster = world.cluster()
    sts = world.client("sts")
    right = world.token(sts, cluster)
    for text, why in (
        ("", "does not begin"),
        ("Bearer x", "does not begin"),
        ("k8s-aws-v1.&&&", "not base64|not one of STS"),
        ("k8s-aws-v1." + base64.urlsafe_b64encode(b"\xff\xfe").decode(), "not base64"),
        (world.token(sts, cluster, url="https://sts.evil.example"), "not one of STS"),
        (world.token(sts, cluster, url="https://sts.amazonaws.com.evil.example"), "not one of STS"),
        (world.token(sts, cluster, action="GetSessionToken"), "not GetCallerIdentity"),
        (world.token(sts, cluster, header="x-other"), "not among the signed headers"),
        (right[:-8], "signature does not fit|not base64"),
    ):
        assert any(part in world.refused(cluster, text) for part in why.split("|")), text
    assert urlsplit(world.aws.endpoint).hostname == "127.0.0.1"


def test_a_cluster_that_is_not_there_lets_nobody_in(world: Any) -> None:
    assert "has no access entry" in world.refused("nowhere", world.token(world.client("sts"), "nowhere"))
