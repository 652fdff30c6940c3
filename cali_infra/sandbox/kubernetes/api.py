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

import yaml
from aiohttp import web

from cali_infra.sandbox.kubernetes import patches, protobuf
from cali_infra.sandbox.kubernetes.authorization import (
    Action,
    Authorizer,
    User,
    denied,
    service_account_user,
)
from cali_infra.sandbox.kubernetes.catalogue import Catalogue, Resource
from cali_infra.sandbox.kubernetes.errors import (
    ApiError,
    Cause,
    Obj,
    bad_request,
    expired,
    invalid,
    method_not_allowed,
    no_such_path,
    not_modelled,
    unauthorized,
    unsupported_value,
)
from cali_infra.sandbox.kubernetes.faults import CUT, Faults
from cali_infra.sandbox.kubernetes.registry import Clock, Deletion, Options, Registry
from cali_infra.sandbox.kubernetes.selectors import Predicate, field_selector, label_selector
from cali_infra.sandbox.kubernetes.store import Change, Key, Store
from cali_infra.sandbox.kubernetes.tables import table
from cali_infra.sandbox.ports import Authenticator

_log = logging.getLogger(__name__)
_OPEN = ("/healthz", "/livez", "/readyz", "/version")
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
BOOKMARK_SECONDS = 10.0


@dataclass(frozen=True)
class Recorded:
    """One request as a test wants to see it afterwards."""

    method: str
    path: str
    query: Mapping[str, str]
    user: str
    status: int


@dataclass(frozen=True)
class _Target:
    """A path below /api or /apis, taken apart."""

    group: str
    version: str
    namespace: str
    plural: str
    name: str
    subresource: str


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
        self.logs: dict[tuple[str, str, str], str] = {}
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
            if fault is not None:
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
        self.recorded.append(
            Recorded(request.method, request.path, dict(request.query), user, response.status)
        )
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
        target = _target(request.path)
        if target is None:
            action = Action(request.method.lower(), path=request.path)
            self._authorizer.demand(user, action)
            raise no_such_path()
        resource = self._catalogue.find(target.group, target.version, target.plural)
        if resource is None or (target.namespace and not resource.namespaced):
            raise no_such_path()
        query = request.query
        watching = query.get("watch", "").lower() in ("true", "1")
        verb = _verb(request.method, target, watching)
        self._authorizer.demand(
            user,
            Action(verb, target.group, target.plural, target.subresource, target.namespace, target.name),
        )
        if resource.is_review:
            return _json(await self._review(request, resource, target, user), 201)
        if target.subresource and target.subresource not in resource.subresources:
            if target.subresource in (
                "exec",
                "attach",
                "portforward",
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
            return await self._watch(request, resource, target)
        if verb == "list":
            return self._list(request, resource, target)
        if verb == "deletecollection":
            return await self._delete_collection(request, resource, target)
        if target.subresource in ("log", "scale", "eviction"):
            return await self._subresource(request, resource, target, verb)
        return await self._object(request, resource, target, verb)

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
        self, request: web.BaseRequest, resource: Resource, target: _Target, verb: str
    ) -> web.Response:
        key: Key = (target.namespace, target.name)
        if verb == "get":
            return self._rendered(request, resource, self._registry.get(resource, key))
        if verb == "delete":
            deletion = _deletion(request, await _body(request))
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
        options = _options(request)
        status = 200
        if verb == "create":
            if target.name:
                raise method_not_allowed()
            obj, status = (
                self._registry.create(resource, target.namespace, await _body(request), options),
                201,
            )
        elif verb == "update":
            obj = self._registry.replace(resource, key, await _body(request), options, target.subresource)
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
        body = await _body(request)
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
        if _wants_table(request):
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return _json(table(resource.kind, [obj], metadata, self._clock()), status)
        headers = {"Warning": ", ".join(f"299 - {json.dumps(text)}" for text in warnings)} if warnings else {}
        return _json(obj, status, headers)

    def _selected(self, request: web.BaseRequest, resource: Resource, target: _Target) -> Predicate:
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

    def _list(self, request: web.BaseRequest, resource: Resource, target: _Target) -> web.Response:
        selected = self._selected(request, resource, target)
        objects = [obj for obj in self._store.all(resource, target.namespace) if selected(obj)]
        metadata: Obj = {"resourceVersion": str(self._store.version)}
        limit = int(request.query.get("limit") or 0)
        start = _continued(request.query.get("continue", ""))
        if start is not None:
            objects = [obj for obj in objects if _key(obj) > start]
        if limit and len(objects) > limit:
            metadata["remainingItemCount"] = len(objects) - limit
            objects = objects[:limit]
            token = json.dumps({"v": "meta.k8s.io/v1", "start": _key(objects[-1])})
            metadata["continue"] = base64.urlsafe_b64encode(token.encode()).decode()
        if _wants_table(request):
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
        self, request: web.BaseRequest, resource: Resource, target: _Target
    ) -> web.Response:
        deletion = _deletion(request, await _body(request))
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

    async def _watch(
        self, request: web.BaseRequest, resource: Resource, target: _Target
    ) -> web.StreamResponse:
        query = request.query
        selected = self._selected(request, resource, target)
        version = query.get("resourceVersion", "")
        initial = query.get("sendInitialEvents", "").lower() == "true"
        bookmarks = query.get("allowWatchBookmarks", "").lower() in ("true", "1")
        first: list[Obj] = []
        if version in ("", "0") or initial:
            objects = [obj for obj in self._store.all(resource, target.namespace) if selected(obj)]
            first = [{"type": "ADDED", "object": obj} for obj in objects]
            if initial and bookmarks:
                first.append(_bookmark(resource, self._store.version, ends_initial=True))
        else:
            if not version.isdigit():
                raise bad_request(f"Invalid value: {json.dumps(version)}: strconv.ParseUint: invalid syntax")
            try:
                past = self._store.since(resource, int(version))
            except ApiError as error:
                if error.code != 410:
                    raise
                first, past = [{"type": "ERROR", "object": expired(error.message).status()}], []
            first += [event for change in past if (event := _event(change, selected)) is not None]
        queue = self._store.subscribe(resource)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        deadline = asyncio.get_running_loop().time() + float(query.get("timeoutSeconds") or 1800)
        try:
            await response.prepare(request)
            for event in first:
                await response.write(self._line(request, resource, event))
            if first and first[-1]["type"] == "ERROR":
                return response
            await self._follow(request, resource, response, queue, selected, deadline, bookmarks)
        except (ConnectionResetError, asyncio.CancelledError):
            pass
        finally:
            self._store.unsubscribe(resource, queue)
        return response

    async def _follow(
        self,
        request: web.BaseRequest,
        resource: Resource,
        response: web.StreamResponse,
        queue: asyncio.Queue[Change | None],
        selected: Predicate,
        deadline: float,
        bookmarks: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        while (left := deadline - loop.time()) > 0:
            try:
                change = await asyncio.wait_for(queue.get(), min(left, BOOKMARK_SECONDS))
            except TimeoutError:
                if bookmarks:
                    event = _bookmark(resource, self._store.version)
                    await response.write(self._line(request, resource, event))
                continue
            if change is None:
                return
            found = _event(change, selected)
            if found is not None:
                await response.write(self._line(request, resource, found))

    def _line(self, request: web.BaseRequest, resource: Resource, event: Obj) -> bytes:
        if _wants_table(request) and event["type"] not in ("ERROR", "BOOKMARK"):
            metadata = {"resourceVersion": event["object"]["metadata"]["resourceVersion"]}
            shown = table(resource.kind, [event["object"]], metadata, self._clock())
            event = {"type": event["type"], "object": shown}
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    async def _subresource(
        self, request: web.BaseRequest, resource: Resource, target: _Target, verb: str
    ) -> web.Response:
        key: Key = (target.namespace, target.name)
        if target.subresource == "log":
            return self._log(request, resource, key)
        if target.subresource == "eviction":
            if verb != "create":
                raise method_not_allowed()
            self._registry.delete(resource, key, Deletion(dry_run=_options(request).dry_run))
            return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)
        live = self._registry.get(resource, key)
        if verb == "get":
            return _json(_scale(live))
        options, body = _options(request), await _body(request)
        if verb == "patch":
            if request.content_type not in _PATCHES[1:3]:
                raise not_modelled(f"{request.content_type} on {target.plural}/scale")
            body = patches.merge_patch(_scale(live), body)
        replicas = (body.get("spec") or {}).get("replicas", 0) if isinstance(body, dict) else None
        if not isinstance(replicas, int) or replicas < 0:
            raise bad_request("a Scale needs spec.replicas, a number that is not negative")
        version = (body.get("metadata") or {}).get("resourceVersion")
        changed = self._registry.patch(
            resource,
            key,
            lambda obj: {
                **obj,
                "metadata": {**obj["metadata"], **({"resourceVersion": version} if version else {})},
                "spec": {**obj["spec"], "replicas": replicas},
            },
            options,
        )
        return _json(_scale(changed))

    def _log(self, request: web.BaseRequest, resource: Resource, key: Key) -> web.Response:
        pod = self._registry.get(resource, key)
        names = [item["name"] for item in pod["spec"].get("containers", ())]
        container = request.query.get("container", "")
        if not container:
            if len(names) > 1:
                raise bad_request(
                    f"a container name must be specified for pod {key[1]}, choose one of: [{' '.join(names)}]"
                )
            container = names[0]
        initial = [item["name"] for item in pod["spec"].get("initContainers", ())]
        if container not in (*names, *initial):
            raise bad_request(f"container {container} is not valid for pod {key[1]}")
        for item in pod.get("status", {}).get("containerStatuses", ()):
            waiting = item.get("state", {}).get("waiting")
            if item["name"] == container and waiting and waiting.get("reason") != "CrashLoopBackOff":
                raise bad_request(
                    f'container "{container}" in pod "{key[1]}" is waiting to start: {waiting["reason"]}'
                )
        text = self.logs.get((key[0], key[1], container), "")
        if lines := request.query.get("tailLines"):
            kept = text.splitlines(keepends=True)
            text = "".join(kept[len(kept) - min(int(lines), len(kept)) :])
        return web.Response(text=text, content_type="text/plain")

    async def _review(self, request: web.BaseRequest, resource: Resource, target: _Target, user: User) -> Obj:
        body = await _body(request)
        review: Obj = dict(body) if isinstance(body, dict) else {}
        review |= {"apiVersion": resource.api_version, "kind": resource.kind}
        review["metadata"] = {"creationTimestamp": None, **(review.get("metadata") or {})}
        spec = review.get("spec") or {}
        if resource.plural == "selfsubjectreviews":
            info: Obj = {"username": user.name, "groups": list(user.groups)}
            if user.arn:
                info["extra"] = {"arn": [user.arn], "canonicalArn": [user.arn]}
            review["status"] = {"userInfo": info}
        elif resource.plural == "selfsubjectrulesreviews":
            rules = self._authorizer.rules_for(user, spec.get("namespace", ""))
            review["status"] = {
                "resourceRules": [rule for rule in rules if "resources" in rule],
                "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
                "incomplete": False,
            }
        else:
            if resource.plural != "selfsubjectaccessreviews":
                user = service_account_user(spec.get("user", ""))
                if spec.get("groups"):
                    user = replace(user, groups=tuple(spec["groups"]))
            review["status"] = self._judgement(user, spec, target.namespace)
        return review

    def _judgement(self, user: User, spec: Obj, namespace: str) -> Obj:
        attributes = spec.get("resourceAttributes")
        if attributes is None:
            path = spec.get("nonResourceAttributes") or {}
            if not path:
                raise bad_request(
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified"
                )
            action = Action(path.get("verb", ""), path=path.get("path", ""))
        else:
            action = Action(
                attributes.get("verb", ""),
                attributes.get("group", ""),
                attributes.get("resource", ""),
                attributes.get("subresource", ""),
                attributes.get("namespace", namespace),
                attributes.get("name", ""),
            )
        if self._authorizer.allows(user, action):
            return {"allowed": True}
        return {"allowed": False, "reason": denied(user, action).message}


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


def _target(path: str) -> _Target | None:
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
    return _Target(group, version, namespace, plural, name, subresource)


def _verb(method: str, target: _Target, watching: bool) -> str:
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


async def _body(request: web.BaseRequest) -> Any:
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


def _options(request: web.BaseRequest) -> Options:
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


def _deletion(request: web.BaseRequest, body: Any) -> Deletion:
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


def _wants_table(request: web.BaseRequest) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _key(obj: Obj) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _continued(token: str) -> Key | None:
    if not token:
        return None
    try:
        start = json.loads(base64.urlsafe_b64decode(token))["start"]
        return str(start[0]), str(start[1])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise bad_request("continue key is not valid") from error


def _event(change: Change, selected: Predicate) -> Obj | None:
    """What a watcher with this selector sees of a change: objects may move into and out of its view."""
    now = change.kind != "DELETED" and selected(change.obj)
    was = change.before is not None and selected(change.before)
    if now:
        return {"type": "MODIFIED" if was else "ADDED", "object": change.obj}
    return {"type": "DELETED", "object": change.obj} if was else None


def _bookmark(resource: Resource, version: int, *, ends_initial: bool = False) -> Obj:
    metadata: Obj = {"resourceVersion": str(version), "creationTimestamp": None}
    if ends_initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return {"type": "BOOKMARK", "object": obj}


def _scale(obj: Obj) -> Obj:
    selector = obj.get("spec", {}).get("selector") or {}
    labels = selector.get("matchLabels") or {}
    metadata = {
        key: obj["metadata"][key]
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if key in obj["metadata"]
    }
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": obj.get("spec", {}).get("replicas", 0)},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }
