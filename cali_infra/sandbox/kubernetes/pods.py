"""Nodes and pods: what the scheduler and the kubelets do, without running anything.

A pod runs as soon as what it needs is there: a node that fits, its claims, and the ConfigMaps and Secrets that
it names. The annotation `sandbox.cali.dev/fail` makes it fail in the way that it names. Those of cali's own checks
are brought as far as the kubelet would bring them, and then run by an agent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from cali_infra.sandbox.kubernetes.errors import Obj
from cali_infra.sandbox.kubernetes.registry import Deletion
from cali_infra.sandbox.kubernetes.selectors import matches_selector
from cali_infra.sandbox.kubernetes.state import State, claim_names, fits, labels_of
from cali_infra.sandbox.kubernetes.store import Key
from cali_infra.sandbox.kubernetes.volumes import Volumes

FAIL = "sandbox.cali.dev/fail"
# Why a container waits that the agent cannot run.
REFUSED = "CreateContainerError"
_HOST = "kubernetes.io/hostname"
# What `cali verify` makes, and where: in namespaces of its own, and where Airflow's programs are.
_CHECKS = ("app.kubernetes.io/name", "cali-verify")
_OWN, _AIRFLOW = "cali-verify-", "airflow"
_DONE = ("Succeeded", "Failed")
# A Job by namespace and name.
FindJob = Callable[[str, str], "Obj | None"]


class Pods:
    """The scheduler and the kubelets of one cluster."""

    def __init__(self, state: State, volumes: Volumes) -> None:
        self._state = state
        self._volumes = volumes
        self._next_address = 1

    def node(self, key: Key, obj: Obj) -> None:
        """A node without conditions is healthy."""
        status = dict(obj.get("status") or {})
        if any(item["type"] == "Ready" for item in status.get("conditions") or ()):
            return
        reasons = (
            ("MemoryPressure", False, "KubeletHasSufficientMemory"),
            ("DiskPressure", False, "KubeletHasNoDiskPressure"),
            ("PIDPressure", False, "KubeletHasSufficientPID"),
            ("Ready", True, "KubeletReady"),
        )
        status["conditions"] = [
            {key: value for key, value in item.items() if key != "lastUpdateTime"}
            for item in self._state.conditions(obj, *reasons)
        ]
        self._state.registry.write_status(self._state.resource("", "nodes"), key, status, "kubelet")

    def pod(self, key: Key, obj: Obj) -> None:
        """A pod on its way to where it should be."""
        if obj.get("status", {}).get("phase") in _DONE:
            return
        nodes = self._state.store.all(self._state.resource("", "nodes"))
        names = {node["metadata"]["name"] for node in nodes}
        if obj["spec"].get("nodeName") and obj["spec"]["nodeName"] not in names:
            self._state.registry.delete(self._state.resource("", "pods"), key, Deletion())
            return
        run = is_run(obj, self._job)
        if run and _began(obj):
            # From here on it is the agent's.
            return
        why = self._failure(obj)
        if not obj["spec"].get("nodeName"):
            chosen = self._scheduled(key, obj, nodes) if not (why and why[0] == "Unschedulable") else None
            if chosen is None:
                self._unscheduled(key, obj, why[1] if why else self._nowhere(obj, nodes))
                return
            obj = chosen
        if why:
            status = self._failed_status(obj, *why)
        elif run:
            status = self._failed_status(obj, "ContainerCreating", "")
        else:
            status = self._running_status(obj)
        self._state.registry.write_status(self._state.resource("", "pods"), key, status, "kubelet")
        if why:
            self._state.event(obj, "FailedMount" if why[0] == "ContainerCreating" else "Failed", why[1])

    def _job(self, namespace: str, name: str) -> Obj | None:
        return self._state.find("batch", "jobs", namespace, name)

    def _scheduled(self, key: Key, obj: Obj, nodes: list[Obj]) -> Obj | None:
        shunned = self._shunned(obj, nodes)
        fitting = [
            node["metadata"]["name"]
            for node in nodes
            if fits(obj["spec"], node)
            and not (node.get("spec") or {}).get("unschedulable")
            and node["metadata"]["name"] not in shunned
        ]
        if not fitting or not self._claims_bound(key, obj):
            return None
        pods = self._state.store.all(self._state.resource("", "pods"))
        load = dict.fromkeys(fitting, 0)
        for pod in pods:
            node = pod["spec"].get("nodeName", "")
            if node in load:
                load[node] += 1
        node = min(fitting, key=lambda name: (load[name], name))
        bound = {**obj, "spec": {**obj["spec"], "nodeName": node}}
        return self._state.store.put(self._state.resource("", "pods"), key, bound)

    def _nowhere(self, obj: Obj, nodes: list[Obj]) -> str:
        """Why no node takes a pod, as the scheduler says it."""
        if not nodes:
            return "no nodes available to schedule pods"
        shunned = len(self._shunned(obj, nodes))
        why = f": {shunned} node(s) didn't match pod anti-affinity rules." if shunned else ""
        return f"0/{len(nodes)} nodes are available{why}"

    def _shunned(self, obj: Obj, nodes: list[Obj]) -> set[str]:
        """The nodes on which a pod must not stand beside another, by its required anti-affinity.

        By host name alone: terms of other topologies, and those of the pods that are there already, are not
        modelled.
        """
        terms = [term for term in anti_affinity(obj["spec"]) if term.get("topologyKey") == _HOST]
        if not terms:
            return set()
        hosts = {node["metadata"]["name"]: labels_of(node).get(_HOST, "") for node in nodes}
        taken: set[str] = set()
        for other in self._state.store.all(self._state.resource("", "pods")):
            if (other.get("status") or {}).get("phase") in _DONE or not other["spec"].get("nodeName"):
                continue
            for term in terms:
                namespaces = term.get("namespaces") or [obj["metadata"]["namespace"]]
                if other["metadata"]["namespace"] in namespaces and matches_selector(
                    term.get("labelSelector") or {}, labels_of(other)
                ):
                    taken.add(hosts.get(other["spec"]["nodeName"], ""))
        return {name for name, host in hosts.items() if host in taken}

    def _claims_bound(self, key: Key, obj: Obj) -> bool:
        resource = self._state.resource("", "persistentvolumeclaims")
        for name in claim_names(obj):
            claim = self._state.store.get(resource, (key[0], name))
            if claim is None:
                return False
            if not claim["spec"].get("volumeName"):
                self._volumes.bind(claim)
                claim = self._state.store.get(resource, (key[0], name)) or claim
            if not claim["spec"].get("volumeName"):
                return False
        return True

    def _failure(self, pod: Obj) -> tuple[str, str] | None:
        """Why a pod cannot run, as a reason and a message: asked for, or because something is missing."""
        asked = (pod["metadata"].get("annotations") or {}).get(FAIL)
        image = pod["spec"]["containers"][0].get("image", "")
        if asked:
            messages = {
                "ImagePullBackOff": f'Back-off pulling image "{image}"',
                "CrashLoopBackOff": "back-off 5m0s restarting failed container",
                "Unschedulable": "0 nodes are available: insufficient memory (asked for by annotation)",
            }
            return asked, messages.get(asked, "the pod fails because its annotation asks for it")
        namespace = pod["metadata"]["namespace"]
        for kind, name in _mounted(pod["spec"]):
            if self._state.find("", kind, namespace, name) is None:
                volume = "configmap" if kind == "configmaps" else "secret"
                return "ContainerCreating", f'MountVolume.SetUp failed: {volume} "{name}" not found'
        for kind, name, key in _read_by_env(pod["spec"]):
            found = self._state.find("", kind, namespace, name)
            if found is None:
                return "CreateContainerConfigError", f'{kind.removesuffix("s")} "{name}" not found'
            if key and key not in {**(found.get("data") or {}), **(found.get("binaryData") or {})}:
                where = f"{found['kind']} {namespace}/{name}"
                return "CreateContainerConfigError", f"couldn't find key {key} in {where}"
        return None

    def _unscheduled(self, key: Key, obj: Obj, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        condition["lastTransitionTime"] = self._state.since(obj, condition)
        status = {"phase": "Pending", "qosClass": "BestEffort", "conditions": [condition]}
        self._state.registry.write_status(self._state.resource("", "pods"), key, status, "kube-scheduler")
        self._state.event(obj, "FailedScheduling", message)

    def _running_status(self, obj: Obj) -> Obj:
        now = self._state.registry.now()
        old = obj.get("status") or {}
        finished = any(owner["kind"] == "Job" for owner in obj["metadata"].get("ownerReferences") or ())
        state = (
            {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
            if finished
            else {"running": {"startedAt": old.get("startTime", now)}}
        )
        status = self._pod_status(obj, "Succeeded" if finished else "Running", ready=not finished)
        status["containerStatuses"] = [
            {
                "name": item["name"],
                "image": item["image"],
                "imageID": "sha256:" + hashlib.sha256(item["image"].encode()).hexdigest(),
                "containerID": "containerd://" + hashlib.sha256(obj["metadata"]["uid"].encode()).hexdigest(),
                "ready": not finished,
                "started": not finished,
                "restartCount": 0,
                "state": state,
                "lastState": {},
            }
            for item in obj["spec"]["containers"]
        ]
        return status

    def _failed_status(self, obj: Obj, reason: str, message: str) -> Obj:
        status = self._pod_status(obj, "Running" if reason == "CrashLoopBackOff" else "Pending", ready=False)
        status["containerStatuses"] = [
            {
                "name": item["name"],
                "image": item["image"],
                "imageID": "",
                "ready": False,
                "started": False,
                "restartCount": 5 if reason == "CrashLoopBackOff" else 0,
                "state": {"waiting": {"reason": reason, "message": message}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}
                if reason == "CrashLoopBackOff"
                else {},
            }
            for item in obj["spec"]["containers"]
        ]
        return status

    def _pod_status(self, obj: Obj, phase: str, *, ready: bool) -> Obj:
        old = obj.get("status") or {}
        if "podIP" in old:
            address = old["podIP"]
        else:
            self._next_address += 1
            address = f"10.40.{(self._next_address >> 8) & 255}.{self._next_address & 255}"
        conditions = []
        for kind, value in (
            ("PodScheduled", True),
            ("Initialized", True),
            ("ContainersReady", ready),
            ("Ready", ready),
        ):
            condition: Obj = {"type": kind, "status": str(value)}
            if not value:
                condition |= {"reason": "PodCompleted" if phase == "Succeeded" else "ContainersNotReady"}
            conditions.append({**condition, "lastTransitionTime": self._state.since(obj, condition)})
        return {
            "phase": phase,
            "qosClass": "BestEffort",
            "conditions": conditions,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": old.get("startTime", self._state.registry.now()),
        }


def is_run(pod: Obj, job: FindJob) -> bool:
    """Whether a pod is of a Job of cali's own checks: its command is really run, by an agent.

    Both have the label, the Job is there and the very one that the pod names, and the namespace is one in which
    those checks work.
    """
    meta = pod["metadata"]
    if not _is_marked(pod) or not (meta["namespace"] == _AIRFLOW or meta["namespace"].startswith(_OWN)):
        return False
    for owner in meta.get("ownerReferences") or ():
        if owner["kind"] == "Job":
            found = job(meta["namespace"], owner["name"])
            if found is not None and found["metadata"]["uid"] == owner["uid"] and _is_marked(found):
                return True
    return False


def is_due(pod: Obj) -> bool:
    """Whether a pod that is really run has come so far that its containers are to be started."""
    status = pod.get("status") or {}
    waiting = [
        (item.get("state") or {}).get("waiting") or {} for item in status.get("containerStatuses") or ()
    ]
    ready = bool(waiting) and all(
        item.get("reason") == "ContainerCreating" and not item.get("message") for item in waiting
    )
    return status.get("phase") == "Pending" and ready


def _is_marked(obj: Obj) -> bool:
    name, value = _CHECKS
    return labels_of(obj).get(name) == value


def _began(pod: Obj) -> bool:
    """Whether the agent has started a container, or has refused to."""
    waiting = [
        (item.get("state") or {}).get("waiting") or {}
        for item in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
    return any(item.get("reason") in (None, REFUSED) for item in waiting)


def anti_affinity(spec: Obj) -> list[Obj]:
    """The terms by which a pod must not stand beside others."""
    part = (spec.get("affinity") or {}).get("podAntiAffinity") or {}
    return list(part.get("requiredDuringSchedulingIgnoredDuringExecution") or ())


def _mounted(spec: Obj) -> Iterator[tuple[str, str]]:
    """The ConfigMaps and Secrets that must be there before a pod's volumes can be mounted."""
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            if "configMap" in source and not source["configMap"].get("optional"):
                yield "configmaps", source["configMap"].get("name", "")
            if "secret" in source and not source["secret"].get("optional"):
                yield "secrets", source["secret"].get("secretName") or source["secret"].get("name", "")


def _read_by_env(spec: Obj) -> Iterator[tuple[str, str, str]]:
    """The ConfigMaps and Secrets that a pod's environment is read from, with the key or nothing for all."""
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        references = [*(container.get("envFrom") or ())]
        references += [item["valueFrom"] for item in container.get("env") or () if "valueFrom" in item]
        for item in references:
            for field, kind in (
                ("configMapRef", "configmaps"),
                ("configMapKeyRef", "configmaps"),
                ("secretRef", "secrets"),
                ("secretKeyRef", "secrets"),
            ):
                if field in item and not item[field].get("optional"):
                    yield kind, item[field].get("name", ""), item[field].get("key", "")
