"""The command `cali`: its global options, its commands, and the one place that decides exit codes.

Nothing heavy is imported here: `cali --help` is what people type most.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cali_infra import __version__
from cali_infra.cli.context import Options
from cali_infra.cli.down import down
from cali_infra.cli.init import init
from cali_infra.cli.plan import plan
from cali_infra.cli.sandbox import app as sandbox
from cali_infra.cli.state import app as state
from cali_infra.cli.status import status
from cali_infra.cli.token import token
from cali_infra.cli.up import up
from cali_infra.errors import CaliError, InterruptedError_, RefusedError, UsageError
from cali_infra.ui import UI

FAILED, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130


class Output(Enum):
    """What stdout carries."""

    TEXT = "text"
    JSON = "json"


app = typer.Typer(
    name="cali",
    help="One command for a log-analytics platform on AWS: EKS, OpenSearch, Fluent Bit and what runs on them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init)
app.command()(plan)
app.command()(up)
app.command()(down)
app.command()(status)
app.command()(token)
app.add_typer(state, name="state")
app.add_typer(sandbox, name="sandbox")


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"cali {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    project: Annotated[
        Path, typer.Option(help="The folder that holds cali.yaml.", metavar="DIR", show_default="this one")
    ] = Path(),
    env: Annotated[
        str | None, typer.Option("--env", help="The environment.", metavar="NAME", show_default="cali.yaml's")
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Rehearse on this machine, without an AWS account.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Reach the cluster by this kubeconfig.", metavar="FILE")
    ] = None,
    context: Annotated[str | None, typer.Option(help="A context of that file.", metavar="NAME")] = None,
    output: Annotated[Output, typer.Option(help="What stdout carries.")] = Output.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More of what happens.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    ui: UI = ctx.obj
    ui.json_output, ui.quiet, ui.verbose = output is Output.JSON, quiet, verbose
    ctx.obj = Options(
        ui=ui,
        environ=dict(os.environ),
        project=project.resolve(),
        environment=env,
        sandbox=sandbox,
        kubeconfig=kubeconfig,
        context=context,
    )


def run(arguments: Sequence[str], ui: UI) -> int:
    """Run one command and return its exit code. Source: design, "Exit codes"."""
    try:
        result = app(args=list(arguments), standalone_mode=False, obj=ui, prog_name="cali")
        return result if isinstance(result, int) else 0
    except CaliError as error:
        ui.error(error)
        return _code(error)
    except (KeyboardInterrupt, typer.Abort):
        ui.error(InterruptedError_("interrupted"))
        return INTERRUPTED
    except typer.TyperException as error:
        # Without a command there is only help to show, and it has been shown.
        if message := error.format_message().strip():
            ui.usage(message, "cali --help lists commands and options")
        return USAGE
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not stumble over it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        ui.error(_bug(error, ui))
        return FAILED


def _code(error: CaliError) -> int:
    match error:
        case UsageError():
            return USAGE
        case RefusedError():
            return REFUSED
        case InterruptedError_():
            return INTERRUPTED
        case _:
            return FAILED


def _bug(error: Exception, ui: UI) -> CaliError:
    """An error that nobody meant: said in a line, kept whole in a private file."""
    import tempfile
    import traceback

    text = ui.redacted("".join(traceback.format_exception(error)))
    with tempfile.NamedTemporaryFile("w", prefix="cali-", suffix=".log", delete=False) as file:
        file.write(text)
    bug = CaliError(
        f"this is a mistake in cali: {type(error).__name__}: {error}",
        remedy=f"please report it with {file.name}, which holds the details",
    )
    bug.code = "bug"
    return bug


def main() -> None:
    """The entry point of the command."""
    arguments = sys.argv[1:]
    ui = UI(
        stdin=sys.stdin,
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
        clock=time.monotonic,
        now=datetime.now,
        # Known before the options are parsed, so that a mistake in them is told in the right form.
        json_output="--output=json" in arguments
        or ("--output", "json") in zip(arguments, arguments[1:], strict=False),
    )
    sys.exit(run(arguments, ui))
