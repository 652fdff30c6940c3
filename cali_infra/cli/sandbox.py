"""`cali sandbox`: the local stand-ins for AWS, Kubernetes, Helm and OpenSearch, in one process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from cali_infra.cli.context import Options

if TYPE_CHECKING:
    from cali_infra.sandbox.process import Sandbox
    from cali_infra.sandbox.record import SandboxAddress

app = typer.Typer(help="The local stand-ins, for a rehearsal.", no_args_is_help=True)

# The JSON of the design; the process tells more to those who ask it directly.
_DOCUMENT = ("running", "aws_endpoint", "kubeconfig", "opensearch_url", "helm_releases")


@app.callback()
def sandbox() -> None:
    """Stand-ins for AWS, Kubernetes, Helm and OpenSearch on this machine, for a rehearsal."""


@app.command()
def start(ctx: typer.Context) -> None:
    """Start the sandbox of this project; harmless when it runs."""
    options: Options = ctx.obj
    found = _sandbox(options)
    running = found.address() is not None
    ensure_running(options)
    _show(options, found.status(), "the sandbox runs already" if running else "the sandbox has started")


@app.command()
def status(ctx: typer.Context) -> None:
    """Show where its stand-ins listen and which Helm releases they hold."""
    options: Options = ctx.obj
    document = _sandbox(options).status()
    _show(options, document, "the sandbox runs" if document["running"] else "the sandbox does not run")


@app.command()
def stop(ctx: typer.Context) -> None:
    """End the sandbox; everything in it is gone with it."""
    from cali_infra.errors import SandboxError

    options: Options = ctx.obj
    found = _sandbox(options)
    try:
        before = found.status()
    except SandboxError as error:
        # One that does not answer is stopped all the same.
        options.ui.warn(error.message)
        before = {}
    stopped = found.stop()
    _forget_workspaces(options)
    if options.json_output:
        options.ui.json({"running": False, **dict.fromkeys(_DOCUMENT[1:4]), "helm_releases": []})
    if not stopped:
        options.ui.info("the sandbox does not run")
        return
    options.ui.success("the sandbox has ended")
    for line in _gone(before):
        options.ui.info(f"  gone with it: {line}")


def _forget_workspaces(options: Options) -> None:
    """What was applied is gone, so its states and variables, which hold passwords, are of no more use."""
    from cali_infra.core.workspace import Workspace

    for folder in (options.project / ".cali").glob("sandbox-*"):
        Workspace(folder).remove()


def ensure_running(options: Options) -> SandboxAddress:
    """The project's sandbox, started if it does not run. Raises SandboxError."""
    found = _sandbox(options)
    address = found.address()
    if address is None:
        options.ui.info("starting the sandbox")
        address = found.start(_region(options), options.environ)
    return address


def _sandbox(options: Options) -> Sandbox:
    from cali_infra.sandbox.process import Sandbox, folder_of

    return Sandbox(folder_of(options.project, options.environ), clock=options.clock)


def _region(options: Options) -> str:
    """The region of `cali.yaml`, or the default one in a folder that has none."""
    from cali_infra.core.settings import Settings, load_settings
    from cali_infra.errors import PreconditionError

    try:
        return load_settings(options.project, options.environ, options.environment).region
    except PreconditionError:
        return str(Settings.model_fields["region"].default)


def _show(options: Options, document: Mapping[str, Any], said: str) -> None:
    ui = options.ui
    ui.success(said)
    if options.json_output:
        ui.json({name: document[name] for name in _DOCUMENT})
    elif document["running"]:
        ui.table(
            ("stand-in", "where"),
            [
                ("AWS", document["aws_endpoint"]),
                ("Kubernetes", document["kubeconfig"] or "no cluster yet"),
                ("OpenSearch", document["opensearch_url"] or "no domain yet"),
            ],
        )
        if document["helm_releases"]:
            ui.table(
                ("release", "namespace", "chart", "version"),
                [(r["name"], r["namespace"], r["chart"], r["version"]) for r in document["helm_releases"]],
            )
            ui.info("releases are recorded only; nothing of them is installed")


def _gone(before: Mapping[str, Any]) -> list[str]:
    if not before:
        return []
    return [
        "the account and everything that was applied to it",
        *(f"cluster {name}" for name in before.get("clusters", [])),
        *(f"domain {name}" for name in before.get("domains", [])),
        *(f"release {r['namespace']}/{r['name']}" for r in before.get("helm_releases", [])),
    ]
