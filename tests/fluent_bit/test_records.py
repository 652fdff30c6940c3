"""What becomes of a line: one run of the program over all samples, and then a look at what the domain holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .conftest import Places
from .node import SEOUL
from .records import Delivered, Records, write_all

MIB = 1024 * 1024


@dataclass
class Run(Delivered):
    """What the program has delivered, and the most memory that it had."""

    peak: int


@pytest.fixture(scope="module")
def delivered(places: Places) -> Iterator[Run]:
    """Every sample written, the program run over all of it, and stopped."""
    place = places()
    written = write_all(place.pod, place.node.container)
    place.node.start()
    place.node.wait_taken(written.count)
    peak = place.node.peak_memory()
    # On SIGTERM all that was taken is sent.
    place.node.stop()
    yield Run(place.stored, written.when, SEOUL, peak)
    place.close()


class TestRecords(Records):
    def test_it_stays_far_below_its_memory_limit(self, delivered: Run) -> None:
        assert delivered.peak < 128 * MIB
