"""The algebra under server-side apply, on made-up objects: what must hold whatever is applied."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cali_infra.sandbox.kubernetes import fieldsets, managers
from cali_infra.sandbox.kubernetes.errors import ApiError
from cali_infra.sandbox.kubernetes.managers import Manager
from cali_infra.sandbox.kubernetes.schemas import Schemas, Shape


def shape() -> Shape:
    found = SCHEMAS.shape_of("", "v1", "Pod")
    assert found is not None
    return found


SCHEMAS = Schemas("1.35")
WORDS = st.sampled_from(["a", "b", "c"])
ENV = st.lists(
    st.builds(lambda name, value: {"name": name, "value": value}, WORDS, WORDS),
    max_size=3,
    unique_by=lambda e: e["name"],
)


def container(name: str, image: str | None, env: list[Any]) -> dict[str, Any]:
    return {"name": name, **({"image": image} if image else {}), **({"env": env} if env else {})}


CONTAINERS = st.lists(
    st.builds(container, WORDS, st.none() | WORDS, ENV), max_size=3, unique_by=lambda item: item["name"]
)


def pod(labels: dict[str, str], containers: list[Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    if labels:
        body["metadata"]["labels"] = labels
    if containers:
        body["spec"] = {"containers": containers}
    return body


PODS = st.builds(pod, st.dictionaries(WORDS, WORDS, max_size=3), CONTAINERS)
SETS = PODS.map(lambda body: fieldsets.fields_of(shape(), body))
EMPTY = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}


def members(fields: fieldsets.FieldSet) -> set[str]:
    return set(fieldsets.paths(fields))


@settings(max_examples=60, deadline=None)
@given(SETS, SETS)
def test_sets_behave_as_sets_of_paths(left: Any, right: Any) -> None:
    assert members(fieldsets.union(left, right)) == members(left) | members(right)
    assert members(fieldsets.intersection(left, right)) == members(left) & members(right)
    assert members(fieldsets.difference(left, right)) == members(left) - members(right)


@settings(max_examples=60, deadline=None)
@given(PODS, PODS)
def test_a_comparison_tells_added_from_removed(old: Any, new: Any) -> None:
    there, back = fieldsets.compare(shape(), old, new), fieldsets.compare(shape(), new, old)

    assert members(there.added) == members(back.removed)
    assert members(there.modified) == members(back.modified)
    assert fieldsets.compare(shape(), new, new).is_same


def applied(live: Any, owners: managers.Owners, config: Any, name: str) -> tuple[Any, managers.Owners]:
    manager = Manager(name, "Apply", "v1")
    return managers.apply(shape(), live, config, owners, manager, force=True, time="2026-01-01T00:00:00Z")


@settings(max_examples=60, deadline=None)
@given(PODS, PODS)
def test_applying_twice_is_applying_once(first: Any, second: Any) -> None:
    live, owners = applied(EMPTY, {}, first, "cali")
    once = applied(live, owners, second, "cali")

    assert applied(*once, second, "cali") == once


@settings(max_examples=60, deadline=None)
@given(PODS, PODS)
def test_a_sole_owner_leaves_nothing_of_what_he_applied_before(first: Any, second: Any) -> None:
    live, owners = applied(EMPTY, {}, first, "cali")
    live, _ = applied(live, owners, second, "cali")

    assert members(fieldsets.fields_of(shape(), live)) == members(fieldsets.fields_of(shape(), second))


@settings(max_examples=60, deadline=None)
@given(PODS, PODS)
def test_an_applied_value_holds_and_what_the_other_alone_set_stays(mine: Any, other: Any) -> None:
    live, owners = applied(EMPTY, {}, other, "other")
    live, owners = applied(live, owners, mine, "cali")

    after = members(fieldsets.fields_of(shape(), live))
    assert after == members(fieldsets.fields_of(shape(), mine)) | members(fieldsets.fields_of(shape(), other))
    change = fieldsets.compare(shape(), live, fieldsets.merge(shape(), live, mine))
    assert change.is_same


@settings(max_examples=60, deadline=None)
@given(PODS, PODS)
def test_without_force_only_a_different_value_is_a_conflict(mine: Any, other: Any) -> None:
    live, owners = applied(EMPTY, {}, other, "other")
    change = fieldsets.compare(shape(), live, fieldsets.merge(shape(), live, mine))
    manager = Manager("cali", "Apply", "v1")
    try:
        managers.apply(shape(), live, mine, owners, manager, force=False, time="")
        named = set()
    except ApiError as error:
        named = {cause["field"] for cause in error.details["causes"]}

    assert named == members(change.modified) & members(fieldsets.fields_of(shape(), other))
