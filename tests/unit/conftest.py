"""What unit tests share: an API server in memory, an AWS on loopback, a watcher that remembers what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes
from cali_infra.core.progress import Silent
from cali_infra.sandbox.aws.server import AwsStandIn
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.ports import AccessPolicy, Caller, ClusterAddress

NAME = "demo"


@dataclass(frozen=True)
class Bearer:
    value: str
    expires_at: datetime | None = None


def caller(name: str, *policies: AccessPolicy, admin: bool = False) -> Caller:
    return Caller(f"arn:aws:iam::123456789012:role/{name}", name, (), policies, admin)


@dataclass
class Cluster:
    """One cluster of the stand-in. `callers` maps a bearer to who it is; anything else gets 401."""

    standin: KubernetesStandIn
    callers: dict[str, Caller]
    address: ClusterAddress
    opened: list[Kubernetes] = field(default_factory=list)

    def connect(
        self, bearer: str | Callable[[], Bearer] = "admin", *, ca_pem: bytes | None = None, **timing: Any
    ) -> Kubernetes:
        token = bearer if callable(bearer) else lambda: Bearer(bearer)
        access = ClusterAccess(self.address.endpoint, ca_pem or self.address.ca_pem, token)
        connection = Kubernetes(access, **timing)
        self.opened.append(connection)
        return connection

    def objects(self, plural: str, group: str = "") -> dict[str, dict[str, Any]]:
        """Objects by name, or by NAMESPACE/NAME."""
        found = self.standin.objects(NAME, plural, group)
        return {
            "/".join(filter(None, (o["metadata"].get("namespace"), o["metadata"]["name"]))): o for o in found
        }

    def requests(self, method: str = "", path: str = "") -> list[Any]:
        return [r for r in self.standin.requests(NAME) if r.method == (method or r.method) and path in r.path]


@pytest.fixture(scope="session")
def _standin() -> Iterator[tuple[KubernetesStandIn, dict[str, Caller]]]:
    callers: dict[str, Caller] = {}
    standin = KubernetesStandIn(Authority.create(), lambda cluster, token: callers.get(token))
    yield standin, callers
    standin.close()


@pytest.fixture
def cluster(_standin: tuple[KubernetesStandIn, dict[str, Caller]]) -> Iterator[Cluster]:
    """A new cluster as EKS makes it, with an admin and a viewer."""
    standin, callers = _standin
    callers.clear()
    callers["admin"] = caller("admin", admin=True)
    callers["viewer"] = caller("viewer", AccessPolicy("AmazonEKSViewPolicy"))
    made = Cluster(standin, callers, standin.create(NAME, "1.35"))
    yield made
    for connection in made.opened:
        connection.close()
    standin.faults.clear()
    standin.delete(NAME)


class _NoHost:
    """Takes whatever an AWS without clusters and domains has to tell its hosts."""

    def create(self, *told: Any) -> Any:
        return ClusterAddress("https://127.0.0.1:1", b"the authority")

    def update(self, *told: Any) -> None: ...

    def delete(self, *told: Any) -> None: ...

    def set_nodes(self, *told: Any) -> None: ...

    def set_addon(self, *told: Any) -> None: ...


@pytest.fixture(scope="module")
def account() -> Iterator[AwsStandIn]:
    """An AWS account on loopback for the tests of one module, which must not use mock_aws: that resets it."""
    # An account of its own: another stand-in of this process has the usual one.
    with AwsStandIn(_NoHost(), _NoHost(), account="111122223333") as standin:
        yield standin


@dataclass
class Watch(Silent):
    """Remembers every line."""

    lines: list[str] = field(default_factory=list)

    def resource(self, stage: str, address: str, action: str, state: str, elapsed: float) -> None:
        self.lines.append(f"{state} {action} {address}")

    def note(self, text: str, *, stage: str = "") -> None:
        self.lines.append(text)

    def warn(self, text: str, *, stage: str = "") -> None:
        self.lines.append(text)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@dataclass
class Clock:
    """Time that passes only while somebody sleeps."""

    seconds: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()
