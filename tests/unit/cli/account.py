"""An AWS account in this process, with a cluster and a domain as `cali up` leaves them, and people with keys."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3

from cali_infra.sandbox.aws.server import AwsStandIn
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.opensearch.standin import OpenSearchStandIn
from cali_infra.sandbox.ports import Caller, NodeSpec

REGION = "ap-northeast-2"
NAME = "cali-default"
MASTER = ("cali-admin", "Master-1-password")


@dataclass
class Account:
    """The stand-ins of one account; `number` is its own, as moto keeps accounts apart by it."""

    number: str
    folder: Path
    keys: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.authority = Authority.create()
        self.ca_file = self.folder / "ca.pem"
        self.ca_file.write_bytes(self.authority.ca_pem)
        self.kubernetes = KubernetesStandIn(self.authority, self._authenticate)
        self.opensearch = OpenSearchStandIn(self.authority)
        self.aws = AwsStandIn(self.kubernetes, self.opensearch, account=self.number)

    def start(self) -> None:
        self.aws.start()

    def close(self) -> None:
        self.aws.stop()
        self.kubernetes.close()
        self.opensearch.close()

    def client(self, service: str) -> Any:
        """A client of the operator's."""
        operator = self.aws.operator
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.aws.endpoint,
            aws_access_key_id=operator.access_key_id,
            aws_secret_access_key=operator.secret_access_key,
        )

    def make_cluster(self) -> None:
        """A cluster with a node."""
        ec2, iam = self.client("ec2"), self.client("iam")
        vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.40.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")[
                "Subnet"
            ]["SubnetId"]
            for n, zone in enumerate("ab")
        ]
        trust = {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName="cluster", AssumeRolePolicyDocument=policy)
        self.eks.create_cluster(
            name=NAME,
            version="1.35",
            roleArn=f"arn:aws:iam::{self.number}:role/cluster",
            resourcesVpcConfig={
                "subnetIds": subnets,
                "endpointPublicAccess": False,
                "endpointPrivateAccess": True,
            },
            accessConfig={"authenticationMode": "API"},
        )
        self.kubernetes.set_nodes(NAME, "workers", [NodeSpec("node-1", f"{REGION}a", "m6i.xlarge")])

    def make_domain(self) -> str:
        """A domain; returns its address."""
        user, password = MASTER
        search = self.client("opensearch")
        search.create_domain(
            DomainName=NAME,
            EngineVersion="OpenSearch_2.19",
            EncryptionAtRestOptions={"Enabled": True},
            NodeToNodeEncryptionOptions={"Enabled": True},
            DomainEndpointOptions={"EnforceHTTPS": True},
            AdvancedSecurityOptions={
                "Enabled": True,
                "InternalUserDatabaseEnabled": True,
                "MasterUserOptions": {"MasterUserName": user, "MasterUserPassword": password},
            },
        )
        return str(search.describe_domain(DomainName=NAME)["DomainStatus"]["Endpoint"])

    def add(self, name: str, policy: str | None = None) -> None:
        """Somebody with keys, and with an access entry and that policy of the cluster if any."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.attach_user_policy(UserName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.keys[name] = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        if policy:
            arn = f"arn:aws:iam::{self.number}:user/{name}"
            self.eks.create_access_entry(clusterName=NAME, principalArn=arn)
            self.eks.associate_access_policy(
                clusterName=NAME,
                principalArn=arn,
                policyArn=f"arn:aws:eks::aws:cluster-access-policy/{policy}",
                accessScope={"type": "cluster"},
            )

    def environ(self, name: str) -> dict[str, str]:
        """What somebody's shell holds."""
        return {"AWS_ENDPOINT_URL": self.aws.endpoint, **self.keys[name]}

    @cached_property
    def eks(self) -> Any:
        return self.client("eks")

    def _authenticate(self, cluster: str, token: str) -> Caller | None:
        return self.aws.authenticator(cluster, token)
