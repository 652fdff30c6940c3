"""The one door to AWS: who the caller is, how the dear resources stand, bearers for clusters, the state's bucket.

Terraform makes what is in AWS; this door looks, and makes only the bucket that a remote state needs first.
boto3 is imported when a client is made. Credentials and endpoint come from the environment that is handed in.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cali_infra.errors import AwsError

if TYPE_CHECKING:
    import boto3

# EKS takes a presigned request for 15 minutes; a minute is kept for slow clocks.
_TOKEN_LIFE = timedelta(minutes=14)
_TOKEN_PREFIX = "k8s-aws-v1."
_CLUSTER_HEADER = "x-k8s-aws-id"
_CREDENTIALS = (
    "sign in again (aws sso login, or new AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and check with: "
    "aws sts get-caller-identity"
)
_REMEDIES = {
    "ExpiredToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "AccessDenied": "ask whoever runs the account for the permission that the message names",
    "AccessDeniedException": "ask whoever runs the account for the permission that the message names",
}
_ABSENT = frozenset(
    {
        "ResourceNotFoundException",
        "InvalidVpcID.NotFound",
        "InvalidSubnetID.NotFound",
        "InvalidInstanceID.NotFound",
        "InvalidVolume.NotFound",
        "NotFoundException",
        "404",
        "NoSuchBucket",
    }
)


@dataclass(frozen=True)
class Identity:
    """The caller, as STS names it."""

    account: str
    arn: str
    user_id: str


@dataclass(frozen=True)
class ClusterDescription:
    """What DescribeCluster says; `ca` is base64 as EKS gives it, endpoint and ca are empty while creating."""

    name: str
    arn: str
    status: str
    version: str
    endpoint: str
    ca: str


@dataclass(frozen=True)
class NodeGroupDescription:
    """A managed node group and its status."""

    name: str
    status: str


@dataclass(frozen=True)
class DomainDescription:
    """An OpenSearch domain; `endpoint` is empty while it is being made."""

    name: str
    endpoint: str
    deleted: bool


@dataclass(frozen=True)
class Token:
    """A bearer for a cluster and the moment at which it ends."""

    value: str
    expires_at: datetime


class Aws:
    """AWS in one region with one caller; safe to use from several threads."""

    def __init__(self, region: str, environ: Mapping[str, str], profile: str | None = None) -> None:
        self._region = region
        self._environ = environ
        self._profile = profile
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session: boto3.Session | None = None

    def identity(self) -> Identity:
        """The caller. Raises AwsError when there are no credentials or they are not accepted."""
        found = self._call("sts", lambda sts: sts.get_caller_identity())
        return Identity(found["Account"], found["Arn"], found["UserId"])

    def cluster(self, name: str) -> ClusterDescription | None:
        """The cluster, or None where there is none."""
        found = self._find("eks", lambda eks: eks.describe_cluster(name=name)["cluster"])
        if found is None:
            return None
        return ClusterDescription(
            name=found["name"],
            arn=found["arn"],
            status=found["status"],
            version=found["version"],
            endpoint=found.get("endpoint", ""),
            ca=found.get("certificateAuthority", {}).get("data", ""),
        )

    def nodegroup(self, cluster: str, name: str) -> NodeGroupDescription | None:
        """The managed node group, or None where there is none."""
        found = self._find(
            "eks", lambda eks: eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
        )
        return None if found is None else NodeGroupDescription(found["nodegroupName"], found["status"])

    def domain(self, name: str) -> DomainDescription | None:
        """The OpenSearch domain, or None where there is none."""
        found = self._find("opensearch", lambda o: o.describe_domain(DomainName=name)["DomainStatus"])
        if found is None:
            return None
        return DomainDescription(found["DomainName"], found.get("Endpoint", ""), bool(found.get("Deleted")))

    def vpc_state(self, vpc: str) -> str | None:
        """`pending` or `available`, or None where there is no such VPC."""
        found = self._find("ec2", lambda ec2: ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"])
        return str(found[0]["State"]) if found else None

    def subnet_state(self, subnet: str) -> str | None:
        """`pending` or `available`, or None where there is no such subnet."""
        found = self._find("ec2", lambda ec2: ec2.describe_subnets(SubnetIds=[subnet])["Subnets"])
        return str(found[0]["State"]) if found else None

    def key_state(self, key: str) -> str | None:
        """The state of a KMS key, such as `Enabled`, or None where there is none."""
        found = self._find("kms", lambda kms: kms.describe_key(KeyId=key)["KeyMetadata"])
        return str(found["KeyState"]) if found else None

    def tagged(self, key: str, value: str) -> dict[str, str]:
        """The ARNs that carry a tag, each with its name tag and zone where it has them."""

        def ask(client: Any) -> dict[str, str]:
            found: dict[str, str] = {}
            pages = client.get_paginator("get_resources").paginate(
                TagFilters=[{"Key": key, "Values": [value]}]
            )
            for page in pages:
                for item in page["ResourceTagMappingList"]:
                    tags = {tag["Key"]: tag["Value"] for tag in item["Tags"]}
                    found[item["ResourceARN"]] = tags.get("Name", "")
            return found

        answer: dict[str, str] = self._call("resourcegroupstaggingapi", ask)
        return answer

    def instances_gone(self, instances: Collection[str]) -> frozenset[str]:
        """Those of these instances that are terminated: EC2 shows them, with their tags, for an hour."""
        found = self._find("ec2", lambda ec2: ec2.describe_instances(InstanceIds=sorted(instances)))
        states = {
            item["InstanceId"]: item["State"]["Name"]
            for reservation in (found or {}).get("Reservations", ())
            for item in reservation["Instances"]
        }
        return frozenset(
            i for i in instances if states.get(i, "terminated") in ("terminated", "shutting-down")
        )

    def volumes(self, volumes: Collection[str]) -> dict[str, str]:
        """Size and zone of each of these volumes that is there, in words."""
        found = self._find("ec2", lambda ec2: ec2.describe_volumes(VolumeIds=sorted(volumes)))
        return {
            item["VolumeId"]: f"{item['Size']} GiB in {item['AvailabilityZone']}"
            for item in (found or {}).get("Volumes", ())
        }

    def token(self, cluster: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Token:
        """A bearer for the cluster's API: a presigned GetCallerIdentity that names the cluster.

        No call is made. Raises AwsError when there are no credentials.
        """
        from botocore.signers import RequestSigner

        started = now()
        with _translated("sts"):
            client = self._client("sts")
            session = self._boto()
            signer = RequestSigner(
                client.meta.service_model.service_id,
                self._region,
                "sts",
                "v4",
                session.get_credentials(),
                session.events,
            )
            request = {
                "method": "GET",
                "url": f"{client.meta.endpoint_url.rstrip('/')}/?Action=GetCallerIdentity&Version=2011-06-15",
                "body": {},
                "headers": {_CLUSTER_HEADER: cluster},
                "context": {},
            }
            url = signer.generate_presigned_url(
                request, region_name=self._region, expires_in=60, operation_name=""
            )
        encoded = base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
        return Token(_TOKEN_PREFIX + encoded, started + _TOKEN_LIFE)

    def public_address(self, timeout: float = 3.0) -> str:
        """The address from which AWS sees this machine. Raises AwsError when it cannot be found out."""
        from urllib.request import urlopen

        try:
            with urlopen("https://checkip.amazonaws.com", timeout=timeout) as answer:
                return str(answer.read(64).decode("ascii").strip())
        except (OSError, ValueError) as error:
            raise AwsError(
                f"checkip.amazonaws.com does not answer: {error}", remedy="check your connection"
            ) from error

    # -- the bucket of a remote state -------------------------------------------------------------------

    def bucket(self, name: str) -> Mapping[str, Any] | None:
        """The bucket where it exists and is this caller's, else None.

        Raises AwsError when it is somebody else's.
        """
        found: Mapping[str, Any] | None = self._find("s3", lambda s3: s3.head_bucket(Bucket=name))
        return found

    def create_bucket(self, name: str) -> None:
        """Make a bucket in this region."""
        elsewhere = {} if self._region == "us-east-1" else {"LocationConstraint": self._region}
        options: dict[str, Any] = {"CreateBucketConfiguration": elsewhere} if elsewhere else {}
        self._call("s3", lambda s3: s3.create_bucket(Bucket=name, **options))

    def secure_bucket(self, name: str, policy: str, kms_key_id: str | None) -> None:
        """Version it, encrypt it, close it to the public, and set its policy; harmless to repeat."""
        rule: dict[str, Any] = {"SSEAlgorithm": "aws:kms" if kms_key_id else "AES256"}
        if kms_key_id:
            rule["KMSMasterKeyID"] = kms_key_id
        closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")

        def secure(s3: Any) -> None:
            s3.put_public_access_block(
                Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(closed, True)
            )
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            s3.put_bucket_encryption(
                Bucket=name,
                ServerSideEncryptionConfiguration={
                    "Rules": [
                        {
                            "ApplyServerSideEncryptionByDefault": rule,
                            "BucketKeyEnabled": bool(kms_key_id),
                        }
                    ]
                },
            )
            s3.put_bucket_policy(Bucket=name, Policy=policy)

        self._call("s3", secure)

    def object_modified(self, bucket: str, key: str) -> datetime | None:
        """When an object was last written, or None where there is none."""
        found = self._find("s3", lambda s3: s3.head_object(Bucket=bucket, Key=key))
        return None if found is None else found["LastModified"]

    # -- calls ------------------------------------------------------------------------------------------

    def _find(self, service: str, ask: Callable[[Any], Any]) -> Any:
        try:
            return self._call(service, ask)
        except AwsError as error:
            if error.aws_code in _ABSENT:
                return None
            raise

    def _call(self, service: str, ask: Callable[[Any], Any]) -> Any:
        with _translated(service):
            return ask(self._client(service))

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                from botocore.config import Config

                config = Config(
                    connect_timeout=5,
                    read_timeout=30,
                    retries={"mode": "standard", "max_attempts": 4},
                )
                make: Any = self._boto().client
                self._clients[service] = make(
                    service, config=config, endpoint_url=self._environ.get("AWS_ENDPOINT_URL") or None
                )
            return self._clients[service]

    def _boto(self) -> boto3.Session:
        """A session from the environment's keys where it has some, else by boto3's own chain."""
        if self._session is None:
            import boto3

            environ = self._environ
            if environ.get("AWS_ACCESS_KEY_ID") and not self._profile:
                self._session = boto3.Session(
                    aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=environ.get("AWS_SECRET_ACCESS_KEY", ""),
                    aws_session_token=environ.get("AWS_SESSION_TOKEN") or None,
                    region_name=self._region,
                )
            else:
                profile = self._profile or environ.get("AWS_PROFILE") or None
                with _translated("the profile"):
                    self._session = boto3.Session(profile_name=profile, region_name=self._region)
        return self._session


@contextmanager
def _translated(service: str) -> Iterator[None]:
    """botocore's exceptions as AwsError, with a remedy for the usual ones."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        CredentialRetrievalError,
        NoCredentialsError,
        PartialCredentialsError,
        TokenRetrievalError,
    )

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        said = str(error.response.get("Error", {}).get("Message", "")) or code
        raise AwsError(f"{service}: {said}", aws_code=code, remedy=_REMEDIES.get(code, "")) from error
    except (
        NoCredentialsError,
        PartialCredentialsError,
        CredentialRetrievalError,
        TokenRetrievalError,
    ) as error:
        raise AwsError(f"no AWS credentials: {error}", aws_code="credentials", remedy=_CREDENTIALS) from error
    except BotoCoreError as error:
        raise AwsError(
            f"{service}: {error}", remedy="check region, endpoint, profile and network, then run it again"
        ) from error
