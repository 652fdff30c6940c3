"""Lists and watches: selectors, pages, and what a watcher sees of the changes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.sandbox.kubernetes.catalogue import Catalogue
from cali_infra.sandbox.kubernetes.errors import ApiError
from cali_infra.sandbox.kubernetes.schemas import Schemas
from cali_infra.sandbox.kubernetes.store import Store

if TYPE_CHECKING:
    from conftest import Client

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def make(api: Client, name: str, **labels: str) -> dict[str, Any]:
    made = api("POST", CONFIG_MAPS, {"metadata": {"name": name, "labels": labels}})
    assert made.status == 201
    return dict(made.body)


def names(api: Client, **query: str) -> list[str]:
    items = api("GET", CONFIG_MAPS, **query).body["items"]
    return [item["metadata"]["name"] for item in items if item["metadata"]["name"] != "kube-root-ca.crt"]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=web", ["a", "b"]),
        ("app==web,tier=front", ["a"]),
        ("app!=web", ["c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier in (front, back)", ["a", "b"]),
        ("tier notin (front),app", ["b", "c"]),
    ],
)
def test_labels_select(api: Client, selector: str, found: list[str]) -> None:
    make(api, "a", app="web", tier="front")
    make(api, "b", app="web", tier="back")
    make(api, "c", app="db")

    assert names(api, labelSelector=selector) == found


def test_a_selector_that_cannot_be_read_is_refused(api: Client) -> None:
    assert api("GET", CONFIG_MAPS, labelSelector="a=(b").status == 400


def test_fields_select(api: Client) -> None:
    make(api, "a")
    make(api, "b")

    assert names(api, fieldSelector="metadata.name=b") == ["b"]
    refused = api("GET", CONFIG_MAPS, fieldSelector="data.x=1")
    assert (refused.status, refused.message) == (400, "field label not supported: data.x")


def test_a_list_comes_in_pages(api: Client) -> None:
    for name in "abcde":
        make(api, name)

    first = api("GET", CONFIG_MAPS, limit="4").body
    assert first["metadata"]["remainingItemCount"] == 2
    second = api("GET", CONFIG_MAPS, limit="4", **{"continue": first["metadata"]["continue"]}).body

    assert [item["metadata"]["name"] for item in second["items"]] == ["e", "kube-root-ca.crt"]
    assert "continue" not in second["metadata"]
    assert api("GET", CONFIG_MAPS, **{"continue": "nonsense"}).status == 400


def test_the_items_of_a_list_do_not_repeat_their_kind(api: Client) -> None:
    listed = api("GET", CONFIG_MAPS).body

    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert all("kind" not in item for item in listed["items"])


def watch(api: Client, count: int, query: str) -> list[tuple[str, str]]:
    events = api.stream(f"{CONFIG_MAPS}?watch=true&timeoutSeconds=5&{query}")
    found = list(itertools.islice(events, count))
    events.close()
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in found]


def test_a_watch_goes_on_from_a_version(api: Client) -> None:
    version = make(api, "a")["metadata"]["resourceVersion"]
    make(api, "b")
    api.merge(f"{CONFIG_MAPS}/b", {"data": {"x": "1"}})
    api("DELETE", f"{CONFIG_MAPS}/a")

    assert watch(api, 3, f"resourceVersion={version}") == [
        ("ADDED", "b"),
        ("MODIFIED", "b"),
        ("DELETED", "a"),
    ]


def test_a_watch_without_a_version_begins_with_what_is_there(api: Client) -> None:
    make(api, "a", app="web")

    assert watch(api, 1, "labelSelector=app%3Dweb") == [("ADDED", "a")]


def test_a_watch_with_a_selector_sees_objects_come_and_go(api: Client) -> None:
    version = make(api, "a")["metadata"]["resourceVersion"]
    api.merge(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"app": "web"}}})
    api.merge(f"{CONFIG_MAPS}/a", {"data": {"x": "1"}})
    api.merge(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"app": "db"}}})

    seen = watch(api, 3, f"labelSelector=app%3Dweb&resourceVersion={version}")
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_watch_hears_of_what_happens_meanwhile(api: Client) -> None:
    version = make(api, "a")["metadata"]["resourceVersion"]
    events = api.stream(f"{CONFIG_MAPS}?watch=true&timeoutSeconds=5&resourceVersion={version}")
    make(api, "b")

    assert next(events)["object"]["metadata"]["name"] == "b"
    make(api, "c")
    assert next(events)["object"]["metadata"]["name"] == "c"
    events.close()


def test_a_version_that_is_forgotten_is_gone() -> None:
    catalogue = Catalogue(Schemas("1.35"))
    resource, store = catalogue.named("", "configmaps"), Store(history=3)
    for number in range(5):
        store.put(resource, ("default", "a"), {"metadata": {"name": "a"}, "data": {"n": str(number)}})

    assert [change.kind for change in store.since(resource, store.version - 3)] == ["MODIFIED"] * 3
    with pytest.raises(ApiError, match="too old resource version") as caught:
        store.since(resource, store.version - 4)
    assert caught.value.code == 410


def test_a_watch_ends_at_its_time(api: Client) -> None:
    version = make(api, "a")["metadata"]["resourceVersion"]

    path = f"{CONFIG_MAPS}?watch=true&timeoutSeconds=0.2&resourceVersion={version}"
    assert list(api.stream(path)) == []


def test_initial_events_end_with_a_bookmark(api: Client) -> None:
    make(api, "a", app="web")

    query = "labelSelector=app%3Dweb&sendInitialEvents=true&allowWatchBookmarks=true"
    assert watch(api, 2, query) == [("ADDED", "a"), ("BOOKMARK", "")]
