"""Before money is spent: does GitSync get the DAGs, and if not, which key of which file is wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_service_secrets import secret_values

from cali_infra.adapters.git import Remote
from cali_infra.core.git_sync import check, head
from cali_infra.core.settings import Settings
from cali_infra.errors import GitError, GitTrouble, SettingsError, SettingsProblem

URL = "git@git.example.com:acme/dags.git"
REFS = frozenset({"HEAD", "refs/heads/main", "refs/heads/develop", "refs/tags/v1"})
ENVIRON = {"PATH": os.environ["PATH"]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A private key, and TYPE KEY of its public half."""
    path = tmp_path_factory.mktemp("keys") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.read_text(), " ".join(path.with_suffix(".pub").read_text().split()[:2])


Check = Callable[..., tuple[str, ...]]


@pytest.fixture
def ask(pair: tuple[str, str]) -> Check:
    """`ask(answer, branch=..., **gitsync)`: the check with a repository that answers so."""
    key, public = pair

    def run(
        answer: frozenset[str] | GitError = REFS,
        branch: str = "main",
        rehearsal: bool = False,
        **gitsync: Any,
    ) -> tuple[str, ...]:
        given = {"url": URL, "ssh_key": key, "known_hosts": f"git.example.com {public}", **gitsync}

        def list_refs(remote: Remote, environ: Mapping[str, str]) -> frozenset[str]:
            asked.append(remote)
            if isinstance(answer, GitError):
                raise answer
            return answer

        settings = Settings.model_validate({"airflow": {"dags_branch": branch}})
        return check(
            settings, secret_values(gitsync=given), ENVIRON, rehearsal=rehearsal, list_refs=list_refs
        )

    asked: list[Remote] = []
    run.asked = asked  # type: ignore[attr-defined]
    return run


def wrong(run: Callable[[], object]) -> SettingsProblem:
    with pytest.raises(SettingsError) as caught:
        run()
    assert "Sentinel" not in str(caught.value)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("branch", ["main", "develop", "v1"])
def test_a_key_that_reads_the_branch_passes(ask: Check, branch: str) -> None:
    assert ask(branch=branch) == ()


def test_the_repository_is_asked_with_what_the_pods_will_have(ask: Any, pair: tuple[str, str]) -> None:
    # YAML's |- takes the last line break away, and an editor on Windows puts others in.
    ask(ssh_key=pair[0].strip().replace("\n", "\r\n"))
    ask(url="https://git.example.com/acme/dags", username="ci", token="Sentinel-token")

    over_ssh, over_https = ask.asked
    assert over_ssh.ssh_key == pair[0]
    assert over_ssh.known_hosts == f"git.example.com {pair[1]}\n"
    assert (over_https.username, over_https.token, over_https.ssh_key) == ("ci", "Sentinel-token", None)


def test_a_key_that_is_cut_short_is_named_before_anybody_is_asked(ask: Any, pair: tuple[str, str]) -> None:
    lines = pair[0].strip().splitlines()
    problem = wrong(lambda: ask(ssh_key="\n".join([*lines[:2], lines[-1]])))

    assert (problem.file, problem.key) == ("secrets.yaml", "gitsync.ssh_key")
    assert "OpenSSH cannot read it" in problem.problem
    assert ask.asked == []


def test_a_key_with_a_passphrase_is_named(ask: Check, tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)], check=True)

    assert "has a passphrase" in wrong(lambda: ask(ssh_key=path.read_text())).problem


def test_a_host_that_is_not_among_the_known_ones_is_named_with_the_way_to_its_key(
    ask: Check, pair: tuple[str, str]
) -> None:
    problem = wrong(lambda: ask(url="ssh://git@git.example.com:2222/acme/dags"))

    assert problem.key == "gitsync.known_hosts"
    assert "holds no key of git.example.com:2222" in problem.problem
    assert "ssh-keyscan -p 2222 git.example.com" in problem.example


@pytest.mark.parametrize(
    "line",
    [
        "git.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
        "git.example.com ssh-rsa {key}",
        "git.example.com ssh-ed25519 AAAA!",
    ],
)
def test_a_line_of_known_hosts_that_holds_no_key_is_named_by_its_number(
    ask: Check, pair: tuple[str, str], line: str
) -> None:
    hosts = f"# ours\n{line.format(key=pair[1].split()[1])}\n"
    problem = wrong(lambda: ask(known_hosts=hosts))

    assert problem.key == "gitsync.known_hosts"
    assert "line 2" in problem.problem


@pytest.mark.parametrize(
    ("trouble", "key", "words"),
    [
        (GitTrouble.HOST_UNKNOWN, "known_hosts", "holds no key of git.example.com"),
        (GitTrouble.HOST_CHANGED, "known_hosts", "another key than the one"),
        (GitTrouble.REFUSED, "ssh_key", "deploy keys"),
        (GitTrouble.NOT_FOUND, "url", "there is no repository"),
    ],
)
def test_each_mistake_has_words_of_its_own(ask: Check, trouble: GitTrouble, key: str, words: str) -> None:
    problem = wrong(lambda: ask(GitError("Git's words", trouble=trouble)))

    assert (problem.file, problem.key) == ("secrets.yaml", f"gitsync.{key}")
    assert words in problem.problem


@pytest.mark.parametrize(("token", "words"), [("Sentinel-token", "is not accepted"), (None, "is not public")])
def test_a_token_that_does_not_help_is_named(ask: Check, token: str | None, words: str) -> None:
    refused = GitError("Authentication failed", trouble=GitTrouble.REFUSED)
    problem = wrong(lambda: ask(refused, url="https://git.example.com/acme/dags", token=token))

    assert problem.key == "gitsync.token"
    assert words in problem.problem


@pytest.mark.parametrize("trouble", [GitTrouble.UNREACHABLE, GitTrouble.UNCLEAR, GitTrouble.NO_TOOL])
def test_what_cannot_be_found_out_is_said_and_the_run_goes_on(ask: Check, trouble: GitTrouble) -> None:
    (note,) = ask(GitError("no route to host", trouble=trouble))

    assert "could not be found out" in note
    assert "no route to host" in note


def test_a_branch_that_is_not_there_is_named_with_the_nearest(ask: Check) -> None:
    problem = wrong(lambda: ask(branch="develp"))

    assert (problem.file, problem.key, problem.example) == ("cali.yaml", "airflow.dags_branch", "develop")
    assert "is empty" in wrong(lambda: ask(frozenset())).problem


def test_a_rehearsal_reads_the_key_and_leaves_the_network_alone(ask: Any, pair: tuple[str, str]) -> None:
    assert ask(rehearsal=True) == ()
    assert ask.asked == []
    ask(rehearsal=True, url="https://localhost:8443/acme/dags")
    assert len(ask.asked) == 1
    assert wrong(lambda: ask(rehearsal=True, known_hosts=f"other.example.com {pair[1]}")).key == (
        "gitsync.known_hosts"
    )


def test_without_ssh_keygen_the_repository_is_still_asked(pair: tuple[str, str], tmp_path: Path) -> None:
    given = {"url": URL, "ssh_key": pair[0], "known_hosts": f"git.example.com {pair[1]}"}
    (note,) = check(
        Settings(),
        secret_values(gitsync=given),
        {"PATH": str(tmp_path)},
        list_refs=lambda remote, environ: REFS,
    )
    assert "ssh-keygen cannot be run here" in note


def test_without_a_url_or_without_airflow_nobody_is_asked(ask: Any) -> None:
    off = Settings.model_validate({"services": {"airflow": False}})

    assert check(Settings(), secret_values(), ENVIRON) == ()
    assert check(off, secret_values(gitsync={"url": "https://git.example.com/acme/dags"}), ENVIRON) == ()


class TestTheHeadOfTheBranch:
    def ask(self, answer: str | None, rehearsal: bool = False, **gitsync: Any) -> str:
        given = {"url": "https://git.example.com/acme/dags", "token": "a-token-of-it", **gitsync}

        def find(remote: Remote, ref: str, environ: Mapping[str, str]) -> str | None:
            self.asked = (remote, ref)
            return answer

        settings = Settings.model_validate({"airflow": {"dags_branch": "develop"}})
        return head(settings, secret_values(gitsync=given), ENVIRON, rehearsal=rehearsal, find=find)

    def test_it_is_asked_for_with_what_the_pods_have(self) -> None:
        assert self.ask("a" * 40) == "a" * 40
        remote, ref = self.asked
        assert (remote.url, remote.token, ref) == (
            "https://git.example.com/acme/dags",
            "a-token-of-it",
            "develop",
        )

    def test_a_branch_that_is_not_there_is_an_error(self) -> None:
        with pytest.raises(GitError, match="no branch and no tag develop") as caught:
            self.ask(None)
        assert caught.value.trouble is GitTrouble.NOT_FOUND

    def test_a_rehearsal_asks_no_other_machine(self) -> None:
        with pytest.raises(GitError, match="a rehearsal asks no other machine"):
            self.ask("a" * 40, rehearsal=True)
        assert self.ask("a" * 40, rehearsal=True, url="https://localhost:8443/acme/dags") == "a" * 40
