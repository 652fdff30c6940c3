"""Where the stacks, manifests and guides lie that came with cali: inside the wheel, or in the checkout."""

from __future__ import annotations

from pathlib import Path

from cali_infra.errors import PreconditionError


def folder(name: str) -> Path:
    """The folder `terraform`, `k8s` or `docs` of this installation; it is only ever read.

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
