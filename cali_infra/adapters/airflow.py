"""The one door to Airflow's API server, over HTTP: how its parts are. It asks nobody for a password.

It is handed a base URL and does not care what leads there (`core/pod_doors.py` does). Source: Airflow 3,
`api_fastapi/core_api/routes/public/monitor.py` and `api/common/airflow_health.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cali_infra.errors import AirflowError

# One request, in seconds.
TIMEOUT = 10.0
HEALTH = "/api/v2/monitor/health"


@dataclass(frozen=True)
class Part:
    """One part of Airflow: `status` is healthy or unhealthy, None where it never ran; `heartbeat` its last sign of
    life, None where it gives none."""

    status: str | None
    heartbeat: datetime | None = None

    @property
    def healthy(self) -> bool:
        return self.status == "healthy"


@dataclass(frozen=True)
class Health:
    """How the parts of Airflow are, as its API server sees them in the database."""

    metadatabase: Part
    scheduler: Part
    triggerer: Part
    dag_processor: Part


class Airflow:
    """Airflow's API server at a base URL such as `http://127.0.0.1:8080`. Raises AirflowError."""

    def __init__(self, base_url: str, *, timeout: float = TIMEOUT) -> None:
        self._base, self._timeout = base_url.rstrip("/"), timeout

    def health(self) -> Health:
        """How its parts are."""
        import urllib3

        try:
            with urllib3.PoolManager(retries=False, timeout=self._timeout) as pool:
                answer = pool.request("GET", self._base + HEALTH, redirect=False)
                found = answer.json()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise AirflowError(f"Airflow's API server cannot be reached: {error}", remedy=_LOOK) from error
        except ValueError:
            raise AirflowError(
                f"Airflow's API server answered GET {HEALTH} with something other than JSON",
                status=answer.status,
                remedy=_LOOK,
            ) from None
        if answer.status != 200 or not isinstance(found, dict):
            raise AirflowError(
                f"Airflow's API server answered GET {HEALTH} with {answer.status}",
                status=answer.status,
                remedy=_LOOK,
            )
        return Health(
            _part(found, "metadatabase"),
            _part(found, "scheduler"),
            _part(found, "triggerer"),
            _part(found, "dag_processor"),
        )


_LOOK = "kubectl -n airflow logs deployment/airflow-api-server -c api-server --tail=50"


def _part(found: Mapping[str, Any], name: str) -> Part:
    part = found.get(name)
    if not isinstance(part, Mapping):
        return Part(None)
    return Part(part.get("status"), _moment(part.get(f"latest_{name}_heartbeat")))


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
