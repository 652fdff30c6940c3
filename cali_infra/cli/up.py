"""`cali up`: plan, ask, apply."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cali_infra.cli.context import Options

if TYPE_CHECKING:
    from cali_infra.core.platform import Platform


def up(
    ctx: typer.Context,
    stages: Annotated[list[str] | None, typer.Argument(help="Only these stages.", show_default=False)] = None,
    through: Annotated[
        str | None, typer.Option(help="This stage and what it needs.", metavar="STAGE")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Approve without asking; never what is guarded.")
    ] = False,
    allow_replace: Annotated[
        list[str] | None,
        typer.Option(help="Let this guarded resource be replaced or deleted.", metavar="ADDRESS"),
    ] = None,
    force_conflicts: Annotated[
        bool,
        typer.Option(
            "--force-conflicts", help="Take over fields of Kubernetes objects that other tools manage."
        ),
    ] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not end with the quick part of `cali verify`.")
    ] = False,
) -> None:
    """Plan, ask, and apply what has changed; a second run goes on where the first one stopped."""
    from cali_infra.cli import access, running
    from cali_infra.cli import verify as checks
    from cali_infra.cli.mending import mend_releases
    from cali_infra.core.deploy import Deployment, Question, selection
    from cali_infra.core.preflight import check_up
    from cali_infra.core.report import run_document
    from cali_infra.errors import CaliError, GuardedChangeError

    options: Options = ctx.obj
    ui = options.ui
    chosen = selection(stages or [], through)

    def approve(question: Question) -> bool:
        running.show_question(ui, question, asked=not yes)
        if yes:
            return True
        again = "A plan that was made after the approval changes something. " if question.again else ""
        # In the question itself, for with --quiet nothing else says so.
        later = f", and then what is to be made in {', '.join(question.pending)}" if question.pending else ""
        return ui.confirm(f"{again}Apply this to {run.platform.settings.environment}{later}?")

    def warn_of_access(platform: Platform) -> None:
        if not any(stage.name == "access" for stage in chosen):
            return
        try:
            warnings = platform.inputs.access().warnings
        except CaliError:
            # Its state cannot be read: the report says so, and has the exit code.
            return
        for warning in warnings:
            ui.warn(warning)

    def forget_search_users() -> None:
        """Whose access is over or was taken away keeps no user of the domain."""
        if not any(stage.name == "access" for stage in chosen):
            return
        try:
            for name in access.forget_search_users(platform, platform.inputs.record().revoked):
                ui.info(f"OpenSearch user {name}: deleted, its principal has no access any more")
        except CaliError as error:
            ui.warn(f"users of the domain whose access is over may still be there: {error.message}")

    with running.running(options, force_conflicts=force_conflicts) as run:
        platform = run.platform
        for note in check_up(platform, chosen):
            ui.warn(note)
        mend_releases(ui, platform, [stage.name for stage in chosen], yes=yes, now=datetime.now(UTC))
        with ui.tree(f"cali up · {platform.settings.cluster_name}", [s.name for s in chosen]) as tree:
            deployment = Deployment(
                platform.drivers,
                tree,
                run.cancel,
                options.clock,
                on_approved=lambda: platform.workspace.claim(platform.owner),
            )
            try:
                report = deployment.up(chosen, approve, allow_replace or [])
            except GuardedChangeError:
                # An access that has ended is why an entry would go.
                warn_of_access(platform)
                raise
        checked = None
        if report.ok and not no_verify:
            checked = checks.quickly(run, [s.name for s in chosen], options, settle=report.changed)
        if options.json_output:
            document = checked.document() if checked else None
            ui.json(run_document(report, platform.settings.environment, verify=document))
        warn_of_access(platform)
        forget_search_users()
        changed = (
            "everything is as it should be" if report.changed else "no changes: everything is up to date"
        )
        # What was made and does not work is nothing to be glad of.
        title = changed if checked is None or checked.ok() else ""
        running.conclude(
            ui, report, title, "Mend what failed and run `cali up` again: it goes on from there."
        )
        if checked is not None:
            ui.report(checked, whole=False)
            raise typer.Exit(checks.code(checked))
        raise typer.Exit(running.exit_code(report))
