"""Who calls: from an access key to the IAM principal behind it, read from moto's IAM.

It owns that reading and the one user that the sandbox starts with. The principals themselves are made and
deleted through the IAM API, as on AWS.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

OPERATOR_PATH = "/sandbox/"
OPERATOR_NAME = "operator"
PRINCIPAL_ARN = re.compile(r"^arn:aws[a-z-]*:iam::(?P<account>\d{12}):(?P<kind>user|role)/(?P<name>.+)$")


@dataclass(frozen=True)
class Principal:
    """An IAM user or role.

    `unique_id` is IAM's own (AIDA... or AROA...), which a principal made anew under the same ARN does not
    have; `session` is the session's name when a role was assumed.
    """

    arn: str
    unique_id: str
    account: str
    session: str = ""

    @property
    def caller_arn(self) -> str:
        """The ARN that STS names: of the session when a role was assumed, else the principal's."""
        if not self.session:
            return self.arn
        return f"arn:aws:sts::{self.account}:assumed-role/{self.arn.rsplit('/', 1)[-1]}/{self.session}"


@dataclass(frozen=True)
class AccessKey:
    """An active access key and whose it is; `session_token` is empty for a user's own key."""

    id: str
    secret: str = field(repr=False)
    principal: Principal
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Operator:
    """The user that the sandbox starts with."""

    arn: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


class Identities:
    """The IAM principals that this stand-in knows."""

    def __init__(self, account: str, now: Callable[[], datetime]) -> None:
        self.account = account
        self._now = now

    def bootstrap(self) -> Operator:
        """Make the operator, an administrator, with an access key."""
        iam = self._iam(self.account)
        user = iam.create_user(region_name="aws", user_name=OPERATOR_NAME, path=OPERATOR_PATH)
        iam.attach_user_policy("arn:aws:iam::aws:policy/AdministratorAccess", OPERATOR_NAME)
        key = iam.create_access_key(OPERATOR_NAME)
        return Operator(str(user.arn), str(key.access_key_id), str(key.secret_access_key))

    def access_key(self, key_id: str) -> AccessKey | None:
        """The access key of that id, unless it is unknown, inactive, expired or its role is gone."""
        from moto.iam.models import iam_backends

        for account, partitions in list(iam_backends.items()):
            iam = partitions["aws"]
            for user in list(iam.users.values()):
                for key in user.access_keys:
                    if key.access_key_id == key_id and key.status == "Active":
                        principal = Principal(str(user.arn), str(user.id), str(account))
                        return AccessKey(key_id, str(key.secret_access_key), principal)
            session = self._session(str(account), key_id)
            if session is not None:
                role_id = self.unique_id(str(session.role_arn))
                if role_id is None or session.expiration.replace(tzinfo=UTC) < self._now():
                    return None
                principal = Principal(str(session.role_arn), role_id, str(account), str(session.session_name))
                return AccessKey(
                    key_id, str(session.secret_access_key), principal, str(session.session_token)
                )
        return None

    def unique_id(self, arn: str) -> str | None:
        """IAM's own id of the user or role with exactly this ARN (its path included), None without one."""
        found = self._record(arn)
        return None if found is None else str(found.id)

    def trust_policy(self, arn: str) -> str | None:
        """The document that says who may assume a role, None when IAM has none of that ARN."""
        found = self._record(arn)
        return None if found is None else getattr(found, "assume_role_policy_document", None)

    def policies(self, arn: str) -> tuple[str, ...]:
        """The documents that say what a user or role may do: inline, attached, and those of its groups.

        Empty for one that IAM does not know. Raises NotImplementedError where a permissions boundary would
        have a say.
        """
        found = self._record(arn)
        if found is None:
            return ()
        if getattr(found, "permissions_boundary", None):
            raise NotImplementedError(f"the permissions boundary of {arn}")
        holders = [found]
        if ":user/" in arn:
            holders += self._iam(arn.split(":")[4]).get_groups_for_user(found.name)
        inline = [str(document) for holder in holders for document in holder.policies.values()]
        attached = [policy for holder in holders for policy in holder.managed_policies.values()]
        return (*inline, *(_document(policy) for policy in attached))

    def has_account(self, account: str) -> bool:
        """Whether that account's IAM is kept here: of another one nothing can be told."""
        return account == self.account

    def _record(self, arn: str) -> Any | None:
        """moto's record of the user or role with exactly this ARN."""
        from moto.iam.models import iam_backends

        match = PRINCIPAL_ARN.match(arn)
        if match is None or match["account"] not in iam_backends:
            return None
        iam = self._iam(match["account"])
        owned = iam.users if match["kind"] == "user" else iam.roles
        return next((each for each in list(owned.values()) if each.arn == arn), None)

    @staticmethod
    def _iam(account: str) -> Any:
        from moto.iam.models import iam_backends

        return iam_backends[account]["aws"]

    @staticmethod
    def _session(account: str, key_id: str) -> Any | None:
        from moto.sts.models import sts_backends

        return sts_backends[account]["aws"].get_assumed_role_from_access_key(key_id)


def _document(policy: Any) -> str:
    """The document of a managed policy's default version."""
    versions = {version.version_id: version.document for version in policy.versions}
    return str(versions[policy.default_version_id])
