"""`cali plan`: what `up` would change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from cali_infra.cli.context import Options


def plan(
    ctx: typer.Context,
    stages: Annotated[list[str] | None, typer.Argument(help="Only these stages.", show_default=False)] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 4 when there are changes.")
    ] = False,
    force_conflicts: Annotated[
        bool,
        typer.Option(
            "--force-conflicts", help="Take over fields of Kubernetes objects that other tools manage."
        ),
    ] = False,
) -> None:
    """Show what `up` would change, resource by resource; nothing is written."""
    from cali_infra.cli import running
    from cali_infra.cli.mending import show_wedged
    from cali_infra.core.deploy import Deployment, selection
    from cali_infra.core.preflight import foresee
    from cali_infra.core.report import plan_document
    from cali_infra.plans import StagePlan, Status

    options: Options = ctx.obj
    ui = options.ui
    chosen = selection(stages or [], None)
    with running.running(options, force_conflicts=force_conflicts) as run:
        for note in foresee(run.platform, chosen):
            ui.warn(note)
        show_wedged(ui, run.platform, [stage.name for stage in chosen], datetime.now(UTC))
        with ui.tree(f"cali plan · {run.platform.settings.cluster_name}", [s.name for s in chosen]) as tree:
            report = Deployment(run.platform.drivers, tree, run.cancel, options.clock).plan(chosen)
        if options.json_output:
            ui.json(plan_document(report))
        for result in report.results:
            if result.status is Status.CHANGES:
                ui.plan(StagePlan(result.name, result.changes, result.warnings), as_data=True)
            elif result.status is Status.PENDING:
                ui.data(f"{result.name}: {result.error}")
        running.conclude(ui, report, "" if report.changed else "no changes: everything is up to date", "")
    code = running.exit_code(report)
    raise typer.Exit(running.CHANGES if exit_code and code == running.DONE and report.changed else code)
