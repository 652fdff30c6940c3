"""The doors to the applications' own passwords: what each has to be told, in a container of its own, to take
another one.

They go through a shell in the application's pod and not through a forwarded port: Grafana's and Airflow's commands
need no old password, so that a change which stopped half way is simply made once more, and PostgreSQL's client is
there already. Nothing secret is an argument: a shell takes lines from its input and hands them on by its built-in
commands. Every change may be made again, and does nothing where the new password is in force.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Protocol

from cali_infra.errors import OperationError, PodCommandError

# Runs a command with these lines on its input, and returns what it printed. Raises PodCommandError.
Shell = Callable[[Sequence[str], Sequence[str]], str]

_END = "..end.."
# Hands lines on to a command, up to the last: an exec's input cannot be ended.
_FEED = f'while IFS= read -r line && [ "$line" != {_END} ]; do printf \'%s\\n\' "$line"; done |'
# Source: PostgreSQL, `scram-common.h`.
_ITERATIONS, _SALT = 4096, 16


class Door(Protocol):
    """One application's way to another password."""

    def change(self, shell: Shell, old: str, new: str) -> None:
        """Put `new` in the place of `old`. Raises OperationError; the password is then what it was."""


class Grafana:
    """The user admin. Source: Grafana 13, `reset_password_command.go`: reads the first line of its input."""

    def change(self, shell: Shell, old: str, new: str) -> None:
        shell(_sh(f"{_FEED} grafana cli admin reset-admin-password --password-from-stdin"), [new, _END])


class Airflow:
    """The user admin. `connections` are the URLs by which the database may be reached by now: a pod keeps the one
    that it was started with.

    Source: the provider fab, `user_command.py`: asks twice, and reads its input where there is no terminal.
    """

    _COMMAND = "airflow users reset-password --username admin"

    def __init__(self, connections: Sequence[str] = ()) -> None:
        self._connections = tuple(dict.fromkeys(connections))

    def change(self, shell: Shell, old: str, new: str) -> None:
        attempts: list[tuple[str, list[str]]] = [
            (
                "IFS= read -r AIRFLOW__DATABASE__SQL_ALCHEMY_CONN; export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN; ",
                [url],
            )
            for url in self._connections
        ] or [("", [])]
        for number, (before, lines) in enumerate(attempts, start=1):
            try:
                shell(_sh(f"{before}{_FEED} {self._COMMAND}"), [*lines, new, new, _END])
                return
            except PodCommandError:
                if number == len(attempts):
                    raise


class Milvus:
    """The user root, by the REST API on the pod's own port. Source: Milvus 2.6, `handler_v2.go`."""

    _URL = "http://127.0.0.1:19530/v2/vectordb/users"

    def change(self, shell: Shell, old: str, new: str) -> None:
        if self._ask(shell, "describe", new, {"userName": "root"}) is None:
            return
        refusal = self._ask(
            shell, "update_password", old, {"userName": "root", "password": old, "newPassword": new}
        )
        if refusal is not None:
            raise OperationError(
                f"Milvus keeps its password of root: {refusal.replace(old, '***').replace(new, '***')}",
                remedy="neither the one in the Secret milvus/milvus-root nor the one in secrets.yaml is root's; "
                "change it in Milvus to either, then run the command again",
            )

    def _ask(self, shell: Shell, what: str, password: str, body: dict[str, str]) -> str | None:
        """What Milvus has against a request, None where it did it."""
        config = {
            "url": f"{self._URL}/{what}",
            "header": f"Authorization: Bearer root:{password}",
            "data": json.dumps(body),
        }
        lines = [f"{name} = {_quoted(value)}" for name, value in config.items()]
        lines.append('header = "Content-Type: application/json"')
        said = shell(_sh(f"{_FEED} curl --silent --show-error --max-time 30 --config -"), [*lines, _END])
        try:
            answer = json.loads(said)
            code = int(answer["code"])
        except (ValueError, KeyError, TypeError):
            raise OperationError(f"Milvus answered no JSON that says how it went: {said[:200]}") from None
        return None if code == 0 else str(answer.get("message") or f"code {code}")


class Postgres:
    """Users of a PostgreSQL that have one password, changed together as the superuser, the first of `users`.

    The server is sent what it would make of a password, so that none can reach its log. `salt` gives random bytes.
    """

    def __init__(self, users: Sequence[str], salt: Callable[[int], bytes]) -> None:
        self._users, self._salt = tuple(users), salt

    def change(self, shell: Shell, old: str, new: str) -> None:
        if not new.isascii():
            raise OperationError(
                "the bundled PostgreSQL takes no password with other characters than ASCII from here",
                remedy="choose another airflow.database_password in secrets.yaml",
            )
        try:
            self._do(shell, new, ["SELECT 1;"])
        except PodCommandError:
            self._do(
                shell, old, [f"ALTER ROLE {user} PASSWORD '{self._verifier(new)}';" for user in self._users]
            )

    def _do(self, shell: Shell, password: str, statements: Sequence[str]) -> None:
        # By TCP: a socket may let anybody in.
        client = f"psql -qAt -1 -v ON_ERROR_STOP=1 -h 127.0.0.1 -U {self._users[0]} -d postgres -f -"
        shell(
            _sh(f"IFS= read -r PGPASSWORD; export PGPASSWORD; {_FEED} {client}"),
            [password, *statements, _END],
        )

    def _verifier(self, password: str) -> str:
        """What PostgreSQL keeps of a password. Source: RFC 5802; PostgreSQL, "pg_authid"."""
        salt = self._salt(_SALT)
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
        client, server = (hmac.digest(salted, key, "sha256") for key in (b"Client Key", b"Server Key"))
        stored = hashlib.sha256(client).digest()
        parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
        return f"SCRAM-SHA-256${_ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


def _sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def _quoted(text: str) -> str:
    """A value in curl's configuration, in which a backslash and a double quote are to be escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
