"""A record that the domain refuses for good: what becomes of it, of its chunk, and of the others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from .conftest import Places
from .node import Moment, wait_for
from .place import Place

NOON = Moment.of("2026-01-27T03:04:05.123456789Z")
# More than its health bears in a minute.
BAD = 10
# How many chunks it may hold open at once in this test.
OPEN = 30


@pytest.fixture(scope="module")
def refused(places: Places) -> Iterator[Place]:
    """One application's `user` is an object, and ten pods say that it is a text."""
    place = places()
    # Retries of seconds instead of hours, and few of them.
    place.node.change(
        ("scheduler.base: 5", "scheduler.base: 1"),
        ("scheduler.cap: 300", "scheduler.cap: 1"),
        ("retry_limit: 60", "retry_limit: 2"),
        ("max_chunks_up: 128", f"max_chunks_up: {OPEN}"),
        ("flush: 5", "flush: 1"),
    )
    first = place.pod("first")
    first.write('{"user": {"id": 1}}', at=NOON)
    place.node.start()
    place.wait_stored(1)
    for number in range(BAD):
        pod = place.pod(f"bad-{number}")
        pod.write("before", '{"user": "jin"}', "behind", at=NOON)
    place.wait_stored(1 + 2 * BAD)
    # Its neighbours are stored long before the chunk is given up.
    assert place.node.rejected() == []
    first.write("later", at=NOON.later(1))
    place.wait_stored(2 + 2 * BAD)
    wait_for(lambda: len(place.node.rejected()) >= BAD, "what was given up", place.node.log)
    yield place
    place.close()


def test_its_neighbours_are_stored_once(refused: Place) -> None:
    for number in range(BAD):
        assert refused.texts(f"bad-{number}") == ["before", "behind"]


def test_it_is_kept_for_a_person_to_look_at(refused: Place) -> None:
    kept = refused.node.rejected()
    assert len(kept) == BAD
    for number in range(BAD):
        (file,) = [file for file in kept if f"bad-{number}_shop_app" in file.name]
        assert b"jin" in file.read_bytes()


def test_readiness_turns_bad_and_the_program_stays_alive(refused: Place) -> None:
    wait_for(lambda: refused.node.health() == 500, "a bad health", refused.node.log)
    assert refused.node.get("/") == 200


def test_a_restart_is_not_held_up_by_what_was_given_up(refused: Place) -> None:
    """More kept chunks than may be open: loaded at the start, they would leave no room for a new one."""
    before, kept = len(refused.stored()), refused.node.rejected()
    for number in range(OPEN):
        shutil.copy(kept[0], kept[0].with_name(f"{number}-{kept[0].name}"))
    refused.node.stop()
    pod = refused.pod("new")
    pod.write("after the restart", at=NOON)
    refused.node.start()
    refused.wait_stored(before + 1)
    assert refused.texts("new") == ["after the restart"]
    assert refused.node.health() == 200
    assert len(refused.node.rejected()) == BAD + OPEN
