"""`cali down`: take everything away and say what survived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cali_infra.cli.context import Options

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import ObjectRef


def down(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete everything that this environment is made of, after naming it."""
    from cali_infra.cli import running
    from cali_infra.core.destroy import Contents, Destruction
    from cali_infra.core.report import run_document
    from cali_infra.core.stages import STAGES
    from cali_infra.core.sweep import attached, release, survivors
    from cali_infra.errors import CaliError
    from cali_infra.plans import Action, ResourceChange, StagePlan

    options: Options = ctx.obj
    ui = options.ui
    with running.running(options) as run:
        platform = run.platform
        name = platform.settings.environment

        hanging: list[ObjectRef] = []

        def approve(contents: Contents) -> bool:
            hanging.extend(attached(platform, tree))
            if hanging:
                changes = tuple(ResourceChange(str(ref), Action.DELETE) for ref in hanging)
                ui.plan(StagePlan("in the cluster", changes), asked=not yes)
            for stage in reversed(STAGES):
                if changes := contents.get(stage.name, ()):
                    # Also with --quiet: nobody approves what was not shown.
                    ui.plan(StagePlan(stage.name, tuple(changes)), asked=not yes)
            total = len(hanging) + sum(len(changes) for changes in contents.values())
            return yes or ui.confirm(
                f"Delete these {total} resources of {name}, with every log, volume and dashboard in them?"
            )

        with ui.tree(
            f"cali down · {platform.settings.cluster_name}", [s.name for s in reversed(STAGES)]
        ) as tree:
            destruction = Destruction(
                platform.drivers,
                tree,
                run.cancel,
                options.clock,
                prepare=lambda: release(platform, hanging, tree, run.cancel),
            )
            report = destruction.down(STAGES, destruction.contents(STAGES), approve)
        try:
            left = survivors(platform) if report.ok else ()
        except CaliError as error:
            left = (f"not known: {error.message}",)
            ui.info(error.remedy or "give the caller what it lacks and run `cali down` again: it looks again")
        if options.json_output:
            ui.json(run_document(report, name, left))
        for survivor in left:
            ui.warn(f"survived: {survivor}")
        running.conclude(ui, report, f"{name} is gone", "Run `cali down` again: it goes on from there.")
        if report.ok and not left:
            platform.workspace.remove()
    code = running.exit_code(report)
    raise typer.Exit(running.FAILED if code == running.DONE and left else code)
