"""What the pod of `e2e.analysis` runs: one log line, read and turned into a vector that Milvus keeps for a moment.

It runs as text in Airflow's image, so it takes nothing but the standard library, and knows the platform only by the
variables that Airflow's own pods have: the connections `opensearch_default` and `milvus_default`. Its last line of
output is one JSON object: the seconds of each leg, or the leg that failed and why. No password is in it.

Sources: Airflow's JSON form of a connection in a variable (`AIRFLOW_CONN_...`); the REST API v2 of Milvus.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import re
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from typing import Any

DIMENSION = 64
PREFIX = "cali_verify_"
# A collection that a pod which was killed has left is dropped by a later one.
LEFT = 3600.0
# A request, and how long a record that was just written may take to be found, in seconds.
_TIMEOUT, _PATIENCE, _PAUSE = 15.0, 30.0, 0.5


class LegError(Exception):
    """A leg of the way failed; the text says why."""


def vector(text: str) -> list[float]:
    """A text as a point on the unit sphere: its words, each counted in one of the dimensions."""
    counts = [0.0] * DIMENSION
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % DIMENSION] += 1.0
    length = math.sqrt(sum(count * count for count in counts)) or 1.0
    return [count / length for count in counts]


def connection(name: str) -> dict[str, Any]:
    """A connection as Airflow's pods have it. Raises LegError where there is none, or another form of one."""
    variable = f"AIRFLOW_CONN_{name.upper()}"
    text = os.environ.get(variable)
    if not text:
        raise LegError(f"the pod has no connection {name}: {variable} is not set")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise LegError(f"the connection {name} is not JSON")
    return found


def ask(method: str, url: str, authorization: str, body: Any) -> Any:
    """The JSON answer to a request. Raises LegError."""
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        method=method,
        # http.client writes a header as Latin-1, whatever is in the password: these are its bytes in UTF-8.
        headers={
            "Authorization": authorization.encode().decode("latin-1"),
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace").strip()
        raise LegError(f"{url} answered {error.code} {said}".strip()) from error
    except (OSError, ValueError) as error:
        raise LegError(f"{url}: {getattr(error, 'reason', error)}") from error


def line_of(pattern: str, token: str) -> str:
    """The text of the record with this token, read as Airflow's connection reads. Raises LegError."""
    found = connection("opensearch_default")
    host, port = found.get("host"), found.get("port") or 443
    name = f"{found.get('login', '')}:{found.get('password', '')}"
    authorization = "Basic " + base64.b64encode(name.encode()).decode()
    body = {"size": 1, "query": {"term": {"app.cali_verify": token}}}
    hits = ask("POST", f"https://{host}:{port}/{pattern}/_search", authorization, body)["hits"]["hits"]
    if not hits:
        raise LegError(f"{found.get('login', '')} finds no record with this token in {pattern}")
    return json.dumps(hits[0]["_source"]["app"], sort_keys=True)


class Milvus:
    """Milvus by its REST API, as Airflow's connection reaches it."""

    def __init__(self) -> None:
        found = connection("milvus_default")
        self._uri = (found.get("extra") or {}).get("uri")
        if not self._uri:
            raise LegError("the connection milvus_default has no `uri` in its extra")
        self._token = f"Bearer {found.get('login', '')}:{found.get('password', '')}"

    def call(self, what: str, **body: Any) -> Any:
        """The data of an answer. Raises LegError with Milvus' own words."""
        answer = ask("POST", f"{self._uri}/v2/vectordb/{what}", self._token, body)
        if answer.get("code") not in (0, 200):
            raise LegError(f"Milvus refused {what}: {answer.get('code')} {answer.get('message', '')}")
        return answer.get("data")

    def sweep(self, now: float) -> None:
        """Drop what earlier pods have left behind."""
        for name in self.call("collections/list") or ():
            born = re.fullmatch(PREFIX + r"(\d+)_\w+", name)
            if born and now - int(born[1]) > LEFT:
                drop(self, name)


def store(milvus: Milvus, collection: str, token: str, point: list[float]) -> None:
    """Make a collection and put the vector into it."""
    milvus.call("collections/create", collectionName=collection, dimension=DIMENSION, metricType="COSINE")
    rows = [{"id": 1, "vector": point, "token": token}, {"id": 2, "vector": point[::-1], "token": "other"}]
    milvus.call("entities/insert", collectionName=collection, data=rows)


def find(milvus: Milvus, collection: str, token: str, point: list[float]) -> None:
    """Find the vector again, as the nearest one to itself. Raises LegError when it is not.

    A collection that was just made is still being loaded, and is refused or found empty until then.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        nearest = "nothing"
        try:
            found = milvus.call(
                "entities/search",
                collectionName=collection,
                data=[point],
                annsField="vector",
                limit=1,
                outputFields=["token"],
                consistencyLevel="Strong",
            )
            nearest = found[0].get("token") if found else nearest
        except LegError:
            if time.monotonic() > until:
                raise
        if nearest == token:
            return
        if time.monotonic() > until:
            raise LegError(f"the nearest vector is not the one that was stored: {nearest}")
        time.sleep(_PAUSE)


def drop(milvus: Milvus, collection: str) -> None:
    """Drop the collection; one that is not there is no error to Milvus."""
    milvus.call("collections/drop", collectionName=collection)


def main() -> int:
    """The whole way; 0 when every leg was passed."""
    pattern, token = os.environ["CALI_INDEX"], os.environ["CALI_TOKEN"]
    collection = f"{PREFIX}{int(time.time())}_{token}"
    seconds: dict[str, float] = {}
    leg = ""

    def timed(name: str, do: Callable[[], Any]) -> Any:
        nonlocal leg
        leg, started = name, time.monotonic()
        came = do()
        seconds[name] = round(time.monotonic() - started, 3)
        return came

    try:
        point = vector(timed("read", lambda: line_of(pattern, token)))
        milvus = timed("connect", Milvus)
        milvus.sweep(time.time())
        try:
            timed("store", lambda: store(milvus, collection, token, point))
            timed("find", lambda: find(milvus, collection, token, point))
        except LegError:
            # What failed first is what is told.
            with contextlib.suppress(LegError):
                drop(milvus, collection)
            raise
        timed("drop", lambda: drop(milvus, collection))
    except LegError as error:
        sys.stdout.write(json.dumps({"leg": leg, "failed": str(error)}) + "\n")
        return 1
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
