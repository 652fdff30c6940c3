"""Add-ons of a cluster: create, read, change and delete, and what there is to install.

It owns the add-on's document and rules. Deployments without nodes leave an add-on DEGRADED, as on AWS:
that is what makes a wrong order of resources show.
"""

from __future__ import annotations

import json
from typing import Any

from cali_infra.sandbox.aws.calls import Call, Operation, Result, operation, page
from cali_infra.sandbox.aws.eks import catalog
from cali_infra.sandbox.aws.eks.pods import PodIdentities
from cali_infra.sandbox.aws.eks.state import Cluster, Resource, World
from cali_infra.sandbox.aws.errors import ServiceError

_NAMESPACE = "kube-system"


class Addons:
    """The operations on add-ons."""

    def __init__(self, world: World, pods: PodIdentities) -> None:
        self._world = world
        self._pods = pods

    def operations(self) -> dict[str, Operation]:
        """What is modelled here."""
        return {
            "CreateAddon": operation(
                self.create,
                "addonName addonVersion serviceAccountRoleArn resolveConflicts tags configurationValues"
                " podIdentityAssociations",
            ),
            "DescribeAddon": operation(self.describe, "addonName"),
            "ListAddons": operation(self.list_all),
            "UpdateAddon": operation(
                self.update,
                "addonName addonVersion serviceAccountRoleArn resolveConflicts configurationValues"
                " podIdentityAssociations",
            ),
            "DeleteAddon": operation(self.delete, "addonName preserve"),
            "DescribeAddonVersions": operation(
                self.versions, "kubernetesVersion addonName types publishers owners"
            ),
            "DescribeAddonConfiguration": operation(self.configuration, "addonName addonVersion"),
        }

    def create(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        name = str(call["addonName"])
        kind = self._kind(cluster, name)
        if name in cluster.addons:
            raise self._error("ResourceInUseException", "Addon already exists.", cluster, name)
        version = self._version(cluster, kind, call.get("addonVersion"))
        _check_settings(kind, call.get("configurationValues"), self._error, cluster)
        now = self._world.now()
        making = self._world.making(self._world.controls.pace("addon_create"))
        document: dict[str, Any] = {
            "addonName": name,
            "clusterName": cluster.name,
            "status": "CREATING" if making else "ACTIVE",
            "addonVersion": version,
            "health": {"issues": []},
            "addonArn": cluster.arn("addon", name, self._world.new_id()),
            "createdAt": now,
            "modifiedAt": now,
            "tags": dict(call.get("tags", {})),
            "podIdentityAssociations": [],
        }
        for key in ("serviceAccountRoleArn", "configurationValues"):
            if call.get(key):
                document[key] = call[key]
        self._associate(cluster, document, call.get("podIdentityAssociations", []))
        cluster.addons[name] = Resource(document, making)
        self._world.host.set_addon(cluster.name, name, version)
        return {"addon": self._shown(cluster, cluster.addons[name])}

    def describe(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        document = self._shown(cluster, self._find(cluster, call))
        return {"addon": self._world.controls.shown("addon", document["addonName"], document)}

    def list_all(self, call: Call) -> Result:
        return page(call, self._world.cluster(call).addons, "addons")

    def update(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        resource = self._find(cluster, call)
        document, name = resource.document, str(call["addonName"])
        kind = self._kind(cluster, name)
        changes: dict[str, Any] = {}
        if call.get("addonVersion"):
            document["addonVersion"] = self._version(cluster, kind, call["addonVersion"])
            changes["AddonVersion"] = document["addonVersion"]
        if call.get("configurationValues") is not None:
            _check_settings(kind, call["configurationValues"], self._error, cluster)
            document["configurationValues"] = call["configurationValues"]
            changes["ConfigurationValues"] = call["configurationValues"]
        if call.get("serviceAccountRoleArn"):
            document["serviceAccountRoleArn"] = call["serviceAccountRoleArn"]
            changes["ServiceAccountRoleArn"] = call["serviceAccountRoleArn"]
        if call.get("podIdentityAssociations") is not None:
            self._dissociate(cluster, document)
            self._associate(cluster, document, call["podIdentityAssociations"])
            changes["PodIdentityAssociations"] = json.dumps(document["podIdentityAssociations"])
        document["modifiedAt"] = self._world.now()
        self._world.host.set_addon(cluster.name, name, document["addonVersion"])
        return {"update": self._world.update(cluster, "AddonUpdate", changes, f"addonName:{name}")}

    def delete(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        resource = self._find(cluster, call)
        name = str(call["addonName"])
        self._dissociate(cluster, resource.document)
        del cluster.addons[name]
        if not call.get("preserve"):
            self._world.host.set_addon(cluster.name, name, None)
        return {"addon": {**resource.document, "status": "DELETING"}}

    def versions(self, call: Call) -> Result:
        name = call.get("addonName")
        shown = [
            kind.document(call.get("kubernetesVersion"))
            for kind in catalog.ADDONS.values()
            if name in (None, kind.name)
            and kind.category in (call.get("types") or [kind.category])
            and "eks" in (call.get("publishers") or ["eks"])
            and "aws" in (call.get("owners") or ["aws"])
        ]
        return page(call, shown, "addons")

    def configuration(self, call: Call) -> Result:
        kind = catalog.ADDONS.get(str(call["addonName"]))
        if kind is None:
            raise ServiceError(
                "ResourceNotFoundException",
                f"Addon {call['addonName']} specified is not supported",
                {"addonName": call["addonName"]},
            )
        schema = {
            "$schema": "http://json-schema.org/draft-06/schema#",
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {} for name in kind.settings},
        }
        identities = [
            {"serviceAccount": kind.service_account, "recommendedManagedPolicies": list(kind.policies)}
        ]
        return {
            "addonName": kind.name,
            "addonVersion": call["addonVersion"],
            "configurationSchema": json.dumps(schema),
            "podIdentityConfiguration": identities if kind.service_account else [],
        }

    def _shown(self, cluster: Cluster, resource: Resource) -> dict[str, Any]:
        """The add-on's document with the status that it has now."""
        kind = catalog.ADDONS[resource.document["addonName"]]
        nodes = any(
            group.document["status"] == "ACTIVE" and group.document["scalingConfig"]["desiredSize"]
            for group in cluster.nodegroups.values()
        )
        if resource.document["status"] != "ACTIVE" or nodes or not kind.waits_for_nodes:
            return resource.document
        issue = {
            "code": "InsufficientNumberOfReplicas",
            "message": "The add-on is unhealthy because all deployments have all pods unscheduled: no nodes"
            " available to schedule pods.",
            "resourceIds": [],
        }
        return {**resource.document, "status": "DEGRADED", "health": {"issues": [issue]}}

    def _kind(self, cluster: Cluster, name: str) -> catalog.AddonKind:
        kind = catalog.ADDONS.get(name)
        if kind is None:
            raise self._error(
                "InvalidParameterException",
                f"Addon {name} specified is not supported in {cluster.document['version']} kubernetes"
                " version",
                cluster,
                name,
            )
        return kind

    def _version(self, cluster: Cluster, kind: catalog.AddonKind, wanted: str | None) -> str:
        """The version to install, the default without a wish; raises ServiceError for a foreign one."""
        builds = kind.versions(cluster.document["version"])
        if wanted is None:
            return builds[0]
        if wanted not in builds:
            raise self._error(
                "InvalidParameterException",
                f"Addon version specified is not supported: {wanted}; there are {', '.join(builds)}",
                cluster,
                kind.name,
            )
        return wanted

    def _associate(self, cluster: Cluster, document: dict[str, Any], wanted: list[dict[str, str]]) -> None:
        made = [
            self._pods.add(
                cluster,
                _NAMESPACE,
                each["serviceAccount"],
                each["roleArn"],
                tags={},
                owner_arn=document["addonArn"],
            )
            for each in wanted
        ]
        document["podIdentityAssociations"] = [each["associationArn"] for each in made]

    @staticmethod
    def _dissociate(cluster: Cluster, document: dict[str, Any]) -> None:
        for arn in document["podIdentityAssociations"]:
            cluster.associations.pop(arn.rsplit("/", 1)[-1], None)
        document["podIdentityAssociations"] = []

    def _find(self, cluster: Cluster, call: Call) -> Resource:
        name = str(call["addonName"])
        found = cluster.addons.get(name)
        if found is None:
            raise self._error(
                "ResourceNotFoundException",
                f"No addon: {name} found in cluster: {cluster.name}",
                cluster,
                name,
            )
        return found

    @staticmethod
    def _error(code: str, message: str, cluster: Cluster, addon: str) -> ServiceError:
        return ServiceError(code, message, {"clusterName": cluster.name, "addonName": addon})


def _check_settings(kind: catalog.AddonKind, text: str | None, error: Any, cluster: Cluster) -> None:
    """Raise ServiceError unless the configuration is JSON or YAML of keys that the add-on has."""
    if not text:
        return
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise error(
            "InvalidParameterException", "ConfigurationValue is not in JSON or YAML", cluster, kind.name
        )
    for key in values:
        if key not in kind.settings:
            raise error(
                "InvalidParameterException",
                f"ConfigurationValue provided in request is not supported: Json schema validation failed with"
                f" error: [$.{key}: is not defined in the schema and the schema does not allow additional"
                " properties]",
                cluster,
                kind.name,
            )
