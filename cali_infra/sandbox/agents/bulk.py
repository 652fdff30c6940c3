"""Sends documents to a domain as Fluent Bit's output does: `_bulk` over HTTP, with a look at each item's answer."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import urllib3

from cali_infra.sandbox.fluent_bit import Destination, Document

_log = logging.getLogger(__name__)
_AT_ONCE = 1000
_TIMEOUT = 5.0
_CONFLICT, _BAD_REQUEST = 409, 400


def send(destination: Destination, documents: Sequence[Document], ca_file: str) -> list[bool]:
    """For each document whether it is done with; the others are to be sent again.

    A document that is there already counts as stored. One that the domain refuses for what it says (400) is done
    with as well, and logged. `ca_file` is the authority behind the domain. What cannot be sent raises nothing.
    """
    done: list[bool] = []
    scheme = "https" if destination.tls else "http"
    url = f"{scheme}://{destination.host}:{destination.port}/_bulk"
    with urllib3.PoolManager(ca_certs=ca_file, retries=False, timeout=_TIMEOUT) as pool:
        while len(done) < len(documents):
            part = documents[len(done) : len(done) + _AT_ONCE]
            body = "".join(json.dumps(line) + "\n" for document in part for line in _lines(document))
            try:
                answer = pool.request("POST", url, body=body, headers=_headers(destination))
                if answer.status != 200:
                    _log.info("the log lines are not taken: %s", answer.status)
                    break
                items = [next(iter(item.values())) for item in answer.json()["items"]]
                if len(items) != len(part):
                    raise ValueError(f"{len(items)} answers to {len(part)} lines")
            except (urllib3.exceptions.HTTPError, OSError, ValueError, LookupError) as error:
                _log.info("the log lines are not taken: %s", error)
                break
            done += [_is_done(item) for item in items]
    return [*done, *[False] * (len(documents) - len(done))]


def _lines(document: Document) -> Iterator[dict[str, Any]]:
    target = {"_index": document.index}
    if document.identifier is not None:
        target["_id"] = document.identifier
    yield {document.operation: target}
    yield document.body


def _headers(destination: Destination) -> dict[str, str]:
    headers = {"Content-Type": "application/x-ndjson"}
    if destination.user and destination.password:
        credentials = f"{destination.user}:{destination.password}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
    return headers


def _is_done(item: dict[str, Any]) -> bool:
    status = item.get("status", 0)
    if status in (200, 201, _CONFLICT):
        return True
    reason = (item.get("error") or {}).get("reason", "")
    _log.info("a log line is not taken into %s: %s %s", item.get("_index"), status, reason)
    return bool(status == _BAD_REQUEST)
