"""The subresources that are no part of their object: logs, scale and eviction."""

from __future__ import annotations

from aiohttp import web

from cali_infra.sandbox.kubernetes import patches, requests
from cali_infra.sandbox.kubernetes.catalogue import Resource
from cali_infra.sandbox.kubernetes.errors import Obj, bad_request, method_not_allowed, not_modelled
from cali_infra.sandbox.kubernetes.logs import Logs
from cali_infra.sandbox.kubernetes.registry import Deletion, Registry
from cali_infra.sandbox.kubernetes.requests import Target
from cali_infra.sandbox.kubernetes.store import Key

_SCALE_PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")


async def evict(request: web.BaseRequest, registry: Registry, resource: Resource, target: Target) -> Obj:
    """Deletes a pod as `kubectl drain` does; disruption budgets are not modelled. Raises ApiError 404, 405."""
    if request.method != "POST":
        raise method_not_allowed()
    deletion = Deletion(dry_run=requests.options(request).dry_run)
    registry.delete(resource, (target.namespace, target.name), deletion)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


async def scale(request: web.BaseRequest, registry: Registry, resource: Resource, target: Target) -> Obj:
    """Reads or writes the number of replicas. Raises ApiError 400, 404, 409 or 501."""
    key: Key = (target.namespace, target.name)
    live = registry.get(resource, key)
    if request.method == "GET":
        return _scale(live)
    options, body = requests.options(request), await requests.body(request)
    if request.method == "PATCH":
        if request.content_type not in _SCALE_PATCHES:
            raise not_modelled(f"{request.content_type} on {target.plural}/scale")
        body = patches.merge_patch(_scale(live), body)
    replicas = (body.get("spec") or {}).get("replicas", 0) if isinstance(body, dict) else None
    if not isinstance(replicas, int) or replicas < 0:
        raise bad_request("a Scale needs spec.replicas, a number that is not negative")
    version = (body.get("metadata") or {}).get("resourceVersion")

    def change(obj: Obj) -> Obj:
        metadata = {**obj["metadata"], **({"resourceVersion": version} if version else {})}
        return {**obj, "metadata": metadata, "spec": {**obj["spec"], "replicas": replicas}}

    return _scale(registry.patch(resource, key, change, options))


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


def log(request: web.BaseRequest, pod: Obj, recorded: Logs) -> str:
    """What was recorded as a container's log, by namespace, pod and container. Raises ApiError 400."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    names = [item["name"] for item in pod["spec"].get("containers", ())]
    container = request.query.get("container", "")
    if not container:
        if len(names) > 1:
            raise bad_request(
                f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
            )
        container = names[0]
    initial = [item["name"] for item in pod["spec"].get("initContainers", ())]
    if container not in (*names, *initial):
        raise bad_request(f"container {container} is not valid for pod {name}")
    _check_started(pod, container, previous=request.query.get("previous", "").lower() in ("true", "1"))
    text = recorded.text((namespace, name, container))
    if lines := request.query.get("tailLines"):
        kept = text.splitlines(keepends=True)
        text = "".join(kept[len(kept) - min(int(lines), len(kept)) :])
    return text


def _check_started(pod: Obj, container: str, *, previous: bool) -> None:
    name = pod["metadata"]["name"]
    for item in pod.get("status", {}).get("containerStatuses", ()):
        if item["name"] != container:
            continue
        waiting = item.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") != "CrashLoopBackOff":
            raise bad_request(
                f'container "{container}" in pod "{name}" is waiting to start: {waiting["reason"]}'
            )
        if previous and not item.get("restartCount"):
            raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
