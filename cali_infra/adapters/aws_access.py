"""A cluster's access entries as EKS describes them, with the access policies of each.

It takes a client of EKS and leaves botocore's exceptions to the door, `aws.py`. Terraform makes entries; what
is taken away here is what Terraform does not know of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

# So many calls at the same time: 500 entries are a thousand calls, and each takes a tenth of a second.
WORKERS = 16
_ABSENT = "ResourceNotFoundException"
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class PolicyAssociation:
    """An access policy of an entry; `scope` is cluster or namespace, and names namespaces in the second case."""

    policy_arn: str
    scope: str
    namespaces: tuple[str, ...]
    associated_at: datetime

    @property
    def policy(self) -> str:
        """The policy's name, which is the same in every partition."""
        return self.policy_arn.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class AccessEntry:
    """An access entry; `kind` is STANDARD for people, else one of the nodes' types, such as EC2_LINUX.

    EKS does not show the principal's unique id, by which it recognises one that was deleted and made anew:
    `created_at` before the principal's own birth tells.
    """

    principal_arn: str
    kind: str
    groups: tuple[str, ...]
    username: str
    tags: Mapping[str, str]
    created_at: datetime
    policies: tuple[PolicyAssociation, ...]


def entries(eks: Any, cluster: str) -> tuple[AccessEntry, ...] | None:
    """Every entry of the cluster, in EKS' order; None where there is no such cluster."""
    from botocore.exceptions import ClientError

    pages = eks.get_paginator("list_access_entries").paginate(clusterName=cluster)
    try:
        arns = [arn for page in pages for arn in page["accessEntries"]]
    except ClientError as error:
        if error.response["Error"]["Code"] == _ABSENT:
            return None
        raise
    found = side_by_side(partial(entry, eks, cluster), arns)
    # One that was deleted since the list was made is left out.
    return tuple(each for each in found if each is not None)


def entry(eks: Any, cluster: str, principal: str) -> AccessEntry | None:
    """One principal's entry; None where there is none, or no such cluster."""
    from botocore.exceptions import ClientError

    names = {"clusterName": cluster, "principalArn": principal}
    try:
        found = eks.describe_access_entry(**names)["accessEntry"]
        pages = eks.get_paginator("list_associated_access_policies").paginate(**names)
        policies = tuple(_association(item) for page in pages for item in page["associatedAccessPolicies"])
    except ClientError as error:
        if error.response["Error"]["Code"] == _ABSENT:
            return None
        raise
    return AccessEntry(
        principal_arn=found["principalArn"],
        kind=found.get("type", "STANDARD"),
        groups=tuple(found.get("kubernetesGroups") or ()),
        username=found.get("username", ""),
        tags=dict(found.get("tags") or {}),
        created_at=found["createdAt"],
        policies=policies,
    )


def side_by_side(ask: Callable[[_Item], _Found], items: Iterable[_Item]) -> list[_Found]:
    """The answers in the order of the items; the first error ends it, and what has not begun is not begun."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="aws") as pool:
        asked = [pool.submit(ask, item) for item in items]
        try:
            return [each.result() for each in asked]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _association(item: Mapping[str, Any]) -> PolicyAssociation:
    scope = item["accessScope"]
    return PolicyAssociation(
        item["policyArn"], scope["type"], tuple(scope.get("namespaces") or ()), item["associatedAt"]
    )
