"""What is asked of grant-access: options and team files, checked before any call."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cali_infra.core.grant_requests import Options, Request, from_command_line, from_file
from cali_infra.errors import SettingsError, UsageError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JIN = "arn:aws:iam::123456789012:user/jin"
OPS = "arn:aws:iam::123456789012:role/team/ops"
SESSION = "arn:aws:sts::123456789012:assumed-role/ops/mina"


def test_without_options_everything_is_left_open() -> None:
    assert from_command_line([JIN], Options(), NOW) == [Request(JIN)]


def test_options_hold_for_every_arn() -> None:
    options = Options(level="view", namespaces=("airflow", "team-*"), lasting="30d")
    found = from_command_line([JIN, OPS], options, NOW)
    assert [request.arn for request in found] == [JIN, OPS]
    assert {request.level for request in found} == {"view"}
    assert {request.namespaces for request in found} == {("airflow", "team-*")}
    assert {request.until for request in found} == {"2026-03-31T12:00:00Z"}


def test_a_date_counts_to_its_end_and_never_takes_the_end_away() -> None:
    (dated,) = from_command_line([JIN], Options(until="2026-12-31"), NOW)
    assert dated.until == "2027-01-01T00:00:00Z"
    (zoned,) = from_command_line([JIN], Options(until="2026-12-31T18:00:00+09:00"), NOW)
    assert zoned.until == "2026-12-31T09:00:00Z"
    (forever,) = from_command_line([JIN], Options(until="never"), NOW)
    assert (forever.until, forever.forever) == (None, True)


def test_the_whole_cluster_is_said_and_not_assumed() -> None:
    (whole,) = from_command_line([JIN], Options(whole_cluster=True), NOW)
    assert whole.namespaces == ()
    assert from_command_line([JIN], Options(), NOW)[0].namespaces is None


def test_a_session_is_taken_for_its_role_later() -> None:
    assert from_command_line([SESSION], Options(), NOW)[0].arn == SESSION


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(level="owner"), "--level"),
        (Options(namespaces=("Airflow",)), "--namespace"),
        (Options(until="tomorrow"), "--until"),
        (Options(until="2026-12-31T18:00:00"), "time zone"),
        (Options(lasting="1 month"), "--for"),
        (Options(lasting="1d", until="2026-12-31"), "exclude each other"),
        (Options(namespaces=("a",), whole_cluster=True), "exclude each other"),
    ],
)
def test_a_wrong_option_is_told_by_its_name(options: Options, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_command_line([JIN], options, NOW)


def test_every_wrong_arn_is_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        from_command_line(["jin", "arn:aws:iam::123456789012:group/ops", JIN], Options(), NOW)
    assert "jin: " in caught.value.message
    assert "group" in caught.value.message
    assert JIN not in caught.value.message


def test_one_name_is_for_one_arn() -> None:
    with pytest.raises(UsageError, match="--name is for one ARN"):
        from_command_line([JIN, OPS], Options(name="Jin"), NOW)


def team(folder: Path, text: str) -> Path:
    path = folder / "team.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_team_file(tmp_path: Path) -> None:
    path = team(
        tmp_path,
        "\ufeff# the new ones\n"
        "Name,ARN,level,namespaces,until\n"
        f"진우,{JIN},view,airflow team-*,2026-12-31\n"
        "\n"
        f'"Ops, on call",{OPS},,,never\n',
    )
    jin, ops = from_file(path)
    assert jin == Request(JIN, "진우", "view", ("airflow", "team-*"), "2027-01-01T00:00:00Z")
    assert ops == Request(OPS, "Ops, on call", forever=True)


def test_every_mistake_in_a_team_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = team(tmp_path, f"arn,level\n{JIN},owner\nnobody,view\n{OPS},view,more\n")
    with pytest.raises(SettingsError) as caught:
        from_file(path)
    places = [problem.key for problem in caught.value.problems]
    assert places == ["line 2, level", "line 3, arn", "line 4"]
    assert {problem.file for problem in caught.value.problems} == {str(path)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("arn,level\n", "names nobody"),
        (f"{JIN}\n", "has no columns"),
        ("arn,arn\n", "each once"),
        ("arn,role\n", "'role'"),
    ],
)
def test_a_team_file_without_a_team(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        from_file(team(tmp_path, text))


def test_a_team_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        from_file(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"arn\n\xff\xfe\n")
    with pytest.raises(SettingsError, match="UTF-8"):
        from_file(tmp_path / "binary.csv")
