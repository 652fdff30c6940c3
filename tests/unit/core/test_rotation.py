"""A password rotation: in the running application, then in the Secret; nothing by halves, nothing in sight."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from test_service_secrets import ENDPOINT, FERNET, secret_values

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.adapters.pod_exec import Container, run
from cali_infra.adapters.pod_passwords import Milvus
from cali_infra.core.manifests import ManifestWork
from cali_infra.core.rotation import INSIDE, ROTATIONS, RotatingWork, Way
from cali_infra.core.secrets import Secrets
from cali_infra.core.service_secrets import SECRETS, STAGE, objects
from cali_infra.core.settings import Settings
from cali_infra.errors import (
    ForbiddenError,
    KubernetesError,
    OperationError,
    PodCommandError,
    RunInterruptedError,
    SettingsError,
    UnreachableError,
)
from cali_infra.sandbox.kubernetes.executing import Surroundings
from cali_infra.sandbox.pod_programs import Programs, install
from cali_infra.sandbox.ports import NodeSpec

if TYPE_CHECKING:
    from conftest import Cluster, Watch

OLD = {
    "grafana": {"admin_password": "Sentinel-old-grafana"},
    "milvus": {"root_password": "Sentinel-old-milvus"},
    "airflow": {"admin_password": "Sentinel-old-airflow", "database_password": "Sentinel-old-database"},
}
# Characters that a shell, a URL, JSON, SQL or curl's configuration reads in a way of its own.
AWKWARD = "Sentinel $x\"y\\z'`&%@:/#"
NEW = {
    "grafana": {"admin_password": f"{AWKWARD}-g"},
    "milvus": {"root_password": f"{AWKWARD}-m"},
    "airflow": {"admin_password": f"{AWKWARD}-a", "database_password": f"{AWKWARD}-d"},
}
PODS = {
    ("grafana", "grafana-0", "grafana"): {"app.kubernetes.io/instance": "grafana"},
    ("milvus", "milvus-0", "standalone"): {
        "app.kubernetes.io/instance": "milvus",
        "component": "standalone",
    },
    ("airflow", "airflow-api-server-0", "api-server"): {"release": "airflow", "component": "api-server"},
    ("airflow", "airflow-postgresql-0", "postgresql"): {
        "app.kubernetes.io/instance": "airflow",
        "app.kubernetes.io/name": "postgresql",
    },
}


@dataclass
class Platform:
    """A cluster with the Secrets of OLD, and the applications that keep them."""

    cluster: Cluster
    kubernetes: Kubernetes
    programs: Programs
    watch: Watch

    def work(self, changes: dict[str, dict[str, Any]], execute: Any = run) -> RotatingWork:
        secrets = secret_values(**changes)
        inner = ManifestWork(STAGE, self.kubernetes, lambda: objects(Settings(), secrets, ENDPOINT))
        return RotatingWork(inner, self.kubernetes, lambda count: b"s" * count, execute)

    def up(self, changes: dict[str, dict[str, Any]], cancel: Event | None = None) -> None:
        work = self.work(changes)
        work.apply(work.plan(self.watch), self.watch, cancel or Event())

    def start(self, key: tuple[str, str, str], fail: str = "") -> None:
        namespace, pod, container = key
        meta = {"name": pod, "namespace": namespace, "labels": PODS[key]}
        if fail:
            meta["annotations"] = {"sandbox.cali.dev/fail": fail}
        self.kubernetes.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": meta,
                "spec": {"containers": [{"name": container, "image": "x:1"}]},
            }
        )
        environ = dict(self.programs.environ)
        if container == "api-server":
            environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = (
                "postgresql://airflow:Sentinel-old-database@airflow-postgresql.airflow:5432/airflow"
            )
        self.cluster.standin.set_container("demo", *key, Surroundings(environ))
        ref = ObjectRef("v1", "Pod", namespace, pod)
        for _ in range(1000):
            statuses = (self.kubernetes.get(ref) or {}).get("status", {}).get("containerStatuses")
            if statuses:
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"{pod} did not start")

    def secret(self, namespace: str, name: str, key: str) -> str:
        data = self.cluster.objects("secrets")[f"{namespace}/{name}"]["data"]
        return base64.b64decode(data[key]).decode()

    def in_force(self) -> dict[str, Any]:
        """What the applications take now, in the form of `secrets.yaml`."""
        state = self.programs.state
        both = [s["airflow"]["database_password"] for s in (OLD, NEW)]
        (database,) = (p for p in both if all(self.programs.accepts(u, p) for u in ("postgres", "airflow")))
        return {
            "grafana": {"admin_password": state["grafana"]},
            "milvus": {"root_password": state["milvus"]},
            "airflow": {"admin_password": state["airflow"], "database_password": database},
        }

    def in_secrets(self) -> dict[str, Any]:
        return {
            "grafana": {"admin_password": self.secret("grafana", "grafana-admin", "admin-password")},
            "milvus": {"root_password": self.secret("milvus", "milvus-root", "password")},
            "airflow": {
                "admin_password": self.secret("airflow", "airflow-admin", "password"),
                "database_password": self.secret("airflow", "airflow-database", "password"),
            },
        }


@pytest.fixture
def empty(cluster: Cluster, tmp_path: Path, watch: Watch) -> Platform:
    """The Secrets alone: nothing runs yet."""
    cluster.standin.set_nodes("demo", "nodes", [NodeSpec("ip-10-0-0-1", "ap-northeast-2a", "m6i.xlarge")])
    old = OLD["airflow"]["database_password"]
    programs = install(
        tmp_path / "programs",
        grafana=OLD["grafana"]["admin_password"],
        milvus=OLD["milvus"]["root_password"],
        airflow=OLD["airflow"]["admin_password"],
        postgres={"postgres": old, "airflow": old},
    )
    made = Platform(cluster, cluster.connect(), programs, watch)
    made.up(OLD)
    watch.lines.clear()
    return made


@pytest.fixture
def platform(empty: Platform) -> Iterator[Platform]:
    for key in PODS:
        empty.start(key)
    yield empty
    # Whatever was done, no secret was an argument or in a line.
    seen = [word for words in empty.programs.state["arguments"] for word in words] + empty.watch.lines
    assert not [word for word in seen if "Sentinel" in word]
    asked = empty.cluster.requests(path="/exec")
    assert not [one for one in asked if "Sentinel" in str(one.query)]


def test_all_of_them_are_changed_in_the_applications_and_in_the_secrets(platform: Platform) -> None:
    plan = platform.work(NEW).plan(platform.watch)
    assert [word for word in plan.warnings if "Grafana's admin" in word]
    assert platform.in_force() == OLD

    platform.up(NEW)

    assert platform.in_force() == NEW
    assert platform.in_secrets() == NEW
    assert platform.work(NEW).plan(platform.watch).empty


@pytest.mark.parametrize(("service", "program"), [("grafana", "grafana"), ("milvus", "curl")])
def test_only_the_one_that_changes_is_asked(platform: Platform, service: str, program: str) -> None:
    platform.up({**OLD, service: NEW[service]})

    assert platform.in_force() == {**OLD, service: NEW[service]}
    assert {words[0] for words in platform.programs.state["arguments"]} == {program}


def test_what_is_read_at_every_start_asks_nobody(platform: Platform) -> None:
    platform.up({**OLD, "airflow": {**OLD["airflow"], "jwt_secret": "Sentinel-another-secret"}})
    assert platform.programs.state["arguments"] == []


def test_a_failure_leaves_everything_as_it_was(platform: Platform) -> None:
    platform.programs.change(failing=["psql"])
    with pytest.raises(OperationError) as caught:
        platform.up(NEW)

    assert "Airflow's database: the password could not be changed" in caught.value.message
    assert "it does not work today" in caught.value.message
    assert caught.value.remedy
    # Grafana, Milvus and Airflow had their new ones already.
    assert platform.in_force() == OLD
    assert platform.in_secrets() == OLD


def test_a_rotation_that_stopped_half_way_is_repaired_by_the_next_run(platform: Platform) -> None:
    """Every application has its new password, and no Secret was written."""
    work = platform.work(NEW)
    plan = work.plan(platform.watch)
    platform.cluster.standin.faults.answer(403, 20, method="PATCH", path="/secrets/")
    with pytest.raises(KubernetesError):
        work.apply(plan, platform.watch, Event())
    platform.cluster.standin.faults.clear()
    assert (platform.in_force(), platform.in_secrets()) == (NEW, OLD)

    platform.up(NEW)

    assert (platform.in_force(), platform.in_secrets()) == (NEW, NEW)


def test_what_cannot_be_taken_back_is_said(platform: Platform) -> None:
    platform.programs.change(failing=["curl"])
    asked: list[str] = []

    def cut_off(kubernetes: Kubernetes, container: Container, command: Any, lines: Any) -> str:
        asked.append(container.namespace)
        if asked.count("grafana") == 2:
            raise UnreachableError("the API is gone")
        return run(kubernetes, container, command, lines)

    work = platform.work({**OLD, "grafana": NEW["grafana"], "milvus": NEW["milvus"]}, cut_off)
    with pytest.raises(OperationError, match="Milvus' root"):
        work.apply(work.plan(platform.watch), platform.watch, Event())

    assert any("Grafana's admin has its new password already" in line for line in platform.watch.lines)
    assert platform.in_secrets() == OLD
    platform.programs.change(failing=[])
    platform.up(NEW)
    assert (platform.in_force(), platform.in_secrets()) == (NEW, NEW)


def test_an_interrupt_changes_nothing(platform: Platform) -> None:
    cancel = Event()
    cancel.set()
    with pytest.raises(RunInterruptedError):
        platform.up(NEW, cancel)
    assert (platform.in_force(), platform.in_secrets()) == (OLD, OLD)


def test_a_password_that_was_changed_by_hand_is_told(platform: Platform) -> None:
    platform.programs.change(milvus="somebody-s-own-password")
    with pytest.raises(OperationError) as caught:
        platform.up(NEW)

    assert "Milvus" in caught.value.message
    assert "neither the one in the Secret" in caught.value.remedy
    assert platform.in_secrets() == OLD


def test_what_never_ran_takes_it_at_its_first_start(empty: Platform) -> None:
    empty.up(NEW)

    assert empty.in_secrets() == NEW
    assert empty.programs.state["arguments"] == []
    assert any("takes the new password at its first start" in line for line in empty.watch.lines)


def test_what_does_not_run_and_remembers_stops_it_before_anything_is_changed(empty: Platform) -> None:
    for key in PODS:
        if key[0] != "milvus":
            empty.start(key)
    empty.start(("milvus", "milvus-0", "standalone"), fail="ImagePullBackOff")

    with pytest.raises(OperationError) as caught:
        empty.up(NEW)

    assert "Milvus' root" in caught.value.message
    assert "ImagePullBackOff" in caught.value.message
    assert "put the old password back" in caught.value.remedy
    assert (empty.in_force(), empty.in_secrets()) == (OLD, OLD)


def test_a_volume_without_a_pod_remembers_too(empty: Platform) -> None:
    empty.kubernetes.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "grafana", "namespace": "grafana"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
    )
    with pytest.raises(OperationError, match="its volume is grafana"):
        empty.up(NEW)
    assert empty.in_secrets() == OLD


FERNET_A = base64.urlsafe_b64encode(b"a" * 32).decode()
FERNET_B = base64.urlsafe_b64encode(b"b" * 32).decode()


def fernet(keys: str) -> dict[str, dict[str, Any]]:
    return {"airflow": {"fernet_key": keys}}


def test_a_fernet_key_is_rotated_as_new_and_old(empty: Platform) -> None:
    empty.up(fernet(f"{FERNET_A},{FERNET}"))
    with pytest.raises(SettingsError) as caught:
        empty.work(fernet(FERNET_B)).plan(empty.watch)
    (problem,) = caught.value.problems
    assert (problem.file, problem.key, problem.example) == ("secrets.yaml", "airflow.fernet_key", "NEW,OLD")
    assert FERNET_A not in str(caught.value)

    empty.up(fernet(f"{FERNET_B},{FERNET_A}"))
    # Once the stored connections are encrypted anew, the old one can go.
    empty.up(fernet(FERNET_B))
    assert empty.secret("airflow", "airflow-keys", "fernet-key") == FERNET_B


def secret_settings(model: Any, prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        if hasattr(info.annotation, "model_fields"):
            yield from secret_settings(info.annotation, f"{prefix}{name}.")
        elif "SecretStr" in str(info.annotation) or info.annotation is SecretStr or "Password" in str(info):
            yield f"{prefix}{name}"


def test_the_table_has_every_secret_once() -> None:
    named = [one.setting for one in ROTATIONS]
    assert len(named) == len(set(named))
    assert set(named) == {name for name in secret_settings(Secrets) if name != "principals"}
    assert all(one.how for one in ROTATIONS)


def test_what_the_table_says_of_applications_is_what_is_done() -> None:
    settings = {
        (secret.name, key.name): key.setting for secret in SECRETS for key in secret.keys if key.setting
    }
    done = {settings[inside.secret, inside.key] for inside in INSIDE}
    assert done == {one.setting for one in ROTATIONS if one.way is Way.APPLICATION}


# -- the doors --------------------------------------------------------------------------------------------

GRAFANA = Container("grafana", "grafana-0", "grafana")


def test_a_command_s_words_and_code_come_back(platform: Platform) -> None:
    assert run(platform.kubernetes, GRAFANA, ["sh", "-c", 'read -r a; echo "got $a"'], ["it"]) == "got it\n"
    with pytest.raises(PodCommandError) as caught:
        run(platform.kubernetes, GRAFANA, ["sh", "-c", "echo first >&2; echo last >&2; exit 7"])
    assert (caught.value.exit_code, caught.value.words) == (7, "last")


def test_a_command_that_does_not_end_is_given_up(platform: Platform) -> None:
    with pytest.raises(UnreachableError, match="has not ended in time"):
        run(platform.kubernetes, GRAFANA, ["sh", "-c", "read -r a; read -r b"], ["one"], patience=0.3)


def test_a_pod_or_a_program_that_is_not_there_is_told(platform: Platform) -> None:
    with pytest.raises(KubernetesError) as caught:
        run(platform.kubernetes, Container("grafana", "nobody", "grafana"), ["sh"])
    assert caught.value.status == 404
    with pytest.raises(KubernetesError, match="missing"):
        run(platform.kubernetes, GRAFANA, ["missing"])


def test_whoever_may_only_look_may_not_run_commands(platform: Platform) -> None:
    with pytest.raises(ForbiddenError):
        run(platform.cluster.connect("viewer"), GRAFANA, ["sh", "-c", "true"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_real_curl_reads_what_milvus_is_asked(tmp_path: Path) -> None:
    """Awkward characters arrive whole; only the address is another one."""
    import json
    import subprocess
    from http.server import BaseHTTPRequestHandler, HTTPServer

    seen: list[tuple[str, str, Any]] = []

    class Host(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers["Authorization"], body))
            code = 1800 if self.path.endswith("describe") else 0
            answer = json.dumps({"code": code, "message": "no"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *words: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()

        def shell(command: Any, lines: Any) -> str:
            text = "".join(f"{line}\n" for line in lines)
            text = text.replace(":19530", f":{server.server_port}")
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
            return done.stdout

        Milvus().change(shell, f"{AWKWARD}-old", f"{AWKWARD}-new")
        server.shutdown()
    described, changed = seen
    assert described[1] == f"Bearer root:{AWKWARD}-new"
    assert changed == (
        "/v2/vectordb/users/update_password",
        f"Bearer root:{AWKWARD}-old",
        {"userName": "root", "password": f"{AWKWARD}-old", "newPassword": f"{AWKWARD}-new"},
    )
