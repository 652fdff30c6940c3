"""Which ARNs can have an access entry, and in what words the others are turned down.

Source: the EKS user guide, "Create access entries": IAM users and IAM roles, nothing else. Whether the
principal exists is not asked here; nothing in this module calls anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cali_infra.errors import UsageError

EXAMPLE = "arn:aws:iam::111122223333:user/jiwoo"

# Source: botocore, `partitions.json`.
PARTITIONS = (
    "aws",
    "aws-cn",
    "aws-us-gov",
    "aws-eusc",
    "aws-iso",
    "aws-iso-b",
    "aws-iso-e",
    "aws-iso-f",
)
_ACCOUNT = re.compile(r"[0-9]{12}")
# Source: IAM API reference, CreateUser and CreateRole: names, and the path with the slashes at both ends.
_NAME_LENGTH = 64
_PATH_LENGTH = 512
_OUTSIDE_NAME = re.compile(r"[^\w+=,.@-]", re.ASCII)
_OUTSIDE_PATH = re.compile(r"[^\x21-\x7e]")
# Source: STS API reference, AssumeRole: RoleSessionName.
_SESSION = re.compile(r"assumed-role/(?P<role>[\w+=,.@-]{1,64})/(?P<session>[\w+=,.@-]{2,64})", re.ASCII)


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


@dataclass(frozen=True)
class RoleSession(Rejection):
    """A session of a role: it cannot have an access entry, but IAM can tell the role behind it.

    `role` is the role's name; its path is not in a session's ARN.
    """

    arn: str
    partition: str
    account: str
    role: str
    session: str


def parse(arn: str) -> PrincipalArn:
    """The parts of an IAM user's or role's ARN; raises UsageError with the reason and the way out."""
    parsed = examine(arn)
    if isinstance(parsed, Rejection):
        raise UsageError(f"{arn!r}: {parsed.reason}", remedy=parsed.remedy)
    return parsed


def examine(arn: str) -> PrincipalArn | Rejection:
    """The parts of an IAM user's or role's ARN, or why it is not one that EKS accepts.

    A session of a role is a RoleSession: a Rejection that says which role to look for.
    """
    if arn != arn.strip():
        return Rejection("there is white space around it", "give the ARN alone")
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        return Rejection(
            "this is not an ARN", f"give the whole ARN of an IAM user or role, such as {EXAMPLE}"
        )
    _, partition, service, region, account, resource = parts
    # IAM has them in paths, where nobody puts them; EKS takes no pattern for a principal.
    if "*" in arn or "?" in arn:
        return Rejection(
            "wildcards are not possible in an access entry", "name each user or role by its own ARN"
        )
    if partition not in PARTITIONS:
        return Rejection(
            f"{partition!r} is not a partition of AWS", "start with arn:aws:, arn:aws-cn: or arn:aws-us-gov:"
        )
    if service not in ("iam", "sts"):
        return Rejection(f"this names something in {service!r}", "give the ARN of an IAM user or role")
    if region:
        return Rejection("an IAM ARN has no region", f"leave the fourth part empty, as in {EXAMPLE}")
    if not _ACCOUNT.fullmatch(account):
        return Rejection("the account is not 12 digits", f"write it out with leading zeros, as in {EXAMPLE}")
    if service == "sts":
        return _session(arn, partition, account, resource)
    kind, _, rest = resource.partition("/")
    if kind not in ("user", "role") or not rest:
        return _unusable(resource)
    folders, slash, name = rest.rpartition("/")
    path = folders + slash
    if kind == "role" and path.startswith("aws-service-role/"):
        return Rejection(
            "a service-linked role cannot have an access entry", "give a role that people assume"
        )
    return _misnamed(path, name) or PrincipalArn(arn, partition, account, kind, path, name)


def _misnamed(path: str, name: str) -> Rejection | None:
    """What no name and no path in IAM has."""
    as_shown = f"give it as IAM shows it, such as {EXAMPLE}"
    if path == "/":
        return Rejection("there is nothing between the two slashes before the name", as_shown)
    # IAM counts the slash in front too.
    if len(path) + 1 > _PATH_LENGTH:
        return Rejection("the path before the name is longer than 512 characters", as_shown)
    outside = _OUTSIDE_PATH.search(path)
    if outside:
        return Rejection(f"the path before the name holds {outside[0]!r}, which no path in IAM has", as_shown)
    if not name:
        return Rejection("the name behind the last slash is missing", as_shown)
    outside = _OUTSIDE_NAME.search(name)
    if outside:
        return Rejection(f"the name holds {outside[0]!r}, which no name in IAM has", as_shown)
    if len(name) > _NAME_LENGTH:
        return Rejection("the name is longer than 64 characters", as_shown)
    return None


def _session(arn: str, partition: str, account: str, resource: str) -> Rejection:
    match = _SESSION.fullmatch(resource)
    if match:
        return RoleSession(
            "this is a session of a role, not the role",
            f"give the role's own ARN: aws iam get-role --role-name {match['role']} --query Role.Arn",
            arn=arn,
            partition=partition,
            account=account,
            role=match["role"],
            session=match["session"],
        )
    if resource.partition("/")[0] == "assumed-role":
        return Rejection(
            "this is not the ARN of a role's session, which ends with assumed-role/ROLE/SESSION",
            "give the role's own ARN, or the one that `aws sts get-caller-identity` prints",
        )
    if resource.startswith("federated-user/"):
        return Rejection(
            "a federated user cannot have an access entry", "give the ARN of the IAM role behind it"
        )
    return Rejection(
        "a session of STS cannot have an access entry", "give the ARN of the IAM user or role behind it"
    )


def _unusable(resource: str) -> Rejection:
    """Kinds that exist in IAM but cannot have an access entry."""
    if resource == "root":
        return Rejection("the account's root user cannot have an access entry", "give an IAM user or role")
    if resource.startswith("group/"):
        return Rejection(
            "an IAM group cannot have an access entry", "name its members, or a role that they assume"
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
    return Rejection(
        "the part after the account is not user/NAME or role/NAME",
        f"give it as IAM shows it, such as {EXAMPLE}",
    )
