"""The pods of the services: what each asks for, and whether all of them fit the node group.

`PODS` is the one place that says how big a pod is; `cali.yaml` changes single ones (`AIRFLOW.sizes` and so on).
The releases are given these numbers, so that what is checked before money is spent is what is asked for afterwards.
Memory is request and limit in one: what a pod may use is then what the scheduler has counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cali_infra.adapters.aws import InstanceType
    from cali_infra.core.settings import Settings

MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Pod:
    """One kind of pod: `replicas` of them, and what its containers beside the main one ask for in addition.

    `cpu` and `memory` are Kubernetes quantities. `modes` are the values of `milvus.mode` in which it is there.
    """

    service: str
    name: str
    cpu: str
    memory: str
    replicas: int = 1
    modes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


# Containers that stand beside another in a pod.
SIDECARS: Mapping[str, tuple[str, str]] = {"git-sync": ("50m", "128Mi"), "log-groomer": ("10m", "64Mi")}

PODS: tuple[Pod, ...] = (
    Pod("airflow", "api-server", "500m", "2Gi", replicas=2),
    Pod("airflow", "scheduler", "500m", "1536Mi", beside=("log-groomer",)),
    Pod("airflow", "dag-processor", "500m", "1536Mi", beside=("log-groomer", "git-sync")),
    Pod("airflow", "triggerer", "250m", "1Gi", beside=("log-groomer", "git-sync")),
    Pod("airflow", "postgresql", "250m", "1Gi"),
    # One task at a time is counted: more of them are what the autoscaler is for.
    Pod("airflow", "worker", "500m", "1Gi"),
    Pod("milvus", "standalone", "1", "8Gi", modes=("standalone",)),
    Pod("milvus", "minio", "250m", "1Gi", modes=("standalone",)),
    Pod("milvus", "proxy", "500m", "2Gi", modes=("cluster",)),
    Pod("milvus", "mixcoord", "500m", "2Gi", modes=("cluster",)),
    Pod("milvus", "querynode", "1", "8Gi", modes=("cluster",)),
    Pod("milvus", "datanode", "1", "4Gi", modes=("cluster",)),
    Pod("milvus", "streamingnode", "1", "4Gi", modes=("cluster",)),
    Pod("milvus", "etcd", "250m", "1Gi"),
    Pod("grafana", "grafana", "250m", "1Gi"),
)
# Milvus' etcd keeps a majority through the loss of a node once there is more than one.
_ETCD_IN_A_CLUSTER = 3


def names(service: str) -> tuple[str, ...]:
    """The pods of a service, by the names that `sizes` takes."""
    return tuple(pod.name for pod in PODS if pod.service == service)


def wanted(settings: Settings, *, bundled_database: bool, git_sync: bool) -> tuple[Pod, ...]:
    """The pods of the services that are on, with the sizes of these settings."""
    return tuple(
        _sized(pod, settings, git_sync)
        for pod in PODS
        if getattr(settings.services, pod.service)
        and (not pod.modes or settings.milvus.mode in pod.modes)
        and (pod.name != "postgresql" or bundled_database)
    )


def _sized(pod: Pod, settings: Settings, git_sync: bool) -> Pod:
    size = getattr(settings, pod.service).sizes.get(pod.name)
    in_a_cluster = pod.name == "etcd" and settings.milvus.mode == "cluster"
    return Pod(
        pod.service,
        pod.name,
        size.cpu if size else pod.cpu,
        size.memory if size else pod.memory,
        _ETCD_IN_A_CLUSTER if in_a_cluster else pod.replicas,
        pod.modes,
        tuple(name for name in pod.beside if name != "git-sync" or git_sync),
    )


def variable(pods: Iterable[Pod]) -> dict[str, dict[str, Any]]:
    """The pods and sidecars as the stack `services` takes them, by SERVICE/NAME and NAME."""
    sizes = {
        f"{pod.service}/{pod.name}": {"cpu": pod.cpu, "memory": pod.memory, "replicas": pod.replicas}
        for pod in pods
    }
    beside = {name: {"cpu": cpu, "memory": memory, "replicas": 1} for name, (cpu, memory) in SIDECARS.items()}
    return {**sizes, **beside}


# -- whether they fit ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """Processors in thousandths, memory in MiB, and pods."""

    cpu: int
    memory: int
    pods: int = 0

    def __sub__(self, other: Room) -> Room:
        return Room(self.cpu - other.cpu, self.memory - other.memory, self.pods - other.pods)

    def __add__(self, other: Room) -> Room:
        return Room(self.cpu + other.cpu, self.memory + other.memory, self.pods + other.pods)

    def holds(self, other: Room) -> bool:
        return self.cpu >= other.cpu and self.memory >= other.memory and self.pods >= other.pods

    def __str__(self) -> str:
        return f"{self.cpu / 1000:g} CPU and {self.memory / MIB_PER_GIB:.1f} GiB"


def allocatable(kind: InstanceType) -> Room:
    """What the kubelet gives to pods on a node of this type.

    Source: the bootstrap of EKS' own node images: it keeps 6 % of the first processor, 1 % of the second, 0.5 % of
    the next two and 0.25 % of the rest, 255 MiB and 11 MiB for each possible pod, and evicts below 100 MiB. Of the
    memory EC2 keeps some 7.5 %.
    """
    pods = min(kind.interfaces * (kind.addresses_per_interface - 1) + 2, 110 if kind.cpus < 30 else 250)
    kept = sum(_share(cpu) for cpu in range(kind.cpus))
    return Room(kind.cpus * 1000 - round(kept), int(kind.memory * 0.925) - (255 + 11 * pods) - 100, pods)


def _share(cpu: int) -> float:
    return {0: 60.0, 1: 10.0, 2: 5.0, 3: 5.0}.get(cpu, 2.5)


# On every node: Fluent Bit, the network plugin, kube-proxy, the EBS driver's and the pod identity's agents.
_ON_EVERY_NODE = Room(350, 512, 5)
# Once in the cluster: coredns, the EBS driver's controller, the autoscaler.
_ELSEWHERE = (Room(100, 70, 1), Room(100, 70, 1), Room(60, 240, 1), Room(60, 240, 1), Room(100, 300, 1))


def requests(pod: Pod) -> Room:
    """What one such pod asks for, with what stands beside it."""
    sizes = [quantities(pod.cpu, pod.memory), *(quantities(*SIDECARS[name]) for name in pod.beside)]
    return Room(sum(cpu for cpu, _ in sizes), sum(memory for _, memory in sizes), 1)


def quantities(cpu: str, memory: str) -> tuple[int, int]:
    """Kubernetes' quantities in thousandths of a processor and in MiB."""
    found = re.fullmatch(r"(\d+)(Mi|Gi)", memory)
    assert found, memory
    thousandths = int(cpu[:-1]) if cpu.endswith("m") else int(cpu) * 1000
    return thousandths, int(found[1]) * (MIB_PER_GIB if found[2] == "Gi" else 1)


@dataclass(frozen=True)
class Misfit:
    """Why the pods do not fit: the biggest pods that no node holds, else all of them on `nodes` nodes."""

    node: Room
    instance_type: str
    nodes: int
    too_big: tuple[Pod, ...]
    asked: Room

    def __str__(self) -> str:
        if self.too_big:
            shown = ", ".join(f"{pod.service}/{pod.name} asks for {requests(pod)}" for pod in self.too_big)
            return f"{shown}; a node of {self.instance_type} has {self.node} left for pods"
        return (
            f"the services ask for {self.asked} together; of at most {self.nodes} x {self.instance_type} each has "
            f"{self.node} left for pods"
        )


def misfit(pods: Sequence[Pod], types: Collection[InstanceType], nodes: int) -> Misfit | None:
    """Why these pods would wait for ever on `nodes` nodes of these types, or None when there is room.

    Where a node group may have several types, the smallest counts: nobody knows which one EC2 gives. The pods are
    packed as a scheduler could, the biggest first; a pod that is placed is never moved.
    """
    smallest = min(types, key=lambda one: (allocatable(one).memory, allocatable(one).cpu))
    node = allocatable(smallest) - _ON_EVERY_NODE
    each = [(pod, requests(pod)) for pod in pods for _ in range(pod.replicas)]
    too_big = tuple(dict.fromkeys(pod for pod, room in each if not node.holds(room)))
    asked = sum((room for _, room in each), Room(0, 0, 0))
    found = Misfit(node, smallest.name, nodes, too_big, asked)
    if too_big:
        return found
    rooms = [node] * nodes
    for needed in sorted(
        [*(room for _, room in each), *_ELSEWHERE], key=lambda room: (room.memory, room.cpu), reverse=True
    ):
        place = next((index for index, room in enumerate(rooms) if room.holds(needed)), None)
        if place is None:
            return found
        rooms[place] -= needed
    return None
