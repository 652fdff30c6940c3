"""The default values that our clients would miss: pod templates, workloads, Services, storage, Secrets.

A real API server fills in more. What is here shows in `kubectl get`, takes part in a diff, or is read by a
controller of the stand-in; the rest is left out on purpose. Source: `SetDefaults_*` in
k8s.io/kubernetes/pkg/apis and the admission plugins that EKS runs.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from cali_infra.sandbox.kubernetes.errors import Obj

POD_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}


def with_defaults(obj: Obj) -> Obj:
    """The object with its kind's defaults; fields that are set stay as they are."""
    kind = obj["kind"]
    fill = _KINDS.get(kind)
    path = POD_TEMPLATES.get(kind)
    if fill is None and path is None:
        return obj
    if path is not None:
        obj = _at(obj, (*path, "spec"), lambda spec: pod_spec(spec, str(kind)))
    return fill(obj) if fill is not None else obj


def _at(obj: Obj, path: tuple[str, ...], change: Callable[[Obj], Obj]) -> Obj:
    """A copy with the value at `path` changed; what is not there, or no object, is left alone."""
    if not isinstance(obj, dict):
        return obj
    if not path:
        return change(obj)
    if path[0] not in obj:
        return obj
    return {**obj, path[0]: _at(obj[path[0]], path[1:], change)}


def _filled(value: Obj, defaults: Mapping[str, Any]) -> Obj:
    if not isinstance(value, dict):
        return value
    missing = {key: item for key, item in defaults.items() if value.get(key) is None}
    return {**value, **missing} if missing else value


def pod_spec(spec: Obj, kind: str) -> Obj:
    """A pod's defaults; a Job has no default restartPolicy, so that leaving it out is refused."""
    defaults: Obj = {
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
    }
    if kind not in ("Job", "CronJob"):
        defaults["restartPolicy"] = "Always"
    if kind == "Pod":
        defaults |= {"serviceAccountName": "default", "enableServiceLinks": True}
    spec = _filled(spec, defaults)
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec = {**spec, "serviceAccountName": name, "serviceAccount": name}
    for part in ("containers", "initContainers"):
        if isinstance(spec.get(part), list):
            spec = {**spec, part: [_container(item) for item in spec[part]]}
    if isinstance(spec.get("volumes"), list):
        spec = {**spec, "volumes": [_volume(item) for item in spec["volumes"]]}
    return spec


def _container(container: Obj) -> Obj:
    if not isinstance(container, dict):
        return container
    image = str(container.get("image", ""))
    latest = "@" not in image and (":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest"))
    container = _filled(
        container,
        {
            "imagePullPolicy": "Always" if latest else "IfNotPresent",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        },
    )
    if isinstance(container.get("ports"), list):
        container = {
            **container,
            "ports": [_filled(item, {"protocol": "TCP"}) for item in container["ports"]],
        }
    if isinstance(container.get("env"), list):
        container = {**container, "env": [_env(item) for item in container["env"]]}
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(container.get(probe), dict):
            container = {**container, probe: _probe(container[probe])}
    return container


def _env(item: Obj) -> Obj:
    return _at(item, ("valueFrom", "fieldRef"), lambda reference: _filled(reference, {"apiVersion": "v1"}))


def _probe(probe: Obj) -> Obj:
    probe = _filled(
        probe, {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    )
    return _at(probe, ("httpGet",), lambda get: _filled(get, {"path": "/", "scheme": "HTTP"}))


def _volume(volume: Obj) -> Obj:
    for source in ("configMap", "secret", "projected", "downwardAPI"):
        volume = _at(volume, (source,), lambda value: _filled(value, {"defaultMode": 420}))
    return _at(volume, ("hostPath",), lambda value: _filled(value, {"type": ""}))


def _spec(obj: Obj, defaults: Mapping[str, Any]) -> Obj:
    return _at(obj, ("spec",), lambda spec: _filled(spec, defaults))


def _deployment(obj: Obj) -> Obj:
    obj = _spec(
        obj,
        {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate"},
        },
    )
    return _rolling(obj, "strategy", {"maxSurge": "25%", "maxUnavailable": "25%"})


def _daemon_set(obj: Obj) -> Obj:
    obj = _spec(obj, {"revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate"}})
    return _rolling(obj, "updateStrategy", {"maxSurge": 0, "maxUnavailable": 1})


def _stateful_set(obj: Obj) -> Obj:
    obj = _spec(
        obj,
        {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate"},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        },
    )
    return _rolling(obj, "updateStrategy", {"partition": 0})


def _rolling(obj: Obj, name: str, defaults: Mapping[str, Any]) -> Obj:
    def fill(strategy: Obj) -> Obj:
        strategy = _filled(strategy, {"type": "RollingUpdate"})
        if strategy["type"] != "RollingUpdate":
            return strategy
        return {**strategy, "rollingUpdate": _filled(strategy.get("rollingUpdate") or {}, defaults)}

    return _at(obj, ("spec", name), fill)


def _replica_set(obj: Obj) -> Obj:
    return _spec(obj, {"replicas": 1})


def _job(obj: Obj) -> Obj:
    return _spec(
        obj,
        {
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "completions": 1,
            "parallelism": 1,
            "suspend": False,
        },
    )


def _service(obj: Obj) -> Obj:
    obj = _spec(
        {"spec": {}, **obj},
        {
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "ipFamilyPolicy": "SingleStack",
            "ipFamilies": ["IPv4"],
        },
    )

    def ports(spec: Obj) -> Obj:
        if not isinstance(spec.get("ports"), list):
            return spec
        return {
            **spec,
            "ports": [
                _filled(item, {"protocol": "TCP", "targetPort": item.get("port")})
                for item in spec["ports"]
                if isinstance(item, dict)
            ],
        }

    return _filled(_at(obj, ("spec",), ports), {"status": {"loadBalancer": {}}})


def _priority_class(obj: Obj) -> Obj:
    return _filled(obj, {"preemptionPolicy": "PreemptLowerPriority"})


def _storage_class(obj: Obj) -> Obj:
    return _filled(obj, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def _secret(obj: Obj) -> Obj:
    """`stringData` is write-only: it ends up in `data`, encoded."""
    obj = _filled(obj, {"type": "Opaque"})
    plain = obj.get("stringData")
    if plain is None:
        return obj
    encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
    obj = {key: value for key, value in obj.items() if key != "stringData"}
    return {**obj, "data": {**(obj.get("data") or {}), **encoded}} if encoded else obj


def _namespace(obj: Obj) -> Obj:
    metadata = obj["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata.get("name", "")}
    obj = {**obj, "metadata": {**metadata, "labels": labels}}
    return _filled(
        {**obj, "spec": _filled(obj.get("spec") or {}, {"finalizers": ["kubernetes"]})},
        {"status": {"phase": "Active"}},
    )


def _claim(obj: Obj) -> Obj:
    return _filled(_spec(obj, {"volumeMode": "Filesystem"}), {"status": {"phase": "Pending"}})


def _volume_object(obj: Obj) -> Obj:
    obj = _spec(obj, {"volumeMode": "Filesystem", "persistentVolumeReclaimPolicy": "Retain"})
    return _filled(obj, {"status": {"phase": "Available"}})


def _binding(obj: Obj) -> Obj:
    group = "rbac.authorization.k8s.io"
    obj = _at(obj, ("roleRef",), lambda reference: _filled(reference, {"apiGroup": group}))
    if isinstance(obj.get("subjects"), list):
        subjects = [
            _filled(item, {"apiGroup": group})
            if isinstance(item, dict) and item.get("kind") in ("User", "Group")
            else item
            for item in obj["subjects"]
        ]
        obj = {**obj, "subjects": subjects}
    return obj


def _pod(obj: Obj) -> Obj:
    return _filled(obj, {"status": {"phase": "Pending", "qosClass": "BestEffort"}})


_KINDS: Mapping[str, Callable[[Obj], Obj]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "ReplicaSet": _replica_set,
    "Job": _job,
    "Service": _service,
    "StorageClass": _storage_class,
    "PriorityClass": _priority_class,
    "Secret": _secret,
    "Namespace": _namespace,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume_object,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}
