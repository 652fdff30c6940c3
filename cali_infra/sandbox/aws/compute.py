"""What EKS does in EC2 and Auto Scaling on a cluster's behalf, done in moto's backends.

It owns the cluster's security group, and the Auto Scaling group with its instances behind a node group,
with the tags that real EKS puts on them for the autoscaler's discovery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cali_infra.sandbox.aws.errors import ServiceError

# moto wants an image to run; EKS takes it from the node group's AMI type, which moto's catalogue lacks.
_IMAGE = "ami-eks-sandbox"


@dataclass(frozen=True)
class Subnet:
    """A subnet, as far as EKS looks at it."""

    id: str
    vpc_id: str
    vpc_cidr: str
    zone: str


@dataclass(frozen=True)
class LaunchTemplate:
    """A version of a launch template, as far as EKS looks at it."""

    id: str
    name: str
    version: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Instance:
    """A running instance of a node group; `name` is its private host name."""

    name: str
    zone: str
    instance_type: str


class Compute:
    """EC2 and Auto Scaling in one account and region."""

    def __init__(self, account: str, region: str) -> None:
        from moto.autoscaling.models import autoscaling_backends
        from moto.ec2.models import ec2_backends

        self._region = region
        self._ec2: Any = ec2_backends[account][region]
        self._autoscaling: Any = autoscaling_backends[account][region]

    def subnets(self, ids: Sequence[str]) -> list[Subnet]:
        """The subnets of these ids; raises ServiceError for one that there is not."""
        known = {subnet.id: subnet for subnet in self._ec2.describe_subnets()}
        missing = [each for each in ids if each not in known]
        if missing:
            raise ServiceError("InvalidParameterException", f"The subnet ID '{missing[0]}' does not exist")
        vpcs = {vpc.id: vpc for vpc in self._ec2.describe_vpcs()}
        return [
            Subnet(
                str(each),
                str(known[each].vpc_id),
                str(vpcs[known[each].vpc_id].cidr_block),
                str(known[each].availability_zone),
            )
            for each in ids
        ]

    def security_groups(self, ids: Sequence[str]) -> None:
        """Raise ServiceError for a security group that there is not."""
        known = {group.id for group in self._ec2.describe_security_groups()}
        for each in ids:
            if each not in known:
                raise ServiceError("InvalidParameterException", f"The security group '{each}' does not exist")

    def create_security_group(self, cluster: str, vpc_id: str, suffix: str) -> str:
        """Make the group that EKS puts a cluster's interfaces and nodes into; returns its id."""
        group = self._ec2.create_security_group(
            f"eks-cluster-sg-{cluster}-{suffix}",
            "EKS created security group applied to ENI that is attached to EKS Control Plane master nodes,"
            " as well as any managed workloads.",
            vpc_id,
            tags={
                "Name": f"eks-cluster-sg-{cluster}-{suffix}",
                f"kubernetes.io/cluster/{cluster}": "owned",
                "aws:eks:cluster-name": cluster,
            },
        )
        return str(group.id)

    def delete_security_group(self, group_id: str) -> None:
        """Delete the cluster's own security group."""
        self._ec2.delete_security_group(group_id=group_id)

    def launch_template(self, wanted: Mapping[str, Any]) -> LaunchTemplate:
        """The version that `wanted` (id or name, version) means; raises ServiceError without one."""
        try:
            if wanted.get("id"):
                template = self._ec2.get_launch_template(wanted["id"])
            else:
                template = self._ec2.get_launch_template_by_name(wanted["name"])
            version = template.get_version(wanted.get("version") or "$Default")
        except Exception as problem:
            raise ServiceError(
                "InvalidRequestException", f"The launch template cannot be used: {problem}"
            ) from problem
        return LaunchTemplate(str(template.id), str(template.name), str(version.number), version.data)

    def create_group(
        self,
        name: str,
        *,
        subnets: Sequence[Subnet],
        template: LaunchTemplate | None,
        instance_type: str,
        sizes: Mapping[str, int],
        tags: Mapping[str, str],
    ) -> list[Instance]:
        """Make an Auto Scaling group with its instances, spread over the subnets."""
        # As EKS does: a template of its own, made after the user's.
        own = self._ec2.create_launch_template(name, "", dict(template.data) if template else {}, {})
        self._autoscaling.create_auto_scaling_group(
            name=name,
            availability_zones=[],
            desired_capacity=0,
            max_size=sizes["maxSize"],
            min_size=0,
            launch_config_name="",
            launch_template={"LaunchTemplateId": own.id, "Version": "1"},
            vpc_zone_identifier=",".join(subnet.id for subnet in subnets),
            default_cooldown=None,
            health_check_period=15,
            health_check_type="EC2",
            load_balancers=[],
            target_group_arns=[],
            placement_group=None,
            termination_policies=["AllocationStrategy", "OldestLaunchTemplate", "OldestInstance"],
            tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],
            capacity_rebalance=True,
        )
        return self.resize_group(name, subnets=subnets, instance_type=instance_type, sizes=sizes)

    def resize_group(
        self, name: str, *, subnets: Sequence[Subnet], instance_type: str, sizes: Mapping[str, int]
    ) -> list[Instance]:
        """Give a group these sizes; returns the instances that it then has.

        moto would put all of them into the first subnet, so they are started here.
        """
        from moto.autoscaling.models import InstanceState

        group = self._autoscaling.autoscaling_groups[name]
        wanted = sizes["desiredSize"]
        surplus = group.instance_states[wanted:]
        if surplus:
            self._ec2.terminate_instances([state.instance.id for state in surplus])
            group.instance_states = group.instance_states[:wanted]
        for index in range(len(group.instance_states), wanted):
            subnet = subnets[index % len(subnets)]
            reservation = self._ec2.run_instances(
                _IMAGE,
                1,
                None,
                [],
                instance_type=instance_type,
                is_instance_type_default=False,
                region_name=self._region,
                subnet_id=subnet.id,
                tags={"instance": {**group.get_propagated_tags(), "aws:autoscaling:groupName": name}},
            )
            instance = reservation.instances[0]
            instance.autoscaling_group = group
            group.instance_states.append(InstanceState(instance))
        group.desired_capacity, group.min_size, group.max_size = wanted, sizes["minSize"], sizes["maxSize"]
        zones = {subnet.id: subnet.zone for subnet in subnets}
        return [
            Instance(
                str(state.instance.private_dns_name),
                zones.get(str(state.instance.subnet_id), ""),
                instance_type,
            )
            for state in group.instance_states
        ]

    def group(self, name: str) -> tuple[str, dict[str, str]]:
        """The ARN and the tags of a group that is there."""
        group = self._autoscaling.autoscaling_groups[name]
        return str(group.arn), {str(tag["Key"]): str(tag["Value"]) for tag in group.tags}

    def delete_group(self, name: str) -> None:
        """Terminate a group's instances and delete it."""
        group = self._autoscaling.autoscaling_groups.get(name)
        if group is None:
            return
        if group.instance_states:
            self._ec2.terminate_instances([state.instance.id for state in group.instance_states])
        self._autoscaling.autoscaling_groups.pop(name, None)
        self._ec2.delete_launch_template(name, None)
