"""The door to Git: what is asked with which key or token, and what its words mean."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cali_infra.adapters.git import Remote, check_key, head, knows_host, list_refs
from cali_infra.errors import GitError, GitTrouble

TOKEN = "Sentinel-token-$'\"1"
# Notes how it was called and what lies in the files that it was given, then says a line, or serves a repository.
SSH = """#!/bin/sh
printf '%s\\n' "$@" > "$NOTES/arguments"
env > "$NOTES/environment"
while [ $# -gt 0 ]; do
  case "$1" in
    -i) cp "$2" "$NOTES/key"; ls -l "$2" > "$NOTES/mode"; echo "$2" > "$NOTES/path"; shift;;
  esac
  shift
done
if [ -n "$SAY" ]; then printf '%b\\n' "$SAY" >&2; exit 255; fi
exec git-upload-pack "$REPOSITORY"
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A PATH with an ssh of our own before the real one, and a caller's agent and configuration."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / "ssh"
    program.write_text(SSH)
    program.chmod(0o755)
    return {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "NOTES": str(tmp_path),
        "REPOSITORY": str(tmp_path / "dags"),
        "SSH_AUTH_SOCK": "/the/callers/agent",
        "GIT_SSH_COMMAND": "false",
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "dags"
    for words in (
        ("init", "-q", "-b", "main", str(folder)),
        (
            "-C",
            str(folder),
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "1",
        ),
        ("-C", str(folder), "tag", "v1"),
    ):
        subprocess.run(["git", *words], check=True)
    return folder


OVER_SSH = Remote("git@git.invalid:acme/dags.git", ssh_key="the key\n", known_hosts="the hosts\n")


def test_a_repository_is_listed_with_the_key_alone(
    environ: dict[str, str], repository: Path, tmp_path: Path
) -> None:
    assert list_refs(OVER_SSH, environ) == {"HEAD", "refs/heads/main", "refs/tags/v1"}

    arguments = (tmp_path / "arguments").read_text()
    for option in ("StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none"):
        assert option in arguments
    assert (tmp_path / "key").read_text() == "the key\n"
    assert (tmp_path / "mode").read_text().startswith("-rw-------")
    assert "SSH_AUTH_SOCK" not in (tmp_path / "environment").read_text()
    # Neither the key nor the folder that it lay in is left.
    assert not Path((tmp_path / "path").read_text().strip()).parent.exists()


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("No ED25519 host key is known for git.invalid\\nHost key verification failed.", "host-unknown"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\\nHost key verification failed.",
            "host-changed",
        ),
        ("git@git.invalid: Permission denied (publickey).", "refused"),
        ("ERROR: Repository not found.", "not-found"),
        ("ERROR: The project you were looking for could not be found.", "not-found"),
        ("ssh: connect to host git.invalid port 22: Connection timed out", "unreachable"),
        ("kex_exchange_identification: Connection closed by remote host", "unreachable"),
        ("ERROR: the organization has an IP allow list enabled", "unclear"),
    ],
)
def test_what_ssh_says_is_told_apart(
    environ: dict[str, str], said: str, trouble: str, tmp_path: Path
) -> None:
    with pytest.raises(GitError) as caught:
        list_refs(OVER_SSH, {**environ, "SAY": said})
    assert caught.value.trouble.value == trouble
    assert not Path((tmp_path / "path").read_text().strip()).exists()


def test_the_real_ssh_finds_nobody_and_no_name(environ: dict[str, str]) -> None:
    real = {**environ, "PATH": os.environ["PATH"]}
    for url in ("ssh://git@127.0.0.1:1/dags", "https://127.0.0.1:1/dags"):
        with pytest.raises(GitError) as caught:
            list_refs(Remote(url, ssh_key="the key\n"), real)
        assert caught.value.trouble is GitTrouble.UNREACHABLE


def test_one_who_does_not_answer_is_given_up(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tools" / "ssh").write_text("#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(GitError) as caught:
        list_refs(OVER_SSH, environ, timeout=0.5)
    assert caught.value.trouble is GitTrouble.UNREACHABLE


def test_without_git_it_is_said(environ: dict[str, str], tmp_path: Path) -> None:
    for ask in (
        lambda nothing: list_refs(OVER_SSH, nothing),
        lambda nothing: check_key("x", nothing),
        lambda nothing: knows_host("x", "y", nothing),
    ):
        with pytest.raises(GitError) as caught:
            ask({**environ, "PATH": str(tmp_path)})
        assert caught.value.trouble is GitTrouble.NO_TOOL


class Host(BaseHTTPRequestHandler):
    """A Git host that lets in who has the token, and repeats what it was given where it does not."""

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(f"git:{TOKEN}".encode()).decode()
        if "/missing" in self.path:
            return self._answer(404, b"")
        if "/public" not in self.path and self.headers.get("Authorization") != wanted:
            return self._answer(401, b"")
        return self._answer(200, f"{'1' * 40}\trefs/heads/main\n".encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def host() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_repository_is_listed_with_the_token(environ: dict[str, str], host: str) -> None:
    assert "refs/heads/main" in list_refs(Remote(f"{host}/dags", token=TOKEN), environ)
    assert "refs/heads/main" in list_refs(Remote(f"{host}/public"), environ)


@pytest.mark.parametrize(
    ("path", "token", "trouble"),
    [
        ("dags", "Sentinel-wrong", GitTrouble.REFUSED),
        ("dags", None, GitTrouble.REFUSED),
        ("missing", TOKEN, GitTrouble.NOT_FOUND),
    ],
)
def test_a_token_that_does_not_help_is_told_apart(
    environ: dict[str, str], host: str, path: str, token: str | None, trouble: GitTrouble
) -> None:
    with pytest.raises(GitError) as caught:
        list_refs(Remote(f"{host}/{path}", token=token), environ)
    assert caught.value.trouble is trouble
    assert "Sentinel" not in caught.value.message


def test_a_token_is_no_argument(environ: dict[str, str], host: str, tmp_path: Path) -> None:
    program = tmp_path / "tools" / "git"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$NOTES/git"\n')
    program.chmod(0o755)
    list_refs(Remote(f"{host}/dags", token=TOKEN), environ)
    assert "Sentinel" not in (tmp_path / "git").read_text()


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], Path]:
    def make(passphrase: str) -> Path:
        path = tmp_path / f"key{len(passphrase)}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
        return path

    return make


def test_a_key_is_read(keys: Callable[[str], Path], environ: dict[str, str]) -> None:
    assert check_key(keys("").read_text(), environ) is None
    assert "passphrase" in str(check_key(keys("secret").read_text(), environ))
    armour = "-----{} OPENSSH PRIVATE KEY-----"
    found = check_key(f"{armour.format('BEGIN')}\nU2VudGluZWw\n{armour.format('END')}\n", environ)
    assert found is not None
    # Where it lay is nobody's business.
    assert "/" not in found


@pytest.mark.parametrize(
    ("line", "host", "known"),
    [
        ("git.example.com", "git.example.com", True),
        ("git.example.com", "git.example.com:22", True),
        ("git.example.com", "git.example.com:2222", False),
        ("[git.example.com]:2222", "git.example.com:2222", True),
        ("*.example.com", "git.example.com", True),
        ("git.example.org", "git.example.com", False),
    ],
)
def test_a_host_is_looked_up_by_name_and_port(
    keys: Callable[[str], Path], environ: dict[str, str], line: str, host: str, known: bool
) -> None:
    key = " ".join(keys("").with_suffix(".pub").read_text().split()[:2])
    assert knows_host(host, f"# ours\n{line} {key}\n", environ) is known


def test_a_hashed_host_is_found(keys: Callable[[str], Path], environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("git.example.com " + keys("").with_suffix(".pub").read_text())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    assert "git.example.com" not in path.read_text()
    assert knows_host("git.example.com", path.read_text(), environ)


def test_a_branch_or_a_tag_is_at_a_commit(repository: Path, environ: dict[str, str]) -> None:
    def run(*words: str) -> str:
        git = ("git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.com")
        done = subprocess.run([*git, *words], check=True, capture_output=True, text=True, env=environ)
        return done.stdout.strip()

    first = run("rev-parse", "HEAD")
    run("tag", "-a", "v2", "-m", "the first")
    run("commit", "-q", "--allow-empty", "-m", "more")

    remote = Remote(str(repository))
    assert head(remote, "main", environ) == run("rev-parse", "HEAD") != first
    # Of an annotated tag the commit counts, not the tag's own object.
    assert head(remote, "v1", environ) == head(remote, "v2", environ) == first
    assert head(remote, "none", environ) is None
    with pytest.raises(GitError):
        head(Remote(str(repository / "none")), "main", environ)
