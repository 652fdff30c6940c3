"""`cali init` as a person meets it: with questions, with options, and where files are there already."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from cali_infra.core.secrets import load_secrets
from cali_infra.core.settings import load_settings

from .conftest import Cali

ARN = "arn:aws:iam::111122223333:user/jiwoo"
# Keeps the look-up of the public address away from the network: the questions come with it.
ADDRESS = ("--allowed-cidr", "203.0.113.7/32")


def test_yes_takes_the_defaults_without_a_terminal(cali: Cali, tmp_path: Path) -> None:
    ran = cali("init", "--yes")
    assert (ran.code, ran.out) == (0, "")
    assert "wrote" in ran.err
    assert load_settings(tmp_path, {}).cluster_name == "cali-default"
    load_secrets(tmp_path, {})
    assert stat.S_IMODE((tmp_path / "secrets.yaml").stat().st_mode) == 0o600
    assert "secrets.yaml" in (tmp_path / ".gitignore").read_text()


def test_no_password_is_shown(cali: Cali, tmp_path: Path) -> None:
    ran = cali("init", "--yes", "--output", "json")
    document = yaml.safe_load((tmp_path / "secrets.yaml").read_text())
    values = [
        value for keys in document.values() if isinstance(keys, dict) for value in keys.values() if value
    ]
    assert len(values) == 12
    assert not [value for value in values if value in ran.out + ran.err]
    assert ran.document["written"] == [str(tmp_path / "cali.yaml"), str(tmp_path / "secrets.yaml")]


def test_new_passwords_for_what_was_applied_before_are_warned_of(cali: Cali, tmp_path: Path) -> None:
    for name in ("prod", "sandbox-default"):
        (tmp_path / ".cali" / name).mkdir(parents=True)
        (tmp_path / ".cali" / name / "workspace.json").touch()
    ran = cali("init", "--yes")
    assert ran.code == 0
    assert "warning: prod was applied with other passwords" in ran.err


def test_options_take_the_place_of_questions(cali: Cali, tmp_path: Path) -> None:
    ran = cali(
        *("--env", "prod", "init", "--yes", "--project", "demo", "--region", "us-east-1", *ADDRESS),
        *("--principal", ARN, "--gitsync-url", "git@github.com:acme/dags.git", "--state", "s3"),
        *("--bucket", "acme-state"),
    )
    assert ran.code == 0, ran.err
    settings, secrets = load_settings(tmp_path, {}), load_secrets(tmp_path, {})
    assert (settings.cluster_name, settings.region) == ("demo-prod", "us-east-1")
    assert settings.allowed_cidrs == ["203.0.113.7/32"]
    assert (settings.state.backend, settings.state.bucket) == ("s3", "acme-state")
    assert [principal.arn for principal in secrets.principals] == [ARN]
    assert secrets.gitsync.url is None
    assert "GitSync stays off for now" in ran.err
    assert "git@github.com:acme/dags.git" in (tmp_path / "secrets.yaml").read_text()


def test_questions_are_asked_again_until_the_answer_is_right(cali: Cali, tmp_path: Path) -> None:
    answers = f"Bad Name\ndemo\n\narn:aws:iam::111122223333:root\n{ARN}, {ARN}2\nnowhere\n-\n"
    ran = cali("init", *ADDRESS, answers=answers)
    assert ran.code == 0, ran.err
    for words in ("'Bad Name' is not a name", "root user", "not the URL of a Git repository"):
        assert words in ran.err
    assert load_settings(tmp_path, {}).project == "demo"
    assert len(load_secrets(tmp_path, {}).principals) == 2


def test_without_a_terminal_it_asks_nothing_and_writes_nothing(cali: Cali, tmp_path: Path) -> None:
    ran = cali("init")
    assert ran.code == 2
    assert "cali init --yes" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answers", ["", "demo\n"])
def test_an_input_that_ends_leaves_nothing(cali: Cali, tmp_path: Path, answers: str) -> None:
    assert cali("init", *ADDRESS, answers=answers).code == 3
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_told_at_once_and_write_nothing(cali: Cali, tmp_path: Path) -> None:
    ran = cali("init", "--yes", "--region", "x", "--allowed-cidr", "0.0.0.0/0", "--principal", "me")
    assert ran.code == 2
    for key in ("region", "allowed_cidrs", "principals[0].arn"):
        assert key in ran.err
    assert list(tmp_path.iterdir()) == []


def test_it_never_writes_over(cali: Cali, tmp_path: Path) -> None:
    cali("init", "--yes")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ran = cali("init", "--yes", "--project", "other")
    assert ran.code == 2
    assert "cali.yaml and secrets.yaml" in ran.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_one_that_is_missing_is_made_and_the_other_said_to_be_kept(cali: Cali, tmp_path: Path) -> None:
    cali("init", "--yes")
    (tmp_path / "secrets.yaml").unlink()
    before = (tmp_path / "cali.yaml").read_bytes()
    ran = cali("init", "--yes")
    assert ran.code == 0
    assert f"wrote {tmp_path / 'secrets.yaml'}" in ran.err
    assert f"kept {tmp_path / 'cali.yaml'}" in ran.err
    assert (tmp_path / "cali.yaml").read_bytes() == before


def test_secrets_that_git_keeps_already_are_pointed_out(cali: Cali, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True, timeout=30)

    git("init")
    assert "Git's index" not in cali("init", "--yes").err
    git("add", "--force", "secrets.yaml")
    (tmp_path / "secrets.yaml").unlink()
    ran = cali("init", "--yes", environ={"PATH": "/usr/bin:/bin:/usr/local/bin"})
    assert "git rm --cached secrets.yaml" in ran.err
