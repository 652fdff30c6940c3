"""Watches: the changes of a resource from a version on, as a stream of JSON lines."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from cali_infra.sandbox.kubernetes import requests
from cali_infra.sandbox.kubernetes.catalogue import Resource
from cali_infra.sandbox.kubernetes.errors import ApiError, Obj, bad_request, expired
from cali_infra.sandbox.kubernetes.registry import Clock
from cali_infra.sandbox.kubernetes.selectors import Predicate
from cali_infra.sandbox.kubernetes.store import Change, Store
from cali_infra.sandbox.kubernetes.tables import table

BOOKMARK_SECONDS = 10.0
LONGEST_SECONDS = 1800.0


class Watch:
    """One watch of the objects that `selected` selects."""

    def __init__(
        self, request: web.BaseRequest, store: Store, resource: Resource, selected: Predicate, clock: Clock
    ) -> None:
        self._request = request
        self._store = store
        self._resource = resource
        self._selected = selected
        self._clock = clock
        wanted = request.query.get("allowWatchBookmarks", "").lower()
        self._bookmarks = wanted in ("true", "1")

    async def run(self, namespace: str) -> web.StreamResponse:
        """Streams until the client goes, the time is up or the server ends. Raises ApiError 400."""
        first = self._first(namespace)
        queue = self._store.subscribe(self._resource)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        seconds = float(self._request.query.get("timeoutSeconds") or LONGEST_SECONDS)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            await response.prepare(self._request)
            for event in first:
                await response.write(self._line(event))
            if not first or first[-1]["type"] != "ERROR":
                await self._follow(response, queue, deadline)
        except (ConnectionResetError, asyncio.CancelledError):
            # The client has gone: the usual end of a watch.
            pass
        finally:
            self._store.unsubscribe(self._resource, queue)
        return response

    def _first(self, namespace: str) -> list[Obj]:
        """What is sent at once: what there is, or what has happened since the version asked for."""
        version = self._request.query.get("resourceVersion", "")
        initial = self._request.query.get("sendInitialEvents", "").lower() == "true"
        if version in ("", "0") or initial:
            objects = [obj for obj in self._store.all(self._resource, namespace) if self._selected(obj)]
            events: list[Obj] = [{"type": "ADDED", "object": obj} for obj in objects]
            if initial and self._bookmarks:
                events.append(self._bookmark(ends_initial=True))
            return events
        if not version.isdigit():
            raise bad_request(f"Invalid value: {json.dumps(version)}: strconv.ParseUint: invalid syntax")
        try:
            past = self._store.since(self._resource, int(version))
        except ApiError as error:
            return [{"type": "ERROR", "object": expired(error.message).status()}]
        return [event for change in past if (event := _event(change, self._selected)) is not None]

    async def _follow(
        self, response: web.StreamResponse, queue: asyncio.Queue[Change | None], deadline: float
    ) -> None:
        loop = asyncio.get_running_loop()
        while (left := deadline - loop.time()) > 0:
            try:
                change = await asyncio.wait_for(queue.get(), min(left, BOOKMARK_SECONDS))
            except TimeoutError:
                if self._bookmarks:
                    await response.write(self._line(self._bookmark()))
                continue
            if change is None:
                return
            found = _event(change, self._selected)
            if found is not None:
                await response.write(self._line(found))

    def _line(self, event: Obj) -> bytes:
        if requests.wants_table(self._request) and event["type"] not in ("ERROR", "BOOKMARK"):
            metadata = {"resourceVersion": event["object"]["metadata"]["resourceVersion"]}
            shown = table(self._resource.kind, [event["object"]], metadata, self._clock())
            event = {"type": event["type"], "object": shown}
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def _bookmark(self, *, ends_initial: bool = False) -> Obj:
        metadata: Obj = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if ends_initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        kind = {"kind": self._resource.kind, "apiVersion": self._resource.api_version}
        return {"type": "BOOKMARK", "object": {**kind, "metadata": metadata}}


def _event(change: Change, selected: Predicate) -> Obj | None:
    """What a watcher with this selector sees of a change: objects may move into and out of its view."""
    now = change.kind != "DELETED" and selected(change.obj)
    was = change.before is not None and selected(change.before)
    if now:
        return {"type": "MODIFIED" if was else "ADDED", "object": change.obj}
    return {"type": "DELETED", "object": change.obj} if was else None
