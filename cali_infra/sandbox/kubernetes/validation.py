"""What the API server refuses beyond structure: names, selectors, keys, and fields that may not change.

Each function returns causes with the real server's field path and words; an empty list is consent. Sources:
k8s.io/kubernetes/pkg/apis/*/validation and k8s.io/apimachinery/pkg/api/validation. Only rules that our
manifests can break are here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cali_infra.sandbox.kubernetes import quantities
from cali_infra.sandbox.kubernetes.catalogue import Resource
from cali_infra.sandbox.kubernetes.defaults import POD_TEMPLATES
from cali_infra.sandbox.kubernetes.errors import Cause, Obj, invalid_value, required, show, unsupported_value
from cali_infra.sandbox.kubernetes.schemas import Form, problems
from cali_infra.sandbox.kubernetes.selectors import matches_selector

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_KEY = re.compile(r"[-._a-zA-Z0-9]+\Z")
_MEBIBYTE = 1024 * 1024
# Those that need no domain in front.
_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
    "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
IMMUTABLE = "field is immutable"


def causes_on_create(resource: Resource, obj: Obj) -> list[Cause]:
    """Everything that is wrong with a new object."""
    return [*_metadata(resource, obj), *_structure(resource, obj), *_content(obj)]


def causes_on_update(resource: Resource, old: Obj, new: Obj) -> list[Cause]:
    """Everything that is wrong with a change."""
    return [
        *_metadata(resource, new),
        *_structure(resource, new),
        *_content(new),
        *_unchangeable(old, new),
    ]


def _structure(resource: Resource, obj: Obj) -> Iterator[Cause]:
    for problem in problems(resource.shape, obj):
        # A status comes from controllers, which are trusted to leave out what they do not know.
        if problem.what != "required" or problem.path.startswith(".status"):
            continue
        shape = problem.value
        # An absent list, map or struct is an empty one to Go; the kinds' own rules judge those.
        if getattr(shape, "form", None) in (Form.STRING, Form.INTEGER):
            yield required(problem.path.lstrip("."))


def _metadata(resource: Resource, obj: Obj) -> Iterator[Cause]:
    metadata = obj["metadata"]
    name = metadata.get("name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif text := _name_problem(resource, name):
        yield invalid_value("metadata.name", name, text)
    for key, value in (metadata.get("labels") or {}).items():
        yield from _label("metadata.labels", key, value)
    for key in metadata.get("annotations") or {}:
        yield from _qualified_key("metadata.annotations", key.lower())
    for index, finalizer in enumerate(metadata.get("finalizers") or ()):
        if "/" not in finalizer and finalizer not in _FINALIZERS:
            yield invalid_value(
                f"metadata.finalizers[{index}]",
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            )


def _name_problem(resource: Resource, name: str) -> str:
    if resource.group == "rbac.authorization.k8s.io":
        if name in (".", "..") or "/" in name or "%" in name:
            return "may not be '.' or '..' or contain '/' or '%'"
        return ""
    if resource.kind == "Namespace":
        return "" if _LABEL.match(name) and len(name) <= 63 else _LABEL_TEXT
    if resource.kind == "Service":
        if _SERVICE.match(name) and len(name) <= 63:
            return ""
        return (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
            "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
            "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
        )
    if len(name) > 253:
        return "must be no more than 253 characters"
    return "" if _SUBDOMAIN.match(name) else _SUBDOMAIN_TEXT


def _qualified_key(field: str, key: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not _SUBDOMAIN.match(prefix):
        yield invalid_value(field, key, f"prefix part {_SUBDOMAIN_TEXT}")
    if not name:
        yield invalid_value(field, key, "name part must be non-empty")
    elif len(name) > 63:
        yield invalid_value(field, key, "name part must be no more than 63 bytes")
    elif not _QUALIFIED.match(name):
        yield invalid_value(field, key, _QUALIFIED_TEXT)


def _label(field: str, key: str, value: str) -> Iterator[Cause]:
    yield from _qualified_key(field, key)
    if len(value) > 63:
        yield invalid_value(field, value, "must be no more than 63 bytes")
    elif not _LABEL_VALUE.match(value):
        yield invalid_value(field, value, _LABEL_VALUE_TEXT)


def _content(obj: Obj) -> Iterator[Cause]:
    kind = obj["kind"]
    path = POD_TEMPLATES.get(kind)
    if path is not None:
        yield from _pod(obj, kind, path)
    if kind in ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet"):
        yield from _amounts(obj, kind)
        yield from _selector(obj, kind)
    elif kind in ("ConfigMap", "Secret"):
        yield from _keys(obj)
    elif kind in ("Role", "ClusterRole"):
        yield from _rules(obj, kind)
    elif kind in ("RoleBinding", "ClusterRoleBinding"):
        yield from _binding(obj, kind)
    elif kind == "Service":
        yield from _service(obj)
    elif kind == "StorageClass":
        yield from _storage_class(obj)
    elif kind == "PersistentVolumeClaim":
        yield from _claim(obj)


def _dig(obj: Any, *keys: str) -> Any:
    for key in keys:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _amounts(obj: Obj, kind: str) -> Iterator[Cause]:
    replicas = _dig(obj, "spec", "replicas")
    if isinstance(replicas, int) and replicas < 0:
        yield invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
    strategy = _dig(obj, "spec", "strategy") or {}
    if kind == "Deployment" and strategy.get("type") == "Recreate" and strategy.get("rollingUpdate"):
        yield Cause(
            "FieldValueForbidden",
            "Forbidden: may not be specified when strategy `type` is 'Recreate'",
            "spec.strategy.rollingUpdate",
        )


def _selector(obj: Obj, kind: str) -> Iterator[Cause]:
    selector = _dig(obj, "spec", "selector")
    labels = _dig(obj, "spec", "template", "metadata", "labels") or {}
    if selector is None:
        yield required("spec.selector")
        if kind == "Deployment":
            yield invalid_value(
                "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
            )
    elif not selector:
        yield invalid_value("spec.selector", selector, f"empty selector is invalid for {kind.lower()}")
    elif not matches_selector(selector, labels):
        yield invalid_value(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )


def _pod(obj: Obj, kind: str, path: tuple[str, ...]) -> Iterator[Cause]:
    template = _dig(obj, *path) if path else obj
    prefix = ".".join((*path, "spec"))
    spec = _dig(template, "spec") or {}
    if path:
        for key, value in (_dig(template, "metadata", "labels") or {}).items():
            yield from _label(".".join((*path, "labels")), key, value)
    policy = spec.get("restartPolicy")
    if kind in ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet") and policy not in (None, "Always"):
        yield unsupported_value(f"{prefix}.restartPolicy", policy, ["Always"])
    if kind in ("Job", "CronJob") and policy not in ("OnFailure", "Never"):
        if policy is None:
            yield required(f"{prefix}.restartPolicy", 'valid values: "OnFailure", "Never"')
        else:
            yield unsupported_value(f"{prefix}.restartPolicy", policy, ["OnFailure", "Never"])
    if not spec.get("containers"):
        yield required(f"{prefix}.containers")
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        if toleration.get("operator") == "Exists" and toleration.get("value"):
            yield invalid_value(
                f"{prefix}.tolerations[{index}].operator",
                toleration["value"],
                "value must be empty when `operator` is 'Exists'",
            )
    volumes: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        name = volume.get("name", "")
        if name in volumes:
            yield Cause(
                "FieldValueDuplicate", f"Duplicate value: {show(name)}", f"{prefix}.volumes[{index}].name"
            )
        volumes.add(name)
    # A StatefulSet's pods get a volume for each of its claims.
    claims = (_dig(obj, "spec", "volumeClaimTemplates") or ()) if kind == "StatefulSet" else ()
    volumes |= {str(_dig(claim, "metadata", "name") or "") for claim in claims}
    names: set[str] = set()
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part) or ()):
            yield from _container(container, f"{prefix}.{part}[{index}]", volumes, names)


def _container(container: Obj, field: str, volumes: set[str], names: set[str]) -> Iterator[Cause]:
    name = container.get("name", "")
    if name and not (_LABEL.match(name) and len(name) <= 63):
        yield invalid_value(f"{field}.name", name, _LABEL_TEXT)
    if name in names:
        yield Cause("FieldValueDuplicate", f"Duplicate value: {show(name)}", f"{field}.name")
    names.add(name)
    if not container.get("image"):
        yield required(f"{field}.image")
    policy = container.get("imagePullPolicy")
    if policy not in (None, "Always", "IfNotPresent", "Never"):
        yield unsupported_value(f"{field}.imagePullPolicy", policy, ["Always", "IfNotPresent", "Never"])
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{field}.volumeMounts[{index}]"
        if mount.get("name") not in volumes:
            yield Cause("FieldValueNotFound", f"Not found: {show(mount.get('name', ''))}", f"{where}.name")
        if mount.get("mountPath") in paths:
            yield invalid_value(f"{where}.mountPath", mount["mountPath"], "must be unique")
        paths.add(mount.get("mountPath", ""))
    for index, port in enumerate(container.get("ports") or ()):
        number = port.get("containerPort")
        if isinstance(number, int) and not 0 < number < 65536:
            yield invalid_value(
                f"{field}.ports[{index}].containerPort", number, "must be between 1 and 65535, inclusive"
            )
    for index, variable in enumerate(container.get("env") or ()):
        if variable.get("value") and variable.get("valueFrom"):
            yield invalid_value(
                f"{field}.env[{index}].valueFrom", "", "may not be specified when `value` is not empty"
            )
    limits = _dig(container, "resources", "limits") or {}
    for resource, amount in (_dig(container, "resources", "requests") or {}).items():
        if resource in limits and quantities.value(amount) > quantities.value(limits[resource]):
            yield invalid_value(
                f"{field}.resources.requests",
                str(amount),
                f"must be less than or equal to {resource} limit of {limits[resource]}",
            )


def _keys(obj: Obj) -> Iterator[Cause]:
    total = 0
    for part in ("data", "binaryData"):
        for key, value in (obj.get(part) or {}).items():
            total += len(value.encode())
            if not _KEY.match(key) or key in (".", ".."):
                yield invalid_value(f"{part}[{key}]", key, _KEY_TEXT)
    if total > _MEBIBYTE * (4 / 3 if obj["kind"] == "Secret" else 1):
        field = "data" if obj["kind"] == "Secret" else ""
        yield Cause("FieldValueTooLong", "Too long: may not be more than 1048576 bytes", field or "[]")


def _rules(obj: Obj, kind: str) -> Iterator[Cause]:
    for index, rule in enumerate(obj.get("rules") or ()):
        field = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{field}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if kind == "Role":
                yield invalid_value(
                    f"{field}.nonResourceURLs",
                    rule["nonResourceURLs"],
                    "namespaced rules cannot apply to non-resource URLs",
                )
            elif rule.get("apiGroups") or rule.get("resources"):
                yield invalid_value(
                    f"{field}.nonResourceURLs",
                    rule["nonResourceURLs"],
                    "rules cannot apply to both regular resources and non-resource URLs",
                )
            continue
        if not rule.get("apiGroups"):
            yield required(f"{field}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{field}.resources", "resource rules must supply at least one resource")


def _binding(obj: Obj, kind: str) -> Iterator[Cause]:
    role = _dig(obj, "roleRef", "kind")
    allowed = ["ClusterRole"] if kind == "ClusterRoleBinding" else ["Role", "ClusterRole"]
    if role not in allowed:
        yield unsupported_value("roleRef.kind", role or "", allowed)
    for index, subject in enumerate(obj.get("subjects") or ()):
        if subject.get("kind") == "ServiceAccount":
            if not subject.get("namespace"):
                yield required(f"subjects[{index}].namespace")
        elif subject.get("kind") not in ("User", "Group"):
            yield unsupported_value(
                f"subjects[{index}].kind", subject.get("kind", ""), ["Group", "ServiceAccount", "User"]
            )


def _service(obj: Obj) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
    if spec.get("type") not in kinds:
        yield unsupported_value("spec.type", spec.get("type"), kinds)
    if not spec.get("ports") and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        yield required("spec.ports")
    ports = spec.get("ports") or ()
    names: set[str] = set()
    for index, port in enumerate(ports):
        name = port.get("name")
        if len(ports) > 1 and not name:
            yield required(f"spec.ports[{index}].name")
        elif name in names:
            yield Cause("FieldValueDuplicate", f"Duplicate value: {show(name)}", f"spec.ports[{index}].name")
        names.add(name or "")
        for field in ("port", "targetPort"):
            number = port.get(field)
            if isinstance(number, int) and not 0 < number < 65536:
                yield invalid_value(
                    f"spec.ports[{index}].{field}", number, "must be between 1 and 65535, inclusive"
                )


def _storage_class(obj: Obj) -> Iterator[Cause]:
    if not obj.get("provisioner"):
        yield required("provisioner")
    for field, allowed in (
        ("reclaimPolicy", ["Delete", "Retain"]),
        ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"]),
    ):
        if obj.get(field) not in (None, *allowed):
            yield unsupported_value(field, obj[field], allowed)


def _claim(obj: Obj) -> Iterator[Cause]:
    if not _dig(obj, "spec", "accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    if not _dig(obj, "spec", "resources", "requests", "storage"):
        yield required("spec.resources[storage]")


def _unchangeable(old: Obj, new: Obj) -> Iterator[Cause]:
    kind = new["kind"]
    if kind == "StorageClass":
        for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
            if (old.get(field) or None) != (new.get(field) or None):
                yield invalid_value(field, new.get(field), IMMUTABLE)
    elif kind in ("Deployment", "DaemonSet", "ReplicaSet"):
        before, after = _dig(old, "spec", "selector"), _dig(new, "spec", "selector")
        if before != after:
            yield invalid_value("spec.selector", after, IMMUTABLE)
    elif kind == "StatefulSet":
        yield from _stateful_set(old, new)
    elif kind == "Job":
        for field in ("selector", "template", "completionMode"):
            before, after = _dig(old, "spec", field), _dig(new, "spec", field)
            if before != after:
                yield invalid_value(f"spec.{field}", after, IMMUTABLE)
    elif kind in ("ConfigMap", "Secret"):
        yield from _frozen(old, new, kind)
    elif kind in ("RoleBinding", "ClusterRoleBinding"):
        if old.get("roleRef") != new.get("roleRef"):
            yield invalid_value("roleRef", new.get("roleRef"), "cannot change roleRef")
    elif kind == "PersistentVolumeClaim":
        yield from _claim_change(old, new)
    elif kind == "Service":
        before, after = _dig(old, "spec", "clusterIP"), _dig(new, "spec", "clusterIP")
        if before and before != after and _dig(new, "spec", "type") != "ExternalName":
            yield invalid_value("spec.clusterIPs[0]", [after] if after else None, "may not change once set")
    elif kind == "Pod":
        yield from _pod_change(old, new)
    elif kind == "PriorityClass" and old.get("value") != new.get("value"):
        yield Cause("FieldValueForbidden", "Forbidden: may not be changed in an update.", "value")


def _stateful_set(old: Obj, new: Obj) -> Iterator[Cause]:
    free = (
        "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
    )  # fmt: skip
    before = {key: value for key, value in (old.get("spec") or {}).items() if key not in free}
    after = {key: value for key, value in (new.get("spec") or {}).items() if key not in free}
    if before != after:
        listed = ", ".join(f"'{item}'" for item in free[:-1])
        yield Cause(
            "FieldValueForbidden",
            f"Forbidden: updates to statefulset spec for fields other than {listed} and '{free[-1]}' "
            "are forbidden",
            "spec",
        )


def _frozen(old: Obj, new: Obj, kind: str) -> Iterator[Cause]:
    if kind == "Secret" and old.get("type") != new.get("type"):
        yield invalid_value("type", new.get("type"), IMMUTABLE)
    if not old.get("immutable"):
        return
    text = "Forbidden: field is immutable when `immutable` is set"
    if not new.get("immutable"):
        yield Cause("FieldValueForbidden", text, "immutable")
    for field in ("data", "binaryData"):
        if (old.get(field) or {}) != (new.get(field) or {}):
            yield Cause("FieldValueForbidden", text, field)


def _claim_change(old: Obj, new: Obj) -> Iterator[Cause]:
    before, after = dict(old.get("spec") or {}), dict(new.get("spec") or {})
    was = _dig(before, "resources", "requests", "storage")
    now = _dig(after, "resources", "requests", "storage")
    # The binder names the volume, once; nobody else may.
    for spec in (before, after):
        spec.pop("resources", None)
    if not before.get("volumeName"):
        before.pop("volumeName", None)
        after.pop("volumeName", None)
    if before != after:
        yield Cause(
            "FieldValueForbidden",
            "Forbidden: spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims",
            "spec",
        )
    if was and now and quantities.value(now) < quantities.value(was):
        yield Cause(
            "FieldValueForbidden",
            "Forbidden: field can not be less than status.capacity",
            "spec.resources.requests.storage",
        )


def _pod_change(old: Obj, new: Obj) -> Iterator[Cause]:
    def fixed(pod: Obj) -> Obj:
        spec = dict(pod.get("spec") or {})
        for field in ("tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds"):
            spec.pop(field, None)
        for part in ("containers", "initContainers"):
            spec[part] = [
                {key: value for key, value in item.items() if key != "image"} for item in spec.get(part) or ()
            ]
        if not (old.get("spec") or {}).get("nodeName"):
            spec.pop("nodeName", None)
        return spec

    if fixed(old) != fixed(new):
        yield Cause(
            "FieldValueForbidden",
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions "
            "to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)",
            "spec",
        )
