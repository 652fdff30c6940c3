"""Grafana: its admin, its health, and one data source of the plugin grafana-opensearch-datasource.

Modelled: `GET /api/health` for everybody; for the admin, by basic authentication, `GET /api/datasources/uid/UID`,
`GET /api/datasources/uid/UID/health`, and `POST /api/ds/query` with Lucene queries of the metrics `logs` and
`count` (by time). The last two ask OpenSearch over TLS with the data source's credentials, and hand on what it says
in the way of the plugin: a health check of an index pattern finds no index of that name, and a query that is
refused is an error with a status and no more. Not modelled: everything else, the pages included.

Sources: Grafana 13, `pkg/api/ds_query.go`, `datasources.go`, `health.go`; the plugin 2.34, `opensearch.go`,
`lucene_handler.go`, `response_parser.go`; grafana-plugin-sdk-go, `data/frame_json.go`. The plugin also asks for the
time in `docvalue_fields`; here it is taken from the record itself, which is where the plugin looks second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import urllib3

from cali_infra.sandbox.services.http import Answer, Request, not_modelled, page

PLUGIN = "grafana-opensearch-datasource"
ADMIN = "admin"
_LOOPBACK = ("127.0.0.1", "localhost")
_TIMEOUT = 10.0
_DEFAULT_SIZE = 500
# How deep the plugin takes a record apart.
_DEPTH = 10
_RELATIVE = re.compile(r"now(?:-(\d+)([smhdw]))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_STEP = "60s"


@dataclass(frozen=True)
class DataSource:
    """A data source as it is provisioned; `password` is what stood for the variable when Grafana started."""

    uid: str
    name: str
    type: str
    url: str
    user: str
    password: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def index(self) -> str:
        return str(self.options.get("database") or "")

    @property
    def time_field(self) -> str:
        return str(self.options.get("timeField") or "")


class _DownstreamError(Exception):
    """What is behind the data source answered with this; the plugin's words."""


class Grafana:
    """One Grafana. `password` gives the admin's, None as long as Grafana was never started; `ca_file` is what its
    pod trusts."""

    def __init__(self, password: Callable[[], str | None], ca_file: str, now: Callable[[], datetime]) -> None:
        self._password = password
        self._ca_file = ca_file
        self._now = now
        self._version = ""
        self._sources: Mapping[str, DataSource] = {}

    def start(self, version: str, sources: Sequence[DataSource]) -> None:
        """What a pod that starts reads: its data sources, for as long as it lives."""
        self._version = version
        self._sources = {source.uid: source for source in sources}

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        if request.method == "GET" and request.path in ("/", "/login"):
            return page(
                "Grafana",
                "This is cali's stand-in for Grafana: a rehearsal installs no chart.",
                "It knows the admin, one data source and its queries; it has no dashboards to show.",
            )
        if request.path == "/api/health":
            return Answer(200, {"commit": "sandbox", "database": "ok", "version": self._version})
        if not request.path.startswith("/api/"):
            return not_modelled("Grafana", request)
        known = self._password()
        if known is None or request.basic() != (ADMIN, known):
            return _refusal(401, "Invalid username or password", "password-auth.failed")
        parts = [unquote(part) for part in request.path.split("/")[2:]]
        match (request.method, parts):
            case ("GET", ["datasources", "uid", uid]):
                return self._described(uid)
            case ("GET", ["datasources", "uid", uid, "health"]):
                return self._health(uid)
            case ("POST", ["ds", "query"]):
                return self._query(request)
        return not_modelled("Grafana", request)

    # -- the data source --------------------------------------------------------------------------------

    def _described(self, uid: str) -> Answer:
        source = self._sources.get(uid)
        if source is None:
            return _refusal(404, "Data source not found")
        return Answer(
            200,
            {
                "id": 1,
                "uid": source.uid,
                "orgId": 1,
                "name": source.name,
                "type": source.type,
                "access": "proxy",
                "url": source.url,
                "user": "",
                "database": "",
                "basicAuth": bool(source.user),
                "basicAuthUser": source.user,
                "isDefault": True,
                "jsonData": dict(source.options),
                "secureJsonFields": {"basicAuthPassword": True},
                "readOnly": True,
            },
        )

    def _health(self, uid: str) -> Answer:
        source = self._sources.get(uid)
        if source is None:
            return _refusal(404, "Data source not found")
        if source.type != PLUGIN:
            return _refusal(404, "Plugin not found")
        path = f"/{quote(source.index, safe='*,')}/_mapping/field/{quote(source.time_field, safe='')}"
        try:
            status, found = self._ask(source, "GET", path)
        except _DownstreamError as error:
            return _unwell(str(error))
        if status != 200:
            return _unwell(found if isinstance(found, str) else json.dumps(found))
        if not isinstance(found, dict) or source.index not in found:
            return _unwell(f"Index not found: {source.index}")
        mapping = found[source.index]["mappings"].get(source.time_field)
        if mapping is None:
            words = f"Index OK. Note: No field named {source.time_field} found"
        elif mapping["mapping"].get(source.time_field, {}).get("type") != "date":
            words = f"Index OK. Note: {source.time_field} is not a date field"
        else:
            words = "Index OK. Time field name OK."
        return Answer(200, {"message": words, "status": "OK"})

    def _ask(self, source: DataSource, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """What OpenSearch answers: a status, and a document or a text. Raises _DownstreamError."""
        if urlsplit(source.url).hostname not in _LOOPBACK:
            raise _DownstreamError(f"cali's stand-in for Grafana asks nobody but this machine: {source.url}")
        headers = urllib3.make_headers(basic_auth=f"{source.user}:{source.password}", user_agent="Grafana")
        headers["Content-Type"] = "application/x-ndjson"
        try:
            with urllib3.PoolManager(ca_certs=self._ca_file, retries=False, timeout=_TIMEOUT) as pool:
                found = pool.request(method, source.url.rstrip("/") + path, body=body, headers=headers)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _DownstreamError(f'{method.title()} "{source.url}{path}": {error}') from None
        try:
            return found.status, found.json()
        except ValueError:
            return found.status, found.data.decode(errors="replace")

    # -- queries ----------------------------------------------------------------------------------------

    def _query(self, request: Request) -> Answer:
        try:
            body = request.json()
            queries = body["queries"]
            bounds = self._moment(str(body["from"])), self._moment(str(body["to"]))
        except (ValueError, TypeError, KeyError):
            return _refusal(400, "bad request data")
        if not queries:
            return _refusal(400, "no queries found")
        if None in bounds:
            return not_modelled("Grafana, in its query's time range,", request)
        results: dict[str, Any] = {}
        for query in queries:
            source = self._sources.get((query.get("datasource") or {}).get("uid", ""))
            if source is None:
                return _refusal(404, "Data source not found")
            name = query.get("refId") or "A"
            try:
                results[name] = self._one(source, query, bounds[0] or 0, bounds[1] or 0)
            except _DownstreamError as error:
                results[name] = _failed(str(error))
            except _UnknownError as unknown:
                return Answer(501, {"message": f"cali's stand-in for Grafana does not model {unknown}"})
        failed = any("error" in result for result in results.values())
        return Answer(400 if failed else 200, {"results": results})

    def _moment(self, text: str) -> int | None:
        """A bound of the time range in milliseconds: a number, or a time before now in one unit."""
        if text.isdecimal():
            return int(text)
        found = _RELATIVE.fullmatch(text)
        if found is None:
            return None
        before = int(found[1] or 0) * _SECONDS[found[2] or "s"]
        return round((self._now().timestamp() - before) * 1000)

    def _one(self, source: DataSource, query: Mapping[str, Any], since: int, until: int) -> dict[str, Any]:
        if query.get("queryType", "lucene") != "lucene":
            raise _UnknownError(f"the query type {query['queryType']}")
        metrics, buckets = query.get("metrics") or [], query.get("bucketAggs") or []
        kind = metrics[0].get("type") if metrics else None
        if not buckets and kind not in ("logs", "raw_data", "raw_document"):
            raise _DownstreamError("invalid query, missing metrics and aggregations")
        if kind not in ("logs", "count") or len(metrics) > 1:
            raise _UnknownError(f"the metrics {[metric.get('type') for metric in metrics]}")
        if kind == "count" and [bucket.get("type") for bucket in buckets] != ["date_histogram"]:
            raise _UnknownError(f"the bucket aggregations {[bucket.get('type') for bucket in buckets]}")
        time_field = source.time_field
        filters: list[Any] = [{"range": {time_field: {"gte": since, "lte": until, "format": "epoch_millis"}}}]
        if str(query.get("query") or "").strip():
            filters.append({"query_string": {"query": query["query"], "analyze_wildcard": True}})
        search: dict[str, Any] = {
            "query": {"bool": {"filter": filters[0] if len(filters) == 1 else filters}},
            "size": 0,
        }
        if kind == "logs":
            search["size"] = _size(metrics[0])
            search["sort"] = [{time_field: {"order": "desc", "unmapped_type": "boolean"}}]
        else:
            histogram = {"field": buckets[0].get("field") or time_field, "fixed_interval": _STEP}
            search["aggs"] = {buckets[0].get("id", "1"): {"date_histogram": histogram}}
        found = self._searched(source, search)
        if kind == "logs":
            frames = [_logs_frame(source, query.get("refId") or "A", found)]
        else:
            (aggregation,) = (found.get("aggregations") or {"": {"buckets": []}}).values()
            frames = [_count_frame(query.get("refId") or "A", aggregation["buckets"])]
        return {"status": 200, "frames": frames}

    def _searched(self, source: DataSource, search: Mapping[str, Any]) -> dict[str, Any]:
        header = {"search_type": "query_then_fetch", "ignore_unavailable": True, "index": source.index}
        lines = "".join(f"{json.dumps(line)}\n" for line in (header, search))
        status, found = self._ask(source, "POST", "/_msearch", lines.encode())
        if status >= 400:
            raise _DownstreamError(f"unexpected status code: {status}")
        answer: dict[str, Any] = found["responses"][0]
        if error := answer.get("error"):
            causes = error.get("root_cause") or [{}]
            raise _DownstreamError(
                causes[0].get("reason") or error.get("reason") or "unknown OpenSearch error response"
            )
        return answer


class _UnknownError(Exception):
    """A query that the stand-in does not model."""


def _size(metric: Mapping[str, Any]) -> int:
    size = (metric.get("settings") or {}).get("size")
    return int(size) if isinstance(size, str) and size.isdecimal() else _DEFAULT_SIZE


def _refusal(status: int, message: str, identifier: str = "") -> Answer:
    return Answer(status, {"message": message, "messageId": identifier, "statusCode": status, "traceID": ""})


def _unwell(message: str) -> Answer:
    return Answer(400, {"message": message, "status": "ERROR"})


def _failed(error: str) -> dict[str, Any]:
    return {"error": error, "errorSource": "downstream", "status": 500, "frames": []}


# -- data frames ----------------------------------------------------------------------------------------------


def _logs_frame(source: DataSource, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """A frame with a column for each field that any of the records has, the time and the message first."""
    rows = [_row(source, hit) for hit in found["hits"]["hits"]]
    front = [source.time_field, str(source.options.get("logMessageField") or "_source")]
    known = {key for row in rows for key in row}
    columns = [key for key in dict.fromkeys(front) if key in known]
    columns += sorted(known - set(columns))
    fields, values, nanos = [], [], []
    for column in columns:
        kind, cells, below = _column([row.get(column) for row in rows])
        fields.append({"name": column, **kind, "config": {"filterable": True}})
        values.append(cells)
        nanos.append(below)
    total = found["hits"]["total"]["value"]
    meta: dict[str, Any] = {"preferredVisualisationType": "logs"}
    if total:
        meta["custom"] = {"total": total}
    data: dict[str, Any] = {"values": values}
    if any(nanos):
        data["nanos"] = nanos
    return {"schema": {"refId": name, "meta": meta, "fields": fields}, "data": data}


def _row(source: DataSource, hit: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(_flattened(hit.get("_source") or {}))
    row: dict[str, Any] = {
        "_id": hit["_id"],
        "_index": hit["_index"],
        "_source": json.dumps(flat, separators=(",", ":"), sort_keys=True),
        **flat,
    }
    if (moment := _instant(flat.get(source.time_field))) is not None:
        row[source.time_field] = moment
    return row


def _flattened(node: Mapping[str, Any], before: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in node.items():
        path = f"{before}.{key}".strip(".")
        if isinstance(value, Mapping) and value and depth < _DEPTH:
            pairs += _flattened(value, path, depth + 1)
        else:
            pairs.append((path, value))
    return pairs


@dataclass(frozen=True)
class _Instant:
    """A moment as frames carry it: milliseconds of the epoch and the nanoseconds below them."""

    millis: int
    nanos: int


def _instant(value: Any) -> _Instant | None:
    found = re.fullmatch(r"(.{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", str(value))
    if found is None:
        return None
    zone = "+00:00" if found[3] == "Z" else found[3]
    seconds = int(datetime.fromisoformat(found[1] + zone).astimezone(UTC).timestamp())
    nanos = int((found[2] or "").ljust(9, "0"))
    return _Instant(seconds * 1000 + nanos // 1_000_000, nanos % 1_000_000)


def _column(cells: Sequence[Any]) -> tuple[dict[str, Any], list[Any], list[int] | None]:
    """A column's type by its first value; a value of another type is left out."""
    first = next((cell for cell in cells if cell is not None), None)
    match first:
        case _Instant():
            times = [cell if isinstance(cell, _Instant) else None for cell in cells]
            below = [time.nanos if time else 0 for time in times]
            kind = {"type": "time", "typeInfo": {"frame": "time.Time", "nullable": True}}
            return kind, [time.millis if time else None for time in times], below if any(below) else None
        case bool():
            kind = {"type": "boolean", "typeInfo": {"frame": "bool", "nullable": True}}
            return kind, [cell if isinstance(cell, bool) else None for cell in cells], None
        case int() | float():
            kind = {"type": "number", "typeInfo": {"frame": "float64", "nullable": True}}
            numbers = [
                cell if isinstance(cell, int | float) and not isinstance(cell, bool) else None
                for cell in cells
            ]
            return kind, numbers, None
        case str():
            kind = {"type": "string", "typeInfo": {"frame": "string", "nullable": True}}
            return kind, [cell if isinstance(cell, str) else None for cell in cells], None
    return {"type": "other", "typeInfo": {"frame": "json.RawMessage", "nullable": True}}, list(cells), None


def _count_frame(name: str, buckets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    times = {"name": "Time", "type": "time", "typeInfo": {"frame": "time.Time", "nullable": True}}
    counts = {
        "name": "Value",
        "type": "number",
        "typeInfo": {"frame": "float64", "nullable": True},
        "config": {"displayNameFromDS": "Count"},
    }
    return {
        "schema": {"refId": name, "meta": {"type": "timeseries-multi"}, "fields": [times, counts]},
        "data": {"values": [[one["key"] for one in buckets], [one["doc_count"] for one in buckets]]},
    }
