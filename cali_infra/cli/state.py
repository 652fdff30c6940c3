"""`cali state`: where Terraform's state is kept."""

from __future__ import annotations

import typer

from cali_infra.cli.context import Options

app = typer.Typer(help="Where Terraform's state is kept.", no_args_is_help=True)


@app.callback()
def state() -> None:
    """Where Terraform's state is kept."""


@app.command()
def bootstrap(ctx: typer.Context) -> None:
    """Make the bucket that state.bucket in cali.yaml names; harmless when it is there."""
    from cali_infra.adapters.aws import Aws
    from cali_infra.cli.context import open_target
    from cali_infra.core import state_bucket
    from cali_infra.core.settings import load_settings

    options: Options = ctx.obj
    settings = load_settings(options.project, options.environ, options.environment)
    target = open_target(options, settings.environment)
    profile = None if target.rehearsal else settings.profile
    aws = Aws(settings.state.region or settings.region, target.environ, profile)
    made = state_bucket.bootstrap(aws, settings)
    if options.json_output:
        options.ui.json({"ok": True, "bucket": settings.state.bucket, "created": made})
    words = "was made" if made else "is there"
    options.ui.success(f"the bucket {settings.state.bucket} {words}: versioned, encrypted, private, TLS only")
