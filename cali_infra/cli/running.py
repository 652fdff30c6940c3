"""What `plan`, `up`, `down` and `status` share: open the environment, ask, show, choose the exit code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING

from cali_infra.cli.interrupts import TERRAFORM, interruptible

if TYPE_CHECKING:
    from cali_infra.cli.context import Options
    from cali_infra.core.deploy import Question
    from cali_infra.core.platform import Platform
    from cali_infra.core.report import Report
    from cali_infra.ui import UI

DONE, FAILED, REFUSED, CHANGES, INTERRUPTED = 0, 1, 3, 4, 130


@dataclass(frozen=True)
class Run:
    """An opened environment and the event that Ctrl-C sets."""

    platform: Platform
    cancel: Event
    ui: UI


@contextmanager
def running(
    options: Options,
    *,
    exclusive: bool = True,
    force_conflicts: bool = False,
    brief: bool = False,
    words: tuple[str, str] = TERRAFORM,
) -> Iterator[Run]:
    """Open the environment that the options name, alone in its workspace unless not `exclusive`.

    With `brief` a cluster that does not answer is given up within seconds; `words` are said at Ctrl-C.
    """
    from cali_infra.cli.context import open_environment
    from cali_infra.core.platform import open_platform

    ui = options.ui
    with interruptible(ui, words) as cancel:
        environment = open_environment(options)
        platform = open_platform(
            environment.target,
            environment.settings,
            environment.secrets,
            redact=environment.redact,
            now=datetime.now(UTC),
            clock=time.monotonic,
            force_conflicts=force_conflicts,
            brief=brief,
        )
        if not exclusive:
            yield Run(platform, cancel, ui)
            return
        with platform.workspace.exclusive():
            yield Run(platform, cancel, ui)


def exit_code(report: Report) -> int:
    """0 done, 1 failed, 3 refused, 130 interrupted. Source: design, "Exit codes"."""
    if report.interrupted:
        return INTERRUPTED
    if report.ok:
        return DONE
    return REFUSED if report.refused else FAILED


def show_question(ui: UI, question: Question, *, asked: bool) -> None:
    """The plans that a person is `asked` to approve, or that were approved beforehand, and what waits."""
    for plan in question.plans:
        ui.plan(plan, asked=asked)
    for stage, after in question.pending.items():
        ui.info(f"{stage}: planned after {', '.join(after)}")


def conclude(ui: UI, report: Report, title: str, next_step: str) -> None:
    """The end of a run in text: what failed with its remedy, and what to type next."""
    from cali_infra.plans import Status

    for result in report.results:
        if result.status is Status.FAILED:
            ui.warn(f"{result.name}: {result.error}")
            if result.remedy:
                ui.info(f"  {result.remedy}")
    if report.ok and title:
        ui.success(title)
    elif not report.ok and next_step:
        ui.info(next_step)
