"""Fluent Bit: log lines of the pods on the nodes where it is ready, shipped as its DaemonSet is told to.

The host, the index prefix and the credentials come from the ConfigMap and the Secret that the DaemonSet names, and
the lines arrive over HTTPS like anybody's. Every pod has written one line when it started, and one of them writes
another every minute. It evaluates no filter: the records have the form that the platform's own configuration gives
them. It sends to loopback only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import urllib3

from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn

_log = logging.getLogger(__name__)
_DAEMON = ("logging", "fluent-bit")
_EVERY = 60.0
_LOOPBACK = ("127.0.0.1", "localhost")
Obj = Mapping[str, Any]


class FluentBit:
    """The log shipper in every cluster of a stand-in; `ca_file` is the authority behind the domains."""

    def __init__(self, clusters: KubernetesStandIn, ca_file: str, now: Callable[[], datetime]) -> None:
        self._clusters = clusters
        self._ca_file = ca_file
        self._now = now
        self._shipped: dict[str, set[str]] = {}
        self._last: dict[str, datetime] = {}
        self._turn = 0

    def tick(self, cluster: str) -> None:
        """Ship what has been written since; what OpenSearch does not take is tried again with the next tick."""
        daemon = self._named(cluster, "daemonsets", *_DAEMON, group="apps")
        if daemon is None:
            return
        environ = dict(self._environ(cluster, daemon))
        pods = self._clusters.objects(cluster, "pods")
        nodes = {pod["spec"].get("nodeName") for pod in pods if _owned_by(pod, daemon) and _ready(pod)}
        readable = [
            pod
            for pod in pods
            if pod["spec"].get("nodeName") in nodes and not _owned_by(pod, daemon) and _ready(pod)
        ]
        shipped = self._shipped.setdefault(cluster, set())
        records = [(pod, "started", self._now()) for pod in readable if pod["metadata"]["uid"] not in shipped]
        if not records and readable and self._due(cluster):
            self._turn += 1
            records = [(readable[self._turn % len(readable)], "still running", self._now())]
        if records and self._send(environ, [_record(pod, line, at, environ) for pod, line, at in records]):
            shipped.update(pod["metadata"]["uid"] for pod, _, _ in records)
            self._last[cluster] = self._now()

    def forget(self, cluster: str) -> None:
        """A cluster is gone."""
        self._shipped.pop(cluster, None)
        self._last.pop(cluster, None)

    def _due(self, cluster: str) -> bool:
        last = self._last.get(cluster)
        return last is None or (self._now() - last).total_seconds() >= _EVERY

    def _environ(self, cluster: str, daemon: Obj) -> Iterator[tuple[str, str]]:
        """The variables that the container reads from ConfigMaps and Secrets; one that is missing is left out."""
        namespace = daemon["metadata"]["namespace"]
        (container, *_) = daemon["spec"]["template"]["spec"]["containers"]
        for source in container.get("envFrom") or ():
            if "configMapRef" in source:
                found = self._named(cluster, "configmaps", namespace, source["configMapRef"]["name"])
                yield from ((found or {}).get("data") or {}).items()
            if "secretRef" in source:
                found = self._named(cluster, "secrets", namespace, source["secretRef"]["name"])
                for key, value in ((found or {}).get("data") or {}).items():
                    yield key, base64.b64decode(value).decode()

    def _named(self, cluster: str, plural: str, namespace: str, name: str, group: str = "") -> Obj | None:
        for obj in self._clusters.objects(cluster, plural, group):
            if (obj["metadata"].get("namespace"), obj["metadata"]["name"]) == (namespace, name):
                return obj
        return None

    def _send(self, environ: Mapping[str, str], records: list[dict[str, Any]]) -> bool:
        """Whether OpenSearch took them all."""
        host = environ.get("OPENSEARCH_HOST", "")
        if host not in _LOOPBACK:
            return False
        lines = []
        for record in records:
            day = record["@timestamp"][:10].replace("-", ".")
            identifier = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]
            target = {"_index": f"{environ.get('INDEX_PREFIX', '')}-{day}", "_id": identifier}
            lines += [{"create": target}, record]
        credentials = f"{environ.get('OPENSEARCH_USER', '')}:{environ.get('OPENSEARCH_PASSWORD', '')}"
        headers = {
            "Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}",
            "Content-Type": "application/x-ndjson",
        }
        body = "".join(json.dumps(line) + "\n" for line in lines)
        url = f"https://{host}:{environ.get('OPENSEARCH_PORT', '443')}/_bulk"
        try:
            with urllib3.PoolManager(ca_certs=self._ca_file, retries=False, timeout=5.0) as pool:
                answer = pool.request("POST", url, body=body, headers=headers)
                taken = answer.status == 200 and not answer.json().get("errors")
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            _log.info("the log lines are not taken: %s", error)
            return False
        if not taken:
            _log.info("the log lines are not taken: %s", answer.status)
        return taken


def _record(pod: Obj, line: str, at: datetime, environ: Mapping[str, str]) -> dict[str, Any]:
    at = at.astimezone(UTC)
    meta = pod["metadata"]
    container = pod["spec"]["containers"][0]
    return {
        "@timestamp": f"{at:%Y-%m-%dT%H:%M:%S.%f}000Z",
        "time": f"{at:%Y-%m-%dT%H:%M:%S.%f}000Z",
        "stream": "stdout",
        "log": f"{container['name']}: {line}",
        "cluster": environ.get("CLUSTER_NAME", ""),
        "kubernetes": {
            "pod_name": meta["name"],
            "namespace_name": meta["namespace"],
            "pod_id": meta["uid"],
            "host": pod["spec"].get("nodeName", ""),
            "container_name": container["name"],
            # As `Replace_Dots` leaves them.
            "labels": {key.replace(".", "_"): value for key, value in (meta.get("labels") or {}).items()},
        },
    }


def _owned_by(pod: Obj, owner: Obj) -> bool:
    return any(
        reference["uid"] == owner["metadata"]["uid"]
        for reference in pod["metadata"].get("ownerReferences") or ()
    )


def _ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
