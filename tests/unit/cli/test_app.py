"""The command line as a whole: exit codes, the error document, help, and what a crash leaves behind."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
import typer

import cali_infra
from cali_infra import __version__
from cali_infra.cli.app import COMMANDS, load
from cali_infra.cli.context import Options
from cali_infra.errors import (
    AwsError,
    CaliError,
    GuardedChangeError,
    PreconditionError,
    RefusedError,
    RunInterruptedError,
    SettingsError,
    SettingsProblem,
    UsageError,
)

from .conftest import Cali

# For a process of its own, also where cali is not installed.
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(cali_infra.__file__).parent.parent)}

Plays = Callable[[Callable[[Options], None]], None]


@pytest.fixture
def plan_is(monkeypatch: pytest.MonkeyPatch) -> Plays:
    """Puts a function in the place of `cali plan`."""

    def play(function: Callable[[Options], None]) -> None:
        def plan(ctx: typer.Context, stages: Annotated[list[str] | None, typer.Argument()] = None) -> None:
            function(ctx.obj)

        module = ModuleType("cali_infra.cli.plan")
        module.plan = plan  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cali_infra.cli.plan", module)

    return play


def raises(error: BaseException) -> Callable[[Options], None]:
    def function(options: Options) -> None:
        raise error

    return function


class TestExitCodes:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (UsageError("x"), 2),
            (SettingsError([SettingsProblem("cali.yaml", "a", "is wrong")]), 2),
            (PreconditionError("x"), 2),
            (RefusedError("x"), 3),
            (GuardedChangeError("eks", ["aws_eks_cluster.this"]), 3),
            (RunInterruptedError("x"), 130),
            (KeyboardInterrupt(), 130),
            (AwsError("x"), 1),
            (CaliError("x"), 1),
            (BrokenPipeError(), 1),
            (ValueError("x"), 1),
            (typer.Exit(4), 4),
            (typer.BadParameter("x"), 2),
            (typer.Abort(), 130),
        ],
    )
    @pytest.mark.parametrize("output", ["text", "json"])
    def test_every_way_to_end(
        self, cali: Cali, plan_is: Plays, tmp_path: Path, error: BaseException, code: int, output: str
    ) -> None:
        (tmp_path / ".cali").mkdir()
        plan_is(raises(error))
        ran = cali("--output", output, "plan")
        assert ran.code == code
        if output == "text":
            assert ran.out == ""
        elif not isinstance(error, (typer.Exit, BrokenPipeError)):
            assert ran.document["ok"] is False
            assert set(ran.document["error"]) == {"code", "message", "remedy"}

    def test_a_command_that_ends_well(self, cali: Cali, plan_is: Plays) -> None:
        plan_is(lambda options: options.ui.data("value"))
        ran = cali("plan")
        assert (ran.code, ran.out, ran.err) == (0, "value\n", "")


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("plann",), "there is no command 'plann'; did you mean 'plan'?"),
            (("nonsense",), "there is no command 'nonsense'"),
            (("--bogus",), "No such option: --bogus"),
            (("--output", "xml", "plan"), "'xml'"),
            (("--env",), "--env"),
            (("plan", "--bogus"), "No such option: --bogus"),
            (("--quiet",), "Missing command"),
            (("state",), "Missing command"),
            (("sandbox",), "Missing command"),
        ],
    )
    def test_it_is_told_in_a_line_or_a_document_with_exit_2(
        self, cali: Cali, arguments: tuple[str, ...], words: str
    ) -> None:
        ran = cali(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert words in ran.err.splitlines()[0]
        assert ran.err.startswith("error: ")
        assert len(ran.err.splitlines()) <= 2
        as_json = cali("--output=json", *arguments)
        assert as_json.code == 2
        if "xml" not in arguments:
            assert words in as_json.document["error"]["message"]
            assert as_json.document["error"]["code"] == "usage"

    def test_settings_that_are_wrong_touch_nothing(self, cali: Cali, tmp_path: Path) -> None:
        (tmp_path / "cali.yaml").write_text("region: nowhere\neks: {min_nodes: x}\n")
        ran = cali("--output", "json", "up", "--yes")
        assert ran.code == 2
        assert ran.document["error"]["code"] == "invalid-settings"
        assert "eks.min_nodes" in ran.document["error"]["message"]
        assert [path.name for path in tmp_path.iterdir()] == ["cali.yaml"]

    def test_without_a_project_it_says_what_to_run(self, cali: Cali) -> None:
        ran = cali("plan")
        assert ran.code == 2
        assert "cali init" in ran.err


class TestGlobalOptions:
    def seen(self, cali: Cali, plan_is: Plays, *arguments: str) -> Options:
        found: list[Options] = []
        plan_is(found.append)
        ran = cali(*arguments)
        assert ran.code == 0, ran.err
        return found[0]

    def test_they_reach_the_command(self, cali: Cali, plan_is: Plays, tmp_path: Path) -> None:
        options = self.seen(
            cali,
            plan_is,
            *("--project", "sub/..", "--env", "prod", "--sandbox", "--kubeconfig", "kc", "--context", "c"),
            *("--output", "json", "--quiet", "--verbose", "plan"),
        )
        assert options.project == tmp_path
        assert options.kubeconfig == tmp_path / "kc"
        assert (options.environment, options.sandbox, options.context) == ("prod", True, "c")
        assert (options.json_output, options.ui.quiet, options.ui.verbose) == (True, True, True)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("plan", "--output", "json", "--sandbox"),
            ("plan", "--sandbox", "--output=json", "eks"),
            ("--project", "plan", "plan", "eks", "--output", "json", "--sandbox"),
            ("--sandbox", "plan", "--output", "json"),
        ],
    )
    def test_some_may_stand_behind_the_command(
        self, cali: Cali, plan_is: Plays, arguments: tuple[str, ...]
    ) -> None:
        options = self.seen(cali, plan_is, *arguments)
        assert (options.json_output, options.sandbox) == (True, True)

    def test_not_behind_two_hyphens(self, cali: Cali, plan_is: Plays) -> None:
        assert self.seen(cali, plan_is, "plan", "--", "--sandbox").sandbox is False


class TestCrash:
    def test_the_traceback_is_kept_private_and_without_secrets(
        self, cali: Cali, plan_is: Plays, tmp_path: Path
    ) -> None:
        (tmp_path / ".cali").mkdir()

        def crash(options: Options) -> None:
            options.ui.hide(lambda text: text.replace("Hunter-2", "********"))
            raise ValueError("it was Hunter-2")

        plan_is(crash)
        ran = cali("plan", "--output", "json")
        assert ran.code == 1
        assert "Hunter-2" not in ran.out + ran.err
        assert "Traceback" not in ran.err
        (log,) = (tmp_path / ".cali").iterdir()
        assert str(log) in ran.err
        assert str(log) in ran.document["error"]["remedy"]
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        text = log.read_text()
        assert "ValueError: it was ********" in text
        assert "arguments: --output json plan" in text

    def test_it_holds_no_key_of_the_environment(self, cali: Cali, plan_is: Plays, tmp_path: Path) -> None:
        (tmp_path / ".cali").mkdir()
        key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

        def crash(options: Options) -> None:
            raise ValueError(options.environ["AWS_SECRET_ACCESS_KEY"])

        plan_is(crash)
        assert cali("plan", environ={"AWS_SECRET_ACCESS_KEY": key}).code == 1
        (log,) = (tmp_path / ".cali").iterdir()
        assert key not in log.read_text()

    def test_one_that_cannot_be_kept_is_still_said(
        self, cali: Cali, plan_is: Plays, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, content: bytes) -> None:
            raise OSError(28, "No space left on device")

        def crash(options: Options) -> None:
            raise ValueError

        plan_is(crash)
        monkeypatch.setattr("cali_infra.files.write_private", full)
        ran = cali("plan", "--output", "json")
        assert (ran.code, ran.document["error"]["code"]) == (1, "bug")
        assert "No space left on device" in ran.err


class TestWhere:
    @pytest.mark.parametrize("command", [("init", "--yes"), ("sandbox", "start"), ("plan",)])
    def test_a_project_that_is_a_file(self, cali: Cali, tmp_path: Path, command: tuple[str, ...]) -> None:
        (tmp_path / "cali.yaml").touch()
        ran = cali("--project", "cali.yaml", *command)
        assert ran.code == 2
        assert "cali.yaml is no folder" in ran.err

    @pytest.mark.parametrize("option", ["--project", "--env", "--kubeconfig", "--context"])
    def test_a_global_option_behind_the_command_is_told_where_it_stands(
        self, cali: Cali, option: str
    ) -> None:
        ran = cali("plan", option, "x")
        assert ran.code == 2
        assert f"{option} stands in front of the command" in ran.err


class TestHelp:
    def test_version(self, cali: Cali) -> None:
        ran = cali("--version")
        assert (ran.code, ran.out) == (0, f"cali {__version__}\n")

    @pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
    def test_help_lists_every_command(
        self, cali: Cali, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
    ) -> None:
        assert cali(*arguments).code == 0
        shown = capsys.readouterr().out
        for command in COMMANDS:
            assert re.search(rf"[|\u2502] {command} ", shown), command

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_command_has_its_help(
        self, cali: Cali, capsys: pytest.CaptureFixture[str], command: str
    ) -> None:
        assert cali(command, "--help").code == 0
        assert f"Usage: cali {command}" in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_list_says_of_each_command_what_its_own_help_says(self, command: str) -> None:
        assert COMMANDS[command] == load(command).help.strip().splitlines()[0]

    def test_help_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; sys.argv = ['cali', '--help']\n"
            "from cali_infra.cli.app import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "heavy = {'pydantic', 'boto3', 'botocore', 'kubernetes', 'opensearchpy', 'moto', 'yaml', 'grpc',"
            " 'aiohttp', 'tenacity', 'python_terraform', 'rich.live'}\n"
            "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stderr.strip() == "[]"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cali_infra", "--output", "json", "plan"],
        cwd=tmp_path,
        env=ENVIRON,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "precondition"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m cali_infra --help | head -1"],
        cwd=tmp_path,
        env=ENVIRON,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
