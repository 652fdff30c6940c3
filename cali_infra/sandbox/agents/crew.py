"""The agents of all clusters, and the thread in which they work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cali_infra.sandbox.agents.autoscaler import Autoscaler
from cali_infra.sandbox.agents.fluent_bit import FluentBit
from cali_infra.sandbox.agents.jobs import Jobs, Network
from cali_infra.sandbox.agents.services import Services
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.ports import Cloud

_log = logging.getLogger(__name__)
# Seconds between two looks: short, because a person who has just run `up` is waiting.
_EVERY = 1.0


class Crew:
    """Whatever runs in the clusters.

    `services` outlive it. `ca_file` is the authority behind the domains, `folder` is for what the containers of
    Jobs find, and `network` is what a process in a cluster finds in its environment beside what its pod says, by
    default the way to the services.
    """

    def __init__(
        self,
        clusters: KubernetesStandIn,
        cloud: Cloud,
        ca_file: str,
        now: Callable[[], datetime],
        services: Services,
        folder: Path,
        network: Network | None = None,
    ) -> None:
        self._clusters = clusters
        self._jobs = Jobs(clusters, folder, now, network or services.network)
        # The services first: what they have made is seen by the others in the same look.
        self._agents = (
            services,
            Autoscaler(clusters, cloud, now),
            FluentBit(clusters, ca_file, now),
            self._jobs,
        )
        self._known: set[str] = set()
        self._stopped = threading.Event()
        self._working = threading.Lock()

    def start(self) -> None:
        """Work in a thread of its own until `stop`."""
        threading.Thread(target=self._work, name="agents", daemon=True).start()

    def stop(self) -> None:
        """Work no more, and end what was started; harmless when it never did. The services have a `close` of their
        own."""
        self._stopped.set()
        self._jobs.close()

    def tick(self) -> None:
        """Let every agent look at every cluster once; safe to call from any thread."""
        with self._working:
            self._tick()

    def _tick(self) -> None:
        present = set(self._clusters.clusters())
        for cluster in self._known - present:
            for agent in self._agents:
                agent.forget(cluster)
        self._known = present
        for cluster in present:
            for agent in self._agents:
                try:
                    agent.tick(cluster)
                except LookupError:
                    # The cluster went away in the middle.
                    continue
                except Exception:
                    _log.exception("%s in %s", type(agent).__name__, cluster)

    def _work(self) -> None:
        while not self._stopped.wait(_EVERY):
            self.tick()
