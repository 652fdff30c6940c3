"""The door to AWS where access is concerned: entries of a cluster, principals in IAM, roles, conditional writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cali_infra.adapters.aws import Aws
from cali_infra.adapters.aws_access import PolicyAssociation
from cali_infra.adapters.aws_iam import CallerKind, CallerPrincipal, PrincipalState, Standing
from cali_infra.errors import AwsError, RoleUnresolvedError
from cali_infra.sandbox.aws.controls import Fault
from cali_infra.sandbox.aws.server import AwsStandIn

SEOUL = "ap-northeast-2"
ACCOUNT = "111122223333"
IAM = f"arn:aws:iam::{ACCOUNT}"
POLICIES = "arn:aws:eks::aws:cluster-access-policy/"
CLUSTER = "cali-default"
DENIED = "User: jin is not authorized to perform: iam:Get"


@dataclass(frozen=True)
class Account:
    """The account, its door as the operator, and clients to prepare it with."""

    standin: AwsStandIn
    aws: Aws
    eks: Any
    iam: Any

    def role(self, name: str, path: str = "/", service: str = "", trusts: str = "*") -> str:
        principal = {"Service": service} if service else {"AWS": trusts}
        statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        made = self.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=trust)
        return str(made["Role"]["Arn"])

    def user(self, name: str, path: str = "/") -> str:
        return str(self.iam.create_user(UserName=name, Path=path)["User"]["Arn"])

    def entry(self, principal: str, **more: Any) -> None:
        self.eks.create_access_entry(clusterName=CLUSTER, principalArn=principal, **more)

    def fail(self, operation: str, code: str, message: str = "no", times: int = 1) -> None:
        service = {"Get": "iam", "Assu": "sts"}.get(operation[:3], "eks")
        self.standin.controls.fail(Fault(service, operation, code, message, times, 403))


@pytest.fixture(scope="module")
def prepared(account: AwsStandIn) -> Account:
    aws = Aws(SEOUL, account.environment(SEOUL))
    made = Account(account, aws, aws._client("eks"), aws._client("iam"))
    ec2 = aws._client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.40.{n}.0/24", AvailabilityZone=f"{SEOUL}{zone}")
        for n, zone in enumerate("ab")
    ]
    made.eks.create_cluster(
        name=CLUSTER,
        version="1.35",
        roleArn=made.role("cluster", service="eks.amazonaws.com"),
        resourcesVpcConfig={
            "subnetIds": [each["Subnet"]["SubnetId"] for each in subnets],
            "endpointPrivateAccess": True,
        },
        accessConfig={"authenticationMode": "API"},
    )
    return made


@pytest.fixture
def here(prepared: Account) -> Iterator[Account]:
    """The cluster with its creator's entry alone."""
    yield prepared
    prepared.standin.controls.clear()
    pages = prepared.eks.get_paginator("list_access_entries").paginate(clusterName=CLUSTER)
    for arn in [arn for page in pages for arn in page["accessEntries"]]:
        if arn != prepared.standin.operator.arn:
            prepared.eks.delete_access_entry(clusterName=CLUSTER, principalArn=arn)


# -- access entries -----------------------------------------------------------------------------------------


def test_an_entry_is_described_with_its_policies(here: Account) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    here.entry(f"{IAM}:user/jin", kubernetesGroups=["team"], tags={"managed-by": "cali"})
    for policy, scope in (
        ("AmazonEKSEditPolicy", {"type": "namespace", "namespaces": ["airflow", "team-*"]}),
        ("AmazonEKSViewPolicy", {"type": "cluster"}),
    ):
        here.eks.associate_access_policy(
            clusterName=CLUSTER,
            principalArn=f"{IAM}:user/jin",
            policyArn=POLICIES + policy,
            accessScope=scope,
        )
    found = here.aws.access_entry(CLUSTER, f"{IAM}:user/jin")
    assert found is not None
    assert found.principal_arn == f"{IAM}:user/jin"
    assert (found.kind, found.groups, found.username) == ("STANDARD", ("team",), f"{IAM}:user/jin")
    assert found.tags == {"managed-by": "cali"}
    assert before <= found.created_at <= datetime.now(UTC) + timedelta(seconds=2)
    edit, view = found.policies
    assert edit == PolicyAssociation(
        POLICIES + "AmazonEKSEditPolicy", "namespace", ("airflow", "team-*"), edit.associated_at
    )
    assert view == PolicyAssociation(POLICIES + "AmazonEKSViewPolicy", "cluster", (), view.associated_at)
    assert before <= view.associated_at


def test_what_is_not_there_is_none(here: Account) -> None:
    assert here.aws.access_entry(CLUSTER, f"{IAM}:user/nobody") is None
    assert here.aws.access_entry("no-such-cluster", f"{IAM}:user/jin") is None
    assert here.aws.access_entries("no-such-cluster") is None


def test_every_entry_is_listed_the_creators_and_more_than_a_page(here: Account) -> None:
    here.entry(here.role("nodes", service="ec2.amazonaws.com"), type="EC2_LINUX")
    arns = [f"{IAM}:role/team/member-{n:03}" for n in range(120)]
    for arn in arns:
        here.entry(arn)
    found = here.aws.access_entries(CLUSTER)
    assert found is not None
    assert [each.principal_arn for each in found][:2] == [here.standin.operator.arn, f"{IAM}:role/nodes"]
    assert [each.principal_arn for each in found][2:] == arns
    creator, nodes = found[:2]
    assert [each.policy_arn for each in creator.policies] == [POLICIES + "AmazonEKSClusterAdminPolicy"]
    assert (nodes.kind, nodes.groups) == ("EC2_LINUX", ("system:nodes",))
    calls = here.standin.controls.calls()
    assert calls["eks:ListAccessEntries"] >= 2


def test_an_entry_that_goes_while_it_is_listed_is_left_out(here: Account) -> None:
    here.entry(f"{IAM}:user/jin")
    here.fail("DescribeAccessEntry", "ResourceNotFoundException")
    found = here.aws.access_entries(CLUSTER)
    assert found is not None
    assert len(found) == 1


def test_a_throttled_list_is_asked_again(here: Account, no_wait: None) -> None:
    for n in range(20):
        here.entry(f"{IAM}:user/throttled-{n}")
    here.fail("DescribeAccessEntry", "ThrottlingException", "Rate exceeded", times=9)
    here.fail("ListAssociatedAccessPolicies", "TooManyRequestsException", "Rate exceeded", times=9)
    found = here.aws.access_entries(CLUSTER)
    assert found is not None
    assert len(found) == 21


def test_a_refusal_ends_the_list(here: Account) -> None:
    here.entry(f"{IAM}:user/jin")
    here.fail("DescribeAccessEntry", "AccessDeniedException", "not authorized: eks:DescribeAccessEntry", 99)
    with pytest.raises(AwsError, match="eks:DescribeAccessEntry") as caught:
        here.aws.access_entries(CLUSTER)
    assert caught.value.aws_code == "AccessDeniedException"


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's waits between its tries would take seconds."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


def test_a_policy_is_taken_from_an_entry(here: Account) -> None:
    arn, policy = f"{IAM}:user/jin", POLICIES + "AmazonEKSViewPolicy"
    here.entry(arn)
    here.eks.associate_access_policy(
        clusterName=CLUSTER, principalArn=arn, policyArn=policy, accessScope={"type": "cluster"}
    )
    assert here.aws.disassociate_access_policy(CLUSTER, arn, policy)
    found = here.aws.access_entry(CLUSTER, arn)
    assert found is not None
    assert found.policies == ()
    assert not here.aws.disassociate_access_policy(CLUSTER, arn, policy)
    assert not here.aws.disassociate_access_policy(CLUSTER, f"{IAM}:user/nobody", policy)


# -- principals ---------------------------------------------------------------------------------------------


def test_iam_tells_a_user_and_a_role_that_exist(here: Account) -> None:
    user, role = here.user("known", "/team/a/"), here.role("known", "/ops/")
    user_id = here.iam.get_user(UserName="known")["User"]["UserId"]
    role_id = here.iam.get_role(RoleName="known")["Role"]["RoleId"]
    for arn, unique_id in ((user, user_id), (role, role_id)):
        found = here.aws.principal(arn)
        assert (found.asked, found.standing, found.arn) == (arn, Standing.EXISTS, arn)
        assert found.unique_id == unique_id
        assert found.created_at is not None
        assert abs(datetime.now(UTC) - found.created_at) < timedelta(minutes=5)


def test_a_principal_that_iam_does_not_know_is_absent(here: Account) -> None:
    for arn in (f"{IAM}:user/nobody", f"{IAM}:role/nobody"):
        assert here.aws.principal(arn) == PrincipalState(arn, Standing.ABSENT)


def test_a_principal_under_another_path_is_absent_with_its_real_arn(here: Account) -> None:
    real = here.role("AWSReservedSSO_Admin_0123", "/aws-reserved/sso.amazonaws.com/ap-northeast-2/")
    found = here.aws.principal(f"{IAM}:role/AWSReservedSSO_Admin_0123")
    assert found.standing is Standing.ABSENT
    assert found.arn == real


@pytest.mark.parametrize(("kind", "operation"), [("user", "GetUser"), ("role", "GetRole")])
def test_not_being_allowed_to_ask_is_an_answer(here: Account, kind: str, operation: str) -> None:
    here.fail(operation, "AccessDenied", DENIED)
    arn = f"{IAM}:{kind}/jin"
    assert here.aws.principal(arn) == PrincipalState(arn, Standing.MAY_NOT_ASK, said=DENIED)


def test_another_accounts_principals_are_not_asked_for(here: Account) -> None:
    arn = "arn:aws:iam::999999999999:user/jin"
    before = here.standin.controls.calls().get("iam:GetUser", 0)
    assert here.aws.principal(arn) == PrincipalState(arn, Standing.OTHER_ACCOUNT)
    assert here.standin.controls.calls().get("iam:GetUser", 0) == before


def test_any_other_answer_of_iam_is_an_error(here: Account) -> None:
    here.fail("GetUser", "ExpiredToken", "The security token included in the request is expired")
    with pytest.raises(AwsError, match="expired") as caught:
        here.aws.principal(f"{IAM}:user/jin")
    assert "aws sso login" in caught.value.remedy


def test_many_principals_are_asked_for_at_once(here: Account, no_wait: None) -> None:
    users = [here.user(f"many-{n}") for n in range(20)]
    before = here.standin.controls.calls().get("sts:GetCallerIdentity", 0)
    here.fail("GetUser", "Throttling", "Rate exceeded", times=9)
    found = here.aws.principals([*users, f"{IAM}:user/nobody"])
    assert [found[arn].standing for arn in users] == [Standing.EXISTS] * 20
    assert found[f"{IAM}:user/nobody"].standing is Standing.ABSENT
    assert here.standin.controls.calls()["sts:GetCallerIdentity"] == before + 1


# -- sessions and roles -------------------------------------------------------------------------------------


def test_the_role_of_a_session_keeps_its_path(here: Account) -> None:
    real = here.role("AWSReservedSSO_Edit_4567", "/aws-reserved/sso.amazonaws.com/")
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Edit_4567/jin@acme.com"
    assert here.aws.role_of_session(session) == real


def test_a_role_that_iam_may_not_tell_has_to_be_given(here: Account) -> None:
    here.fail("GetRole", "AccessDenied", DENIED)
    with pytest.raises(RoleUnresolvedError, match=DENIED) as caught:
        here.aws.role_of_session(f"arn:aws:sts::{ACCOUNT}:assumed-role/ops/jin")
    assert caught.value.code == "role-unresolved"
    assert caught.value.standing == Standing.MAY_NOT_ASK
    assert "iam:GetRole" in caught.value.remedy
    assert "aws iam get-role --role-name ops --query Role.Arn" in caught.value.remedy


def test_a_session_of_a_role_that_is_gone(here: Account) -> None:
    with pytest.raises(RoleUnresolvedError, match="has no role gone") as caught:
        here.aws.role_of_session(f"arn:aws:sts::{ACCOUNT}:assumed-role/gone/jin")
    assert caught.value.standing == Standing.ABSENT


def test_a_session_of_another_account_s_role(here: Account) -> None:
    with pytest.raises(RoleUnresolvedError, match="account 999999999999") as caught:
        here.aws.role_of_session("arn:aws:sts::999999999999:assumed-role/ops/jin")
    assert caught.value.standing == Standing.OTHER_ACCOUNT


def test_the_caller_is_its_user_or_its_role(here: Account) -> None:
    operator = here.standin.operator.arn
    assert here.aws.caller_principal() == CallerPrincipal(operator, CallerKind.USER)
    role = here.role("deployer", "/ci/")
    door = here.aws.assume_role(role, "cali-proof")
    assert door is not None
    assert door.identity().arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/cali-proof"
    assert door.caller_principal() == CallerPrincipal(role, CallerKind.ROLE)


@pytest.mark.parametrize(
    ("arn", "kind"),
    [
        (f"{IAM}:root", CallerKind.ROOT),
        (f"arn:aws:sts::{ACCOUNT}:federated-user/jin", CallerKind.FEDERATED),
    ],
)
def test_root_and_federated_users_are_told_as_such(
    here: Account, monkeypatch: pytest.MonkeyPatch, arn: str, kind: CallerKind
) -> None:
    from cali_infra.adapters.aws import Identity

    monkeypatch.setattr(here.aws, "identity", lambda: Identity(ACCOUNT, arn, "id"))
    assert here.aws.caller_principal() == CallerPrincipal(arn, kind)


def test_an_assumed_role_gets_into_the_cluster_as_that_role(here: Account) -> None:
    role = here.role("teammate")
    here.entry(role)
    door = here.aws.assume_role(role, "cali-proof")
    assert door is not None
    caller = here.standin.authenticator(CLUSTER, door.token(CLUSTER).value)
    assert caller is not None
    assert caller.arn == role


def test_a_role_that_may_not_be_assumed_is_none(here: Account) -> None:
    closed = here.role("closed", trusts=f"{IAM}:user/another")
    for arn in (closed, f"{IAM}:role/nobody"):
        assert here.aws.assume_role(arn, "cali-proof") is None


def test_a_role_that_cannot_be_assumed_for_another_reason_is_an_error(here: Account) -> None:
    here.standin.controls.fail(
        Fault("sts", "AssumeRole", "RegionDisabledException", "STS is off", status=403)
    )
    with pytest.raises(AwsError, match="STS is off"):
        here.aws.assume_role(f"{IAM}:role/closed", "cali-proof")


def test_the_keys_of_an_assumed_role_are_in_no_text(here: Account) -> None:
    door = here.aws.assume_role(here.role("quiet"), "cali-proof")
    assert door is not None
    keys = door._keys()
    assert keys.secret_key not in repr(door) + repr(keys)
    assert keys.token is not None
    assert keys.token not in repr(door) + repr(keys)


# -- another region -----------------------------------------------------------------------------------------


def test_another_region_has_the_same_caller(here: Account) -> None:
    other = here.aws.in_region("eu-west-1")
    assert other._client("s3").meta.region_name == "eu-west-1"
    assert here.aws._client("s3").meta.region_name == SEOUL
    assert other.identity() == here.aws.identity()
    assert other._boto() is here.aws._boto()
    assert here.aws.in_region(SEOUL) is here.aws


# -- conditional writes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(prepared: Account) -> str:
    prepared.aws.create_bucket("conditional-writes")
    return "conditional-writes"


def test_an_object_is_written_in_the_place_of_what_was_read(here: Account, bucket: str) -> None:
    aws = here.aws
    assert aws.read_object(bucket, "one") is None
    assert aws.write_object(bucket, "one", b"1", instead_of='"0123"') is None
    first = aws.write_object(bucket, "one", b"1", instead_of=None)
    found = aws.read_object(bucket, "one")
    assert found is not None
    assert (found.content, found.etag) == (b"1", first)
    assert found.age is not None
    assert 0 <= found.age < 60
    assert aws.write_object(bucket, "one", b"2", instead_of=None) is None
    second = aws.write_object(bucket, "one", b"2", instead_of=first)
    assert second not in (None, first)
    assert aws.write_object(bucket, "one", b"3", instead_of=first) is None
    found = aws.read_object(bucket, "one")
    assert found is not None
    assert found.content == b"2"


def test_of_many_who_write_the_same_object_one_is_first(here: Account, bucket: str) -> None:
    written: list[str | None] = []

    def write(number: int) -> None:
        written.append(here.aws.write_object(bucket, "race", str(number).encode(), instead_of=None))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 16
    assert len([etag for etag in written if etag]) == 1
