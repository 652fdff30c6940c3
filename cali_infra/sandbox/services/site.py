"""The applications of one cluster: their servers, the programs in their containers, and what they remember.

A password is read from the Secret by an application's first start and kept with its volume: it outlives pods and
releases, and is gone with the claim. What a pod was started with (its variables, its data sources) it keeps until
another takes its place. The agent says which pods are there; the cluster is looked at through `Cluster`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cali_infra.sandbox.kubernetes.executing import Surroundings
from cali_infra.sandbox.pod_environment import environment
from cali_infra.sandbox.pod_programs import Programs, install
from cali_infra.sandbox.services.airflow import Airflow
from cali_infra.sandbox.services.grafana import DataSource, Grafana
from cali_infra.sandbox.services.http import LoopbackServer
from cali_infra.sandbox.services.milvus import Milvus
from cali_infra.sandbox.services.network import PodNetwork

Obj = Mapping[str, Any]
_SOURCES = "datasources.yaml"
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
# Milvus' own, where nothing else is given.
_MILVUS_PASSWORD = "Milvus"


class Cluster(Protocol):
    """What is looked at in the cluster, and what is told to it."""

    def objects(self, plural: str, group: str = "") -> Sequence[Obj]:
        """Its objects of a kind; none where the cluster is gone."""

    def set_port(self, namespace: str, pod: str, port: int, address: tuple[str, int] | None) -> None:
        """Which server answers at a pod's port."""

    def set_container(self, namespace: str, pod: str, container: str, surroundings: Surroundings) -> None:
        """What a command finds in a container."""


class Site:
    """The applications of one cluster; `folder` must not be there yet, and is the site's own."""

    def __init__(self, cluster: Cluster, folder: Path, ca_file: str, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self.programs: Programs = install(folder)
        self._kept: dict[str, str] = {}
        # By the pod's uid: the ports that lead to it.
        self._pods: dict[str, tuple[str, str, Mapping[int, tuple[str, int]]]] = {}
        self._grafana = Grafana(lambda: self.programs.state.get("grafana"), ca_file, now)
        self._airflow = Airflow(self._airflow_ready, self._database_answers, now)
        self._milvus = Milvus(
            lambda: self.programs.state.get("milvus"), lambda new: self.programs.change(milvus=new)
        )
        grafana = LoopbackServer("grafana", self._grafana.answer)
        airflow = LoopbackServer("airflow", self._airflow.answer)
        milvus = LoopbackServer("milvus", self._milvus.answer)
        web = LoopbackServer("milvus web", self._milvus.web)
        self._network = PodNetwork(self._behind, ca_file)
        closing = (grafana, airflow, milvus, web, self._network, self.programs)
        self._close = [one.close for one in closing]
        self._servers: Mapping[tuple[str, str], Mapping[int, tuple[str, int]]] = {
            ("grafana", "grafana"): {3000: grafana.address},
            ("airflow", "api-server"): {8080: airflow.address},
            ("milvus", "standalone"): {19530: milvus.address, 9091: web.address},
            ("milvus", "proxy"): {19530: milvus.address, 9091: web.address},
        }

    def hold_scheduler_back(self, held: bool, ago: timedelta) -> None:
        """See `Services`."""
        self._airflow.hold_back("scheduler", held, ago)

    def network(self) -> Mapping[str, str]:
        """What a process needs to reach the Services by their names."""
        return self._network.environ()

    def close(self) -> None:
        """Close every port."""
        for close in self._close:
            close()

    # -- pods -------------------------------------------------------------------------------------------

    def look(self, releases: Mapping[str, Obj]) -> None:
        """Bring the applications to what runs now; `releases` are the values of those deployed, by chart, each in
        the namespace of its chart's name."""
        pods = [pod for pod in self._cluster.objects("pods") if pod["metadata"]["namespace"] in releases]
        ready = {pod["metadata"]["uid"]: pod for pod in pods if is_ready(pod)}
        for uid in self._pods.keys() - ready.keys():
            namespace, name, ports = self._pods.pop(uid)
            # In a StatefulSet another pod may have the name by now.
            if not any(one[:2] == (namespace, name) for one in self._pods.values()):
                for port in ports:
                    self._cluster.set_port(namespace, name, port, None)
        self._forget()
        for uid, pod in ready.items():
            if uid not in self._pods:
                self._started(pod, releases[pod["metadata"]["namespace"]])
        self._airflow.beat()

    def _started(self, pod: Obj, values: Obj) -> None:
        meta = pod["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        ports: dict[int, tuple[str, int]] = {}
        for container in pod["spec"]["containers"]:
            environ = self._environ(namespace, container)
            self._first_start(namespace, container, environ, values)
            surroundings = Surroundings({**environ, **self.programs.environ})
            self._cluster.set_container(namespace, name, container["name"], surroundings)
            for port, address in self._servers.get((namespace, container["name"]), {}).items():
                self._cluster.set_port(namespace, name, port, address)
                ports[port] = address
            if (namespace, container["name"]) == ("grafana", "grafana"):
                self._grafana.start(container["image"].rpartition(":")[2], self._sources(pod, environ))
        self._pods[meta["uid"]] = (namespace, name, ports)

    def _environ(self, namespace: str, container: Obj) -> dict[str, str]:
        """A container's variables as they are now; what is not there, or a pod's own, is left out."""
        return environment(container, partial(self._find, namespace), lenient=True)

    def _find(self, namespace: str, plural: str, name: str) -> Obj | None:
        for obj in self._cluster.objects(plural):
            if (obj["metadata"]["namespace"], obj["metadata"]["name"]) == (namespace, name):
                return obj
        return None

    # -- what the applications remember -----------------------------------------------------------------

    def _first_start(self, namespace: str, container: Obj, environ: Mapping[str, str], values: Obj) -> None:
        match (namespace, container["name"]):
            case ("grafana", "grafana"):
                self._remember("grafana", "grafana", environ.get("GF_SECURITY_ADMIN_PASSWORD", ""))
            case ("milvus", "standalone" | "proxy"):
                # In a cluster the coordinator makes the user root.
                password = environ.get("COMMON_SECURITY_DEFAULTROOTPASSWORD") or self._coordinators(values)
                self._remember("milvus", "data-milvus-etcd-0", password)
            case ("airflow", "postgresql"):
                password = environ.get("POSTGRES_PASSWORD", "")
                users = {
                    "postgres": environ.get("POSTGRES_POSTGRES_PASSWORD", ""),
                    environ.get("POSTGRES_USER", "postgres"): password,
                }
                self._remember("postgres", "data-airflow-postgresql-0", users)
            case ("airflow", "api-server"):
                self._remember("airflow", "data-airflow-postgresql-0", self._airflow_admin(values))

    def _coordinators(self, values: Obj) -> str:
        variables = self._environ("milvus", {"env": (values.get("mixCoordinator") or {}).get("extraEnv")})
        return variables.get("COMMON_SECURITY_DEFAULTROOTPASSWORD") or _MILVUS_PASSWORD

    def _airflow_admin(self, values: Obj) -> str:
        variables = self._environ("airflow", {"env": (values.get("createUserJob") or {}).get("env")})
        return variables.get("AIRFLOW_ADMIN_PASSWORD", "")

    def _remember(self, key: str, claim: str, value: Any) -> None:
        """Keep a password from the first start on, as long as the claim is there that it lies on."""
        if key in self._kept and self.programs.state.get(key):
            return
        self._kept[key] = self._claims().get(f"{'airflow' if key == 'postgres' else key}/{claim}", "")
        self.programs.change(**{key: value})

    def _forget(self) -> None:
        if not self._kept:
            return
        there = set(self._claims().values())
        for key, claim in list(self._kept.items()):
            if claim and claim not in there:
                del self._kept[key]
                self.programs.change(**{key: {} if key == "postgres" else None})
                if key == "milvus":
                    self._milvus.forget()

    def _claims(self) -> dict[str, str]:
        """The uids of the claims, by NAMESPACE/NAME."""
        return {
            f"{one['metadata']['namespace']}/{one['metadata']['name']}": one["metadata"]["uid"]
            for one in self._cluster.objects("persistentvolumeclaims")
        }

    # -- Grafana's data sources -------------------------------------------------------------------------

    def _sources(self, pod: Obj, environ: Mapping[str, str]) -> list[DataSource]:
        """What is provisioned in the ConfigMap that is mounted, with variables in the place of their names."""
        names = [
            volume["configMap"]["name"]
            for volume in pod["spec"].get("volumes") or ()
            if volume["name"] == "config" and "configMap" in volume
        ]
        found: list[DataSource] = []
        for config in self._cluster.objects("configmaps"):
            meta = config["metadata"]
            if meta["namespace"] == pod["metadata"]["namespace"] and meta["name"] in names:
                document = json.loads((config.get("data") or {}).get(_SOURCES) or "{}")
                found += [_source(one, environ) for one in document.get("datasources") or ()]
        return found

    # -- who is ready -----------------------------------------------------------------------------------

    def _airflow_ready(self, component: str) -> bool | None:
        return self._any_ready("airflow", {"release": "airflow", "component": component})

    def _database_answers(self) -> bool:
        """Where it is none of the cluster's, it is taken for well."""
        names = {
            one["metadata"]["name"]
            for one in self._cluster.objects("statefulsets", "apps")
            if one["metadata"]["namespace"] == "airflow"
        }
        if "airflow-postgresql" not in names:
            return True
        return bool(self._any_ready("airflow", {"app.kubernetes.io/name": "postgresql"}))

    def _any_ready(self, namespace: str, labels: Mapping[str, str]) -> bool | None:
        """Whether any of these pods is ready; None where there is none."""
        ready = [
            is_ready(pod)
            for pod in self._cluster.objects("pods")
            if pod["metadata"]["namespace"] == namespace and _has(pod, labels)
        ]
        return any(ready) if ready else None

    def _behind(self, namespace: str, name: str, port: int) -> tuple[str, int] | str:
        """See `network.Find`."""
        for service in self._cluster.objects("services"):
            meta, spec = service["metadata"], service["spec"]
            if (meta["namespace"], meta["name"]) == (namespace, name):
                break
        else:
            return f"there is no Service {namespace}/{name}"
        wanted = next((one for one in spec.get("ports") or () if one["port"] == port), None)
        if wanted is None:
            return f"the Service {namespace}/{name} has no port {port}"
        for pod in self._cluster.objects("pods"):
            if (
                pod["metadata"]["namespace"] == namespace
                and is_ready(pod)
                and _has(pod, spec.get("selector") or {})
            ):
                _, _, ports = self._pods.get(pod["metadata"]["uid"], ("", "", {}))
                address = ports.get(_number(pod, wanted.get("targetPort", port)))
                if address is not None:
                    return address
        return f"the Service {namespace}/{name} has nobody to answer at port {port}"


def is_ready(pod: Obj) -> bool:
    """Whether a pod is ready and stays."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return not pod["metadata"].get("deletionTimestamp") and any(
        item["type"] == "Ready" and item["status"] == "True" for item in conditions
    )


def _has(pod: Obj, labels: Mapping[str, str]) -> bool:
    return labels.items() <= (pod["metadata"].get("labels") or {}).items()


def _number(pod: Obj, target: int | str) -> int:
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == target:
                return int(port["containerPort"])
    return 0


def _source(one: Obj, environ: Mapping[str, str]) -> DataSource:
    secure = one.get("secureJsonData") or {}
    return DataSource(
        uid=str(one.get("uid") or one["name"]),
        name=str(one["name"]),
        type=str(one["type"]),
        url=_expanded(str(one.get("url") or ""), environ),
        user=_expanded(str(one.get("basicAuthUser") or ""), environ) if one.get("basicAuth") else "",
        password=_expanded(str(secure.get("basicAuthPassword") or ""), environ),
        options=one.get("jsonData") or {},
    )


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: environ.get(found[1] or found[2], ""), text)
