"""Prints each ratio with the figures behind it, and the goal it is held against.

python -m benchmarks [access] [help] [manifests] [up] [verify]
"""

from __future__ import annotations

import sys

from benchmarks import access, help_time, manifests, up, verify

ALL = {
    "access": access.run,
    "help": help_time.run,
    "manifests": manifests.run,
    "up": up.run,
    "verify": verify.run,
}


def main(names: list[str]) -> None:
    for name in names or list(ALL):
        ALL[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
