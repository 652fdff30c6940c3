"""`cali token`: the exec credential behind a kubectl context and behind Terraform's Helm provider."""

from __future__ import annotations

import json
from typing import Annotated

import typer

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
    if options.sandbox:
        from cali_infra.cli.context import open_target

        environ = open_target(options).environ
    if cluster is None or region is None:
        from cali_infra.core.settings import load_settings

        settings = load_settings(options.project, environ, options.environment)
        cluster, region = cluster or settings.cluster_name, region or settings.region
        profile = profile or (None if options.sandbox else settings.profile)
    bearer = Aws(region, environ, profile).token(cluster)
    # A caller says in which version of the API it wants its answer.
    asked = json.loads(options.environ.get("KUBERNETES_EXEC_INFO") or "{}")
    document = {
        "apiVersion": asked.get("apiVersion", "client.authentication.k8s.io/v1beta1"),
        "kind": "ExecCredential",
        "status": {
            "token": bearer.value,
            "expirationTimestamp": bearer.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }
    options.ui.json(document)
