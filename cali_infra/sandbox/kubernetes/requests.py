"""A request to the API server, read: its path taken apart, its body decoded, its options checked."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from cali_infra.sandbox.kubernetes import protobuf
from cali_infra.sandbox.kubernetes.errors import (
    ApiError,
    Obj,
    bad_request,
    invalid,
    method_not_allowed,
    not_modelled,
    unsupported_value,
)
from cali_infra.sandbox.kubernetes.registry import Deletion, Options
from cali_infra.sandbox.kubernetes.store import Key


@dataclass(frozen=True)
class Target:
    """A path below /api or /apis, taken apart."""

    group: str
    version: str
    namespace: str
    plural: str
    name: str
    subresource: str


def target(path: str) -> Target | None:
    """A path below /api or /apis, or None for another. Raises ApiError 501."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    if rest[0] == "watch":
        raise not_modelled("the deprecated watch paths (use ?watch=true)")
    namespace = ""
    # `namespaces/NAME` and its subresources are the namespace itself; anything longer is inside of it.
    if (
        rest[0] == "namespaces"
        and len(rest) > 2
        and not (len(rest) == 3 and rest[2] in ("status", "finalize"))
    ):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        raise not_modelled("/".join(parts))
    plural, name, subresource = (*rest, "", "")[:3]
    return Target(group, version, namespace, plural, name, subresource)


def verb(method: str, target: Target, watching: bool) -> str:
    """The verb that the authorizer and the audit log know. Raises ApiError 405."""
    if method in ("GET", "HEAD"):
        if watching:
            return "watch"
        return "get" if target.name else "list"
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch"}
    if method in verbs:
        return verbs[method]
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    raise method_not_allowed()


async def body(request: web.BaseRequest) -> Any:
    """The request's body as plain data; JSON or YAML, None when there is none."""
    raw = await request.read()
    if not raw:
        return None
    if request.content_type == "application/vnd.kubernetes.protobuf":
        return protobuf.decode(raw)
    if "cbor" in request.content_type:
        raise ApiError(
            415, "UnsupportedMediaType", f"{request.content_type} is not read here; send application/json"
        )
    try:
        return json.loads(raw)
    except ValueError as error:
        if "yaml" not in request.content_type:
            raise bad_request(f"the object provided is unrecognized: {error}") from error
    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise bad_request(f"error decoding YAML: {error}") from error


def _dry_run(values: list[str], kind: str) -> bool:
    for value in values:
        if value != "All":
            cause = unsupported_value("dryRun", [value], ["All"])
            raise invalid("meta.k8s.io", kind, "", [cause])
    return bool(values)


def options(request: web.BaseRequest) -> Options:
    """How a write is to be made. Raises ApiError 422."""
    query = request.query
    agent = request.headers.get("User-Agent", "").split("/")[0]
    directive = query.get("fieldValidation") or "Warn"
    if directive not in ("Strict", "Warn", "Ignore"):
        cause = unsupported_value("fieldValidation", directive, ["Ignore", "Strict", "Warn"])
        raise invalid("meta.k8s.io", "PatchOptions", "", [cause])
    return Options(
        manager=query.get("fieldManager") or agent or "unknown",
        dry_run=_dry_run(query.getall("dryRun", []), "PatchOptions"),
        validation=directive,
        force=query.get("force", "").lower() == "true",
    )


def deletion(request: web.BaseRequest, body: Any) -> Deletion:
    """How an object is to be deleted. Raises ApiError 422."""
    options: Obj = body if isinstance(body, dict) else {}
    query = request.query
    policy = options.get("propagationPolicy") or query.get("propagationPolicy") or "Background"
    if policy not in ("Background", "Foreground", "Orphan"):
        cause = unsupported_value("propagationPolicy", policy, ["Foreground", "Background", "Orphan"])
        raise invalid("meta.k8s.io", "DeleteOptions", "", [cause])
    if options.get("orphanDependents") or query.get("orphanDependents", "").lower() == "true":
        policy = "Orphan"
    preconditions = options.get("preconditions") or {}
    return Deletion(
        policy=policy,
        uid=preconditions.get("uid", ""),
        resource_version=preconditions.get("resourceVersion", ""),
        dry_run=_dry_run(options.get("dryRun") or list(query.getall("dryRun", [])), "DeleteOptions"),
    )


def wants_table(request: web.BaseRequest) -> bool:
    """True for `kubectl get`, which lets the server print."""
    return "as=Table" in request.headers.get("Accept", "")


def continued(token: str) -> Key | None:
    """The key after which the next page of a list begins. Raises ApiError 400."""
    if not token:
        return None
    try:
        start = json.loads(base64.urlsafe_b64decode(token))["start"]
        return str(start[0]), str(start[1])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise bad_request("continue key is not valid") from error
