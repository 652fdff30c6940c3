"""`cali state bootstrap` against moto: what the bucket is like afterwards, and whose it may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from moto import mock_aws

from cali_infra.adapters.aws import Aws
from cali_infra.core import state_bucket
from cali_infra.errors import AwsError, PreconditionError, SettingsError

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret"}
NAME = "team-terraform-states"


def settings(region: str = "ap-northeast-2", **state: object) -> Any:
    """What bootstrap reads of the settings."""
    there = {"backend": "s3", "bucket": NAME, "region": None, "kms_key_id": None, **state}
    return SimpleNamespace(project="cali", region=region, state=SimpleNamespace(**there))


def bootstrap(region: str = "ap-northeast-2", **state: object) -> bool:
    return state_bucket.bootstrap(Aws(region, KEYS), settings(region, **state))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


@pytest.mark.parametrize(
    ("region", "constraint"), [("ap-northeast-2", "ap-northeast-2"), ("us-east-1", None)]
)
def test_the_bucket_is_versioned_encrypted_private_and_tls_only(
    s3: Any, region: str, constraint: str | None
) -> None:
    assert bootstrap(region)
    assert s3.get_bucket_location(Bucket=NAME)["LocationConstraint"] == constraint
    assert s3.get_bucket_versioning(Bucket=NAME)["Status"] == "Enabled"
    (rule,) = s3.get_bucket_encryption(Bucket=NAME)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert set(s3.get_public_access_block(Bucket=NAME)["PublicAccessBlockConfiguration"].values()) == {True}
    ownership = s3.get_bucket_ownership_controls(Bucket=NAME)["OwnershipControls"]["Rules"]
    assert ownership == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert {"Key": "managed-by", "Value": "cali"} in s3.get_bucket_tagging(Bucket=NAME)["TagSet"]
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=NAME)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{NAME}", f"arn:aws:s3:::{NAME}/*"]


def test_a_key_of_ones_own_encrypts(s3: Any) -> None:
    bootstrap(kms_key_id="alias/states")
    (rule,) = s3.get_bucket_encryption(Bucket=NAME)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": "alias/states",
    }
    assert rule["BucketKeyEnabled"]


def test_a_second_time_changes_nothing(s3: Any) -> None:
    assert bootstrap()
    before = s3.get_bucket_policy(Bucket=NAME)["Policy"]
    assert not bootstrap()
    assert s3.get_bucket_policy(Bucket=NAME)["Policy"] == before


def test_what_others_have_put_on_the_bucket_stays(s3: Any) -> None:
    bootstrap(kms_key_id="alias/states")
    theirs = {"Sid": "Theirs", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteBucket"}
    theirs |= {"Resource": f"arn:aws:s3:::{NAME}"}
    s3.put_bucket_policy(Bucket=NAME, Policy=json.dumps({"Version": "2012-10-17", "Statement": [theirs]}))
    s3.put_bucket_tagging(Bucket=NAME, Tagging={"TagSet": [{"Key": "cost", "Value": "42"}]})
    bootstrap()
    statements = json.loads(s3.get_bucket_policy(Bucket=NAME)["Policy"])["Statement"]
    assert [each["Sid"] for each in statements] == ["Theirs", "CaliTlsOnly"]
    assert {"Key": "cost", "Value": "42"} in s3.get_bucket_tagging(Bucket=NAME)["TagSet"]
    (rule,) = s3.get_bucket_encryption(Bucket=NAME)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"


class Refusing:
    """An AWS that does not let the bucket be seen, or that says whose it is when it is to be made."""

    def __init__(self, code: str) -> None:
        self.code = code

    def bucket(self, name: str) -> None:
        if self.code == "403":
            raise AwsError("Forbidden", aws_code="403")

    def create_bucket(self, name: str) -> None:
        raise AwsError("refused", aws_code=self.code)


@pytest.mark.parametrize("code", ["403", "BucketAlreadyExists"])
def test_somebody_elses_bucket_is_refused(code: str) -> None:
    with pytest.raises(PreconditionError, match="somebody else") as caught:
        state_bucket.bootstrap(cast(Aws, Refusing(code)), settings())
    assert "state.bucket" in caught.value.remedy


def test_another_refusal_is_told_as_it_is() -> None:
    with pytest.raises(AwsError) as caught:
        state_bucket.bootstrap(cast(Aws, Refusing("TooManyBuckets")), settings())
    assert caught.value.aws_code == "TooManyBuckets"


def test_a_bucket_in_another_region_is_told(s3: Any) -> None:
    bootstrap("eu-west-1")
    with pytest.raises(SettingsError, match=r"state\.region.*eu-west-1"):
        bootstrap("ap-northeast-2")


def test_the_bucket_may_be_in_a_region_of_its_own(s3: Any) -> None:
    wanted = settings("ap-northeast-2")
    wanted.state.region = "eu-west-1"
    assert state_bucket.bootstrap(Aws("eu-west-1", KEYS), wanted)
    assert s3.get_bucket_location(Bucket=NAME)["LocationConstraint"] == "eu-west-1"


@pytest.mark.parametrize("state", [{"backend": "local"}, {"bucket": None}])
def test_a_local_state_has_no_bucket(s3: Any, state: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"state\.backend"):
        state_bucket.bootstrap(Aws("us-east-1", KEYS), settings("us-east-1", **state))
    assert not s3.list_buckets()["Buckets"]


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eu-west-1", "aws")]
)
def test_the_policy_names_the_regions_partition(region: str, partition: str) -> None:
    policy = state_bucket._with_tls_only(None, NAME, region)
    assert policy["Statement"][0]["Resource"][0] == f"arn:{partition}:s3:::{NAME}"
