"""Whether GitSync will get Airflow's DAGs, found out before anything is made.

The key is read, the host looked up among the known ones, and the repository listed with exactly what the pods will
have. What is certain to be wrong stops the run; what cannot be found out from here is said.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cali_infra.adapters import git
from cali_infra.core.secrets import FILE, ssh_host, ssh_key_text
from cali_infra.errors import GitError, GitTrouble, SettingsError, SettingsProblem

if TYPE_CHECKING:
    from cali_infra.core.secrets import GitSyncSecrets, Secrets
    from cali_infra.core.settings import Settings

ListRefs = Callable[[git.Remote, Mapping[str, str]], frozenset[str]]
FindHead = Callable[[git.Remote, str, Mapping[str, str]], str | None]
# Names that a machine has for itself; a rehearsal speaks to no other.
_HERE = ("localhost", "127.0.0.1", "::1")


def check(
    settings: Settings,
    secrets: Secrets,
    environ: Mapping[str, str],
    *,
    rehearsal: bool = False,
    list_refs: ListRefs = git.list_refs,
) -> tuple[str, ...]:
    """Hold key, known hosts, repository and branch against each other; without a URL there is nothing to do.

    Raises SettingsError with what is certainly wrong, and returns what could not be found out. A rehearsal lists
    only what is on this machine.
    """
    gitsync = secrets.gitsync
    if not settings.services.airflow or not gitsync.url:
        return ()
    host = ssh_host(gitsync.url)
    remote = _remote(gitsync, over_ssh=host is not None)
    notes: list[str] = []
    if host is not None:
        try:
            problems = _of_ssh(gitsync, host, remote, environ)
        except GitError as error:
            problems = []
            notes.append(f"the GitSync key could not be checked: {error.message}")
        if problems:
            raise SettingsError(problems)
    if rehearsal and _host_of(gitsync.url, host) not in _HERE:
        return tuple(notes)
    try:
        refs = list_refs(remote, environ)
    except GitError as error:
        problem = _certain(error, gitsync, host)
        if problem is not None:
            raise SettingsError([problem]) from error
        notes.append(f"whether GitSync can read {gitsync.url} could not be found out: {error.message}")
        return tuple(notes)
    wanted = settings.airflow.dags_branch
    if not {f"refs/heads/{wanted}", f"refs/tags/{wanted}"} & refs:
        raise SettingsError([_missing(wanted, gitsync.url, refs)])
    return tuple(notes)


def head(
    settings: Settings,
    secrets: Secrets,
    environ: Mapping[str, str],
    *,
    rehearsal: bool = False,
    find: FindHead = git.head,
) -> str:
    """The commit that GitSync should have brought: the head of the branch, asked for with what the pods have.

    A rehearsal asks no other machine. Raises GitError where it cannot be asked, or has no such branch.
    """
    gitsync = secrets.gitsync
    host = ssh_host(gitsync.url or "")
    if rehearsal and _host_of(gitsync.url or "", host) not in _HERE:
        raise GitError(
            f"a rehearsal asks no other machine, and {gitsync.url} is on one", trouble=GitTrouble.UNREACHABLE
        )
    found = find(_remote(gitsync, over_ssh=host is not None), settings.airflow.dags_branch, environ)
    if found is None:
        raise GitError(
            f"{gitsync.url} has no branch and no tag {settings.airflow.dags_branch}",
            trouble=GitTrouble.NOT_FOUND,
        )
    return found


def _remote(gitsync: GitSyncSecrets, *, over_ssh: bool) -> git.Remote:
    url = gitsync.url or ""
    if over_ssh and gitsync.ssh_key is not None:
        key = ssh_key_text(gitsync.ssh_key.get_secret_value())
        # A file that does not end its last line loses it.
        return git.Remote(url, ssh_key=key, known_hosts=f"{(gitsync.known_hosts or '').strip()}\n")
    token = gitsync.token.get_secret_value() if gitsync.token else None
    return git.Remote(url, username=gitsync.username, token=token)


def _of_ssh(
    gitsync: GitSyncSecrets, host: str, remote: git.Remote, environ: Mapping[str, str]
) -> list[SettingsProblem]:
    """What can be said without a network."""
    problems: list[SettingsProblem] = []
    line = _broken_line(remote.known_hosts)
    if line is not None:
        problems.append(
            _problem(
                "known_hosts",
                f"line {line} holds no whole key: its base64 is cut short, or of another type than it says",
                f"the output of `{_scan(host)}`",
            )
        )
    against = git.check_key(remote.ssh_key or "", environ)
    if against is not None and "passphrase" in against:
        problems.append(
            _problem(
                "ssh_key",
                "has a passphrase, and nobody is there to type it",
                "a key made with: ssh-keygen -t ed25519 -N ''",
            )
        )
    elif against is not None:
        problems.append(
            _problem(
                "ssh_key",
                f"OpenSSH cannot read it ({against}); it is cut short or changed",
                "the whole file again, each line of it indented",
            )
        )
    if line is None and not git.knows_host(host, remote.known_hosts, environ):
        problems.append(_unknown(host))
    return problems


def _certain(error: GitError, gitsync: GitSyncSecrets, host: str | None) -> SettingsProblem | None:
    """The mistake behind Git's words; None where they may mean something else, such as this machine's network."""
    url = gitsync.url
    match error.trouble:
        case GitTrouble.HOST_UNKNOWN if host:
            return _unknown(host)
        case GitTrouble.HOST_CHANGED if host:
            return _problem(
                "known_hosts",
                f"{host} shows another key than the one that stands here: the host's has changed, or another "
                "machine answers in its place; ask its owner before you believe it",
                f"the output of `{_scan(host)}`",
            )
        case GitTrouble.REFUSED if host:
            return _problem(
                "ssh_key",
                f"{host} does not accept it for {url} ({error.message}); add its public half to the repository's "
                "deploy keys, with the right to read",
                "its public half: ssh-keygen -y -f KEYFILE",
            )
        case GitTrouble.REFUSED if gitsync.token:
            return _problem(
                "token",
                f"is not accepted for {url} ({error.message}); it has ended, belongs to another user name, or may "
                "not read this repository",
            )
        case GitTrouble.REFUSED:
            return _problem("token", f"is missing: {url} is not public ({error.message})")
        case GitTrouble.NOT_FOUND:
            return _problem(
                "url",
                f"there is no repository {url}, or none that this key or token may see ({error.message})",
                "git@github.com:acme/dags.git",
            )
        case _:
            return None


def _missing(branch: str, url: str, refs: frozenset[str]) -> SettingsProblem:
    heads = sorted(ref.removeprefix("refs/heads/") for ref in refs if ref.startswith("refs/heads/"))
    if not heads:
        return SettingsProblem(
            "cali.yaml", "airflow.dags_branch", f"{url} is empty: it has no branch {branch}"
        )
    from difflib import get_close_matches

    near = get_close_matches(branch, heads, n=1) or heads[:1]
    return SettingsProblem(
        "cali.yaml", "airflow.dags_branch", f"{url} has no branch and no tag {branch}", near[0]
    )


def _unknown(host: str) -> SettingsProblem:
    return _problem(
        "known_hosts",
        f"holds no key of {host}, so GitSync would refuse to speak to it",
        f"the output of `{_scan(host)}`",
    )


def _scan(host: str) -> str:
    name, _, port = host.partition(":")
    return f"ssh-keyscan {f'-p {port} ' if port else ''}{name}"


def _problem(key: str, problem: str, example: str = "") -> SettingsProblem:
    return SettingsProblem(FILE, f"gitsync.{key}", problem, example)


def _host_of(url: str, host: str | None) -> str:
    return host.partition(":")[0] if host else urlsplit(url).hostname or ""


def _broken_line(known_hosts: str) -> int | None:
    """The first line whose key is not what its type says; ssh passes over it without a word.

    A public key begins with the length of its type's name and the name. Source: RFC 4253, 6.6.
    """
    for number, line in enumerate(known_hosts.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        kind, key = (words[1:] if words[0].startswith("@") else words)[1:3]
        try:
            raw = base64.b64decode(key, validate=True)
            (length,) = struct.unpack(">I", raw[:4])
            (rest,) = struct.unpack(">I", raw[4 + length : 8 + length])
        except (binascii.Error, struct.error):
            return number
        if raw[4 : 4 + length] != kind.encode() or len(raw) < 8 + length + rest:
            return number
    return None
