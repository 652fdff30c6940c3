"""A small HTTP server on a loopback port: what the applications' stand-ins are made of.

It owns the port, the threads and the framing. What is answered is the application's: a function from a request to
an answer. An application that fails answers 500 with the error's words, as a bug must be seen.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_log = logging.getLogger(__name__)
HOST = "127.0.0.1"
# Of a request's body, in bytes.
_LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """One request; `target` is as it stood in the request line, header names are in small letters."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body or b"null")

    def basic(self) -> tuple[str, str] | None:
        """User and password of basic authentication; None where there are none."""
        kind, _, packed = self.headers.get("authorization", "").partition(" ")
        try:
            user, colon, password = base64.b64decode(packed).decode().partition(":")
        except ValueError:
            return None
        return (user, password) if kind.lower() == "basic" and colon else None


@dataclass(frozen=True)
class Answer:
    """What is answered; `content` is a document for JSON, a text for a page, or bytes as they are."""

    status: int
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def packed(self) -> tuple[bytes, str]:
        """The body and its type."""
        if isinstance(self.content, bytes):
            return self.content, ""
        if isinstance(self.content, str):
            return self.content.encode(), "text/html; charset=utf-8"
        return json.dumps(self.content).encode(), "application/json; charset=utf-8"


Application = Callable[[Request], Answer]


def not_modelled(what: str, request: Request) -> Answer:
    """A stand-in's refusal of what it does not know."""
    return Answer(
        501, {"message": f"cali's stand-in for {what} does not model {request.method} {request.path}"}
    )


def page(title: str, *sentences: str) -> Answer:
    """A page that says what it is."""
    text = "".join(f"<p>{sentence}</p>" for sentence in sentences)
    return Answer(
        200,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1>{text}</html>",
    )


class LoopbackServer:
    """An application on a free port of 127.0.0.1, from when it is made until `close`."""

    def __init__(self, name: str, application: Application) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without it a client that goes on over its connection waits for the other side's acknowledgement.
            disable_nagle_algorithm = True

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                if length > _LARGEST:
                    self.close_connection = True
                    self.give(Answer(413, {"message": "too large"}))
                    return
                headers = {key.lower(): value for key, value in self.headers.items()}
                request = Request(self.command, self.path, headers, self.rfile.read(length))
                try:
                    answer = application(request)
                except Exception as error:
                    # Without the path, which may be a secret by itself.
                    _log.exception("%s: %s", name, self.command)
                    answer = Answer(500, {"message": f"{type(error).__name__}: {error}"})
                self.give(answer)

            def give(self, answer: Answer) -> None:
                body, kind = answer.packed()
                self.send_response(answer.status)
                if kind:
                    self.send_header("Content-Type", kind)
                for key, value in answer.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def __getattr__(self, name: str) -> Any:
                # Whatever the method is: the application decides.
                if name.startswith("do_"):
                    return self.answer
                raise AttributeError(name)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.address: tuple[str, int] = (HOST, int(self._server.server_address[1]))
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.25}, name=name, daemon=True
        ).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.address[1]}"

    def close(self) -> None:
        """Close the port; requests under way are answered."""
        self._server.shutdown()
        self._server.server_close()
