"""The clusters of a sandbox: each an API server of its own on a TLS port of its own.

`KubernetesStandIn` is the ClusterHost that the AWS stand-in calls. Every cluster runs in one event loop; the
methods here may be called from any thread and return when the change is done.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cali_infra.sandbox.certificates import Authority, now
from cali_infra.sandbox.faults import Faults
from cali_infra.sandbox.kubernetes.api import ApiServer, Recorded
from cali_infra.sandbox.kubernetes.authorization import Authorizer
from cali_infra.sandbox.kubernetes.bootstrap import addon_objects, cluster_objects, node_object
from cali_infra.sandbox.kubernetes.catalogue import Catalogue
from cali_infra.sandbox.kubernetes.controllers import Controllers
from cali_infra.sandbox.kubernetes.errors import ApiError, Obj
from cali_infra.sandbox.kubernetes.executing import Surroundings
from cali_infra.sandbox.kubernetes.logs import Container, LogLine
from cali_infra.sandbox.kubernetes.registry import Deletion, Options, Registry
from cali_infra.sandbox.kubernetes.schemas import Schemas
from cali_infra.sandbox.kubernetes.state import State, key_of
from cali_infra.sandbox.kubernetes.store import Store
from cali_infra.sandbox.ports import Authenticator, ClusterAddress, NodeSpec
from cali_infra.sandbox.serving import Listener, ServerThread

_ADDON_LABEL = "sandbox.cali.dev/addon"
_GROUP_LABEL = "eks.amazonaws.com/nodegroup"


@dataclass(frozen=True)
class _Cluster:
    """One cluster's parts; they are used in the server thread only."""

    version: str
    server: ApiServer
    store: Store
    registry: Registry
    catalogue: Catalogue
    controllers: Controllers


class KubernetesStandIn:
    """Runs an API server per cluster; `faults` makes their next requests fail."""

    def __init__(
        self,
        authority: Authority,
        authenticator: Authenticator,
        clock: Callable[[], datetime] = now,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self.faults = Faults()
        self._authority = authority
        self._authenticator = authenticator
        self._clock = clock
        self._new_id = new_id
        self._context = authority.issue().server_context()
        self._thread = ServerThread("kubernetes stand-in")
        self._lock = threading.Lock()
        self._catalogues: dict[str, Catalogue] = {}
        self._clusters: dict[str, tuple[_Cluster, Listener]] = {}

    def create(self, name: str, version: str) -> ClusterAddress:
        """Starts a cluster at a Kubernetes version such as 1.35.

        One that is there already is answered as it is. Raises LookupError for a version whose schemas are
        not to be had.
        """
        with self._lock:
            if name not in self._clusters:
                catalogue = self._catalogue(version)
                cluster = self._thread.run(lambda: self._new(name, version, catalogue))
                self._clusters[name] = cluster, self._thread.serve(cluster.server.handle, self._context)
            listener = self._clusters[name][1]
        return ClusterAddress(f"https://{listener.address}", self._authority.ca_pem)

    def delete(self, name: str) -> None:
        """Stops a cluster and forgets its objects; a name that is not there is no error."""
        with self._lock:
            found = self._clusters.pop(name, None)
        if found is not None:
            cluster, listener = found
            self._thread.run(cluster.controllers.stop)
            self._thread.run(cluster.store.end_watches)
            self._thread.stop(listener)

    def set_nodes(self, name: str, group: str, nodes: Sequence[NodeSpec]) -> None:
        """Makes a node group's nodes exactly these; none removes the group. Raises LookupError."""
        cluster = self._cluster(name)
        self._thread.run(lambda: self._nodes(cluster, group, nodes))

    def set_addon(self, name: str, addon: str, version: str | None) -> None:
        """Installs or updates an add-on's objects; version None removes them.

        Raises LookupError for a cluster or an add-on that is not known.
        """
        cluster = self._cluster(name)
        objects = addon_objects(addon, version or "")
        self._thread.run(lambda: self._addon(cluster, addon, objects if version else []))

    def clusters(self) -> list[str]:
        """The names of the clusters that run."""
        with self._lock:
            return list(self._clusters)

    def apply(self, name: str, obj: Obj, manager: str) -> Obj:
        """Brings an object to this form, as a controller that runs in the cluster would. Raises LookupError."""
        cluster = self._cluster(name)
        return self._thread.run(lambda: _ensure(cluster, obj, manager))

    def remove(self, name: str, kind: str, namespace: str, object_name: str, group: str = "") -> None:
        """Deletes an object; one that is not there is no error. Raises LookupError."""
        cluster = self._cluster(name)
        resource = cluster.catalogue.by_kind(group, kind)
        if resource is None:
            raise LookupError(f"the stand-in knows no {kind}")

        def delete() -> None:
            if cluster.store.get(resource, (namespace, object_name)) is not None:
                cluster.registry.delete(resource, (namespace, object_name), Deletion())

        self._thread.run(delete)

    def objects(self, name: str, plural: str, group: str = "") -> list[Obj]:
        """A cluster's objects as they are stored, for a test or a status report. Raises LookupError."""
        cluster = self._cluster(name)
        resource = cluster.catalogue.named(group, plural)
        return self._thread.run(lambda: cluster.store.all(resource))

    def write_status(
        self,
        name: str,
        plural: str,
        obj: Obj,
        change: Callable[[Obj], Obj],
        *,
        group: str = "",
        manager: str = "kubelet",
    ) -> bool:
        """Changes the status of this very object; False where it is gone. Raises LookupError."""
        cluster = self._cluster(name)
        resource = cluster.catalogue.named(group, plural)

        def write() -> bool:
            live = cluster.store.get(resource, key_of(obj))
            if live is None or live["metadata"]["uid"] != obj["metadata"]["uid"]:
                return False
            status = change(dict(live.get("status") or {}))
            cluster.registry.write_status(resource, key_of(obj), status, manager)
            return True

        return self._thread.run(write)

    def record_event(
        self, name: str, about: Obj, reason: str, message: str, *, component: str, kind: str = "Normal"
    ) -> None:
        """Records an event about an object, as `component` would, or counts its repetition.

        In a namespace that goes away it is lost. Raises LookupError.
        """
        cluster = self._cluster(name)

        def record() -> None:
            with contextlib.suppress(ApiError):
                State(cluster.registry).event(
                    about, reason, message, component=component, kind=kind, counted=True
                )

        self._thread.run(record)

    def requests(self, name: str) -> list[Recorded]:
        """The latest requests to a cluster, oldest first. Raises LookupError."""
        server = self._cluster(name).server
        return self._thread.run(lambda: list(server.recorded))

    def set_log(self, name: str, namespace: str, pod: str, container: str, text: str) -> None:
        """What a container's log reads as. Raises LookupError."""
        logs, at = self._cluster(name).server.logs, self._nanoseconds()
        lines = [LogLine(at, "stdout", line) for line in text.splitlines()]
        self._thread.run(lambda: logs.replace((namespace, pod, container), lines))

    def write_log(
        self, name: str, namespace: str, pod: str, container: str, lines: Sequence[LogLine]
    ) -> None:
        """What a container has written in addition. Raises LookupError."""
        logs = self._cluster(name).server.logs
        self._thread.run(lambda: logs.write((namespace, pod, container), lines))

    def all_log_lines(self, name: str) -> Mapping[Container, tuple[LogLine, ...]]:
        """What every container that has ever written did write, the oldest line first. Raises LookupError."""
        logs = self._cluster(name).server.logs
        return self._thread.run(logs.everything)

    def set_port(
        self, name: str, namespace: str, pod: str, port: int, address: tuple[str, int] | None
    ) -> None:
        """Which server on loopback answers at a pod's port; None: nothing listens there. Raises LookupError."""
        ports = self._cluster(name).server.ports
        key = (namespace, pod, port)
        self._thread.run(lambda: ports.pop(key, None) if address is None else ports.update({key: address}))

    def set_container(
        self, name: str, namespace: str, pod: str, container: str, surroundings: Surroundings
    ) -> None:
        """What a command finds in a container: it is run on this machine. Raises LookupError."""
        server = self._cluster(name).server
        self._thread.run(lambda: server.containers.update({(namespace, pod, container): surroundings}))

    def close(self) -> None:
        """Stops every cluster and the thread."""
        for name in list(self._clusters):
            self.delete(name)
        self._thread.close()

    def _nanoseconds(self) -> int:
        return round(self._clock().timestamp() * 1e6) * 1000

    def _cluster(self, name: str) -> _Cluster:
        with self._lock:
            if name not in self._clusters:
                raise LookupError(f"the sandbox runs no cluster named {name}")
            return self._clusters[name][0]

    def _catalogue(self, version: str) -> Catalogue:
        if version not in self._catalogues:
            self._catalogues[version] = Catalogue(Schemas(version))
        return self._catalogues[version]

    def _new(self, name: str, version: str, catalogue: Catalogue) -> _Cluster:
        store = Store()
        registry = Registry(store, catalogue, self._clock, self._new_id)
        controllers = Controllers(registry, self._thread.loop.call_later, self._authority.ca_pem.decode())
        server = ApiServer(
            name,
            f"v{version}.0-eks-sandbox",
            store=store,
            catalogue=catalogue,
            registry=registry,
            authorizer=Authorizer(store, catalogue),
            authenticator=self._authenticator,
            faults=self.faults,
            clock=self._clock,
        )
        cluster = _Cluster(version, server, store, registry, catalogue, controllers)
        for obj in cluster_objects():
            _ensure(cluster, obj)
        controllers.settle()
        return cluster

    def _nodes(self, cluster: _Cluster, group: str, nodes: Sequence[NodeSpec]) -> None:
        resource = cluster.catalogue.named("", "nodes")
        wanted = {spec.name: spec for spec in nodes}
        for node in cluster.store.all(resource):
            name = node["metadata"]["name"]
            if (node["metadata"].get("labels") or {}).get(_GROUP_LABEL) == group and name not in wanted:
                cluster.store.drop(resource, ("", name))
        for spec in nodes:
            if cluster.store.get(resource, ("", spec.name)) is None:
                instance = f"i-{self._new_id().hex[:17]}"
                _ensure(cluster, node_object(group, spec, cluster.server.version, instance))
        cluster.controllers.settle()

    def _addon(self, cluster: _Cluster, addon: str, objects: Sequence[Obj]) -> None:
        kept = set()
        for obj in objects:
            labels = {**obj["metadata"].get("labels", {}), _ADDON_LABEL: addon}
            stored = _ensure(cluster, {**obj, "metadata": {**obj["metadata"], "labels": labels}})
            kept.add(stored["metadata"]["uid"])
        for (group, plural), key, obj in cluster.store.everything():
            labels = obj["metadata"].get("labels") or {}
            if labels.get(_ADDON_LABEL) == addon and obj["metadata"]["uid"] not in kept:
                cluster.registry.delete(cluster.catalogue.named(group, plural), key, Deletion())
        cluster.controllers.settle()


def _ensure(cluster: _Cluster, obj: Obj, manager: str = "eks") -> Obj:
    """Creates an object or brings it to this form, as EKS does with what is its own: by force."""
    group, _, _ = obj["apiVersion"].rpartition("/")
    resource = cluster.catalogue.by_kind(group, obj["kind"])
    assert resource is not None
    key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
    options = Options(manager=manager, force=True)
    if resource.kind == "Node":
        return cluster.registry.create(resource, "", obj, options)
    return cluster.registry.apply(resource, key, obj, options)[0]
