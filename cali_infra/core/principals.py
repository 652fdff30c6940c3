"""Which ARNs can have an access entry, and in what words the others are turned down.

Source: the EKS user guide, "Create access entries": IAM users and IAM roles, nothing else. Whether the
principal exists is not asked here; nothing in this module calls anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cali_infra.errors import UsageError

EXAMPLE = "arn:aws:iam::111122223333:user/jiwoo"

_PARTITION = re.compile(r"aws(-[a-z]+)*")
_ACCOUNT = re.compile(r"\d{12}")
# Names of IAM users and roles, and the path in front of them.
_RESOURCE = re.compile(
    r"(?P<kind>user|role)/(?P<path>([\x21-\x2e\x30-\x7e]+/)*)(?P<name>[\w+=,.@-]{1,64})", re.ASCII
)


@dataclass(frozen=True)
class PrincipalArn:
    """An IAM user or role; `path` is empty or ends with a slash: `aws-reserved/sso.amazonaws.com/`."""

    arn: str
    partition: str
    account: str
    kind: str
    path: str
    name: str


@dataclass(frozen=True)
class Rejection:
    """Why an ARN cannot have an access entry, and what to give instead."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


def parse(arn: str) -> PrincipalArn:
    """The parts of an IAM user's or role's ARN; raises UsageError with the reason and the way out."""
    parsed = examine(arn)
    if isinstance(parsed, Rejection):
        raise UsageError(f"{arn!r}: {parsed.reason}", remedy=parsed.remedy)
    return parsed


def examine(arn: str) -> PrincipalArn | Rejection:
    """The parts of an IAM user's or role's ARN, or why it is not one that EKS accepts."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or arn != arn.strip():
        return Rejection(
            "this is not an ARN", f"give the whole ARN of an IAM user or role, such as {EXAMPLE}"
        )
    _, partition, service, region, account, resource = parts
    unusable = _unusable(service, resource)
    if unusable:
        return unusable
    if not _PARTITION.fullmatch(partition):
        return Rejection(
            f"{partition!r} is not a partition of AWS", "start with arn:aws:, arn:aws-cn: or arn:aws-us-gov:"
        )
    if service != "iam":
        return Rejection(f"this names something in {service!r}", "give the ARN of an IAM user or role")
    if region:
        return Rejection("an IAM ARN has no region", f"leave the fourth part empty, as in {EXAMPLE}")
    if not _ACCOUNT.fullmatch(account):
        return Rejection("the account is not 12 digits", f"write it out with leading zeros, as in {EXAMPLE}")
    match = _RESOURCE.fullmatch(resource)
    if match is None:
        return Rejection(
            "the part after the account is not user/NAME or role/NAME",
            f"give it as IAM shows it, such as {EXAMPLE}",
        )
    return PrincipalArn(arn, partition, account, match["kind"], match["path"], match["name"])


def _unusable(service: str, resource: str) -> Rejection | None:
    """Kinds that exist in AWS but cannot have an access entry."""
    if "*" in resource or "?" in resource:
        return Rejection(
            "wildcards are not possible in an access entry", "name each user or role by its own ARN"
        )
    if service == "sts" and resource.startswith("assumed-role/"):
        return Rejection(
            "this is a session of a role, not the role",
            "give the role's own ARN: aws iam get-role --role-name "
            f"{resource.split('/')[1] or 'NAME'} --query Role.Arn",
        )
    if service == "sts" and resource.startswith("federated-user/"):
        return Rejection(
            "a federated user cannot have an access entry", "give the ARN of the IAM role behind it"
        )
    if service == "sts":
        return Rejection(
            "a session of STS cannot have an access entry", "give the ARN of the IAM user or role behind it"
        )
    if service != "iam":
        return None
    if resource == "root":
        return Rejection("the account's root user cannot have an access entry", "give an IAM user or role")
    if resource.startswith("group/"):
        return Rejection(
            "an IAM group cannot have an access entry", "name its members, or a role that they assume"
        )
    if resource.startswith("role/aws-service-role/"):
        return Rejection(
            "a service-linked role cannot have an access entry", "give a role that people assume"
        )
    for kind, words in (
        ("saml-provider/", "an identity provider"),
        ("oidc-provider/", "an identity provider"),
        ("instance-profile/", "an instance profile"),
        ("policy/", "a policy"),
        ("federated-user/", "a federated user"),
    ):
        if resource.startswith(kind):
            return Rejection(f"{words} cannot have an access entry", "give the ARN of an IAM user or role")
    return None
