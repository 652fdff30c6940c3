"""A Kubernetes and an OpenSearch stand-in on loopback, and small clients for them."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.kubernetes import KubernetesStandIn
from cali_infra.sandbox.opensearch import OpenSearchStandIn
from cali_infra.sandbox.ports import AccessPolicy, Caller, NodeSpec

MASTER = ("cali-admin", "Master-1-password")
_names = (f"cluster-{number}" for number in itertools.count(1))


def caller(cluster: str, token: str) -> Caller | None:
    """Tokens are `admin`, `nobody`, or `POLICY` and `POLICY@NAMESPACE,...` for an entry with that policy."""
    arn = f"arn:aws:iam::123456789012:role/{token}"
    name, _, namespaces = token.partition("@")
    if name == "wrong":
        return None
    if name == "nobody":
        return Caller(arn, "nobody", (), (), is_admin=False)
    if name == "grouped":
        return Caller(arn, "grouped", ("auditors",), (), is_admin=False)
    policies = {"admin": "ClusterAdmin", "ns-admin": "Admin", "edit": "Edit", "view": "View"}
    policy = AccessPolicy(
        f"AmazonEKS{policies[name]}Policy", tuple(part for part in namespaces.split(",") if part)
    )
    return Caller(arn, name, (), (policy,), is_admin=name == "admin" and not namespaces)


@dataclass(frozen=True)
class Answer:
    """A status and the JSON (or text) that came with it."""

    status: int
    body: Any
    headers: Any = field(repr=False, default=None)

    @property
    def message(self) -> str:
        return str(self.body["message"])


class Client:
    """Plain requests to one cluster as one token's caller."""

    def __init__(self, url: str, ca: str, token: str | None) -> None:
        self.url = url
        self._pool = urllib3.PoolManager(ca_certs=ca, retries=False, timeout=10)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __call__(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: str
    ) -> Answer:
        headers = {
            **self._headers,
            "Content-Type": kind,
            "Accept": "application/json",
            "User-Agent": "tester/1",
        }
        data = None if body is None else json.dumps(body)
        url = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = self._pool.request(method, url, body=data, headers=headers)
        try:
            content: Any = answer.json()
        except ValueError:
            content = answer.data.decode()
        return Answer(answer.status, content, answer.headers)

    def stream(self, path: str) -> Iterator[Any]:
        """The events of a watch."""
        answer = self._pool.request("GET", self.url + path, headers=self._headers, preload_content=False)
        assert answer.status == 200
        rest = b""
        try:
            for chunk in answer.stream():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        finally:
            answer.close()

    def apply(self, path: str, obj: Any, manager: str = "cali", **query: str) -> Answer:
        """Server-side apply."""
        return self("PATCH", path, obj, "application/apply-patch+yaml", fieldManager=manager, **query)

    def merge(self, path: str, change: Any, **query: str) -> Answer:
        """A merge patch."""
        return self("PATCH", path, change, "application/merge-patch+json", **query)

    def close(self) -> None:
        self._pool.clear()


@dataclass
class Cluster:
    """One cluster with a client for each caller that a test asks for."""

    name: str
    url: str
    ca: Path
    standin: KubernetesStandIn
    _clients: dict[str | None, Client] = field(default_factory=dict)

    def client(self, token: str | None = "admin") -> Client:
        if token not in self._clients:
            self._clients[token] = Client(self.url, str(self.ca), token)
        return self._clients[token]

    def nodes(self, count: int, group: str = "workers") -> None:
        """Gives the node group this many nodes, one after the other in the zones a, b and c."""
        specs = [
            NodeSpec(f"ip-10-40-0-{n}.ec2.internal", f"ap-northeast-2{'abc'[n % 3]}", "m6i.xlarge")
            for n in range(count)
        ]
        self.standin.set_nodes(self.name, group, specs)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture(scope="session")
def ca(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(authority.ca_pem)
    return path


@pytest.fixture(scope="session")
def clusters(authority: Authority) -> Iterator[KubernetesStandIn]:
    standin = KubernetesStandIn(authority, caller)
    yield standin
    standin.close()


@pytest.fixture
def cluster(clusters: KubernetesStandIn, ca: Path) -> Iterator[Cluster]:
    """A new cluster at 1.35 without nodes."""
    name = next(_names)
    made = Cluster(name, clusters.create(name, "1.35").endpoint, ca, clusters)
    yield made
    clusters.faults.clear()
    made.close()
    clusters.delete(name)


@pytest.fixture
def api(cluster: Cluster) -> Client:
    """The new cluster as its administrator."""
    return cluster.client()


def eventually(check: Callable[[], Any], seconds: float = 3.0) -> Any:
    """The first true value of `check`; what happens by itself takes a few milliseconds."""
    until = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)
    return found


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


class SearchClient:
    """Plain requests to one domain as one user."""

    def __init__(self, address: str, ca: Path, user: str = "", password: str = "") -> None:
        self.url = f"https://{address}"
        self._pool = urllib3.PoolManager(ca_certs=str(ca), retries=False, timeout=10)
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {encoded}"} if user else {}

    def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        headers = {**self._headers, "Content-Type": "application/json"}
        if isinstance(body, list):
            data: str | None = "".join(json.dumps(line) + "\n" for line in body)
        else:
            data = body if isinstance(body, str) or body is None else json.dumps(body)
        answer = self._pool.request(method, self.url + path, body=data, headers=headers)
        try:
            content: Any = answer.json()
        except ValueError:
            content = answer.data.decode()
        return Answer(answer.status, content, answer.headers)

    def close(self) -> None:
        self._pool.clear()


class Domain:
    """One domain with a client for each user that a test asks for."""

    def __init__(self, name: str, standin: OpenSearchStandIn, ca: Path) -> None:
        self.name, self.standin, self.ca = name, standin, ca
        self.address = standin.create(name, *MASTER)
        self._clients: list[SearchClient] = []

    def client(self, user: str, password: str) -> SearchClient:
        self._clients.append(SearchClient(self.address, self.ca, user, password))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.standin.delete(self.name)


@pytest.fixture(scope="session")
def domains(authority: Authority) -> Iterator[OpenSearchStandIn]:
    standin = OpenSearchStandIn(authority)
    yield standin
    standin.close()


@pytest.fixture
def domain(domains: OpenSearchStandIn, ca: Path) -> Iterator[Domain]:
    made = Domain("logs", domains, ca)
    yield made
    made.close()


@pytest.fixture
def master(domain: Domain) -> SearchClient:
    """The domain as its master user."""
    return domain.client(*MASTER)
