"""How each secret of `secrets.yaml` is changed, and who changes what is not changed by a restart alone.

`ROTATIONS` is the one table of it. Some applications read a password at their first start and keep it: there it is
changed in the running application, then in the Secret. In that order a run that stops in between leaves the Secret
as it was, so that the next one sees the same difference and does it once more, which does no harm.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

from cali_infra.adapters import pod_exec
from cali_infra.adapters.kubernetes import Object, ObjectRef, ref_of
from cali_infra.adapters.pod_exec import Container
from cali_infra.adapters.pod_passwords import Airflow, Door, Grafana, Milvus, Postgres
from cali_infra.core.manifests import ManifestPlan, ManifestWork
from cali_infra.core.progress import Progress
from cali_infra.core.rollout import pod_reasons
from cali_infra.core.service_secrets import DATABASE_USER, STAGE
from cali_infra.errors import CaliError, OperationError, RunInterruptedError, SettingsError, SettingsProblem
from cali_infra.plans import Action, ResourceChange, StagePlan

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes


class Way(Enum):
    """By what a new value comes into force."""

    RESTART = "restart"
    APPLICATION = "application"
    DOMAIN = "domain"
    APPEND = "append"
    NEVER = "never"


@dataclass(frozen=True)
class Rotation:
    """How one key of `secrets.yaml` is rotated: `how` says it to a person, `restarts` whose pods start anew."""

    setting: str
    way: Way
    how: str
    restarts: tuple[str, ...] = ()


ROTATIONS: tuple[Rotation, ...] = (
    Rotation("opensearch.master_password", Way.DOMAIN, "`cali up search` changes it in the domain"),
    Rotation(
        "opensearch.writer_password",
        Way.DOMAIN,
        "`cali up` changes the user in the domain, then Fluent Bit's Secret",
        ("Fluent Bit",),
    ),
    Rotation(
        "opensearch.reader_password",
        Way.DOMAIN,
        "`cali up` changes the user in the domain, then the Secrets of those who read",
        ("Grafana", "Airflow"),
    ),
    Rotation(
        "grafana.admin_password",
        Way.APPLICATION,
        "`cali up` changes it in the running Grafana, then in the Secret",
        ("Grafana",),
    ),
    Rotation(
        "airflow.fernet_key",
        Way.APPEND,
        "give NEW,OLD and run `cali up`; then `kubectl -n airflow exec deploy/airflow-scheduler -c scheduler -- "
        "airflow rotate-fernet-key`; then give NEW alone and run `cali up`",
        ("Airflow",),
    ),
    Rotation("airflow.api_secret_key", Way.RESTART, "`cali up`; everybody signs in anew", ("Airflow",)),
    Rotation("airflow.jwt_secret", Way.RESTART, "`cali up` while no task runs: its token ends", ("Airflow",)),
    Rotation(
        "airflow.admin_password",
        Way.APPLICATION,
        "`cali up` changes it in the running Airflow, then in the Secret",
    ),
    Rotation(
        "airflow.database_password",
        Way.APPLICATION,
        "`cali up` changes it in the running PostgreSQL, then in the Secrets; until its pods are new, Airflow "
        "opens no new connection",
        ("Airflow", "its PostgreSQL"),
    ),
    Rotation(
        "airflow.database_url",
        Way.RESTART,
        "change the password in that database, then run `cali up`",
        ("Airflow",),
    ),
    Rotation(
        "milvus.root_password",
        Way.APPLICATION,
        "`cali up` changes it in the running Milvus, then in the Secrets",
        ("Milvus", "Airflow"),
    ),
    Rotation("milvus.minio_access_key", Way.RESTART, "`cali up`", ("Milvus", "its object store")),
    Rotation("milvus.minio_secret_key", Way.RESTART, "`cali up`", ("Milvus", "its object store")),
    Rotation("gitsync.ssh_key", Way.RESTART, "add the new public half first, then `cali up`", ("Airflow",)),
    Rotation("gitsync.token", Way.RESTART, "`cali up`", ("Airflow",)),
    Rotation("hash_key", Way.NEVER, "leave it: with another one every pod of the services starts anew"),
)


@dataclass(frozen=True)
class Where:
    """Which pods the application runs in, and in which container."""

    labels: Mapping[str, str]
    container: str


@dataclass(frozen=True)
class Inside:
    """A password that an application keeps: where its Secret has it, where it runs, and the volumes that remember
    the old one when it does not."""

    title: str
    namespace: str
    secret: str
    key: str
    places: tuple[Where, ...]
    claims: tuple[str, ...]


_OF = "app.kubernetes.io/instance"
# In the order in which they are changed: Airflow's users are in the database that comes after them.
INSIDE: tuple[Inside, ...] = (
    Inside(
        "Grafana's admin",
        "grafana",
        "grafana-admin",
        "admin-password",
        (Where({_OF: "grafana"}, "grafana"),),
        ("grafana",),
    ),
    Inside(
        "Milvus' root",
        "milvus",
        "milvus-root",
        "password",
        tuple(Where({_OF: "milvus", "component": part}, part) for part in ("standalone", "proxy")),
        ("data-milvus-etcd-0",),
    ),
    Inside(
        "Airflow's admin",
        "airflow",
        "airflow-admin",
        "password",
        (Where({"release": "airflow", "component": "api-server"}, "api-server"),),
        ("data-airflow-postgresql-0",),
    ),
    Inside(
        "Airflow's database",
        "airflow",
        "airflow-database",
        "password",
        (Where({_OF: "airflow", "app.kubernetes.io/name": "postgresql"}, "postgresql"),),
        ("data-airflow-postgresql-0",),
    ),
)
# The superuser has the same password: see `service_secrets.SECRETS`.
_DATABASE_USERS = ("postgres", DATABASE_USER)
_CONNECTION = ("airflow-database-connection", "connection")
_FERNET = ("airflow-keys", "fernet-key")


@dataclass(frozen=True)
class Due:
    """One change that has to be made in an application."""

    inside: Inside
    old: str
    new: str
    door: Door

    def __repr__(self) -> str:
        return f"Due({self.inside.title})"


class RotatingWork:
    """The stage `service-secrets`: a set of manifests, and before a Secret is written what has to change with it.

    `salt` gives random bytes; `execute` runs a command in a container. Satisfies `cluster_stages.Work`.
    """

    def __init__(
        self,
        work: ManifestWork,
        kubernetes: Kubernetes,
        salt: Callable[[int], bytes],
        execute: Callable[[Kubernetes, Container, Sequence[str], Sequence[str]], str] = pod_exec.run,
    ) -> None:
        self._execute = execute
        self._work = work
        self._kubernetes = kubernetes
        self._salt = salt

    def exists(self) -> bool:
        return self._work.exists()

    def plan(self, watch: Progress) -> ManifestPlan:
        """As `ManifestWork.plan`, and a word on each password that changes in an application.

        Raises SettingsError for a Fernet key that would make stored connections unreadable.
        """
        plan = self._work.plan(watch)
        changes = self._changes(plan)
        _check_fernet(changes.get(_FERNET))
        words = [
            f"{due.inside.title}: the password is changed in the running application first"
            for due in self._due(changes)
        ]
        return replace(plan, warnings=(*plan.warnings, *words))

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Change the passwords where they are in use, then write the Secrets.

        Where one cannot be changed, those before it are changed back and no Secret is written. Raises
        OperationError.
        """
        assert isinstance(plan, ManifestPlan)
        # Everything is found before anything is changed.
        found = [(due, self._container(due.inside, watch)) for due in self._due(self._changes(plan))]
        done: list[tuple[Due, Container]] = []
        for due, container in found:
            if container is None:
                continue
            try:
                if cancel.is_set():
                    raise RunInterruptedError(f"interrupted; `cali up {STAGE}` goes on from there")
                watch.note(f"{due.inside.title}: changing the password in {container}", stage=STAGE)
                self._change(due, container, due.old, due.new)
            except CaliError as error:
                self._take_back(done, watch)
                if isinstance(error, RunInterruptedError):
                    raise
                raise OperationError(
                    f"{due.inside.title}: the password could not be changed: {error.message}",
                    remedy=error.remedy or "nothing has changed; look at the pod, then run the command again",
                ) from error
            done.append((due, container))
        self._work.apply(plan, watch, cancel)

    def contents(self) -> tuple[ResourceChange, ...]:
        return self._work.contents()

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        return self._work.destroy(watch, cancel)

    def _take_back(self, done: Sequence[tuple[Due, Container]], watch: Progress) -> None:
        for due, container in reversed(done):
            try:
                self._change(due, container, due.new, due.old)
            except CaliError as error:
                watch.warn(
                    f"{due.inside.title} has its new password already, and the Secret the old one: the next "
                    f"`cali up {STAGE}` puts that right ({error.message})",
                    stage=STAGE,
                )

    def _change(self, due: Due, container: Container, old: str, new: str) -> None:
        due.door.change(partial(self._execute, self._kubernetes, container), old, new)

    def _changes(self, plan: ManifestPlan) -> dict[tuple[str, str], tuple[str, str]]:
        """What differs in the Secrets that are written over, old and new, by Secret and key."""
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for write in plan.writes:
            if write.action is not Action.UPDATE or write.obj["kind"] != "Secret":
                continue
            live = self._kubernetes.get(ref_of(write.obj)) or {}
            before, after = _values(live), _values(write.obj)
            for key in before.keys() & after.keys():
                if before[key] != after[key]:
                    found[write.obj["metadata"]["name"], key] = (before[key], after[key])
        return found

    def _due(self, changes: Mapping[tuple[str, str], tuple[str, str]]) -> Iterator[Due]:
        doors: Mapping[str, Callable[[], Door]] = {
            "grafana-admin": Grafana,
            "milvus-root": Milvus,
            "airflow-admin": lambda: Airflow(changes.get(_CONNECTION, ())),
            "airflow-database": lambda: Postgres(_DATABASE_USERS, self._salt),
        }
        for inside in INSIDE:
            if (inside.secret, inside.key) in changes:
                old, new = changes[inside.secret, inside.key]
                yield Due(inside, old, new, doors[inside.secret]())

    def _container(self, inside: Inside, watch: Progress) -> Container | None:
        """A container in which it runs; None where there is nothing that remembers the old password.

        Raises OperationError where it does not run and its volume does.
        """
        reasons: list[str] = []
        pods = 0
        for where in inside.places:
            for pod in self._kubernetes.list("v1", "Pod", inside.namespace, where.labels):
                pods += 1
                if _runs(pod, where.container):
                    return Container(inside.namespace, pod["metadata"]["name"], where.container)
                reasons += pod_reasons(self._kubernetes, pod)
        claims = [
            name
            for name in inside.claims
            if self._kubernetes.get(ObjectRef("v1", "PersistentVolumeClaim", inside.namespace, name))
        ]
        if not pods and not claims:
            watch.note(
                f"{inside.title}: it does not run, and takes the new password at its first start", stage=STAGE
            )
            return None
        raise OperationError(
            f"{inside.title}: the password is kept by the application, which has to run to be given another one: "
            + (
                "; ".join(reasons)
                or ("its pod is not ready" if pods else f"it has no pod, and its volume is {claims[0]}")
            ),
            remedy=f"put the old password back into secrets.yaml, bring it up (cali up services; kubectl -n "
            f"{inside.namespace} get pods), then change it",
        )


def _check_fernet(change: tuple[str, str] | None) -> None:
    """Refuse keys among which the one is not that was used until now."""
    if change is None:
        return
    old, new = ([key.strip() for key in keys.split(",")] for keys in change)
    if old[0] not in new:
        raise SettingsError(
            [
                SettingsProblem(
                    "secrets.yaml",
                    "airflow.fernet_key",
                    "leaves out the key that Airflow's connections are encrypted with; nobody could read them",
                    "NEW,OLD",
                )
            ],
            remedy="give both keys, the new one first; to give up what is stored: "
            "kubectl -n airflow delete secret airflow-keys",
        )


def _values(secret: Object) -> dict[str, str]:
    return {
        key: base64.b64decode(value).decode(errors="replace")
        for key, value in (secret.get("data") or {}).items()
    }


def _runs(pod: Object, container: str) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return not pod["metadata"].get("deletionTimestamp") and any(
        one["name"] == container and one.get("ready") for one in statuses
    )
