"""What a report of checks looks like: tables by family, what is wrong last, the counts at the end."""

from __future__ import annotations

import io
from datetime import datetime

import pytest
from reports import SENTINEL, sample

from cali_infra.ui import UI
from cali_infra.ui_checks import Running, summary
from cali_infra.verify.checks import passed


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def ui(*, terminal: bool = False, **more: bool) -> tuple[UI, Stream, Stream]:
    out, err = Stream(terminal=terminal), Stream(terminal=terminal)
    made = UI(
        stdin=Stream(),
        stdout=out,
        stderr=err,
        environ={"TERM": "xterm", "COLUMNS": "160", "NO_COLOR": "1"},
        clock=lambda: 0.0,
        now=lambda: datetime(2026, 3, 1, 12, 0),
        **more,
    )
    made.hide(lambda text: text.replace(SENTINEL, "********"))
    return made, out, err


@pytest.mark.parametrize("terminal", [False, True])
def test_a_report_goes_from_the_families_to_what_is_wrong(terminal: bool) -> None:
    made, out, err = ui(terminal=terminal)
    made.report(sample())
    text = out.getvalue()
    order = [
        "AWS",
        "aws.identity",
        "Kubernetes",
        "OpenSearch",
        "1.25 s",
        "warn: search.tls: search.tls is as it should be",
        "    cali up search",
        "fail: eks.cluster-active: eks.cluster-active is as it should be",
        "and the password ********",
        "    # look first",
        "    cali up eks",
        "2 passed, 1 warning, 1 failed, 1 skipped in 1.5 s",
    ]
    position = 0
    for part in order:
        position = text.index(part, position)
    assert err.getvalue() == ""
    assert SENTINEL not in text and "\x1b[31m" not in text and "\x00" not in text


def test_a_cause_of_two_lines_is_one_in_the_table() -> None:
    made, out, _ = ui()
    made.report(sample())
    (row,) = [line for line in out.getvalue().splitlines() if line.startswith("✗")]
    assert "and the password ********" in row


def test_beside_json_only_what_is_wrong_is_said_and_on_stderr() -> None:
    made, out, err = ui(json_output=True)
    made.report(sample())
    assert out.getvalue() == ""
    assert "fail: eks.cluster-active" in err.getvalue()
    assert "aws.identity" not in err.getvalue()


def test_what_a_run_ends_with_has_no_tables() -> None:
    made, out, err = ui()
    made.report(sample(), whole=False)
    assert out.getvalue() == ""
    assert "aws.identity" not in err.getvalue()
    assert err.getvalue().endswith("2 passed, 1 warning, 1 failed, 1 skipped in 1.5 s\n")
    made, _, err = ui(quiet=True)
    made.report(sample(failing=False), whole=False)
    assert err.getvalue() == ""
    made.report(sample(), whole=False)
    assert "fail: eks.cluster-active" in err.getvalue()


def test_the_line_while_it_runs() -> None:
    running = Running(5, utf=False)
    checks = [line.check for line in sample().lines]
    for check in checks:
        running.started(check)
    running.ended(checks[0], passed("fine"))
    assert running.line(0.0) == "| 1 of 5 checks: eks.cluster-active, search.tls, kubernetes.api, 1 more"
    running.ended(checks[1], sample().lines[1].result)
    assert running.line(0.1) == "/ 2 of 5 checks, 1 failed: search.tls, kubernetes.api, search.auth"
    running.again(1)
    assert running.line(0.2).startswith("- 0 of 1 checks")


def test_a_live_line_leaves_nothing_behind_and_rounds_are_told() -> None:
    for terminal in (False, True):
        made, out, err = ui(terminal=terminal)
        with made.checks(5) as watch:
            for line in sample().lines:
                watch.started(line.check)
                watch.ended(line.check, line.result)
            watch.putting_down([line.check for line in sample().lines[:2]])
            watch.again(1, 3, 2.0)
        assert out.getvalue() == ""
        assert "putting down what was made by" in err.getvalue()
        assert "1 check has not passed yet" in err.getvalue()


def test_the_counts_of_an_interrupted_run() -> None:
    from dataclasses import replace

    assert summary(replace(sample(), interrupted=True)).endswith("in 1.5 s, interrupted")
