"""Clusters, node groups, add-ons and pod identities, as boto3 and Terraform's provider see them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from cali_infra.sandbox.aws.eks import catalog

Refuses = Callable[..., str]


def test_a_cluster_is_active_with_its_api_server(world: Any) -> None:
    name = world.cluster(tags={"stack": "eks"})
    cluster = world.eks.describe_cluster(name=name)["cluster"]
    assert world.clusters.versions[name] == "1.35"
    assert cluster["status"] == "ACTIVE"
    assert cluster["endpoint"] == f"https://127.0.0.1:1/{name}"
    assert base64.b64decode(cluster["certificateAuthority"]["data"]) == b"the authority"
    assert cluster["accessConfig"]["authenticationMode"] == "API"
    assert cluster["kubernetesNetworkConfig"]["serviceIpv4Cidr"] == "172.20.0.0/16"
    assert cluster["identity"]["oidc"]["issuer"].startswith(
        "https://oidc.eks.ap-northeast-2.amazonaws.com/id/"
    )
    assert cluster["tags"] == {"stack": "eks"}
    assert name in world.eks.list_clusters()["clusters"]
    group = cluster["resourcesVpcConfig"]["clusterSecurityGroupId"]
    groups = world.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert groups[0]["GroupName"].startswith(f"eks-cluster-sg-{name}-")


def test_a_deleted_cluster_is_gone_at_once_with_all_it_had(world: Any, refuses: Refuses) -> None:
    name = world.cluster()
    group = world.eks.describe_cluster(name=name)["cluster"]["resourcesVpcConfig"]["clusterSecurityGroupId"]
    assert world.eks.delete_cluster(name=name)["cluster"]["status"] == "DELETING"
    refuses("ResourceNotFoundException", world.eks.describe_cluster, name=name)
    refuses("ResourceNotFoundException", world.eks.list_access_entries, clusterName=name)
    assert name not in world.clusters.versions
    refuses("InvalidGroup.NotFound", world.client("ec2").describe_security_groups, GroupIds=[group])


def test_a_cluster_with_nodes_is_not_deleted(world: Any, refuses: Refuses) -> None:
    name = world.cluster()
    world.nodegroup(name)
    refuses("ResourceInUseException", world.eks.delete_cluster, name=name)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"version": "1.12"}, "InvalidParameterException"),
        ({"roleArn": "arn:aws:iam::123456789012:role/none"}, "InvalidParameterException"),
        ({"roleArn": "arn:aws:iam::123456789012:role/node"}, "InvalidParameterException"),
        ({"roleArn": "arn:aws:iam::999999999999:role/cluster"}, "AccessDeniedException"),
        ({"resourcesVpcConfig": {"subnetIds": ["subnet-none"]}}, "InvalidParameterException"),
        ({"resourcesVpcConfig": {"subnetIds": []}}, "InvalidParameterException"),
        ({"accessConfig": {"authenticationMode": "GUESS"}}, "InvalidParameterException"),
        ({"remoteNetworkConfig": {"remoteNodeNetworks": [{"cidrs": ["10.9.0.0/16"]}]}}, "SandboxNotModelled"),
    ],
)
def test_a_wrong_cluster_is_refused(world: Any, refuses: Refuses, wrong: dict[str, Any], code: str) -> None:
    before = set(world.clusters.versions)
    refuses(code, world.cluster, **wrong)
    assert set(world.clusters.versions) == before


def test_one_zone_is_not_enough(world: Any, refuses: Refuses) -> None:
    network = {"subnetIds": world.subnets[:1]}
    assert "two different AZs" in refuses(
        "InvalidParameterException", world.cluster, resourcesVpcConfig=network
    )


def test_a_name_is_given_once(world: Any, refuses: Refuses) -> None:
    name = world.cluster()
    refuses(
        "ResourceInUseException",
        world.eks.create_cluster,
        name=name,
        roleArn=f"arn:aws:iam::{world.aws.account}:role/cluster",
        resourcesVpcConfig={"subnetIds": world.subnets},
    )


def test_a_slow_cluster_is_creating_until_its_time_has_come(world: Any, refuses: Refuses) -> None:
    world.aws.controls.delay("cluster_create", 600)
    name = world.cluster()
    world.aws.controls.clear()
    creating = world.eks.describe_cluster(name=name)["cluster"]
    assert creating["status"] == "CREATING"
    assert "endpoint" not in creating
    refuses("InvalidRequestException", world.nodegroup, name)
    assert "in progress" in refuses("ResourceInUseException", world.eks.delete_cluster, name=name)
    world.time.seconds += 600
    cluster = world.eks.describe_cluster(name=name)["cluster"]
    assert (cluster["status"], cluster["endpoint"]) == ("ACTIVE", f"https://127.0.0.1:1/{name}")


def test_a_creation_may_end_badly(world: Any) -> None:
    world.aws.controls.delay("cluster_create", 5, "FAILED")
    name = world.cluster()
    world.aws.controls.clear()
    world.time.seconds += 5
    assert world.eks.describe_cluster(name=name)["cluster"]["status"] == "FAILED"
    world.eks.delete_cluster(name=name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {"endpointPublicAccess": False}),
        (None, {"publicAccessCidrs": ["203.0.113.7/32"]}),
    ],
)
def test_the_public_endpoint_changes(
    world: Any, refuses: Refuses, before: Any, after: dict[str, Any]
) -> None:
    name = world.cluster()
    network = world.eks.describe_cluster(name=name)["cluster"]["resourcesVpcConfig"]
    assert network["publicAccessCidrs"] == ["0.0.0.0/0"]
    update = world.eks.update_cluster_config(name=name, resourcesVpcConfig=after)["update"]
    assert world.eks.describe_update(name=name, updateId=update["id"])["update"]["status"] == "Successful"
    network = world.eks.describe_cluster(name=name)["cluster"]["resourcesVpcConfig"]
    for key, value in after.items():
        assert network[key] == value
    if not network["endpointPublicAccess"]:
        assert network["publicAccessCidrs"] == []
    again = {"name": name, "resourcesVpcConfig": after}
    message = refuses("InvalidParameterException", world.eks.update_cluster_config, **again)
    assert "already at the desired configuration" in message


def test_logging_upgrade_policy_and_version_change(world: Any, refuses: Refuses) -> None:
    name = world.cluster(version="1.34", logging={"clusterLogging": [{"types": ["api"], "enabled": True}]})
    types = ["audit", "api"]
    logging = {"clusterLogging": [{"types": types, "enabled": True}]}
    world.eks.update_cluster_config(name=name, logging=logging)
    policy = {"supportType": "STANDARD"}
    world.eks.update_cluster_config(name=name, upgradePolicy=policy)
    both = {"name": name, "logging": logging, "upgradePolicy": policy}
    refuses("InvalidParameterException", world.eks.update_cluster_config, **both)
    refuses("InvalidParameterException", world.eks.update_cluster_version, name=name, version="1.36")
    world.eks.update_cluster_version(name=name, version="1.35")
    cluster = world.eks.describe_cluster(name=name)["cluster"]
    assert cluster["version"] == "1.35"
    assert cluster["upgradePolicy"] == policy
    assert [each for each in cluster["logging"]["clusterLogging"] if each["enabled"]] == [
        {"types": ["api", "audit"], "enabled": True}
    ]
    assert len(world.eks.list_updates(name=name)["updateIds"]) == 3


def test_the_versions_say_how_long_they_are_supported() -> None:
    newest = catalog.version("1.35")
    older = catalog.version("1.34")
    assert newest is not None
    assert older is not None
    assert newest.document(date(2026, 6, 1))["defaultVersion"] is True
    assert newest.document(date(2026, 6, 1))["endOfStandardSupportDate"] == datetime(2027, 3, 27, tzinfo=UTC)
    assert older.status(date(2026, 12, 2)) == "STANDARD_SUPPORT"
    assert older.status(date(2026, 12, 3)) == "EXTENDED_SUPPORT"
    assert older.status(date(2027, 12, 3)) == "UNSUPPORTED"


def test_the_default_version_can_be_asked_for(world: Any) -> None:
    [default] = world.eks.describe_cluster_versions(defaultOnly=True)["clusterVersions"]
    assert default["clusterVersion"] == "1.35"
    named = world.eks.describe_cluster_versions(clusterVersions=["1.29"])["clusterVersions"]
    assert [each["clusterVersion"] for each in named] == ["1.29"]


def test_a_node_group_has_nodes_in_every_zone_and_a_group_that_the_autoscaler_finds(world: Any) -> None:
    cluster = world.cluster()
    group = world.nodegroup(cluster, labels={"team": "logs"})
    assert group["status"] == "ACTIVE"
    [scaling] = group["resources"]["autoScalingGroups"]
    found = world.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[scaling["name"]])
    [record] = found["AutoScalingGroups"]
    assert (record["MinSize"], record["DesiredCapacity"], record["MaxSize"]) == (1, 3, 5)
    assert len(record["Instances"]) == 3
    tags = {tag["Key"]: tag["Value"] for tag in record["Tags"]}
    assert tags == {
        "eks:cluster-name": cluster,
        "eks:nodegroup-name": "nodes",
        f"k8s.io/cluster-autoscaler/{cluster}": "owned",
        "k8s.io/cluster-autoscaler/enabled": "true",
        f"kubernetes.io/cluster/{cluster}": "owned",
    }
    nodes = world.clusters.nodes[cluster, "nodes"]
    assert sorted(node.zone[-1] for node in nodes) == ["a", "b", "c"]
    assert all(node.name.endswith(".ap-northeast-2.compute.internal") for node in nodes)
    assert nodes[0].labels["team"] == "logs"
    assert nodes[0].labels["eks.amazonaws.com/nodegroup"] == "nodes"

    world.eks.delete_nodegroup(clusterName=cluster, nodegroupName="nodes")
    assert world.clusters.nodes[cluster, "nodes"] == []
    assert world.eks.list_nodegroups(clusterName=cluster)["nodegroups"] == []
    found = world.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[scaling["name"]])
    assert found["AutoScalingGroups"] == []


def test_a_node_group_grows_and_shrinks(world: Any) -> None:
    cluster = world.cluster()
    world.nodegroup(cluster, taints=[{"key": "a", "value": "1", "effect": "NO_SCHEDULE"}])
    of_group = {"clusterName": cluster, "nodegroupName": "nodes"}
    for size in (5, 1):
        update = world.eks.update_nodegroup_config(
            **of_group,
            scalingConfig={"minSize": 1, "maxSize": 6, "desiredSize": size},
            labels={"addOrUpdateLabels": {"size": str(size)}},
            taints={"removeTaints": [{"key": "a", "value": "1", "effect": "NO_SCHEDULE"}]},
        )["update"]
        world.eks.describe_update(name=cluster, updateId=update["id"], nodegroupName="nodes")
        assert len(world.clusters.nodes[cluster, "nodes"]) == size
    group = world.eks.describe_nodegroup(**of_group)["nodegroup"]
    assert (group["labels"], group["taints"]) == ({"size": "1"}, [])


def test_a_node_group_follows_its_launch_template(world: Any, refuses: Refuses) -> None:
    template = world.client("ec2").create_launch_template(
        LaunchTemplateName="nodes", LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}}
    )["LaunchTemplate"]
    wanted = {"id": template["LaunchTemplateId"], "version": "1"}
    cluster = world.cluster()
    message = refuses(
        "InvalidParameterException", world.nodegroup, cluster, launchTemplate=wanted, diskSize=50
    )
    assert "Disk size" in message
    group = world.nodegroup(cluster, launchTemplate=wanted)
    assert group["launchTemplate"] == {"name": "nodes", **wanted}
    assert "diskSize" not in group
    world.client("ec2").create_launch_template_version(LaunchTemplateName="nodes", LaunchTemplateData={})
    world.eks.update_nodegroup_version(
        clusterName=cluster, nodegroupName="nodes", launchTemplate={"name": "nodes", "version": "2"}
    )
    group = world.eks.describe_nodegroup(clusterName=cluster, nodegroupName="nodes")["nodegroup"]
    assert group["launchTemplate"]["version"] == "2"


@pytest.mark.parametrize(
    "wrong",
    [
        {"scalingConfig": {"minSize": 3, "maxSize": 5, "desiredSize": 2}},
        {"scalingConfig": {"minSize": 3, "maxSize": 2, "desiredSize": 3}},
        {"scalingConfig": {"minSize": 1, "maxSize": 2, "desiredSize": 3}},
        {"nodeRole": "arn:aws:iam::123456789012:role/cluster"},
        {"version": "1.34"},
        {"subnets": ["subnet-none"]},
    ],
)
def test_a_wrong_node_group_is_refused(world: Any, refuses: Refuses, wrong: dict[str, Any]) -> None:
    cluster = world.cluster()
    refuses("InvalidParameterException", world.nodegroup, cluster, **wrong)
    assert world.eks.list_nodegroups(clusterName=cluster)["nodegroups"] == []


def test_a_slow_node_group_may_fail(world: Any) -> None:
    cluster = world.cluster()
    world.aws.controls.delay("nodegroup_create", 30, "CREATE_FAILED")
    assert world.nodegroup(cluster)["status"] == "CREATING"
    world.aws.controls.clear()
    world.time.seconds += 30
    group = world.eks.describe_nodegroup(clusterName=cluster, nodegroupName="nodes")["nodegroup"]
    assert group["status"] == "CREATE_FAILED"


def test_add_ons_with_pods_wait_for_nodes(world: Any) -> None:
    cluster = world.cluster()
    for addon in ("vpc-cni", "coredns"):
        world.eks.create_addon(clusterName=cluster, addonName=addon)

    def status(addon: str) -> tuple[str, list[str]]:
        shown = world.eks.describe_addon(clusterName=cluster, addonName=addon)["addon"]
        return shown["status"], [issue["code"] for issue in shown["health"]["issues"]]

    assert status("vpc-cni") == ("ACTIVE", [])
    assert status("coredns") == ("DEGRADED", ["InsufficientNumberOfReplicas"])
    world.nodegroup(cluster)
    assert status("coredns") == ("ACTIVE", [])
    assert world.eks.list_addons(clusterName=cluster)["addons"] == ["vpc-cni", "coredns"]


def test_an_add_on_brings_its_pod_identity_along(world: Any, refuses: Refuses) -> None:
    cluster = world.cluster()
    role = f"arn:aws:iam::{world.aws.account}:role/pod"
    identity = {"serviceAccount": "ebs-csi-controller-sa", "roleArn": role}
    of_addon = {"clusterName": cluster, "addonName": "aws-ebs-csi-driver"}
    addon = world.eks.create_addon(**of_addon, podIdentityAssociations=[identity])["addon"]
    [listed] = world.eks.list_pod_identity_associations(clusterName=cluster)["associations"]
    assert addon["podIdentityAssociations"] == [listed["associationArn"]]
    assert listed["ownerArn"] == addon["addonArn"]
    assert world.clusters.addons[cluster, "aws-ebs-csi-driver"] == addon["addonVersion"]
    of_association = {"clusterName": cluster, "associationId": listed["associationId"]}
    refuses("InvalidRequestException", world.eks.delete_pod_identity_association, **of_association)
    world.eks.delete_addon(**of_addon)
    assert world.eks.list_pod_identity_associations(clusterName=cluster)["associations"] == []
    assert (cluster, "aws-ebs-csi-driver") not in world.clusters.addons
    refuses("ResourceNotFoundException", world.eks.describe_addon, **of_addon)


def test_the_versions_and_the_settings_of_add_ons_can_be_asked_for(world: Any, refuses: Refuses) -> None:
    [cni] = world.eks.describe_addon_versions(addonName="vpc-cni", kubernetesVersion="1.35")["addons"]
    newest, default = cni["addonVersions"]
    assert default["compatibilities"][0]["defaultVersion"] is True
    assert newest["compatibilities"][0]["defaultVersion"] is False
    schema = world.eks.describe_addon_configuration(addonName="vpc-cni", addonVersion=newest["addonVersion"])
    assert "env" in json.loads(schema["configurationSchema"])["properties"]
    cluster = world.cluster()
    of_cni = {"clusterName": cluster, "addonName": "vpc-cni"}
    create = world.eks.create_addon
    refuses("InvalidParameterException", create, **of_cni, addonVersion="v0.0.1")
    refuses("InvalidParameterException", create, **of_cni, configurationValues='{"enviroment": {}}')
    refuses("InvalidParameterException", create, clusterName=cluster, addonName="no-such-add-on")
    create(**of_cni, configurationValues='{"env": {"A": "1"}}')
    refuses("ResourceInUseException", create, **of_cni)
    update = world.eks.update_addon(**of_cni, addonVersion=newest["addonVersion"])["update"]
    world.eks.describe_update(name=cluster, updateId=update["id"], addonName="vpc-cni")
    assert world.clusters.addons[cluster, "vpc-cni"] == newest["addonVersion"]


def test_pods_get_a_role_once(world: Any, refuses: Refuses) -> None:
    cluster = world.cluster()
    wanted = {
        "clusterName": cluster,
        "namespace": "kube-system",
        "serviceAccount": "cluster-autoscaler",
        "roleArn": f"arn:aws:iam::{world.aws.account}:role/pod",
    }
    made = world.eks.create_pod_identity_association(**wanted, tags={"a": "b"})["association"]
    assert made["associationId"].startswith("a-")
    refuses("ResourceInUseException", world.eks.create_pod_identity_association, **wanted)
    of_it = {"clusterName": cluster, "associationId": made["associationId"]}
    other = world.role(f"pod-{cluster}", "pods.eks.amazonaws.com", "sts:TagSession")
    world.eks.update_pod_identity_association(**of_it, roleArn=other)
    assert world.eks.describe_pod_identity_association(**of_it)["association"]["roleArn"] == other
    listed = world.eks.list_pod_identity_associations(clusterName=cluster, namespace="default")
    assert listed["associations"] == []
    world.eks.delete_pod_identity_association(**of_it)
    refuses("ResourceNotFoundException", world.eks.describe_pod_identity_association, **of_it)


def test_a_role_that_pods_may_not_tag_is_refused(world: Any, refuses: Refuses) -> None:
    role = world.role("untagged", "pods.eks.amazonaws.com")
    message = refuses(
        "InvalidParameterException",
        world.eks.create_pod_identity_association,
        clusterName=world.cluster(),
        namespace="x",
        serviceAccount="y",
        roleArn=role,
    )
    assert "sts:TagSession" in message


def test_everything_takes_tags(world: Any, refuses: Refuses) -> None:
    cluster = world.cluster()
    arns = [
        world.eks.describe_cluster(name=cluster)["cluster"]["arn"],
        world.nodegroup(cluster)["nodegroupArn"],
        world.eks.create_addon(clusterName=cluster, addonName="kube-proxy")["addon"]["addonArn"],
    ]
    for arn in arns:
        world.eks.tag_resource(resourceArn=arn, tags={"stack": "eks", "gone": "1"})
        world.eks.untag_resource(resourceArn=arn, tagKeys=["gone"])
        assert world.eks.list_tags_for_resource(resourceArn=arn)["tags"] == {"stack": "eks"}
    refuses("NotFoundException", world.eks.list_tags_for_resource, resourceArn=arns[0] + "x")
