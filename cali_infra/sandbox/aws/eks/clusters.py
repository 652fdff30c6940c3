"""EKS clusters: create, read, change and delete, and the versions there are.

It owns the cluster's document and its rules. The API server behind it is the cluster host's.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

from cali_infra.sandbox.aws.calls import Call, Operation, Result, operation, page
from cali_infra.sandbox.aws.eks import access, catalog, trust
from cali_infra.sandbox.aws.eks.state import Cluster, World
from cali_infra.sandbox.aws.errors import ServiceError

LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
_NAME = re.compile(r"^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$")


class Clusters:
    """The operations on clusters."""

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> dict[str, Operation]:
        """What is modelled here."""
        return {
            "CreateCluster": operation(
                self.create,
                "version roleArn resourcesVpcConfig kubernetesNetworkConfig logging tags encryptionConfig"
                " accessConfig bootstrapSelfManagedAddons upgradePolicy zonalShiftConfig deletionProtection",
            ),
            "DescribeCluster": operation(self.describe),
            "ListClusters": operation(self.list_all, "include"),
            "DeleteCluster": operation(self.delete),
            "UpdateClusterConfig": operation(
                self.update_config,
                "resourcesVpcConfig logging accessConfig upgradePolicy zonalShiftConfig deletionProtection",
            ),
            "UpdateClusterVersion": operation(self.update_version, "version"),
            "AssociateEncryptionConfig": operation(self.encrypt, "encryptionConfig"),
            "DescribeUpdate": operation(self.describe_update, "updateId nodegroupName addonName"),
            "ListUpdates": operation(self.list_updates, "nodegroupName addonName"),
            "DescribeClusterVersions": operation(
                self.versions, "clusterType defaultOnly includeAll clusterVersions status versionStatus"
            ),
        }

    def create(self, call: Call) -> Result:
        name = str(call["name"])
        if not _NAME.match(name):
            raise _invalid(
                f"The cluster name '{name}' is not valid: it is 1 to 100 letters, digits, hyphens and"
                " underscores, a letter or digit first",
                name,
            )
        if name in self._world.clusters:
            raise ServiceError(
                "ResourceInUseException", f"Cluster already exists with name: {name}", {"clusterName": name}
            )
        wanted = str(call.get("version", catalog.DEFAULT_VERSION))
        if catalog.version(wanted) is None:
            raise _invalid(f"unsupported Kubernetes version {wanted}", name)
        trust.require(self._world, call["roleArn"], "eks.amazonaws.com", {"clusterName": name})
        network = self._network(call, name)
        cluster = self._build(call, name, wanted, network)
        address = self._world.host.create(name, wanted)
        cluster.endpoint = address.endpoint
        cluster.ca_data = base64.b64encode(address.ca_pem).decode()
        self._world.clusters[name] = cluster
        config = call.get("accessConfig", {})
        if config.get("bootstrapClusterCreatorAdminPermissions", True):
            access.bootstrap_creator(self._world, cluster, call.principal)
        self._world.settle(cluster)
        return {"cluster": cluster.document}

    def describe(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        return {"cluster": self._world.controls.shown("cluster", cluster.name, cluster.document)}

    def list_all(self, call: Call) -> Result:
        names = sorted(
            cluster.name
            for cluster in self._world.clusters.values()
            if (cluster.account, cluster.region) == (call.account, call.region)
        )
        return page(call, names, "clusters")

    def delete(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        if cluster.making is not None:
            # The words that Terraform's provider waits on: it tries again while they say "in progress".
            raise ServiceError(
                "ResourceInUseException",
                f"Cannot delete because cluster {cluster.name} currently has an update in progress",
                {"clusterName": cluster.name},
            )
        if cluster.nodegroups:
            raise ServiceError(
                "ResourceInUseException", "Cluster has nodegroups attached", {"clusterName": cluster.name}
            )
        if cluster.document["deletionProtection"]:
            raise ServiceError(
                "InvalidRequestException",
                f"Cluster {cluster.name} cannot be deleted because deletion protection is enabled",
                {"clusterName": cluster.name},
            )
        self._world.host.delete(cluster.name)
        del self._world.clusters[cluster.name]
        group = cluster.document["resourcesVpcConfig"]["clusterSecurityGroupId"]
        self._world.compute(call).delete_security_group(group)
        return {"cluster": {**cluster.document, "status": "DELETING"}}

    def update_config(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        kinds = [
            kind
            for kind in (
                "resourcesVpcConfig",
                "logging",
                "accessConfig",
                "upgradePolicy",
                "zonalShiftConfig",
                "deletionProtection",
            )
            if call.get(kind) is not None
        ]
        if len(kinds) != 1:
            raise _invalid("Only one type of update can be allowed.", cluster.name)
        change = {
            "resourcesVpcConfig": self._update_network,
            "logging": self._update_logging,
            "accessConfig": self._update_access,
            "upgradePolicy": self._update_simple("upgradePolicy", "UpgradePolicy"),
            "zonalShiftConfig": self._update_simple("zonalShiftConfig", "ZonalShiftConfig"),
            "deletionProtection": self._update_simple("deletionProtection", "DeletionProtection"),
        }[kinds[0]]
        kind, parameters = change(call, cluster)
        return {"update": self._world.update(cluster, kind, parameters)}

    def update_version(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        old, new = str(cluster.document["version"]), str(call["version"])
        if catalog.version(new) is None or _minor(new) != _minor(old) + 1:
            raise _invalid(f"Unsupported Kubernetes minor version update from {old} to {new}", cluster.name)
        cluster.document["version"] = new
        update = self._world.update(cluster, "VersionUpdate", {"Version": new, "PlatformVersion": "eks.5"})
        return {"update": update}

    def encrypt(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        if cluster.document["encryptionConfig"]:
            raise _invalid("Cluster already has encryption enabled", cluster.name)
        cluster.document["encryptionConfig"] = call["encryptionConfig"]
        change = {"EncryptionConfig": json.dumps(call["encryptionConfig"])}
        return {"update": self._world.update(cluster, "AssociateEncryptionConfig", change)}

    def describe_update(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        found = cluster.updates.get(str(call["updateId"]))
        if found is None or found["owner"] != _owner(call):
            raise ServiceError(
                "ResourceNotFoundException",
                f"No update found for ID: {call['updateId']}",
                {"clusterName": cluster.name},
            )
        return {"update": found["update"]}

    def list_updates(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        ids = [each for each, found in cluster.updates.items() if found["owner"] == _owner(call)]
        return page(call, ids, "updateIds")

    def versions(self, call: Call) -> Result:
        today = self._world.now().date()
        wanted = call.get("clusterVersions", [])
        status = str(call.get("versionStatus") or call.get("status") or "").upper().replace("-", "_")
        shown = [
            version.document(today)
            for version in catalog.VERSIONS
            if (not wanted or version.version in wanted)
            and (not status or version.status(today) == status)
            and (wanted or status or call.get("includeAll") or version.status(today) != "UNSUPPORTED")
            and (not call.get("defaultOnly") or version.version == catalog.DEFAULT_VERSION)
        ]
        return page(call, shown, "clusterVersions")

    def _network(self, call: Call, name: str) -> dict[str, Any]:
        """The cluster's resourcesVpcConfig, but its security group."""
        given = call["resourcesVpcConfig"]
        compute = self._world.compute(call)
        subnets = compute.subnets(given.get("subnetIds") or [])
        if len({subnet.zone for subnet in subnets}) < 2:
            raise _invalid("Subnets specified must be in at least two different AZs", name)
        if len({subnet.vpc_id for subnet in subnets}) > 1:
            raise _invalid("Subnets specified must belong to the same VPC", name)
        compute.security_groups(given.get("securityGroupIds") or [])
        public, private = given.get("endpointPublicAccess"), given.get("endpointPrivateAccess")
        network = {
            "subnetIds": list(given["subnetIds"]),
            "securityGroupIds": list(given.get("securityGroupIds") or []),
            "vpcId": subnets[0].vpc_id,
            "endpointPublicAccess": True if public is None else public,
            "endpointPrivateAccess": bool(private),
        }
        network["publicAccessCidrs"] = _cidrs(network, given.get("publicAccessCidrs"), name)
        if not network["endpointPublicAccess"] and not network["endpointPrivateAccess"]:
            raise _invalid("Private and public endpoint access cannot both be false", name)
        network["serviceIpv4Cidr"] = _service_cidr(subnets[0].vpc_cidr)
        return network

    def _build(self, call: Call, name: str, version: str, network: dict[str, Any]) -> Cluster:
        service_cidr = network.pop("serviceIpv4Cidr")
        kubernetes = call.get("kubernetesNetworkConfig", {})
        if kubernetes.get("ipFamily", "ipv4") != "ipv4":
            raise _invalid("the sandbox models clusters of the IPv4 family only", name)
        if (kubernetes.get("elasticLoadBalancing") or {}).get("enabled"):
            raise _invalid("the sandbox does not model EKS Auto Mode (elasticLoadBalancing)", name)
        network["clusterSecurityGroupId"] = self._world.compute(call).create_security_group(
            name, network["vpcId"], self._world.new_id()[:10]
        )
        config = call.get("accessConfig", {})
        making = self._world.making(self._world.controls.pace("cluster_create"))
        document: dict[str, Any] = {
            "name": name,
            "arn": f"arn:aws:eks:{call.region}:{call.account}:cluster/{name}",
            "createdAt": self._world.now(),
            "version": version,
            "roleArn": call["roleArn"],
            "resourcesVpcConfig": network,
            "kubernetesNetworkConfig": {
                "serviceIpv4Cidr": kubernetes.get("serviceIpv4Cidr") or service_cidr,
                "ipFamily": "ipv4",
                "elasticLoadBalancing": {"enabled": False},
            },
            "logging": _logging(call.get("logging", {})),
            "identity": {
                "oidc": {
                    "issuer": f"https://oidc.eks.{call.region}.amazonaws.com/id/{self._world.new_id().upper()}"
                }
            },
            "status": "CREATING" if making else "ACTIVE",
            "platformVersion": "eks.5",
            "tags": dict(call.get("tags", {})),
            "encryptionConfig": call.get("encryptionConfig", []),
            "health": {"issues": []},
            "accessConfig": {"authenticationMode": config.get("authenticationMode") or "CONFIG_MAP"},
            "upgradePolicy": {"supportType": call.get("upgradePolicy", {}).get("supportType", "EXTENDED")},
            "deletionProtection": bool(call.get("deletionProtection")),
        }
        # A cluster that was made without it does not show it.
        if call.get("zonalShiftConfig"):
            document["zonalShiftConfig"] = call["zonalShiftConfig"]
        return Cluster(name, call.account, call.region, document, making, endpoint="", ca_data="")

    def _update_network(self, call: Call, cluster: Cluster) -> tuple[str, dict[str, Any]]:
        given = call["resourcesVpcConfig"]
        network = cluster.document["resourcesVpcConfig"]
        compute = self._world.compute(call)
        if given.get("subnetIds") or given.get("securityGroupIds"):
            compute.subnets(given.get("subnetIds") or [])
            compute.security_groups(given.get("securityGroupIds") or [])
            for key in ("subnetIds", "securityGroupIds"):
                if given.get(key):
                    network[key] = list(given[key])
            return "VpcConfigUpdate", {"Subnets": json.dumps(network["subnetIds"])}
        changed = dict(network)
        for key in ("endpointPublicAccess", "endpointPrivateAccess"):
            if given.get(key) is not None:
                changed[key] = given[key]
        if not changed["endpointPublicAccess"] and not changed["endpointPrivateAccess"]:
            raise _invalid("Private and public endpoint access cannot both be false", cluster.name)
        changed["publicAccessCidrs"] = _cidrs(
            changed, given.get("publicAccessCidrs") or network["publicAccessCidrs"], cluster.name
        )
        if changed == network:
            raise _invalid(
                "Cluster is already at the desired configuration with endpointPrivateAccess:"
                f" {str(changed['endpointPrivateAccess']).lower()}, endpointPublicAccess:"
                f" {str(changed['endpointPublicAccess']).lower()}, and Public Endpoint Restrictions:"
                f" {changed['publicAccessCidrs']}",
                cluster.name,
            )
        cluster.document["resourcesVpcConfig"] = changed
        return "EndpointAccessUpdate", {
            "EndpointPublicAccess": str(changed["endpointPublicAccess"]).lower(),
            "EndpointPrivateAccess": str(changed["endpointPrivateAccess"]).lower(),
            "PublicAccessCidrs": json.dumps(changed["publicAccessCidrs"]),
        }

    def _update_logging(self, call: Call, cluster: Cluster) -> tuple[str, dict[str, Any]]:
        wanted = _logging(call["logging"], cluster.document["logging"])
        if wanted == cluster.document["logging"]:
            raise _invalid("No changes needed for the logging config provided", cluster.name)
        cluster.document["logging"] = wanted
        return "LoggingUpdate", {"ClusterLogging": json.dumps(wanted)}

    def _update_access(self, call: Call, cluster: Cluster) -> tuple[str, dict[str, Any]]:
        modes = ("CONFIG_MAP", "API_AND_CONFIG_MAP", "API")
        mode = call["accessConfig"]["authenticationMode"]
        if modes.index(mode) <= modes.index(cluster.mode):
            raise _invalid(
                f"Unsupported authentication mode update from {cluster.mode} to {mode}", cluster.name
            )
        cluster.document["accessConfig"]["authenticationMode"] = mode
        return "AccessConfigUpdate", {"AuthenticationMode": mode}

    def _update_simple(self, key: str, title: str) -> Any:
        def change(call: Call, cluster: Cluster) -> tuple[str, dict[str, Any]]:
            cluster.document[key] = call[key]
            return f"{title}Update", {title: json.dumps(call[key])}

        return change


def _owner(call: Call) -> str:
    for kind in ("nodegroupName", "addonName"):
        if call.get(kind):
            return f"{kind}:{call[kind]}"
    return ""


def _cidrs(network: Mapping[str, Any], given: list[str] | None, name: str) -> list[str]:
    """The blocks that may reach the public endpoint; none while it is off."""
    for block in given or []:
        try:
            ipaddress.ip_network(block)
        except ValueError as problem:
            raise _invalid(
                f"The following CIDRs are invalid in publicAccessCidrs: [{block}]", name
            ) from problem
    if not network["endpointPublicAccess"]:
        return []
    return list(given or ["0.0.0.0/0"])


def _logging(given: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The clusterLogging of a cluster: the types that are on, then the ones that are off."""
    enabled = {
        kind for part in (before or {}).get("clusterLogging", []) if part["enabled"] for kind in part["types"]
    }
    for part in given.get("clusterLogging") or []:
        types = set(part.get("types") or [])
        enabled = enabled | types if part.get("enabled") else enabled - types
    return {
        "clusterLogging": [
            {"types": [kind for kind in LOG_TYPES if (kind in enabled) is on], "enabled": on}
            for on in (True, False)
            if any((kind in enabled) is on for kind in LOG_TYPES)
        ]
    }


def _service_cidr(vpc_cidr: str) -> str:
    """The range of service addresses: the one of the two that the VPC does not use."""
    inside_ten = ipaddress.ip_network(vpc_cidr).overlaps(ipaddress.ip_network("10.0.0.0/8"))
    return "172.20.0.0/16" if inside_ten else "10.100.0.0/16"


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def _invalid(message: str, cluster: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message, {"clusterName": cluster})
