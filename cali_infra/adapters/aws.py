"""The one door to AWS: who the caller is, how the dear resources stand, bearers for clusters, who has access,
the state's bucket.

Terraform makes what is in AWS; this door looks, and makes only the bucket that a remote state needs first. How
access entries, IAM and the bucket are asked stands in `aws_access.py`, `aws_iam.py` and `aws_bucket.py`, what
errors mean in `aws_errors.py`.
boto3 is imported when a client is made, botocore alone for a bearer: kubectl and Terraform run `cali token`
again and again. Credentials and endpoint come from the environment that is handed in.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cali_infra.adapters import aws_access, aws_bucket, aws_eks, aws_iam, aws_policies
from cali_infra.adapters.aws_access import AccessEntry
from cali_infra.adapters.aws_bucket import BucketDescription, StoredObject
from cali_infra.adapters.aws_eks import Addon, Issue, NodeGroup, PodIdentity
from cali_infra.adapters.aws_errors import ABSENT, translated
from cali_infra.adapters.aws_iam import CallerKind, CallerPrincipal, PrincipalState
from cali_infra.adapters.aws_policies import ScalingGroup
from cali_infra.errors import AwsError

if TYPE_CHECKING:
    import boto3
    from botocore.session import Session

# EKS takes a presigned request for 15 minutes; a minute is kept for slow clocks, as the AWS CLI does.
_TOKEN_LIFE = timedelta(minutes=14)
# Within the URL stands another life, which EKS overrules; clients have always written 60 seconds.
_URL_LIFE = 60
_TOKEN_PREFIX = "k8s-aws-v1."
_CLUSTER_HEADER = "x-k8s-aws-id"
# How often a call is tried, and how many connections a client keeps.
_ATTEMPTS, _CONNECTIONS = 4, 10
_BULK_ATTEMPTS = 10
# Seconds; the shortest that STS gives.
_ROLE_LIFE = 900
_CHECK_ADDRESS = "https://checkip.amazonaws.com"


@dataclass(frozen=True)
class Identity:
    """The caller, as STS names it."""

    account: str
    arn: str
    user_id: str


@dataclass(frozen=True)
class ClusterDescription:
    """What DescribeCluster says; `ca` is base64 as EKS gives it, endpoint and ca are empty while creating.

    `public_cidrs` are the networks that reach the endpoint from outside the VPC: none where it is private.
    """

    name: str
    arn: str
    status: str
    version: str
    endpoint: str
    ca: str
    public_cidrs: tuple[str, ...]
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True)
class NodeGroupDescription:
    """A managed node group: its status, and how many nodes it is to have just now."""

    name: str
    status: str
    desired_nodes: int


@dataclass(frozen=True)
class DomainDescription:
    """An OpenSearch domain; `endpoint` is empty while it is being made.

    `doing` is the service's word for what it is busy with, `Active` where it is with nothing. `tls_policy` names
    the oldest TLS that is taken, and `fine_grained` is access control with users and roles of the domain's own.
    """

    name: str
    endpoint: str
    deleted: bool
    processing: bool = False
    doing: str = ""
    encrypted_at_rest: bool = False
    node_to_node_encryption: bool = False
    enforces_https: bool = False
    tls_policy: str = ""
    fine_grained: bool = False


@dataclass(frozen=True)
class ClusterVersion:
    """A Kubernetes version that EKS offers; `support` is STANDARD_SUPPORT, EXTENDED_SUPPORT or UNSUPPORTED,
    the dates are the last days of either support.
    """

    version: str
    support: str
    default: bool
    standard_until: date | None
    extended_until: date | None


@dataclass(frozen=True)
class InstanceType:
    """An EC2 instance type: virtual processors, memory in MiB, and the network addresses that it can have."""

    name: str
    cpus: int
    memory: int
    interfaces: int
    addresses_per_interface: int


@dataclass(frozen=True)
class Token:
    """A bearer for a cluster and the moment at which it ends."""

    value: str
    expires_at: datetime


@dataclass(frozen=True)
class _Keys:
    """What a request is signed with, under botocore's names."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)


class Aws:
    """AWS in one region with one caller; safe to use from several threads.

    Keys in `environ` are used as they are. Without them, or with a `profile` (or AWS_PROFILE), botocore's own
    chain finds the credentials. AWS_ENDPOINT_URL in `environ` overrides every endpoint. `os.environ` is never
    changed.
    """

    def __init__(self, region: str, environ: Mapping[str, str], profile: str | None = None) -> None:
        self.region = region
        self._environ = environ
        self._profile = profile
        # Sessions are not safe to use from several threads while they make something; clients are.
        self._lock = threading.RLock()
        self._clients: dict[tuple[str, int, int], Any] = {}
        self._core: Session | None = None
        self._session: boto3.Session | None = None

    def in_region(self, region: str) -> Aws:
        """The same caller in another region, such as that of the state's bucket."""
        if region == self.region:
            return self
        other = Aws(region, self._environ, self._profile)
        # One session, so that nobody is asked for a second factor twice.
        with self._lock:
            other._lock, other._core, other._session = self._lock, self._botocore(), self._boto()
        return other

    def identity(self) -> Identity:
        """The caller. Raises AwsError when there are no credentials or they are not accepted."""
        found = self._call("sts", lambda sts: sts.get_caller_identity())
        return Identity(found["Account"], found["Arn"], found["UserId"])

    def cluster(self, name: str) -> ClusterDescription | None:
        """The cluster, or None where there is none."""
        found = self._find("eks", lambda eks: eks.describe_cluster(name=name)["cluster"])
        if found is None:
            return None
        network = found.get("resourcesVpcConfig", {})
        # EKS keeps the networks of an endpoint that is switched off.
        public = network.get("endpointPublicAccess", False)
        return ClusterDescription(
            name=found["name"],
            arn=found["arn"],
            status=found["status"],
            version=found["version"],
            endpoint=found.get("endpoint", ""),
            ca=found.get("certificateAuthority", {}).get("data", ""),
            public_cidrs=tuple(network.get("publicAccessCidrs", ())) if public else (),
            issues=aws_eks.issues(found),
        )

    def node_groups(self, cluster: str) -> tuple[NodeGroup, ...]:
        """The cluster's managed node groups by name, with what ails them."""
        found: tuple[NodeGroup, ...] = self._call("eks", lambda eks: aws_eks.node_groups(eks, cluster))
        return found

    def addons(self, cluster: str) -> tuple[Addon, ...]:
        """The cluster's add-ons by name, with what ails them."""
        found: tuple[Addon, ...] = self._call("eks", lambda eks: aws_eks.addons(eks, cluster))
        return found

    def scaling_groups(self, names: Collection[str]) -> tuple[ScalingGroup, ...]:
        """The Auto Scaling groups of these names that there are, with their tags."""
        found: tuple[ScalingGroup, ...] = self._call(
            "autoscaling", lambda client: aws_policies.scaling_groups(client, names)
        )
        return found

    def denied(
        self, role: str, actions: Sequence[str], resource: str = "*", context: Mapping[str, str] | None = None
    ) -> tuple[str, ...]:
        """Those of the actions that a role may not do to a resource, by IAM's policy simulator.

        `context` are the condition keys of the request. Raises AwsError with the code AccessDenied where the caller
        may not ask.
        """
        found: tuple[str, ...] = self._call(
            "iam", lambda iam: aws_policies.denied(iam, role, actions, resource, context or {})
        )
        return found

    def pod_identities(self, cluster: str) -> tuple[PodIdentity, ...]:
        """Which role the pods of which service account get."""
        found: tuple[PodIdentity, ...] = self._call("eks", lambda eks: aws_eks.pod_identities(eks, cluster))
        return found

    def cluster_versions(self) -> tuple[ClusterVersion, ...]:
        """The Kubernetes versions that EKS offers here, newest first as EKS lists them."""

        def ask(client: Any) -> tuple[ClusterVersion, ...]:
            pages = client.get_paginator("describe_cluster_versions").paginate()
            return tuple(_cluster_version(item) for page in pages for item in page["clusterVersions"])

        answer: tuple[ClusterVersion, ...] = self._call("eks", ask)
        return answer

    def nodegroup(self, cluster: str, name: str) -> NodeGroupDescription | None:
        """The managed node group, or None where there is none."""
        found = self._find(
            "eks", lambda eks: eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
        )
        if found is None:
            return None
        sizes = found.get("scalingConfig") or {}
        return NodeGroupDescription(found["nodegroupName"], found["status"], int(sizes.get("desiredSize", 0)))

    def has_access_entry(self, cluster: str, principal: str) -> bool:
        """Whether the principal's ARN has an access entry; an entry has no status, it is there or not."""
        found = self._find(
            "eks", lambda eks: eks.describe_access_entry(clusterName=cluster, principalArn=principal)
        )
        return found is not None

    def domain(self, name: str) -> DomainDescription | None:
        """The OpenSearch domain, or None where there is none."""
        found = self._find("opensearch", lambda o: o.describe_domain(DomainName=name)["DomainStatus"])
        if found is None:
            return None
        return _domain(found)

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
        # A filter, for among InstanceIds one that is unknown hides the answer for all.
        only = [{"Name": "instance-id", "Values": sorted(instances)}]
        found = self._call("ec2", lambda ec2: ec2.describe_instances(Filters=only)) if instances else {}
        states = {
            item["InstanceId"]: item["State"]["Name"]
            for reservation in found.get("Reservations", ())
            for item in reservation["Instances"]
        }
        return frozenset(
            i for i in instances if states.get(i, "terminated") in ("terminated", "shutting-down")
        )

    def instance_types(self, names: Collection[str]) -> tuple[InstanceType, ...]:
        """These instance types. Raises AwsError with the code InvalidInstanceType for one that is not there."""
        found = self._call("ec2", lambda ec2: ec2.describe_instance_types(InstanceTypes=sorted(names)))
        return tuple(
            InstanceType(
                name=item["InstanceType"],
                cpus=item["VCpuInfo"]["DefaultVCpus"],
                memory=item["MemoryInfo"]["SizeInMiB"],
                interfaces=item["NetworkInfo"]["MaximumNetworkInterfaces"],
                addresses_per_interface=item["NetworkInfo"]["Ipv4AddressesPerInterface"],
            )
            for item in found["InstanceTypes"]
        )

    def volumes(self, volumes: Collection[str]) -> dict[str, str]:
        """Size and zone of each of these volumes that is there, in words."""
        only = [{"Name": "volume-id", "Values": sorted(volumes)}]
        found = self._call("ec2", lambda ec2: ec2.describe_volumes(Filters=only)) if volumes else {}
        return {
            item["VolumeId"]: f"{item['Size']} GiB in {item['AvailabilityZone']}"
            for item in found.get("Volumes", ())
        }

    def token(self, cluster: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Token:
        """A bearer for the cluster's API: a presigned GetCallerIdentity that names the cluster.

        No call is made, but for credentials that have to be fetched. Raises AwsError when there are none.
        Source: aws-iam-authenticator, "API Authorization from Outside a Cluster".
        """
        from botocore.auth import SigV4QueryAuth
        from botocore.awsrequest import AWSRequest

        started = now()
        with translated("sts"):
            keys = self._keys()
            request = AWSRequest(
                "GET",
                f"{self._sts()}/?Action=GetCallerIdentity&Version=2011-06-15",
                headers={_CLUSTER_HEADER: cluster},
            )
            SigV4QueryAuth(keys, "sts", self.region, expires=_URL_LIFE).add_auth(request)
        encoded = base64.urlsafe_b64encode(str(request.url).encode()).decode().rstrip("=")
        return Token(_TOKEN_PREFIX + encoded, started + _TOKEN_LIFE)

    def public_address(self, timeout: float = 3.0, url: str = _CHECK_ADDRESS) -> str:
        """The address from which AWS sees this machine. Raises AwsError when it cannot be found out.

        `timeout` is in seconds; `url` answers with the caller's address as text.
        """
        from ipaddress import ip_address
        from urllib.request import urlopen

        try:
            with urlopen(url, timeout=timeout) as answer:
                return str(ip_address(answer.read(64).decode("ascii").strip()))
        except (OSError, ValueError) as error:
            raise AwsError(f"{url} does not answer: {error}", remedy="check your connection") from error

    # -- who has access ---------------------------------------------------------------------------------

    def access_entries(self, cluster: str) -> tuple[AccessEntry, ...] | None:
        """Every access entry of the cluster with its policies; None where there is no such cluster."""
        with translated("eks"):
            return aws_access.entries(self._bulk("eks"), cluster)

    def access_entry(self, cluster: str, principal: str) -> AccessEntry | None:
        """One principal's access entry; None where there is none, or no such cluster."""
        found: AccessEntry | None = self._call(
            "eks", partial(aws_access.entry, cluster=cluster, principal=principal)
        )
        return found

    def delete_access_entry(self, cluster: str, principal: str) -> bool:
        """Delete an access entry with its associations; False where there was none."""
        gone = self._find(
            "eks", lambda eks: eks.delete_access_entry(clusterName=cluster, principalArn=principal)
        )
        return gone is not None

    def disassociate_access_policy(self, cluster: str, principal: str, policy: str) -> bool:
        """Take an access policy from an entry; False where it had none of that ARN, or there is no such entry."""
        gone = self._find(
            "eks",
            lambda eks: eks.disassociate_access_policy(
                clusterName=cluster, principalArn=principal, policyArn=policy
            ),
        )
        return gone is not None

    def principal(self, arn: str, *, account: str | None = None) -> PrincipalState:
        """What IAM says of a user or role; not being allowed to ask is an answer too.

        `arn` is a well-formed ARN of a user or role; `account` is the caller's own, None: STS is asked for it.
        """
        return self.principals([arn], account=account)[arn]

    def principals(self, arns: Collection[str], *, account: str | None = None) -> dict[str, PrincipalState]:
        """What IAM says of each of these users and roles, asked side by side."""
        own = account or self.identity().account
        with translated("iam"):
            ask = partial(aws_iam.principal, self._bulk("iam"), account=own)
            return dict(zip(arns, aws_access.side_by_side(ask, arns), strict=True))

    def role_of_session(self, session: str, *, account: str | None = None) -> str:
        """The ARN, path included, of the role behind a well-formed `arn:...:sts::ACCOUNT:assumed-role/ROLE/NAME`.

        Raises RoleUnresolvedError where IAM may not be asked, or has no such role.
        """
        own = account or self.identity().account
        with translated("iam"):
            return aws_iam.role_of_session(self._client("iam"), session, own)

    def caller_principal(self, known: Identity | None = None) -> CallerPrincipal:
        """The user or role behind the caller; root and federated users are told as such, by their own ARN.

        `known` is the caller, where STS has told it already.
        Raises RoleUnresolvedError where a role's session calls and IAM does not tell the role's path.
        """
        identity = known or self.identity()
        kind = aws_iam.caller_kind(identity.arn)
        arn = identity.arn
        if kind is CallerKind.ROLE:
            arn = self.role_of_session(arn, account=identity.account)
        return CallerPrincipal(arn, kind)

    def assume_role(self, arn: str, session: str) -> Aws | None:
        """This door as a role, for 15 minutes; None where the caller may not assume it.

        STS does not tell a role that is not there from one that may not be assumed.
        """
        try:
            made = self._call(
                "sts",
                lambda sts: sts.assume_role(RoleArn=arn, RoleSessionName=session, DurationSeconds=_ROLE_LIFE),
            )
        except AwsError as error:
            if error.aws_code == "AccessDenied":
                return None
            raise
        keys = made["Credentials"]
        return Aws(
            self.region,
            {
                **self._environ,
                "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
                "AWS_SESSION_TOKEN": keys["SessionToken"],
            },
        )

    # -- the bucket of a remote state -------------------------------------------------------------------

    def bucket(self, name: str) -> BucketDescription | None:
        """The bucket, or None where nobody has one of that name.

        Raises AwsError with the code 403 when it is another account's, or hidden from the caller.
        """
        owner = self.identity().account
        found = self._find("s3", lambda s3: s3.head_bucket(Bucket=name, ExpectedBucketOwner=owner))
        return None if found is None else BucketDescription(name, found.get("BucketRegion", ""))

    def create_bucket(self, name: str) -> None:
        """Make a bucket in this region, without access lists: its owner owns every object."""
        self._call("s3", partial(aws_bucket.create, name=name, region=self.region))

    def bucket_policy(self, name: str) -> dict[str, Any] | None:
        """The bucket's policy document, or None where it has none."""
        found = self._find("s3", lambda s3: s3.get_bucket_policy(Bucket=name)["Policy"])
        return None if found is None else dict(json.loads(found))

    def secure_bucket(
        self, name: str, *, policy: Mapping[str, Any], kms_key_id: str | None, tags: Mapping[str, str]
    ) -> None:
        """Close the bucket to the public, keep versions, encrypt, set policy and tags; harmless to repeat.

        Without `kms_key_id` an encryption that the bucket has already is left, and so are tags of others.
        """
        self._call("s3", partial(aws_bucket.close, name=name))
        encrypted = self._find("s3", lambda s3: s3.get_bucket_encryption(Bucket=name))
        if kms_key_id or not encrypted:
            self._call("s3", partial(aws_bucket.encrypt, name=name, kms_key_id=kms_key_id))
        self._call("s3", partial(aws_bucket.put_policy, name=name, policy=policy))
        found = self._find("s3", lambda s3: s3.get_bucket_tagging(Bucket=name)["TagSet"])
        merged = {tag["Key"]: tag["Value"] for tag in found or ()} | dict(tags)
        self._call("s3", partial(aws_bucket.put_tags, name=name, tags=merged))

    def object_modified(self, bucket: str, key: str) -> datetime | None:
        """When an object was last written, or None where there is none."""
        found = self._find("s3", lambda s3: s3.head_object(Bucket=bucket, Key=key))
        return None if found is None else found["LastModified"]

    def read_object(self, bucket: str, key: str) -> StoredObject | None:
        """A small object, or None where there is none. Raises AwsError also where there is no such bucket."""
        found: StoredObject | None = self._call("s3", partial(aws_bucket.read, bucket=bucket, key=key))
        return found

    def write_object(
        self, bucket: str, key: str, content: bytes, *, instead_of: str | None, kms_key_id: str | None = None
    ) -> str | None:
        """Write JSON in the place of what was read (its etag; None: of nothing); returns the new etag.

        None where somebody else was first. That may have been this very call: when an answer is lost on its way,
        the call is made again and meets what it wrote. So read again then. Source: S3 user guide, "How to prevent
        object overwrites with conditional writes".
        """
        write = partial(
            aws_bucket.write,
            bucket=bucket,
            key=key,
            content=content,
            instead_of=instead_of,
            kms_key_id=kms_key_id,
        )
        etag: str | None = self._call("s3", write)
        return etag

    # -- calls ------------------------------------------------------------------------------------------

    def _find(self, service: str, ask: Callable[[Any], Any]) -> Any:
        try:
            return self._call(service, ask)
        except AwsError as error:
            if error.aws_code in ABSENT:
                return None
            raise

    def _call(self, service: str, ask: Callable[[Any], Any]) -> Any:
        with translated(service):
            return ask(self._client(service))

    def _bulk(self, service: str) -> Any:
        """A client for many calls at once: a connection for each, and patience with being throttled."""
        return self._client(service, attempts=_BULK_ATTEMPTS, connections=aws_access.WORKERS)

    def _client(self, service: str, *, attempts: int = _ATTEMPTS, connections: int = _CONNECTIONS) -> Any:
        wanted = (service, attempts, connections)
        with self._lock:
            if wanted not in self._clients:
                from botocore.config import Config

                config = Config(
                    connect_timeout=5,
                    read_timeout=30,
                    max_pool_connections=connections,
                    retries={"mode": "standard", "max_attempts": attempts},
                )
                make: Any = self._boto().client
                endpoint = self._environ.get("AWS_ENDPOINT_URL") or None
                try:
                    self._clients[wanted] = make(
                        service, region_name=self.region, config=config, endpoint_url=endpoint
                    )
                except ValueError as error:
                    # What botocore says to an address that is none is no error of its own kind.
                    raise AwsError(
                        f"{service}: {error}", remedy="check AWS_ENDPOINT_URL and region, then run it again"
                    ) from error
            return self._clients[wanted]

    def _boto(self) -> boto3.Session:
        if self._session is None:
            import boto3

            self._session = boto3.Session(botocore_session=self._botocore())
        return self._session

    def _botocore(self) -> Session:
        """A session that takes its credentials from `environ`, or by botocore's chain."""
        if self._core is None:
            from botocore.session import Session

            environ = self._environ
            if self._uses_given_keys():
                # Keys need no profile, and an AWS_PROFILE that does not exist would stop botocore.
                core = Session(session_vars={"profile": (None, None, None, None)})
                keys = self._given_keys()
                core.set_credentials(keys.access_key, keys.secret_key, keys.token)
            else:
                core = Session(profile=self._profile or environ.get("AWS_PROFILE") or None)
            for variable, name in _FILES.items():
                if environ.get(name):
                    core.set_config_variable(variable, environ[name])
            self._core = core
        return self._core

    def _keys(self) -> _Keys:
        """The caller's keys as they are now, fetched anew where they are short-lived."""
        if self._uses_given_keys():
            # No session for them: it would take as long to import as all the rest of a bearer.
            return self._given_keys()
        from botocore.exceptions import NoCredentialsError

        with self._lock:
            credentials = self._botocore().get_credentials()
            if credentials is None:
                raise NoCredentialsError
            return _Keys(*credentials.get_frozen_credentials()[:3])

    def _uses_given_keys(self) -> bool:
        return bool(self._environ.get("AWS_ACCESS_KEY_ID")) and not self._profile

    def _given_keys(self) -> _Keys:
        environ = self._environ
        return _Keys(
            environ["AWS_ACCESS_KEY_ID"],
            environ.get("AWS_SECRET_ACCESS_KEY", ""),
            environ.get("AWS_SESSION_TOKEN") or None,
        )

    def _sts(self) -> str:
        """The address of the region's own STS; without a slash at its end."""
        given = self._environ.get("AWS_ENDPOINT_URL_STS") or self._environ.get("AWS_ENDPOINT_URL")
        if given:
            return given.rstrip("/")
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"https://sts.{self.region}.{suffix}"


def _cluster_version(item: Mapping[str, Any]) -> ClusterVersion:
    def day(name: str) -> date | None:
        found = item.get(name)
        return found.date() if found else None

    return ClusterVersion(
        version=item["clusterVersion"],
        support=item.get("versionStatus") or item.get("status", "").replace("-", "_").upper(),
        default=bool(item.get("defaultVersion")),
        standard_until=day("endOfStandardSupportDate"),
        extended_until=day("endOfExtendedSupportDate"),
    )


def _domain(found: Mapping[str, Any]) -> DomainDescription:
    endpoint = found.get("DomainEndpointOptions") or {}

    def enabled(options: str) -> bool:
        return bool((found.get(options) or {}).get("Enabled"))

    return DomainDescription(
        name=found["DomainName"],
        endpoint=found.get("Endpoint", ""),
        deleted=bool(found.get("Deleted")),
        processing=bool(found.get("Processing") or found.get("UpgradeProcessing")),
        doing=found.get("DomainProcessingStatus", ""),
        encrypted_at_rest=enabled("EncryptionAtRestOptions"),
        node_to_node_encryption=enabled("NodeToNodeEncryptionOptions"),
        enforces_https=bool(endpoint.get("EnforceHTTPS")),
        tls_policy=endpoint.get("TLSSecurityPolicy", ""),
        fine_grained=enabled("AdvancedSecurityOptions"),
    )


# What botocore reads from files, and the variables that name them.
_FILES = {
    "config_file": "AWS_CONFIG_FILE",
    "credentials_file": "AWS_SHARED_CREDENTIALS_FILE",
    "ca_bundle": "AWS_CA_BUNDLE",
}
