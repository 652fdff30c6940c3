"""Managed node groups: an Auto Scaling group in AWS and the nodes of a cluster.

It owns the node group's document and rules; the group and its instances are `compute.py`'s, the nodes the
cluster host's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cali_infra.sandbox.aws import policies
from cali_infra.sandbox.aws.calls import Call, Operation, Result, operation, page
from cali_infra.sandbox.aws.compute import Compute, Instance, LaunchTemplate
from cali_infra.sandbox.aws.eks import access, trust
from cali_infra.sandbox.aws.eks.state import Cluster, Resource, World
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.policies import Known
from cali_infra.sandbox.ports import NodeSpec

_DEFAULT_TYPE = "t3.medium"
_SET_DESIRED = "autoscaling:SetDesiredCapacity"


class Nodegroups:
    """The operations on managed node groups."""

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> dict[str, Operation]:
        """What is modelled here."""
        return {
            "CreateNodegroup": operation(
                self.create,
                "nodegroupName scalingConfig diskSize subnets instanceTypes amiType nodeRole labels taints"
                " tags launchTemplate updateConfig nodeRepairConfig capacityType version releaseVersion",
            ),
            "DescribeNodegroup": operation(self.describe, "nodegroupName"),
            "ListNodegroups": operation(self.list_all),
            "DeleteNodegroup": operation(self.delete, "nodegroupName"),
            "UpdateNodegroupConfig": operation(
                self.update_config, "nodegroupName labels taints scalingConfig updateConfig nodeRepairConfig"
            ),
            "UpdateNodegroupVersion": operation(
                self.update_version, "nodegroupName version releaseVersion launchTemplate force"
            ),
        }

    def create(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        name = str(call["nodegroupName"])
        fields = {"clusterName": cluster.name, "nodegroupName": name}
        if name in cluster.nodegroups:
            raise ServiceError(
                "ResourceInUseException",
                f"NodeGroup already exists with name {name} and cluster name {cluster.name}",
                fields,
            )
        trust.require(self._world, call["nodeRole"], "ec2.amazonaws.com", fields)
        compute = self._world.compute(call)
        subnets = compute.subnets(call["subnets"])
        wanted = call.get("launchTemplate")
        template = compute.launch_template(wanted) if wanted else None
        types = _instance_types(call, template)
        sizes = _sizes(call.get("scalingConfig", {}), {"minSize": 1, "maxSize": 2, "desiredSize": 2}, fields)
        version = str(call.get("version", cluster.document["version"]))
        if version != cluster.document["version"] and not call.get("releaseVersion"):
            raise ServiceError(
                "InvalidParameterException",
                f"Requested Nodegroup version {version} and cluster version {cluster.document['version']}"
                " must match",
                fields,
            )
        group = f"eks-{name}-{self._world.new_id()}"
        instances = compute.create_group(
            group,
            subnets=subnets,
            template=template,
            instance_type=types[0],
            sizes=sizes,
            tags={
                "eks:cluster-name": cluster.name,
                "eks:nodegroup-name": name,
                f"k8s.io/cluster-autoscaler/{cluster.name}": "owned",
                "k8s.io/cluster-autoscaler/enabled": "true",
                f"kubernetes.io/cluster/{cluster.name}": "owned",
            },
        )
        making = self._world.making(self._world.controls.pace("nodegroup_create"))
        document = self._document(call, cluster, name, types, sizes, template, version, group)
        document["status"] = "CREATING" if making else "ACTIVE"
        resource = Resource(document, making, group)
        cluster.nodegroups[name] = resource
        access.admit_nodes(self._world, cluster, call["nodeRole"])
        self._show_nodes(cluster, resource, instances)
        return {"nodegroup": document}

    def describe(self, call: Call) -> Result:
        document = self._find(self._world.cluster(call), call).document
        return {"nodegroup": self._world.controls.shown("nodegroup", document["nodegroupName"], document)}

    def list_all(self, call: Call) -> Result:
        return page(call, self._world.cluster(call).nodegroups, "nodegroups")

    def delete(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        resource = self._find(cluster, call)
        name = str(resource.document["nodegroupName"])
        if resource.making is not None:
            raise ServiceError(
                "ResourceInUseException",
                f"Nodegroup {name} cannot be deleted while its creation is in progress",
                {"clusterName": cluster.name, "nodegroupName": name},
            )
        self._world.compute(call).delete_group(resource.group)
        del cluster.nodegroups[name]
        self._world.host.set_nodes(cluster.name, name, ())
        role = resource.document["nodeRole"]
        if all(other.document["nodeRole"] != role for other in cluster.nodegroups.values()):
            entry = cluster.entries.get(role)
            if entry is not None and entry.kind == "EC2_LINUX":
                del cluster.entries[role]
        return {"nodegroup": {**resource.document, "status": "DELETING"}}

    def update_config(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        resource = self._find(cluster, call)
        document = resource.document
        name = str(document["nodegroupName"])
        changes: dict[str, Any] = {}
        if call.get("scalingConfig"):
            sizes = _sizes(
                call["scalingConfig"],
                document["scalingConfig"],
                {"clusterName": cluster.name, "nodegroupName": name},
            )
            document["scalingConfig"] = sizes
            changes.update({key[0].upper() + key[1:]: value for key, value in sizes.items()})
        if call.get("labels"):
            labels = {**document["labels"], **(call["labels"].get("addOrUpdateLabels") or {})}
            for gone in call["labels"].get("removeLabels") or []:
                labels.pop(gone, None)
            document["labels"] = labels
            changes["LabelsToAdd"] = labels
        if call.get("taints"):
            document["taints"] = _taints(document["taints"], call["taints"])
            changes["TaintsToAdd"] = document["taints"]
        for key, title in (("updateConfig", "MaxUnavailable"), ("nodeRepairConfig", "NodeRepairEnabled")):
            if call.get(key):
                document[key] = call[key]
                changes[title] = call[key]
        document["modifiedAt"] = self._world.now()
        self._resize(self._world.compute(call), cluster, resource)
        update = self._world.update(cluster, "ConfigUpdate", changes, f"nodegroupName:{name}")
        return {"update": update}

    def update_version(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        resource = self._find(cluster, call)
        document = resource.document
        name = str(document["nodegroupName"])
        if call.get("launchTemplate"):
            if "launchTemplate" not in document:
                raise ServiceError(
                    "InvalidParameterException",
                    "You cannot specify a launch template for a nodegroup that was made without one",
                    {"clusterName": cluster.name, "nodegroupName": name},
                )
            template = self._world.compute(call).launch_template(call["launchTemplate"])
            document["launchTemplate"] = _template_document(template)
        version = str(call.get("version", cluster.document["version"]))
        document["version"] = version
        document["releaseVersion"] = call.get("releaseVersion") or _release(version)
        document["modifiedAt"] = self._world.now()
        changes = {"Version": version, "ReleaseVersion": document["releaseVersion"]}
        update = self._world.update(cluster, "VersionUpdate", changes, f"nodegroupName:{name}")
        return {"update": update}

    def _document(
        self,
        call: Call,
        cluster: Cluster,
        name: str,
        types: Sequence[str],
        sizes: Mapping[str, int],
        template: LaunchTemplate | None,
        version: str,
        group: str,
    ) -> dict[str, Any]:
        now = self._world.now()
        document: dict[str, Any] = {
            "nodegroupName": name,
            "nodegroupArn": cluster.arn("nodegroup", name, self._world.new_id()),
            "clusterName": cluster.name,
            "version": version,
            "releaseVersion": call.get("releaseVersion") or _release(version),
            "createdAt": now,
            "modifiedAt": now,
            "capacityType": call.get("capacityType", "ON_DEMAND"),
            "scalingConfig": dict(sizes),
            "subnets": list(call["subnets"]),
            "amiType": call.get("amiType", "AL2023_x86_64_STANDARD"),
            "nodeRole": call["nodeRole"],
            "labels": dict(call.get("labels", {})),
            "taints": call.get("taints", []),
            "resources": {"autoScalingGroups": [{"name": group}]},
            "health": {"issues": []},
            "updateConfig": call.get("updateConfig", {"maxUnavailable": 1}),
            "nodeRepairConfig": call.get("nodeRepairConfig", {"enabled": False}),
            "tags": dict(call.get("tags", {})),
        }
        # What the launch template says, EKS leaves out of the node group.
        if template is None or not template.data.get("InstanceType"):
            document["instanceTypes"] = list(types)
        if template is None:
            document["diskSize"] = call.get("diskSize", 20)
        else:
            document["launchTemplate"] = _template_document(template)
        return document

    def _find(self, cluster: Cluster, call: Call) -> Resource:
        found = cluster.nodegroups.get(str(call["nodegroupName"]))
        if found is None:
            raise ServiceError(
                "ResourceNotFoundException",
                f"No node group found for name: {call['nodegroupName']}.",
                {"clusterName": cluster.name, "nodegroupName": call["nodegroupName"]},
            )
        return found

    def set_desired(self, cluster: Cluster, group: str, desired: int, role: str) -> None:
        """What Auto Scaling's SetDesiredCapacity does to a node group; see `ports.Cloud`."""
        found = [each for each in cluster.nodegroups.values() if each.group == group]
        if not found:
            raise LookupError(f"AutoScalingGroup name not found - no such group: {group}")
        (resource,) = found
        compute = Compute(cluster.account, cluster.region)
        arn, tags = compute.group(group)
        context = {f"aws:resourcetag/{key.lower()}": value for key, value in tags.items()}
        documents = self._world.identities.policies(role)
        if policies.permitted(documents, _SET_DESIRED, arn, Known(context)) is not policies.Verdict.ALLOW:
            raise PermissionError(
                f"AccessDenied: User: {role} is not authorized to perform: {_SET_DESIRED} on resource: {arn}"
            )
        sizes = resource.document["scalingConfig"]
        if not sizes["minSize"] <= desired <= sizes["maxSize"]:
            raise ValueError(f"New SetDesiredCapacity value {desired} is outside the limits of {group}")
        resource.document["scalingConfig"] = {**sizes, "desiredSize": desired}
        self._resize(compute, cluster, resource)

    def _resize(self, compute: Compute, cluster: Cluster, resource: Resource) -> None:
        types = resource.document.get("instanceTypes") or [_DEFAULT_TYPE]
        instances = compute.resize_group(
            resource.group,
            subnets=compute.subnets(resource.document["subnets"]),
            instance_type=types[0],
            sizes=resource.document["scalingConfig"],
        )
        self._show_nodes(cluster, resource, instances)

    def _show_nodes(self, cluster: Cluster, resource: Resource, instances: Sequence[Instance]) -> None:
        document = resource.document
        labels = {
            **document["labels"],
            "eks.amazonaws.com/nodegroup": document["nodegroupName"],
            "eks.amazonaws.com/capacityType": document["capacityType"],
        }
        nodes = [NodeSpec(each.name, each.zone, each.instance_type, labels) for each in instances]
        self._world.host.set_nodes(cluster.name, document["nodegroupName"], nodes)


def _instance_types(call: Call, template: LaunchTemplate | None) -> list[str]:
    """The instance types of a new node group; raises ServiceError where the launch template forbids them."""
    types = list(call.get("instanceTypes", []))
    if template is None:
        return types or [_DEFAULT_TYPE]
    if call.get("diskSize"):
        raise _invalid("Disk size must be specified within the launch template.")
    own = template.data.get("InstanceType")
    if own and types:
        raise _invalid("You cannot specify instance types in both the launch template and the API request.")
    if template.data.get("IamInstanceProfile"):
        raise _invalid(
            "You cannot specify an instance profile in the launch template: EKS uses the node role's."
        )
    return [own] if own else types or [_DEFAULT_TYPE]


def _sizes(given: Mapping[str, Any], before: Mapping[str, int], fields: Mapping[str, str]) -> dict[str, int]:
    """A scaling configuration, checked as EKS does; what is not given stays as before."""
    sizes = {key: int(before[key] if given.get(key) is None else given[key]) for key in before}
    if sizes["maxSize"] < 1:
        raise ServiceError("InvalidParameterException", "Maximum size must be greater than 0", fields)
    if sizes["minSize"] > sizes["maxSize"]:
        raise ServiceError(
            "InvalidParameterException",
            f"Minimum capacity {sizes['minSize']} can't be greater than maximum size {sizes['maxSize']}",
            fields,
        )
    if not sizes["minSize"] <= sizes["desiredSize"] <= sizes["maxSize"]:
        side, bound = (
            ("less than minimum", sizes["minSize"])
            if sizes["desiredSize"] < sizes["minSize"]
            else ("greater than maximum", sizes["maxSize"])
        )
        raise ServiceError(
            "InvalidParameterException",
            f"Desired capacity {sizes['desiredSize']} can't be {side} size {bound}",
            fields,
        )
    return sizes


def _taints(before: Sequence[Mapping[str, Any]], change: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = {(taint["key"], taint["effect"]): dict(taint) for taint in before}
    for taint in change.get("removeTaints") or []:
        kept.pop((taint["key"], taint["effect"]), None)
    for taint in change.get("addOrUpdateTaints") or []:
        kept[(taint["key"], taint["effect"])] = dict(taint)
    return list(kept.values())


def _template_document(template: LaunchTemplate) -> dict[str, str]:
    return {"name": template.name, "id": template.id, "version": template.version}


def _release(version: str) -> str:
    """A plausible release of the node image of a Kubernetes version."""
    return f"{version}.0-20260120"


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)
