"""What is shown as ailing on purpose, by the switch and over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import World


def post(world: World, body: object) -> Any:
    url = f"{world.aws.endpoint}/_sandbox/ailments"
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_a_node_group_shows_what_ails_it_and_keeps_the_rest(world: World) -> None:
    cluster = world.cluster()
    world.nodegroup(cluster)
    issue = {"code": "AsgInstanceLaunchFailures", "message": "no capacity", "resourceIds": ["asg-1"]}

    shown = post(
        world,
        {
            "kind": "nodegroup",
            "name": "nodes",
            "shows": {"status": "DEGRADED", "health": {"issues": [issue]}},
        },
    )

    assert shown == [
        {
            "kind": "nodegroup",
            "name": "nodes",
            "shows": {"status": "DEGRADED", "health": {"issues": [issue]}},
        }
    ]
    found = world.eks.describe_nodegroup(clusterName=cluster, nodegroupName="nodes")["nodegroup"]
    assert (found["status"], found["health"]["issues"]) == ("DEGRADED", [issue])
    assert found["scalingConfig"]["desiredSize"] == 3
    world.aws.controls.clear()
    found = world.eks.describe_nodegroup(clusterName=cluster, nodegroupName="nodes")["nodegroup"]
    assert (found["status"], found["health"]["issues"]) == ("ACTIVE", [])


def test_a_cluster_and_an_addon_too(world: World) -> None:
    cluster = world.cluster()
    world.eks.create_addon(clusterName=cluster, addonName="vpc-cni")
    world.aws.controls.ail("cluster", cluster, {"status": "UPDATING"})
    world.aws.controls.ail("addon", "vpc-cni", {"status": "DEGRADED"})
    assert world.eks.describe_cluster(name=cluster)["cluster"]["status"] == "UPDATING"
    assert world.eks.describe_addon(clusterName=cluster, addonName="vpc-cni")["addon"]["status"] == "DEGRADED"


def test_what_cannot_ail_is_refused(world: World) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(world, {"kind": "vpc", "name": "x", "shows": {}})
    assert refused.value.code == 400
    assert "nodegroup" in refused.value.read().decode()


def test_what_a_pod_finds_out_of_the_aws_around_it(world: World) -> None:
    cluster = world.cluster()
    world.nodegroup(cluster)
    role = f"arn:aws:iam::{world.aws.account}:role/pod"
    names = {"namespace": "kube-system", "serviceAccount": "cluster-autoscaler"}
    world.eks.create_pod_identity_association(clusterName=cluster, roleArn=role, **names)

    (group,) = world.aws.scaling_groups(cluster)

    described = world.eks.describe_nodegroup(clusterName=cluster, nodegroupName="nodes")["nodegroup"]
    assert group.name == described["resources"]["autoScalingGroups"][0]["name"]
    assert (group.minimum, group.maximum, group.desired) == (1, 5, 3)
    assert world.aws.pod_role(cluster, *names.values()) == role
    assert world.aws.pod_role(cluster, "default", "other") is None
    assert world.aws.scaling_groups("no-such") == []


def test_a_group_grows_for_a_role_that_may_make_it(world: World) -> None:
    cluster = world.cluster()
    world.nodegroup(cluster)
    iam = world.client("iam")
    trust = {"Version": "2012-10-17", "Statement": []}
    role = iam.create_role(RoleName="scaler", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    (group,) = world.aws.scaling_groups(cluster)

    with pytest.raises(PermissionError, match="not authorized to perform: autoscaling:SetDesiredCapacity"):
        world.aws.set_desired(cluster, group.name, 4, role)

    tag = f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster}"
    statement = {
        "Effect": "Allow",
        "Action": "autoscaling:SetDesiredCapacity",
        "Resource": "*",
        "Condition": {"StringEquals": {tag: "owned"}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName="scaler", PolicyName="own", PolicyDocument=document)
    world.aws.set_desired(cluster, group.name, 4, role)

    described = world.eks.describe_nodegroup(clusterName=cluster, nodegroupName="nodes")["nodegroup"]
    assert described["scalingConfig"]["desiredSize"] == 4
    assert len(world.clusters.nodes[cluster, "nodes"]) == 4
    with pytest.raises(ValueError, match="outside the limits"):
        world.aws.set_desired(cluster, group.name, 6, role)
    with pytest.raises(LookupError, match="no-such"):
        world.aws.set_desired(cluster, "no-such", 3, role)
