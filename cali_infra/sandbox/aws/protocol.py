"""How a service of AWS is spoken, read from botocore's description of it: routing, reading and writing.

It owns the way from an HTTP request to an operation's name and checked parameters, and from a result or
an error back to HTTP. What an operation does is the services' business. Routing, parsing and writing are
moto's own; the checks are botocore's, with the enumerations that botocore leaves out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cali_infra.sandbox.aws import errors
from cali_infra.sandbox.aws.errors import ServiceError


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@functools.cache
def protocol_of(service: str) -> Protocol:
    """The protocol of a service by botocore's name; raises botocore's UnknownServiceError."""
    return Protocol(service)


class Protocol:
    """One service's protocol."""

    def __init__(self, service: str) -> None:
        from moto.core.routing import get_service_router
        from moto.core.utils import get_service_model

        self.service = service
        self._model = get_service_model(service)
        self._router = get_service_router(service)
        self.name = str(self._model.protocol)
        self._statuses = {
            shape.name: shape.metadata.get("error", {}).get("httpStatusCode", 400)
            for shape in self._model.error_shapes
        }

    @property
    def operations(self) -> frozenset[str]:
        """Every operation that the service has."""
        return frozenset(self._model.operation_names)

    def route(self, request: Any) -> tuple[str, Mapping[str, str]] | None:
        """The operation that a request calls and what its path says; None when it fits none."""
        from werkzeug.exceptions import HTTPException

        try:
            operation, path = self._router.match(request)
        except HTTPException:
            return None
        return str(operation.name), path

    def parameters(self, operation: str, request: Any, path: Mapping[str, str]) -> dict[str, Any]:
        """The call's parameters; raises ServiceError where the service's description is not met."""
        from botocore.validate import ParamValidator
        from moto.core.parse import PROTOCOL_PARSERS

        model = self._model.operation_model(operation)
        if model.input_shape is None:
            return {}
        try:
            parsed: dict[str, Any] = PROTOCOL_PARSERS[self.name](model).parse(
                {
                    "method": request.method,
                    "values": request.values,
                    "headers": request.headers,
                    "body": request.get_data(),
                    "url_path": request.path,
                    "url_params": dict(path),
                }
            )
        except ValueError as problem:
            raise ServiceError("SerializationException", f"the body cannot be read: {problem}") from problem
        report = ParamValidator().validate(parsed, model.input_shape).generate_report()
        problems = [report] if report else []
        problems += _foreign_values(parsed, model.input_shape, "")
        if problems:
            code = next(
                (c for c in ("InvalidParameterException", "ValidationException") if c in self._statuses), ""
            )
            raise ServiceError(code or "ValidationError", "; ".join(problems).replace("\n", "; "))
        return parsed

    def answer(self, operation: str, result: Mapping[str, Any]) -> Reply:
        """Write a result; keys that the operation's output does not have are left out."""
        from moto.core.serialize import get_serializer_class

        model = self._model.operation_model(operation)
        written = get_serializer_class(self.service, self.name)(operation_model=model).serialize(result)
        text = written["body"]
        return Reply(
            written["status_code"],
            {"Content-Type": "application/json", **written["headers"]},
            text if isinstance(text, bytes) else text.encode(),
        )

    def refuse(self, error: ServiceError) -> Reply:
        """Write an error, with the status that the service's description gives its code."""
        content_type, text = errors.body(self.name, error)
        return Reply(
            error.status or self._statuses.get(error.code, 400),
            {"Content-Type": content_type, "x-amzn-ErrorType": error.code},
            text.encode(),
        )


def _foreign_values(value: Any, shape: Any, where: str) -> list[str]:
    """Values that are in no enumeration of the shape; botocore's own check leaves these to the service."""
    if value is None:
        return []
    if shape.type_name == "structure" and isinstance(value, Mapping):
        return [
            problem
            for name, member in shape.members.items()
            for problem in _foreign_values(value.get(name), member, f"{where}.{name}".lstrip("."))
        ]
    if shape.type_name == "list" and isinstance(value, list):
        return [problem for item in value for problem in _foreign_values(item, shape.member, where)]
    allowed = getattr(shape, "enum", None)
    if shape.type_name == "string" and allowed and value not in allowed:
        return [f"value {value!r} at {where!r} must be one of {', '.join(allowed)}"]
    return []
