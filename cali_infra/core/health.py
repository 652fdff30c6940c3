"""How the dear resources stand, asked from AWS itself and said in one word (`recovery.Health`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cali_infra.core.recovery import Health

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws

_STATUS = {
    "CREATING": Health.CREATING,
    "PENDING": Health.CREATING,
    "ACTIVE": Health.HEALTHY,
    "UPDATING": Health.HEALTHY,
    "AVAILABLE": Health.HEALTHY,
    "ENABLED": Health.HEALTHY,
    "PENDINGDELETION": Health.GONE,
    "DELETING": Health.FAILED,
    "FAILED": Health.FAILED,
    "CREATE_FAILED": Health.FAILED,
    "DEGRADED": Health.FAILED,
}


def inspect(aws: Aws, kind: str, attributes: Mapping[str, Any]) -> Health:
    """The health of a resource of a Terraform type, found by what an interrupted apply left in the state."""
    asker = _ASKERS.get(kind)
    if asker is None:
        return Health.UNKNOWN
    status = asker(aws, attributes)
    return Health.GONE if status is None else _STATUS.get(status.upper(), Health.UNKNOWN)


def _cluster(aws: Aws, attributes: Mapping[str, Any]) -> str | None:
    cluster = aws.cluster(str(attributes.get("name") or attributes["id"]))
    return cluster.status if cluster else None


def _node_group(aws: Aws, attributes: Mapping[str, Any]) -> str | None:
    cluster, _, name = str(attributes["id"]).partition(":")
    group = aws.nodegroup(cluster, name)
    return group.status if group else None


def _domain(aws: Aws, attributes: Mapping[str, Any]) -> str | None:
    domain = aws.domain(str(attributes.get("domain_name") or attributes["id"]).rpartition("/")[2])
    if domain is None or domain.deleted:
        return None
    return "ACTIVE" if domain.endpoint else "CREATING"


def _access_entry(aws: Aws, attributes: Mapping[str, Any]) -> str | None:
    cluster, _, principal = str(attributes["id"]).partition(":")
    return "ACTIVE" if aws.has_access_entry(cluster, principal) else None


def _vpc(aws: Aws, attributes: Mapping[str, Any]) -> str | None:
    return aws.vpc_state(str(attributes["id"]))


def _subnet(aws: Aws, attributes: Mapping[str, Any]) -> str | None:
    return aws.subnet_state(str(attributes["id"]))


def _key(aws: Aws, attributes: Mapping[str, Any]) -> str | None:
    return aws.key_state(str(attributes["id"]))


_ASKERS: Mapping[str, Callable[[Aws, Mapping[str, Any]], str | None]] = {
    "aws_eks_cluster": _cluster,
    "aws_eks_node_group": _node_group,
    "aws_eks_access_entry": _access_entry,
    "aws_opensearch_domain": _domain,
    "aws_vpc": _vpc,
    "aws_subnet": _subnet,
    "aws_kms_key": _key,
}
