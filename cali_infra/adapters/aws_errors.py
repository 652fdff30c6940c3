"""botocore's exceptions as AwsError: AWS' own code and words, and what to do about the usual ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cali_infra.errors import AwsError

_CREDENTIALS = (
    "sign in again (aws sso login, or new AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and check with: "
    "aws sts get-caller-identity"
)
_PERMISSION = "ask whoever runs the account for the permission that the message names"
_PATIENCE = "wait a minute, then run the command again"
_REMEDIES = {
    "ExpiredToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "AuthFailure": _CREDENTIALS,
    "RequestExpired": "set this machine's clock, then run the command again",
    "RequestTimeTooSkewed": "set this machine's clock, then run the command again",
    "AccessDenied": _PERMISSION,
    "AccessDeniedException": _PERMISSION,
    "UnauthorizedOperation": _PERMISSION,
    "403": _PERMISSION,
    "OptInRequired": "switch the region on in the account's settings, or choose another in cali.yaml: region",
    "Throttling": _PATIENCE,
    "ThrottlingException": _PATIENCE,
    "RequestLimitExceeded": _PATIENCE,
    "TooManyRequestsException": _PATIENCE,
    "SlowDown": _PATIENCE,
    "NoSuchBucket": "make it: cali state bootstrap (for a rehearsal: cali --sandbox state bootstrap)",
}
ABSENT = frozenset(
    {
        "ResourceNotFoundException",
        "InvalidVpcID.NotFound",
        "InvalidSubnetID.NotFound",
        "NotFoundException",
        "404",
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        "NoSuchTagSet",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)


@contextmanager
def translated(service: str) -> Iterator[None]:
    """botocore's exceptions as AwsError, with a remedy for the usual ones."""
    from botocore import exceptions as botocore

    try:
        yield
    except botocore.ClientError as error:
        answer = error.response.get("Error", {})
        code = str(answer.get("Code", ""))
        said = str(answer.get("Message", "")) or code
        raise AwsError(f"{service}: {said}", aws_code=code, remedy=_REMEDIES.get(code, "")) from error
    except botocore.ProfileNotFound as error:
        raise AwsError(
            f"{error}",
            aws_code="profile",
            remedy="name one of `aws configure list-profiles`: profile in cali.yaml, or AWS_PROFILE",
        ) from error
    except (
        botocore.NoCredentialsError,
        botocore.PartialCredentialsError,
        botocore.CredentialRetrievalError,
        botocore.TokenRetrievalError,
        botocore.SSOError,
        botocore.LoginError,
        botocore.MetadataRetrievalError,
    ) as error:
        raise AwsError(f"no AWS credentials: {error}", aws_code="credentials", remedy=_CREDENTIALS) from error
    except (botocore.HTTPClientError, botocore.ConnectionError) as error:
        raise AwsError(
            f"{service}: {error}",
            aws_code="unreachable",
            remedy="check the network, the proxy, region in cali.yaml and AWS_ENDPOINT_URL, then run it again",
        ) from error
    except botocore.BotoCoreError as error:
        raise AwsError(
            f"{service}: {error}", remedy="check region, endpoint, profile and network, then run it again"
        ) from error
