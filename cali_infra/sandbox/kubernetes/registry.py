"""Reading and writing objects as the API server does: what a request means, once it may be made.

It owns the order of the steps (decode, default, own, validate, store), preconditions, dry runs, deletion
and finalizers. Who may call is decided before, HTTP is spoken above, and what happens afterwards by itself
is the controllers' (`controllers.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cali_infra.sandbox.kubernetes import fieldsets, managers, pod_security, schemas, validation
from cali_infra.sandbox.kubernetes.catalogue import Catalogue, Resource
from cali_infra.sandbox.kubernetes.defaults import POD_TEMPLATES, with_defaults
from cali_infra.sandbox.kubernetes.errors import (
    MODIFIED,
    ApiError,
    Cause,
    Obj,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    not_modelled,
)
from cali_infra.sandbox.kubernetes.managers import Manager, Owners
from cali_infra.sandbox.kubernetes.store import Key, Store

Clock = Callable[[], datetime]
FOREGROUND = "foregroundDeletion"
# Kinds whose `generation` counts the changes of what is asked for.
_WITH_GENERATION = frozenset(
    (
        "daemonsets", "deployments", "replicasets", "statefulsets", "jobs", "cronjobs", "pods",
        "poddisruptionbudgets", "ingresses", "networkpolicies", "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations", "validatingadmissionpolicies",
        "validatingadmissionpolicybindings", "flowschemas", "prioritylevelconfigurations", "priorityclasses",
    )
)  # fmt: skip
_SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public")


@dataclass
class Options:
    """How a write is to be made. `warnings` collects what the client should be told besides the result."""

    manager: str = "unknown"
    dry_run: bool = False
    validation: str = "Warn"
    force: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Deletion:
    """How an object is to be deleted; `policy` is Background, Foreground or Orphan."""

    policy: str = "Background"
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


class Registry:
    """The objects of one cluster, and the rules by which they are written."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self.store = store
        self.catalogue = catalogue
        self._clock = clock
        self._new_id = new_id
        self._addresses = 10

    def now(self) -> str:
        """The present as the API writes it."""
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def get(self, resource: Resource, key: Key) -> Obj:
        """The object. Raises ApiError 404."""
        obj = self.store.get(resource, key)
        if obj is None:
            raise not_found(resource.group, resource.plural, key[1])
        return obj

    def create(self, resource: Resource, namespace: str, body: Any, options: Options) -> Obj:
        """Stores a new object and returns it. Raises ApiError 400, 403, 404 (namespace), 409 or 422."""
        obj = self._decoded(resource, body, options)
        obj = self._addressed(resource, obj, namespace)
        self._namespace_takes(resource, namespace, obj)
        metadata = obj["metadata"]
        name = metadata.get("name")
        if not name and metadata.get("generateName"):
            name = f"{metadata['generateName']}{self._new_id().hex[:5]}"
            obj = {**obj, "metadata": {**metadata, "name": name}}
        obj = self._born(resource, obj)
        empty = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": {}}
        manager = Manager(options.manager, "Update", resource.api_version)
        owners = managers.update(resource.shape, empty, obj, {}, manager, time=self.now())
        return self._insert(resource, obj, owners, options)

    def replace(
        self, resource: Resource, key: Key, body: Any, options: Options, subresource: str = ""
    ) -> Obj:
        """Replaces an object, or its status. Raises ApiError 400, 404, 409 or 422."""
        obj = self._decoded(resource, body, options)
        obj = self._addressed(resource, obj, key[0])
        name = obj["metadata"].get("name")
        if name != key[1]:
            raise bad_request(
                f"the name of the object ({name or ''}) does not match the name on the URL ({key[1]})"
            )
        return self._update(resource, key, obj, options, subresource)

    def patch(
        self,
        resource: Resource,
        key: Key,
        change: Callable[[Obj], Any],
        options: Options,
        subresource: str = "",
    ) -> Obj:
        """Replaces an object by what `change` makes of it. Raises ApiError 400, 404, 409 or 422."""
        live = self.get(resource, key)
        patched = change(live)
        if not isinstance(patched, dict):
            raise bad_request("the patch does not make an object")
        obj = self._decoded(resource, patched, options)
        metadata = obj["metadata"]
        if metadata.get("name") != key[1] or metadata.get("namespace", "") != key[0]:
            raise bad_request(
                f"the name of the object ({metadata.get('name', '')}) does not match the name on the URL "
                f"({key[1]})"
            )
        return self._update(resource, key, obj, options, subresource)

    def apply(
        self, resource: Resource, key: Key, body: Any, options: Options, subresource: str = ""
    ) -> tuple[Obj, bool]:
        """Server-side apply; returns the object and whether it is new.

        Raises ApiError 400, 404 (namespace, or a status without its object), 409 (another manager owns a
        field, or a wrong resourceVersion), 422, and 500 for a field that the schema does not have, which
        is the code that the real server answers there.
        """
        config = self._configuration(resource, key, body, subresource)
        live = self.store.get(resource, key)
        version = config["metadata"].pop("resourceVersion", None)
        uid = config["metadata"].pop("uid", None)
        if live is None:
            if subresource or uid:
                raise not_found(resource.group, resource.plural, key[1])
            self._namespace_takes(resource, key[0], config)
            base: Obj = {name: config[name] for name in ("apiVersion", "kind")}
            base["metadata"] = {"name": key[1], **({"namespace": key[0]} if key[0] else {})}
        else:
            if (version and version != live["metadata"]["resourceVersion"]) or (
                uid and uid != live["metadata"]["uid"]
            ):
                raise conflict(resource.group, resource.plural, key[1], MODIFIED)
            base = managers.without_owners(live)
        manager = Manager(options.manager, "Apply", resource.api_version, subresource)
        try:
            merged, owners = managers.apply(
                resource.shape,
                base,
                config,
                managers.read(live or {}),
                manager,
                force=options.force,
                time=self.now(),
            )
        except fieldsets.FieldError as error:
            raise self._untyped(resource, key, [str(error)]) from error
        if live is None:
            return self._insert(resource, self._born(resource, merged), owners, options), True
        new = self._prepared(resource, live, merged, subresource)
        return self._store(resource, key, live, new, owners, options), False

    def delete(self, resource: Resource, key: Key, deletion: Deletion) -> tuple[Obj, bool]:
        """Deletes an object; returns its last state and whether it is gone already.

        Finalizers, a namespace's contents and foreground deletion keep it until they are done. Raises
        ApiError 403 for the namespaces that every cluster needs, 404, and 409 for a precondition.
        """
        live = self.get(resource, key)
        metadata = live["metadata"]
        for name, wanted, actual in (
            ("UID", deletion.uid, metadata["uid"]),
            ("ResourceVersion", deletion.resource_version, metadata["resourceVersion"]),
        ):
            if wanted and wanted != actual:
                # The real server says the kind here, and not the resource.
                raise conflict(
                    resource.group,
                    resource.kind,
                    key[1],
                    f"the {name} in the precondition ({wanted}) does not match the {name} in record ({actual}). "
                    "The object might have been "
                    + ("deleted and then recreated" if name == "UID" else "modified"),
                )
        if resource.kind == "Namespace" and key[1] in _SYSTEM_NAMESPACES:
            raise forbidden(
                f'namespaces "{key[1]}" is forbidden: this namespace may not be deleted',
                "",
                "namespaces",
                key[1],
            )
        if deletion.dry_run:
            return live, True
        if deletion.policy == "Orphan":
            self._orphan(metadata["uid"])
        finalizers = list(metadata.get("finalizers") or ())
        if deletion.policy == "Foreground" and self.store.dependents(metadata["uid"]):
            finalizers = [*[item for item in finalizers if item != FOREGROUND], FOREGROUND]
        if not finalizers and resource.kind != "Namespace":
            return self.store.drop(resource, key) or live, True
        if "deletionTimestamp" in metadata and finalizers == metadata.get("finalizers"):
            return live, False
        marked = {**metadata, "deletionTimestamp": metadata.get("deletionTimestamp", self.now())}
        if finalizers:
            marked["finalizers"] = finalizers
        if resource.kind != "Namespace":
            marked["deletionGracePeriodSeconds"] = 0
        obj = {**live, "metadata": marked}
        if resource.kind == "Namespace":
            obj["status"] = {**live.get("status", {}), "phase": "Terminating"}
        return self.store.put(resource, key, obj), False

    def write_status(self, resource: Resource, key: Key, status: Obj, manager: str) -> None:
        """Sets an object's status for a controller; one that is gone is left alone, an equal one untouched."""
        live = self.store.get(resource, key)
        if live is None or live.get("status") == status:
            return
        owner = Manager(manager, "Update", resource.api_version, "status")
        new = {**live, "status": status}
        owners = managers.update(
            resource.shape,
            managers.without_owners(live),
            managers.without_owners(new),
            managers.read(live),
            owner,
            time=self.now(),
        )
        self.store.put(resource, key, managers.with_owners(new, owners))

    def release(self, resource: Resource, key: Key, finalizer: str) -> None:
        """Takes a finalizer off an object; the last one lets a deleted object go."""
        live = self.store.get(resource, key)
        if live is None or finalizer not in (live["metadata"].get("finalizers") or ()):
            return
        metadata = dict(live["metadata"])
        metadata["finalizers"] = [item for item in metadata["finalizers"] if item != finalizer]
        if not metadata["finalizers"]:
            del metadata["finalizers"]
            if "deletionTimestamp" in metadata:
                self.store.drop(resource, key)
                return
        self.store.put(resource, key, {**live, "metadata": metadata})

    def _decoded(self, resource: Resource, body: Any, options: Options) -> Obj:
        """The body as an object of this kind, without nulls and unknown fields."""
        if not isinstance(body, dict):
            raise bad_request("the body of the request was not an object")
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **schemas.without_nulls(body)}
        if (obj["apiVersion"], obj["kind"]) != (resource.api_version, resource.kind):
            raise bad_request(
                f'{obj["kind"]} in version "{obj["apiVersion"].rsplit("/", 1)[-1]}" cannot be handled as a '
                f"{resource.kind}: the API version in the data ({obj['apiVersion']}) does not match the "
                f"expected API version ({resource.api_version})"
            )
        unknown = []
        for problem in schemas.problems(resource.shape, obj):
            if problem.what == "unknown":
                unknown.append(f'unknown field "{problem.path.lstrip(".")}"')
            elif problem.what != "required":
                raise bad_request(schemas.decode_error(resource.kind, resource.version, problem))
        if unknown:
            if options.validation == "Strict":
                raise bad_request(
                    f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
                    f"strict decoding error: {', '.join(unknown)}"
                )
            if options.validation == "Warn":
                options.warnings += unknown
            obj = schemas.without_unknown(resource.shape, obj)
        obj["metadata"] = dict(obj.get("metadata") or {})
        return obj

    def _addressed(self, resource: Resource, obj: Obj, namespace: str) -> Obj:
        metadata = obj["metadata"]
        given = metadata.get("namespace", "")
        if not resource.namespaced:
            return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "namespace"}}
        if given and given != namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        return {**obj, "metadata": {**metadata, "namespace": namespace}}

    def _namespace_takes(self, resource: Resource, namespace: str, obj: Obj) -> None:
        if not resource.namespaced:
            return
        found = self.store.get(self.catalogue.named("", "namespaces"), ("", namespace))
        if found is None:
            raise not_found("", "namespaces", namespace)
        if "deletionTimestamp" in found["metadata"]:
            name = obj["metadata"].get("name", "")
            error = forbidden(
                f'{resource.qualified} "{name}" is forbidden: unable to create new content in namespace '
                f"{namespace} because it is being terminated",
                resource.group,
                resource.plural,
                name,
            )
            cause = Cause(
                "NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace"
            )
            error.details["causes"] = [cause.render()]
            raise error

    def _born(self, resource: Resource, obj: Obj) -> Obj:
        """A new object as the server completes it."""
        metadata = {
            key: value
            for key, value in obj["metadata"].items()
            if key not in ("resourceVersion", "managedFields", "deletionTimestamp", "selfLink")
        }
        metadata |= {"uid": str(self._new_id()), "creationTimestamp": self.now()}
        if resource.plural in _WITH_GENERATION:
            metadata["generation"] = 1
        else:
            metadata.pop("generation", None)
        obj = {**obj, "metadata": metadata}
        if resource.has_status and resource.kind not in ("Node",):
            obj.pop("status", None)
        obj = schemas.respelled(resource.shape, with_defaults(obj))
        return self._admitted(resource, obj)

    def _admitted(self, resource: Resource, obj: Obj) -> Obj:
        """What admission adds on a create: a Service's address, a claim's default class, a pod's ids."""
        if resource.kind == "Service" and obj["spec"].get("type") != "ExternalName":
            spec = obj["spec"]
            if not spec.get("clusterIP"):
                self._addresses += 1
                address = f"172.20.{self._addresses // 256}.{self._addresses % 256}"
                obj = {**obj, "spec": {**spec, "clusterIP": address, "clusterIPs": [address]}}
            elif not spec.get("clusterIPs"):
                obj = {**obj, "spec": {**spec, "clusterIPs": [spec["clusterIP"]]}}
        elif resource.kind == "PersistentVolumeClaim" and "storageClassName" not in obj.get("spec", {}):
            default = self._default_class()
            if default and "spec" in obj:
                obj = {**obj, "spec": {**obj["spec"], "storageClassName": default}}
        elif (
            resource.kind == "Job"
            and "selector" not in obj.get("spec", {})
            and "template" in obj.get("spec", {})
        ):
            uid, name = obj["metadata"]["uid"], obj["metadata"].get("name", "")
            labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name}
            template = obj["spec"]["template"]
            metadata = template.get("metadata") or {}
            merged = {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}
            selector = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
            spec = {**obj["spec"], "selector": selector, "template": {**template, "metadata": merged}}
            obj = {**obj, "spec": spec}
        return obj

    def _default_class(self) -> str:
        classes = self.store.all(self.catalogue.named("storage.k8s.io", "storageclasses"))
        annotated = [
            item
            for item in classes
            if (item["metadata"].get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class")
            == "true"
        ]
        # Several defaults: the newest wins, as in the real server.
        newest = max(annotated, key=lambda item: item["metadata"]["creationTimestamp"], default=None)
        return newest["metadata"]["name"] if newest else ""

    def _insert(self, resource: Resource, obj: Obj, owners: Owners, options: Options) -> Obj:
        name = obj["metadata"].get("name", "")
        self._judge(resource, name, validation.causes_on_create(resource, obj))
        self._secure(resource, obj, None, options)
        key = (obj["metadata"].get("namespace", ""), name)
        if self.store.get(resource, key) is not None:
            raise already_exists(resource.group, resource.plural, name)
        obj = managers.with_owners(obj, owners)
        return obj if options.dry_run else self.store.put(resource, key, obj)

    def _judge(self, resource: Resource, name: str, causes: list[Cause]) -> None:
        if causes:
            raise invalid(resource.group, resource.kind, name, causes)

    def _secure(self, resource: Resource, obj: Obj, live: Obj | None, options: Options) -> None:
        """Pod Security admission: refuses a pod, and warns of a workload whose pods will be refused.

        Raises ApiError 403, and 422 for a namespace whose labels say nothing that it knows.
        """
        name = obj["metadata"].get("name", "")
        if resource.kind == "Namespace":
            self._judge(resource, name, pod_security.label_causes(obj))
        if resource.kind not in POD_TEMPLATES or resource.kind == "PodTemplate":
            return
        spec, before = _pod_spec(resource.kind, obj), _pod_spec(resource.kind, live or {})
        if not spec or (resource.kind == "Pod" and _images(spec) == _images(before)):
            return
        namespace = self.store.get(self.catalogue.named("", "namespaces"), ("", obj["metadata"]["namespace"]))
        policy = pod_security.Policy.of(namespace or {"metadata": {}})
        if resource.kind == "Pod" and (found := pod_security.violations(policy.enforce, spec)):
            message = f'pods "{name}" is forbidden: violates {found}'
            raise forbidden(message, resource.group, resource.plural, name)
        if found := pod_security.violations(policy.warn, spec):
            options.warnings.append(f"would violate {found}")

    def _update(self, resource: Resource, key: Key, obj: Obj, options: Options, subresource: str = "") -> Obj:
        live = self.get(resource, key)
        version, uid = obj["metadata"].get("resourceVersion"), obj["metadata"].get("uid")
        if version and version != live["metadata"]["resourceVersion"]:
            raise conflict(resource.group, resource.plural, key[1], MODIFIED)
        if uid and uid != live["metadata"]["uid"]:
            raise conflict(
                resource.group,
                resource.plural,
                key[1],
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {live['metadata']['uid']}",
            )
        given = obj["metadata"].get("managedFields")
        new = self._prepared(resource, live, managers.without_owners(obj), subresource)
        # A client may rewrite the record of owners; one that does not know it must not wipe it out.
        owners = managers.read(obj) if given else {}
        if not owners and given != [{}]:
            owners = managers.read(live)
        owners = managers.update(
            resource.shape,
            managers.without_owners(live),
            new,
            owners,
            Manager(options.manager, "Update", resource.api_version, subresource),
            time=self.now(),
        )
        return self._store(resource, key, live, new, owners, options)

    def _prepared(self, resource: Resource, live: Obj, new: Obj, subresource: str) -> Obj:
        """The new object with what a client cannot change put back, and with its defaults."""
        old = live["metadata"]
        if subresource == "status":
            body = {**managers.without_owners(live)}
            if "status" in new:
                body["status"] = new["status"]
            else:
                body.pop("status", None)
            return body
        metadata = {
            key: value
            for key, value in new["metadata"].items()
            if key not in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")
        }
        for key in (
            "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
            "resourceVersion", "name", "namespace", "generateName",
        ):  # fmt: skip
            if key in old:
                metadata[key] = old[key]
            else:
                metadata.pop(key, None)
        if "deletionTimestamp" in old and set(metadata.get("finalizers") or ()) - set(
            old.get("finalizers") or ()
        ):
            raise invalid(
                resource.group,
                resource.kind,
                old["name"],
                [
                    Cause(
                        "FieldValueForbidden",
                        "Forbidden: no new finalizers can be added if the object is being deleted",
                        "metadata.finalizers",
                    )
                ],
            )
        for key in [
            name for name in ("finalizers", "labels", "annotations") if metadata.get(name) in ([], {})
        ]:
            del metadata[key]
        new = {**new, "metadata": metadata}
        if resource.has_status:
            new.pop("status", None)
            if "status" in live:
                new["status"] = live["status"]
        if resource.kind == "Service":
            kept = {name: live["spec"][name] for name in ("clusterIP", "clusterIPs") if name in live["spec"]}
            new["spec"] = {**kept, **(new.get("spec") or {})}
        prepared: Obj = schemas.respelled(resource.shape, with_defaults(new))
        return prepared

    def _store(
        self, resource: Resource, key: Key, live: Obj, new: Obj, owners: Owners, options: Options
    ) -> Obj:
        self._judge(resource, key[1], validation.causes_on_update(resource, live, new))
        if new.get("spec") != live.get("spec") or resource.kind == "Namespace":
            self._secure(resource, new, live, options)
        if new != managers.without_owners(live) and resource.plural in _WITH_GENERATION:
            content = ("metadata", "status", "apiVersion", "kind")
            if any(new.get(part) != live.get(part) for part in {*new, *live} - {*content}):
                generation = live["metadata"].get("generation", 0) + 1
                new = {**new, "metadata": {**new["metadata"], "generation": generation}}
        result = managers.with_owners(new, owners)
        if result == live:
            return live
        if managers.without_owners(result) == managers.without_owners(live) and _same(
            owners, managers.read(live)
        ):
            return live
        if options.dry_run:
            return result
        metadata = result["metadata"]
        released = "deletionTimestamp" in metadata and not metadata.get("finalizers")
        if released and resource.kind != "Namespace":
            self.store.put(resource, key, result)
            return self.store.drop(resource, key) or result
        return self.store.put(resource, key, result)

    def _configuration(self, resource: Resource, key: Key, body: Any, subresource: str) -> Obj:
        """The applied configuration, checked as far as that is possible without the live object."""
        if not isinstance(body, dict):
            raise bad_request("error decoding YAML: the body is not an object")
        if subresource not in ("", "status"):
            raise not_modelled(f"server-side apply on {resource.plural}/{subresource}")
        config: Obj = schemas.without_nulls(body)
        metadata = config.get("metadata")
        config["metadata"] = dict(metadata) if isinstance(metadata, dict) else {}
        given = (config.get("apiVersion"), config.get("kind"))
        if given != (resource.api_version, resource.kind):
            raise bad_request(
                f"the API version or kind in the data ({given[0]}, Kind={given[1]}) does not match the "
                f"expected ({resource.api_version}, Kind={resource.kind})"
            )
        if config["metadata"].pop("managedFields", None):
            raise bad_request("metadata.managedFields must be nil")
        name, namespace = config["metadata"].get("name", key[1]), config["metadata"].get("namespace", key[0])
        if name != key[1]:
            raise bad_request(
                f"the name of the object ({name}) does not match the name on the URL ({key[1]})"
            )
        if namespace != key[0]:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        lines = [
            schemas.apply_error(problem)
            for problem in schemas.problems(resource.shape, config, for_apply=True)
            if problem.what in ("unknown", "type", "item")
        ]
        if lines:
            raise self._untyped(resource, key, lines)
        for problem in schemas.problems(resource.shape, config):
            if text := schemas.undecodable(problem):
                raise self._unconverted(resource, key, text)
        if subresource == "status":
            return {part: config[part] for part in ("apiVersion", "kind", "status") if part in config} | {
                "metadata": {
                    part: config["metadata"][part]
                    for part in ("name", "namespace", "resourceVersion")
                    if part in config["metadata"]
                }
            }
        if resource.has_status:
            config.pop("status", None)
        return config

    def _untyped(self, resource: Resource, key: Key, lines: list[str]) -> ApiError:
        where = f"{key[0]}/{key[1]}; {_gvk(resource)}"
        text = lines[0] if len(lines) == 1 else "errors:\n" + "\n".join(f"  {line}" for line in lines)
        return ApiError(500, "", f"failed to create typed patch object ({where}): {text}")

    def _unconverted(self, resource: Resource, key: Key, text: str) -> ApiError:
        kind = _gvk(resource)
        lead = "error decoding from json: " if text.startswith("illegal base64") else ""
        return ApiError(
            500,
            "",
            f"failed to convert new object ({key[0]}/{key[1]}; {kind}) to proper version: unable to convert "
            f"unstructured object to {kind}: {lead}{text}",
        )

    def _orphan(self, uid: str) -> None:
        for group, plural, key in self.store.dependents(uid):
            resource = self.catalogue.named(group, plural)
            obj = self.store.get(resource, key)
            if obj is None:
                continue
            owners = [item for item in obj["metadata"].get("ownerReferences", ()) if item["uid"] != uid]
            metadata = {name: value for name, value in obj["metadata"].items() if name != "ownerReferences"}
            if owners:
                metadata["ownerReferences"] = owners
            self.store.put(resource, key, {**obj, "metadata": metadata})


def _pod_spec(kind: str, obj: Obj) -> Obj:
    """The spec of a pod, or of the pods that a workload makes; empty where there is none."""
    found: Any = obj
    for part in (*POD_TEMPLATES[kind], "spec"):
        found = (found or {}).get(part)
    return found or {}


def _images(spec: Obj) -> list[str]:
    """What a running pod's update is looked at for."""
    return [one.get("image", "") for kind in ("initContainers", "containers") for one in spec.get(kind) or ()]


def _gvk(resource: Resource) -> str:
    """A kind as Go prints it; the core group has no name before the slash."""
    return f"{resource.group}/{resource.version}, Kind={resource.kind}"


def _same(left: Owners, right: Owners) -> bool:
    """True when both own the same; since when does not count."""
    return _fields(left) == _fields(right)


def _fields(owners: Owners) -> Mapping[Manager, Any]:
    return {manager: entry.fields for manager, entry in owners.items()}
