"""The bucket of a remote state: versioned, encrypted, private, reached over TLS only.

It has to be there before the first `init`, so Terraform cannot make it. Running this again changes nothing,
and what others have put on the bucket (statements, tags, their own encryption) stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cali_infra.errors import AwsError, PreconditionError, SettingsError, SettingsProblem

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws
    from cali_infra.core.settings import Settings

_STATEMENT = "CaliTlsOnly"
# S3's answers for a name that another account has, or that the caller may not see.
_TAKEN = frozenset({"403", "AccessDenied", "BucketAlreadyExists"})


def bootstrap(aws: Aws, settings: Settings) -> bool:
    """Make the bucket of `state` in cali.yaml, or bring the one that is there to what it has to be.

    Returns whether it was made. `aws` is in the bucket's region. Raises SettingsError when the state is not
    kept in S3 or the bucket is in another region, PreconditionError when it is somebody else's, AwsError when
    AWS refuses.
    """
    state = settings.state
    if state.backend != "s3" or not state.bucket:
        raise SettingsError(
            [SettingsProblem("cali.yaml", "state.backend", "the state is local: there is no bucket", "s3")]
        )
    region = state.region or settings.region
    made = _ensure(aws, state.bucket, region)
    aws.secure_bucket(
        state.bucket,
        policy=_with_tls_only(aws.bucket_policy(state.bucket), state.bucket, region),
        kms_key_id=state.kms_key_id,
        tags={"project": settings.project, "managed-by": "cali"},
    )
    return made


def _ensure(aws: Aws, name: str, region: str) -> bool:
    try:
        found = aws.bucket(name)
        if found is None:
            aws.create_bucket(name)
            return True
    except AwsError as error:
        if error.aws_code in _TAKEN:
            raise PreconditionError(
                f"the bucket {name} belongs to somebody else, or is hidden from you",
                remedy="choose another name in cali.yaml: state.bucket; names are unique in the whole world",
            ) from error
        raise
    if found.region not in ("", region):
        raise SettingsError(
            [SettingsProblem("cali.yaml", "state.region", f"the bucket {name} is elsewhere", found.region)]
        )
    return False


def _with_tls_only(policy: Mapping[str, Any] | None, bucket: str, region: str) -> dict[str, Any]:
    """The policy with the statement that denies everything without TLS, and all others as they are."""
    arn = f"arn:{_partition(region)}:s3:::{bucket}"
    statement = {
        "Sid": _STATEMENT,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    others = [each for each in (policy or {}).get("Statement", ()) if each.get("Sid") != _STATEMENT]
    return {"Version": "2012-10-17", **(policy or {}), "Statement": [*others, statement]}


def _partition(region: str) -> str:
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"
