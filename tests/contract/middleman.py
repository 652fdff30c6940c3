"""A server that stands between a client and an API server and misbehaves as a case wishes.

It ends the client's TLS with a certificate of its own and passes on what it is sent, bearer and all. Real API
servers cannot be asked to throttle, to cut a connection in the middle or to go away: this one can, before any
of them, and so the same trouble meets the stand-in and a real cluster.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from cali_infra.adapters.kubernetes import ClusterAccess
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.serving import HOST, ServerThread

_REASONS = {401: "Unauthorized", 429: "TooManyRequests", 503: "ServiceUnavailable"}
_SENT = ("Accept", "Accept-Encoding", "Authorization", "Content-Type", "User-Agent")
_BACK = ("Content-Encoding", "Content-Type", "Retry-After", "Warning")
_quiet = logging.getLogger("contract.middleman")


class Cut(Enum):
    """Where a connection is cut."""

    IN_REQUEST = "in the middle of the request's body"
    BEFORE_ANSWER = "after the request was received, before the answer"
    IN_ANSWER = "in the middle of the answer"


@dataclass
class _Trouble:
    """What happens to the first `times` requests of this kind, or to the first `each` of every object."""

    what: Cut | int
    method: str
    path: str
    times: int
    each: int
    retry_after: int | None
    seen: Counter[str] = field(default_factory=Counter)

    def takes(self, method: str, path: str) -> bool:
        if method != self.method or self.path not in path:
            return False
        self.seen[path] += 1
        return self.seen.total() <= self.times if self.times else self.seen[path] <= self.each


@dataclass
class _Event:
    """What is done when so many requests of this kind were answered."""

    method: str
    path: str
    left: int
    do: Callable[[], None]


@dataclass(frozen=True)
class Passed:
    """One request and what became of it: the status that the client was sent, or where it was cut.

    `upstream` is the API server's own status, None where it never saw the request.
    """

    method: str
    path: str
    dry_run: bool
    outcome: int | Cut
    upstream: int | None


class Middleman:
    """Serves on a loopback port of its own; every method may be called from any thread."""

    def __init__(self, upstream: ClusterAccess) -> None:
        authority = Authority.create()
        self._upstream = upstream
        self._context = authority.issue().server_context()
        self._lock = threading.Lock()
        self._troubles: list[_Trouble] = []
        self._events: list[_Event] = []
        self._ended: set[str] = set()
        self._requests: list[Passed] = []
        self._failures: list[str] = []
        # Bound and never listening: the port stays ours, and refuses, while the server is away.
        self._holder = _bound(0)
        self._port = int(self._holder.getsockname()[1])
        self._thread = ServerThread("middleman")
        self._thread.call(self._open())
        self.access = ClusterAccess(f"https://{HOST}:{self._port}", authority.ca_pem)

    # -- trouble ----------------------------------------------------------------------------------------

    def answer(
        self, status: int, *, method: str, path: str, times: int = 0, each: int = 0, retry_after: int | None
    ) -> None:
        """Answer instead of the API server: to the first `times` requests, or to `each` of every path."""
        self._add(_Trouble(status, method, path, times, each, retry_after))

    def cut(self, where: Cut, *, method: str, path: str, times: int = 0, each: int = 0) -> None:
        """Cut the connection of the first `times` requests, or of `each` of every path."""
        self._add(_Trouble(where, method, path, times, each, None))

    def on(self, *, method: str, path: str, do: Callable[[], None], after: int) -> None:
        """Do something, once, when the API server has answered the request number `after` of this kind.

        It is done before that answer is passed on, and in a thread of its own: it may call this object.
        """
        with self._lock:
            self._events.append(_Event(method, path, after, do))

    def end_bearer(self, bearer: str) -> None:
        """From now on the bearer is answered 401, as one whose time is over."""
        with self._lock:
            self._ended.add(bearer)

    def away(self) -> None:
        """Cut every connection and refuse new ones."""
        self._thread.call(self._leave())

    def back(self) -> None:
        """Serve again, at the same port."""
        self._thread.call(self._serve())

    def calm(self) -> None:
        """No more trouble."""
        with self._lock:
            self._troubles.clear()
            self._events.clear()
            self._ended.clear()

    # -- what was seen ----------------------------------------------------------------------------------

    def requests(self, method: str = "", path: str = "") -> list[Passed]:
        """What was received so far, in the order in which it ended."""
        with self._lock:
            return [r for r in self._requests if r.method == (method or r.method) and path in r.path]

    def close(self) -> list[str]:
        """Stop; returns what went wrong that nobody asked for."""
        self._thread.call(self._shut())
        self._thread.close()
        self._holder.close()
        return self._failures

    # -- in the loop ------------------------------------------------------------------------------------

    async def _open(self) -> None:
        context = ssl.create_default_context()
        if self._upstream.ca_pem:
            context = ssl.create_default_context(cadata=self._upstream.ca_pem.decode())
        if not self._upstream.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self._web = web.Server(self._handle, access_log=None, logger=_quiet, keepalive_timeout=300.0)
        await self._serve()

    async def _serve(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            self._web, sock=_bound(self._port), ssl=self._context, backlog=256
        )

    async def _leave(self) -> None:
        self._server.close()
        for connection in list(self._web.connections):
            if connection.transport is not None:
                connection.transport.abort()
        # The sockets are closed in the loop's next rounds.
        for _ in range(3):
            await asyncio.sleep(0)

    async def _shut(self) -> None:
        await self._leave()
        await self._web.shutdown(0.1)
        await self._session.close()

    def _add(self, trouble: _Trouble) -> None:
        with self._lock:
            self._troubles.append(trouble)

    def _due(self, request: web.BaseRequest) -> _Trouble | None:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        with self._lock:
            if bearer in self._ended:
                return _Trouble(401, request.method, request.path, 1, 0, None)
            return next((t for t in self._troubles if t.takes(request.method, request.path)), None)

    def _happening(self, request: web.BaseRequest) -> list[_Event]:
        with self._lock:
            for event in self._events:
                if event.method == request.method and event.path in request.path:
                    event.left -= 1
            due = [event for event in self._events if event.left <= 0]
            self._events = [event for event in self._events if event.left > 0]
            return due

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        trouble = self._due(request)
        what = trouble.what if trouble else None
        if what is Cut.IN_REQUEST:
            await request.content.readany()
            if request.content.is_eof():
                self._fail(f"{request.method} {request.path}: the body was too small to be cut in its middle")
            return self._cut(request, Cut.IN_REQUEST, None)
        body = await request.read()
        if trouble and isinstance(what, int):
            self._note(request, what, None)
            return _refusal(what, trouble.retry_after)
        try:
            status, headers, data = await self._ask(request, body)
        except aiohttp.ClientError as error:
            self._fail(f"{request.method} {request.path}: {error!r}")
            return web.Response(status=502)
        for event in self._happening(request):
            await asyncio.to_thread(event.do)
        if isinstance(what, Cut):
            if what is Cut.IN_ANSWER:
                response = web.StreamResponse(status=status, headers=headers)
                response.content_length = len(data)
                await response.prepare(request)
                await response.write(data[: len(data) // 2])
            return self._cut(request, what, status)
        self._note(request, status, status)
        return web.Response(body=data, status=status, headers=headers)

    async def _ask(self, request: web.BaseRequest, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What the API server answers."""
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        arguments: dict[str, Any] = {}
        if self._upstream.server_name:
            arguments["server_hostname"] = self._upstream.server_name
        if self._upstream.proxy:
            arguments["proxy"] = self._upstream.proxy
        url = URL(self._upstream.host.rstrip("/") + request.raw_path, encoded=True)
        async with self._session.request(
            request.method,
            url,
            data=body or None,
            headers=headers,
            skip_auto_headers=_SENT,
            allow_redirects=False,
            **arguments,
        ) as answer:
            kept = {name: answer.headers[name] for name in _BACK if name in answer.headers}
            return answer.status, kept, await answer.read()

    def _cut(self, request: web.BaseRequest, where: Cut, upstream: int | None) -> web.StreamResponse:
        self._note(request, where, upstream)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    def _note(self, request: web.BaseRequest, outcome: int | Cut, upstream: int | None) -> None:
        with self._lock:
            self._requests.append(
                Passed(request.method, request.path, "dryRun" in request.query, outcome, upstream)
            )

    def _fail(self, text: str) -> None:
        with self._lock:
            self._failures.append(text)


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    return sock


def _refusal(status: int, retry_after: int | None) -> web.Response:
    reason = _REASONS[status]
    said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
    said |= {"message": "Unauthorized" if status == 401 else f"the server answers {status} for a while"}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.Response(
        body=json.dumps(said).encode(), status=status, headers={**headers, "Content-Type": "application/json"}
    )
