"""An answer of AWS that is an error, written as the service's protocol wants it.

It owns the four spellings of an error body; which error it is, is its raiser's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from xml.sax.saxutils import escape

# What a stand-in answers when it does not model a request. AWS has no such codes, so nobody mistakes them
# for its word, and with status 400 no client tries again.
NOT_MODELLED = "SandboxNotModelled"
FAILED = "SandboxFailure"


class ServiceError(Exception):
    """An AWS error: its code, its message, and the fields that its shape carries besides the message."""

    def __init__(
        self, code: str, message: str, fields: Mapping[str, str] | None = None, *, status: int | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.fields = dict(fields or {})


def body(protocol: str, error: ServiceError) -> tuple[str, str]:
    """The error's content type and text in `protocol` (json, rest-json, query, ec2 or rest-xml)."""
    if protocol in ("json", "rest-json"):
        document = {"__type": error.code, "message": error.message, **error.fields}
        return "application/json", json.dumps(document)
    code, message = escape(error.code), escape(error.message)
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    if protocol == "ec2":
        text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>sandbox</RequestID></Response>"
    elif protocol == "query":
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error>"
            "<RequestId>sandbox</RequestId></ErrorResponse>"
        )
    else:
        text = f"<Error>{inner}<RequestId>sandbox</RequestId></Error>"
    return "text/xml", f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'
