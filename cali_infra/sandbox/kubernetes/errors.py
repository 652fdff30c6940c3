"""The API server's refusals, worded as the real one words them.

Each is a `Status` object with the code, reason and message of `k8s.io/apimachinery/pkg/api/errors`;
clients match on the reason and people read the message. Raised anywhere below a handler, rendered by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]


@dataclass(frozen=True)
class Cause:
    """One cause of a refusal: `reason` such as FieldValueInvalid, `field` without a leading dot."""

    reason: str
    message: str
    field: str = ""

    def render(self) -> Obj:
        return {
            "reason": self.reason,
            "message": self.message,
            **({"field": self.field} if self.field else {}),
        }


class ApiError(Exception):
    """A refusal; `status()` is what goes over the wire."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Obj | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.headers = headers or {}

    def status(self) -> Obj:
        """The `Status` object."""
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        return status


def qualified(group: str, plural: str) -> str:
    """`daemonsets.apps`, or just `pods` in the core group: how messages name a resource or a kind."""
    return f"{plural}.{group}" if group else plural


def _details(group: str, plural: str, name: str) -> Obj:
    details: Obj = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = plural
    return details


def not_found(group: str, plural: str, name: str) -> ApiError:
    """404 for an object."""
    return ApiError(
        404,
        "NotFound",
        f'{qualified(group, plural)} "{name}" not found',
        details=_details(group, plural, name),
    )


def no_such_path() -> ApiError:
    """404 for a path or a resource that the server does not serve."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(group: str, plural: str, name: str) -> ApiError:
    """409 on a create."""
    return ApiError(
        409,
        "AlreadyExists",
        f'{qualified(group, plural)} "{name}" already exists',
        details=_details(group, plural, name),
    )


def conflict(group: str, plural: str, name: str, why: str) -> ApiError:
    """409 on an update or a delete whose precondition does not hold."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}',
        details=_details(group, plural, name),
    )


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def apply_conflict(causes: Sequence[Cause], message: str) -> ApiError:
    """409 of a server-side apply: other managers own the fields."""
    return ApiError(409, "Conflict", message, details={"causes": [cause.render() for cause in causes]})


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object is well formed and not allowed."""
    unique = list(dict.fromkeys(causes))
    lines = [f"{cause.field}: {cause.message}" for cause in unique]
    text = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    details = _details(group, kind, name)
    details["causes"] = [cause.render() for cause in unique]
    return ApiError(422, "Invalid", f'{qualified(group, kind)} "{name}" is invalid: {text}', details=details)


def bad_request(message: str) -> ApiError:
    """400: the request cannot be read."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401: no token, or one that the authenticator does not know."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(message: str, group: str, plural: str, name: str) -> ApiError:
    """403 with the subject of the refusal in its details."""
    return ApiError(403, "Forbidden", message, details=_details(group, plural, name))


def method_not_allowed() -> ApiError:
    """405: the path exists, the verb does not."""
    return ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def expired(message: str) -> ApiError:
    """410: the resourceVersion is older than what the server remembers."""
    return ApiError(410, "Expired", message)


def not_modelled(operation: str) -> ApiError:
    """501: a real API server can do this and the stand-in cannot; it says so by name."""
    return ApiError(
        501, "NotImplemented", f"the sandbox's Kubernetes stand-in does not model this: {operation}"
    )


def required(field: str, detail: str = "") -> Cause:
    """A `Required value` cause."""
    return Cause("FieldValueRequired", "Required value" + (f": {detail}" if detail else ""), field)


def invalid_value(field: str, value: object, detail: str) -> Cause:
    """An `Invalid value` cause; `value` is shown as the real server shows it."""
    return Cause("FieldValueInvalid", f"Invalid value: {show(value)}: {detail}", field)


def unsupported_value(field: str, value: object, supported: Iterable[str]) -> Cause:
    """An `Unsupported value` cause with the values that are."""
    choice = ", ".join(f'"{item}"' for item in supported)
    return Cause(
        "FieldValueNotSupported", f"Unsupported value: {show(value)}: supported values: {choice}", field
    )


def show(value: object) -> str:
    """A value as Go's JSON encoder would write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
