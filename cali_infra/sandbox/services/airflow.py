"""Airflow's API server: how its parts are, and nothing else.

Modelled: `GET /api/v2/monitor/health`, which asks nobody for a password. A part gives a sign of life while a pod of
it is ready. One whose last is too old is unhealthy by the API server's own clock; one whose pods are gone is so at
once, as it has said that it ends. Without its database every part is unhealthy. Not modelled: everything else, the
pages included.

Source: Airflow 3, `api/common/airflow_health.py`, `api_fastapi/core_api/routes/public/monitor.py`, `jobs/job.py`;
its configuration, `scheduler_health_check_threshold` and those of the other parts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cali_infra.sandbox.services.http import Answer, Request, not_modelled, page

# The parts with a heartbeat, by their names in the answer, and the components whose pods they are.
PARTS = {"scheduler": "scheduler", "triggerer": "triggerer", "dag_processor": "dag-processor"}
# The same for all three, and the chart leaves it so.
THRESHOLD = timedelta(seconds=30)


class Airflow:
    """One Airflow. `ready` tells whether a component has a ready pod, None where it has none at all; `database`
    whether its database answers."""

    def __init__(
        self,
        ready: Callable[[str], bool | None],
        database: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._ready, self._database, self._now = ready, database, now
        self._beats: dict[str, datetime] = {}
        self._held: set[str] = set()

    def beat(self) -> None:
        """Let every part that runs give a sign of life."""
        for part, component in PARTS.items():
            if part not in self._held and self._ready(component):
                self._beats[part] = self._now()

    def hold_back(self, part: str, held: bool = True, ago: timedelta = timedelta()) -> None:
        """Let a part hang, whose last sign of life was so long `ago`, or go on."""
        if held:
            self._held.add(part)
            self._beats[part] = self._now() - ago
        else:
            self._held.discard(part)

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
                "status": self._status(part, at, self._ready(component) is not None),
                f"latest_{part}_heartbeat": at.astimezone(UTC).isoformat() if at else None,
            }
        return health

    def _status(self, part: str, at: datetime | None, is_there: bool) -> str | None:
        if at is None:
            # Every Airflow has a scheduler; the others may be left out, and then nothing is said of them.
            return "unhealthy" if part == "scheduler" else None
        return "healthy" if is_there and self._now() - at < THRESHOLD else "unhealthy"
