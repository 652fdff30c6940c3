"""The API server's HTTP side: paths, verbs, content types, watches, tables and subresources.

One `ApiServer` serves one cluster. It decides what is asked and by whom, has it judged by `authorization`
and done by `registry`, and writes the answer. Whatever a real server could do here and this one cannot is
answered 501 with the operation's name.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from cali_infra.sandbox.faults import CUT, LOST, Faults
from cali_infra.sandbox.kubernetes import (
    executing,
    patches,
    portforward,
    requests,
    reviews,
    subresources,
)
from cali_infra.sandbox.kubernetes.authorization import (
    Action,
    Authorizer,
    User,
    service_account_user,
)
from cali_infra.sandbox.kubernetes.catalogue import Catalogue, Resource
from cali_infra.sandbox.kubernetes.errors import (
    ApiError,
    Cause,
    Obj,
    invalid,
    method_not_allowed,
    no_such_path,
    not_modelled,
    unauthorized,
)
from cali_infra.sandbox.kubernetes.logs import Logs
from cali_infra.sandbox.kubernetes.registry import Clock, Options, Registry
from cali_infra.sandbox.kubernetes.requests import Target
from cali_infra.sandbox.kubernetes.selectors import Predicate, field_selector, label_selector
from cali_infra.sandbox.kubernetes.store import Key, Store
from cali_infra.sandbox.kubernetes.tables import table
from cali_infra.sandbox.kubernetes.watches import Watch
from cali_infra.sandbox.ports import Authenticator
from cali_infra.sandbox.serving import half_answer

_log = logging.getLogger(__name__)
_OPEN = ("/healthz", "/livez", "/readyz", "/version")
# Recorded when it is opened, not when it has come to its end.
_UPGRADED = 101
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Pod": (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
    "Event": (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
        "reportingComponent", "source", "type",
    ),
    "Secret": ("type",),
    "Namespace": ("status.phase",),
    "Node": ("spec.unschedulable",),
    "Job": ("status.successful",),
    "ReplicaSet": ("status.replicas",),
    "Service": ("spec.clusterIP", "spec.type"),
    "CertificateSigningRequest": ("spec.signerName",),
}  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """One request as a test wants to see it afterwards."""

    method: str
    path: str
    query: Mapping[str, str]
    user: str
    status: int


class ApiServer:
    """Answers the requests to one cluster. Runs in one event loop only."""

    def __init__(
        self,
        name: str,
        version: str,
        *,
        store: Store,
        catalogue: Catalogue,
        registry: Registry,
        authorizer: Authorizer,
        authenticator: Authenticator,
        faults: Faults,
        clock: Clock,
    ) -> None:
        self.name = name
        self.version = version
        self.recorded: deque[Recorded] = deque(maxlen=5000)
        self.logs = Logs()
        self.ports: dict[tuple[str, str, int], tuple[str, int]] = {}
        self.containers: dict[tuple[str, str, str], executing.Surroundings] = {}
        self._store = store
        self._catalogue = catalogue
        self._registry = registry
        self._authorizer = authorizer
        self._authenticator = authenticator
        self._faults = faults
        self._clock = clock

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request; every failure becomes a Status object."""
        user = ""
        response: web.StreamResponse
        try:
            fault = self._faults.take(request.method, request.path)
            if fault is not None and fault[0] != LOST:
                return _troubled(request, *fault)
            path = request.path.rstrip("/")
            if path in _OPEN or path.startswith(("/livez/", "/readyz/")):
                response = self._open(request)
            else:
                who = await self._authenticate(request)
                user = who.name
                response = await self._dispatch(request, who)
        except ApiError as error:
            response = _json(error.status(), error.code, error.headers)
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except Exception as error:  # the boundary: a client must get a Status, whatever broke
            _log.exception("%s %s", request.method, request.path)
            status = ApiError(500, "InternalError", f"the sandbox's Kubernetes stand-in failed: {error!r}")
            response = _json(status.status(), 500)
        if response.status != _UPGRADED:
            self.recorded.append(
                Recorded(request.method, request.path, dict(request.query), user, response.status)
            )
        if fault is not None and isinstance(response, web.Response):
            return await half_answer(request, response)
        return response

    def _open(self, request: web.BaseRequest) -> web.Response:
        if request.path.rstrip("/") != "/version":
            return web.Response(text="ok")
        major, minor, *_ = self.version.lstrip("v").split(".")
        return _json(
            {
                "major": major,
                "minor": minor,
                "gitVersion": self.version,
                "gitCommit": "",
                "gitTreeState": "clean",
                "buildDate": "2025-12-17T00:00:00Z",
                "goVersion": "go1.25.5",
                "compiler": "gc",
                "platform": "linux/amd64",
            }
        )

    async def _authenticate(self, request: web.BaseRequest) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized()
        # In a thread: the authenticator may wait for a lock that the caller of ClusterHost.create holds.
        caller = await asyncio.to_thread(self._authenticator, self.name, token.strip())
        if caller is None:
            raise unauthorized()
        groups = tuple(dict.fromkeys((*caller.groups, "system:authenticated")))
        user = User(caller.username, groups, caller.policies, caller.arn, caller.is_admin)
        impersonated = request.headers.get("Impersonate-User")
        if impersonated is None:
            return user
        self._authorizer.demand(user, Action("impersonate", "", "users", name=impersonated))
        other = service_account_user(impersonated)
        asked = tuple(request.headers.getall("Impersonate-Group", ()))
        return replace(other, groups=(*asked, "system:authenticated")) if asked else other

    async def _dispatch(self, request: web.BaseRequest, user: User) -> web.StreamResponse:
        document = self._discovery(request)
        if document is not None:
            return document
        target = requests.target(request.path)
        if target is None:
            action = Action(request.method.lower(), path=request.path)
            self._authorizer.demand(user, action)
            raise no_such_path()
        resource = self._catalogue.find(target.group, target.version, target.plural)
        if resource is None or (target.namespace and not resource.namespaced):
            raise no_such_path()
        query = request.query
        watching = query.get("watch", "").lower() in ("true", "1")
        verb = requests.verb(request.method, target, watching)
        self._authorizer.demand(
            user,
            Action(verb, target.group, target.plural, target.subresource, target.namespace, target.name),
        )
        if resource.is_review:
            return _json(
                reviews.answer(
                    self._authorizer, resource, await requests.body(request), target.namespace, user
                ),
                201,
            )
        if target.subresource and target.subresource not in resource.subresources:
            if target.subresource in (
                "attach",
                "proxy",
                "ephemeralcontainers",
                "binding",
                "resize",
                "token",
                "finalize",
                "approval",
            ):
                raise not_modelled(f"{target.plural}/{target.subresource}")
            raise no_such_path()
        if verb not in (*resource.verbs, "get", "patch", "update") and not target.subresource:
            raise method_not_allowed()
        if verb == "watch":
            selected = self._selected(request, resource, target)
            return await Watch(request, self._store, resource, selected, self._clock).run(target.namespace)
        if verb == "list":
            return self._list(request, resource, target)
        if verb == "deletecollection":
            return await self._delete_collection(request, resource, target)
        if target.subresource == "log":
            pod = self._registry.get(resource, (target.namespace, target.name))
            text = subresources.log(request, pod, self.logs)
            return web.Response(text=text, content_type="text/plain")
        if target.subresource == "portforward":
            return await self._forward(request, resource, target, user)
        if target.subresource == "exec":
            return await self._execute(request, resource, target, user)
        if target.subresource == "scale":
            return _json(await subresources.scale(request, self._registry, resource, target))
        if target.subresource == "eviction":
            return _json(await subresources.evict(request, self._registry, resource, target), 201)
        return await self._object(request, resource, target, verb)

    async def _forward(
        self, request: web.BaseRequest, resource: Resource, target: Target, user: User
    ) -> web.StreamResponse:
        if request.method not in ("GET", "POST"):
            raise method_not_allowed()
        if self._compound:
            action = Action("create", "", target.plural, target.subresource, target.namespace, target.name)
            self._authorizer.demand(user, action)
        pod = self._registry.get(resource, (target.namespace, target.name))
        opened = Recorded(request.method, request.path, dict(request.query), user.name, _UPGRADED)
        return await portforward.serve(request, pod, self.ports, lambda: self.recorded.append(opened))

    @property
    def _compound(self) -> bool:
        """Whether a WebSocket, which is a GET, needs the verb `create` too: from Kubernetes 1.35 on.

        Source: the feature gate AuthorizePodWebsocketUpgradeCreatePermission.
        """
        major, minor, *_ = self.version.lstrip("v").split(".")
        return (int(major), int(minor)) >= (1, 35)

    async def _execute(
        self, request: web.BaseRequest, resource: Resource, target: Target, user: User
    ) -> web.StreamResponse:
        if self._compound:
            action = Action("create", "", target.plural, target.subresource, target.namespace, target.name)
            self._authorizer.demand(user, action)
        pod = self._registry.get(resource, (target.namespace, target.name))
        return await executing.serve(request, pod, self.containers)

    def _discovery(self, request: web.BaseRequest) -> web.Response | None:
        if request.method != "GET":
            return None
        path = request.path.rstrip("/")
        if path in ("/api", "/apis"):
            if (
                "as=APIGroupDiscoveryList" in request.headers.get("Accept", "")
                and "v=v2" in request.headers["Accept"]
            ):
                kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                return _json(self._catalogue.aggregated(core=path == "/api"), content_type=kind)
            return _json(self._catalogue.api_versions() if path == "/api" else self._catalogue.group_list())
        if path == "/openapi/v3":
            return _json(self._catalogue.openapi_index())
        if path == "/openapi/v2":
            # kubectl looks here for a kind that version 3 does not have, before it says that there is no
            # such kind. An empty document (swagger "2.0", in protobuf) is the answer: version 3 has all.
            kind = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
            return web.Response(body=b"\x0a\x032.0", headers={"Content-Type": kind})
        parts = path.split("/")[1:]
        if parts[:2] == ["openapi", "v3"]:
            parts = parts[2:]
            if len(parts) not in (2, 3):
                raise no_such_path()
            body = self._catalogue.openapi(parts[1] if len(parts) == 3 else "", parts[-1])
            if body is None:
                raise no_such_path()
            return web.Response(body=body, content_type="application/json")
        document: Obj | None = None
        if len(parts) == 2 and parts[0] == "api":
            document = self._catalogue.resource_list("", parts[1])
        elif len(parts) == 2 and parts[0] == "apis":
            document = self._catalogue.group(parts[1])
        elif len(parts) == 3 and parts[0] == "apis":
            document = self._catalogue.resource_list(parts[1], parts[2])
        else:
            return None
        if document is None:
            raise no_such_path()
        return _json(document)

    async def _object(
        self, request: web.BaseRequest, resource: Resource, target: Target, verb: str
    ) -> web.Response:
        key: Key = (target.namespace, target.name)
        if verb == "get":
            return self._rendered(request, resource, self._registry.get(resource, key))
        if verb == "delete":
            deletion = requests.deletion(request, await requests.body(request))
            last, gone = self._registry.delete(resource, key, deletion)
            if not gone or resource.kind == "Pod":
                return _json(last)
            details = {"name": key[1], "kind": resource.plural, "uid": last["metadata"]["uid"]}
            if resource.group:
                details["group"] = resource.group
            return _json(
                {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Success",
                    "details": details,
                }
            )
        options = requests.options(request)
        status = 200
        if verb == "create":
            if target.name:
                raise method_not_allowed()
            obj, status = (
                self._registry.create(resource, target.namespace, await requests.body(request), options),
                201,
            )
        elif verb == "update":
            obj = self._registry.replace(
                resource, key, await requests.body(request), options, target.subresource
            )
        else:
            obj, status = await self._patched(request, resource, key, options, target.subresource)
        return self._rendered(request, resource, obj, status, options.warnings)

    async def _patched(
        self, request: web.BaseRequest, resource: Resource, key: Key, options: Options, subresource: str
    ) -> tuple[Obj, int]:
        kind = request.content_type
        if kind not in _PATCHES:
            raise ApiError(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join(_PATCHES),
            )
        body = await requests.body(request)
        if kind == "application/apply-patch+yaml":
            if not request.query.get("fieldManager"):
                cause = Cause(
                    "FieldValueRequired", "Required value: is required for apply patch", "fieldManager"
                )
                raise invalid("meta.k8s.io", "PatchOptions", "", [cause])
            obj, new = self._registry.apply(resource, key, body, options, subresource)
            return obj, 201 if new else 200

        def change(live: Obj) -> Any:
            if kind == "application/json-patch+json":
                return patches.json_patch(live, body)
            if kind == "application/merge-patch+json":
                return patches.merge_patch(live, body)
            return patches.strategic_merge(resource.shape, live, body)

        return self._registry.patch(resource, key, change, options, subresource), 200

    def _rendered(
        self,
        request: web.BaseRequest,
        resource: Resource,
        obj: Obj,
        status: int = 200,
        warnings: list[str] | None = None,
    ) -> web.Response:
        if requests.wants_table(request):
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return _json(table(resource.kind, [obj], metadata, self._clock()), status)
        headers = {"Warning": ", ".join(f"299 - {json.dumps(text)}" for text in warnings)} if warnings else {}
        return _json(obj, status, headers)

    def _selected(self, request: web.BaseRequest, resource: Resource, target: Target) -> Predicate:
        tests: list[Predicate] = []
        if text := request.query.get("labelSelector"):
            tests.append(label_selector(text))
        if text := request.query.get("fieldSelector"):
            supported = ("metadata.name", "metadata.namespace", *_FIELDS.get(resource.kind, ()))
            tests.append(field_selector(text, supported))
        if target.namespace:
            tests.append(lambda obj: obj["metadata"].get("namespace") == target.namespace)
        if target.name:
            tests.append(lambda obj: obj["metadata"]["name"] == target.name)
        return lambda obj: all(test(obj) for test in tests)

    def _list(self, request: web.BaseRequest, resource: Resource, target: Target) -> web.Response:
        selected = self._selected(request, resource, target)
        objects = [obj for obj in self._store.all(resource, target.namespace) if selected(obj)]
        metadata: Obj = {"resourceVersion": str(self._store.version)}
        limit = int(request.query.get("limit") or 0)
        start = requests.continued(request.query.get("continue", ""))
        if start is not None:
            objects = [obj for obj in objects if _key(obj) > start]
        if limit and len(objects) > limit:
            metadata["remainingItemCount"] = len(objects) - limit
            objects = objects[:limit]
            token = json.dumps({"v": "meta.k8s.io/v1", "start": _key(objects[-1])})
            metadata["continue"] = base64.urlsafe_b64encode(token.encode()).decode()
        if requests.wants_table(request):
            return _json(table(resource.kind, objects, metadata, self._clock()))
        # As on a real server, the items of a list of a built-in kind do not repeat what they are.
        items = [
            {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")} for obj in objects
        ]
        return _json(
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": metadata,
                "items": items,
            }
        )

    async def _delete_collection(
        self, request: web.BaseRequest, resource: Resource, target: Target
    ) -> web.Response:
        deletion = requests.deletion(request, await requests.body(request))
        selected = self._selected(request, resource, target)
        items = []
        for obj in self._store.all(resource, target.namespace):
            if selected(obj):
                items.append(self._registry.delete(resource, _key(obj), deletion)[0])
        return _json(
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": str(self._store.version)},
                "items": items,
            }
        )


def _json(
    body: Obj,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> web.Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return web.Response(body=text, status=status, headers={**(headers or {}), "Content-Type": content_type})


def _troubled(request: web.BaseRequest, status: int, retry_after: int) -> web.Response:
    if status == CUT:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)
    reasons = {429: "TooManyRequests", 503: "ServiceUnavailable", 500: "InternalError", 504: "Timeout"}
    messages = {
        429: "Too many requests, please try again later.",
        503: "the server is currently unable to handle the request",
    }
    error = ApiError(
        status, reasons.get(status, ""), messages.get(status, f"the sandbox was told to answer {status}")
    )
    headers = {"Retry-After": str(retry_after)} if status in (429, 503) else {}
    return _json(error.status(), status, headers)


def _key(obj: Obj) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
