"""The programs that cali runs in the services' pods, as far as a change of a password and a look at GitSync need
them.

`install` writes them into a folder that becomes a container's PATH, beside the machine's own shell. What they know
is in the memory of the process that installs them, which the applications' stand-ins share and a test reads: a
program asks for it at an address on loopback that its environment names, and no file holds a password. Each takes
exactly the arguments that are modelled, notes them, so that a test sees what a list of processes would show, and
refuses all else.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cali_infra.sandbox.services.http import Answer, Request

_NAMES = ("grafana", "airflow", "psql", "curl", "readlink")
# Where GitSync's link is in the containers of Airflow that read it.
LINK = "/opt/airflow/dags/repo"
# So many command lines are noted at most.
_NOTED = 500
_ADDRESS = "CALI_PROGRAMS"


class Knowledge(Protocol):
    """What the applications know, as a program sees it."""

    @property
    def state(self) -> dict[str, Any]:
        """See Programs."""

    def change(self, **state: Any) -> None:
        """See Programs."""


class Programs:
    """A folder with the programs, and the state that they share; safe to use from any thread."""

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        from cali_infra.sandbox.services.http import LoopbackServer

        self.folder = folder
        self._state = state
        self._lock = threading.Lock()
        self._path = f"/{secrets.token_urlsafe(24)}"
        self._server = LoopbackServer("pod programs", self._answer)

    @property
    def environ(self) -> dict[str, str]:
        """The whole environment of a container that has them."""
        return {"PATH": str(self.folder / "bin"), _ADDRESS: self._server.url + self._path}

    @property
    def state(self) -> dict[str, Any]:
        """What the applications know: `grafana`, `airflow`, `milvus` (a password each, missing before the first
        start), `postgres` (user to verifier or password), `commit` (what GitSync's link leads to), `arguments`
        (the latest command lines), `failing` (programs that end with 1)."""
        with self._lock:
            return deepcopy(self._state)

    def change(self, **state: Any) -> None:
        """Change what the applications know; None makes them forget."""
        with self._lock:
            known = {**self._state, **state}
            self._state = {key: value for key, value in known.items() if value is not None}

    def accepts(self, user: str, password: str) -> bool:
        """Whether PostgreSQL lets this user in."""
        return accepts(self.state["postgres"][user], password)

    def close(self) -> None:
        """Let no program ask any more."""
        self._server.close()

    def _answer(self, request: Request) -> Answer:
        from cali_infra.sandbox.services.http import Answer

        if not secrets.compare_digest(request.path.encode(), self._path.encode()):
            return Answer(404, {})
        if request.method == "POST":
            body = request.json()
            if words := body.pop("note", None):
                self.change(arguments=[*self.state["arguments"], words][-_NOTED:])
            self.change(**body)
        return Answer(200, self.state)


class _Asked:
    """The same from a program's process."""

    def __init__(self, address: str) -> None:
        self._address = address

    @property
    def state(self) -> dict[str, Any]:
        return self._ask(None)

    def change(self, **state: Any) -> None:
        self._ask(state)

    def _ask(self, body: dict[str, Any] | None) -> dict[str, Any]:
        from urllib.request import urlopen

        data = None if body is None else json.dumps(body).encode()
        with urlopen(self._address, data, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def install(folder: Path, **state: Any) -> Programs:
    """Write the programs; `state` is what the applications know at first."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    source = str(Path(__file__).parents[2])
    for name in _NAMES:
        path = programs / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {source!r})\n"
            f"from cali_infra.sandbox.pod_programs import main\nsys.exit(main({name!r}, sys.argv[1:]))\n"
        )
        path.chmod(0o755)
    shell = shutil.which("sh")
    assert shell is not None
    (programs / "sh").symlink_to(shell)
    return Programs(folder, {"postgres": {}, "arguments": [], "failing": [], **state})


def accepts(kept: str, password: str) -> bool:
    """Whether a password is the one that PostgreSQL keeps, in clear or as a SCRAM verifier."""
    import base64
    import hashlib
    import hmac

    if not kept.startswith("SCRAM-SHA-256$"):
        return kept == password
    _, counted, keys = kept.split("$")
    iterations, _, salt = counted.partition(":")
    stored = base64.b64decode(keys.partition(":")[0])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    return hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest() == stored


def main(name: str, arguments: list[str]) -> int:
    """One program, run in a container; its exit code."""
    known = _Asked(os.environ[_ADDRESS])
    known.change(note=[name, *arguments])
    if name in known.state["failing"]:
        sys.stderr.write(f"{name}: it does not work today\n")
        return 1
    do: dict[str, Callable[[Knowledge, list[str]], int]] = {
        "grafana": _grafana,
        "airflow": _airflow,
        "psql": _psql,
        "curl": _curl,
        "readlink": _readlink,
    }
    return do[name](known, arguments)


def _refuse(words: str) -> int:
    sys.stderr.write(f"{words}\n")
    return 1


def _grafana(known: Knowledge, arguments: list[str]) -> int:
    if arguments != ["cli", "admin", "reset-admin-password", "--password-from-stdin"]:
        return _refuse(f"not modelled: grafana {' '.join(arguments)}")
    password = sys.stdin.readline().rstrip("\n")
    if len(password) <= 4:
        return _refuse("Error: new password is too short")
    known.change(grafana=password)
    sys.stdout.write("Admin password changed successfully\n")
    return 0


def _airflow(known: Knowledge, arguments: list[str]) -> int:
    if arguments != ["users", "reset-password", "--username", "admin"]:
        return _refuse(f"not modelled: airflow {' '.join(arguments)}")
    from urllib.parse import unquote, urlsplit

    url = urlsplit(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    # A database that is none of the cluster's lets in whoever comes: it is not modelled.
    users = known.state["postgres"]
    if users and not accepts(users.get(url.username or "", ""), unquote(url.password or "")):
        return _refuse(f'FATAL:  password authentication failed for user "{url.username}"')
    first, second = (sys.stdin.readline().rstrip("\n") for _ in range(2))
    if first != second:
        return _refuse("Passwords did not match")
    known.change(airflow=first)
    return 0


def _psql(known: Knowledge, arguments: list[str]) -> int:
    import re

    if arguments[:4] != ["-qAt", "-1", "-v", "ON_ERROR_STOP=1"] or arguments[-2:] != ["-f", "-"]:
        return _refuse(f"not modelled: psql {' '.join(arguments)}")
    user, users = arguments[arguments.index("-U") + 1], known.state["postgres"]
    if not accepts(users[user], os.environ["PGPASSWORD"]):
        return _refuse(f'psql: error: FATAL:  password authentication failed for user "{user}"')
    # In one transaction: nothing is kept before all of it was understood.
    for line in sys.stdin:
        found = re.fullmatch(r"ALTER ROLE (\w+) PASSWORD '([^']+)';", line.strip())
        if found and found[1] in users:
            users[found[1]] = found[2]
        elif line.strip() != "SELECT 1;":
            return _refuse(f"not modelled: {line.strip()}")
    known.change(postgres=users)
    return 0


def _curl(known: Knowledge, arguments: list[str]) -> int:
    """Milvus' REST API behind curl. Source: Milvus 2.6, `handler_v2.go`, `merr`."""
    if arguments != ["--silent", "--show-error", "--max-time", "30", "--config", "-"]:
        return _refuse(f"not modelled: curl {' '.join(arguments)}")
    config: dict[str, list[str]] = {}
    for line in sys.stdin:
        key, _, value = line.strip().partition(" = ")
        text = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        config.setdefault(key, []).append(text)
    user, _, password = config["header"][0].removeprefix("Authorization: Bearer ").partition(":")
    what = config["url"][0].removeprefix("http://127.0.0.1:19530/v2/vectordb/users/")
    body = json.loads(config["data"][0])
    kept = known.state.get("milvus")
    if user != "root" or password != kept:
        sys.stdout.write(json.dumps({"code": 1800, "message": "user hasn't authenticated"}))
    elif what == "describe":
        sys.stdout.write(json.dumps({"code": 0, "data": ["admin"]}))
    elif what == "update_password" and body["password"] == kept:
        known.change(milvus=body["newPassword"])
        sys.stdout.write(json.dumps({"code": 0, "data": {}}))
    else:
        return _refuse(f"not modelled: {what}")
    return 0


def _readlink(known: Knowledge, arguments: list[str]) -> int:
    """GitSync's link. Source: git-sync 4: a link beside the worktrees, each of which is named by its commit."""
    if arguments != [LINK]:
        return _refuse(f"not modelled: readlink {' '.join(arguments)}")
    commit = known.state.get("commit")
    if commit is None:
        # As `readlink` says of what is not there: nothing.
        return 1
    sys.stdout.write(f".worktrees/{commit}\n")
    return 0
