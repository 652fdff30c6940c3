"""`cali token`: the exec credential behind a kubectl context and behind Terraform's Helm provider."""

from __future__ import annotations

from typing import Annotated

import typer

from cali_infra.cli import credential
from cali_infra.cli.context import Options


def token(
    ctx: typer.Context,
    cluster: Annotated[
        str | None, typer.Option(help="The cluster.", metavar="NAME", show_default="cali.yaml's")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Its region.", show_default="cali.yaml's")] = None,
    profile: Annotated[str | None, typer.Option(help="A profile of the AWS configuration.")] = None,
) -> None:
    """Print a bearer for the cluster's API as an ExecCredential, for kubectl and the like."""
    from cali_infra.adapters.aws import Aws

    options: Options = ctx.obj
    environ = options.environ
    if options.sandbox or cluster is None or region is None:
        from cali_infra.cli.context import open_target
        from cali_infra.core.settings import load_settings

        settings = load_settings(options.project, environ, options.environment)
        cluster, region = cluster or settings.cluster_name, region or settings.region
        environ = open_target(options, settings.environment).environ
        profile = profile or (None if options.sandbox else settings.profile)
    bearer = Aws(region, environ, profile).token(cluster)
    options.ui.json(credential.document(bearer, options.environ))
