"""A node, the cluster that it belongs to, and the domain that it writes to, put together as cali makes them."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from pydantic import SecretStr

from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes, ObjectRef
from cali_infra.adapters.kustomize import Kustomize
from cali_infra.adapters.opensearch import OpenSearch
from cali_infra.core import assets
from cali_infra.core.fluent_bit import NAMESPACE, FluentBit, build
from cali_infra.core.index import WRITER, IndexWork
from cali_infra.core.progress import Silent
from cali_infra.core.secrets import OpenSearchSecrets, Secrets
from cali_infra.core.settings import Settings
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.opensearch.standin import OpenSearchStandIn
from cali_infra.sandbox.ports import Caller

from .gate import Gate
from .node import Container, Node, wait_for

Obj = dict[str, Any]
CLUSTER, TOKEN = "demo", "token-of-the-pod"
MASTER, WRITERS = "Master-password-1", "Writer-password-1"


@dataclass(frozen=True)
class Bearer:
    value: str
    expires_at: datetime | None = None


@dataclass
class World:
    """What the places share: an authority, a cluster that the stage was applied to, and a host for domains."""

    authority: Authority
    clusters: KubernetesStandIn
    domains: OpenSearchStandIn
    kubernetes: Kubernetes
    api: str

    @classmethod
    def make(cls, folder: Path) -> World:
        authority = Authority.create()
        clusters = KubernetesStandIn(authority, _caller)
        address = clusters.create(CLUSTER, "1.35")
        admin = Kubernetes(ClusterAccess(address.endpoint, address.ca_pem, lambda: Bearer("admin")))
        shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        # What the pod's account may do is what the rendered ClusterRole gives it.
        first = ("Namespace", "ClusterRole", "ServiceAccount")
        for obj in sorted(
            [shop, *render("search.example.com", folder)], key=lambda one: one["kind"] not in first
        ):
            admin.apply(obj)
        return cls(authority, clusters, OpenSearchStandIn(authority), admin, address.endpoint)

    def close(self) -> None:
        self.kubernetes.close()
        self.clusters.close()
        self.domains.close()


@dataclass
class Place:
    """One node with a domain of its own, and the gate before that."""

    world: World
    node: Node
    domain: str
    gate: Gate

    @classmethod
    def make(cls, world: World, binary: str, folder: Path, name: str) -> Place:
        endpoint = world.domains.create(name, "cali-master", MASTER)
        _index(endpoint, world.authority, folder)
        host, port = endpoint.split(":")
        gate = Gate((host, int(port)))
        pod = pod_of(render(f"127.0.0.1:{gate.port}", folder))
        environ = {"PATH": os.environ["PATH"], "NODE_NAME": "node-1", **pod.environ}
        authority = world.authority.ca_pem
        node = Node(binary, folder, pod.config, pod.arguments, environ, world.api, authority, TOKEN)
        return cls(world, node, name, gate)

    def close(self) -> None:
        self.node.close()
        self.gate.shut()
        self.world.domains.faults.clear()
        self.world.domains.delete(self.domain)
        for pod in self.world.kubernetes.list("v1", "Pod", "shop"):
            self.forget(pod["metadata"]["name"])

    def pod(self, name: str, **metadata: Any) -> Container:
        """A pod that the API server knows, and its one container's log."""
        self.world.kubernetes.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", **metadata},
                "spec": {"containers": [{"name": "app", "image": "registry.example.com/app:1"}]},
            }
        )
        return self.node.container(name)

    def forget(self, name: str) -> None:
        """Delete a pod from the API server; its log stays."""
        self.world.kubernetes.delete(ObjectRef("v1", "Pod", "shop", name), wait=10)

    def stored(self, pod: str = "", index: str = "cali-logs-*") -> list[Obj]:
        """What the domain holds, of a pod or of all, in the order of the runtime's time."""
        found = self.world.domains.documents(self.domain, index)
        mine = [one for one in found if not pod or one["kubernetes"]["pod_name"] == pod]
        return sorted(mine, key=lambda one: (one["@timestamp"], one["stream"]))

    def texts(self, pod: str = "") -> list[str]:
        """The text of each record, in that order."""
        return [one["log"] for one in self.stored(pod)]

    def wait_stored(self, count: int, pod: str = "") -> None:
        """Until the domain holds so many records."""
        wait_for(
            lambda: len(self.stored(pod)) >= count,
            f"{count} records in the domain",
            lambda: f"{len(self.stored(pod))} are there\n{self.node.log()}",
        )

    def asked(self) -> int:
        """How many `_bulk` requests the domain has answered itself."""
        return sum(one.path == "/_bulk" for one in self.world.domains.requests(self.domain))


@dataclass(frozen=True)
class Pod:
    """What the DaemonSet's pod gets: its configuration's files, its environment, its arguments."""

    config: dict[str, str]
    environ: dict[str, str]
    arguments: tuple[str, ...]


def render(endpoint: str, folder: Path) -> list[Obj]:
    """The stage's objects for a domain at `host:port`."""
    fluent_bit = FluentBit(
        cluster_name="cali-default",
        endpoint=endpoint,
        index_prefix="cali-logs",
        user=WRITER,
        password=SecretStr(WRITERS),
        revision_key=SecretStr(MASTER),
    )
    source = assets.folder("k8s") / "fluent-bit"
    return build(
        fluent_bit,
        source=source,
        folder=folder / "rendered",
        render=Kustomize(environ=os.environ).render,
    )


def pod_of(objects: list[Obj]) -> Pod:
    """The pod that the rendered DaemonSet makes of the rendered ConfigMaps and the Secret."""
    data = {(one["kind"], one["metadata"]["name"]): one.get("data") for one in objects}
    (daemon,) = [one for one in objects if one["kind"] == "DaemonSet"]
    spec = daemon["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (volume,) = [one for one in spec["volumes"] if one["name"] == "config"]
    environ: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            environ |= data["ConfigMap", source["configMapRef"]["name"]] or {}
        else:
            secret = data["Secret", source["secretRef"]["name"]] or {}
            environ |= {key: base64.b64decode(value).decode() for key, value in secret.items()}
    config = data["ConfigMap", volume["configMap"]["name"]]
    assert config
    return Pod(config, environ, tuple(container["args"]))


def _caller(cluster: str, token: str) -> Caller | None:
    if token == "admin":
        return Caller("", "admin", (), (), is_admin=True)
    account = f"system:serviceaccount:{NAMESPACE}:fluent-bit"
    return Caller("", account, (), (), is_admin=False) if token == TOKEN else None


def _index(endpoint: str, authority: Authority, folder: Path) -> None:
    """Run the stage `index` on a domain: its template, the writer's role and user."""
    ca = folder / "authority.pem"
    ca.write_bytes(authority.ca_pem)
    passwords = {
        "master_password": MASTER,
        "writer_password": WRITERS,
        "reader_password": "Reader-password-1",
    }
    secrets = Secrets.model_construct(opensearch=OpenSearchSecrets.model_validate(passwords))
    settings = Settings.model_validate({"search": {"master_username": "cali-master"}})

    def connect(user: str, password: SecretStr) -> OpenSearch:
        return OpenSearch(endpoint, user, password, ca)

    work = IndexWork(connect, settings, secrets)
    work.apply(work.plan(Silent()), Silent(), Event())
