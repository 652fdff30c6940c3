"""`cali list-access`: who has access."""

from __future__ import annotations

import typer

from cali_infra.cli.context import Options


def list_access(ctx: typer.Context) -> None:
    """Show who has access by the record, the cluster and the local file, and what does not fit."""
    from cali_infra.cli import access
    from cali_infra.core import access as record
    from cali_infra.errors import CaliError

    options: Options = ctx.obj
    ui = options.ui
    with access.access_run(options, "list-access") as run:
        run.stack.open(run.cancel)
        over = record.ended(run.stack.record(), run.now)
        if over:
            # AWS has ended them on time; what is left is to forget them, so that nothing brings one back.
            try:
                run.stack.change(
                    lambda found: record.expire(found, run.now),
                    [one.arn for one in over],
                    run.watch,
                    run.cancel,
                )
                access.forget_search_users(run.platform, [one.arn for one in over])
                ui.info(f"over, and taken off the record: {', '.join(one.name for one in over)}")
            except CaliError as error:
                ui.warn(f"whose time is over could not be taken off the record: {error.message}")
        found = access.gather(run)
    if options.json_output:
        ui.json({"entries": access.document(found)})
        return
    access.show(ui, found, title=f"access to {run.platform.settings.cluster_name}")
