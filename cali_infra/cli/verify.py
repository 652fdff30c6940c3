"""`cali verify`: every check, with a cause and a remedy for each failure."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cali_infra.cli.context import Options

if TYPE_CHECKING:
    from cali_infra.cli.running import Run
    from cali_infra.errors import CaliError
    from cali_infra.verify.checks import Check
    from cali_infra.verify.report import Report

_STOPPING = (
    "stopping: what the checks have made is put down first",
    "still stopping: what the checks have made would be left behind",
)
# For so many seconds what `up` has just applied may settle: a first log record, the autoscaler's first status.
SETTLING = 120.0


def verify(
    ctx: typer.Context,
    checks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Only these: a check, a part (eks, search.auth) or a family.", show_default=False
        ),
    ] = None,
    wait: Annotated[
        str | None, typer.Option(help="Repeat until all pass, for this long: 15m.", metavar="DURATION")
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also what needs an attempt: a volume, and, if you agree, a node more."),
    ] = False,
    e2e: Annotated[bool, typer.Option("--e2e", help="Also the way of a log line from end to end.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Run what costs money without asking first.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.", metavar="FILE")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report there, as one HTML file.", metavar="FILE")
    ] = None,
) -> None:
    """Prove that the platform works, with a cause and a remedy for each failure."""
    from cali_infra.cli import running
    from cali_infra.core import durations
    from cali_infra.errors import AwsError
    from cali_infra.verify.runner import Runner
    from cali_infra.verify.selection import choose
    from cali_infra.verify.subject import of_platform

    options: Options = ctx.obj
    ui = options.ui
    wanted = [name for name, given in (("deep", deep), ("e2e", e2e)) if given]
    chosen = choose(_all(options), checks or [], wanted)
    patience = durations.parse(wait, "--wait").total_seconds() if wait is not None else 0.0
    files = {
        name: _writable(options, path, name) for name, path in (("--junit", junit), ("--html", html)) if path
    }
    with ExitStack() as stack:
        try:
            run = stack.enter_context(running.running(options, exclusive=False, brief=True, words=_STOPPING))
        except AwsError as error:
            # Without a caller nothing can be asked, which is a result like any other.
            report = _nobody(chosen, error)
            about = {"environment": options.environment or "default"}
            name = about["environment"]
        else:
            name, about = run.platform.settings.cluster_name, _about(run)
            # Before the display lives, which would write over the questions.
            approved = _approved(options, chosen, yes=yes)
            with ui.checks(len(chosen)) as watch:
                runner = Runner(
                    of_platform(run.platform),
                    run.cancel,
                    watch,
                    approve=lambda check: check.id in approved,
                    clock=options.clock,
                )
                report = runner.until_passed(chosen, patience, strict=strict)
    if options.json_output:
        ui.json(report.document(strict))
    ui.report(report)
    for option, path in files.items():
        _write(path, option, report.cleaned(ui.clean), name, about, strict)
        ui.info(f"written: {path}")
    raise typer.Exit(code(report, strict))


def quickly(run: Run, stages: list[str], options: Options, *, settle: bool) -> Report:
    """The quick part over these stages, as `up` ends with it; `settle`: what was just applied gets its time."""
    from cali_infra.verify.runner import Runner
    from cali_infra.verify.selection import quick
    from cali_infra.verify.subject import of_platform

    chosen = quick(_all(options), stages)
    with options.ui.checks(len(chosen)) as watch:
        runner = Runner(of_platform(run.platform, opened=True), run.cancel, watch, clock=options.clock)
        return runner.until_passed(chosen, SETTLING if settle else 0.0)


def code(report: Report, strict: bool = False) -> int:
    """0 it works, 1 it does not, 130 interrupted. Source: design, "Exit codes"."""
    from cali_infra.cli import running

    if report.interrupted:
        return running.INTERRUPTED
    return running.DONE if report.ok(strict) else running.FAILED


def _all(options: Options) -> tuple[Check, ...]:
    from cali_infra.verify import families

    return families.checks(own_cluster=not (options.sandbox and options.kubeconfig))


def _approved(options: Options, checks: tuple[Check, ...], *, yes: bool) -> frozenset[str]:
    """The checks whose question was answered with yes; where there is nobody to ask, none is."""
    ui = options.ui
    return frozenset(
        check.id
        for check in checks
        if check.question and (yes or (ui.interactive and ui.confirm(f"{check.question} Run it?")))
    )


def _about(run: Run) -> dict[str, str]:
    platform = run.platform
    return {
        "environment": platform.settings.environment,
        "region": platform.settings.region,
        "account": "sandbox" if platform.target.rehearsal else platform.identity.account,
    }


def _nobody(checks: tuple[Check, ...], error: CaliError) -> Report:
    """The report of a run that could not find out who is calling."""
    from datetime import UTC, datetime

    from cali_infra.verify.checks import failed, skipped
    from cali_infra.verify.report import Line, Report

    first = "aws.identity"
    lines = tuple(
        Line(
            check,
            failed(error.message, error.remedy or check.remedy)
            if check.id == first
            else skipped(f"{first} failed", cause=first),
        )
        for check in checks
    )
    return Report(lines, datetime.now(UTC), 0.0)


def _writable(options: Options, path: Path, option: str) -> Path:
    """The path as a person means it; raises UsageError where no file can be written."""
    from cali_infra.errors import UsageError

    full = Path.cwd() / path
    if full.is_dir():
        raise UsageError(f"{option}: {path} is a folder", remedy=f"name a file: {option} {path}/report")
    if not full.parent.is_dir():
        raise UsageError(f"{option}: there is no folder {path.parent}", remedy=f"mkdir -p {path.parent}")
    return full


def _write(path: Path, option: str, report: Report, name: str, about: dict[str, str], strict: bool) -> None:
    from cali_infra import __version__
    from cali_infra.errors import OperationError

    if option == "--junit":
        from cali_infra.verify import junit

        content = junit.render(report, name, strict=strict)
    else:
        from cali_infra.verify import html

        head = {
            **about,
            "at": f"{report.at:%Y-%m-%d %H:%M:%S} UTC",
            "took": f"{report.seconds:.1f} s",
            "cali": __version__,
        }
        content = html.render(report, name, head, strict=strict)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OperationError(
            f"{path} cannot be written: {error.strerror}", remedy="name another file"
        ) from error
