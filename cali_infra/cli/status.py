"""`cali status`: one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cali_infra.cli.context import Options

if TYPE_CHECKING:
    from cali_infra.core.status import Release


def status(ctx: typer.Context) -> None:
    """Show stages, versions, nodes, endpoints, who has access, and when it last changed."""
    from cali_infra.cli import running
    from cali_infra.core.status import gather
    from cali_infra.errors import RunInterruptedError

    options: Options = ctx.obj
    ui = options.ui
    with running.running(options, exclusive=False) as run:
        found = gather(run.platform, run.cancel)
        if run.cancel.is_set():
            raise RunInterruptedError("interrupted; nothing was changed")
    if options.json_output:
        ui.json(found.document())
        raise typer.Exit(running.DONE if not found.problems else running.FAILED)
    where = "sandbox" if found.rehearsal else f"account {found.account}"
    ui.table(
        ("stage", "status", "resources", "changed"),
        [
            (s.name, s.status, "" if s.resources is None else s.resources, s.changed_at or "")
            for s in found.stages
        ],
        title=f"{found.environment} · {found.region} · {where}",
    )
    ui.table(("version", ""), found.versions.items())
    if found.endpoints:
        ui.table(("endpoint", ""), found.endpoints.items())
    if found.nodes:
        ui.table(
            ("node", "ready", "zone", "kubelet"),
            [(n.name, "yes" if n.ready else "no", n.zone, n.version) for n in found.nodes],
        )
    if found.access:
        ui.table(
            ("access", "level", "namespaces", "until", "principal"),
            [(e.name, e.level, ", ".join(e.namespaces) or "all", e.until or "", e.arn) for e in found.access],
        )
    if found.releases:
        ui.table(
            ("release", "namespace", "status", "revision", "chart", "application", "workloads"),
            [
                (r.name, r.namespace, r.status, r.revision, r.chart_version, r.app_version, _workloads(r))
                for r in found.releases
            ],
        )
    for problem in found.problems:
        ui.warn(problem)
    raise typer.Exit(running.DONE if not found.problems else running.FAILED)


def _workloads(release: Release) -> str:
    """How many of a release's workloads are ready; nothing where it has none, or nobody could tell."""
    return f"{release.ready} of {release.workloads} ready" if release.workloads else ""
