"""EKS Pod Identity associations: which role the pods of a service account get.

It owns the associations, the ones that add-ons bring along included; no credentials are handed out.
"""

from __future__ import annotations

from typing import Any

from cali_infra.sandbox.aws.calls import Call, Operation, Result, operation, page
from cali_infra.sandbox.aws.eks import trust
from cali_infra.sandbox.aws.eks.state import Cluster, World
from cali_infra.sandbox.aws.errors import ServiceError


class PodIdentities:
    """The operations on pod identity associations."""

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> dict[str, Operation]:
        """What is modelled here."""
        return {
            "CreatePodIdentityAssociation": operation(
                self.create, "namespace serviceAccount roleArn tags disableSessionTags"
            ),
            "DescribePodIdentityAssociation": operation(self.describe, "associationId"),
            "ListPodIdentityAssociations": operation(self.list_all, "namespace serviceAccount"),
            "UpdatePodIdentityAssociation": operation(
                self.update, "associationId roleArn disableSessionTags"
            ),
            "DeletePodIdentityAssociation": operation(self.delete, "associationId"),
        }

    def create(self, call: Call) -> Result:
        cluster = self._world.cluster(call, active=True)
        association = self.add(
            cluster,
            str(call["namespace"]),
            str(call["serviceAccount"]),
            str(call["roleArn"]),
            tags=dict(call.get("tags", {})),
            disable_session_tags=bool(call.get("disableSessionTags")),
        )
        return {"association": association}

    def describe(self, call: Call) -> Result:
        return {"association": self._find(self._world.cluster(call), call)}

    def list_all(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        shown = [
            association
            for association in cluster.associations.values()
            if call.get("namespace") in (None, association["namespace"])
            and call.get("serviceAccount") in (None, association["serviceAccount"])
        ]
        return page(call, shown, "associations")

    def update(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        association = self._find(cluster, call)
        self._not_owned(association)
        if call.get("roleArn"):
            self._require_role(cluster, call["roleArn"])
            association["roleArn"] = call["roleArn"]
        if call.get("disableSessionTags") is not None:
            association["disableSessionTags"] = call["disableSessionTags"]
        association["modifiedAt"] = self._world.now()
        return {"association": association}

    def delete(self, call: Call) -> Result:
        cluster = self._world.cluster(call)
        association = self._find(cluster, call)
        self._not_owned(association)
        del cluster.associations[association["associationId"]]
        return {"association": association}

    def add(
        self,
        cluster: Cluster,
        namespace: str,
        service_account: str,
        role_arn: str,
        *,
        tags: dict[str, str],
        owner_arn: str = "",
        disable_session_tags: bool = False,
    ) -> dict[str, Any]:
        """Make an association; `owner_arn` is the add-on's that it belongs to."""
        for other in cluster.associations.values():
            if (other["namespace"], other["serviceAccount"]) == (namespace, service_account):
                raise ServiceError(
                    "ResourceInUseException",
                    f"Association already exists: {other['associationId']}",
                    {"clusterName": cluster.name},
                )
        self._require_role(cluster, role_arn)
        now = self._world.now()
        identifier = f"a-{self._world.new_id()[:17]}"
        association: dict[str, Any] = {
            "clusterName": cluster.name,
            "namespace": namespace,
            "serviceAccount": service_account,
            "roleArn": role_arn,
            "associationArn": cluster.arn("podidentityassociation", identifier),
            "associationId": identifier,
            "tags": tags,
            "createdAt": now,
            "modifiedAt": now,
            "disableSessionTags": disable_session_tags,
        }
        if owner_arn:
            association["ownerArn"] = owner_arn
        cluster.associations[identifier] = association
        return association

    def _require_role(self, cluster: Cluster, role_arn: str) -> None:
        trust.require(
            self._world, role_arn, "pods.eks.amazonaws.com", {"clusterName": cluster.name}, "sts:TagSession"
        )

    @staticmethod
    def _find(cluster: Cluster, call: Call) -> dict[str, Any]:
        found = cluster.associations.get(str(call["associationId"]))
        if found is None:
            raise ServiceError(
                "ResourceNotFoundException",
                f"Association not found: {call['associationId']}",
                {"clusterName": cluster.name},
            )
        return found

    @staticmethod
    def _not_owned(association: dict[str, Any]) -> None:
        if association.get("ownerArn"):
            raise ServiceError(
                "InvalidRequestException",
                f"Association {association['associationId']} is owned by {association['ownerArn']}",
            )
