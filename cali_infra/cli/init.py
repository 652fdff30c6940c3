"""`cali init`: the two files of a new project."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from cali_infra.cli.context import Options


class Backend(Enum):
    """Where Terraform's state is kept."""

    LOCAL = "local"
    S3 = "s3"


def init(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the defaults, ask nothing.")] = False,
    project: Annotated[str | None, typer.Option("--name", help="The project's name.")] = None,
    region: Annotated[str | None, typer.Option(help="The AWS region.")] = None,
    allowed_cidr: Annotated[
        list[str] | None, typer.Option(help="A network that may reach cluster and domain.", metavar="CIDR")
    ] = None,
    detect_address: Annotated[
        bool, typer.Option("--detect-address", help="Ask AWS for your public address and allow it.")
    ] = False,
    principal: Annotated[
        list[str] | None, typer.Option(help="A teammate who gets into the cluster.", metavar="ARN")
    ] = None,
    gitsync_url: Annotated[str | None, typer.Option(help="The repository with Airflow's DAGs.")] = None,
    state: Annotated[Backend | None, typer.Option(help="Where Terraform's state is kept.")] = None,
    bucket: Annotated[str | None, typer.Option(help="The bucket of a state in S3.")] = None,
) -> None:
    """Write cali.yaml and secrets.yaml, with strong passwords; what is there is never written over."""
    import random

    from cali_infra.core.init import Answers, create

    options: Options = ctx.obj
    ui = options.ui
    given: dict[str, Any] = {
        "project": project,
        "environment": options.environment,
        "region": region,
        "allowed_cidrs": allowed_cidr,
        "state.backend": state.value if state else None,
        "state.bucket": bucket,
    }
    values = {key: value for key, value in given.items() if value is not None}
    if not yes:
        values.setdefault("project", ui.prompt("Name of the project", "cali"))
        values.setdefault("region", ui.prompt("AWS region", "ap-northeast-2"))
    if "allowed_cidrs" not in values and (detect_address or not yes):
        proposed = _address(options, values.get("region", "ap-northeast-2"))
        answer = proposed if yes else ui.prompt("Network that may reach cluster and domain", proposed)
        if answer:
            values["allowed_cidrs"] = [answer]
    principals = list(principal or [])
    if not yes and not principals:
        answer = ui.prompt("ARNs of teammates, with spaces between (none: later, by grant-access)")
        principals = answer.split()
    outcome = create(options.project, Answers(values, tuple(principals), gitsync_url), random.SystemRandom())
    if options.json_output:
        ui.json(
            {
                "ok": True,
                "written": [str(path) for path in outcome.written],
                "kept": [str(path) for path in outcome.kept],
            }
        )
    for path in outcome.written:
        ui.success(f"wrote {path.name}")
    for path in outcome.kept:
        ui.info(f"kept {path.name} as it is")
    ui.info("next: cali --sandbox up, a rehearsal on this machine; then cali up")


def _address(options: Options, region: str) -> str:
    """This machine's public address as /32; empty, with a warning, where it cannot be found out."""
    from cali_infra.adapters.aws import Aws
    from cali_infra.errors import AwsError

    try:
        return f"{Aws(region, options.environ).public_address()}/32"
    except AwsError as error:
        options.ui.warn(f"your public address is not known: {error.message}")
        return ""
