"""OpenSearch's refusals in the shape of its REST API."""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]


class SearchError(Exception):
    """A refusal: `kind` is OpenSearch's own type, such as `index_not_found_exception`."""

    def __init__(
        self, status: int, kind: str, reason: str, *, cause: Obj | None = None, more: Obj | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.kind = kind
        self.reason = reason
        self.cause = cause
        self.more = more or {}

    def error(self) -> Obj:
        """The error alone, as an item of a `_bulk` answer carries it."""
        body: Obj = {"type": self.kind, "reason": self.reason, **self.more}
        if self.cause:
            body["caused_by"] = self.cause
        return body

    def body(self) -> Obj:
        """The whole answer."""
        root: Obj = {"type": self.kind, "reason": self.reason, **self.more}
        return {"error": {"root_cause": [root], **self.error()}, "status": self.status}


class PlainError(Exception):
    """A refusal whose body is of another shape: the security API's, or a plain text."""

    def __init__(self, status: int, body: Obj | str, headers: dict[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body
        self.headers = headers or {}


def not_modelled(operation: str) -> SearchError:
    """501: a real domain can do this and the stand-in cannot; it says so by name."""
    return SearchError(
        501,
        "unsupported_operation_exception",
        f"the sandbox's OpenSearch stand-in does not model this: {operation}",
    )


def index_missing(name: str) -> SearchError:
    """404 for an index."""
    return SearchError(
        404,
        "index_not_found_exception",
        f"no such index [{name}]",
        more={
            "index": name,
            "resource.id": name,
            "resource.type": "index_or_alias",
            "index_uuid": "_na_",
        },
    )


def illegal(reason: str) -> SearchError:
    """400 for an argument that is well formed and not allowed."""
    return SearchError(400, "illegal_argument_exception", reason)


def unparsable(reason: str) -> SearchError:
    """400 for a body that is not understood."""
    return SearchError(400, "parsing_exception", reason)


def unknown_key(where: str, key: str) -> SearchError:
    """400 for a key that a body does not have."""
    return SearchError(400, "x_content_parse_exception", f"[1:1] [{where}] unknown field [{key}]")


def security(reason: str) -> SearchError:
    """403 of the security plugin."""
    return SearchError(403, "security_exception", reason)
