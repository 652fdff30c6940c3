"""An AWS stand-in on loopback with hosts that only take notes, and boto3 to speak with it."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.signers import RequestSigner

from cali_infra.sandbox.aws.server import AwsStandIn
from cali_infra.sandbox.ports import ClusterAddress, NodeSpec

REGION = "ap-northeast-2"


@dataclass
class Clusters:
    """A cluster host that notes what it is told."""

    versions: dict[str, str] = field(default_factory=dict)
    nodes: dict[tuple[str, str], list[NodeSpec]] = field(default_factory=dict)
    addons: dict[tuple[str, str], str] = field(default_factory=dict)

    def create(self, name: str, version: str) -> ClusterAddress:
        self.versions[name] = version
        return ClusterAddress(f"https://127.0.0.1:1/{name}", b"the authority")

    def delete(self, name: str) -> None:
        self.versions.pop(name, None)

    def set_nodes(self, name: str, group: str, nodes: Sequence[NodeSpec]) -> None:
        self.nodes[name, group] = list(nodes)

    def set_addon(self, name: str, addon: str, version: str | None) -> None:
        if version is None:
            self.addons.pop((name, addon), None)
        else:
            self.addons[name, addon] = version


@dataclass
class Domains:
    """A domain host that notes the master users."""

    masters: dict[str, tuple[str, str]] = field(default_factory=dict)

    def create(self, name: str, username: str, password: str) -> str:
        self.masters[name] = (username, password)
        return "127.0.0.1:9200"

    def update(self, name: str, username: str, password: str) -> None:
        self.masters[name] = (username, password)

    def delete(self, name: str) -> None:
        self.masters.pop(name, None)


class Time:
    """A clock that a test turns: `seconds` for what takes its time, `ahead` for the time of day."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ahead = 0.0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        # boto3 signs with the real time, so this is the real one plus what a test has turned.
        return datetime.now(UTC) + timedelta(seconds=self.ahead)


@dataclass
class World:
    """A running stand-in, with a VPC over three zones and the roles of a cluster."""

    aws: AwsStandIn
    clusters: Clusters
    domains: Domains
    time: Time
    rejected: list[str]
    names: Iterator[str] = field(default_factory=lambda: (f"c{n}" for n in itertools.count(1)))
    subnets: list[str] = field(default_factory=list)
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str, key: str = "", secret: str = "", token: str | None = None) -> Any:
        """A client of the operator's, or of the key that is given."""
        if not key and service in self.clients:
            return self.clients[service]
        made = boto3.session.Session().client(
            service,
            region_name=REGION,
            endpoint_url=self.aws.endpoint,
            aws_access_key_id=key or self.aws.operator.access_key_id,
            aws_secret_access_key=secret or self.aws.operator.secret_access_key,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )
        if not key:
            self.clients[service] = made
        return made

    @property
    def eks(self) -> Any:
        return self.client("eks")

    @property
    def iam(self) -> Any:
        return self.client("iam")

    def role(self, name: str, service: str = "", *actions: str, path: str = "/") -> str:
        """Make a role that `service` may assume; returns its ARN."""
        principal = {"Service": service} if service else {"AWS": "*"}
        statement = {
            "Effect": "Allow",
            "Principal": principal,
            "Action": ["sts:AssumeRole", *actions],
        }
        trust = {"Version": "2012-10-17", "Statement": [statement]}
        made = self.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(trust))
        return str(made["Role"]["Arn"])

    def user(self, name: str, path: str = "/") -> str:
        return str(self.iam.create_user(UserName=name, Path=path)["User"]["Arn"])

    def key_of(self, user: str) -> Any:
        """An STS client with a new key of a user's."""
        key = self.iam.create_access_key(UserName=user)["AccessKey"]
        return self.client("sts", key["AccessKeyId"], key["SecretAccessKey"])

    @staticmethod
    def token(
        sts: Any,
        cluster: str,
        *,
        header: str = "x-k8s-aws-id",
        url: str = "",
        action: str = "GetCallerIdentity",
    ) -> str:
        """A token as `aws eks get-token` makes it, with the credentials of an STS client."""
        signer = RequestSigner(
            sts.meta.service_model.service_id,
            REGION,
            "sts",
            "v4",
            sts._request_signer._credentials,
            sts.meta.events,
        )
        request = {
            "method": "GET",
            "url": f"{url or sts.meta.endpoint_url}/?Action={action}&Version=2011-06-15",
            "body": {},
            "headers": {header: cluster},
            "context": {},
        }
        signed = signer.generate_presigned_url(request, region_name=REGION, expires_in=60, operation_name="")
        return "k8s-aws-v1." + base64.urlsafe_b64encode(signed.encode()).decode().rstrip("=")

    def refused(self, cluster: str, text: str) -> str:
        """Why a cluster does not let a token in, which it must not."""
        self.rejected.clear()
        assert self.aws.authenticator(cluster, text) is None
        return str(self.rejected[-1])

    def control(self, method: str, what: str, body: Any = None) -> Any:
        """Turn or read one of the stand-in's switches over HTTP."""
        request = urllib.request.Request(
            f"{self.aws.endpoint}/_sandbox/{what}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def cluster(self, **more: Any) -> str:
        """Make a cluster as the eks stack does; returns its name."""
        name = next(self.names)
        wanted = {
            "version": "1.35",
            "roleArn": f"arn:aws:iam::{self.aws.account}:role/cluster",
            "resourcesVpcConfig": {"subnetIds": self.subnets, "endpointPrivateAccess": True},
            "accessConfig": {"authenticationMode": "API"},
            **more,
        }
        self.eks.create_cluster(name=name, **wanted)
        return name

    def nodegroup(self, cluster: str, name: str = "nodes", **more: Any) -> dict[str, Any]:
        wanted = {
            "subnets": self.subnets,
            "nodeRole": f"arn:aws:iam::{self.aws.account}:role/node",
            "scalingConfig": {"minSize": 1, "maxSize": 5, "desiredSize": 3},
            "instanceTypes": ["m6i.xlarge"],
            **more,
        }
        made = self.eks.create_nodegroup(clusterName=cluster, nodegroupName=name, **wanted)
        return dict(made["nodegroup"])


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A stand-in for all tests of this folder; each takes a cluster of its own."""
    clusters, domains, time, rejected = Clusters(), Domains(), Time(), list[str]()
    aws = AwsStandIn(
        clusters,
        domains,
        clock=time.clock,
        now=time.now,
        rejected=lambda cluster, why: rejected.append(why),
    )
    with aws:
        world = World(aws, clusters, domains, time, rejected)
        ec2 = world.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
        for index, zone in enumerate("abc"):
            subnet = ec2.create_subnet(
                VpcId=vpc, CidrBlock=f"10.40.{index}.0/24", AvailabilityZone=f"{REGION}{zone}"
            )
            world.subnets.append(subnet["Subnet"]["SubnetId"])
        world.role("cluster", "eks.amazonaws.com")
        world.role("node", "ec2.amazonaws.com")
        world.role("pod", "pods.eks.amazonaws.com", "sts:TagSession")
        yield world


@pytest.fixture(autouse=True)
def put_back(world: World) -> Iterator[None]:
    """Leave the stand-in to the next test as it was found."""
    yield
    world.aws.controls.clear()
    world.aws.controls.clock.reset()
    world.time.ahead = 0.0


@pytest.fixture
def refuses() -> Callable[..., str]:
    """Call something that AWS has to refuse with a code; returns the message."""

    def check(code: str, call: Callable[..., Any], *names: str, **parameters: Any) -> str:
        from botocore.exceptions import ClientError

        with pytest.raises(ClientError) as refusal:
            call(*names, **parameters)
        assert refusal.value.response["Error"]["Code"] == code, refusal.value
        return str(refusal.value.response["Error"]["Message"])

    return check
