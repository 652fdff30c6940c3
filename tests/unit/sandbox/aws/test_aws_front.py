"""What any client sees of the stand-in: who may call, and that nothing fails silently or with a 500."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cali_infra.sandbox.aws.controls import Fault
from cali_infra.sandbox.aws.server import AwsStandIn

Refuses = Callable[..., str]


def test_the_operator_is_an_iam_user_with_administrator_rights(world: Any) -> None:
    arn = f"arn:aws:iam::{world.aws.account}:user/sandbox/operator"
    assert world.client("sts").get_caller_identity()["Arn"] == arn
    assert world.iam.get_user()["User"]["Arn"] == arn
    policies = world.iam.list_attached_user_policies(UserName="operator")["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in policies] == ["AdministratorAccess"]


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("ec2", "describe_vpcs", "AuthFailure"),
        ("s3", "list_buckets", "InvalidAccessKeyId"),
        ("eks", "list_clusters", "UnrecognizedClientException"),
        ("kms", "list_keys", "UnrecognizedClientException"),
    ],
)
def test_an_access_key_that_iam_does_not_know_is_refused(
    world: Any, refuses: Refuses, service: str, call: str, code: str
) -> None:
    stranger = world.client(service, "AKIAQQQQQQQQQQQQQQQQ", "no secret")
    refuses(code, getattr(stranger, call))


def test_an_inactive_access_key_is_refused(world: Any, refuses: Refuses) -> None:
    world.user("leaver")
    key = world.iam.create_access_key(UserName="leaver")["AccessKey"]
    leaver = world.client("sts", key["AccessKeyId"], key["SecretAccessKey"])
    assert leaver.get_caller_identity()["Arn"].endswith(":user/leaver")
    world.iam.update_access_key(UserName="leaver", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    refuses("InvalidClientTokenId", leaver.get_caller_identity)


def test_an_assumed_role_is_its_session(world: Any) -> None:
    arn = world.role("Assumed", path="/team/")
    taken = world.client("sts").assume_role(RoleArn=arn, RoleSessionName="kim")["Credentials"]
    sts = world.client("sts", taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    session = f"arn:aws:sts::{world.aws.account}:assumed-role/Assumed/kim"
    assert sts.get_caller_identity()["Arn"] == session


def test_an_unsigned_request_is_refused(world: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(world.aws.endpoint, timeout=5)
    assert refusal.value.code == 403
    refusal.value.close()


@pytest.mark.parametrize(
    ("service", "call", "parameters", "named"),
    [
        ("eks", "list_fargate_profiles", {"clusterName": "x"}, "ListFargateProfiles"),
        ("opensearch", "list_packages_for_domain", {"DomainName": "abc"}, "ListPackagesForDomain"),
        ("ec2", "describe_aws_network_performance_metric_subscriptions", {}, "performance_metric"),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(
    world: Any, refuses: Refuses, service: str, call: str, parameters: dict[str, Any], named: str
) -> None:
    message = refuses("SandboxNotModelled", getattr(world.client(service), call), **parameters)
    assert named in message


def test_a_mistake_inside_the_stand_in_is_a_400(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, version: str) -> Any:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(world.clusters, "create", broken)
    with pytest.raises(ClientError) as refusal:
        world.cluster()
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refusal.value.response["Error"]["Code"] == "SandboxFailure"
    assert "a mistake" in refusal.value.response["Error"]["Message"]


def test_a_fault_is_answered_as_often_as_it_was_asked_for(world: Any, refuses: Refuses) -> None:
    fault = {"service": "eks", "operation": "ListClusters", "code": "ThrottlingException"}
    world.control("POST", "faults", {**fault, "message": "slow down", "times": 2})
    for _ in range(2):
        assert refuses("ThrottlingException", world.eks.list_clusters) == "slow down"
    world.eks.list_clusters()
    assert world.control("GET", "faults") == []


@pytest.mark.parametrize(
    ("service", "operation", "call", "code"),
    [
        ("ec2", "DescribeVpcs", "describe_vpcs", "UnauthorizedOperation"),
        ("iam", "*", "list_users", "AccessDenied"),
        ("kms", "ListKeys", "list_keys", "AccessDeniedException"),
        ("s3", "ListBuckets", "list_buckets", "AccessDenied"),
    ],
)
def test_a_fault_speaks_the_language_of_its_service(
    world: Any, refuses: Refuses, service: str, operation: str, call: str, code: str
) -> None:
    world.aws.controls.fail(Fault(service, operation, code, "not you", status=403))
    assert refuses(code, getattr(world.client(service), call)) == "not you"


def test_calls_are_counted(world: Any) -> None:
    world.control("DELETE", "calls")
    world.eks.list_clusters()
    world.client("ec2").describe_vpcs()
    assert world.control("GET", "calls") == {"eks:ListClusters": 1, "ec2:DescribeVpcs": 1}


@pytest.mark.parametrize(
    ("what", "body", "status"),
    [("nothing", {}, 404), ("delays", {"tea": 1}, 400), ("faults", {"service": "eks"}, 400)],
)
def test_a_control_that_there_is_not_is_refused(world: Any, what: str, body: Any, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        world.control("POST", what, body)
    assert refusal.value.code == status
    refusal.value.close()


def test_one_of_many_gets_a_state_lock(world: Any) -> None:
    s3 = world.client("s3")
    s3.create_bucket(Bucket="locks", CreateBucketConfiguration={"LocationConstraint": "ap-northeast-2"})

    def take(index: int) -> bool:
        try:
            s3.put_object(Bucket="locks", Key="x.tflock", Body=str(index).encode(), IfNoneMatch="*")
        except ClientError as refusal:
            assert refusal.response["Error"]["Code"] == "PreconditionFailed"
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_a_bucket_that_wants_tls_takes_objects(world: Any) -> None:
    s3 = world.client("s3")
    s3.create_bucket(Bucket="states", CreateBucketConfiguration={"LocationConstraint": "ap-northeast-2"})
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "arn:aws:s3:::states/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(Bucket="states", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    s3.put_object(Bucket="states", Key="terraform.tfstate", Body=b"{}")
    assert s3.get_object(Bucket="states", Key="terraform.tfstate")["Body"].read() == b"{}"


def test_a_launch_template_keeps_its_own_tags_apart_and_up_to_date(world: Any) -> None:
    ec2 = world.client("ec2")
    instances = {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "node"}]}
    made = ec2.create_launch_template(
        LaunchTemplateName="tagged",
        LaunchTemplateData={"InstanceType": "m6i.xlarge", "TagSpecifications": [instances]},
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": [{"Key": "a", "Value": "b"}]}],
    )["LaunchTemplate"]
    assert made["Tags"] == [{"Key": "a", "Value": "b"}]
    ec2.create_tags(Resources=[made["LaunchTemplateId"]], Tags=[{"Key": "a", "Value": "c"}])
    [template] = ec2.describe_launch_templates(LaunchTemplateNames=["tagged"])["LaunchTemplates"]
    assert template["Tags"] == [{"Key": "a", "Value": "c"}]
    shown = ec2.describe_launch_template_versions(LaunchTemplateName="tagged")["LaunchTemplateVersions"]
    assert shown[0]["LaunchTemplateData"]["TagSpecifications"] == [instances]


def test_a_new_stand_in_knows_nothing_of_the_last(world: Any) -> None:
    first = AwsStandIn(world.clusters, world.domains, account="210987654321")
    with first, pytest.raises(RuntimeError):
        key = first.operator.access_key_id
        first.stop()
        _ = first.endpoint
    with first:
        assert first.operator.access_key_id != key
        assert first.environment("eu-west-1")["AWS_ENDPOINT_URL"] == first.endpoint
        assert "AWS_SECRET" not in repr(first.operator)
        assert first.operator.secret_access_key not in repr(first.operator)
