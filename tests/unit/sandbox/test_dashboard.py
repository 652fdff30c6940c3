"""The dashboard of the platform's logs: Grafana's own schema, and what its queries find as the reader."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from cali_infra.adapters.opensearch import OpenSearch
from cali_infra.core import assets
from cali_infra.core.index import READER, IndexWork
from cali_infra.core.progress import Silent
from cali_infra.core.secrets import OpenSearchSecrets, Secrets
from cali_infra.core.settings import Settings

if TYPE_CHECKING:
    from conftest import Domain, SearchClient

FILE = assets.folder("terraform") / "services" / "dashboards" / "logs.json"
PLUGIN = "grafana-opensearch-datasource"
DAY = "2026-03-31"
PASSWORDS = {role: f"{role}-Password-1" for role in ("writer", "reader")}


def pod(namespace: str, name: str) -> dict[str, str]:
    return {"namespace_name": namespace, "pod_name": name, "container_name": "main"}


# As Fluent Bit writes them: a line as `log`, a JSON line as fields below `app`.
RECORDS: dict[str, dict[str, Any]] = {
    "plain": {"log": "GET / 200", "kubernetes": pod("grafana", "grafana-1")},
    "plain-error": {"log": "ERROR: no such table", "kubernetes": pod("airflow", "scheduler-1")},
    "level=error": {"log": "level=error msg=x", "kubernetes": pod("grafana", "grafana-1")},
    "json": {"app": {"level": "INFO", "message": "fine"}, "kubernetes": pod("milvus", "milvus-1")},
    "json-error": {"app": {"level": "ERROR", "message": "bad"}, "kubernetes": pod("milvus", "milvus-1")},
    "json-words": {
        "app": {"level": "info", "message": "Traceback follows"},
        "kubernetes": pod("airflow", "w"),
    },
    "slow": {"app": {"duration_ms": 900, "message": "done"}, "kubernetes": pod("airflow", "slow-1")},
    "quick": {"app": {"duration_ms": 10, "message": "done"}, "kubernetes": pod("airflow", "quick-1")},
    "no number": {"app": {"duration_ms": "n/a", "message": "done"}, "kubernetes": pod("airflow", "quick-1")},
    "of no pod": {"log": "error of a node"},
}
ERRORS = {"plain-error", "level=error", "json-error", "json-words"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def panel(dashboard: Mapping[str, Any], title: str) -> dict[str, Any]:
    (found,) = [one for one in dashboard["panels"] if one["title"] == title]
    return dict(found)


@pytest.fixture
def reader(domain: Domain, master: SearchClient, ca: Path) -> SearchClient:
    """The reader of a domain on which the stage `index` ran, and which holds the records."""
    secrets = Secrets.model_construct(
        opensearch=OpenSearchSecrets(
            master_password=SecretStr("Master-1-password"),
            writer_password=SecretStr(PASSWORDS["writer"]),
            reader_password=SecretStr(PASSWORDS["reader"]),
        )
    )
    work = IndexWork(partial(OpenSearch, domain.address, ca_file=ca), Settings(), secrets)
    work.apply(work.plan(Silent()), Silent(), threading.Event())
    lines: list[Any] = []
    for number, (name, record) in enumerate(RECORDS.items()):
        lines += [
            {"create": {"_index": f"cali-logs-{DAY.replace('-', '.')}", "_id": name}},
            {"@timestamp": f"{DAY}T10:{number:02d}:00Z", "stream": "stdout", **record},
        ]
    answer = master("POST", "/_bulk?refresh=true", lines)
    assert answer.body["errors"] is False, answer.body
    return domain.client(READER, PASSWORDS["reader"])


def ask(reader: SearchClient, target: Mapping[str, Any], **chosen: str) -> dict[str, Any]:
    """What the data source asks for this target: source, `pkg/opensearch/lucene_handler.go`."""
    variables = {"namespace": "*", "pod": "*", "filter": "*", "duration": "app.duration_ms", **chosen}
    filled = json.loads(
        re.sub(r"\$(\w+)", lambda at: variables[at[1]].replace('"', '\\"'), json.dumps(target))
    )
    metrics, buckets = filled["metrics"], filled["bucketAggs"]
    body: dict[str, Any] = {
        "size": 0,
        "query": {
            "bool": {
                "filter": [
                    {"range": {"@timestamp": {"gte": f"{DAY}T00:00:00Z", "lte": f"{DAY}T23:59:59Z"}}},
                    {"query_string": {"analyze_wildcard": True, "query": filled["query"]}},
                ]
            }
        },
    }
    if metrics[0]["type"] == "raw_data":
        order = metrics[0]["settings"]["order"]
        body["size"] = int(metrics[0]["settings"]["size"])
        body["sort"] = [
            {"@timestamp": {"order": order, "unmapped_type": "boolean"}},
            {"_doc": {"order": order}},
        ]
    inner: dict[str, Any] = {
        one["id"]: {one["type"]: {"field": one["field"]}}
        for one in metrics
        if one["type"] not in ("count", "raw_data")
    }
    for bucket in reversed(buckets):
        settings = bucket["settings"]
        if bucket["type"] == "terms":
            order = settings["orderBy"]
            assert order == "_count" or order in {one["id"] for one in metrics}
            definition = {
                "terms": {
                    "field": bucket["field"],
                    "size": int(settings["size"]),
                    "order": {order: settings["order"]},
                    "min_doc_count": int(settings["min_doc_count"]),
                }
            }
        else:
            assert bucket["type"] == "date_histogram"
            assert settings["interval"] == "auto"
            definition = {
                "date_histogram": {"field": bucket["field"], "fixed_interval": "1m", "min_doc_count": 0}
            }
        inner = {bucket["id"]: {**definition, **({"aggs": inner} if inner else {})}}
    if inner:
        body["aggs"] = inner
    answer = reader("POST", "/cali-logs-*/_search?ignore_unavailable=true", body)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.body
    return found


def counts(answer: Mapping[str, Any], bucket: str) -> dict[str, int]:
    return {one["key"]: one["doc_count"] for one in answer["aggregations"][bucket]["buckets"]}


def targets(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in dashboard["panels"]:
        for target in one["targets"]:
            yield one["title"], target


# -- its form -----------------------------------------------------------------------------------------------


def test_every_key_is_one_of_grafana_s_schema(dashboard: dict[str, Any]) -> None:
    """Read into the models of Grafana's own SDK and written again, nothing is lost and nothing is another."""
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    written = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))

    def lost(before: Any, after: Any, path: str) -> Iterator[str]:
        if isinstance(before, dict) and isinstance(after, dict):
            for key, value in before.items():
                if key in after:
                    yield from lost(value, after[key], f"{path}.{key}")
                else:
                    yield f"{path}.{key}"
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            for index, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from lost(one, other, f"{path}[{index}]")
        elif before != after:
            yield f"{path}: {before!r} -> {after!r}"

    assert list(lost(dashboard, written, "")) == []
    mistyped = {**dashboard, "templatng": dashboard["templating"]}
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(mistyped)))
    assert list(lost(mistyped, again, "")) == [".templatng"], "a mistake would be seen"


def test_it_shows_what_it_is_there_for(dashboard: dict[str, Any]) -> None:
    kinds = {one["title"]: one["type"] for one in dashboard["panels"]}
    assert kinds.items() >= {
        ("Volume by namespace", "timeseries"),
        ("Errors over time", "timeseries"),
        ("Slowest pods", "table"),
        ("Logs", "table"),
    }
    assert all(one["description"] for one in dashboard["panels"])


def test_panels_have_their_own_places_and_ask_the_one_data_source(dashboard: dict[str, Any]) -> None:
    assert len({one["id"] for one in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for one in dashboard["panels"]:
        place = one["gridPos"]
        assert place["x"] + place["w"] <= 24
        squares = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not squares & taken, one["title"]
        taken |= squares
    hcl = (FILE.parents[1] / "grafana.tf").read_text()
    source = {"type": PLUGIN, "uid": "opensearch"}
    assert f'grafana_plugin     = "{PLUGIN}"' in hcl
    assert f'grafana_datasource = "{source["uid"]}"' in hcl
    asked = [one["datasource"] for one in dashboard["panels"]]
    asked += [target["datasource"] for _, target in targets(dashboard)]
    asked += [one["datasource"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert all(one == source for one in asked)


def test_variables_are_those_that_are_used_and_are_asked_for_in_an_order_that_works(
    dashboard: dict[str, Any],
) -> None:
    names = [one["name"] for one in dashboard["templating"]["list"]]
    used = set(re.findall(r"\$(\w+)", json.dumps(dashboard["panels"])))
    assert used <= set(names)
    for index, one in enumerate(dashboard["templating"]["list"]):
        if one["type"] == "query":
            asked = json.loads(one["query"])
            assert asked["find"] == "terms"
            assert set(re.findall(r"\$(\w+)", asked["query"])) <= set(names[:index])
            assert one["allValue"] == "*"


# -- what it finds ------------------------------------------------------------------------------------------


def test_the_volume_is_counted_by_namespace_and_time(dashboard: dict[str, Any], reader: SearchClient) -> None:
    (target,) = panel(dashboard, "Volume by namespace")["targets"]
    answer = ask(reader, target)
    assert counts(answer, "2") == {"airflow": 5, "grafana": 2, "milvus": 2}
    for bucket in answer["aggregations"]["2"]["buckets"]:
        assert sum(one["doc_count"] for one in bucket["3"]["buckets"]) == bucket["doc_count"]


def test_errors_are_found_in_lines_in_messages_and_in_levels(
    dashboard: dict[str, Any], reader: SearchClient
) -> None:
    (target,) = panel(dashboard, "Errors over time")["targets"]
    assert counts(ask(reader, target), "2") == {"airflow": 2, "grafana": 1, "milvus": 1}
    (logs,) = panel(dashboard, "Logs")["targets"]
    hits = ask(reader, {**logs, "query": target["query"]})["hits"]["hits"]
    assert {hit["_id"] for hit in hits} == ERRORS


def test_the_slowest_pod_has_the_longest_average(dashboard: dict[str, Any], reader: SearchClient) -> None:
    (target,) = panel(dashboard, "Slowest pods")["targets"]
    buckets = {
        one["key"]: (one["1"]["value"], one["3"]["value"])
        for one in ask(reader, target)["aggregations"]["2"]["buckets"]
    }
    # What is no number is not counted.
    assert buckets == {"slow-1": (900.0, 900.0), "quick-1": (10.0, 10.0)}
    assert ask(reader, target, duration="app.took")["aggregations"]["2"]["buckets"] == []


def test_the_log_table_has_the_newest_first(dashboard: dict[str, Any], reader: SearchClient) -> None:
    (target,) = panel(dashboard, "Logs")["targets"]
    hits = ask(reader, target)["hits"]["hits"]
    assert [hit["_id"] for hit in hits] == [name for name in reversed(RECORDS) if name != "of no pod"]


@pytest.mark.parametrize("path", ["/cali-logs-*/_settings", "/cali-logs-*/_mapping"])
def test_the_reader_may_ask_what_the_data_source_asks_besides(reader: SearchClient, path: str) -> None:
    """The number of shards before a histogram, and the fields: source, `pkg/opensearch/client/client.go`."""
    answer = reader("GET", path)
    assert (answer.status, list(answer.body)) == (200, [f"cali-logs-{DAY.replace('-', '.')}"])


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"namespace": "milvus"}, {"json", "json-error"}),
        ({"namespace": '("milvus" OR "grafana")'}, {"plain", "level=error", "json", "json-error"}),
        ({"pod": "slow-1"}, {"slow"}),
        ({"filter": "app.level:ERROR"}, {"json-error"}),
        (
            {"namespace": "airflow", "filter": 'log:"no such table" OR app.duration_ms:900'},
            {"plain-error", "slow"},
        ),
    ],
)
def test_what_is_chosen_above_narrows_every_panel(
    dashboard: dict[str, Any], reader: SearchClient, chosen: dict[str, str], found: set[str]
) -> None:
    (logs,) = panel(dashboard, "Logs")["targets"]
    assert {hit["_id"] for hit in ask(reader, logs, **chosen)["hits"]["hits"]} == found
    for title, target in targets(dashboard):
        total = ask(reader, target, **chosen)["hits"]["total"]["value"]
        assert total <= len(found), title


def test_columns_of_the_log_table_are_fields_of_the_records(
    dashboard: dict[str, Any], reader: SearchClient
) -> None:
    kept, order = panel(dashboard, "Logs")["transformations"]
    names = kept["options"]["include"]["names"]
    assert set(names) == set(order["options"]["indexByName"])
    (target,) = panel(dashboard, "Logs")["targets"]
    seen: set[str] = set()

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        else:
            seen.add(path)

    for hit in ask(reader, target)["hits"]["hits"]:
        walk(hit["_source"], "")
    assert set(names) <= seen
