"""What `cali init` writes loads without a mistake, is strong enough, and never takes the place of a file."""

from __future__ import annotations

import random
import shlex
import stat
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cali_infra.core import init
from cali_infra.core.secrets import Secrets, check_opensearch_password, load_secrets
from cali_infra.core.settings import Settings, load_settings
from cali_infra.errors import PreconditionError, SettingsError

ARN = "arn:aws:iam::111122223333:user/jiwoo"


def seeded() -> random.Random:
    return random.Random(7)


def test_both_files_load_and_the_settings_are_the_defaults(tmp_path: Path) -> None:
    outcome = init.create(tmp_path, init.Answers(), seeded())
    assert [path.name for path in outcome.written] == ["cali.yaml", "secrets.yaml"]
    assert load_settings(tmp_path, {}) == Settings()
    secrets = load_secrets(tmp_path, {})
    assert secrets.principals == []
    assert stat.S_IMODE((tmp_path / "secrets.yaml").stat().st_mode) == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_every_key_is_shown_with_its_description(tmp_path: Path) -> None:
    init.create(tmp_path, init.Answers(), seeded())
    for name, model in (("cali.yaml", Settings), ("secrets.yaml", Secrets)):
        text = (tmp_path / name).read_text()
        waiting = [model]
        while waiting:
            for key, info in waiting.pop().model_fields.items():
                assert f"{key}:" in text
                if isinstance(info.annotation, type) and hasattr(info.annotation, "model_fields"):
                    waiting.append(info.annotation)
                elif key != "principals":
                    assert str(info.description) in text


def test_every_line_that_is_commented_out_is_right_when_the_mark_is_taken_away(tmp_path: Path) -> None:
    init.create(tmp_path, init.Answers(), seeded())
    path = tmp_path / "cali.yaml"
    lines = path.read_text().splitlines()
    opened = [
        line.replace("# ", "", 1) if line.lstrip().startswith("# ") and _is_key(line) else line
        for line in lines
    ]
    assert opened != lines
    path.write_text("\n".join(opened))
    settings = load_settings(tmp_path, {})
    assert settings.profile == "team"
    assert settings.state.bucket == "acme-terraform-state"
    assert settings.eks == Settings().eks


def _is_key(line: str) -> bool:
    name = line.strip().removeprefix("# ").split(":")[0]
    models = [Settings, *(f.annotation for f in Settings.model_fields.values())]
    return any(name in getattr(model, "model_fields", {}) for model in models)


def test_a_program_that_edits_the_files_finds_every_section(tmp_path: Path) -> None:
    init.create(tmp_path, init.Answers(), seeded())
    for name, model in (("cali.yaml", Settings), ("secrets.yaml", Secrets)):
        document = yaml.safe_load((tmp_path / name).read_text())
        for key, info in model.model_fields.items():
            if isinstance(info.annotation, type) and hasattr(info.annotation, "model_fields"):
                assert isinstance(document[key], dict), key


def test_answers_take_the_place_of_defaults(tmp_path: Path) -> None:
    answers = init.Answers(
        {
            "project": "demo",
            "allowed_cidrs": ["203.0.113.7/32"],
            "state.backend": "s3",
            "state.bucket": "acme-state",
            "eks.version": "1.34",
        },
        (ARN,),
        "https://github.com/acme/dags.git",
    )
    init.create(tmp_path, answers, seeded())
    settings, secrets = load_settings(tmp_path, {}), load_secrets(tmp_path, {})
    assert settings.cluster_name == "demo-default"
    assert settings.allowed_cidrs == ["203.0.113.7/32"]
    assert (settings.state.backend, settings.state.bucket) == ("s3", "acme-state")
    assert settings.eks.version == "1.34"
    assert [principal.name for principal in secrets.principals] == ["jiwoo"]
    assert secrets.gitsync.url == "https://github.com/acme/dags.git"


def test_a_url_over_ssh_waits_for_its_key(tmp_path: Path) -> None:
    answers = init.Answers(gitsync_url="git@github.com:acme/dags.git")
    assert answers.gitsync_waits
    init.create(tmp_path, answers, seeded())
    assert load_secrets(tmp_path, {}).gitsync.url is None
    text = (tmp_path / "secrets.yaml").read_text()
    assert (
        '# Once ssh_key and known_hosts are filled in below: "git@github.com:acme/dags.git"\n  url:\n' in text
    )
    assert isinstance(yaml.safe_load(text)["gitsync"], dict)


@pytest.mark.parametrize(
    "url", [None, "https://github.com/acme/dags", "nowhere", "ssh://me:pw@example.com/x"]
)
def test_only_a_right_url_over_ssh_waits(url: str | None) -> None:
    assert not init.Answers(gitsync_url=url).gitsync_waits


def test_wrong_answers_are_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    answers = init.Answers({"project": "No", "region": "x"}, ("root",), "nowhere")
    with pytest.raises(SettingsError) as caught:
        init.create(tmp_path, answers, seeded())
    assert {problem.key for problem in caught.value.problems} == {
        *("project", "region"),
        *("principals[0].arn", "gitsync.url"),
    }
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_never_written_over(tmp_path: Path) -> None:
    init.create(tmp_path, init.Answers(), seeded())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(PreconditionError, match=r"cali\.yaml and secrets\.yaml"):
        init.create(tmp_path, init.Answers({"project": "other"}), seeded())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("there", "made"), [("cali.yaml", "secrets.yaml"), ("secrets.yaml", "cali.yaml")])
def test_the_one_that_is_missing_is_made(tmp_path: Path, there: str, made: str) -> None:
    (tmp_path / there).write_text("mine\n")
    outcome = init.create(tmp_path, init.Answers(), seeded())
    assert (tmp_path / there).read_text() == "mine\n"
    assert [path.name for path in outcome.written] == [made]
    assert [path.name for path in outcome.kept] == [there]


def test_gitignore_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / ".gitignore"
    path.write_text("node_modules\n/.cali/")
    outcome = init.create(tmp_path, init.Answers(), seeded())
    assert outcome.ignored == ("secrets.yaml", "*.tfvars", "*.tfvars.json")
    assert path.read_text() == "node_modules\n/.cali/\nsecrets.yaml\n*.tfvars\n*.tfvars.json\n"


def test_two_projects_have_no_password_in_common(tmp_path: Path) -> None:
    texts = [init.secrets_text(init.Answers(), random.SystemRandom()) for _ in range(2)]
    values = []
    for text in texts:
        sections = [section for section in yaml.safe_load(text).values() if isinstance(section, dict)]
        values.append({value for section in sections for value in section.values() if value})
    assert len(values[0]) == len(values[1]) == 12
    assert values[0].isdisjoint(values[1])


@given(st.integers(0, 2**64))
def test_a_password_is_strong_and_needs_no_quoting_anywhere(seed: int) -> None:
    password = init.password(random.Random(seed))
    assert check_opensearch_password(password) == password
    assert shlex.quote(password) == password or shlex.split(password) == [password]
    assert quote(password, safe="") == password
    assert yaml.safe_load(f"key: {password}") == {"key": password}
