"""HTTPS on loopback ports from one background thread: what the Kubernetes and OpenSearch stand-ins share.

It owns the thread, its event loop, the listening sockets and their end. What is answered is the handler's
business. Every handler runs in the one loop, so a stand-in's state needs no lock as long as a handler does
not await between reading and writing it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

HOST = "127.0.0.1"
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
T = TypeVar("T")
# A `_bulk` body may be this big on an Amazon OpenSearch domain; aiohttp's own limit is 1 MiB.
LARGEST_BODY = 100 * 1024 * 1024

# The handlers below answer every failure themselves; what reaches aiohttp's own logger is a client that
# went away or spoke plain HTTP to a TLS port.
_quiet = logging.getLogger("cali_infra.sandbox.serving")


@dataclass(frozen=True)
class Listener:
    """A port that is being served: `address` is `127.0.0.1:PORT`."""

    port: int
    runner: web.ServerRunner

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


class ServerThread:
    """One event loop in one daemon thread, on which any number of TLS ports are served."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; only code that runs in it may touch what the handlers touch."""
        return self._loop

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
        """Runs a coroutine in the loop and waits for it, for `timeout` seconds at most."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(timeout)

    def run(self, function: Callable[[], T], timeout: float = 30.0) -> T:
        """Runs a plain function in the loop, between two requests, and waits for its result."""

        async def step() -> T:
            return function()

        return self.call(step(), timeout)

    def serve(self, handler: Handler, context: ssl.SSLContext) -> Listener:
        """Serves `handler` with TLS on a free port of 127.0.0.1; plain HTTP fails in the handshake."""
        return self.call(self._serve(handler, context))

    def stop(self, listener: Listener) -> None:
        """Closes the port and cuts its connections."""
        self.call(self._stop(listener))

    def close(self) -> None:
        """Ends the loop and the thread; ports that are still served are cut."""
        if self._loop.is_closed():
            return
        self.call(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _serve(self, handler: Handler, context: ssl.SSLContext) -> Listener:
        runner = web.ServerRunner(
            web.Server(
                handler, request_factory=_request, access_log=None, logger=_quiet, keepalive_timeout=300.0
            ),
            handle_signals=False,
            shutdown_timeout=0.1,
        )
        await runner.setup()
        await web.TCPSite(runner, HOST, 0, ssl_context=context, backlog=256).start()
        return Listener(runner.addresses[0][1], runner)

    async def _stop(self, listener: Listener) -> None:
        server = listener.runner.server
        connections = list(server.connections) if isinstance(server, web.Server) else []
        transports = [connection.transport for connection in connections]
        await listener.runner.cleanup()
        # A client that keeps its connection would leave the TLS farewell waiting; this is the end of it.
        for transport in transports:
            if transport is not None:
                transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)

    async def _cancel_all(self) -> None:
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def half_answer(request: web.BaseRequest, answer: web.Response) -> web.StreamResponse:
    """Send the first half of an answer's body, then cut the connection."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    cut = web.StreamResponse(status=answer.status, headers=answer.headers)
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return cut


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=LARGEST_BODY)
