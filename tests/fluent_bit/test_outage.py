"""A domain that is away, busy, or not understood: nothing is lost, nothing is stored twice."""

from __future__ import annotations

from collections import Counter

from . import samples
from .node import Moment, wait_for
from .place import Place

NOON = Moment.of("2026-01-27T03:04:05.123456789Z")
MIB = 1024 * 1024
# Retries of seconds instead of minutes, and no half a minute of waiting for a domain that is away at the end.
SHORT = (
    ("flush: 5", "flush: 1"),
    ("scheduler.base: 5", "scheduler.base: 1"),
    ("scheduler.cap: 300", "scheduler.cap: 2"),
    ("grace: 30", "grace: 2"),
)


def counted(place: Place) -> Counter[str]:
    return Counter(place.texts())


def test_an_outage_is_survived_on_disk_through_restarts_and_kills(place: Place) -> None:
    """More than may be in memory at once, which is 128 chunks of up to 2 MB otherwise."""
    node = place.node
    node.change(*SHORT, ("max_chunks_up: 128", "max_chunks_up: 4"), ("mem_limit: 32M", "mem_limit: 1M"))
    pods = [place.pod(f"web-{number}") for number in range(8)]
    wanted: Counter[str] = Counter()

    def write(wave: int, lines: int = 150) -> int:
        at = NOON.later(wave * 1_000_000_000)
        for pod in pods:
            texts = [f"{pod.pod} {wave} {number} {'x' * 300}" for number in range(lines)]
            pod.write(*texts, at=at)
            wanted.update(texts)
        return lines * len(pods)

    place.gate.shut()
    node.start()
    node.wait_taken(write(1))
    # Alive and ready all the while: a restart would not help.
    assert (node.get("/"), node.health()) == (200, 200)
    node.kill()
    node.start()
    node.wait_taken(write(2))
    node.stop()
    # Written while it was away.
    write(3)
    node.start()
    node.wait_taken(150 * len(pods))
    size = sum(file.stat().st_size for file in (node.folder / "state/chunks").rglob("*.flb"))
    assert size > 1 * MIB
    assert place.stored() == []

    place.gate.open()
    place.wait_stored(sum(wanted.values()))
    assert node.health() == 200
    assert node.peak_memory() < 128 * MIB
    node.stop()
    assert counted(place) == wanted
    assert node.rejected() == []


def test_a_kill_loses_nothing(place: Place) -> None:
    """A chunk that is open, and one that is being written: what is read twice has the same id."""
    node = place.node
    pod = place.pod("web")
    texts = [f"line {number} {'x' * 200}" for number in range(4000)]
    for turn, first in enumerate(range(0, len(texts), 1000)):
        node.start()
        for at in range(first, first + 1000, 100):
            pod.write(*texts[at : at + 100], at=NOON.later(at * 1_000_000))
        node.wait_taken(1 if turn % 2 else 1000)
        node.kill()
    node.start()
    place.wait_stored(len(texts))
    node.stop()
    assert counted(place) == Counter(texts)


def test_whatever_the_domain_answers_each_record_is_stored_once(place: Place) -> None:
    node, faults = place.node, place.world.domains.faults
    node.change(*SHORT)
    pods = [place.pod(f"web-{number}") for number in range(5)]
    texts = [f"line {number}" for number in range(100)]
    for pod in pods:
        pod.write(*texts, at=NOON)
    # The next requests, in this order, whoever sends them.
    faults.lose_answer(2, path="/_bulk")
    for status in (429, 503, 500):
        faults.answer(status, 2, path="/_bulk")
    faults.cut(2, path="/_bulk")
    node.start()
    place.wait_stored(len(texts) * len(pods))
    wait_for(lambda: not faults.pending(), "the end of all that", node.log)
    assert node.health() == 200
    node.stop()
    assert all(place.texts(pod.pod) == texts for pod in pods)
    # What was stored before its answer was lost was sent again.
    assert place.asked() > len(pods)
    assert node.rejected() == []


def test_a_trace_that_is_the_last_thing_said_survives_the_end(place: Place) -> None:
    """The kubelet's SIGTERM comes while the trace still waits for a next line."""
    node = place.node
    pod = place.pod("web")
    wanted = []
    for number in range(2):
        node.start()
        trace = [*samples.PYTHON[:-1], f"KeyError: {number}"]
        pod.write(f"line {number}", *trace, at=NOON.later(number * 1_000_000_000))
        wanted += [f"line {number}", "\n".join(trace)]
        node.wait_taken(1)
        node.stop()
    assert place.texts() == wanted
