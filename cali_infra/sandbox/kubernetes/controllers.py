"""What happens by itself: workloads get pods, pods get nodes, claims get volumes, orphans go.

Level-triggered like the real ones, and small: a write marks objects as due, and a short tick later each is
looked at once and brought to where it should be. Pods "run" as soon as what they need is there (a node, the
service account, the ConfigMaps, Secrets and claims that they name); nothing is executed. The annotation
`sandbox.cali.dev/fail` on a pod template makes its pods fail in the way that it names.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from cali_infra.sandbox.kubernetes.catalogue import Resource
from cali_infra.sandbox.kubernetes.errors import ApiError, Obj
from cali_infra.sandbox.kubernetes.registry import FOREGROUND, Deletion, Options, Registry
from cali_infra.sandbox.kubernetes.selectors import matches_selector
from cali_infra.sandbox.kubernetes.store import Change, Key

_log = logging.getLogger(__name__)
FAIL = "sandbox.cali.dev/fail"
TICK_SECONDS = 0.005
_MANAGER = "kube-controller-manager"
_PROVISIONERS = ("kubernetes.io/aws-ebs", "ebs.csi.aws.com")
_DRIVER = ("kube-system", "ebs-csi-controller")
_WAITING = "WaitForFirstConsumer"


class Timer(Protocol):
    """What a scheduled call can do: not happen."""

    def cancel(self) -> None: ...


Due = tuple[str, str, Key]


class Controllers:
    """The controllers of one cluster. Runs in the cluster's event loop only."""

    def __init__(
        self,
        registry: Registry,
        call_later: Callable[[float, Callable[[], None]], Timer],
        ca_pem: str,
    ) -> None:
        self._registry = registry
        self._store = registry.store
        self._catalogue = registry.catalogue
        self._call_later = call_later
        self._ca_pem = ca_pem
        self._due: dict[Due, None] = {}
        self._timer: Timer | None = None
        self._stopped = False
        self._next_address = 1
        self._sync: Mapping[tuple[str, str], Callable[[Key, Obj], None]] = {
            ("", "namespaces"): self._namespace,
            ("", "pods"): self._pod,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "nodes"): self._node,
            ("apps", "daemonsets"): self._daemon_set,
            ("apps", "deployments"): self._deployment,
            ("apps", "replicasets"): self._replica_set,
            ("apps", "statefulsets"): self._stateful_set,
            ("batch", "jobs"): self._job,
        }
        self._store.on_change(self._changed)

    def stop(self) -> None:
        """Nothing happens by itself any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def settle(self) -> None:
        """Does now all that is due, and what that makes due."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(50):
            if not self._due:
                break
            self._tick()
        self._timer = None

    def _mark(self, group: str, plural: str, key: Key) -> None:
        if self._stopped:
            return
        self._due[group, plural, key] = None
        if self._timer is None:
            self._timer = self._call_later(TICK_SECONDS, self._fired)

    def _fired(self) -> None:
        self._timer = None
        self._tick()

    def _tick(self) -> None:
        due, self._due = list(self._due), {}
        for group, plural, key in due:
            try:
                self._one(group, plural, key)
            except ApiError as error:
                # A quota of reality: somebody changed or removed it meanwhile; that write marks it again.
                _log.debug("%s %s: %s", plural, key, error.message)
            except Exception:
                _log.exception("controller of %s at %s", plural, key)
        if self._due and self._timer is None and not self._stopped:
            self._timer = self._call_later(TICK_SECONDS, self._fired)

    def _one(self, group: str, plural: str, key: Key) -> None:
        obj = self._store.get(self._catalogue.named(group, plural), key)
        if obj is None:
            return
        if FOREGROUND in (obj["metadata"].get("finalizers") or ()) and "deletionTimestamp" in obj["metadata"]:
            self._foreground(group, plural, key, obj)
            return
        self._collect(group, plural, key, obj)
        sync = self._sync.get((group, plural))
        if sync is not None:
            sync(key, obj)

    def _changed(self, change: Change) -> None:
        """Marks what a write may concern."""
        group, plural, key = change.resource.group, change.resource.plural, change.key
        metadata = change.obj["metadata"]
        if change.kind == "DELETED":
            for dependent in self._store.dependents(metadata["uid"]):
                self._mark(*dependent)
        elif (
            (group, plural) in self._sync or "deletionTimestamp" in metadata or "ownerReferences" in metadata
        ):
            self._mark(group, plural, key)
        for owner in metadata.get("ownerReferences") or ():
            resource = self._catalogue.by_kind(owner["apiVersion"].rpartition("/")[0], owner["kind"])
            if resource is not None:
                self._mark(
                    resource.group, resource.plural, (key[0] if resource.namespaced else "", owner["name"])
                )
        if key[0] and change.kind == "DELETED":
            self._mark("", "namespaces", ("", key[0]))
        if change.kind == "MODIFIED":
            return
        if plural == "nodes":
            self._mark_all("apps", "daemonsets")
            self._mark_all("", "pods")
        elif plural in ("configmaps", "secrets", "serviceaccounts", "persistentvolumeclaims") and key[0]:
            for due in [("", "pods"), *(name for name in self._sync if name[0] in ("apps", "batch"))]:
                self._mark_all(*due, namespace=key[0])
        elif plural in ("storageclasses", "pods"):
            self._mark_all("", "persistentvolumeclaims", namespace=key[0])
        elif (plural, *key) == ("deployments", *_DRIVER):
            self._mark_all("", "pods")
            self._mark_all("", "persistentvolumeclaims")
        if plural == "persistentvolumeclaims" and change.kind == "DELETED":
            self._reclaim(change.obj)

    def _mark_all(self, group: str, plural: str, namespace: str = "") -> None:
        for obj in self._store.all(self._catalogue.named(group, plural), namespace):
            self._mark(group, plural, _key(obj))

    # Garbage

    def _foreground(self, group: str, plural: str, key: Key, obj: Obj) -> None:
        waiting = False
        for dependent_group, dependent_plural, dependent in self._store.dependents(obj["metadata"]["uid"]):
            resource = self._catalogue.named(dependent_group, dependent_plural)
            _, gone = self._registry.delete(resource, dependent, Deletion("Foreground"))
            waiting = waiting or not gone
        if not waiting:
            self._registry.release(self._catalogue.named(group, plural), key, FOREGROUND)

    def _collect(self, group: str, plural: str, key: Key, obj: Obj) -> None:
        """Deletes an object none of whose owners is there any more."""
        owners = obj["metadata"].get("ownerReferences")
        if owners and not any(self._is_there(owner, key[0]) for owner in owners):
            self._registry.delete(self._catalogue.named(group, plural), key, Deletion())

    def _is_there(self, owner: Obj, namespace: str) -> bool:
        resource = self._catalogue.by_kind(owner["apiVersion"].rpartition("/")[0], owner["kind"])
        if resource is None:
            # Its kind is not modelled, so nobody can say that it is gone.
            return True
        found = self._store.get(resource, (namespace if resource.namespaced else "", owner["name"]))
        return found is not None and found["metadata"]["uid"] == owner["uid"]

    # Namespaces

    def _namespace(self, key: Key, obj: Obj) -> None:
        name = key[1]
        if "deletionTimestamp" in obj["metadata"]:
            left = False
            for (group, plural), inner, item in self._store.everything():
                if inner[0] != name:
                    continue
                if "deletionTimestamp" not in item["metadata"]:
                    _, gone = self._registry.delete(self._catalogue.named(group, plural), inner, Deletion())
                    left = left or not gone
                else:
                    left = True
            if not left:
                self._store.drop(self._catalogue.named("", "namespaces"), key)
            return
        for kind, item in (
            ("serviceaccounts", {"metadata": {"name": "default"}}),
            ("configmaps", {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": self._ca_pem}}),
        ):
            resource = self._catalogue.named("", kind)
            if self._store.get(resource, (name, item["metadata"]["name"])) is None:
                self._registry.create(resource, name, item, Options(_MANAGER))

    # Workloads

    def _daemon_set(self, key: Key, obj: Obj) -> None:
        template = obj["spec"]["template"]
        generation = _hash(template)
        nodes = [
            node["metadata"]["name"]
            for node in self._store.all(self._catalogue.named("", "nodes"))
            if _fits(template["spec"], node)
        ]
        keep = obj["spec"]["updateStrategy"].get("type") == "OnDelete"
        pods = {}
        for pod in self._pods_of(obj):
            current = pod["metadata"]["labels"].get("controller-revision-hash") == generation
            node = pod["spec"].get("nodeName", "")
            if node not in nodes or node in pods or not (current or keep):
                self._registry.delete(self._catalogue.named("", "pods"), _key(pod), Deletion())
            else:
                pods[node] = pod
        labels = {"controller-revision-hash": generation, "pod-template-generation": str(_generation(obj))}
        for node in nodes:
            if node not in pods:
                made = self._new_pod(obj, template, labels, {"nodeName": node})
                if made is not None:
                    pods[node] = made
        ready = sum(1 for pod in pods.values() if _is_ready(pod))
        updated = sum(
            1
            for pod in pods.values()
            if pod["metadata"]["labels"].get("controller-revision-hash") == generation
        )
        status: Obj = {
            "currentNumberScheduled": len(pods),
            "desiredNumberScheduled": len(nodes),
            "numberMisscheduled": 0,
            "numberReady": ready,
            "observedGeneration": _generation(obj),
            "updatedNumberScheduled": updated,
        }
        if ready:
            status["numberAvailable"] = ready
        if ready < len(nodes):
            status["numberUnavailable"] = len(nodes) - ready
        self._registry.write_status(self._catalogue.named("apps", "daemonsets"), key, status, _MANAGER)

    def _deployment(self, key: Key, obj: Obj) -> None:
        resource = self._catalogue.named("apps", "replicasets")
        template, replicas = obj["spec"]["template"], obj["spec"].get("replicas", 1)
        label = _hash(template)
        sets = self._owned(resource, obj)
        current = next((item for item in sets if _labels(item).get("pod-template-hash") == label), None)
        if current is None:
            self._create_owned(resource, obj, f"{key[1]}-{label}", self._replica_set_of(obj, label))
        for item in sets:
            wanted = replicas if item is current else 0
            if item["spec"].get("replicas") != wanted:
                self._registry.patch(
                    resource,
                    _key(item),
                    _with_replicas(wanted),
                    Options(_MANAGER),
                )
        sets = self._owned(resource, obj)
        counts = {
            name: sum(item.get("status", {}).get(name, 0) for item in sets)
            for name in ("replicas", "readyReplicas", "availableReplicas")
        }
        updated = sum(
            item.get("status", {}).get("replicas", 0)
            for item in sets
            if _labels(item).get("pod-template-hash") == label
        )
        available = counts["availableReplicas"] >= replicas
        status: Obj = {"observedGeneration": _generation(obj), **_without_zeros(counts)}
        status |= _without_zeros({"updatedReplicas": updated})
        status |= _without_zeros({"unavailableReplicas": replicas - counts["availableReplicas"]})
        status["conditions"] = self._conditions(
            obj,
            (
                "Available",
                available,
                "MinimumReplicasAvailable" if available else "MinimumReplicasUnavailable",
            ),
            ("Progressing", True, "NewReplicaSetAvailable" if available else "ReplicaSetUpdated"),
        )
        self._registry.write_status(self._catalogue.named("apps", "deployments"), key, status, _MANAGER)

    @staticmethod
    def _replica_set_of(obj: Obj, label: str) -> Obj:
        template = obj["spec"]["template"]
        labels = {**(template.get("metadata", {}).get("labels") or {}), "pod-template-hash": label}
        selector = obj["spec"]["selector"]
        matched = {**(selector.get("matchLabels") or {}), "pod-template-hash": label}
        return {
            "metadata": {"labels": labels},
            "spec": {
                "replicas": obj["spec"].get("replicas", 1),
                "selector": {**selector, "matchLabels": matched},
                "template": {**template, "metadata": {**template.get("metadata", {}), "labels": labels}},
            },
        }

    def _replica_set(self, key: Key, obj: Obj) -> None:
        wanted = obj["spec"].get("replicas", 1)
        pods = self._scaled(obj, wanted, {})
        ready = sum(1 for pod in pods if _is_ready(pod))
        status = {"observedGeneration": _generation(obj), "replicas": len(pods)}
        status |= _without_zeros(
            {"readyReplicas": ready, "availableReplicas": ready, "fullyLabeledReplicas": len(pods)}
        )
        self._registry.write_status(self._catalogue.named("apps", "replicasets"), key, status, _MANAGER)

    def _scaled(self, obj: Obj, wanted: int, labels: Mapping[str, str]) -> list[Obj]:
        pods = self._pods_of(obj)
        for pod in pods[wanted:]:
            self._registry.delete(self._catalogue.named("", "pods"), _key(pod), Deletion())
        pods = pods[:wanted]
        while len(pods) < wanted:
            made = self._new_pod(obj, obj["spec"]["template"], labels, {})
            if made is None:
                break
            pods.append(made)
        return pods

    def _stateful_set(self, key: Key, obj: Obj) -> None:
        template, wanted = obj["spec"]["template"], obj["spec"].get("replicas", 1)
        revision = f"{key[1]}-{_hash(template)}"
        resource = self._catalogue.named("", "pods")
        pods = {pod["metadata"]["name"]: pod for pod in self._pods_of(obj)}
        names = [f"{key[1]}-{index}" for index in range(wanted)]
        for name, pod in list(pods.items()):
            old = _labels(pod).get("controller-revision-hash") != revision
            if name not in names or (old and obj["spec"]["updateStrategy"].get("type") != "OnDelete"):
                self._registry.delete(resource, _key(pod), Deletion())
                del pods[name]
        for index, name in enumerate(names):
            if name in pods:
                continue
            claims = self._claims_of(key[0], name, obj["spec"].get("volumeClaimTemplates") or ())
            labels = {
                "controller-revision-hash": revision,
                "statefulset.kubernetes.io/pod-name": name,
                "apps.kubernetes.io/pod-index": str(index),
            }
            volumes = [*(template["spec"].get("volumes") or ()), *claims]
            extra: Obj = {"hostname": name, **({"volumes": volumes} if volumes else {})}
            made = self._new_pod(obj, template, labels, extra, name=name)
            if made is not None:
                pods[name] = made
        ready = sum(1 for pod in pods.values() if _is_ready(pod))
        status: Obj = {
            "observedGeneration": _generation(obj),
            "replicas": len(pods),
            "availableReplicas": ready,
            "currentRevision": revision,
            "updateRevision": revision,
            "collisionCount": 0,
        }
        status |= _without_zeros(
            {"readyReplicas": ready, "currentReplicas": len(pods), "updatedReplicas": len(pods)}
        )
        self._registry.write_status(self._catalogue.named("apps", "statefulsets"), key, status, _MANAGER)

    def _claims_of(self, namespace: str, pod: str, templates: Iterable[Obj]) -> Iterator[Obj]:
        resource = self._catalogue.named("", "persistentvolumeclaims")
        for template in templates:
            volume = template["metadata"]["name"]
            name = f"{volume}-{pod}"
            if self._store.get(resource, (namespace, name)) is None:
                body = {"metadata": {**template["metadata"], "name": name}, "spec": template["spec"]}
                self._registry.create(resource, namespace, body, Options(_MANAGER))
            yield {"name": volume, "persistentVolumeClaim": {"claimName": name}}

    def _job(self, key: Key, obj: Obj) -> None:
        status = obj.get("status") or {}
        if obj["spec"].get("suspend") or status.get("completionTime"):
            return
        wanted = obj["spec"].get("completions", 1)
        pods = self._scaled(obj, wanted, {})
        done = sum(1 for pod in pods if pod.get("status", {}).get("phase") == "Succeeded")
        now = self._registry.now()
        status = {"startTime": status.get("startTime", now), "ready": 0, "terminating": 0}
        status |= _without_zeros({"active": len(pods) - done, "succeeded": done})
        if done >= wanted:
            status["completionTime"] = now
            status["conditions"] = self._conditions(
                obj,
                ("SuccessCriteriaMet", True, "CompletionsReached"),
                ("Complete", True, "CompletionsReached"),
            )
        self._registry.write_status(self._catalogue.named("batch", "jobs"), key, status, _MANAGER)

    # Pods and nodes

    def _node(self, key: Key, obj: Obj) -> None:
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
            for item in self._conditions(obj, *reasons)
        ]
        self._registry.write_status(self._catalogue.named("", "nodes"), key, status, "kubelet")

    def _pod(self, key: Key, obj: Obj) -> None:
        if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        nodes = self._store.all(self._catalogue.named("", "nodes"))
        names = {node["metadata"]["name"] for node in nodes}
        if obj["spec"].get("nodeName") and obj["spec"]["nodeName"] not in names:
            self._registry.delete(self._catalogue.named("", "pods"), key, Deletion())
            return
        why = self._failure(obj)
        if not obj["spec"].get("nodeName"):
            chosen = self._scheduled(key, obj, nodes) if not (why and why[0] == "Unschedulable") else None
            if chosen is None:
                message = (
                    f"0/{len(nodes)} nodes are available" if nodes else "no nodes available to schedule pods"
                )
                self._unscheduled(key, obj, why[1] if why else message)
                return
            obj = chosen
        status = self._failed_status(obj, *why) if why else self._running_status(obj)
        self._registry.write_status(self._catalogue.named("", "pods"), key, status, "kubelet")
        if why:
            self._event(obj, "FailedMount" if why[0] == "ContainerCreating" else "Failed", why[1])

    def _scheduled(self, key: Key, obj: Obj, nodes: list[Obj]) -> Obj | None:
        fitting = [
            node["metadata"]["name"]
            for node in nodes
            if _fits(obj["spec"], node) and not (node.get("spec") or {}).get("unschedulable")
        ]
        if not fitting or not self._claims_bound(key, obj):
            return None
        pods = self._store.all(self._catalogue.named("", "pods"))
        load = dict.fromkeys(fitting, 0)
        for pod in pods:
            node = pod["spec"].get("nodeName", "")
            if node in load:
                load[node] += 1
        node = min(fitting, key=lambda name: (load[name], name))
        bound = {**obj, "spec": {**obj["spec"], "nodeName": node}}
        return self._store.put(self._catalogue.named("", "pods"), key, bound)

    def _claims_bound(self, key: Key, obj: Obj) -> bool:
        resource = self._catalogue.named("", "persistentvolumeclaims")
        for name in _claim_names(obj):
            claim = self._store.get(resource, (key[0], name))
            if claim is None:
                return False
            if not claim["spec"].get("volumeName"):
                self._bind(claim)
                claim = self._store.get(resource, (key[0], name)) or claim
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
            if self._store.get(self._catalogue.named("", kind), (namespace, name)) is None:
                volume = "configmap" if kind == "configmaps" else "secret"
                return "ContainerCreating", f'MountVolume.SetUp failed: {volume} "{name}" not found'
        for kind, name in _read_by_env(pod["spec"]):
            if self._store.get(self._catalogue.named("", kind), (namespace, name)) is None:
                return "CreateContainerConfigError", f'{kind.removesuffix("s")} "{name}" not found'
        return None

    def _unscheduled(self, key: Key, obj: Obj, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        condition["lastTransitionTime"] = self._since(obj, condition)
        status = {"phase": "Pending", "qosClass": "BestEffort", "conditions": [condition]}
        self._registry.write_status(self._catalogue.named("", "pods"), key, status, "kube-scheduler")
        self._event(obj, "FailedScheduling", message)

    def _running_status(self, obj: Obj) -> Obj:
        now = self._registry.now()
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
            conditions.append({**condition, "lastTransitionTime": self._since(obj, condition)})
        return {
            "phase": phase,
            "qosClass": "BestEffort",
            "conditions": conditions,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": old.get("startTime", self._registry.now()),
        }

    def _since(self, obj: Obj, condition: Obj) -> str:
        """Since when a condition holds: its old time if it did not change."""
        for item in (obj.get("status") or {}).get("conditions") or ():
            if item["type"] == condition["type"] and item["status"] == condition["status"]:
                return str(item.get("lastTransitionTime") or self._registry.now())
        return self._registry.now()

    def _conditions(self, obj: Obj, *wanted: tuple[str, bool, str]) -> list[Obj]:
        result = []
        for kind, value, reason in wanted:
            condition: Obj = {"type": kind, "status": str(value), "reason": reason, "message": reason}
            since = self._since(obj, condition)
            times = {"lastTransitionTime": since}
            if obj["kind"] != "Job":
                times["lastUpdateTime"] = since
            result.append({**condition, **times})
        return result

    def _owned(self, resource: Resource, owner: Obj) -> list[Obj]:
        found = []
        for group, plural, key in self._store.dependents(owner["metadata"]["uid"]):
            if (group, plural) == (resource.group, resource.plural):
                obj = self._store.get(resource, key)
                if obj is not None and "deletionTimestamp" not in obj["metadata"]:
                    found.append(obj)
        return found

    def _pods_of(self, owner: Obj) -> list[Obj]:
        return self._owned(self._catalogue.named("", "pods"), owner)

    def _create_owned(self, resource: Resource, owner: Obj, name: str, body: Obj) -> Obj:
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        naming = {"generateName": name} if name.endswith("-") else {"name": name}
        metadata = {**body["metadata"], **naming, "ownerReferences": [reference]}
        namespace = owner["metadata"]["namespace"]
        return self._registry.create(resource, namespace, {**body, "metadata": metadata}, Options(_MANAGER))

    def _new_pod(
        self, owner: Obj, template: Obj, labels: Mapping[str, str], extra: Obj, name: str = ""
    ) -> Obj | None:
        """A pod of a workload; None, and an event, when its service account is not there."""
        namespace = owner["metadata"]["namespace"]
        account = template["spec"].get("serviceAccountName", "default")
        if self._store.get(self._catalogue.named("", "serviceaccounts"), (namespace, account)) is None:
            message = (
                f'Error creating: pods "{owner["metadata"]["name"]}-" is forbidden: error looking up service '
                f'account {namespace}/{account}: serviceaccount "{account}" not found'
            )
            self._event(owner, "FailedCreate", message)
            return None
        inherited = template.get("metadata") or {}
        metadata: Obj = {"labels": {**(inherited.get("labels") or {}), **labels}}
        annotations = dict(inherited.get("annotations") or {})
        if FAIL in (owner["metadata"].get("annotations") or {}):
            annotations[FAIL] = owner["metadata"]["annotations"][FAIL]
        if annotations:
            metadata["annotations"] = annotations
        body = {"metadata": metadata, "spec": {**template["spec"], **extra}}
        return self._create_owned(
            self._catalogue.named("", "pods"), owner, name or f"{owner['metadata']['name']}-", body
        )

    # Storage

    def _claim(self, key: Key, obj: Obj) -> None:
        if obj["spec"].get("volumeName"):
            return
        name = obj["spec"].get("storageClassName", "")
        found = self._store.get(self._catalogue.named("storage.k8s.io", "storageclasses"), ("", name))
        if found is None:
            return
        if found.get("volumeBindingMode") != _WAITING:
            self._bind(obj)
            return
        for pod in self._store.all(self._catalogue.named("", "pods"), key[0]):
            if key[1] in _claim_names(pod) and not pod["spec"].get("nodeName"):
                self._mark("", "pods", _key(pod))

    def _bind(self, claim: Obj) -> None:
        """Makes a volume for a claim, when its class names a provisioner that the cluster has."""
        metadata, spec = claim["metadata"], claim["spec"]
        name = spec.get("storageClassName", "")
        found = self._store.get(self._catalogue.named("storage.k8s.io", "storageclasses"), ("", name))
        if found is None or found["provisioner"] not in _PROVISIONERS:
            return
        if self._store.get(self._catalogue.named("apps", "deployments"), _DRIVER) is None:
            self._event(
                claim,
                "ExternalProvisioning",
                "Waiting for a volume to be created either by the external provisioner 'ebs.csi.aws.com' or "
                "manually by the system administrator.",
            )
            return
        size = spec["resources"]["requests"]["storage"]
        volume = f"pvc-{metadata['uid']}"
        body = {
            "metadata": {
                "name": volume,
                "annotations": {"pv.kubernetes.io/provisioned-by": "ebs.csi.aws.com"},
            },
            "spec": {
                "accessModes": spec["accessModes"],
                "capacity": {"storage": size},
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                },
                "csi": {
                    "driver": "ebs.csi.aws.com",
                    "volumeHandle": f"vol-{metadata['uid'].replace('-', '')[:17]}",
                },
                "persistentVolumeReclaimPolicy": found.get("reclaimPolicy", "Delete"),
                "storageClassName": name,
            },
        }
        volumes = self._catalogue.named("", "persistentvolumes")
        self._registry.create(volumes, "", body, Options(_MANAGER))
        self._registry.write_status(volumes, ("", volume), {"phase": "Bound"}, _MANAGER)
        claims, key = self._catalogue.named("", "persistentvolumeclaims"), _key(claim)
        self._store.put(claims, key, {**claim, "spec": {**spec, "volumeName": volume}})
        status = {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": {"storage": size}}
        self._registry.write_status(claims, key, status, _MANAGER)

    def _reclaim(self, claim: Obj) -> None:
        resource = self._catalogue.named("", "persistentvolumes")
        volume = self._store.get(resource, ("", claim["spec"].get("volumeName", "")))
        if volume is None:
            return
        if volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            self._store.drop(resource, _key(volume))
        else:
            self._registry.write_status(resource, _key(volume), {"phase": "Released"}, _MANAGER)

    # Events

    def _event(self, about: Obj, reason: str, message: str) -> None:
        """Records an event once; a repetition is counted."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        resource = self._catalogue.named("", "events")
        digest = hashlib.sha256(f"{metadata['uid']} {reason} {message}".encode()).hexdigest()[:16]
        name = f"{metadata['name']}.{digest}"
        if self._store.get(resource, (namespace, name)) is not None:
            return
        now = self._registry.now()
        body = {
            "metadata": {"name": name},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": namespace,
                "uid": metadata["uid"],
            },
            "reason": reason,
            "message": message,
            "type": "Warning",
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": "sandbox"},
            "reportingComponent": "sandbox",
            "reportingInstance": "",
        }
        self._registry.create(resource, namespace, body, Options("sandbox"))


def _key(obj: Obj) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _labels(obj: Obj) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _generation(obj: Obj) -> int:
    return int(obj["metadata"].get("generation", 1))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def _with_replicas(count: int) -> Callable[[Obj], Obj]:
    return lambda live: {**live, "spec": {**live["spec"], "replicas": count}}


def _without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count > 0}


def _is_ready(pod: Obj) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _fits(spec: Obj, node: Obj) -> bool:
    """True when a pod's node selector and required affinity allow this node; taints are not modelled."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity: Any = spec
    for part in ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"):
        affinity = (affinity or {}).get(part)
    if not affinity:
        return True
    return any(
        matches_selector({"matchExpressions": term.get("matchExpressions")}, labels)
        for term in affinity.get("nodeSelectorTerms") or ()
    )


def _claim_names(pod: Obj) -> list[str]:
    return [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    ]


def _mounted(spec: Obj) -> Iterator[tuple[str, str]]:
    """The ConfigMaps and Secrets that must be there before a pod's volumes can be mounted."""
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            if "configMap" in source and not source["configMap"].get("optional"):
                yield "configmaps", source["configMap"].get("name", "")
            if "secret" in source and not source["secret"].get("optional"):
                yield "secrets", source["secret"].get("secretName") or source["secret"].get("name", "")


def _read_by_env(spec: Obj) -> Iterator[tuple[str, str]]:
    """The ConfigMaps and Secrets that a pod's environment is read from."""
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
                    yield kind, item[field].get("name", "")
