"""Airflow's API server: how its parts are, and nothing else.

Modelled: `GET /api/v2/monitor/health`, which asks nobody for a password. A part is healthy while a pod of it is
ready, and its heartbeat is then the present; when none is, the heartbeat stays at the last one. Without its
database every part is unhealthy. Not modelled: everything else, the pages included.

Source: Airflow 3, `api/common/airflow_health.py`, `api_fastapi/core_api/routes/public/monitor.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cali_infra.sandbox.services.http import Answer, Request, not_modelled, page

# The parts with a heartbeat, by their names in the answer, and the components whose pods they are.
PARTS = {"scheduler": "scheduler", "triggerer": "triggerer", "dag_processor": "dag-processor"}


class Airflow:
    """One Airflow. `ready` tells whether a component has a ready pod; `database` whether its database answers."""

    def __init__(
        self,
        ready: Callable[[str], bool],
        database: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._ready, self._database, self._now = ready, database, now
        self._beats: dict[str, datetime] = {}

    def beat(self) -> None:
        """Let every part that runs give a sign of life."""
        for part, component in PARTS.items():
            if self._ready(component):
                self._beats[part] = self._now()

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        if request.method == "GET" and request.path == "/":
            return page(
                "Airflow",
                "This is cali's stand-in for Airflow: a rehearsal installs no chart.",
                "It knows how its parts are, at /api/v2/monitor/health, and runs no DAG.",
            )
        if request.method == "GET" and request.path == "/api/v2/monitor/health":
            return Answer(200, self._health())
        return not_modelled("Airflow", request)

    def _health(self) -> dict[str, Any]:
        if not self._database():
            # What cannot be asked has no heartbeat either.
            gone = {part: {"status": "unhealthy", f"latest_{part}_heartbeat": None} for part in PARTS}
            return {"metadatabase": {"status": "unhealthy"}, **gone}
        self.beat()
        health: dict[str, Any] = {"metadatabase": {"status": "healthy"}}
        for part, component in PARTS.items():
            at = self._beats.get(part)
            health[part] = {
                "status": "healthy" if self._ready(component) else "unhealthy",
                f"latest_{part}_heartbeat": at.astimezone(UTC).isoformat() if at else None,
            }
        return health
