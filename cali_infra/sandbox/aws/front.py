"""The front of the stand-in: one WSGI application that looks at each request before anybody else.

It owns who may call at all (an access key that IAM knows), which of the services answers, the errors made
on purpose, and that a mistake inside the stand-in is a 400: on a 500 Terraform's provider would try again
for ten minutes.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from cali_infra.sandbox.aws import controls, errors
from cali_infra.sandbox.aws.calls import Call, Result
from cali_infra.sandbox.aws.controls import Controls
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.identity import AccessKey, Identities
from cali_infra.sandbox.aws.protocol import Reply, protocol_of

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
_log = logging.getLogger(__name__)
_SCOPE = re.compile(r"Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
# What each protocol's services say of credentials that they do not know.
_UNKNOWN_KEY = {
    "ec2": ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
    "s3": ("InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records."),
    "iam": ("InvalidClientTokenId", 403, "The security token included in the request is invalid."),
    "sts": ("InvalidClientTokenId", 403, "The security token included in the request is invalid."),
}
_UNKNOWN_KEY_DEFAULT = (
    "UnrecognizedClientException",
    403,
    "The security token included in the request is invalid.",
)


@dataclass(frozen=True)
class Signed:
    """What a request's signature says of it: the access key's id, and where it is meant to go."""

    key: str
    region: str
    service: str


class Front:
    """The WSGI application."""

    def __init__(
        self,
        services: Mapping[str, tuple[str, Callable[[Call], Result]]],
        *,
        gates: Mapping[tuple[str, str], Callable[[Call], Result | None]],
        behind: Callable[[Environ, StartResponse], Iterable[bytes]],
        turn: threading.Lock,
        identities: Identities,
        switches: Controls,
    ) -> None:
        """`services` maps a name in signatures to botocore's name and to what answers; moto is `behind`.

        `gates` maps a service and an operation of moto's to what may refuse the call, or answer it in moto's
        place; whoever calls moto holds `turn`.
        """
        self._services = services
        self._gates = gates
        self._behind = behind
        self._turn = turn
        self._identities = identities
        self._controls = switches

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = str(environ.get("PATH_INFO", "/"))
        if path.startswith(controls.PREFIX):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status, text = self._controls.serve(environ["REQUEST_METHOD"], path, body)
            return _send(Reply(status, {"Content-Type": "application/json"}, text), start_response)
        signed = _signed(environ)
        own = self._services.get(signed.service) if signed else None
        try:
            if signed is None:
                raise ServiceError("MissingAuthenticationToken", "the request is not signed", status=403)
            key = self._identities.access_key(signed.key)
            if key is None:
                code, status, message = _UNKNOWN_KEY.get(signed.service, _UNKNOWN_KEY_DEFAULT)
                raise ServiceError(code, message, status=status)
            if own is not None:
                return _send(self._answer(own[0], own[1], environ, signed, key), start_response)
            operation = _operation(signed.service, environ)
            self._controls.called(signed.service, operation)
            gate = self._gates.get((signed.service, operation))
            result = gate(_read(operation, environ, signed, key)) if gate is not None else None
            if result is not None:
                return _send(protocol_of(signed.service).answer(operation, result), start_response)
            return self._pass_on(environ, start_response)
        except ServiceError as error:
            return _send(_refuse(signed, own, environ, error), start_response)
        except NotImplementedError as problem:
            gap = ServiceError(errors.NOT_MODELLED, f"the sandbox does not model this: {problem}")
            return _send(_refuse(signed, own, environ, gap), start_response)
        except Exception as problem:
            _log.exception("the AWS stand-in failed at %s %s", environ["REQUEST_METHOD"], path)
            failure = ServiceError(errors.FAILED, f"the AWS stand-in failed: {problem!r}")
            return _send(_refuse(signed, own, environ, failure), start_response)

    def _answer(
        self, name: str, answer: Callable[[Call], Result], environ: Environ, signed: Signed, key: AccessKey
    ) -> Reply:
        """Answer a request of a service that is modelled here."""
        from moto.core.request import Request

        protocol = protocol_of(name)
        request = Request(environ)
        routed = protocol.route(request)
        if routed is None:
            raise ServiceError(
                errors.NOT_MODELLED, f"the sandbox does not model {request.method} {request.path} ({name})"
            )
        operation, path = routed
        self._controls.called(name, operation)
        parameters = protocol.parameters(operation, request, path)
        result = answer(Call(operation, parameters, signed.region, key.principal))
        return protocol.answer(operation, result)

    def _pass_on(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Let moto answer, and make its failures 400."""
        answer: list[Any] = []

        def keep(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], None]:
            answer[:] = [status, headers]
            return lambda data: None

        with self._turn:
            chunks = self._behind(environ, keep)
            try:
                body = b"".join(chunks)
            finally:
                close = getattr(chunks, "close", None)
                if close is not None:
                    close()
        status, headers = answer
        if status.startswith("5"):
            raise ServiceError(
                errors.FAILED, f"moto answered {status}: {body[:500].decode(errors='replace')}"
            )
        if status.startswith("404") and not body and environ["REQUEST_METHOD"] != "HEAD":
            raise NotImplementedError(f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO')}")
        start_response(status, headers)
        return [body]


def _signed(environ: Environ) -> Signed | None:
    """What the signature says, in the header or, presigned, in the query."""
    text = str(environ.get("HTTP_AUTHORIZATION", ""))
    if not text:
        query = parse_qs(str(environ.get("QUERY_STRING", "")))
        text = "Credential=" + unquote(query.get("X-Amz-Credential", [""])[0])
    match = _SCOPE.search(text)
    return Signed(match["key"], match["region"], match["service"].lower()) if match else None


def _operation(service: str, environ: Environ) -> str:
    """The operation that a request to one of moto's services calls, "?" when its path alone tells."""
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        return target.rsplit(".", 1)[-1]
    if str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        text = _body(environ).decode(errors="replace")
        return str(parse_qs(text).get("Action", ["?"])[0])
    if service == "sts":
        return str(parse_qs(str(environ.get("QUERY_STRING", ""))).get("Action", ["?"])[0])
    if service == "s3":
        from moto.core.request import Request

        routed = protocol_of("s3").route(Request(environ))
        return routed[0] if routed else "?"
    return "?"


def _body(environ: Environ) -> bytes:
    """The body of a request, which can be read again afterwards."""
    body = bytes(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _read(operation: str, environ: Environ, signed: Signed, key: AccessKey) -> Call:
    """The call that a request to one of moto's services is; moto reads it again."""
    from moto.core.request import Request

    copy = {**environ, "wsgi.input": io.BytesIO(_body(environ))}
    parameters = protocol_of(signed.service).parameters(operation, Request(copy), {})
    return Call(operation, parameters, signed.region, key.principal)


def _refuse(
    signed: Signed | None,
    own: tuple[str, Callable[[Call], Result]] | None,
    environ: Environ,
    error: ServiceError,
) -> Reply:
    if own is not None:
        return protocol_of(own[0]).refuse(error)
    content_type, text = errors.body(_protocol_name(signed, environ), error)
    return Reply(
        error.status or 400, {"Content-Type": content_type, "x-amzn-ErrorType": error.code}, text.encode()
    )


def _protocol_name(signed: Signed | None, environ: Environ) -> str:
    if signed is not None and signed.service in ("ec2", "s3"):
        return {"ec2": "ec2", "s3": "rest-xml"}[signed.service]
    if str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        return "query"
    return "json"


def _send(reply: Reply, start_response: StartResponse) -> Iterable[bytes]:
    from http import HTTPStatus

    try:
        reason = HTTPStatus(reply.status).phrase
    except ValueError:
        reason = "Unknown"
    headers = {**reply.headers, "Content-Length": str(len(reply.body)), "x-amzn-RequestId": "sandbox"}
    start_response(f"{reply.status} {reason}", list(headers.items()))
    return [reply.body]
