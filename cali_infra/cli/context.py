"""What every command is handed: the global options, and from them, when it asks, the opened environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cali_infra.ui import UI

if TYPE_CHECKING:
    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings
    from cali_infra.core.target import Target


@dataclass(frozen=True)
class Options:
    """The global options. `environ` is the environment that cali was started in."""

    ui: UI
    environ: Mapping[str, str]
    project: Path
    environment: str | None = None
    sandbox: bool = False
    kubeconfig: Path | None = None
    context: str | None = None
    clock: Callable[[], float] = time.monotonic

    @property
    def json_output(self) -> bool:
        return self.ui.json_output


@dataclass(frozen=True)
class Environment:
    """An environment whose files were read and found right."""

    target: Target
    settings: Settings
    secrets: Secrets
    redact: Callable[[str], str]


def open_environment(options: Options) -> Environment:
    """Read settings and secrets, start the sandbox where it is asked for, and say where to work.

    From here on the terminal shows no secret. Raises SettingsError with every mistake of both files, before
    anything is started.
    """
    from cali_infra.core.redaction import redactor
    from cali_infra.core.secrets import load_secrets
    from cali_infra.core.settings import load_settings

    settings = load_settings(options.project, options.environ, options.environment)
    secrets = load_secrets(options.project, options.environ)
    options.ui.hide(redactor(secrets, options.environ))
    target = open_target(options, settings.environment)
    redact = redactor(secrets, target.environ)
    options.ui.hide(redact)
    if target.rehearsal:
        # The sandbox has an account and keys of its own; a profile names real ones.
        settings = load_settings(options.project, target.environ, options.environment)
        settings = settings.model_copy(update={"profile": None})
    return Environment(target, settings, secrets, redact)


def open_target(options: Options, environment: str) -> Target:
    """Where the options point: the workspace and its surroundings, on AWS or in the project's sandbox."""
    from cali_infra.core.target import Target, aws_realm

    folder = options.project / ".cali"
    if not options.sandbox:
        return Target(
            workspace=folder / environment,
            environ=options.environ,
            realm=aws_realm(options.environ),
            kubeconfig=options.kubeconfig,
            context=options.context,
        )
    from cali_infra.cli.sandbox import ensure_running

    address = ensure_running(options)
    target = Target(
        workspace=folder / f"sandbox-{environment}",
        environ=address.surroundings(options.environ),
        realm=f"sandbox {address.id}",
        rehearsal=True,
        kubeconfig=options.kubeconfig,
        context=options.context,
        search_ca=address.ca_file,
        credential_environ=address.credential_environ(),
    )
    _forget_an_earlier_sandbox(options, target)
    return target


def _forget_an_earlier_sandbox(options: Options, target: Target) -> None:
    """A sandbox lives in memory: what a workspace holds of one that has ended describes nothing any more."""
    from cali_infra.core.workspace import Workspace

    workspace = Workspace(target.workspace)
    owner = workspace.owner()
    if owner is not None and owner.realm != target.realm:
        options.ui.info("the sandbox is a new one: what was applied to the earlier one is forgotten")
        workspace.remove()
