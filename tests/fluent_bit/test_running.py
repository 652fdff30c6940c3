"""The program while it runs: its configuration, its probes, rotated logs, pods that come and go."""

from __future__ import annotations

import subprocess
from collections import Counter

from .node import Moment
from .place import Place

NOON = Moment.of("2026-01-27T03:04:05.123456789Z")


def test_it_accepts_its_configuration(place: Place) -> None:
    done = subprocess.run(
        [*place.node.command(), "--dry-run"],
        env=dict(place.node.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "configuration test is successful" in said
    assert "warn" not in said
    assert "error" not in said


def test_a_rotated_log_is_read_to_its_end_and_its_successor_from_its_head(place: Place) -> None:
    node = place.node
    pod = place.pod("web")
    texts = [f"line {number}" for number in range(1200)]
    pod.write(*texts[:500], at=NOON)
    node.start()
    node.wait_taken(500)
    pod.write(*texts[500:900], at=NOON.later(500_000_000))
    pod.rotate()
    pod.write(*texts[900:], at=NOON.later(900_000_000))
    node.wait_taken(len(texts))
    node.stop()
    assert Counter(place.texts()) == Counter(texts)


def test_a_pod_that_comes_later_and_one_that_comes_back(place: Place) -> None:
    node = place.node
    first = place.pod("db-0", labels={"revision": "1"})
    first.write("first", at=NOON)
    node.start()
    node.wait_taken(1)
    # A StatefulSet's pod comes back under its name as another one.
    place.forget("db-0")
    second = place.pod("db-0", labels={"revision": "2"})
    second.write("second", at=NOON.later(1))
    node.wait_taken(2)
    node.stop()
    found = {one["log"]: one["kubernetes"]["labels"]["revision"] for one in place.stored()}
    assert found == {"first": "1", "second": "2"}


def test_an_api_server_that_is_away_costs_the_labels_only(place: Place) -> None:
    faults = place.world.clusters.faults
    pod = place.pod("web", labels={"app": "web"})
    pod.write(*[f"early {number}" for number in range(500)], at=NOON)
    faults.answer(503, 1, path="/pods/web")
    place.node.start()
    place.node.wait_taken(500)
    pod.write("late", at=NOON.later(1_000_000_000))
    place.node.wait_taken(501)
    place.node.stop()
    *early, late = place.stored()
    assert len(early) == 500
    assert {one["kubernetes"]["pod_name"] for one in early} == {"web"}
    assert late["kubernetes"]["labels"] == {"app": "web"}


def test_a_pod_that_is_gone_is_not_asked_for_line_by_line(place: Place) -> None:
    pod = place.node.container("gone")
    pod.write(*[f"line {number}" for number in range(2000)], at=NOON)
    place.node.start()
    place.node.wait_taken(2000)
    place.node.stop()
    asked = [one for one in place.world.clusters.requests("demo") if one.path.endswith("/pods/gone")]
    assert len(place.stored()) == 2000
    assert 0 < len(asked) < 20
