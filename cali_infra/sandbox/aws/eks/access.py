"""Access entries and their policies, with real EKS' rules on principals.

It owns who may get an entry, what an entry gives, and the entries that EKS makes by itself: the creator's
and the nodes'. Who calls with a token is `tokens.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from cali_infra.sandbox.aws.calls import Call, Operation, Result, operation, page
from cali_infra.sandbox.aws.eks import catalog
from cali_infra.sandbox.aws.eks.state import AccessEntry, Cluster, PolicyAssociation, World
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.identity import PRINCIPAL_ARN, Principal

ADMIN_POLICY = catalog.POLICY_PREFIX + "AmazonEKSClusterAdminPolicy"
STANDARD = "STANDARD"
NODE_KINDS = ("EC2_LINUX", "EC2_WINDOWS", "FARGATE_LINUX", "HYBRID_LINUX", "EC2", "HYPERPOD_LINUX")
_NAMESPACE = re.compile(r"^[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?$")


class AccessEntries:
    """The operations on access entries and access policies."""

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> dict[str, Operation]:
        """What is modelled here."""
        return {
            "CreateAccessEntry": operation(self.create, "principalArn kubernetesGroups tags username type"),
            "DescribeAccessEntry": operation(self.describe, "principalArn"),
            "ListAccessEntries": operation(self.list_all, "associatedPolicyArn"),
            "UpdateAccessEntry": operation(self.update, "principalArn kubernetesGroups username"),
            "DeleteAccessEntry": operation(self.delete, "principalArn"),
            "ListAccessPolicies": operation(self.policies),
            "AssociateAccessPolicy": operation(self.associate, "principalArn policyArn accessScope"),
            "DisassociateAccessPolicy": operation(self.disassociate, "principalArn policyArn"),
            "ListAssociatedAccessPolicies": operation(self.associated, "principalArn"),
        }

    def create(self, call: Call) -> Result:
        cluster = self._cluster(call)
        arn, kind = str(call["principalArn"]), str(call.get("type", STANDARD))
        unique_id = self._principal(arn)
        if arn in cluster.entries:
            raise ServiceError(
                "ResourceInUseException",
                "The specified access entry resource is already in use on this cluster.",
                {"clusterName": cluster.name},
            )
        if kind not in (STANDARD, *NODE_KINDS):
            raise _invalid(f"The specified type is invalid: {kind}")
        groups = tuple(call.get("kubernetesGroups", []))
        if kind != STANDARD:
            if ":user/" in arn:
                raise _invalid(f"An access entry of type {kind} needs an IAM role, and {arn} is a user")
            if groups or call.get("username"):
                raise _invalid(
                    f"kubernetesGroups and username cannot be set on an access entry of type {kind}"
                )
            entry = _node_entry(self._world, cluster, arn, unique_id, kind)
        else:
            _check_names(groups, call.get("username", ""))
            entry = _entry(self._world, cluster, arn, unique_id, STANDARD, call.get("username", ""), groups)
        entry = replace(entry, tags=dict(call.get("tags", {})))
        cluster.entries[arn] = entry
        return {"accessEntry": entry.document()}

    def describe(self, call: Call) -> Result:
        return {"accessEntry": self._entry(self._cluster(call), call).document()}

    def list_all(self, call: Call) -> Result:
        cluster, policy = self._cluster(call), call.get("associatedPolicyArn")
        arns = [
            arn
            for arn, entry in cluster.entries.items()
            if policy is None or any(each.policy_arn == policy for each in entry.policies)
        ]
        return page(call, arns, "accessEntries")

    def update(self, call: Call) -> Result:
        cluster = self._cluster(call)
        entry = self._entry(cluster, call)
        if entry.kind != STANDARD:
            raise ServiceError(
                "InvalidRequestException", f"An access entry of type {entry.kind} cannot be changed"
            )
        groups = tuple(call.get("kubernetesGroups", entry.groups))
        username = str(call.get("username", entry.username))
        _check_names(groups, username if call.get("username") else "")
        entry = replace(entry, groups=groups, username=username, modified_at=self._world.now())
        cluster.entries[entry.principal_arn] = entry
        return {"accessEntry": entry.document()}

    def delete(self, call: Call) -> Result:
        cluster = self._cluster(call)
        del cluster.entries[self._entry(cluster, call).principal_arn]
        return {}

    def policies(self, call: Call) -> Result:
        return page(call, catalog.policies_of_caller(), "accessPolicies")

    def associate(self, call: Call) -> Result:
        cluster = self._cluster(call)
        entry, policy = self._entry(cluster, call), str(call["policyArn"])
        if policy.removeprefix(catalog.POLICY_PREFIX) not in catalog.ACCESS_POLICIES:
            raise _invalid(f"The specified policyArn is invalid: {policy}")
        if entry.kind != STANDARD:
            raise ServiceError(
                "InvalidRequestException",
                f"Access policies cannot be associated with an access entry of type {entry.kind}",
            )
        scope = call["accessScope"]
        namespaces = tuple(scope.get("namespaces") or [])
        if (scope.get("type") == "namespace") != bool(namespaces):
            raise _invalid("accessScope must name namespaces if and only if its type is namespace")
        for namespace in namespaces:
            if not _NAMESPACE.match(namespace):
                raise _invalid(f"The namespace {namespace!r} of accessScope is invalid")
        now = self._world.now()
        before = next((each for each in entry.policies if each.policy_arn == policy), None)
        made = PolicyAssociation(policy, namespaces, before.associated_at if before else now, now)
        others = tuple(each for each in entry.policies if each.policy_arn != policy)
        cluster.entries[entry.principal_arn] = replace(entry, policies=(*others, made))
        return {
            "clusterName": cluster.name,
            "principalArn": entry.principal_arn,
            "associatedAccessPolicy": made.document(),
        }

    def disassociate(self, call: Call) -> Result:
        cluster = self._cluster(call)
        entry, policy = self._entry(cluster, call), str(call["policyArn"])
        kept = tuple(each for each in entry.policies if each.policy_arn != policy)
        if kept == entry.policies:
            raise ServiceError(
                "ResourceNotFoundException",
                "The specified policyArn is not associated with the specified access entry.",
            )
        cluster.entries[entry.principal_arn] = replace(entry, policies=kept)
        return {}

    def associated(self, call: Call) -> Result:
        cluster = self._cluster(call)
        entry = self._entry(cluster, call)
        shown = page(call, (each.document() for each in entry.policies), "associatedAccessPolicies")
        return {"clusterName": cluster.name, "principalArn": entry.principal_arn, **shown}

    def _cluster(self, call: Call) -> Cluster:
        cluster = self._world.cluster(call)
        if cluster.mode == "CONFIG_MAP":
            raise ServiceError(
                "InvalidRequestException",
                "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform"
                " this operation.",
                {"clusterName": cluster.name},
            )
        return cluster

    @staticmethod
    def _entry(cluster: Cluster, call: Call) -> AccessEntry:
        entry = cluster.entries.get(str(call["principalArn"]))
        if entry is None:
            raise ServiceError(
                "ResourceNotFoundException",
                "The specified principalArn could not be found. You can view your available access entries"
                " with 'list-access-entries'.",
                {"clusterName": cluster.name},
            )
        return entry

    def _principal(self, arn: str) -> str:
        """IAM's id of a principal that may get an entry, "" when IAM here does not know it."""
        match = PRINCIPAL_ARN.match(arn)
        if match is None or "*" in arn:
            # In these words: Terraform's provider takes them for a principal that is too young.
            raise _invalid("The specified principalArn is invalid: invalid principal.")
        if match["kind"] == "role" and match["name"].startswith("aws-service-role/"):
            raise _invalid(
                "The caller is not allowed to modify access entries with a principalArn value of a Service"
                " Linked Role."
            )
        unique_id = self._world.identities.unique_id(arn)
        if unique_id is None and self._world.controls.strict_principals:
            raise _invalid("The specified principalArn is invalid: invalid principal.")
        return unique_id or ""


def bootstrap_creator(world: World, cluster: Cluster, creator: Principal) -> None:
    """Give a new cluster's creator the entry that EKS makes for it: administrator of the cluster."""
    now = world.now()
    entry = _entry(world, cluster, creator.arn, creator.unique_id, STANDARD, "", ())
    admin = PolicyAssociation(ADMIN_POLICY, (), now, now)
    cluster.entries[creator.arn] = replace(entry, policies=(admin,))


def admit_nodes(world: World, cluster: Cluster, role_arn: str) -> None:
    """Give a node group's role the entry that EKS makes for it, unless it has one."""
    if cluster.mode != "CONFIG_MAP" and role_arn not in cluster.entries:
        unique_id = world.identities.unique_id(role_arn) or ""
        cluster.entries[role_arn] = _node_entry(world, cluster, role_arn, unique_id, "EC2_LINUX")


def _node_entry(world: World, cluster: Cluster, arn: str, unique_id: str, kind: str) -> AccessEntry:
    return _entry(
        world, cluster, arn, unique_id, kind, "system:node:{{EC2PrivateDNSName}}", ("system:nodes",)
    )


def _entry(
    world: World,
    cluster: Cluster,
    arn: str,
    unique_id: str,
    kind: str,
    username: str,
    groups: Sequence[str],
) -> AccessEntry:
    match = PRINCIPAL_ARN.match(arn)
    if match is None:
        raise _invalid("The specified principalArn is invalid: invalid principal.")
    name = match["name"].rsplit("/", 1)[-1]
    if not username and match["kind"] == "role":
        username = f"arn:aws:sts::{match['account']}:assumed-role/{name}/{{{{SessionName}}}}"
    now = world.now()
    return AccessEntry(
        cluster=cluster.name,
        principal_arn=arn,
        unique_id=unique_id,
        arn=cluster.arn("access-entry", match["kind"], match["account"], name, world.new_id()),
        kind=kind,
        username=username or arn,
        groups=tuple(groups),
        tags={},
        created_at=now,
        modified_at=now,
    )


def _check_names(groups: Sequence[str], username: str) -> None:
    """Raise ServiceError for a name that Kubernetes or AWS keeps for itself."""
    for group in groups:
        if group.startswith("system:"):
            raise _invalid(f"The kubernetes group name {group} is invalid, it cannot start with system:")
    for prefix in ("system:", "eks:", "aws:", "amazon:", "iam:"):
        if username.startswith(prefix):
            raise _invalid(f"The username {username} is invalid, it cannot start with {prefix}")


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)
