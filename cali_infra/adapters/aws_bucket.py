"""The bucket of a remote state and the small objects in it, as S3 is asked for them.

It takes a client of S3 and leaves botocore's exceptions to the door, `aws.py`, but for those that are answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What S3 answers to a conditional write that comes too late. The last: what was to be replaced has been deleted.
_OTHERS_FIRST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"})


@dataclass(frozen=True)
class BucketDescription:
    """A bucket of this caller's; `region` is empty where S3 does not say."""

    name: str
    region: str


@dataclass(frozen=True)
class StoredObject:
    """An object as it was read: `etag` stands for this very content; `age` is the seconds since it was written,
    by S3's own clock at both ends and to the second, None where S3 does not say.
    """

    content: bytes
    etag: str
    age: float | None


def create(s3: Any, name: str, region: str) -> None:
    """Make a bucket without access lists: its owner owns every object."""
    # us-east-1 is the one region that S3 does not take as a constraint.
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, ObjectOwnership="BucketOwnerEnforced", **where)


def close(s3: Any, name: str) -> None:
    """Close a bucket to the public and to access lists, and keep versions."""
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    s3.put_bucket_ownership_controls(
        Bucket=name, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    )
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def encrypt(s3: Any, name: str, kms_key_id: str | None) -> None:
    """Encrypt what is written from now on, by S3's own key or by one of KMS."""
    default = {"SSEAlgorithm": "AES256"}
    if kms_key_id:
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key_id}
    rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bool(kms_key_id)}
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})


def put_policy(s3: Any, name: str, policy: Mapping[str, Any]) -> None:
    """Set a bucket's policy."""
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))


def put_tags(s3: Any, name: str, tags: Mapping[str, str]) -> None:
    """Set all of a bucket's tags."""
    tagging = {"TagSet": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}
    s3.put_bucket_tagging(Bucket=name, Tagging=tagging)


def read(s3: Any, bucket: str, key: str) -> StoredObject | None:
    """A small object, or None where the bucket has none of that key."""
    from email.utils import parsedate_to_datetime

    from botocore.exceptions import ClientError

    try:
        found = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    said = found["ResponseMetadata"]["HTTPHeaders"].get("date")
    age = (parsedate_to_datetime(said) - found["LastModified"]).total_seconds() if said else None
    return StoredObject(found["Body"].read(), found["ETag"], age)


def write(
    s3: Any, bucket: str, key: str, content: bytes, *, instead_of: str | None, kms_key_id: str | None
) -> str | None:
    """Write JSON in the place of what was read; see `Aws.write_object`."""
    from botocore.exceptions import ClientError

    condition = {"IfNoneMatch": "*"} if instead_of is None else {"IfMatch": instead_of}
    # As Terraform does it with its states: policies of buckets ask for the header.
    encryption = {"ServerSideEncryption": "AES256"}
    if kms_key_id:
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id}
    try:
        made = s3.put_object(
            Bucket=bucket, Key=key, Body=content, ContentType="application/json", **condition, **encryption
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in _OTHERS_FIRST:
            return None
        raise
    return str(made["ETag"])
