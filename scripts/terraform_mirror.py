"""Finds a filesystem mirror of Terraform's providers on this machine, so that nothing is downloaded.

    python scripts/terraform_mirror.py [--config FILE]

Prints the folder that holds `registry.terraform.io`: the one that CALI_TERRAFORM_MIRROR names, else the
first with the AWS provider at the usual roots or one or two levels below them. With `--config` it writes a
Terraform CLI configuration that takes from it the providers it holds, and all others from the registry.
Where there is no mirror it prints and writes nothing, and exits 0. Standard library only: it runs before
anything is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

VARIABLE = "CALI_TERRAFORM_MIRROR"
REGISTRY = "registry.terraform.io"
WANTED = Path(REGISTRY, "hashicorp", "aws")
ROOTS = ("/opt", "/usr/share", "/usr/local/share", "/usr/lib", "/var/lib", "/srv")


def find(environ: Mapping[str, str], roots: Iterable[Path] | None = None) -> Path | None:
    """The mirror's folder, or None. One that the environment names is taken as it is named."""
    if named := environ.get(VARIABLE):
        folder = Path(named).expanduser()
        return folder.parent if folder.name == REGISTRY else folder
    if roots is None:
        home = environ.get("HOME")
        roots = [Path(root) for root in ROOTS] + ([Path(home)] if home else [])
    return next((folder for folder in _candidates(roots) if (folder / WANTED).is_dir()), None)


def providers(mirror: Path) -> list[str]:
    """The addresses of the providers in a mirror, such as `registry.terraform.io/hashicorp/aws`."""
    root = mirror / REGISTRY
    return sorted(
        f"{REGISTRY}/{folder.parent.name}/{folder.name}" for folder in root.glob("*/*") if folder.is_dir()
    )


def configuration(mirror: Path) -> str:
    """A Terraform CLI configuration that takes the mirror's providers from it and the rest directly."""
    held = json.dumps(providers(mirror))
    return f"""provider_installation {{
  filesystem_mirror {{
    path    = {json.dumps(str(mirror))}
    include = {held}
  }}
  direct {{
    exclude = {held}
  }}
}}
"""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Find a filesystem mirror of Terraform's providers.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="write a CLI configuration that uses it")
    options = parser.parse_args(arguments)
    mirror = find(environ)
    if mirror is None:
        return 0
    if not providers(mirror):
        sys.stderr.write(f"{VARIABLE}: {mirror} holds no folder {REGISTRY} with providers\n")
        return 1
    if options.config:
        options.config.parent.mkdir(parents=True, exist_ok=True)
        options.config.write_text(configuration(mirror))
    sys.stdout.write(f"{mirror}\n")
    return 0


def _candidates(roots: Iterable[Path]) -> Iterator[Path]:
    # Breadth first in each root; what may not be listed is not looked into.
    for root in roots:
        yield root
        first = list(_folders(root))
        yield from first
        for folder in first:
            yield from _folders(folder)


def _folders(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir():
                yield Path(entry.path)
        except OSError:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
