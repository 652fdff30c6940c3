"""What pods and events said while a release was applied, kept where it failed.

Helm takes a release that fails away again (`atomic`), and its pods, with their logs, go with it: they are looked at
while they are there. A release that works leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from cali_infra import files
from cali_infra.core.progress import Progress
from cali_infra.core.rollout import pod_reasons
from cali_infra.errors import CaliError, OperationError, RunInterruptedError

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes, Object

# Between two looks, in seconds: a container that ends at once is there for longer than this.
INTERVAL = 5.0
_LINES = 50
# For so long, in seconds, a look that is under way at the end is waited for.
_LAST_LOOK = 10.0
# So many reasons are shown at once; all of them are in the file.
_SHOWN = 5


@dataclass(frozen=True)
class Place:
    """Where a release's pods are: a namespace of its own, or some of the pods in one."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""


# By stage: what its releases make.
PLACES: Mapping[str, tuple[Place, ...]] = {
    "autoscaler": (
        Place("kube-system", {"app.kubernetes.io/instance": "cluster-autoscaler"}, "cluster-autoscaler"),
    ),
    "services": (Place("airflow"), Place("milvus"), Place("grafana")),
}


class Evidence:
    """What was seen so far; a later look adds to it and forgets nothing."""

    def __init__(self) -> None:
        self._old: set[tuple[str, int]] | None = None
        self._events: dict[str, str] = {}
        self._pods: dict[str, tuple[str, ...]] = {}
        self._logs: dict[str, str] = {}
        self.problems: dict[str, None] = {}

    def baseline(self, kubernetes: Kubernetes, places: Sequence[Place]) -> None:
        """Leave out the events that are there now: they tell of something else. Raises KubernetesError."""
        self._old = {
            (str(event["metadata"]["uid"]), _count(event))
            for place in places
            for event in kubernetes.list("v1", "Event", place.namespace)
        }

    def look(self, kubernetes: Kubernetes, place: Place) -> None:
        """Look at events, pods and the logs of those that are not well. Raises KubernetesError."""
        pods = kubernetes.list("v1", "Pod", place.namespace, place.labels)
        for pod in pods:
            reasons = tuple(pod_reasons(kubernetes, pod))
            # One that is well again is no reason for anything.
            self._pods[f"{place.namespace}/{pod['metadata']['name']}"] = reasons
            for container, previous in _worth_reading(pod):
                self._read(kubernetes, pod, container, previous)
        for event in kubernetes.list("v1", "Event", place.namespace):
            about = event.get("involvedObject") or {}
            key = str(event["metadata"]["uid"])
            if (key, _count(event)) in (self._old or ()) or not str(about.get("name", "")).startswith(
                place.prefix
            ):
                continue
            self._events[key] = (
                f"{event.get('lastTimestamp') or event.get('eventTime') or ''} {event.get('type', '')} "
                f"{about.get('kind', '')} {place.namespace}/{about.get('name', '')}: "
                f"{event.get('reason', '')}: {event.get('message', '')}"
            ).strip()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it does not come up, in words: what pods say of themselves, and the warnings among the events."""
        said = [reason for reasons in self._pods.values() for reason in reasons]
        said += [
            line.partition(" Warning ")[2] for line in self._events.values() if " Warning " in f" {line}"
        ]
        return tuple(dict.fromkeys(said))

    def text(self) -> str:
        """All of it, for a file."""
        parts = [("why", [f"- {reason}" for reason in self.reasons] or ["nothing was said"])]
        parts.append(("events", sorted(self._events.values()) or ["none"]))
        parts += [(f"log of {name}", [log.rstrip()]) for name, log in sorted(self._logs.items())]
        if self.problems:
            parts.append(("what could not be looked at", list(self.problems)))
        return "\n\n".join(f"== {title}\n" + "\n".join(lines) for title, lines in parts) + "\n"

    def _read(self, kubernetes: Kubernetes, pod: Object, container: str, previous: bool) -> None:
        meta = pod["metadata"]
        name = f"{meta['namespace']}/{meta['name']} {container}" + (" (the one before)" if previous else "")
        try:
            text = kubernetes.log(
                meta["namespace"], meta["name"], container=container, previous=previous, lines=_LINES
            )
        except CaliError as error:
            # It may be gone since it was listed, or not have started yet.
            if name not in self._logs:
                self.problems[f"log of {name}: {error.message}"] = None
            return
        if text.strip():
            self._logs[name] = text


@dataclass(frozen=True)
class Witness:
    """Looks at `places` every `interval` seconds for as long as something is applied.

    `connect` gives the cluster; `redact` takes secrets out of what is kept in `folder`.
    """

    stage: str
    places: Sequence[Place]
    connect: Callable[[], Kubernetes]
    folder: Path
    redact: Callable[[str], str]
    now: Callable[[], datetime]
    interval: float = INTERVAL

    @contextmanager
    def watching(self, watch: Progress) -> Iterator[None]:
        """Where the block fails, say why the pods did not come up and keep what they said.

        Its error goes on as it is, with the file's name in its remedy. Trouble in looking never stops the block.
        """
        seen, ended = Evidence(), Event()
        thread = Thread(target=self._watch, args=(seen, ended), name=f"witness-{self.stage}", daemon=True)
        thread.start()
        try:
            yield
        except RunInterruptedError:
            raise
        except OperationError as error:
            ended.set()
            thread.join(_LAST_LOOK)
            self._keep(seen, error, watch)
            raise
        finally:
            ended.set()
            thread.join(_LAST_LOOK)

    def _watch(self, seen: Evidence, ended: Event) -> None:
        try:
            kubernetes = self.connect()
            seen.baseline(kubernetes, self.places)
        except CaliError as error:
            seen.problems[error.message] = None
            return
        last = False
        while not last:
            # Once more after the end: events come later than what they tell of.
            last = ended.wait(self.interval)
            for place in self.places:
                try:
                    seen.look(kubernetes, place)
                except CaliError as error:
                    seen.problems[f"{place.namespace}: {error.message}"] = None

    def _keep(self, seen: Evidence, error: OperationError, watch: Progress) -> None:
        for reason in seen.reasons[:_SHOWN]:
            watch.warn(reason, stage=self.stage)
        path = write(self.folder, self.stage, self.now(), self.redact(f"{error.message}\n\n{seen.text()}"))
        where = f"what its pods, events and logs said is kept in {path}"
        error.remedy = f"{error.remedy}\n{where}" if error.remedy else where


def write(folder: Path, name: str, now: datetime, text: str) -> Path:
    """Keep a text in a private file, named by what it is of and by the moment; returns where."""
    path = folder / f"{name}-{now:%Y%m%d-%H%M%S}.txt"
    files.write_private(path, text.encode("utf-8", "replace"))
    return path


def _count(event: Mapping[str, Any]) -> int:
    return int(event.get("count") or (event.get("series") or {}).get("count") or 1)


def _worth_reading(pod: Object) -> Iterator[tuple[str, bool]]:
    """Containers that have started and are not well, and whether the log of the one before is meant."""
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = container.get("state") or {}
        ended = state.get("terminated")
        if container.get("restartCount"):
            yield container["name"], True
        if (state.get("running") and not container.get("ready")) or (ended and ended.get("exitCode")):
            yield container["name"], False
