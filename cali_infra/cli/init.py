"""`cali init`: the two files of a new project."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cali_infra.cli.context import Options
from cali_infra.errors import AwsError, SettingsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cali_infra.core.init import Answers

_PROJECT, _REGION = "cali", "ap-northeast-2"


class Backend(Enum):
    """Where Terraform's state is kept."""

    LOCAL = "local"
    S3 = "s3"


def init(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the defaults, ask nothing.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", "--project", help="The project's name.", show_default=_PROJECT)
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--env", "--environment", help="The environment's name.", show_default="default"),
    ] = None,
    region: Annotated[str | None, typer.Option(help="The AWS region.", show_default=_REGION)] = None,
    allowed_cidr: Annotated[
        list[str] | None, typer.Option(help="A network that may reach cluster and domain.", metavar="CIDR")
    ] = None,
    detect_address: Annotated[
        bool, typer.Option("--detect-address", help="Ask AWS for your public address and allow it.")
    ] = False,
    principal: Annotated[
        list[str] | None, typer.Option(help="A teammate who gets into the cluster.", metavar="ARN")
    ] = None,
    gitsync_url: Annotated[
        str | None, typer.Option(help="The repository with Airflow's DAGs.", metavar="URL")
    ] = None,
    state: Annotated[
        Backend | None, typer.Option(help="Where Terraform's state is kept.", show_default="local")
    ] = None,
    bucket: Annotated[str | None, typer.Option(help="The bucket of a state in S3.", metavar="NAME")] = None,
) -> None:
    """Write cali.yaml and secrets.yaml, with strong passwords; what is there is never written over."""
    import random

    from cali_infra.adapters import git
    from cali_infra.core import init as core
    from cali_infra.core import secrets

    options: Options = ctx.obj
    ui = options.ui
    # Before any question: when nothing is to be made, nothing needs to be asked.
    core.existing(options.project)
    if not yes and not ui.interactive:
        raise UsageError(
            "there is no terminal to ask in", remedy="cali init --yes takes the defaults; options change them"
        )
    given = {
        "project": name,
        "environment": environment or options.environment,
        "region": region,
        "allowed_cidrs": allowed_cidr,
        "state.backend": state.value if state else "s3" if bucket else None,
        "state.bucket": bucket,
    }
    values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    principals = tuple(principal or ())
    # What came by options is checked before the first question too.
    generator = random.SystemRandom()
    core.check(core.Answers(values, principals, gitsync_url), generator)
    if not yes:
        if "project" not in values:
            values["project"] = _ask(
                options, "Name of the project", _PROJECT, lambda text: core.Answers({"project": text})
            )
        if "region" not in values:
            values["region"] = _ask(
                options, "AWS region", _REGION, lambda text: core.Answers({"region": text})
            )
    if "allowed_cidrs" not in values and (detect_address or not yes):
        proposed = _address(options, values.get("region", _REGION))
        if not yes:
            proposed = _ask(
                options,
                "Networks that may reach cluster and domain, - for none",
                proposed or "-",
                lambda text: core.Answers({"allowed_cidrs": _words(text)}),
            )
        values["allowed_cidrs"] = _words(proposed)
    if not yes and not principals:
        principals = tuple(
            _words(
                _ask(
                    options,
                    "ARNs of teammates, - for none",
                    "-",
                    lambda text: core.Answers(principals=tuple(_words(text))),
                )
            )
        )
    if not yes and gitsync_url is None:
        answer = _ask(
            options,
            "Git URL of Airflow's DAGs, - for none",
            "-",
            lambda text: core.Answers(gitsync_url=next(iter(_words(text)), None)),
        )
        gitsync_url = next(iter(_words(answer)), None)
    answers = core.Answers(values, principals, gitsync_url)
    outcome = core.create(options.project, answers, generator)
    if options.json_output:
        ui.json(
            {
                "ok": True,
                "written": [str(path) for path in outcome.written],
                "kept": [str(path) for path in outcome.kept],
                "ignored": list(outcome.ignored),
            }
        )
    for path in outcome.written:
        ui.success(f"wrote {path}")
    for path in outcome.kept:
        ui.info(f"kept {path} as it was")
    if outcome.ignored:
        ui.info(f"added to .gitignore: {' '.join(outcome.ignored)}")
    secrets_path = options.project / secrets.FILE
    if secrets_path in outcome.written and (applied := core.applied_before(options.project)):
        ui.warn(
            f"{', '.join(applied)} was applied with other passwords: put the earlier {secrets.FILE} back if you "
            "have it; else the next `up` changes them"
        )
    if secrets_path in outcome.written and answers.gitsync_waits:
        ui.info(
            "GitSync stays off for now: over SSH it needs gitsync.ssh_key and gitsync.known_hosts; fill them in "
            f"in {secrets.FILE}, and gitsync.url with them"
        )
    if git.tracks(options.project, secrets.FILE, options.environ):
        ui.warn("secrets.yaml is in Git's index: git rm --cached secrets.yaml, and change what was pushed")
    ui.info("next: cali --sandbox up, a rehearsal on this machine; then cali up")


def _words(text: str) -> list[str]:
    """The parts of an answer, with commas or spaces between; `-` is none."""
    return [word for word in text.replace(",", " ").split() if word != "-"]


def _ask(options: Options, question: str, default: str, answers: Callable[[str], Answers]) -> str:
    """Ask until the answer is a valid value."""
    import random

    from cali_infra.core import init as core

    while True:
        text = options.ui.prompt(question, default)
        try:
            core.check(answers(text), random.SystemRandom())
        except SettingsError as error:
            for problem in error.problems:
                options.ui.warn(problem.problem)
        else:
            return text


def _address(options: Options, region: str) -> str:
    """This machine's public address as /32; empty, with a warning, where it cannot be found out."""
    from cali_infra.adapters.aws import Aws

    try:
        return f"{Aws(region, options.environ).public_address()}/32"
    except AwsError as error:
        options.ui.warn(f"your public address is not known: {error.message}")
        return ""
