"""Which resources the API server serves, and how it tells: discovery and OpenAPI v3.

The list of resources comes from kmock's bundled discovery of a real cluster, their structure from
`kubernetes-validate`; a resource is served when both know it. Each resource is served in one version, the
newest, since the stand-in converts nothing.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.resources
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import kmock

from cali_infra.sandbox.kubernetes.errors import Obj, qualified
from cali_infra.sandbox.kubernetes.schemas import Schemas, Shape

# Served elsewhere or not at all: a second version of the same objects, or objects that would have to make
# the server serve something new.
_LEFT_OUT = {
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("events.k8s.io", "v1", "events"),
    ("", "v1", "bindings"),
    ("", "v1", "componentstatuses"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
}
_MODELLED_SUBRESOURCES = ("status", "scale", "log", "eviction", "portforward", "exec")
_REVIEWS = (
    "selfsubjectreviews",
    "selfsubjectaccessreviews",
    "subjectaccessreviews",
    "localsubjectaccessreviews",
    "selfsubjectrulesreviews",
)
# Sent to the end of the preferred order, as the real server has it: core first, then the old groups.
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Resource:
    """One kind of object as it is addressed over HTTP."""

    group: str
    version: str
    plural: str
    kind: str
    singular: str
    namespaced: bool
    verbs: tuple[str, ...]
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    subresources: tuple[str, ...]
    shape: Shape

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`daemonsets.apps`, as messages name it."""
        return qualified(self.group, self.plural)

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources

    @property
    def is_review(self) -> bool:
        """A question that is answered and not stored."""
        return self.plural in _REVIEWS


class Catalogue:
    """The served resources of one Kubernetes version, by path and by kind."""

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        for resource in _resources(schemas):
            self._by_path[resource.group, resource.version, resource.plural] = resource
        self._by_kind = {(item.group, item.kind): item for item in self}
        self._by_plural = {(item.group, item.plural): item for item in self}
        self._openapi: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_path.values())

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource behind a path, or None."""
        return self._by_path.get((group, version, plural))

    def by_kind(self, group: str, kind: str) -> Resource | None:
        """The resource of a kind, or None."""
        return self._by_kind.get((group, kind))

    def named(self, group: str, plural: str) -> Resource:
        """The resource that the stand-in itself relies on; KeyError would be a mistake of ours."""
        return self._by_plural[group, plural]

    def groups(self) -> dict[str, str]:
        """The groups with the version that each is served in, core first."""
        return {item.group: item.version for item in self}

    def api_versions(self) -> Obj:
        """`/api`."""
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}

    def group_list(self) -> Obj:
        """`/apis`."""
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [self._group(group) for group in self.groups() if group],
        }

    def group(self, group: str) -> Obj | None:
        """`/apis/GROUP`."""
        if not group or group not in self.groups():
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(group)}

    def _group(self, group: str) -> Obj:
        version = {"groupVersion": f"{group}/{self.groups()[group]}", "version": self.groups()[group]}
        return {"name": group, "versions": [version], "preferredVersion": version}

    def resource_list(self, group: str, version: str) -> Obj | None:
        """`/api/v1` or `/apis/GROUP/VERSION`."""
        served = [item for item in self if (item.group, item.version) == (group, version)]
        if not served:
            return None
        entries: list[Obj] = []
        for item in served:
            entry: Obj = {
                "name": item.plural,
                "singularName": item.singular,
                "namespaced": item.namespaced,
                "kind": item.kind,
                "verbs": list(item.verbs),
            }
            if item.short_names:
                entry["shortNames"] = list(item.short_names)
            if item.categories:
                entry["categories"] = list(item.categories)
            entries.append(entry)
            entries += [_subresource(item, name) for name in item.subresources]
        group_version = f"{group}/{version}" if group else version
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": entries,
        }

    def aggregated(self, *, core: bool) -> Obj:
        """`/api` or `/apis` in the aggregated form, which spares a client one request per group."""
        items = []
        for group, version in self.groups().items():
            if (group == "") is not core:
                continue
            resources = [_aggregated(item) for item in self if item.group == group]
            items.append(
                {
                    "metadata": {"name": group, "creationTimestamp": None},
                    "versions": [{"version": version, "resources": resources, "freshness": "Current"}],
                }
            )
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items,
        }

    def openapi_index(self) -> Obj:
        """`/openapi/v3`: where each group's document is."""
        paths = {}
        for group, version in self.groups().items():
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(f"{path} {self.schemas.version}".encode()).hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": paths}

    def openapi(self, group: str, version: str) -> bytes | None:
        """One group's OpenAPI v3 document as JSON: the schemas, and that writes take `fieldValidation`."""
        served = [item for item in self if (item.group, item.version) == (group, version)]
        if not served:
            return None
        key = f"{group}/{version}"
        if key not in self._openapi:
            self._openapi[key] = json.dumps(_document(self.schemas, served)).encode()
        return self._openapi[key]


def _resources(schemas: Schemas) -> Iterator[Resource]:
    bundled = kmock.ResourcesArray()
    # What load_bundled() does, without the call in it that Python 3.11 and 3.12 have deprecated.
    bundle = importlib.resources.files("kmock").joinpath("_internal", "resources.json.gz")
    with importlib.resources.as_file(bundle) as path:
        bundled.load_path(path)
    for key in bundled:
        info = bundled[key]
        group, version, plural = key.group or "", key.version or "", key.plural or ""
        shape = schemas.shape_of(group, version, info.kind or "")
        if shape is None or (group, version, plural) in _LEFT_OUT:
            continue
        verbs = tuple(verb for verb in _VERBS if verb in info.verbs)
        subresources = tuple(name for name in _MODELLED_SUBRESOURCES if name in info.subresources)
        yield Resource(
            group,
            version,
            plural,
            info.kind or "",
            info.singular or (info.kind or "").lower(),
            bool(info.namespaced),
            verbs,
            tuple(sorted(info.shortnames)),
            tuple(sorted(info.categories)),
            subresources,
            shape,
        )


_SUBRESOURCE_KINDS: Mapping[str, tuple[str, str, str, tuple[str, ...]]] = {
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "log": ("", "", "", ("get",)),
    "portforward": ("", "v1", "PodPortForwardOptions", ("create", "get")),
    "exec": ("", "v1", "PodExecOptions", ("create", "get")),
}


def _subresource(resource: Resource, name: str) -> Obj:
    group, version, kind, verbs = _SUBRESOURCE_KINDS.get(name, ("", "", "", ("get", "patch", "update")))
    entry: Obj = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": kind or resource.kind,
        "verbs": list(verbs),
    }
    if group:
        entry |= {"group": group, "version": version}
    return entry


def _aggregated(resource: Resource) -> Obj:
    entry: Obj = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = []
        for name in resource.subresources:
            group, version, kind, verbs = _SUBRESOURCE_KINDS.get(
                name, ("", "", "", ("get", "patch", "update"))
            )
            entry["subresources"].append(
                {
                    "subresource": name,
                    "responseKind": {
                        "group": group or resource.group,
                        "version": version or resource.version,
                        "kind": kind or resource.kind,
                    },
                    "verbs": list(verbs),
                }
            )
    return entry


def _document(schemas: Schemas, served: list[Resource]) -> Obj:
    components: dict[str, Any] = {}
    waiting = [schemas.definition_of(item.group, item.version, item.kind) or "" for item in served]
    while waiting:
        name = waiting.pop()
        if name and name not in components:
            components[name] = _openapi_schema(copy.deepcopy(schemas.definitions[name]), waiting)
    paths: dict[str, Any] = {}
    for item in served:
        if item.is_review:
            continue
        root = f"/apis/{item.group}/{item.version}" if item.group else f"/api/{item.version}"
        scope = "/namespaces/{namespace}" if item.namespaced else ""
        gvk = {"group": item.group, "version": item.version, "kind": item.kind}
        parameters = [
            {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
            for name in ("dryRun", "fieldManager", "fieldValidation")
        ]
        for path, action, method in (
            (f"{root}{scope}/{item.plural}", "post", "post"),
            (f"{root}{scope}/{item.plural}/{{name}}", "patch", "patch"),
            (f"{root}{scope}/{item.plural}/{{name}}", "put", "put"),
        ):
            paths.setdefault(path, {})[method] = {
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
                "parameters": parameters,
                "responses": {"200": {"description": "OK"}},
            }
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": f"v{schemas.version}"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _openapi_schema(schema: Any, waiting: list[str]) -> Any:
    """A strict JSON schema turned back into OpenAPI: one type, references below `components`."""
    if isinstance(schema, list):
        return [_openapi_schema(item, waiting) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: Obj = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            name = value.rsplit("/", 1)[-1]
            waiting.append(name)
            result["allOf"] = [{"$ref": f"#/components/schemas/{name}"}]
        elif key == "type" and isinstance(value, list):
            result[key] = next(item for item in value if item != "null")
        elif (key == "additionalProperties" and value is False) or key == "enum":
            continue
        elif key == "properties":
            result[key] = {name: _openapi_schema(item, waiting) for name, item in value.items()}
        else:
            result[key] = _openapi_schema(value, waiting)
    return result
