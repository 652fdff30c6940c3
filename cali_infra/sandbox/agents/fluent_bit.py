"""Fluent Bit: the log lines of the pods on the nodes where it is ready, shipped as its DaemonSet is told to.

What becomes of a line is what the configuration says that the DaemonSet mounts: `sandbox/fluent_bit` evaluates
it, and where it cannot, nothing is shipped and the reason is logged once. A change counts with the next tick,
where a real pod would have to start anew first.

Every container's lines are shipped once, in their order, also those of pods that have ended; a pod that is
deleted takes its log along. A pod that has written nothing has a line for its start, and one of them another line
every minute: the containers are none, and somebody has to write. What OpenSearch does not take is sent again with
the next tick, without an end; what it refuses for what it says is given up at the first time, where the real one
tries for hours before. It sends to loopback only.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cali_infra.sandbox.agents import bulk, daemon
from cali_infra.sandbox.fluent_bit import ConfigurationError, LogFile, Pipeline
from cali_infra.sandbox.kubernetes.logs import Container, LogLine
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.pod_environment import environment

_log = logging.getLogger(__name__)
_DAEMON = ("logging", "fluent-bit")
_EVERY = 60.0
_LOOPBACK = ("127.0.0.1", "localhost")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
Obj = Mapping[str, Any]
Said = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class _Position:
    """How far a container's log was read: so many lines, the last of which was this one."""

    count: int
    last: LogLine

    @classmethod
    def behind(cls, lines: Sequence[LogLine]) -> _Position:
        return cls(len(lines), lines[-1])

    def unread(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        """What was written since; a log that is another one by now is read from its head."""
        if len(lines) < self.count or lines[self.count - 1] != self.last:
            return lines
        return lines[self.count :]


@dataclass(frozen=True)
class _Batch:
    """One container's new lines, and all that it has written."""

    container: Container
    file: LogFile
    new: Sequence[LogLine]
    written: Sequence[LogLine]


@dataclass
class _Memory:
    """What is remembered of one cluster; `invented` are lines of pods that write nothing, until they are taken."""

    read: dict[Container, _Position] = field(default_factory=dict)
    invented: dict[Container, tuple[LogLine, ...]] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    said: Said | None = None
    pipeline: Pipeline | None = None
    trouble: str = ""
    last: datetime | None = None
    turn: int = 0


class FluentBit:
    """The log shipper in every cluster of a stand-in; `ca_file` is the authority behind the domains."""

    def __init__(self, clusters: KubernetesStandIn, ca_file: str, now: Callable[[], datetime]) -> None:
        self._clusters = clusters
        self._ca_file = ca_file
        self._now = now
        self._memories: dict[str, _Memory] = {}

    def tick(self, cluster: str) -> None:
        """Ship what has been written since; what OpenSearch does not take is tried again with the next tick."""
        found = self._named(cluster, "daemonsets", *_DAEMON, group="apps")
        if found is None:
            return
        memory = self._memories.setdefault(cluster, _Memory())
        pipeline = self._pipeline(cluster, found, memory)
        if pipeline is None or pipeline.destination.host not in _LOOPBACK:
            return
        if batches := list(self._batches(cluster, found, memory, pipeline)):
            self._ship(memory, pipeline, batches)

    def forget(self, cluster: str) -> None:
        """A cluster is gone."""
        self._memories.pop(cluster, None)

    def _pipeline(self, cluster: str, found: Obj, memory: _Memory) -> Pipeline | None:
        """What the DaemonSet's pods are told now, read once as long as it stays the same."""
        namespace = found["metadata"]["namespace"]

        def find(plural: str, name: str) -> Obj | None:
            return self._named(cluster, plural, namespace, name)

        said: Said | None = None
        try:
            file, text = daemon.configuration(found, find)
            (container, *_) = found["spec"]["template"]["spec"]["containers"]
            # The fields of a pod differ from one to another, and are left out.
            environ = environment(container, find, lenient=True)
            said = (file, text, tuple(sorted(environ.items())))
            if said != memory.said:
                memory.pipeline = None
                memory.pipeline = Pipeline.read(file, text, environ)
        except ConfigurationError as error:
            if str(error) != memory.trouble:
                _log.warning("Fluent Bit in %s ships nothing: %s", cluster, error)
            memory.said, memory.pipeline, memory.trouble = said, None, str(error)
            return None
        if memory.pipeline is not None:
            memory.said, memory.trouble = said, ""
        return memory.pipeline

    def _batches(self, cluster: str, found: Obj, memory: _Memory, pipeline: Pipeline) -> Iterator[_Batch]:
        pods = self._clusters.objects(cluster, "pods")
        nodes = {pod["spec"].get("nodeName") for pod in pods if _owned_by(pod, found) and _ready(pod)}
        logs = {
            _key(pod, name): LogFile.of(pod, name, _identifier(pod, name))
            for pod in pods
            if pod["spec"].get("nodeName") in nodes
            for name in _containers(pod)
        }
        logs = {container: file for container, file in logs.items() if pipeline.takes(file.path)}
        written = self._clusters.all_log_lines(cluster)
        self._invent(memory, [pod for pod in pods if _is_quiet(pod, logs, written)])
        memory.read = {key: at for key, at in memory.read.items() if key in written}
        memory.invented = {key: lines for key, lines in memory.invented.items() if key in logs}
        memory.started &= {pod["metadata"]["uid"] for pod in pods}
        for container, file in logs.items():
            lines = written.get(container, ())
            before = memory.read.get(container)
            new = before.unread(lines) if before else lines
            if new or container in memory.invented:
                yield _Batch(container, file, (*memory.invented.get(container, ()), *new), lines)

    def _invent(self, memory: _Memory, quiet: Sequence[Obj]) -> None:
        """Lines of the pods that have written nothing: of each when it started, and of one from time to time."""
        at = self._now()
        fresh = [pod for pod in quiet if pod["metadata"]["uid"] not in memory.started]
        for pod in fresh:
            memory.invented[_first(pod)] = (_line(pod, "started", at),)
            memory.started.add(pod["metadata"]["uid"])
        due = memory.last is None or (at - memory.last).total_seconds() >= _EVERY
        if quiet and due and not memory.invented:
            memory.turn += 1
            pod = quiet[memory.turn % len(quiet)]
            memory.invented[_first(pod)] = (_line(pod, "still running", at),)

    def _ship(self, memory: _Memory, pipeline: Pipeline, batches: Sequence[_Batch]) -> None:
        made = [pipeline.documents(batch.file, batch.new) for batch in batches]
        answers = bulk.send(pipeline.destination, [one for some in made for one in some], self._ca_file)
        for batch, documents in zip(batches, made, strict=True):
            mine, answers = answers[: len(documents)], answers[len(documents) :]
            if not all(mine):
                continue
            memory.invented.pop(batch.container, None)
            if batch.written:
                memory.read[batch.container] = _Position.behind(batch.written)
            if documents:
                memory.last = self._now()

    def _named(self, cluster: str, plural: str, namespace: str, name: str, group: str = "") -> Obj | None:
        for obj in self._clusters.objects(cluster, plural, group):
            if (obj["metadata"].get("namespace"), obj["metadata"]["name"]) == (namespace, name):
                return obj
        return None


def _containers(pod: Obj) -> list[str]:
    spec = pod["spec"]
    return [one["name"] for one in (*(spec.get("initContainers") or ()), *spec["containers"])]


def _key(pod: Obj, container: str) -> Container:
    return pod["metadata"]["namespace"], pod["metadata"]["name"], container


def _first(pod: Obj) -> Container:
    return _key(pod, pod["spec"]["containers"][0]["name"])


def _line(pod: Obj, text: str, at: datetime) -> LogLine:
    _, _, name = _first(pod)
    return LogLine(round(at.timestamp() * 1e6) * 1000, "stdout", f"{name}: {text}")


def _is_quiet(pod: Obj, logs: Mapping[Container, LogFile], written: Mapping[Container, object]) -> bool:
    """Whether a ready pod whose log is read has never written a line."""
    silent = not any(written.get(_key(pod, name)) for name in _containers(pod))
    return silent and _first(pod) in logs and _ready(pod)


def _identifier(pod: Obj, container: str) -> str:
    """The runtime's identifier of a container, or one of our own where its status has none yet."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        found = _IDENTIFIER.search(status.get("containerID") or "")
        if status["name"] == container and found:
            return found[0]
    return hashlib.sha256(f"{pod['metadata']['uid']}/{container}".encode()).hexdigest()


def _owned_by(pod: Obj, owner: Obj) -> bool:
    return any(
        reference["uid"] == owner["metadata"]["uid"]
        for reference in pod["metadata"].get("ownerReferences") or ()
    )


def _ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
