"""The grounds, and a corner of one for each case. Which cluster may be used for this is decided in `grounds.py`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cali_infra.adapters import kubeconfig
from cali_infra.core.progress import Silent
from contract.grounds import (
    KUBECONFIG,
    Corner,
    Ground,
    corner,
    objection,
    real_cluster,
    stand_in,
)
from contract.middleman import Middleman
from contract.timing import Time

# By this mark, and not by a skip in the fixture, pytest names the reason once a file and not once a case.
_skipped = pytest.mark.skip(reason=f"{KUBECONFIG} names no kubeconfig of a real cluster")
_real = pytest.param("real-cluster", marks=() if os.environ.get(KUBECONFIG) else _skipped)


@pytest.fixture(scope="session", params=["stand-in", _real])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """Where a case is played: on the stand-in always, on a real cluster when KUBECONFIG names one."""
    if request.param == "stand-in":
        with stand_in() as ground:
            yield ground
        return
    path = Path(os.environ[KUBECONFIG])
    # A file that cannot be read is an error and no reason to skip: somebody asked for this.
    why_not = objection(os.environ, kubeconfig.read(path, None).host)
    if why_not:
        pytest.skip(why_not)
    with real_cluster(path) as ground:
        yield ground


@pytest.fixture
def place(ground: Ground) -> Iterator[Corner]:
    """A corner of the ground for one case."""
    with corner(ground) as made:
        yield made


@pytest.fixture
def middleman(ground: Ground) -> Iterator[Middleman]:
    """A server between cali and the API server, for trouble."""
    made = Middleman(ground.access)
    yield made
    assert made.close() == []


@pytest.fixture
def hours(ground: Ground) -> Iterator[Time]:
    """The case's time: real at a real cluster."""
    made = ground.time()
    yield made
    made.stop()


@dataclass
class Watch(Silent):
    """Remembers every line."""

    lines: list[str] = field(default_factory=list)

    def resource(self, stage: str, address: str, action: str, state: str, elapsed: float) -> None:
        self.lines.append(f"{state} {action} {address}")

    def note(self, text: str, *, stage: str = "") -> None:
        self.lines.append(text)

    def warn(self, text: str, *, stage: str = "") -> None:
        self.lines.append(text)


@pytest.fixture
def watch() -> Watch:
    return Watch()
