"""A thousand objects in one stage."""

from __future__ import annotations

import threading

from contract.conftest import Watch
from contract.grounds import Corner
from contract.manifests import apply, config_map, said, space, work

COUNT = 1000


def test_a_thousand_objects_are_applied_changed_and_pruned(place: Corner, watch: Watch) -> None:
    path = f"/api/v1/namespaces/{place.name}/configmaps"
    objects = [config_map(place, f"c{n:04}", number=str(n)) for n in range(COUNT)]
    stage = work(place, space(place), *objects)
    plan = apply(stage, watch)
    assert (plan.add, plan.change, plan.destroy) == (COUNT + 2, 0, 0)
    found = {item["metadata"]["name"]: item.get("data") for item in place.somebody.call("GET", path)["items"]}
    assert {name: data for name, data in found.items() if name.startswith("c")} == {
        f"c{n:04}": {"number": str(n)} for n in range(COUNT)
    }
    recorded = place.recorded()
    assert recorded is not None and recorded[0] and len(recorded[1]) == COUNT + 1
    # Every one of them is looked at again, and the one that differs is found, and the one that went.
    changed = [*objects[:499], config_map(place, "c0499", number="other"), *objects[500:-1]]
    stage = work(place, space(place), *changed)
    plan = stage.plan(watch)
    assert said(plan) == [
        f"update ConfigMap {place.name}/c0499",
        f"delete ConfigMap {place.name}/c0999",
        f"update {place.record}",
    ]
    stage.apply(plan, watch, threading.Event())
    assert place.data("c0499") == {"number": "other"}
    assert place.data("c0999") is None
