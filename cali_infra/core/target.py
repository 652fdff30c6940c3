"""What cali is pointed at: one environment of one project, on AWS or in a rehearsal.

A rehearsal differs by environment variables, an endpoint and a certificate; nothing below this module asks
which of the two it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """Where to work and with which surroundings.

    `environ` is the whole environment for child processes and settings. `realm` names the world that the
    workspace belongs to: an AWS endpoint, or one particular sandbox. `credential_environ` is what a command that
    fetches bearers has to be given when it is run from anywhere else: on AWS nothing.
    """

    workspace: Path
    environ: Mapping[str, str]
    realm: str
    rehearsal: bool = False
    kubeconfig: Path | None = None
    context: str | None = None
    search_ca: Path | None = None
    credential_environ: Mapping[str, str] = field(default_factory=dict, repr=False)


def aws_realm(environ: Mapping[str, str]) -> str:
    """The realm of a caller without a sandbox: AWS itself, or the endpoint that overrides it."""
    return environ.get("AWS_ENDPOINT_URL") or "aws"
