"""The applications' stand-ins, each spoken to as its real one is, and the network of pods."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from pydantic import SecretStr

from cali_infra.adapters.airflow import Airflow as AirflowDoor
from cali_infra.adapters.grafana import Grafana as GrafanaDoor
from cali_infra.errors import AirflowError, GrafanaError
from cali_infra.sandbox.services.airflow import Airflow
from cali_infra.sandbox.services.grafana import PLUGIN, DataSource, Grafana
from cali_infra.sandbox.services.http import Answer, LoopbackServer, Request
from cali_infra.sandbox.services.milvus import Milvus
from cali_infra.sandbox.services.network import PodNetwork

if TYPE_CHECKING:
    from conftest import Domain, SearchClient

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "Adm1n-of-grafana$"


def ask(url: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, Any]:
    """A status, and what was answered as JSON or as text."""
    with urllib3.PoolManager(retries=False, timeout=5) as pool:
        answer = pool.request(
            method, url, body=None if body is None else json.dumps(body), headers=headers, redirect=False
        )
    try:
        return answer.status, answer.json()
    except ValueError:
        return answer.status, answer.data.decode()


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


# -- what they are made of ------------------------------------------------------------------------------------


def test_a_server_says_when_it_answers_and_keeps_its_paths_out_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(request: Request) -> Answer:
        raise ValueError("a bug")

    server = LoopbackServer("pod programs", fails)
    with urllib3.PoolManager(retries=False, timeout=5) as pool:
        answer = pool.request("GET", f"{server.url}/s3cret-path")
    server.close()
    assert (answer.status, answer.json()) == (500, {"message": "ValueError: a bug"})
    assert parsedate_to_datetime(answer.headers["Date"]).tzinfo is not None
    assert "pod programs: GET" in caplog.text
    assert "s3cret" not in caplog.text


# -- Grafana --------------------------------------------------------------------------------------------------


@dataclass
class Served:
    """A Grafana over a domain's index, at a URL."""

    app: Grafana
    server: LoopbackServer
    source: DataSource
    password: str | None = PASSWORD

    def door(self, password: str = PASSWORD) -> GrafanaDoor:
        return GrafanaDoor(self.server.url, "admin", SecretStr(password))

    def given(self, **changes: Any) -> GrafanaDoor:
        """Grafana started anew with a data source that differs."""
        self.app.start("13.2.0", [DataSource(**{**vars(self.source), **changes})])
        return self.door()


@pytest.fixture
def grafana(domain: Domain, master: SearchClient, ca: Any) -> Iterator[Served]:
    role = {
        "cluster_permissions": ["indices:data/read/msearch"],
        "index_permissions": [{"index_patterns": ["logs-*"], "allowed_actions": ["read"]}],
    }
    mapping = {"properties": {"@timestamp": {"type": "date"}, "log": {"type": "text"}}}
    for path, body in (
        ("/_plugins/_security/api/roles/reader", role),
        ("/_plugins/_security/api/internalusers/reader", {"password": "Reading-1$"}),
        ("/_plugins/_security/api/rolesmapping/reader", {"users": ["reader"]}),
        ("/logs-2026.03.01", {"mappings": mapping}),
    ):
        assert master("PUT", path, body).status < 300
    for number in range(3):
        at = NOW - timedelta(minutes=10 * number)
        record = {
            "@timestamp": f"{at:%Y-%m-%dT%H:%M:%S}.123456789Z",
            "log": f"line {number}",
            "kubernetes": {"pod_name": f"web-{number}", "labels": {"app": "web"}},
            "app": {"took": 1.5 * number},
        }
        assert master("PUT", f"/logs-2026.03.01/_doc/{number}", record).status == 201
    assert master("POST", "/logs-*/_refresh").status == 200
    source = DataSource(
        "opensearch",
        "OpenSearch",
        PLUGIN,
        f"https://{domain.address}",
        "reader",
        "Reading-1$",
        {"database": "logs-2026.03.01", "timeField": "@timestamp", "logMessageField": "log"},
    )

    def password() -> str | None:
        return served.password

    app = Grafana(password, str(ca), lambda: NOW)
    served = Served(app, LoopbackServer("grafana", app.answer), source)
    app.start("13.2.0", [source])
    yield served
    served.server.close()


def test_grafana_says_how_it_is_to_everybody_and_what_it_is_on_its_page(grafana: Served) -> None:
    assert ask(f"{grafana.server.url}/api/health") == (
        200,
        {"commit": "sandbox", "database": "ok", "version": "13.2.0"},
    )
    status, text = ask(f"{grafana.server.url}/")
    assert status == 200
    assert "cali's stand-in for Grafana" in text


@pytest.mark.parametrize("password", ["another", None])
def test_grafana_lets_in_the_admin_alone(grafana: Served, password: str | None) -> None:
    """None: it was never started, so that there is no password yet."""
    grafana.password = None if password is None else PASSWORD
    with pytest.raises(GrafanaError, match="does not accept the password of admin") as caught:
        grafana.door(password or PASSWORD).data_source("opensearch")
    assert caught.value.status == 401
    assert "reset-admin-password" in caught.value.remedy
    assert ask(f"{grafana.server.url}/api/datasources/uid/opensearch")[0] == 401


def test_a_data_source_is_described_without_its_password(grafana: Served) -> None:
    found = grafana.door().data_source("opensearch")
    assert found is not None
    assert (found.type, found.user, found.index) == (PLUGIN, "reader", "logs-2026.03.01")
    assert grafana.door().data_source("another") is None
    status, document = ask(
        f"{grafana.server.url}/api/datasources/uid/opensearch", authorization=basic("admin", PASSWORD)
    )
    assert status == 200
    assert "Reading-1$" not in json.dumps(document)


def test_a_data_source_is_as_well_as_what_is_behind_it(grafana: Served) -> None:
    health = grafana.door().data_source_health("opensearch")
    assert (health.ok, health.message) == (True, "Index OK. Time field name OK.")

    health = grafana.given(password="wrong").data_source_health("opensearch")
    assert not health.ok
    assert "Unauthorized" in health.message

    # As the plugin has it: a pattern is no index's name, however many indices it fits.
    options = {**grafana.source.options, "database": "logs-*"}
    health = grafana.given(options=options).data_source_health("opensearch")
    assert (health.ok, health.message) == (False, "Index not found: logs-*")

    options = {**grafana.source.options, "timeField": "time"}
    health = grafana.given(options=options).data_source_health("opensearch")
    assert (health.ok, health.message) == (True, "Index OK. Note: No field named time found")

    with pytest.raises(GrafanaError, match="Data source not found"):
        grafana.door().data_source_health("another")


def test_a_query_finds_the_records_with_their_fields_and_their_whole_time(grafana: Served) -> None:
    since, until = NOW - timedelta(minutes=15), NOW + timedelta(minutes=1)
    options = {**grafana.source.options, "database": "logs-*"}
    rows = grafana.given(options=options).logs("opensearch", "kubernetes.labels.app:web", since, until)

    assert [row["log"] for row in rows] == ["line 0", "line 1"]
    assert rows[0]["@timestamp"] == NOW + timedelta(microseconds=123456)
    assert rows[1]["kubernetes.pod_name"] == "web-1"
    assert rows[1]["app.took"] == 1.5
    assert json.loads(rows[0]["_source"])["kubernetes.labels.app"] == "web"
    assert len(grafana.door().logs("opensearch", "", since, until, limit=1)) == 1
    assert grafana.door().logs("opensearch", "kubernetes.pod_name:nobody", since, until) == []
    assert grafana.door().count("opensearch", "*", since, until) == 2


def test_a_query_that_opensearch_refuses_is_told_as_the_plugin_tells_it(grafana: Served) -> None:
    with pytest.raises(GrafanaError, match="unexpected status code: 401") as caught:
        grafana.given(password="wrong").logs("opensearch", "*", NOW, NOW)
    assert "kubectl -n grafana logs" in caught.value.remedy
    with pytest.raises(GrafanaError, match="no permissions"):
        options = {**grafana.source.options, "database": "secret-1"}
        grafana.given(options=options).logs("opensearch", "*", NOW, NOW)
    with pytest.raises(GrafanaError, match="asks nobody but this machine"):
        grafana.given(url="https://search.example.com").logs("opensearch", "*", NOW, NOW)


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("GET", "/api/dashboards/uid/x", None, "GET /api/dashboards/uid/x"),
        ("GET", "/d/platform-logs", None, "GET /d/platform-logs"),
        ("POST", "/api/ds/query", {"queryType": "PPL"}, "the query type PPL"),
        ("POST", "/api/ds/query", {"metrics": [{"id": "1", "type": "avg"}], "bucketAggs": [{}]}, "avg"),
    ],
)
def test_what_grafana_s_stand_in_does_not_know_it_says(
    grafana: Served, method: str, path: str, body: Any, words: str
) -> None:
    if body is not None:
        query = {"refId": "A", "datasource": {"uid": "opensearch"}, **body}
        body = {"from": "now-1h", "to": "now", "queries": [query]}
    status, found = ask(grafana.server.url + path, method, body, authorization=basic("admin", PASSWORD))
    assert status == 501
    assert "does not model" in found["message"]
    assert words in found["message"]


def test_a_grafana_that_nobody_is_behind_cannot_be_reached(grafana: Served) -> None:
    grafana.server.close()
    with pytest.raises(GrafanaError, match="cannot be reached"):
        grafana.door().health()


# -- Airflow --------------------------------------------------------------------------------------------------


@dataclass
class Parts:
    ready: dict[str, bool] = field(
        default_factory=lambda: {"scheduler": True, "triggerer": True, "dag-processor": True}
    )
    database: bool = True
    at: datetime = NOW


def test_airflow_is_as_well_as_its_pods() -> None:
    parts = Parts()
    app = Airflow(parts.ready.get, lambda: parts.database, lambda: parts.at)
    server = LoopbackServer("airflow", app.answer)
    door = AirflowDoor(server.url)

    health = door.health()
    assert health.metadatabase.healthy and health.scheduler.healthy and health.dag_processor.healthy
    assert health.scheduler.heartbeat == NOW

    parts.ready["scheduler"] = False
    parts.at += timedelta(seconds=29)
    assert door.health().scheduler.healthy, "its last heartbeat is young enough"
    parts.at += timedelta(seconds=1)
    health = door.health()
    assert health.scheduler.status == "unhealthy"
    assert health.scheduler.heartbeat == NOW
    assert health.triggerer.healthy and health.triggerer.heartbeat == parts.at

    del parts.ready["triggerer"]
    assert door.health().triggerer.status == "unhealthy", "it has ended in good order"

    parts.database = False
    health = door.health()
    assert (health.metadatabase.status, health.triggerer.status) == ("unhealthy", "unhealthy")
    assert health.scheduler.heartbeat is None

    assert ask(f"{server.url}/api/v2/dags")[0] == 501
    assert "stand-in for Airflow" in ask(f"{server.url}/")[1]
    server.close()
    with pytest.raises(AirflowError, match="cannot be reached"):
        door.health()


def test_a_scheduler_that_hangs_is_unhealthy_by_airflow_s_own_clock() -> None:
    parts = Parts()
    app = Airflow(parts.ready.get, lambda: parts.database, lambda: parts.at)
    server = LoopbackServer("airflow", app.answer)
    door = AirflowDoor(server.url)
    app.hold_back("scheduler", ago=timedelta(seconds=20))
    assert door.health().scheduler.healthy
    parts.at += timedelta(seconds=10)
    assert not door.health().scheduler.healthy
    app.hold_back("scheduler", held=False)
    assert door.health().scheduler.heartbeat == parts.at
    server.close()


def test_parts_that_never_ran() -> None:
    app = Airflow(lambda one: None, lambda: True, lambda: NOW)
    server = LoopbackServer("airflow", app.answer)
    health = AirflowDoor(server.url).health()
    assert (health.scheduler.status, health.triggerer.status) == ("unhealthy", None)
    server.close()


# -- Milvus ---------------------------------------------------------------------------------------------------


class Root:
    """Root's password, as it is kept."""

    def __init__(self) -> None:
        self.password: str | None = "Root-of-milvus"

    def __call__(self, what: str, body: Any, password: str = "Root-of-milvus") -> Any:
        token = f"Bearer root:{password}"
        status, found = ask(f"{self.server.url}/v2/vectordb/{what}", "POST", body, authorization=token)
        return found if status == 200 else (status, found)

    def start(self) -> None:
        def change(new: str) -> None:
            self.password = new

        self.app = Milvus(lambda: self.password, change)
        self.server = LoopbackServer("milvus", self.app.answer)


@pytest.fixture
def milvus() -> Iterator[Root]:
    root = Root()
    root.start()
    yield root
    root.server.close()


def test_a_vector_is_stored_found_by_its_nearness_and_dropped(milvus: Root) -> None:
    assert milvus("collections/create", {"collectionName": "lines", "dimension": 3}) == {
        "code": 0,
        "data": {},
    }
    assert milvus("collections/has", {"collectionName": "lines"})["data"] == {"has": True}
    rows = [
        {"id": 1, "vector": [1, 0, 0], "text": "right"},
        {"id": 2, "vector": [0.9, 0.1, 0], "text": "nearly"},
        {"id": 3, "vector": [-1, 0, 0], "text": "wrong"},
    ]
    found = milvus("entities/insert", {"collectionName": "lines", "data": rows})
    assert found["data"] == {"insertCount": 3, "insertIds": [1, 2, 3]}

    query = {"collectionName": "lines", "data": [[2, 0, 0]], "limit": 2, "outputFields": ["text"]}
    found = milvus("entities/search", query)
    assert [(row["id"], row["text"]) for row in found["data"]] == [(1, "right"), (2, "nearly")]
    assert found["data"][0]["distance"] == pytest.approx(1.0)
    assert found["topks"] == [2]
    assert [row["id"] for row in milvus("entities/search", {**query, "filter": "id in [2, 3]"})["data"]] == [
        2,
        3,
    ]

    assert milvus("entities/get", {"collectionName": "lines", "id": [3]})["data"][0]["text"] == "wrong"
    assert milvus("entities/delete", {"collectionName": "lines", "filter": 'text == "wrong"'})["code"] == 0
    assert milvus("entities/query", {"collectionName": "lines", "filter": "id == 3"})["data"] == []
    assert milvus("collections/list", {})["data"] == ["lines"]
    assert milvus("collections/drop", {"collectionName": "lines"})["code"] == 0
    assert milvus("collections/drop", {"collectionName": "lines"})["code"] == 0
    assert milvus("collections/has", {"collectionName": "lines"})["data"] == {"has": False}


def test_a_collection_by_a_schema_measures_as_it_was_told(milvus: Root) -> None:
    fields = [
        {
            "fieldName": "key",
            "dataType": "VarChar",
            "isPrimary": True,
            "elementTypeParams": {"max_length": 64},
        },
        {"fieldName": "v", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}},
        {"fieldName": "text", "dataType": "VarChar", "elementTypeParams": {"max_length": 512}},
    ]
    body = {
        "collectionName": "lines",
        "schema": {"fields": fields, "enableDynamicField": False},
        "indexParams": [{"fieldName": "v", "indexName": "v", "metricType": "L2"}],
    }
    assert milvus("collections/create", body)["code"] == 0
    assert (
        milvus("collections/describe", {"collectionName": "lines"})["data"]["indexes"][0]["metricType"]
        == "L2"
    )
    row = {"key": "a", "v": [3, 4], "text": "x"}
    assert milvus("entities/insert", {"collectionName": "lines", "data": [row]})["data"]["insertIds"] == ["a"]
    found = milvus("entities/search", {"collectionName": "lines", "data": [[0, 0]], "annsField": "v"})
    assert found["data"] == [{"distance": 25.0, "key": "a"}]
    refused = milvus("entities/insert", {"collectionName": "lines", "data": [{**row, "more": 1}]})
    assert refused["code"] == 1804
    assert "without dynamic schema" in refused["message"]


@pytest.mark.parametrize(
    ("what", "body", "code", "words"),
    [
        (
            "entities/insert",
            {"data": [{"id": 1, "vector": [1]}]},
            1804,
            "size 1 doesn't equal to vector dimension 2",
        ),
        ("entities/insert", {"data": [{"id": "a", "vector": [1, 2]}]}, 1806, "check the primary key"),
        ("entities/insert", {"data": []}, 1802, "missing required parameters"),
        ("entities/search", {"data": [[1, 2, 3]]}, 1801, "dimension: 2, but length of []float: 3"),
        ("entities/search", {"collectionName": "no", "data": [[1, 2]]}, 100, "can't find collection"),
        ("collections/create", {"collectionName": "a-b", "dimension": 2}, 1100, "Invalid collection name"),
        ("collections/create", {"collectionName": "x", "dimension": 1}, 1100, "invalid dimension: 1"),
        ("collections/create", {"dimension": 3}, 65535, "create duplicate collection"),
    ],
)
def test_milvus_refuses_in_its_own_words(
    milvus: Root, what: str, body: dict[str, Any], code: int, words: str
) -> None:
    milvus("collections/create", {"collectionName": "lines", "dimension": 2})
    found = milvus(what, {"collectionName": "lines", **body})
    assert (found["code"], words in found["message"]) == (code, True), found


def test_root_s_password_is_asked_for_and_changed(milvus: Root) -> None:
    status, found = milvus("collections/list", {}, "wrong")
    assert (status, found["code"], found["message"]) == (401, 1800, "user hasn't authenticated")
    assert milvus("users/describe", {"userName": "root"})["data"] == ["admin"]
    change = {"userName": "root", "password": "wrong", "newPassword": "Another-one"}
    assert milvus("users/update_password", change)["code"] == 1400
    assert milvus("users/update_password", {**change, "password": "Root-of-milvus"})["code"] == 0
    assert milvus("collections/list", {}, "Another-one")["data"] == []
    assert milvus("collections/list", {})[0] == 401


def test_what_milvus_stand_in_does_not_know_it_says(milvus: Root) -> None:
    milvus("collections/create", {"collectionName": "lines", "dimension": 2})
    for what, body in (
        ("partitions/list", {"collectionName": "lines"}),
        ("entities/query", {"collectionName": "lines", "filter": "id > 3"}),
        ("entities/search", {"collectionName": "lines", "data": [[1, 2]], "groupingField": "x"}),
    ):
        status, found = milvus(what, body)
        assert status == 501
        assert "does not model" in found["message"]
    assert milvus.app.web(Request("GET", "/healthz", {})).content == b"OK"
    assert "stand-in for Milvus" in milvus.app.web(Request("GET", "/webui/", {})).content


# -- the network of pods --------------------------------------------------------------------------------------


def test_a_service_is_reached_by_its_name_through_the_network_of_pods() -> None:
    def echo(request: Request) -> Answer:
        return Answer(207, {"got": [request.method, request.target, request.body.decode()]})

    server = LoopbackServer("echo", echo)

    def find(namespace: str, service: str, port: int) -> tuple[str, int] | str:
        known = (namespace, service, port) == ("milvus", "milvus", 19530)
        return server.address if known else f"there is no Service {namespace}/{service}"

    network = PodNetwork(find, "/ca.pem")
    environ = network.environ()
    assert environ["SSL_CERT_FILE"] == "/ca.pem"
    assert environ["no_proxy"] == "127.0.0.1,localhost"
    with urllib3.ProxyManager(environ["http_proxy"], retries=False, timeout=5) as pool:
        for host in ("milvus.milvus", "milvus.milvus.svc", "milvus.milvus.svc.cluster.local"):
            answer = pool.request("POST", f"http://{host}:19530/v2/x?a=b", body=b"{}")
            assert answer.status == 207
            assert answer.json() == {"got": ["POST", "/v2/x?a=b", "{}"]}
        for url, words in (
            ("http://grafana.grafana/", "there is no Service grafana/grafana"),
            ("http://example.com:80/", "there is no Service com/example"),
            ("http://www.example.com/", "is no name of a Service"),
        ):
            answer = pool.request("GET", url)
            assert answer.status == 502
            assert words in answer.json()["message"]
        server.close()
        assert pool.request("GET", "http://milvus.milvus:19530/").status == 502
    assert ask(f"{environ['http_proxy']}/")[0] == 501
    network.close()
