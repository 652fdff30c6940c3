"""What reaches the terminal: which stream, in which form, and never a secret."""

from __future__ import annotations

import io
import json
import os
import queue
import re
import sys
import termios
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import IO, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from cali_infra.core.progress import Progress
from cali_infra.errors import (
    OperationError,
    RefusedError,
    SettingsError,
    SettingsProblem,
    TerraformError,
    UsageError,
)
from cali_infra.plans import Action, ResourceChange, StagePlan, StageResult, Status
from cali_infra.ui import UI
from cali_infra.ui_tree import ASCII, UNICODE, RunView, clip, duration, shorten

SECRET = "Hunter-2-secret"


class Stream(io.TextIOWrapper):
    """A stream in memory that may claim to be a terminal."""

    def __init__(self, text: str = "", *, terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(text.encode()), encoding=encoding, newline="")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


class Terminal:
    """A UI with its streams and a clock that stands still until it is moved."""

    def __init__(
        self,
        answers: str = "",
        *,
        terminal: bool = False,
        encoding: str = "utf-8",
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.seconds = 100.0
        self.stdin = Stream(answers, terminal=terminal)
        self.stdout = Stream(terminal=terminal, encoding=encoding)
        self.stderr = Stream(terminal=terminal, encoding=encoding)
        self.ui = UI(
            stdin=self.stdin,
            stdout=self.stdout,
            stderr=self.stderr,
            environ={"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", **(environ or {})},
            clock=lambda: self.seconds,
            now=lambda: datetime(2026, 11, 23, 12, 0, 5),
            **options,
        )
        self.ui.hide(lambda text: text.replace(SECRET, "********"))

    @property
    def out(self) -> str:
        return self.stdout.text

    @property
    def err(self) -> str:
        return self.stderr.text


class TestStreams:
    def test_messages_go_to_stderr_and_data_to_stdout(self) -> None:
        t = Terminal()
        t.ui.info("doing it")
        t.ui.success("done")
        t.ui.warn("careful")
        t.ui.data("value")
        assert t.err == "doing it\ndone\nwarning: careful\n"
        assert t.out == "value\n"

    def test_quiet_leaves_warnings_and_errors(self) -> None:
        t = Terminal(quiet=True)
        t.ui.info("a")
        t.ui.success("b")
        t.ui.plan(StagePlan("eks"))
        t.ui.warn("c")
        t.ui.error(OperationError("d"))
        assert t.err == "warning: c\nerror: d\n"

    def test_details_need_verbose(self) -> None:
        quiet, loud = Terminal(), Terminal(verbose=True)
        for t in (quiet, loud):
            t.ui.debug("detail")
        assert (quiet.err, loud.err) == ("", "detail\n")

    def test_with_json_stdout_holds_the_one_document_and_nothing_else(self) -> None:
        t = Terminal(json_output=True)
        t.ui.info("working")
        t.ui.table(("a", "b"), [(1, 2)])
        t.ui.data("a line")
        t.ui.json({"ok": True, "name": "\ud55c\uad6d"})
        assert json.loads(t.out) == {"ok": True, "name": "\ud55c\uad6d"}
        with pytest.raises(RuntimeError, match="second JSON document"):
            t.ui.json({})

    def test_a_long_message_is_one_line_where_there_is_no_terminal(self) -> None:
        t = Terminal()
        t.ui.info("word " * 60)
        assert t.err.count("\n") == 1

    def test_no_color_is_kept_to(self) -> None:
        coloured, plain = Terminal(terminal=True), Terminal(terminal=True, environ={"NO_COLOR": "1"})
        for t in (coloured, plain):
            t.ui.error(UsageError("wrong"))
        assert "\x1b[1;31m" in coloured.err
        assert "\x1b[1;31m" not in plain.err
        assert "\x1b[31m" not in plain.err

    def test_square_brackets_are_text_and_not_markup(self) -> None:
        t = Terminal(terminal=True, environ={"NO_COLOR": "1"})
        t.ui.info('aws_subnet.private["a"] [red]x[/red] :smile:')
        t.ui.table(("[b]name",), [("x[0]",)])
        assert 'aws_subnet.private["a"] [red]x[/red] :smile:' in t.err
        assert "[b]name" in t.out
        assert "x[0]" in t.out

    @pytest.mark.parametrize("terminal", [True, False])
    def test_a_terminal_without_unicode_shows_question_marks_instead_of_failing(self, terminal: bool) -> None:
        t = Terminal(terminal=terminal, encoding="ascii")
        t.ui.info("\ud55c\uad6d \u2713")
        t.ui.data("\ud55c")
        t.ui.table(("\ud55c",), [("\uad6d",)], title="\u00b7")
        t.ui.json({"name": "\ud55c"})
        with t.ui.tree("cali up \u00b7 demo", ["eks"]) as tree:
            tree.stage_started("eks", "planning")
        assert "?" in t.err
        assert '"\\ud55c"' in t.out


class TestSecrets:
    def test_no_way_out_lets_a_secret_through(self) -> None:
        for terminal in (True, False):
            t = Terminal("y\n" + SECRET + "\n", terminal=terminal, verbose=True)
            ui = t.ui
            for say in (ui.info, ui.success, ui.debug, ui.warn, ui.data, ui.usage):
                say(f"it is {SECRET}")
            ui.error(TerraformError(f"a {SECRET}\nb {SECRET}", log=f"/x/{SECRET}", remedy=f"use {SECRET}"))
            ui.error(SettingsError([SettingsProblem("f", SECRET, SECRET, SECRET)]))
            ui.table((SECRET,), [(SECRET,)], title=SECRET)
            ui.plan(StagePlan(SECRET, (ResourceChange(SECRET, Action.CREATE, (SECRET,)),), (SECRET,)))
            ui.json({SECRET: [{"a": f"-{SECRET}-"}]})
            if terminal:
                ui.confirm(f"Use {SECRET}?")
            with ui.tree(f"run {SECRET}", ["eks"]) as tree:
                tree.stage_started("eks", SECRET)
                tree.stage_planned(StagePlan("eks", (ResourceChange(SECRET, Action.CREATE),)))
                tree.resource("eks", SECRET, "create", "started", 0)
                tree.resource("eks", SECRET, "create", "progress", 100)
                tree.resource("eks", SECRET, "create", "errored", 120)
                tree.note(SECRET, stage="eks")
                tree.warn(SECRET)
                tree.stage_ended(StageResult("eks", Status.FAILED, error=SECRET, remedy=SECRET))
            assert SECRET not in t.out + t.err
            assert "********" in t.out
            assert "********" in t.err

    def test_what_a_terminal_would_obey_is_taken_out(self) -> None:
        t = Terminal()
        t.ui.info("a\x1b[2Jb\x1b]0;title\x07c\x00d\te\nf\r")
        assert t.err == "ab]0;titlecd\te\nf\n"


class TestErrors:
    def test_message_and_remedy(self) -> None:
        t = Terminal()
        t.ui.error(UsageError("there is no cali.yaml", remedy="run `cali init`"))
        assert t.err == "error: there is no cali.yaml\n  run `cali init`\n"
        assert t.out == ""

    def test_every_settings_mistake_on_a_line_of_its_own(self) -> None:
        t = Terminal()
        problems = [SettingsProblem("cali.yaml", key, "is wrong", f"{key}: 1") for key in ("a", "b")]
        t.ui.error(SettingsError(problems))
        lines = t.err.splitlines()
        assert lines[0] == "error: 2 mistakes in the settings"
        assert lines[1] == "  cali.yaml: a: is wrong (for example: a: 1)"

    def test_the_json_document_of_an_error(self) -> None:
        t = Terminal(json_output=True)
        t.ui.error(UsageError("wrong", remedy="do it right"))
        assert json.loads(t.out) == {
            "ok": False,
            "error": {"code": "usage", "message": "wrong", "remedy": "do it right"},
        }

    def test_an_error_after_the_report_adds_no_second_document(self) -> None:
        t = Terminal(json_output=True)
        t.ui.json({"ok": False, "stages": []})
        t.ui.error(OperationError("late"))
        assert json.loads(t.out) == {"ok": False, "stages": []}
        assert "late" in t.err

    def test_a_usage_error_is_one_line(self) -> None:
        t = Terminal()
        t.ui.usage("No such option: --x", "cali --help")
        assert t.err == "error: No such option: --x (cali --help)\n"


class TestQuestions:
    @pytest.mark.parametrize(
        ("answer", "approved"),
        [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("yep\n", False)],
    )
    def test_only_yes_is_yes(self, answer: str, approved: bool) -> None:
        t = Terminal(answer, terminal=True)
        assert t.ui.confirm("Apply?") is approved
        assert "Apply? [y/N] " in t.err
        assert t.out == ""

    def test_without_a_terminal_it_refuses_and_says_how(self) -> None:
        t = Terminal("y\n")
        with pytest.raises(RefusedError) as caught:
            t.ui.confirm("Apply?")
        assert "--yes" in caught.value.remedy
        with pytest.raises(RefusedError):
            t.ui.prompt("Name")

    def test_the_end_of_the_input_is_no_answer(self) -> None:
        with pytest.raises(RefusedError):
            Terminal("", terminal=True).ui.confirm("Apply?")

    def test_an_empty_answer_is_the_default(self) -> None:
        t = Terminal("\n  other \n", terminal=True)
        assert t.ui.prompt("Name", "cali") == "cali"
        assert t.ui.prompt("Name", "cali") == "other"
        assert "Name [cali]: " in t.err

    def test_a_question_is_open_only_while_it_waits(self) -> None:
        seen: list[bool] = []

        class Asked(Stream):
            def readline(self, size: int = -1, /) -> str:
                seen.append(t.ui.asking)
                return "y\n"

        t = Terminal(terminal=True)
        t.ui._stdin = Asked(terminal=True)
        t.ui.confirm("Apply?")
        assert (seen, t.ui.asking) == ([True], False)

    def test_a_password_is_asked_for_and_never_shown(self) -> None:
        t = Terminal("Typed-password 1\n", terminal=True)
        assert t.ui.secret("Password of jin") == "Typed-password 1"
        assert t.err == "Password of jin: \n"
        with pytest.raises(RefusedError):
            Terminal("x\n").ui.secret("Password")

    def test_what_is_typed_as_a_password_does_not_show(self) -> None:
        here, there = os.openpty()
        with (
            open(there, closefd=False) as keyboard,
            open(there, "w", buffering=1, closefd=False) as screen,
        ):
            ui = UI(
                stdin=keyboard,
                stdout=io.StringIO(),
                stderr=screen,
                environ={"TERM": "xterm"},
                clock=lambda: 0.0,
                now=lambda: datetime(2026, 11, 23),
            )
            shown = b""
            typed = threading.Event()

            def somebody() -> None:
                nonlocal shown
                while b"Password: " not in shown:
                    shown += os.read(here, 1000)
                os.write(here, b"secret-words\n")
                typed.set()

            thread = threading.Thread(target=somebody)
            thread.start()
            assert ui.secret("Password") == "secret-words"
            thread.join()
            # Afterwards it shows again.
            assert termios.tcgetattr(there)[3] & termios.ECHO
        shown += os.read(here, 1000)
        os.close(here)
        os.close(there)
        assert b"secret-words" not in shown


class TestRecords:
    def test_a_line_of_parts_is_plain_where_there_is_no_terminal(self) -> None:
        t = Terminal()
        t.ui.record([("12:00", "dim"), (" web ", "cyan"), (f"\x1b[31mpassword {SECRET}\tand [b]more", "")])
        assert t.out == "12:00 web password ********\tand [b]more\n"

    def test_and_coloured_in_one_and_never_cut(self) -> None:
        t = Terminal(terminal=True)
        t.ui.record([("12:00 ", "dim"), ("web ", "cyan"), ("word " * 40, "")])
        assert "\x1b[2m12:00 " in t.out
        assert "\x1b[36mweb " in t.out
        assert t.out.count("\n") == 1

    def test_with_json_it_leaves_stdout_alone(self) -> None:
        t = Terminal(json_output=True)
        t.ui.record([("a", ""), ("b", "red")])
        assert (t.out, t.err) == ("", "ab\n")


@pytest.mark.parametrize(
    ("terminal", "environ", "options", "opens"),
    [
        (True, {"DISPLAY": ":0"}, {}, True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, {}, True),
        (True, {}, {}, sys.platform == "darwin"),
        (False, {"DISPLAY": ":0"}, {}, False),
        (True, {"DISPLAY": ":0"}, {"json_output": True}, False),
    ],
)
def test_a_browser_is_opened_where_somebody_sees_it(
    terminal: bool, environ: dict[str, str], options: dict[str, Any], opens: bool
) -> None:
    opened: queue.Queue[str] = queue.Queue()
    t = Terminal(terminal=terminal, environ=environ, browser=opened.put, **options)
    assert t.ui.browse("http://127.0.0.1:3000/") is opens
    if opens:
        assert opened.get(timeout=30) == "http://127.0.0.1:3000/"


class TestTables:
    def test_in_a_pipe_it_is_plain_aligned_columns_that_are_never_cut(self) -> None:
        t = Terminal()
        t.ui.table(("name", "value"), [("a", "x" * 100), ("\ud55c\uad6d", None)], title="all")
        assert t.out == f"all\nname  value\na     {'x' * 100}\n\ud55c\uad6d  None\n"

    def test_without_rows_the_head_stands_alone(self) -> None:
        t = Terminal()
        t.ui.table(("name", "value"), [])
        assert t.out == "name  value\n"

    def test_in_a_terminal_the_title_stands_on_one_line(self) -> None:
        t = Terminal(terminal=True, environ={"NO_COLOR": "1"})
        t.ui.table(("a", "b"), [(1, 2)], title="a title that is wider than the columns")
        assert "a title that is wider than the columns" in t.out


def drive(tree: Progress) -> None:
    """A short run with everything in it."""
    subnet = 'module.vpc.aws_subnet.private["ap-northeast-2a"]'
    tree.stage_started("network", "planning")
    tree.stage_planned(StagePlan("network", tuple(ResourceChange(f"r{i}", Action.CREATE) for i in range(3))))
    tree.stage_started("network", "applying")
    tree.resource("network", subnet, "create", "started", 0)
    tree.resource("network", subnet, "create", "progress", 10)
    tree.resource("network", subnet, "create", "complete", 12)
    tree.resource("network", "data.aws_region.this", "read", "complete", 1)
    tree.stage_ended(StageResult("network", Status.APPLIED, 72.4, 3))
    tree.stage_started("eks", "applying")
    tree.resource("eks", "aws_eks_cluster.this", "create", "progress", 30)
    tree.resource("eks", "aws_eks_cluster.this", "create", "progress", 60)
    tree.resource("eks", "aws_eks_cluster.this", "create", "progress", 70)
    tree.resource("eks", "aws_eks_cluster.this", "create", "errored", 75)
    tree.stage_ended(StageResult("eks", Status.FAILED, 80, error="quota reached\nmore"))
    tree.stage_ended(StageResult("access", Status.SKIPPED, error="needs eks"))
    tree.note("all else is done", stage="eks")
    tree.warn("look at it")


class TestRunWithoutTerminal:
    def test_lines_with_the_time_of_day(self) -> None:
        t = Terminal()
        with t.ui.tree("cali up", ["network", "eks", "access"]) as tree:
            drive(tree)
        assert t.out == ""
        lines = t.err.splitlines()
        assert [line.removeprefix("12:00:05 ") for line in lines] == [
            "network: planning",
            "network: plan: 3 to add",
            "network: applying",
            'network: module.vpc.aws_subnet.private["ap-northeast-2a"]: created in 12s',
            "network: applied (+3) in 1m12s",
            "eks: applying",
            "eks: aws_eks_cluster.this: still creating, 1m00s",
            "eks: aws_eks_cluster.this: creating failed after 1m15s",
            "eks: failed in 1m20s: quota reached",
            "  more",
            "access: skipped: needs eks",
            "eks: all else is done",
            "warning: look at it",
        ]

    def test_quiet_leaves_what_failed(self) -> None:
        t = Terminal(quiet=True)
        with t.ui.tree("cali up", ["network", "eks", "access"]) as tree:
            drive(tree)
        assert "network" not in t.err
        assert "eks: failed" in t.err

    def test_a_dumb_terminal_gets_lines_too(self) -> None:
        t = Terminal(terminal=True, environ={"TERM": "dumb"})
        with t.ui.tree("cali up", ["network"]) as tree:
            tree.stage_started("network", "planning")
        assert t.err == "12:00:05 network: planning\n"


class TestRunInATerminal:
    def test_the_last_frame_stays_on_the_screen(self) -> None:
        t = Terminal(terminal=True, environ={"NO_COLOR": "1"})
        with t.ui.tree("cali up", ["network", "eks", "access", "search"]) as tree:
            drive(tree)
        last = t.err[t.err.rindex("cali up") :]
        shown = [" ".join(line.split()) for line in re.sub(r"\x1b\[[0-9;]*m", "", last).splitlines()]
        assert shown[1:5] == [
            "\u251c\u2500\u2500 \u2713 network 1m12s applied +3",
            "\u251c\u2500\u2500 \u2717 eks 1m20s failed quota reached",
            "\u251c\u2500\u2500 \u2013 access skipped needs eks",
            "\u2514\u2500\u2500 \u00b7 search",
        ]
        assert t.err.count("\x1b[?25l") == t.err.count("\x1b[?25h")
        assert t.out == ""

    def test_a_question_in_the_middle_has_the_screen_for_itself(self) -> None:
        t = Terminal("y\n", terminal=True, environ={"NO_COLOR": "1"})
        with t.ui.tree("cali up", ["network", "eks"]) as tree:
            tree.stage_started("network", "planning")
            assert t.ui.confirm("Apply?")
            after = t.err[t.err.index("Apply?") :]
            before = t.err[: t.err.index("Apply?")]
            # The cursor was given back before the question, and taken again after the answer.
            assert before.count("\x1b[?25l") == before.count("\x1b[?25h")
            assert "\x1b[?25l" in after
            tree.stage_ended(StageResult("network", Status.APPLIED, 3))
        assert "applied" in t.err

    def test_the_display_ends_also_when_the_run_breaks_off(self) -> None:
        t = Terminal(terminal=True)
        with pytest.raises(KeyboardInterrupt), t.ui.tree("cali up", ["network"]) as tree:
            tree.stage_started("network", "planning")
            raise KeyboardInterrupt
        assert t.err.count("\x1b[?25l") == t.err.count("\x1b[?25h")
        t.ui.info("afterwards")
        assert t.err.rstrip().endswith("afterwards")

    def test_many_threads_at_once(self) -> None:
        t = Terminal("y\n" * 5, terminal=True)
        names = [f"stage{number}" for number in range(6)]
        with t.ui.tree("cali up", names) as tree:

            def work(name: str) -> None:
                for number in range(40):
                    tree.stage_started(name, "applying")
                    tree.resource(name, f"r{number}", "create", "started", 0)
                    tree.note(f"{number}", stage=name)
                    tree.resource(name, f"r{number}", "create", "complete", 1)
                tree.stage_ended(StageResult(name, Status.APPLIED, 1))

            threads = [threading.Thread(target=work, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
            for _ in range(5):
                t.ui.confirm("Go on?")
            for thread in threads:
                thread.join(30)
            assert not any(thread.is_alive() for thread in threads)


def frame(view: RunView, now: float, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, no_color=True, legacy_windows=False).print(view.draw(now, width))
    return [line.rstrip() for line in file.getvalue().splitlines()]


class TestTree:
    def view(self, *names: str) -> RunView:
        return RunView("cali up \u00b7 demo-default", names, UNICODE, 0.0)

    def test_each_state_of_a_stage(self) -> None:
        view = self.view("network", "eks", "search", "index")
        change = (ResourceChange("a", Action.CREATE), ResourceChange("b", Action.REPLACE))
        view.end(StageResult("network", Status.UNCHANGED, 3.0, add=1))
        view.start("eks", "applying", 10.0)
        view.planned(StagePlan("eks", change))
        view.start("eks", "applying", 20.0)
        view.resource("eks", "aws_eks_cluster.this", "create", "started", 0, 20.0)
        view.resource("eks", "done", "create", "complete", 4, 24.0)
        view.start("search", "planning", 10.0)
        view.planned(StagePlan("search", change))
        assert frame(view, 75.0, 80) == [
            "cali up \u00b7 demo-default  1m15s",
            "\u251c\u2500\u2500 = network      3s  unchanged",
            "\u251c\u2500\u2500 \u2819 eks       1m05s  applying  +2 -1  1/3".replace(
                "\u2819", UNICODE.running[300 % 10]
            ),
            "\u2502   \u2514\u2500\u2500 aws_eks_cluster.this  creating 55s",
            "\u251c\u2500\u2500 \u25c7 search           planned   +2 -1",
            "\u2514\u2500\u2500 \u00b7 index",
        ]

    def test_the_longest_going_resources_are_shown_and_the_rest_counted(self) -> None:
        view = self.view("network")
        view.start("network", "applying", 0.0)
        for number in range(5):
            view.resource("network", f"r{number}", "create", "started", 0, float(10 - number))
        lines = frame(view, 20.0, 80)
        assert [line.split()[-3] for line in lines[2:4]] == ["r4", "r3"]
        assert lines[4].endswith("and 3 more")

    # A stage that fails without a word is still a line.
    @example(width=40, address="a", error=" ", icons=ASCII)
    @given(
        width=st.integers(40, 120),
        address=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=200),
        error=st.text(st.characters(exclude_categories=("C",)), max_size=200),
        icons=st.sampled_from([UNICODE, ASCII]),
    )
    def test_no_line_is_wider_than_the_terminal(
        self, width: int, address: str, error: str, icons: Any
    ) -> None:
        view = RunView("a title " * 20, ("autoscaler", "eks"), icons, 0.0)
        view.start("eks", "destroying", 0.0)
        view.resource("eks", address, "create", "started", 0, 0.0)
        view.end(StageResult("autoscaler", Status.UNCHANGED, 36_000, 100, 100, 100, error=error))
        lines = frame(view, 40_000.0, width)
        assert len(lines) == 4
        assert all(cell_len(line) <= width for line in lines)

    @pytest.mark.parametrize(
        ("seconds", "text"), [(-1, "0s"), (0.9, "0s"), (59, "59s"), (65, "1m05s"), (3720, "1h02m")]
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text

    @pytest.mark.parametrize(
        ("cut", "text", "width", "shown"),
        [
            (shorten, "aws_eks_cluster.this", 12, "aws_e\u2026r.this"),
            (shorten, "short", 12, "short"),
            (shorten, "\ud55c\uad6d\uc5b4\uc785\ub2c8\ub2e4", 7, "\ud55c\uad6d\u2026\ub2e4"),
            (clip, "You have reached the limit", 12, "You have re\u2026"),
            (clip, "\ud55c\uad6d\uc5b4\uc785\ub2c8\ub2e4", 6, "\ud55c\uad6d\u2026"),
        ],
    )
    def test_cutting(self, cut: Callable[[str, int, str], str], text: str, width: int, shown: str) -> None:
        assert cut(text, width, "\u2026") == shown


def test_the_tree_is_a_watcher() -> None:
    def watch(_: Progress) -> None: ...

    watch(Terminal().ui.tree("x", []))
    stream: IO[str] = Stream()
    assert not stream.isatty()
