"""A teammate's own user of the OpenSearch domain: made with a grant, deleted with a revocation.

The domain knows passwords and no IAM. Each such user carries the ARN of its principal as an attribute, and that is
the only record of it. Its password is written once, to a private file that somebody hands over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cali_infra import files
from cali_infra.core.access import Entry, short
from cali_infra.core.index import READER
from cali_infra.core.init import Random, password
from cali_infra.errors import PreconditionError

if TYPE_CHECKING:
    from pydantic import SecretStr

Body = dict[str, Any]

_PRINCIPAL = "principal"
# Without it a person may ask the domain, and Dashboards lets nobody in. Source: the tutorial on fine-grained access
# control of the Amazon OpenSearch Service.
DASHBOARDS = "opensearch_dashboards_user"
# What makes trouble in a URL, a shell or the head of basic auth.
_ODD = re.compile(r"[^A-Za-z0-9_.-]+")


class Domain(Protocol):
    """What is asked of a domain; `adapters.opensearch.OpenSearch` is one."""

    @property
    def endpoint(self) -> str: ...

    def role(self, name: str) -> Body | None: ...

    def users(self) -> dict[str, Body]: ...

    def put_user(self, name: str, password: SecretStr, body: Body) -> None: ...

    def delete_user(self, name: str) -> bool: ...


@dataclass(frozen=True)
class Handover:
    """A user that was made, and the 0600 file that holds its password; None where the user was there already."""

    user: str
    file: Path | None


class SearchUsers:
    """The teammates' users of one domain; `folder` is a private folder for the files with passwords."""

    def __init__(self, domain: Domain, folder: Path) -> None:
        self._domain, self._folder = domain, folder

    def by_principal(self) -> dict[str, str]:
        """The teammates' users by the ARN that each belongs to."""
        return {
            str(body["attributes"][_PRINCIPAL]): name
            for name, body in self._domain.users().items()
            if (body.get("attributes") or {}).get(_PRINCIPAL)
        }

    def check(self) -> None:
        """Raises PreconditionError where the reader's role is not there yet."""
        if self._domain.role(READER) is None:
            raise PreconditionError(
                f"the domain has no role {READER} yet, which teammates get", remedy="make it: cali up index"
            )

    def grant(self, entry: Entry, random: Random) -> Handover:
        """Make a user with the reader's role; one that is there stays as it is, its password too."""
        from pydantic import SecretStr

        users = self._domain.users()
        for name, body in users.items():
            if (body.get("attributes") or {}).get(_PRINCIPAL) == entry.arn:
                return Handover(name, None)
        name = _free_name(entry.arn, users)
        secret = password(random)
        file = self._folder / f"opensearch-{name}.txt"
        files.private_folder(self._folder)
        # Before the user is made: a password that could not be kept would be lost.
        text = f"address: https://{self._domain.endpoint}/_dashboards\nuser: {name}\npassword: {secret}\n"
        files.write_private(file, text.encode())
        roles = [READER, *([DASHBOARDS] if self._domain.role(DASHBOARDS) else [])]
        body = {
            "opendistro_security_roles": roles,
            "backend_roles": [],
            "attributes": {"managed-by": "cali", _PRINCIPAL: entry.arn},
        }
        self._domain.put_user(name, SecretStr(secret), body)
        return Handover(name, file)

    def revoke(self, arns: Collection[str]) -> tuple[str, ...]:
        """Delete the users of these principals, and the files that may still lie here; returns their names."""
        gone = []
        for arn, name in self.by_principal().items():
            if arn in arns:
                self._domain.delete_user(name)
                (self._folder / f"opensearch-{name}.txt").unlink(missing_ok=True)
                gone.append(name)
        return tuple(gone)


def _free_name(arn: str, users: Mapping[str, Body]) -> str:
    """The principal's own name; with a mark of its ARN where somebody else has that already."""
    name = _ODD.sub("-", short(arn)).strip("-.") or "teammate"
    if name not in users:
        return name
    return f"{name}-{hashlib.sha256(arn.encode()).hexdigest()[:6]}"
