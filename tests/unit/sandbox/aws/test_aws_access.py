"""Access entries: who may get one, what it gives, and the entries that EKS makes by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Refuses = Callable[..., str]
POLICIES = "arn:aws:eks::aws:cluster-access-policy/"


def test_the_creator_of_a_cluster_administers_it(world: Any) -> None:
    cluster = world.cluster()
    operator = world.aws.operator.arn
    assert world.eks.list_access_entries(clusterName=cluster)["accessEntries"] == [operator]
    policies = world.eks.list_associated_access_policies(clusterName=cluster, principalArn=operator)
    [admin] = policies["associatedAccessPolicies"]
    assert admin["policyArn"] == POLICIES + "AmazonEKSClusterAdminPolicy"
    assert admin["accessScope"] == {"type": "cluster", "namespaces": []}


def test_the_creator_gets_nothing_when_it_does_not_want_to(world: Any) -> None:
    config = {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False}
    cluster = world.cluster(accessConfig=config)
    assert world.eks.list_access_entries(clusterName=cluster)["accessEntries"] == []


def test_an_assumed_role_creates_as_its_role(world: Any) -> None:
    arn = world.role("Lead", path="/team/")
    taken = world.client("sts").assume_role(RoleArn=arn, RoleSessionName="kim")["Credentials"]
    eks = world.client("eks", taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    eks.create_cluster(
        name="by-role",
        roleArn=f"arn:aws:iam::{world.aws.account}:role/cluster",
        resourcesVpcConfig={"subnetIds": world.subnets},
        accessConfig={"authenticationMode": "API"},
    )
    assert eks.list_access_entries(clusterName="by-role")["accessEntries"] == [arn]


def test_nodes_get_an_entry_that_goes_with_their_group(world: Any) -> None:
    cluster = world.cluster()
    world.nodegroup(cluster)
    role = f"arn:aws:iam::{world.aws.account}:role/node"
    entry = world.eks.describe_access_entry(clusterName=cluster, principalArn=role)["accessEntry"]
    assert entry["type"] == "EC2_LINUX"
    assert entry["username"] == "system:node:{{EC2PrivateDNSName}}"
    world.eks.delete_nodegroup(clusterName=cluster, nodegroupName="nodes")
    assert role not in world.eks.list_access_entries(clusterName=cluster)["accessEntries"]


def test_a_teammate_gets_an_entry_and_a_policy(world: Any, refuses: Refuses) -> None:
    cluster, alice = world.cluster(), world.user("alice", "/team/")
    of_alice = {"clusterName": cluster, "principalArn": alice}
    entry = world.eks.create_access_entry(**of_alice, tags={"name": "앨리스"})["accessEntry"]
    assert (entry["type"], entry["username"], entry["tags"]) == ("STANDARD", alice, {"name": "앨리스"})
    assert world.eks.list_associated_access_policies(**of_alice)["associatedAccessPolicies"] == []

    edit = {"policyArn": POLICIES + "AmazonEKSEditPolicy"}
    scope = {"type": "namespace", "namespaces": ["logging", "team-*"]}
    world.eks.associate_access_policy(**of_alice, **edit, accessScope=scope)
    [given] = world.eks.list_associated_access_policies(**of_alice)["associatedAccessPolicies"]
    assert given["accessScope"] == scope
    world.eks.associate_access_policy(**of_alice, **edit, accessScope={"type": "cluster"})
    [widened] = world.eks.list_associated_access_policies(**of_alice)["associatedAccessPolicies"]
    assert widened["accessScope"]["type"] == "cluster"
    assert widened["associatedAt"] == given["associatedAt"]
    listed = world.eks.list_access_entries(clusterName=cluster, associatedPolicyArn=edit["policyArn"])
    assert listed["accessEntries"] == [alice]

    world.eks.disassociate_access_policy(**of_alice, **edit)
    refuses("ResourceNotFoundException", world.eks.disassociate_access_policy, **of_alice, **edit)
    world.eks.delete_access_entry(**of_alice)
    refuses("ResourceNotFoundException", world.eks.describe_access_entry, **of_alice)
    refuses("ResourceNotFoundException", world.eks.delete_access_entry, **of_alice)


def test_an_entry_that_exists_is_in_use(world: Any, refuses: Refuses) -> None:
    cluster, bob = world.cluster(), world.user("bob")
    world.eks.create_access_entry(clusterName=cluster, principalArn=bob)
    message = refuses(
        "ResourceInUseException", world.eks.create_access_entry, clusterName=cluster, principalArn=bob
    )
    assert "already in use" in message


def test_a_call_whose_answer_was_lost_may_be_sent_again(world: Any, refuses: Refuses) -> None:
    cluster, bob = world.cluster(), world.user("bo")
    call = {"clusterName": cluster, "principalArn": bob, "clientRequestToken": "one"}
    first = world.eks.create_access_entry(**call)["accessEntry"]

    assert world.eks.create_access_entry(**call)["accessEntry"] == first
    refuses("ResourceInUseException", world.eks.create_access_entry, **{**call, "clientRequestToken": "two"})
    assert "other parameters" in refuses(
        "SandboxNotModelled", world.eks.create_access_entry, **call, username="somebody"
    )


@pytest.mark.parametrize(
    "principal",
    [
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:group/devs",
        "arn:aws:sts::123456789012:assumed-role/Dev/kim",
        "arn:aws:sts::123456789012:federated-user/kim",
        "arn:aws:iam::123456789012:user/*",
        "arn:aws:iam::123456789012:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS",
        "alice",
    ],
)
def test_only_users_and_roles_get_an_entry(world: Any, refuses: Refuses, principal: str) -> None:
    create = world.eks.create_access_entry
    refuses("InvalidParameterException", create, clusterName=world.cluster(), principalArn=principal)


def test_a_principal_that_iam_does_not_know_gets_an_entry_unless_told_otherwise(
    world: Any, refuses: Refuses
) -> None:
    cluster, arn = world.cluster(), f"arn:aws:iam::{world.aws.account}:user/of-the-real-account"
    world.aws.controls.strict_principals = True
    create = world.eks.create_access_entry
    refuses("InvalidParameterException", create, clusterName=cluster, principalArn=arn)
    world.aws.controls.strict_principals = False
    create(clusterName=cluster, principalArn=arn)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"kubernetesGroups": ["system:masters"]}, "system:masters"),
        ({"username": "system:admin"}, "system:admin"),
        ({"type": "ROOT"}, "ROOT"),
        ({"type": "EC2_LINUX"}, "needs an IAM role"),
    ],
)
def test_what_kubernetes_keeps_for_itself_is_refused(
    world: Any, refuses: Refuses, more: dict[str, Any], named: str
) -> None:
    arn = f"arn:aws:iam::{world.aws.account}:user/sandbox/someone"
    create = world.eks.create_access_entry
    message = refuses(
        "InvalidParameterException", create, clusterName=world.cluster(), principalArn=arn, **more
    )
    assert named in message


@pytest.mark.parametrize(
    ("policy", "scope"),
    [
        ("NoSuchPolicy", {"type": "cluster"}),
        ("AmazonEKSEditPolicy", {"type": "namespace", "namespaces": []}),
        ("AmazonEKSEditPolicy", {"type": "namespace", "namespaces": ["Not_A_Name"]}),
        ("AmazonEKSEditPolicy", {"type": "planet"}),
    ],
)
def test_a_wrong_policy_or_scope_is_refused(
    world: Any, refuses: Refuses, policy: str, scope: dict[str, Any]
) -> None:
    refuses(
        "InvalidParameterException",
        world.eks.associate_access_policy,
        clusterName=world.cluster(),
        principalArn=world.aws.operator.arn,
        policyArn=POLICIES + policy,
        accessScope=scope,
    )


def test_nodes_take_no_policy(world: Any, refuses: Refuses) -> None:
    cluster = world.cluster()
    world.nodegroup(cluster)
    refuses(
        "InvalidRequestException",
        world.eks.associate_access_policy,
        clusterName=cluster,
        principalArn=f"arn:aws:iam::{world.aws.account}:role/node",
        policyArn=POLICIES + "AmazonEKSViewPolicy",
        accessScope={"type": "cluster"},
    )


def test_a_cluster_of_the_config_map_has_no_entries(world: Any, refuses: Refuses) -> None:
    cluster = world.cluster(accessConfig={"authenticationMode": "CONFIG_MAP"})
    refuses("InvalidRequestException", world.eks.list_access_entries, clusterName=cluster)
    mode = {"authenticationMode": "API"}
    world.eks.update_cluster_config(name=cluster, accessConfig=mode)
    world.eks.list_access_entries(clusterName=cluster)
    back = {"authenticationMode": "CONFIG_MAP"}
    refuses("InvalidParameterException", world.eks.update_cluster_config, name=cluster, accessConfig=back)


def test_entries_come_in_pages(world: Any) -> None:
    cluster = world.cluster()
    for index in range(4):
        arn = f"arn:aws:iam::999999999999:user/u{index}"
        world.eks.create_access_entry(clusterName=cluster, principalArn=arn)
    pages = world.eks.get_paginator("list_access_entries").paginate(
        clusterName=cluster, PaginationConfig={"PageSize": 2}
    )
    sizes = [len(page["accessEntries"]) for page in pages]
    assert sizes == [2, 2, 1]


def test_entries_take_tags(world: Any) -> None:
    cluster = world.cluster()
    entry = world.eks.describe_access_entry(clusterName=cluster, principalArn=world.aws.operator.arn)
    arn = entry["accessEntry"]["accessEntryArn"]
    world.eks.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
    world.eks.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert world.eks.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}
