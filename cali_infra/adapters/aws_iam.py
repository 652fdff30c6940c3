"""What IAM says of users and roles: whether they exist, under which ARN, and the role behind a session.

It takes a client of IAM and the caller's account, and leaves botocore's other exceptions to the door, `aws.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cali_infra.errors import RoleUnresolvedError

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_ABSENT = frozenset({"NoSuchEntity", "NoSuchEntityException"})


class Standing(StrEnum):
    """How a principal stands with IAM, as far as this caller may know."""

    EXISTS = "exists"
    ABSENT = "absent"
    MAY_NOT_ASK = "may not ask"
    OTHER_ACCOUNT = "other account"


@dataclass(frozen=True)
class PrincipalState:
    """What IAM says of the ARN that it was asked for.

    `arn`, `unique_id` and `created_at` are IAM's own. One that is absent under the ARN that was given, but
    exists under another path, has its real ARN in `arn` all the same. `said` are IAM's words where it refused.
    """

    asked: str
    standing: Standing
    arn: str = ""
    unique_id: str = ""
    created_at: datetime | None = None
    said: str = ""


def principal(iam: Any, arn: str, account: str) -> PrincipalState:
    """Ask IAM for the user or role with this ARN; `account` is the caller's, the only one that can be asked."""
    parts = arn.split(":", 5)
    kind, _, rest = parts[5].partition("/")
    if parts[4] != account:
        return PrincipalState(arn, Standing.OTHER_ACCOUNT)
    return _ask(iam, arn, kind, rest.rsplit("/", 1)[-1])


def role_of_session(iam: Any, session: str, account: str) -> str:
    """The ARN, with its path, of the role behind `arn:...:sts::ACCOUNT:assumed-role/ROLE/SESSION`.

    A session's ARN has lost the path, so IAM has to be asked. Raises RoleUnresolvedError when it may not be, or
    has no such role.
    """
    parts = session.split(":", 5)
    role = parts[5].split("/")[1]
    show = f"aws iam get-role --role-name {role} --query Role.Arn --output text"
    if parts[4] != account:
        raise RoleUnresolvedError(
            f"{session}: the role is in account {parts[4]}, and IAM of {account} does not know its path",
            standing=Standing.OTHER_ACCOUNT,
            remedy=f"give the role's own ARN, as somebody in that account sees it: {show}",
        )
    found = _ask(iam, session, "role", role)
    # Whatever its path, the role of that name is the one: names of roles are unique in an account.
    if found.arn:
        return found.arn
    if found.standing is Standing.MAY_NOT_ASK:
        raise RoleUnresolvedError(
            f"{session}: the role's path is not in a session's ARN, and IAM refused to tell it: {found.said}",
            standing=found.standing,
            remedy=f"get the permission iam:GetRole, or give the role's own ARN: {show}",
        )
    raise RoleUnresolvedError(
        f"{session}: IAM has no role {role}",
        standing=found.standing,
        remedy="check the name; a session outlives its role for up to 12 hours",
    )


def _ask(iam: Any, asked: str, kind: str, name: str) -> PrincipalState:
    from botocore.exceptions import ClientError

    try:
        found = iam.get_user(UserName=name)["User"] if kind == "user" else iam.get_role(RoleName=name)["Role"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _ABSENT:
            return PrincipalState(asked, Standing.ABSENT)
        if code in _DENIED:
            said = error.response["Error"].get("Message") or code
            return PrincipalState(asked, Standing.MAY_NOT_ASK, said=said)
        raise
    standing = Standing.EXISTS if found["Arn"] == asked else Standing.ABSENT
    unique_id = found["UserId"] if kind == "user" else found["RoleId"]
    return PrincipalState(asked, standing, found["Arn"], unique_id, found["CreateDate"])


class CallerKind(StrEnum):
    """What a caller is. Only users and roles can have an access entry."""

    USER = "user"
    ROLE = "role"
    ROOT = "root"
    FEDERATED = "federated user"


@dataclass(frozen=True)
class CallerPrincipal:
    """Who is behind the caller's keys: `arn` is the user's or the role's own, with its path."""

    arn: str
    kind: CallerKind


def caller_kind(arn: str) -> CallerKind:
    """What a caller is by the ARN that STS names."""
    resource = arn.split(":", 5)[5]
    if resource == "root":
        return CallerKind.ROOT
    if resource.startswith("user/"):
        return CallerKind.USER
    return CallerKind.ROLE if resource.startswith("assumed-role/") else CallerKind.FEDERATED
