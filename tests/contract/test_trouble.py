"""A busy, failing, cut or absent API server, and a bearer whose time is over, in the middle of a stage."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.errors import KubernetesError, UnauthorizedError, UnreachableError
from contract.conftest import Watch
from contract.grounds import Bearer, Corner
from contract.manifests import apply, config_map, said, space, work
from contract.middleman import Cut, Middleman
from contract.timing import Time

Object = dict[str, Any]
MAPS = "/configmaps/m"
# More than are written at one time.
MANY = 24
AWAY = 20.0


@pytest.fixture
def made(place: Corner) -> Corner:
    """A corner whose namespace is there."""
    place.somebody.create(space(place))
    return place


def maps(place: Corner) -> list[Object]:
    return [config_map(place, f"m{n}") for n in range(MANY)]


def written(place: Corner) -> list[str]:
    """The ConfigMaps of the stage that stand there."""
    names = place.somebody.names(f"/api/v1/namespaces/{place.name}/configmaps")
    return sorted(name for name in names if name.startswith("m"))


def complete(place: Corner) -> bool:
    """Whether every object stands and the record says so."""
    recorded = place.recorded()
    assert recorded is not None and len(recorded[1]) == MANY
    return recorded[0] and written(place) == sorted(f"m{n}" for n in range(MANY))


# -- storms -------------------------------------------------------------------------------------------------


def test_a_429_storm_is_waited_out_as_long_as_the_server_asks(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time
) -> None:
    stage = work(made, *maps(made), door=made.connect(through=middleman.access, time=hours))
    plan = stage.plan(watch)
    middleman.answer(429, method="PATCH", path=MAPS, each=2, retry_after=2)
    stage.apply(plan, watch, threading.Event())
    assert complete(made)
    sent = [r.outcome for r in middleman.requests("PATCH", MAPS) if not r.dry_run]
    # Each was sent three times and no more, and nobody came back before he was asked to.
    assert (sent.count(429), len(sent)) == (2 * MANY, 3 * MANY)
    assert len(hours.slept) == 2 * MANY and min(hours.slept) >= 2.0
    assert stage.plan(watch).empty


def test_a_503_storm_is_met_with_pauses_that_grow(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time
) -> None:
    stage = work(made, *maps(made), door=made.connect(through=middleman.access, time=hours))
    middleman.answer(503, method="GET", path=f"/namespaces/{made.name}/configmaps", each=1, retry_after=None)
    middleman.answer(503, method="PATCH", path=MAPS, each=3, retry_after=None)
    apply(stage, watch)
    assert complete(made)
    assert max(hours.slept) > 2 * min(hours.slept)
    # Not all at the same moment.
    assert len(set(hours.slept)) > len(hours.slept) / 2
    assert stage.plan(watch).empty


@pytest.mark.parametrize("status", [429, 503])
def test_a_storm_that_does_not_end_is_given_up_and_the_next_run_goes_on(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time, status: int
) -> None:
    door = made.connect(through=middleman.access, time=hours, patience=3.0)
    stage = work(made, *maps(made), door=door)
    plan = stage.plan(watch)
    middleman.answer(status, method="PATCH", path=f"{MAPS}7", times=10_000, retry_after=1)
    with pytest.raises(KubernetesError) as caught:
        stage.apply(plan, watch, threading.Event())
    assert 0 < sum(hours.slept) <= 3.0
    assert caught.value.status == status
    assert caught.value.object_ref == f"ConfigMap {made.name}/m7"
    assert f"the server answers {status}" in caught.value.message
    assert caught.value.remedy == "run the command again in a moment"
    # The others are not held up, and it is known in the cluster what is missing.
    assert written(made) == sorted(f"m{n}" for n in range(MANY) if n != 7)
    recorded = made.recorded()
    assert recorded is not None and not recorded[0] and recorded[1]["ConfigMap/m7"]
    middleman.calm()
    assert said(apply(stage, watch)) == [f"create ConfigMap {made.name}/m7", f"update {made.record}"]
    assert complete(made)


def test_a_server_that_throttles_for_longer_than_there_is_patience_is_not_waited_for(
    made: Corner, middleman: Middleman, hours: Time
) -> None:
    door = made.connect(through=middleman.access, time=hours, patience=30.0)
    door.version()
    middleman.answer(429, method="PATCH", path=MAPS, times=10, retry_after=600)
    with pytest.raises(KubernetesError) as caught:
        door.apply(config_map(made, "m1"))
    assert caught.value.status == 429
    assert hours.slept == []


# -- cuts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [Cut.BEFORE_ANSWER, Cut.IN_ANSWER])
def test_a_connection_that_is_cut_after_the_object_was_written_is_no_failure(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time, where: Cut
) -> None:
    stage = work(made, *maps(made), door=made.connect(through=middleman.access, time=hours))
    plan = stage.plan(watch)
    middleman.cut(where, method="PATCH", path=MAPS, each=1)
    stage.apply(plan, watch, threading.Event())
    assert complete(made)
    sent = [r for r in middleman.requests("PATCH", MAPS) if not r.dry_run]
    # The first time the server made it, and nobody heard; the second time there was nothing to do.
    assert (
        sorted((r.outcome is where, r.upstream) for r in sent) == [(False, 200)] * MANY + [(True, 201)] * MANY
    )
    assert [line for line in watch.lines if "errored" in line] == []
    live = made.live("ConfigMap", "m0")
    assert live is not None
    assert [(e["manager"], e["operation"]) for e in live["metadata"]["managedFields"]] == [("cali", "Apply")]
    assert stage.plan(watch).empty


def test_a_connection_that_is_cut_in_the_middle_of_the_request_is_no_failure(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time
) -> None:
    # Big enough that it cannot lie in a buffer on its way.
    big = {"text": "0123456789abcde\n" * 40_000}
    objects = [config_map(made, f"m{n}", **big) for n in range(2)]
    stage = work(made, *objects, door=made.connect(through=middleman.access, time=hours))
    plan = stage.plan(watch)
    middleman.cut(Cut.IN_REQUEST, method="PATCH", path=MAPS, each=2)
    stage.apply(plan, watch, threading.Event())
    sent = [r for r in middleman.requests("PATCH", MAPS) if not r.dry_run]
    assert sorted((r.outcome is Cut.IN_REQUEST, r.upstream or 0) for r in sent) == [
        (False, 201), (False, 201), (True, 0), (True, 0), (True, 0), (True, 0),
    ]  # fmt: skip
    assert [made.data(f"m{n}") for n in range(2)] == [big, big]
    assert stage.plan(watch).empty


@pytest.mark.parametrize("where", [Cut.BEFORE_ANSWER, Cut.IN_ANSWER])
def test_a_deletion_whose_answer_is_lost_is_done_once(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time, where: Cut
) -> None:
    stage = work(made, *maps(made), door=made.connect(through=middleman.access, time=hours))
    apply(stage, watch)
    middleman.cut(where, method="DELETE", path=MAPS, each=1)
    stage.destroy(watch, threading.Event())
    assert written(made) == []
    assert made.recorded() is None
    sent = middleman.requests("DELETE", MAPS)
    assert (
        sorted((r.outcome is where, r.upstream) for r in sent) == [(False, 404)] * MANY + [(True, 200)] * MANY
    )


def test_a_connection_that_is_cut_every_time_is_given_up_with_what_to_check(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time
) -> None:
    door = made.connect(through=middleman.access, time=hours, patience=3.0)
    stage = work(made, *maps(made), door=door)
    plan = stage.plan(watch)
    middleman.cut(Cut.BEFORE_ANSWER, method="PATCH", path=f"{MAPS}7", times=10_000)
    with pytest.raises(UnreachableError) as caught:
        stage.apply(plan, watch, threading.Event())
    assert f"{middleman.access.host} cannot be reached" in caught.value.message
    assert caught.value.object_ref == f"ConfigMap {made.name}/m7"
    assert "allowed_cidrs" in caught.value.remedy
    # It was written all the same, and the next run finds it.
    assert len(written(made)) == MANY
    recorded = made.recorded()
    assert recorded is not None and not recorded[0]
    middleman.calm()
    assert said(apply(stage, watch)) == [f"update {made.record}"]
    assert complete(made)


# -- away ---------------------------------------------------------------------------------------------------


def test_an_api_server_that_is_away_for_20_seconds_in_the_middle_of_an_apply_is_waited_for(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time
) -> None:
    stage = work(made, *maps(made), door=made.connect(through=middleman.access, time=hours))
    plan = stage.plan(watch)

    def leave() -> None:
        middleman.away()
        hours.at(hours.clock() + AWAY, middleman.back)

    # While the first objects are being written: they are cut, and for 20 seconds every connection is refused.
    middleman.on(method="PATCH", path=MAPS, do=leave, after=MANY // 3)
    began = hours.clock()
    stage.apply(plan, watch, threading.Event())
    assert hours.clock() - began >= AWAY
    assert complete(made)
    assert [line for line in watch.lines if "errored" in line] == []
    assert stage.plan(watch).empty


def test_an_api_server_that_stays_away_is_said_for_every_object_and_the_next_run_goes_on(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time
) -> None:
    door = made.connect(through=middleman.access, time=hours, patience=3.0)
    stage = work(made, *maps(made), door=door)
    plan = stage.plan(watch)
    middleman.on(method="PATCH", path=MAPS, do=middleman.away, after=1)
    with pytest.raises(KubernetesError, match=f"of {MANY} objects failed") as caught:
        stage.apply(plan, watch, threading.Event())
    assert f"{middleman.access.host} cannot be reached" in caught.value.message
    assert "allowed_cidrs" in caught.value.remedy
    recorded = made.recorded()
    assert recorded is not None and not recorded[0]
    middleman.back()
    apply(stage, watch)
    assert complete(made)
    assert stage.plan(watch).empty


# -- bearers ------------------------------------------------------------------------------------------------


class Provider:
    """Hands out bearers one after the other, the last one for ever, and counts."""

    def __init__(self, *bearers: Bearer) -> None:
        self._bearers = list(bearers)
        self.asked = 0

    def __call__(self) -> Bearer:
        self.asked += 1
        return self._bearers[min(self.asked, len(self._bearers)) - 1]


def test_a_bearer_that_ends_in_the_middle_of_an_apply_is_renewed_once_and_every_request_replayed(
    made: Corner, watch: Watch, middleman: Middleman, hours: Time
) -> None:
    # Both are known to the cluster; the one between ends the first.
    provider = Provider(Bearer(made.ground.admin), Bearer(made.ground.second))
    door = made.connect(provider, through=middleman.access, time=hours)
    stage = work(made, *maps(made), door=door)
    plan = stage.plan(watch)
    assert provider.asked == 1
    middleman.on(
        method="PATCH", path=MAPS, do=lambda: middleman.end_bearer(made.ground.admin), after=MANY // 3
    )
    stage.apply(plan, watch, threading.Event())
    assert provider.asked == 2
    assert complete(made)
    outcomes = [r.outcome for r in middleman.requests("PATCH", MAPS) if not r.dry_run]
    assert outcomes.count(401) >= 1
    assert outcomes.count(401) + MANY == len(outcomes)
    # A new bearer is no reason to wait.
    assert hours.slept == []
    assert stage.plan(watch).empty


def test_a_bearer_that_the_real_server_refuses_is_renewed_once(made: Corner) -> None:
    provider = Provider(Bearer("ended-long-ago"), Bearer(made.ground.admin))
    door = made.connect(provider)
    assert door.apply(config_map(made))["data"] == {"colour": "blue"}
    assert provider.asked == 2
    assert made.data() == {"colour": "blue"}


def test_a_bearer_is_renewed_before_it_ends(made: Corner, middleman: Middleman) -> None:
    present = datetime(2026, 1, 1, tzinfo=UTC)
    first = Bearer(made.ground.admin, present + timedelta(minutes=14))
    provider = Provider(first, Bearer(made.ground.second, present + timedelta(minutes=29)))
    clock = [present]
    door = made.connect(provider, through=middleman.access, now=lambda: clock[0])
    ref = ObjectRef("v1", "ConfigMap", made.name, "settings")
    door.get(ref)
    clock[0] += timedelta(minutes=12)
    door.get(ref)
    assert provider.asked == 1
    # From now on the first one would be refused, and nobody sends it any more.
    clock[0] += timedelta(minutes=1, seconds=30)
    middleman.end_bearer(made.ground.admin)
    door.get(ref)
    assert provider.asked == 2
    assert 401 not in [r.outcome for r in middleman.requests()]


def test_a_new_bearer_that_is_refused_too_ends_it_at_once_and_is_not_shown(
    made: Corner, middleman: Middleman, hours: Time
) -> None:
    provider = Provider(Bearer("first-sentinel"), Bearer("second-sentinel"))
    door = made.connect(provider, through=middleman.access, time=hours)
    with pytest.raises(UnauthorizedError, match="does not know this caller") as caught:
        door.get(ObjectRef("v1", "ConfigMap", made.name, "settings"))
    assert provider.asked == 2
    assert [r.outcome for r in middleman.requests()] == [401, 401]
    assert "cali up access" in caught.value.remedy
    assert "sentinel" not in repr(caught.value) + caught.value.message
