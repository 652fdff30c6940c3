"""Workloads: DaemonSets, Deployments, ReplicaSets, StatefulSets and Jobs get their pods and their status.

A new template replaces the old pods at once; a rollout's pace is not modelled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from cali_infra.sandbox.kubernetes.errors import ApiError, Obj
from cali_infra.sandbox.kubernetes.pods import FAIL
from cali_infra.sandbox.kubernetes.registry import Deletion, Options
from cali_infra.sandbox.kubernetes.state import MANAGER, State, fits, is_ready, key_of, labels_of
from cali_infra.sandbox.kubernetes.store import Key


class Workloads:
    """The controllers of everything that has a pod template; `later` makes an object due in so many seconds."""

    def __init__(self, state: State, later: Callable[[float, str, str, Key], None]) -> None:
        self._state = state
        self._later = later

    def daemon_set(self, key: Key, obj: Obj) -> None:
        """One pod on each node that the template allows."""
        template = obj["spec"]["template"]
        generation = _hash(template)
        nodes = [
            node["metadata"]["name"]
            for node in self._state.store.all(self._state.resource("", "nodes"))
            if fits(template["spec"], node)
        ]
        keep = obj["spec"]["updateStrategy"].get("type") == "OnDelete"
        pods = {}
        for pod in self._state.pods_of(obj):
            current = pod["metadata"]["labels"].get("controller-revision-hash") == generation
            node = pod["spec"].get("nodeName", "")
            if node not in nodes or node in pods or not (current or keep):
                self._state.registry.delete(self._state.resource("", "pods"), key_of(pod), Deletion())
            else:
                pods[node] = pod
        labels = {"controller-revision-hash": generation, "pod-template-generation": str(_generation(obj))}
        for node in nodes:
            if node not in pods:
                made = self._new_pod(obj, template, labels, {"nodeName": node})
                if made is not None:
                    pods[node] = made
        ready = sum(1 for pod in pods.values() if is_ready(pod))
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
        self._state.registry.write_status(self._state.resource("apps", "daemonsets"), key, status, MANAGER)

    def deployment(self, key: Key, obj: Obj) -> None:
        """One ReplicaSet at full size for the present template, the others empty."""
        resource = self._state.resource("apps", "replicasets")
        template, replicas = obj["spec"]["template"], obj["spec"].get("replicas", 1)
        label = _hash(template)
        sets = self._state.owned(resource, obj)
        current = next((item for item in sets if labels_of(item).get("pod-template-hash") == label), None)
        if current is None:
            self._state.create_owned(resource, obj, f"{key[1]}-{label}", self._replica_set_of(obj, label))
        for item in sets:
            wanted = replicas if item is current else 0
            if item["spec"].get("replicas") != wanted:
                self._state.registry.patch(
                    resource,
                    key_of(item),
                    _with_replicas(wanted),
                    Options(MANAGER),
                )
        sets = self._state.owned(resource, obj)
        counts = {
            name: sum(item.get("status", {}).get(name, 0) for item in sets)
            for name in ("replicas", "readyReplicas", "availableReplicas")
        }
        updated = sum(
            item.get("status", {}).get("replicas", 0)
            for item in sets
            if labels_of(item).get("pod-template-hash") == label
        )
        available = counts["availableReplicas"] >= replicas
        status: Obj = {"observedGeneration": _generation(obj), **_without_zeros(counts)}
        status |= _without_zeros({"updatedReplicas": updated})
        status |= _without_zeros({"unavailableReplicas": replicas - counts["availableReplicas"]})
        status["conditions"] = self._state.conditions(
            obj,
            (
                "Available",
                available,
                "MinimumReplicasAvailable" if available else "MinimumReplicasUnavailable",
            ),
            ("Progressing", True, "NewReplicaSetAvailable" if available else "ReplicaSetUpdated"),
        )
        self._state.registry.write_status(self._state.resource("apps", "deployments"), key, status, MANAGER)

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

    def replica_set(self, key: Key, obj: Obj) -> None:
        """As many pods as asked for."""
        wanted = obj["spec"].get("replicas", 1)
        pods = self._scaled(obj, wanted, {})
        ready = sum(1 for pod in pods if is_ready(pod))
        status = {"observedGeneration": _generation(obj), "replicas": len(pods)}
        status |= _without_zeros(
            {"readyReplicas": ready, "availableReplicas": ready, "fullyLabeledReplicas": len(pods)}
        )
        self._state.registry.write_status(self._state.resource("apps", "replicasets"), key, status, MANAGER)

    def stateful_set(self, key: Key, obj: Obj) -> None:
        """Numbered pods with volumes of their own."""
        template, wanted = obj["spec"]["template"], obj["spec"].get("replicas", 1)
        revision = f"{key[1]}-{_hash(template)}"
        resource = self._state.resource("", "pods")
        pods = {pod["metadata"]["name"]: pod for pod in self._state.pods_of(obj)}
        names = [f"{key[1]}-{index}" for index in range(wanted)]
        # What a set of this name left behind when it was deleted without its pods.
        for name in names:
            orphan = None if name in pods else self._state.adopt(resource, obj, name)
            if orphan is not None:
                pods[name] = orphan
        for name, pod in list(pods.items()):
            old = labels_of(pod).get("controller-revision-hash") != revision
            if name not in names or (old and obj["spec"]["updateStrategy"].get("type") != "OnDelete"):
                self._state.registry.delete(resource, key_of(pod), Deletion())
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
        ready = sum(1 for pod in pods.values() if is_ready(pod))
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
        self._state.registry.write_status(self._state.resource("apps", "statefulsets"), key, status, MANAGER)

    def job(self, key: Key, obj: Obj) -> None:
        """Pods until enough have ended well, too many have failed, or the time is over.

        A pod that failed is replaced at once; `ttlSecondsAfterFinished` is not modelled.
        """
        status, spec = dict(obj.get("status") or {}), obj["spec"]
        if spec.get("suspend") or _is_over(status):
            return
        now = self._state.registry.now()
        if "startTime" not in status:
            status["startTime"] = now
            if "activeDeadlineSeconds" in spec:
                self._later(float(spec["activeDeadlineSeconds"]), "batch", "jobs", key)
        pods = self._state.pods_of(obj)
        done, failed = (
            [pod for pod in pods if (pod.get("status") or {}).get("phase") == phase]
            for phase in ("Succeeded", "Failed")
        )
        active = [pod for pod in pods if pod not in done and pod not in failed]
        left = max(0, int(spec.get("completions", 1)) - len(done))
        given_up = _given_up(spec, status, len(failed), now)
        if given_up is not None or not left:
            for pod in active:
                self._state.registry.delete(self._state.resource("", "pods"), key_of(pod), Deletion())
            # What was ended for want of time has failed, too.
            failures = len(failed) + (len(active) if given_up is not None else 0)
            active = []
        else:
            active = self._job_pods(obj, active, min(left, int(spec.get("parallelism", 1))))
            failures = len(failed)
        ready = sum(1 for pod in active if is_ready(pod))
        new: Obj = {"startTime": status["startTime"], "ready": ready, "terminating": 0}
        new |= _without_zeros({"active": len(active), "succeeded": len(done), "failed": failures})
        if given_up is not None:
            new["conditions"] = [
                {**condition, "message": given_up[1]}
                for condition in self._state.conditions(
                    obj, ("FailureTarget", True, given_up[0]), ("Failed", True, given_up[0])
                )
            ]
        elif not left:
            new["completionTime"] = now
            new["conditions"] = self._state.conditions(
                obj,
                ("SuccessCriteriaMet", True, "CompletionsReached"),
                ("Complete", True, "CompletionsReached"),
            )
        self._state.registry.write_status(self._state.resource("batch", "jobs"), key, new, MANAGER)
        if given_up is not None:
            self._state.event(obj, *given_up)

    def _job_pods(self, obj: Obj, pods: list[Obj], wanted: int) -> list[Obj]:
        metadata = obj["metadata"]
        labels = {
            "batch.kubernetes.io/controller-uid": metadata["uid"],
            "batch.kubernetes.io/job-name": metadata["name"],
            "controller-uid": metadata["uid"],
            "job-name": metadata["name"],
        }
        return self._to_number(obj, pods, wanted, labels)

    def _scaled(self, obj: Obj, wanted: int, labels: Mapping[str, str]) -> list[Obj]:
        return self._to_number(obj, self._state.pods_of(obj), wanted, labels)

    def _to_number(self, obj: Obj, pods: list[Obj], wanted: int, labels: Mapping[str, str]) -> list[Obj]:
        for pod in pods[wanted:]:
            self._state.registry.delete(self._state.resource("", "pods"), key_of(pod), Deletion())
        pods = pods[:wanted]
        while len(pods) < wanted:
            made = self._new_pod(obj, obj["spec"]["template"], labels, {})
            if made is None:
                break
            pods.append(made)
        return pods

    def _claims_of(self, namespace: str, pod: str, templates: Iterable[Obj]) -> Iterator[Obj]:
        resource = self._state.resource("", "persistentvolumeclaims")
        for template in templates:
            volume = template["metadata"]["name"]
            name = f"{volume}-{pod}"
            if self._state.store.get(resource, (namespace, name)) is None:
                body = {"metadata": {**template["metadata"], "name": name}, "spec": template["spec"]}
                self._state.registry.create(resource, namespace, body, Options(MANAGER))
            yield {"name": volume, "persistentVolumeClaim": {"claimName": name}}

    def _new_pod(
        self, owner: Obj, template: Obj, labels: Mapping[str, str], extra: Obj, name: str = ""
    ) -> Obj | None:
        """A pod of a workload; None, and an event, when it may not be made or its service account is not there."""
        namespace = owner["metadata"]["namespace"]
        account = template["spec"].get("serviceAccountName", "default")
        if self._state.find("", "serviceaccounts", namespace, account) is None:
            pod = name or f"{owner['metadata']['name']}-"
            why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
            self._not_made(owner, name, f'pods "{pod}" is forbidden: {why}')
            return None
        inherited = template.get("metadata") or {}
        metadata: Obj = {"labels": {**(inherited.get("labels") or {}), **labels}}
        annotations = dict(inherited.get("annotations") or {})
        if FAIL in (owner["metadata"].get("annotations") or {}):
            annotations[FAIL] = owner["metadata"]["annotations"][FAIL]
        if annotations:
            metadata["annotations"] = annotations
        body = {"metadata": metadata, "spec": {**template["spec"], **extra}}
        try:
            return self._state.create_owned(
                self._state.resource("", "pods"), owner, name or f"{owner['metadata']['name']}-", body
            )
        except ApiError as error:
            if error.reason != "Forbidden":
                raise
            self._not_made(owner, name, error.message)
            return None

    def _not_made(self, owner: Obj, name: str, why: str) -> None:
        """A StatefulSet's controller knows the pod's name, the others' do not."""
        made = f"create Pod {name} in StatefulSet {owner['metadata']['name']} failed error"
        self._state.event(owner, "FailedCreate", f"{made if name else 'Error creating'}: {why}")


def _is_over(status: Obj) -> bool:
    return any(
        item["type"] in ("Complete", "Failed") and item["status"] == "True"
        for item in status.get("conditions") or ()
    )


def _given_up(spec: Obj, status: Obj, failed: int, now: str) -> tuple[str, str] | None:
    """Why a Job is given up, as a reason and a message."""
    if failed > int(spec.get("backoffLimit", 6)):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    seconds = spec.get("activeDeadlineSeconds")
    if seconds is not None:
        lasted = datetime.fromisoformat(now) - datetime.fromisoformat(status["startTime"])
        if lasted.total_seconds() >= int(seconds):
            return "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def _generation(obj: Obj) -> int:
    return int(obj["metadata"].get("generation", 1))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def _with_replicas(count: int) -> Callable[[Obj], Obj]:
    return lambda live: {**live, "spec": {**live["spec"], "replicas": count}}


def _without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count > 0}
