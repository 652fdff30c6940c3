"""Where the stacks and the manifests lie that came with this cali: inside the wheel, or in the checkout."""

from __future__ import annotations

from pathlib import Path

from cali_infra.errors import PreconditionError


def folder(name: str) -> Path:
    """The folder `terraform` or `k8s` of this installation; it is only ever read.

    Raises PreconditionError when the installation is incomplete.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "_assets" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise PreconditionError(
        f"this installation of cali has no folder {name!r}",
        remedy="install cali again: pipx install --force cali-infra",
    )
