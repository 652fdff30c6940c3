"""Searches: which records a query finds, when they can be found, and in which order they come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.opensearch import OpenSearchStandIn, dates
from cali_infra.sandbox.opensearch.errors import SearchError

if TYPE_CHECKING:
    from conftest import SearchClient

NOW = datetime(2026, 3, 31, 12, 0, 30, tzinfo=UTC)
RECORDS: list[dict[str, Any]] = [
    {"@timestamp": "2026-03-31T11:59:00Z", "log": "Connection refused by peer", "level": "error", "n": 1},
    {"@timestamp": "2026-03-31T11:50:00Z", "log": "connection opened", "level": "info", "n": 20},
    {"@timestamp": "2026-03-30T11:50:00Z", "log": "한글 로그", "level": "info", "n": 300, "tags": ["a", "b"]},
    {"log": "no time at all", "kubernetes": {"labels": {"app": "web"}, "pod_name": "web-1"}},
]


@pytest.fixture
def logs(master: SearchClient) -> SearchClient:
    lines: list[Any] = []
    for number, record in enumerate(RECORDS):
        lines += [{"index": {"_index": "logs-1", "_id": str(number)}}, record]
    assert master("POST", "/_bulk?refresh=true", lines).body["errors"] is False
    return master


def found(client: SearchClient, query: Any) -> list[int]:
    answer = client("POST", "/logs-*/_search", {"query": query, "sort": ["_doc"]})
    assert answer.status == 200, answer.body
    return [int(hit["_id"]) for hit in answer.body["hits"]["hits"]]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"match_all": {}}, [0, 1, 2, 3]),
        ({"match_none": {}}, []),
        ({"term": {"level.keyword": "info"}}, [1, 2]),
        ({"term": {"level.keyword": {"value": "error"}}}, [0]),
        ({"term": {"log": "connection"}}, [0, 1]),
        ({"term": {"log": "Connection"}}, []),
        ({"term": {"kubernetes.labels.app.keyword": "web"}}, [3]),
        ({"term": {"n": 20}}, [1]),
        ({"term": {"unmapped": "x"}}, []),
        ({"terms": {"tags.keyword": ["b", "c"]}}, [2]),
        ({"match": {"log": "connection peer"}}, [0, 1]),
        ({"match": {"log": {"query": "connection peer", "operator": "and"}}}, [0]),
        ({"match": {"log": "로그"}}, [2]),
        ({"match_phrase": {"log": "refused by"}}, [0]),
        ({"match_phrase": {"log": "by refused"}}, []),
        ({"multi_match": {"query": "error", "fields": ["log", "level"]}}, [0]),
        ({"range": {"n": {"gte": 20, "lt": 300}}}, [1]),
        ({"range": {"@timestamp": {"gte": "2026-03-31", "lt": "2026-03-31T11:55:00Z"}}}, [1]),
        ({"range": {"@timestamp": {"gte": 1774958340000, "format": "epoch_millis"}}}, [0]),
        ({"exists": {"field": "@timestamp"}}, [0, 1, 2]),
        ({"exists": {"field": "kubernetes"}}, [3]),
        ({"prefix": {"kubernetes.pod_name.keyword": "web-"}}, [3]),
        ({"wildcard": {"level.keyword": "*rr*"}}, [0]),
        ({"ids": {"values": ["1"]}}, [1]),
        (
            {
                "bool": {
                    "filter": [{"exists": {"field": "level"}}],
                    "must_not": {"term": {"level.keyword": "error"}},
                }
            },
            [1, 2],
        ),
        ({"bool": {"should": [{"term": {"n": 1}}, {"term": {"n": 20}}]}}, [0, 1]),
        ({"bool": {"must": [{"match_all": {}}], "should": [{"term": {"n": 1}}]}}, [0, 1, 2, 3]),
        ({"query_string": {"query": "level:error"}}, [0]),
        ({"query_string": {"query": 'log:"connection opened" OR level:error'}}, [0, 1]),
        ({"query_string": {"query": "connection AND NOT refused"}}, [1]),
        ({"query_string": {"query": "level:(info OR error) AND NOT n:300"}}, [0, 1]),
        ({"query_string": {"query": "peer -refused"}}, [0, 1, 2, 3]),
        ({"query_string": {"query": "n:[2 TO 100]"}}, [1]),
        ({"query_string": {"query": "(level:info OR level:error) AND conn*"}}, [0, 1]),
        ({"query_string": {"query": "*"}}, [0, 1, 2, 3]),
    ],
)
def test_queries(logs: SearchClient, query: Any, ids: list[int]) -> None:
    assert found(logs, query) == ids


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"query": {"geo_distance": {}}}, 501),
        ({"query": {"bool": {"mut": []}}}, 400),
        ({"query": {"range": {"n": {"over": 1}}}}, 400),
        ({"query": {"range": {"@timestamp": {"gte": "soon"}}}}, 400),
        ({"qery": {}}, 400),
        ({"search_after": [1]}, 400),
        ({"search_after": [1, 2], "sort": ["@timestamp"]}, 400),
        ({"search_after": [1], "sort": ["@timestamp"], "from": 1}, 400),
        ({"search_after": ["soon"], "sort": ["@timestamp"]}, 400),
        ({"search_after": [None], "sort": ["@timestamp"]}, 501),
        ({"from": 10_000}, 400),
        ({"sort": [{"log": "asc"}]}, 400),
        ({"sort": [{"unmapped": "asc"}]}, 400),
    ],
)
def test_what_is_refused(logs: SearchClient, body: Any, status: int) -> None:
    assert logs("POST", "/logs-*/_search", body).status == status


def test_order_pages_and_parts(logs: SearchClient) -> None:
    body = {"sort": [{"@timestamp": {"order": "desc"}}], "size": 2, "from": 1, "_source": ["level"]}

    hits = logs("POST", "/logs-*/_search", body).body["hits"]

    assert hits["total"] == {"value": 4, "relation": "eq"}
    assert [hit["_id"] for hit in hits["hits"]] == ["1", "2"]
    assert hits["hits"][0]["_source"] == {"level": "info"}
    assert hits["hits"][0]["sort"] == [1774957800000]


@pytest.mark.parametrize(
    ("sort", "after", "ids"),
    [
        ([{"@timestamp": "asc"}], [1774871400000], ["1", "0", "3"]),
        ([{"@timestamp": "asc"}], ["2026-03-31T11:50:00Z"], ["0", "3"]),
        # Without a value at all is last, in either direction.
        ([{"@timestamp": "desc"}], [1774957800000], ["2", "3"]),
        ([{"level.keyword": "asc"}, {"n": "desc"}], ["info", 300], ["1", "3"]),
        ([{"level.keyword": "asc"}, {"n": "desc"}], ["error", 0], ["2", "1", "3"]),
    ],
)
def test_what_comes_behind_a_place_in_the_order(
    logs: SearchClient, sort: Any, after: list[Any], ids: list[str]
) -> None:
    body = {"sort": sort, "search_after": after, "track_total_hits": False, "seq_no_primary_term": True}

    hits = logs("POST", "/logs-*/_search", body).body["hits"]

    assert [hit["_id"] for hit in hits["hits"]] == ids
    assert [hit["_seq_no"] for hit in hits["hits"]] == [int(number) for number in ids]
    assert "total" not in hits


def test_aggregations(logs: SearchClient) -> None:
    body = {
        "size": 0,
        "aggs": {
            "levels": {"terms": {"field": "level.keyword"}, "aggs": {"most": {"max": {"field": "n"}}}},
            "minutes": {
                "date_histogram": {"field": "@timestamp", "fixed_interval": "1d", "min_doc_count": 1}
            },
        },
    }

    answer = logs("POST", "/logs-*/_search", body).body

    assert answer["hits"]["hits"] == []
    assert [
        (b["key"], b["doc_count"], b["most"]["value"]) for b in answer["aggregations"]["levels"]["buckets"]
    ] == [
        ("info", 2, 300.0),
        ("error", 1, 1.0),
    ]
    assert [b["doc_count"] for b in answer["aggregations"]["minutes"]["buckets"]] == [1, 2]


def test_a_count_and_a_missing_index(logs: SearchClient) -> None:
    assert logs("GET", "/logs-*/_count").body["count"] == 4
    assert logs("GET", "/none-*/_count").body["count"] == 0
    missing = logs("GET", "/none/_count")
    assert (missing.status, missing.body["error"]["type"]) == (404, "index_not_found_exception")
    assert logs("GET", "/none/_count?ignore_unavailable=true").body["count"] == 0


def test_several_searches_at_once(logs: SearchClient) -> None:
    lines = [{"index": "logs-*"}, {"size": 0}, {"index": "none"}, {"size": 0}]

    answers = logs("POST", "/_msearch", lines).body["responses"]

    assert [answer["status"] for answer in answers] == [200, 404]


def test_by_query_deleted(logs: SearchClient) -> None:
    assert logs("POST", "/logs-1/_delete_by_query", {"query": {"term": {"n": 1}}}).body["deleted"] == 1
    assert found(logs, {"match_all": {}}) == [1, 2, 3]


def test_a_record_is_found_after_the_refresh_interval(
    authority: Authority, ca: Path, master: SearchClient
) -> None:
    now = [NOW]
    standin = OpenSearchStandIn(authority, lambda: now[0])
    client = type(master)(standin.create("slow", "chief", "x"), ca, "chief", "x")
    client("PUT", "/logs-1", {"settings": {"refresh_interval": "10s"}})
    client("PUT", "/logs-1/_doc/1", {"@timestamp": "2026-03-31T12:00:00Z"})

    assert client("GET", "/logs-1/_count").body["count"] == 0
    assert client("GET", "/logs-1/_doc/1").body["found"] is True
    now[0] += timedelta(seconds=10)
    assert client("GET", "/logs-1/_count").body["count"] == 1
    recent = {"query": {"range": {"@timestamp": {"gte": "now-1m"}}}}
    assert client("POST", "/logs-1/_count", recent).body["count"] == 1
    now[0] += timedelta(minutes=5)
    assert client("POST", "/logs-1/_count", recent).body["count"] == 0
    client("PUT", "/logs-1/_doc/2", {"a": 1})
    client("POST", "/logs-1/_refresh")
    assert client("GET", "/logs-1/_count").body["count"] == 2
    client.close()
    standin.close()


@pytest.mark.parametrize(
    ("text", "up", "moment"),
    [
        ("now", False, "2026-03-31T12:00:30"),
        ("now-15m", False, "2026-03-31T11:45:30"),
        ("now/d", False, "2026-03-31T00:00:00"),
        ("now/d", True, "2026-03-31T23:59:59.999"),
        ("now-1M", False, "2026-02-28T12:00:30"),
        ("now-1d/w", False, "2026-03-30T00:00:00"),
        ("2026-01-01||+1y/M", False, "2027-01-01T00:00:00"),
    ],
)
def test_date_math(text: str, up: bool, moment: str) -> None:
    expected = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000

    assert dates.math(text, NOW, up=up) == pytest.approx(expected)


def test_date_math_that_is_none() -> None:
    with pytest.raises(SearchError):
        dates.math("now-15x", NOW)


@pytest.mark.parametrize(
    ("value", "formats", "millis"),
    [
        ("2026-01-01", dates.DEFAULT_FORMAT, 1767225600000),
        ("2026-01-01T00:00:00.123456789Z", dates.DEFAULT_FORMAT, 1767225600123.456789),
        ("2026-01-01T09:00:00+09:00", dates.DEFAULT_FORMAT, 1767225600000),
        (1767225600000, dates.DEFAULT_FORMAT, 1767225600000),
        ("1767225600000", dates.DEFAULT_FORMAT, 1767225600000),
        (1767225600, "epoch_second", 1767225600000),
    ],
)
def test_dates(value: Any, formats: str, millis: float) -> None:
    assert dates.parse(value, formats) == pytest.approx(millis)


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01", "2026-01-01 00:00:00", True, "01/Jan/2026", ""])
def test_what_is_no_date(value: Any) -> None:
    with pytest.raises(ValueError, match="failed to parse date field"):
        dates.parse(value)
