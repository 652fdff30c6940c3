"""The command `cali`: global options, the commands, and the one place where an error becomes an exit code.

Each command is a function of its own name in `cli/NAME.py` (with `_` for `-`); a family of commands (`state`,
`sandbox`) is a Typer application called `app` there. Such a file is imported when its command runs, and imports
heavy packages inside its functions only: `cali --help` is what people type most.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from importlib import import_module
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cali_infra import __version__
from cali_infra.cli.context import Options
from cali_infra.errors import CaliError, RefusedError, RunInterruptedError, UsageError
from cali_infra.ui import UI

# With the first line of each one's own help, so that listing them imports none of them.
COMMANDS = {
    "init": "Write cali.yaml and secrets.yaml, with strong passwords; what is there is never written over.",
    "plan": "Show what `up` would change, resource by resource; nothing is written.",
    "up": "Plan, ask, and apply what has changed; a second run goes on where the first one stopped.",
    "down": "Delete everything that this environment is made of, after naming it.",
    "verify": "Prove that the platform works, with a cause and a remedy for each failure.",
    "status": "Show stages, versions, nodes, endpoints, who has access, and when it last changed.",
    "kubeconfig": "Write a context for kubectl into your kubeconfig; needs cali.yaml and AWS credentials alone.",
    "grant-access": "Let a teammate into the cluster, change how far, or give an end to it.",
    "revoke-access": "Take somebody's access away, or everybody's whose time is over.",
    "list-access": "Show who has access by the record, the cluster and the local file, and what does not fit.",
    "open": "Reach Grafana, Airflow, Milvus or OpenSearch Dashboards from this machine, until Ctrl-C.",
    "logs": "Search the platform's logs in OpenSearch, and follow them.",
    "token": "Print a bearer for the cluster's API as an ExecCredential, for kubectl and the like.",
    "state": "Where Terraform's state is kept.",
    "sandbox": "The local stand-ins, for a rehearsal.",
}

DONE, FAILED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130

_OUTPUT = "--output"
# Global options that may also stand behind the command; no command has one of the same name.
_FLAGS_ANYWHERE = ("--sandbox", "--quiet", "--verbose")
_WITH_VALUE = ("--project", "--env", "--kubeconfig", "--context", _OUTPUT)


class Output(Enum):
    """What stdout carries."""

    TEXT = "text"
    JSON = "json"


class Commands(TyperGroup):
    """The commands by name: listed by their summaries, imported when they are to run."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, *rest = args
        if name in COMMANDS:
            return name, load(name), rest
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, n=1)
        raise UsageError(
            f"there is no command {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            remedy="cali --help lists them",
        )

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Typer would end the run with 130 and without a word.
            raise RunInterruptedError("interrupted") from None


def load(name: str) -> Any:
    """The command itself, imported now."""
    python_name = name.replace("-", "_")
    module = import_module(f"cali_infra.cli.{python_name}")
    command: Any
    if family := getattr(module, "app", None):
        command = typer.main.get_group(family)
        # Else its help would go to stdout, in front of the error document.
        command.no_args_is_help = False
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name)(getattr(module, python_name))
        command = typer.main.get_command(alone)
    command.name = name
    return command


app = typer.Typer(
    cls=Commands,
    name="cali",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        options: Options = ctx.obj
        options.ui.data(f"cali {__version__}")
        raise typer.Exit


@app.callback()
def cali(
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
        Path | None,
        typer.Option(help="Reach the cluster by this kubeconfig; `kubeconfig` writes it.", metavar="FILE"),
    ] = None,
    context: Annotated[str | None, typer.Option(help="A context of that file.", metavar="NAME")] = None,
    output: Annotated[Output, typer.Option(help="What stdout carries.")] = Output.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More of what happens.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """One command for a log-analytics platform on AWS: EKS, OpenSearch, Fluent Bit and what runs on them."""
    start: Options = ctx.obj
    start.ui.json_output, start.ui.quiet, start.ui.verbose = output is Output.JSON, quiet, verbose
    if (start.project / project).exists() and not (start.project / project).is_dir():
        raise UsageError(f"{project} is no folder", remedy="--project names the folder that holds cali.yaml")
    ctx.obj = replace(
        start,
        project=(start.project / project).resolve(),
        environment=env,
        sandbox=sandbox,
        # Not resolved: kubectl locks a link by the link's own name.
        kubeconfig=(start.project / kubeconfig).absolute() if kubeconfig else None,
        context=context,
    )


def run(arguments: Sequence[str], ui: UI, environ: Mapping[str, str], folder: Path) -> int:
    """Run one command, started in `folder`, and return its exit code.

    Source of the codes: the design, "Exit codes". A command that ends in another way than by an error (4
    of `plan --exit-code`) raises `typer.Exit` itself.
    """
    args = _globals_in_front(list(arguments) or ["--help"])
    # Known before the options are parsed, so that a mistake in them is told in the right form.
    ui.json_output = _asks_for_json(args)
    try:
        command = typer.main.get_command(app)
        options = Options(ui=ui, environ=environ, project=folder)
        result = command.main(args=args, prog_name="cali", standalone_mode=False, obj=options)
        return result if isinstance(result, int) else DONE
    except CaliError as error:
        ui.error(error)
        return _code(error)
    except (KeyboardInterrupt, typer.Abort):
        ui.error(RunInterruptedError("interrupted"))
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        return FAILED
    except Exception as error:
        # Typer's own errors have no public base in every version; each can word itself.
        if hasattr(error, "format_message"):
            ui.usage(" ".join(error.format_message().split()), _usage_remedy(error))
            return USAGE
        ui.error(_bug(error, args, ui, environ, folder))
        return FAILED


def main() -> None:
    """The entry point of the command: the process's own streams, clocks, environment and arguments."""
    ui = UI(
        stdin=sys.stdin,
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
        clock=time.monotonic,
        now=datetime.now,
    )
    code = run(sys.argv[1:], ui, dict(os.environ), Path.cwd())
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter must not stumble over it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if any(thread.is_alive() and not thread.daemon for thread in threading.enumerate()[1:]):
        # A call that hangs was given up and told of: the interpreter would wait for it.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _code(error: CaliError) -> int:
    match error:
        case UsageError():
            return USAGE
        case RefusedError():
            return REFUSED
        case RunInterruptedError():
            return INTERRUPTED
        case _:
            return FAILED


def _globals_in_front(args: list[str]) -> list[str]:
    """The arguments with `--output json`, `--sandbox`, `--quiet` and `--verbose` moved before the command."""
    position = _command_position(args)
    front, rest = args[:position], args[position : position + 1]
    behind = iter(args[position + 1 :])
    for argument in behind:
        if argument == "--":
            rest += [argument, *behind]
        elif argument in _FLAGS_ANYWHERE or argument.startswith(f"{_OUTPUT}="):
            front.append(argument)
        elif argument == _OUTPUT:
            front += [argument, *islice(behind, 1)]
        else:
            rest.append(argument)
    return front + rest


def _command_position(args: Sequence[str]) -> int:
    position = 0
    while position < len(args) and args[position].startswith("-"):
        position += 2 if args[position] in _WITH_VALUE else 1
    return min(position, len(args))


def _asks_for_json(args: Sequence[str]) -> bool:
    front = args[: _command_position(args)]
    return f"{_OUTPUT}=json" in front or (_OUTPUT, "json") in pairwise(front)


def _usage_remedy(error: Exception) -> str:
    name = getattr(error, "option_name", None)
    if name in _WITH_VALUE:
        return f"{name} stands in front of the command: cali {name} VALUE COMMAND"
    return "cali --help lists commands and options"


def _bug(
    error: Exception, args: Sequence[str], ui: UI, environ: Mapping[str, str], folder: Path
) -> CaliError:
    """An error that nobody meant: said in a line, kept whole and without secrets in a private file."""
    import platform
    import tempfile
    import traceback

    from cali_infra import files
    from cali_infra.core.redaction import redactor

    workspace = folder / ".cali"
    log = Path(
        workspace if workspace.is_dir() else tempfile.gettempdir(),
        f"cali-crash-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log",
    )
    text = (
        f"cali {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"arguments: {' '.join(args)}\n\n{''.join(traceback.format_exception(error))}"
    )
    # The secrets of the files are hidden once they were read, the keys of the environment from the start.
    clean = redactor(None, environ)(ui.redacted(text))
    try:
        files.write_private(log, clean.encode("utf-8", "replace"))
        remedy = f"please report it with {log}, which holds the details"
    except OSError as unwritten:
        # A full disk, perhaps, and then that is the cause.
        remedy = f"please report it; its details could not be kept ({log}: {unwritten.strerror})"
    bug = CaliError(f"this is a mistake in cali itself ({type(error).__name__})", remedy=remedy)
    bug.code = "bug"
    return bug
