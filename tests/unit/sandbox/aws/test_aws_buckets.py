"""Conditional writes, by which contenders for a lease and for Terraform's locks take turns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cali_infra.adapters.aws import Aws
from cali_infra.sandbox.aws.server import AwsStandIn

Refuses = Callable[..., str]


@pytest.fixture
def bucket(world: Any) -> str:
    """A versioned bucket."""
    name = f"states-{next(world.names)}"
    place = {"LocationConstraint": "ap-northeast-2"}
    world.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)
    world.client("s3").put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def test_what_exists_is_not_written_over(world: Any, bucket: str, refuses: Refuses) -> None:
    s3 = world.client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    refuses("PreconditionFailed", s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"


def test_what_has_changed_is_not_written_over(world: Any, bucket: str, refuses: Refuses) -> None:
    s3 = world.client("s3")
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=first)["ETag"]
    refuses("PreconditionFailed", s3.put_object, Bucket=bucket, Key="k", Body=b"3", IfMatch=first)
    refuses("PreconditionFailed", s3.delete_object, Bucket=bucket, Key="k", IfMatch=first)
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=second)


def test_what_has_been_deleted_is_absent(world: Any, bucket: str, refuses: Refuses) -> None:
    s3 = world.client("s3")
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    s3.delete_object(Bucket=bucket, Key="k")
    refuses("NoSuchKey", s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")


def test_a_condition_that_s3_does_not_have_is_refused(world: Any, bucket: str, refuses: Refuses) -> None:
    s3 = world.client("s3")
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    said = refuses("SandboxNotModelled", s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch=etag)
    assert "If-None-Match" in said


def test_a_lost_precondition_is_a_412(world: Any, bucket: str) -> None:
    s3 = world.client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412


def test_no_two_writers_are_first(world: Any, bucket: str) -> None:
    s3 = world.client("s3")

    def count(_: int) -> None:
        while True:
            found = s3.get_object(Bucket=bucket, Key="counter")
            more = str(int(found["Body"].read()) + 1).encode()
            try:
                s3.put_object(Bucket=bucket, Key="counter", Body=more, IfMatch=found["ETag"])
                return
            except ClientError as error:
                assert error.response["Error"]["Code"] == "PreconditionFailed"

    s3.put_object(Bucket=bucket, Key="counter", Body=b"0", IfNoneMatch="*")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(40)))
    assert s3.get_object(Bucket=bucket, Key="counter")["Body"].read() == b"40"


def test_the_buckets_of_a_stand_in_go_with_it(world: Any) -> None:
    for _ in range(2):
        with AwsStandIn(world.clusters, world.domains, account="999988887777") as again:
            aws = Aws("us-east-1", again.environment("us-east-1"))
            assert aws.bucket("forgotten-states") is None
            aws.create_bucket("forgotten-states")
