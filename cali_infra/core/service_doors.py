"""Where each service is reached in the cluster, who logs in there, and where that password is.

`DOORS` is the one place that says so. The Services are those that the pinned charts make for the releases of
`terraform/services`. Sources: Grafana's chart 12, `service.yaml`; Airflow's chart 1.20 and newer,
`api-server-service.yaml`; Milvus' chart 5, `service.yaml`, and the chapter "Milvus WebUI" of its documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cali_infra.core import secrets
from cali_infra.core.service_secrets import ADMIN, MILVUS_PORT, MILVUS_USER


@dataclass(frozen=True)
class Port:
    """A port of a Service.

    `local` is the port on this machine that is tried first. `path` is the page that a browser opens there, None
    where the port is none for a browser; `words` say what it is for.
    """

    number: int
    local: int
    path: str | None = None
    words: str = ""


@dataclass(frozen=True)
class Door:
    """One service: its Service, whose first port is the one that `--port` is for, its user, and the key of
    `secrets.yaml` with that user's password.
    """

    name: str
    namespace: str
    service: str
    ports: tuple[Port, ...]
    user: str
    setting: str


DOORS: Mapping[str, Door] = {
    door.name: door
    for door in (
        Door("grafana", "grafana", "grafana", (Port(80, 3000, "/"),), ADMIN, "grafana.admin_password"),
        Door(
            "airflow",
            "airflow",
            "airflow-api-server",
            (Port(8080, 8080, "/"),),
            ADMIN,
            "airflow.admin_password",
        ),
        Door(
            "milvus",
            "milvus",
            "milvus",
            (
                Port(MILVUS_PORT, MILVUS_PORT, words="gRPC and REST, for programs"),
                Port(9091, 9091, "/webui/", "WebUI"),
            ),
            MILVUS_USER,
            "milvus.root_password",
        ),
    )
}
# No Service: the domain has an address of its own.
OPENSEARCH = "opensearch"
DASHBOARDS = "/_dashboards"
NAMES = (*DOORS, OPENSEARCH)


def password_place(setting: str, project: Path, environ: Mapping[str, str]) -> str:
    """Where the password of a key of `secrets.yaml` is to be found, in words; the password is not looked at."""
    variable = "CALI_" + setting.upper().replace(".", "__")
    if environ.get(variable):
        return f"the variable {variable}"
    if (project / secrets.FILE).is_file():
        return f"{setting} in {secrets.FILE}"
    return f"ask whoever runs the platform: {setting} in their {secrets.FILE}"
