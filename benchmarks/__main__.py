"""Prints each ratio with the figures behind it, and the goal it is held against.

python -m benchmarks [help] [manifests] [up]
"""

from __future__ import annotations

import sys

from benchmarks import help_time, manifests, up

ALL = {"help": help_time.run, "manifests": manifests.run, "up": up.run}


def main(names: list[str]) -> None:
    for name in names or list(ALL):
        ALL[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
