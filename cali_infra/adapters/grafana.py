"""The one door to Grafana, over HTTP as its admin: how it is, how a data source is, and queries through one.

It is handed a base URL and does not care what leads there (`core/pod_doors.py` does). A query takes the way of a
dashboard's panel: Grafana's own API, the plugin, OpenSearch. Sources: Grafana's HTTP API (`/api/ds/query`), the
plugin grafana-opensearch-datasource 2.34 (`lucene_handler.go`, `response_parser.go`), and the JSON of data frames
in grafana-plugin-sdk-go.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cali_infra.errors import GrafanaError

if TYPE_CHECKING:
    from pydantic import SecretStr

# One request, in seconds.
TIMEOUT = 10.0
PLUGIN = "grafana-opensearch-datasource"
_QUERY = "A"
_LOGS = "kubectl -n grafana logs deployment/grafana -c grafana --tail=50"
_RESET = (
    "# grafana.admin_password of secrets.yaml is not what Grafana has: put the right one there, or type it after:\n"
    "kubectl -n grafana exec -i deployment/grafana -c grafana -- "
    "grafana cli admin reset-admin-password --password-from-stdin"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Health:
    """What Grafana says of itself; `database` is `ok` or what it has against its own database."""

    version: str
    database: str


@dataclass(frozen=True)
class DataSource:
    """A data source as Grafana keeps it, without its password."""

    uid: str
    name: str
    type: str
    url: str
    user: str
    index: str


@dataclass(frozen=True)
class DataSourceHealth:
    """What a data source's plugin found when Grafana had it look, in its own words."""

    ok: bool
    message: str


class Grafana:
    """Grafana at a base URL such as `http://127.0.0.1:3000`, as one user. Every method raises GrafanaError."""

    def __init__(self, base_url: str, user: str, password: SecretStr, *, timeout: float = TIMEOUT) -> None:
        self._base = base_url.rstrip("/")
        self._user, self._password, self._timeout = user, password, timeout

    def health(self) -> Health:
        """How Grafana is; it asks nobody for a password."""
        found = self._ask("GET", "/api/health")
        return Health(str(found.get("version") or ""), str(found.get("database") or ""))

    def data_source(self, uid: str) -> DataSource | None:
        """The data source of this uid, or None."""
        try:
            found = self._ask("GET", f"/api/datasources/uid/{quote(uid, safe='')}")
        except GrafanaError as error:
            if error.status == 404:
                return None
            raise
        options = found.get("jsonData") or {}
        return DataSource(
            uid,
            str(found.get("name") or ""),
            str(found.get("type") or ""),
            str(found.get("url") or ""),
            str(found.get("basicAuthUser") or ""),
            str(options.get("database") or ""),
        )

    def data_source_health(self, uid: str) -> DataSourceHealth:
        """What its plugin finds when it asks what it is the source of."""
        # What the plugin has against its source comes with 400.
        found = self._ask("GET", f"/api/datasources/uid/{quote(uid, safe='')}/health", also=(400,))
        if "status" not in found:
            raise GrafanaError(f"Grafana cannot ask its data source {uid}: {_said(found)}", status=400)
        return DataSourceHealth(found["status"] == "OK", str(found.get("message") or ""))

    def logs(
        self, uid: str, query: str, since: datetime, until: datetime, *, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The records between two moments that a Lucene query finds, the newest first: a value by a field's path
        (`kubernetes.pod_name`), times as `datetime`.

        The plugin sends the two moments in milliseconds and includes both.
        """
        metric = {"id": "1", "type": "logs", "settings": {"size": str(limit)}}
        found: list[dict[str, Any]] = []
        for frame in self._query(uid, query, since, until, metric, []):
            found += _rows(frame)
        return found

    def count(self, uid: str, query: str, since: datetime, until: datetime) -> int:
        """How many records between two moments a Lucene query finds."""
        by_time = {"id": "2", "type": "date_histogram", "field": "", "settings": {"min_doc_count": "0"}}
        metric = {"id": "1", "type": "count"}
        frames = self._query(uid, query, since, until, metric, [by_time])
        return sum(
            int(value or 0)
            for frame in frames
            for field, values in _columns(frame)
            if field.get("type") == "number"
            for value in values
        )

    def _query(
        self,
        uid: str,
        query: str,
        since: datetime,
        until: datetime,
        metric: Mapping[str, Any],
        buckets: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """The data frames of one query. A query that fails has its error in the answer, which is a 400 or a 207."""
        body = {
            "from": str(_millis(since)),
            "to": str(_millis(until)),
            "queries": [
                {
                    "refId": _QUERY,
                    "datasource": {"uid": uid, "type": PLUGIN},
                    "queryType": "lucene",
                    "query": query,
                    "metrics": [dict(metric)],
                    "bucketAggs": [dict(bucket) for bucket in buckets],
                    "format": "table",
                    "intervalMs": 60_000,
                    "maxDataPoints": 500,
                }
            ],
        }
        answer = self._ask("POST", "/api/ds/query", body, also=(400, 500, 502))
        result = (answer.get("results") or {}).get(_QUERY)
        if not isinstance(result, dict):
            raise GrafanaError(f"Grafana does not take a query to the data source {uid}: {_said(answer)}")
        if result.get("error"):
            raise GrafanaError(
                f"the data source {uid} answers a query with: {result['error']}",
                status=result.get("status"),
                remedy=_LOGS,
            )
        return [frame for frame in result.get("frames") or () if isinstance(frame, dict)]

    def _ask(self, method: str, path: str, body: Any = None, *, also: tuple[int, ...] = ()) -> dict[str, Any]:
        """One request; `also` are statuses whose body is an answer nevertheless."""
        import urllib3

        credentials = f"{self._user}:{self._password.get_secret_value()}"
        headers = {
            "Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}",
            "Accept": "application/json",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            with urllib3.PoolManager(retries=False, timeout=self._timeout) as pool:
                answer = pool.request(
                    method,
                    self._base + path,
                    body=None if body is None else json.dumps(body),
                    headers=headers,
                    redirect=False,
                )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise GrafanaError(
                f"Grafana cannot be reached: {error}",
                remedy=f"kubectl -n grafana get pods; {_LOGS}",
            ) from error
        try:
            found = answer.json()
        except ValueError:
            found = None
        if answer.status == 401:
            raise GrafanaError(
                f"Grafana does not accept the password of {self._user}",
                status=401,
                remedy=_RESET,
            )
        if answer.status >= 300 and answer.status not in also:
            raise GrafanaError(
                f"Grafana refused {method} {path}: {answer.status} {_said(found)}".rstrip(),
                status=answer.status,
            )
        if not isinstance(found, dict):
            raise GrafanaError(
                f"Grafana answered {method} {path} with something other than JSON", status=answer.status
            )
        return found


def _rows(frame: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a data frame; a value that a row has not is left out."""
    columns = _columns(frame)
    count = max((len(values) for _, values in columns), default=0)
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    nanos = (frame.get("data") or {}).get("nanos") or ()
    for number, (field, values) in enumerate(columns):
        below = (nanos[number] if number < len(nanos) else None) or ()
        for row, value in enumerate(values):
            if value is None:
                continue
            if field.get("type") == "time":
                value = _moment(value, below[row] if row < len(below) else 0)
            rows[row][str(field.get("name"))] = value
    return rows


def _columns(frame: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Sequence[Any]]]:
    fields = (frame.get("schema") or {}).get("fields") or ()
    return list(zip(fields, (frame.get("data") or {}).get("values") or (), strict=False))


def _moment(millis: float, nanos: int) -> datetime:
    """A time of a data frame: milliseconds of the epoch, and what is below them in nanoseconds beside it."""
    return _EPOCH + timedelta(milliseconds=millis, microseconds=(nanos or 0) // 1000)


def _millis(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _said(found: Any) -> str:
    return str(found.get("message") or found.get("error") or "") if isinstance(found, dict) else ""
