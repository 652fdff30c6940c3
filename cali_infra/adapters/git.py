"""The door to Git and to OpenSSH's key tool: does a repository keep a file that it must not, and which branches
and tags does a remote one have, at which commits, for whoever has this key or token.

What an answer means for the platform is core's business (`core/git_sync.py`). A key lies in a private file for as
long as a call takes; a token goes by the environment. Neither is ever an argument.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cali_infra import files
from cali_infra.errors import GitError, GitTrouble

# A listing as a whole, and the connection of it, in seconds.
TIMEOUT, CONNECT = 30.0, 10
_TOOL = 10.0
# Git asks a helper for what it would ask a person for; this one has it from the environment.
_USER, _TOKEN = "CALI_GIT_USERNAME", "CALI_GIT_TOKEN"
_HELPER = f'!f() {{ test "$1" = get && printf "username=%s\\npassword=%s\\n" "${_USER}" "${_TOKEN}"; :; }}; f'
# What Git, ssh, libcurl and the big hosts say, in the order in which it is looked for: their last line is always
# the same. A 403 may be an address that is not let in, which the pods' may be: it stays unclear. Texts: OpenSSH's
# sshconnect.c and sshconnect2.c, Git's http.c and remote-curl.c, libcurl's strerror.c.
_WORDS: tuple[tuple[str, GitTrouble], ...] = (
    (r"No \S+ host key is known for", GitTrouble.HOST_UNKNOWN),
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY", GitTrouble.HOST_CHANGED),
    (r"Host key verification failed", GitTrouble.HOST_UNKNOWN),
    (r"Permission denied \(|Too many authentication failures", GitTrouble.REFUSED),
    (r"Authentication failed for|could not read (Username|Password)", GitTrouble.REFUSED),
    (r"HTTP Basic: Access denied|returned error: 401\b", GitTrouble.REFUSED),
    (r"Repository not found|repository '.*' not found", GitTrouble.NOT_FOUND),
    (r"does not appear to be a git repository|returned error: 404\b", GitTrouble.NOT_FOUND),
    (r"(project|repository) you were looking for could not be found", GitTrouble.NOT_FOUND),
    (r"[Cc]ould not resolve|[Nn]ame or service not known|[Tt]imed out", GitTrouble.UNREACHABLE),
    (r"Connection (refused|closed|reset)|[Nn]o route to host", GitTrouble.UNREACHABLE),
    (r"Network is unreachable|Failed to connect|Couldn't connect", GitTrouble.UNREACHABLE),
    (r"ssh: not found|cannot run ssh|ssh: command not found", GitTrouble.NO_TOOL),
)


@dataclass(frozen=True)
class Remote:
    """A repository as it is asked for: over SSH with a key and the hosts that are believed, over HTTPS with a
    token, or with nothing where it is public."""

    url: str
    ssh_key: str | None = field(default=None, repr=False)
    known_hosts: str = ""
    username: str = "git"
    token: str | None = field(default=None, repr=False)


def tracks(folder: Path, name: str, environ: Mapping[str, str], timeout: float = _TOOL) -> bool:
    """Whether Git's index holds the file, so that a line in .gitignore does not help; False without Git."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", "--", name],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0


def list_refs(remote: Remote, environ: Mapping[str, str], timeout: float = TIMEOUT) -> frozenset[str]:
    """The names of a remote repository's refs, such as refs/heads/main, seen as a pod would see them: nothing of
    the caller's own configuration, keys, agent or stored passwords helps.

    Raises GitError.
    """
    return frozenset(_listed(remote, environ, timeout))


def head(remote: Remote, ref: str, environ: Mapping[str, str], timeout: float = TIMEOUT) -> str | None:
    """The commit that a branch or a tag of a remote repository is at, seen as a pod would; None without such a ref.

    Raises GitError.
    """
    refs = _listed(remote, environ, timeout)
    # An annotated tag is an object of its own; behind it, with ^{}, is the commit.
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"):
        if name in refs:
            return refs[name]
    return None


def _listed(remote: Remote, environ: Mapping[str, str], timeout: float) -> dict[str, str]:
    command = ["git", "-c", "credential.helper="]
    surroundings = _surroundings(environ)
    if remote.token is not None:
        command += ["-c", f"credential.helper={_HELPER}"]
        surroundings |= {_USER: remote.username, _TOKEN: remote.token}
    with tempfile.TemporaryDirectory(prefix="cali-git-") as name:
        folder = Path(name)
        # ~/.gitconfig and ~/.netrc belong to the caller.
        surroundings |= {"HOME": name, "XDG_CONFIG_HOME": name}
        if remote.ssh_key is not None:
            surroundings["GIT_SSH_COMMAND"] = _ssh(folder, remote.ssh_key, remote.known_hosts)
            surroundings["GIT_SSH_VARIANT"] = "ssh"
        done = _run([*command, "ls-remote", "--", remote.url], surroundings, timeout)
    if done.returncode == 0:
        lines = (line.partition("\t") for line in done.stdout.splitlines() if "\t" in line)
        return {name: commit for commit, _, name in lines}
    raise GitError(_last_words(done.stderr, remote), trouble=_trouble(done.stderr))


def check_key(key: str, environ: Mapping[str, str]) -> str | None:
    """What OpenSSH has against a private key, None where it reads it.

    Raises GitError where there is no ssh-keygen.
    """
    with _kept("key", key) as path:
        done = _run(["ssh-keygen", "-y", "-P", "", "-f", str(path)], _surroundings(environ), _TOOL)
        if done.returncode == 0:
            return None
        words = done.stderr.strip().splitlines()[-1:] or ["ssh-keygen does not read it"]
        return words[0].replace(f'Load key "{path}": ', "")


def knows_host(host: str, known_hosts: str, environ: Mapping[str, str]) -> bool:
    """Whether known hosts, hashed ones and patterns included, hold a key of `host` or `host:port`.

    Raises GitError where there is no ssh-keygen.
    """
    name, _, port = host.partition(":")
    looked_up = f"[{name}]:{port}" if port not in ("", "22") else name
    with _kept("known_hosts", known_hosts) as path:
        return (
            _run(["ssh-keygen", "-F", looked_up, "-f", str(path)], _surroundings(environ), _TOOL).returncode
            == 0
        )


@contextmanager
def _kept(name: str, content: str) -> Iterator[Path]:
    """A file of mode 0600 in a folder of mode 0700, gone with the block."""
    with tempfile.TemporaryDirectory(prefix="cali-git-") as folder:
        path = Path(folder) / name
        files.write_private(path, content.encode())
        yield path


def _ssh(folder: Path, key: str, known_hosts: str) -> str:
    """The command by which Git reaches the host: with this key and these hosts, and nobody is asked."""
    files.write_private(folder / "key", key.encode())
    files.write_private(folder / "known_hosts", known_hosts.encode())
    options = {
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": f'"{folder / "known_hosts"}"',
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": str(CONNECT),
        "UpdateHostKeys": "no",
        "ControlMaster": "no",
    }
    words = ["ssh", "-F", "none", "-i", str(folder / "key")]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return shlex.join(words)


def _surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would steer Git or ssh elsewhere, in the language that `_WORDS` are in."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("GIT_", "SSH_"))}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass(frozen=True)
class _Done:
    returncode: int
    stdout: str
    stderr: str


def _run(command: list[str], environ: Mapping[str, str], timeout: float) -> _Done:
    try:
        child = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Without a terminal nobody is asked; and its own group can be ended with the ssh that Git has started.
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise GitError(f"{command[0]} cannot be run here", trouble=GitTrouble.NO_TOOL) from error
    try:
        out, said = child.communicate(timeout=timeout)
    except BaseException as error:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise GitError(
            f"{command[0]} got no answer within {timeout:.0f} seconds", trouble=GitTrouble.UNREACHABLE
        ) from error
    return _Done(child.returncode, out, said)


def _trouble(said: str) -> GitTrouble:
    found = (trouble for pattern, trouble in _WORDS if re.search(pattern, said))
    return next(found, GitTrouble.UNCLEAR)


def _last_words(said: str, remote: Remote) -> str:
    """The one line that tells something, without the token, should the host repeat it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if any(re.search(pattern, line) for pattern, _ in _WORDS)]
    words = (telling or lines[-1:] or ["Git said nothing"])[0].removeprefix("fatal: ")
    return words.replace(remote.token, "********") if remote.token else words
