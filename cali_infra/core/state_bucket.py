"""The bucket of a remote state: versioned, encrypted, private, reached over TLS only.

It has to be there before the first `init`, so Terraform cannot make it. Running this again changes nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cali_infra.errors import AwsError, PreconditionError, SettingsError, SettingsProblem

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws
    from cali_infra.core.settings import Settings


def bootstrap(aws: Aws, settings: Settings) -> bool:
    """Make the bucket of `state` in cali.yaml, or bring the one that is there to what it has to be.

    Returns whether it was made. `aws` is in the bucket's region. Raises SettingsError when the state is not
    kept in S3, PreconditionError when the bucket is somebody else's, AwsError when AWS refuses.
    """
    state = settings.state
    if state.backend != "s3" or not state.bucket:
        raise SettingsError(
            [SettingsProblem("cali.yaml", "state.backend", "the state is local: there is no bucket", "s3")]
        )
    try:
        there = aws.bucket(state.bucket) is not None
        if not there:
            aws.create_bucket(state.bucket)
    except AwsError as error:
        if error.aws_code in ("403", "BucketAlreadyExists"):
            raise PreconditionError(
                f"the bucket {state.bucket} belongs to somebody else",
                remedy="choose another name in cali.yaml: state.bucket",
            ) from error
        raise
    aws.secure_bucket(state.bucket, _tls_only(state.bucket, settings.region), state.kms_key_id)
    return not there


def _tls_only(bucket: str, region: str) -> str:
    partition = (
        "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    )
    arn = f"arn:{partition}:s3:::{bucket}"
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "TlsOnly",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [arn, f"{arn}/*"],
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                }
            ],
        }
    )
