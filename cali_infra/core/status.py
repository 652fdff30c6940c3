"""One screen on an environment: stages, versions, nodes, endpoints, access, releases, and when it changed.

It asks Terraform's states and the cluster, side by side, changes nothing, and says what it could not find out
instead of failing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from cali_infra import __version__
from cali_infra.core import access
from cali_infra.core.stacks import TerraformStage
from cali_infra.core.stages import STAGES, Kind
from cali_infra.errors import CaliError

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
    from cali_infra.core.platform import Platform

T = TypeVar("T")


@dataclass(frozen=True)
class StageStatus:
    """`status` is applied, partial (it began and did not end), absent or unknown; `changed_at` RFC 3339."""

    name: str
    status: str
    resources: int | None = None
    serial: int | None = None
    changed_at: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Node:
    """A node of the cluster."""

    name: str
    ready: bool
    zone: str
    version: str


@dataclass(frozen=True)
class Release:
    """The newest revision of a Helm release. `ready` of its `workloads` have all their replicas; both are None
    where that could not be asked, and 0 where nothing was installed."""

    name: str
    namespace: str
    status: str
    revision: int
    chart: str
    chart_version: str
    app_version: str
    workloads: int | None = None
    ready: int | None = None


@dataclass(frozen=True)
class EnvironmentStatus:
    """Everything on the screen; `problems` says what could not be asked, and why."""

    environment: str
    account: str
    region: str
    rehearsal: bool
    stages: tuple[StageStatus, ...]
    versions: Mapping[str, str]
    nodes: tuple[Node, ...]
    endpoints: Mapping[str, str]
    access: tuple[access.Entry, ...]
    releases: tuple[Release, ...]
    problems: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """The JSON of `cali status`."""
        return {
            "ok": not self.problems,
            "env": self.environment,
            "account": self.account,
            "region": self.region,
            "sandbox": self.rehearsal,
            "stages": [asdict(stage) for stage in self.stages],
            "versions": dict(self.versions),
            "nodes": [asdict(node) for node in self.nodes],
            "endpoints": dict(self.endpoints),
            "access": [
                {
                    "arn": entry.arn,
                    "name": entry.name,
                    "level": entry.level,
                    "namespaces": list(entry.namespaces),
                    "expires_at": entry.until,
                }
                for entry in self.access
            ],
            "releases": [asdict(release) for release in self.releases],
            "problems": list(self.problems),
        }


def gather(platform: Platform, cancel: Event) -> EnvironmentStatus:
    """Ask everything that can be asked; needs no stage to exist."""
    problems: list[str] = []

    def ask(what: str, question: Callable[[], T], otherwise: T) -> T:
        try:
            return question()
        except CaliError as error:
            problems.append(f"{what}: {error.message}")
            return otherwise

    with ThreadPoolExecutor(8, thread_name_prefix="status") as pool:
        opened = {
            stage.name: pool.submit(platform.drivers[stage.name].open, cancel)
            for stage in STAGES
            if stage.kind is Kind.TERRAFORM
        }
        broken = {name: error for name, future in opened.items() if (error := future.exception())}
        for name, error in broken.items():
            if not isinstance(error, CaliError):
                raise error
            problems.append(f"{name}: {error.message}")
        eks = _outputs(platform, "eks", broken)
        search = _outputs(platform, "search", broken)
        nodes = releases = None
        if eks.get("cluster_endpoint") or platform.target.kubeconfig:
            nodes = pool.submit(ask, "nodes", lambda: _nodes(platform.kubernetes()), ())
            releases = pool.submit(ask, "releases", lambda: _releases(platform.kubernetes(), problems), ())
        states = [
            pool.submit(_stage, platform, stage.name, stage.kind, broken.get(stage.name)) for stage in STAGES
        ]
        stages = tuple(state.result() for state in states)
        problems += [f"{s.name}: {s.problem}" for s in stages if s.problem and s.name not in broken]
        told = releases.result() if releases else ()
        return EnvironmentStatus(
            environment=platform.settings.environment,
            account=platform.identity.account,
            region=platform.settings.region,
            rehearsal=platform.target.rehearsal,
            stages=stages,
            versions=_versions(platform, eks, search),
            nodes=nodes.result() if nodes else (),
            endpoints={
                name: str(value)
                for name, value in (
                    ("cluster", eks.get("cluster_endpoint")),
                    ("opensearch", search.get("opensearch_endpoint")),
                )
                if value
            },
            access=tuple(
                access.from_output(_outputs(platform, "access", broken).get("record")).entries.values()
            ),
            releases=told,
            problems=tuple(problems),
        )


def _outputs(platform: Platform, name: str, broken: Mapping[str, object]) -> Mapping[str, Any]:
    return {} if name in broken else platform.stack(name).outputs()


def _versions(platform: Platform, eks: Mapping[str, Any], search: Mapping[str, Any]) -> dict[str, str]:
    versions = {"cali": __version__, "terraform": platform.terraform.version()}
    if eks.get("cluster_version"):
        versions["kubernetes"] = str(eks["cluster_version"])
    if search.get("opensearch_endpoint"):
        versions["opensearch"] = platform.settings.search.engine_version.removeprefix("OpenSearch_")
    return versions


def _stage(platform: Platform, name: str, kind: Kind, error: object) -> StageStatus:
    if isinstance(error, CaliError):
        return StageStatus(name, "unknown", problem=error.message)
    driver = platform.drivers[name]
    if isinstance(driver, TerraformStage):
        snapshot = driver.snapshot
        if snapshot.empty:
            return StageStatus(name, "absent")
        return StageStatus(
            name,
            "applied" if driver.complete() and not snapshot.tainted else "partial",
            resources=len(snapshot.managed),
            serial=snapshot.serial,
            changed_at=platform.changed_at(name),
        )
    try:
        return StageStatus(name, "applied" if driver.exists() else "absent")
    except CaliError as problem:
        return StageStatus(name, "unknown", problem=problem.message)


def _nodes(kubernetes: Kubernetes) -> tuple[Node, ...]:
    return tuple(
        Node(
            name=node["metadata"]["name"],
            ready=any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in node.get("status", {}).get("conditions", ())
            ),
            zone=node["metadata"].get("labels", {}).get("topology.kubernetes.io/zone", ""),
            version=node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", ""),
        )
        for node in kubernetes.list("v1", "Node")
    )


def _releases(kubernetes: Kubernetes, problems: list[str]) -> tuple[Release, ...]:
    from cali_infra.core import releases

    found: list[Release] = []
    for history in releases.read(kubernetes).values():
        last = history[-1]
        release = Release(
            last.name,
            last.namespace,
            last.status,
            last.number,
            last.chart,
            last.chart_version,
            last.app_version,
        )
        try:
            refs = last.workloads()
            release = replace(
                release, workloads=len(refs), ready=sum(_ready(kubernetes, ref) for ref in refs)
            )
        except CaliError as error:
            problems.append(f"workloads of {last.name}: {error.message}")
        found.append(release)
    return tuple(found)


def _ready(kubernetes: Kubernetes, ref: ObjectRef) -> bool:
    from cali_infra.core.rollout import replicas

    obj = kubernetes.get(ref)
    if obj is None:
        return False
    ready, wanted = replicas(obj)
    return ready >= wanted
