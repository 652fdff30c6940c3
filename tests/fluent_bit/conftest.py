"""The real Fluent Bit on a node of ours. `CALI_TEST_FLUENT_BIT` names the program; without it these are skipped."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .place import Place, World

VARIABLE = "CALI_TEST_FLUENT_BIT"
_names = (f"logs-{number}" for number in itertools.count(1))
Places = Callable[[], Place]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = ""
    if not os.environ.get(VARIABLE):
        reason = f"{VARIABLE} does not name a fluent-bit program"
    elif shutil.which("kubectl") is None:
        reason = "there is no kubectl on this machine"
    for item in items:
        if reason and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def binary() -> str:
    found = os.environ[VARIABLE]
    assert os.access(found, os.X_OK), f"{VARIABLE}={found} is no program"
    return found


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World.make(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def places(world: World, binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Makes nodes; they end with the module."""
    made: list[Place] = []

    def make() -> Place:
        name = next(_names)
        made.append(Place.make(world, binary, tmp_path_factory.mktemp(name), name))
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def place(places: Places) -> Iterator[Place]:
    """A node on which nothing runs yet."""
    made = places()
    yield made
    made.node.close()
