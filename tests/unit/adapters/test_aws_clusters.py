"""What a cluster consists of and what ails it, and how a domain stands: asked of the stand-in of AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from cali_infra.adapters.aws import Aws
from cali_infra.adapters.aws_eks import Addon, Issue, PodIdentity
from cali_infra.errors import AwsError
from cali_infra.sandbox.aws.server import AwsStandIn
from cali_infra.sandbox.ports import ClusterAddress

# An account of its own: moto's are the process's.
ACCOUNT, REGION, NAME = "400000000006", "ap-northeast-2", "demo"


class Hosts:
    """Hosts that run nothing."""

    def create(self, name: str, *rest: str) -> Any:
        return "127.0.0.1:9200" if len(rest) == 2 else ClusterAddress("https://127.0.0.1:1", b"ca")

    def delete(self, name: str) -> None: ...

    def update(self, name: str, username: str, password: str) -> None: ...

    def set_nodes(self, name: str, group: str, nodes: object) -> None: ...

    def set_addon(self, name: str, addon: str, version: str | None) -> None: ...


@dataclass
class Made:
    """A stand-in with a cluster in it, and the door to it."""

    standin: AwsStandIn
    aws: Aws
    role: str


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    with AwsStandIn(Hosts(), Hosts(), account=ACCOUNT) as standin:
        environ = dict(standin.environment(REGION))

        def client(service: str) -> Any:
            return boto3.session.Session().client(
                service,
                region_name=REGION,
                endpoint_url=standin.endpoint,
                aws_access_key_id=standin.operator.access_key_id,
                aws_secret_access_key=standin.operator.secret_access_key,
            )

        iam, ec2, eks = client("iam"), client("ec2"), client("eks")

        def role(name: str, service: str) -> str:
            actions = ["sts:AssumeRole", "sts:TagSession"]
            statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": actions}
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            return str(iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"])

        vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.40.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")[
                "Subnet"
            ]["SubnetId"]
            for n, zone in enumerate("ab")
        ]
        cluster = role("cluster", "eks.amazonaws.com")
        eks.create_cluster(name=NAME, roleArn=cluster, resourcesVpcConfig={"subnetIds": subnets})
        eks.create_nodegroup(
            clusterName=NAME,
            nodegroupName="nodes",
            subnets=subnets,
            nodeRole=role("node", "ec2.amazonaws.com"),
        )
        for addon in ("vpc-cni", "coredns"):
            eks.create_addon(clusterName=NAME, addonName=addon)
        pod = role("pod", "pods.eks.amazonaws.com")
        eks.create_pod_identity_association(
            clusterName=NAME, namespace="kube-system", serviceAccount="aws-node", roleArn=pod
        )
        client("opensearch").create_domain(DomainName=NAME)
        yield Made(standin, Aws(REGION, environ), pod)


@pytest.fixture(autouse=True)
def put_back(made: Made) -> Iterator[None]:
    yield
    made.standin.controls.clear()


def test_node_groups_with_their_scaling_groups_and_issues(made: Made) -> None:
    (group,) = made.aws.node_groups(NAME)
    assert (group.name, group.status, group.version, group.issues) == ("nodes", "ACTIVE", "1.35", ())
    assert group.scaling_groups[0].startswith("eks-nodes-")

    issue = {"code": "Ec2SubnetNotFound", "message": "the subnet is gone", "resourceIds": ["subnet-1"]}
    made.standin.controls.ail("nodegroup", "nodes", {"status": "DEGRADED", "health": {"issues": [issue]}})
    (group,) = made.aws.node_groups(NAME)
    assert group.status == "DEGRADED"
    assert group.issues == (Issue("Ec2SubnetNotFound", "the subnet is gone", ("subnet-1",)),)
    assert str(group.issues[0]) == "Ec2SubnetNotFound: the subnet is gone (subnet-1)"


def test_addons_by_name(made: Made) -> None:
    coredns, cni = made.aws.addons(NAME)
    assert (coredns.name, coredns.status, coredns.issues) == ("coredns", "ACTIVE", ())
    assert isinstance(cni, Addon) and cni.version.startswith("v")


def test_a_pod_identity_says_which_role_it_gives(made: Made) -> None:
    assert made.aws.pod_identities(NAME) == (PodIdentity("kube-system", "aws-node", made.role),)


def test_a_cluster_with_what_ails_it(made: Made) -> None:
    found = made.aws.cluster(NAME)
    assert found is not None and found.issues == ()
    issue = {"code": "KmsKeyDisabled", "message": "off", "resourceIds": []}
    made.standin.controls.ail("cluster", NAME, {"health": {"issues": [issue]}})
    found = made.aws.cluster(NAME)
    assert found is not None
    assert [str(each) for each in found.issues] == ["KmsKeyDisabled: off"]


def test_a_domain_that_encrypts_nothing(made: Made) -> None:
    found = made.aws.domain(NAME)
    assert found is not None
    assert not (found.encrypted_at_rest or found.node_to_node_encryption or found.enforces_https)
    assert not (found.fine_grained or found.processing)
    assert found.tls_policy == "Policy-Min-TLS-1-2-2019-07"
    made.standin.controls.ail("domain", NAME, {"Processing": True, "DomainProcessingStatus": "Modifying"})
    found = made.aws.domain(NAME)
    assert found is not None
    assert (found.processing, found.doing) == (True, "Modifying")


def test_a_cluster_that_there_is_not_is_an_error_with_the_code(made: Made) -> None:
    for ask in (made.aws.node_groups, made.aws.addons, made.aws.pod_identities):
        with pytest.raises(AwsError) as caught:
            ask("no-such")
        assert caught.value.aws_code == "ResourceNotFoundException"
