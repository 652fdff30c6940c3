"""`cali revoke-access`: take somebody's access away."""

from __future__ import annotations

from typing import Annotated

import typer

from cali_infra.cli.context import Options


def revoke_access(
    ctx: typer.Context,
    arns: Annotated[
        list[str] | None, typer.Argument(help="ARNs of IAM users or roles.", metavar="ARN...")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Revoke without asking.")] = False,
    expired: Annotated[bool, typer.Option("--expired", help="Everybody whose time is over.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also your own access, or the last admin's; with --yes only.")
    ] = False,
) -> None:
    """Take somebody's access away, or everybody's whose time is over."""
    from cali_infra.cli import access
    from cali_infra.core.revocations import OUTLIVES, Revocations
    from cali_infra.errors import RefusedError, UsageError

    options: Options = ctx.obj
    ui = options.ui
    if bool(arns) is expired:
        raise UsageError(
            "give ARNs, or --expired" if not arns else "ARNs and --expired exclude each other",
            remedy="cali revoke-access ARN..., or cali revoke-access --expired",
        )
    with access.access_run(options, "revoke-access") as run:
        platform = run.platform
        revocations = Revocations(
            run.stack,
            platform.aws,
            cluster=platform.settings.cluster_name,
            creator=run.creator,
            caller=platform.identity.arn,
            own=run.own,
            now=run.now,
        )
        if expired:
            over = revocations.over(run.cancel)
            before = access.gather(run, only=[entry.arn for entry in over]) if over else ()
        else:
            # Told twice: neither of the two alone does it.
            intent = revocations.intend(arns or [], run.cancel, force=force and yes)
            before = access.gather(run, only=intent.arns) if intent.arns else ()
            for arn in intent.gone:
                ui.info(f"{arn} was revoked before")
        if before:
            access.show(ui, before, as_data=False)
            if not yes and not ui.confirm(f"Take access to {platform.settings.cluster_name} from these?"):
                raise RefusedError("not approved; nothing was changed", remedy="answer y, or give --yes")
            if expired:
                revocations.expire(over, run.watch, run.cancel)
            else:
                revocations.apply(intent, run.watch, run.cancel)
            for user in access.forget_search_users(platform, [row.arn for row in before]):
                ui.info(f"OpenSearch user {user}: deleted")
    if options.json_output:
        ui.json({"ok": True, "entries": access.document(before)})
    if not before:
        ui.success("nobody's access is over" if expired else "no change: nothing is left to revoke")
        return
    ui.success(f"revoked: {', '.join(row.name for row in before)}")
    ui.info(OUTLIVES)
