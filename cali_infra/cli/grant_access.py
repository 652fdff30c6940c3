"""`cali grant-access`: let teammates in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Annotated

import typer

from cali_infra.cli.context import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cali_infra.core.access import Entry
    from cali_infra.core.grants import Grant, Intent
    from cali_infra.core.platform import Platform
    from cali_infra.ui import UI

GUIDE = "eks-access-guide.md"


def grant_access(
    ctx: typer.Context,
    arns: Annotated[
        list[str] | None, typer.Argument(help="ARNs of IAM users or roles.", metavar="ARN...")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Grant without asking.")] = False,
    from_file: Annotated[
        Path | None,
        typer.Option("--from", help="A CSV file: arn, name, level, namespaces, until.", metavar="FILE"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Who that is.", metavar="TEXT")] = None,
    level: Annotated[
        str | None, typer.Option(help="admin, edit or view; new ones get admin.", show_default=False)
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Only in this namespace, once for each; * stands for anything.", metavar="NS"),
    ] = None,
    whole_cluster: Annotated[bool, typer.Option("--whole-cluster", help="In every namespace again.")] = False,
    lasting: Annotated[
        str | None, typer.Option("--for", help="How long, such as 30d or 12h.", metavar="DURATION")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="The last day, or the moment; `never` takes an end away.", metavar="DATE"),
    ] = None,
    opensearch: Annotated[
        bool, typer.Option("--opensearch", help="Also a user of the OpenSearch domain, who may read.")
    ] = False,
) -> None:
    """Let a teammate into the cluster, change how far, or give an end to it."""
    from cali_infra.cli import access
    from cali_infra.core import grant_requests
    from cali_infra.core.access_proof import prove
    from cali_infra.core.grants import Grants
    from cali_infra.errors import PreconditionError, RefusedError, UsageError

    options: Options = ctx.obj
    ui = options.ui
    given = grant_requests.Options(name, level, namespace or (), whole_cluster, lasting, until)
    requests = grant_requests.from_command_line(arns or (), given, datetime.now(UTC))
    if from_file is not None:
        if given != grant_requests.Options():
            raise UsageError(
                "--from takes names, levels, namespaces and ends from the file",
                remedy="put them into its columns, or run the command once for the file and once for the others",
            )
        requests += grant_requests.from_file(options.project / from_file)
    if not requests:
        raise UsageError("nobody is named", remedy="cali grant-access ARN..., or --from FILE")
    with access.access_run(options, "grant-access") as run:
        platform = run.platform
        grants = Grants(
            run.stack,
            platform.aws,
            cluster=platform.settings.cluster_name,
            creator=run.creator,
            caller=platform.identity.arn,
            now=run.now,
        )
        intent = grants.intend(requests, run.cancel)
        users = platform.search_users() if opensearch else None
        if opensearch:
            if users is None:
                raise PreconditionError(
                    "there is no OpenSearch domain yet", remedy="make it: cali up --through index"
                )
            users.check()
        for warning in intent.warnings:
            ui.warn(warning)
        _show(ui, intent, asked=not yes)
        changed = [grant.entry.name for grant in intent.grants if not grant.unchanged]
        whom = changed[0] if len(changed) == 1 else f"these {len(changed)}"
        if (
            changed
            and not yes
            and not ui.confirm(f"Grant this to {whom} on {platform.settings.cluster_name}?")
        ):
            raise RefusedError("not approved; nothing was changed", remedy="answer y, or give --yes")
        platform.workspace.claim(platform.owner)
        record = grants.apply(intent, run.watch, run.cancel)
        entries = [record.entries[arn] for arn in intent.arns]
        made = [users.grant(entry, SystemRandom()) for entry in entries] if users else []
        proofs = prove(
            entries,
            platform.aws,
            platform.settings.cluster_name,
            caller=run.own(),
            call=platform.whoami(),
            cancel=run.cancel,
        )
        found = access.gather(run, only=intent.arns, record=record)
    if options.json_output:
        ui.json(
            {
                "ok": all(proof.works is not False for proof in proofs),
                "entries": access.document(found),
                "handover": [{"user": one.user, "file": str(one.file) if one.file else None} for one in made],
            }
        )
    for proof in proofs:
        (ui.warn if proof.works is False else ui.info)(f"{record.entries[proof.arn].name}: {proof.detail}")
    ui.success(f"granted: {', '.join(entry.name for entry in entries)}")
    for one in made:
        ui.info(
            f"OpenSearch user {one.user}: its password is in {one.file}; hand it over, then delete the file"
            if one.file
            else f"OpenSearch user {one.user} was there already, and keeps its password"
        )
    if made and any(entry.until for entry in entries):
        ui.info(
            "AWS ends the cluster's access on time; the OpenSearch user goes when cali runs the next time"
        )
    ui.info(_handover(platform, entries))
    raise typer.Exit(int(any(proof.works is False for proof in proofs)))


def _show(ui: UI, intent: Intent, *, asked: bool) -> None:
    """What is to be granted, and what that changes; with --quiet only where somebody is to approve it."""
    if ui.quiet and not asked:
        return
    ui.table(
        ("name", "level", "namespaces", "until", "", "principal"),
        [
            (
                grant.entry.name,
                grant.entry.level,
                ", ".join(grant.entry.namespaces) or "all",
                grant.entry.until or "no end",
                _change(grant),
                grant.entry.arn,
            )
            for grant in intent.grants
        ],
        as_data=False,
    )
    for grant in intent.grants:
        for policy in grant.extra:
            ui.warn(
                f"{grant.entry.name}: {policy.rsplit('/', 1)[-1]}, which cali did not give, is taken away"
            )
        if grant.entry.until:
            ui.info(f"{grant.entry.name}: AWS itself ends the access at {grant.entry.until}")


def _change(grant: Grant) -> str:
    if grant.by_hand:
        return "adopts an entry made by hand"
    if grant.anew:
        return "made anew: IAM has another principal of this name now"
    if grant.before is None:
        return "new"
    if grant.unchanged:
        return "has it already"
    before, after = grant.before, grant.entry
    parts = [
        f"was {old}"
        for old, new in (
            (before.level, after.level),
            (
                ", ".join(before.namespaces) or "all namespaces",
                ", ".join(after.namespaces) or "all namespaces",
            ),
            (before.until or "without end", after.until or "without end"),
            (before.name, after.name),
        )
        if old != new
    ]
    return ", ".join(parts) or "put right"


def _handover(platform: Platform, entries: Sequence[Entry]) -> str:
    """What to send to the teammate: no password is in it."""
    from cali_infra.core import assets

    settings = platform.settings
    endpoint = platform.search_endpoint()
    # AWS' policies give nodes to admins of the whole cluster alone.
    everything = all(entry.level == "admin" and not entry.namespaces for entry in entries)
    spaces = sorted({space for entry in entries for space in entry.namespaces if "*" not in space})
    pods = f"kubectl -n {spaces[0]} get pods" if spaces else "kubectl get pods --all-namespaces"
    lines = [
        "",
        f"Send this to the teammate, with {assets.folder('docs') / GUIDE}, which is there in Korean too:",
        "  cali kubeconfig",
        f"    (without cali: aws eks update-kubeconfig --name {settings.cluster_name} --region {settings.region})",
        f"  {'kubectl get nodes' if everything else pods}",
    ]
    if endpoint:
        lines.append(f"  OpenSearch: https://{endpoint}/_dashboards")
    if settings.services.grafana and all(entry.level != "view" for entry in entries):
        lines.append(
            "  Grafana: kubectl -n grafana port-forward service/grafana 3000:80, then http://localhost:3000"
        )
    return "\n".join(lines)
