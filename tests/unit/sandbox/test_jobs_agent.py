"""The pods of cali's own checks: what their commands find, write and leave, and what is never run."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.sandbox.agents.jobs import Jobs
from cali_infra.sandbox.kubernetes.logs import LogLine
from cali_infra.verify.jobs import CONTAINER, Mount, job

if TYPE_CHECKING:
    from conftest import Client, Cluster

SPACE = "cali-verify-abc123"
NAMESPACE = f"/api/v1/namespaces/{SPACE}"
JOBS = f"/apis/batch/v1/namespaces/{SPACE}/jobs"
SHOW = ["python3", "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
# As the cluster reads it: two dollars are one.
FOR_EVER = ["sh", "-c", "echo $$$$; sleep 600 & echo $!; wait"]
Eventually = Callable[..., Any]


def made(
    command: list[str], *, seconds: int = 60, env: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A Job of a check; a value of `env` is a text, or what a `valueFrom` says."""
    found = job("check", SPACE, image="example.com/nothing:1", command=command, seconds=seconds, **more)
    (container,) = found["spec"]["template"]["spec"]["containers"]
    container["env"] = [
        {"name": name, **({"value": value} if isinstance(value, str) else {"valueFrom": value})}
        for name, value in (env or {}).items()
    ]
    return found


@dataclass
class Machine:
    """A cluster with a node and the agent; every question lets the agent look once more."""

    cluster: Cluster
    api: Client
    agent: Jobs
    eventually: Eventually

    def until(self, holds: Callable[[], Any]) -> Any:
        def again() -> Any:
            self.agent.tick(self.cluster.name)
            return holds()

        return self.eventually(again, seconds=20)

    def start(self, manifest: dict[str, Any]) -> None:
        answer = self.api("POST", JOBS, manifest)
        assert answer.status == 201, answer.body

    def pods(self) -> list[dict[str, Any]]:
        return list(self.api("GET", f"{NAMESPACE}/pods", labelSelector="job-name=check").body["items"])

    def condition(self) -> str:
        """The Job's verdict and its reason, when there is one."""
        for item in (self.api("GET", f"{JOBS}/check").body.get("status") or {}).get("conditions") or ():
            if item["type"] in ("Complete", "Failed"):
                return f"{item['type']} {item['reason']}"
        return ""

    def lines(self) -> tuple[LogLine, ...]:
        (pod,) = self.pods()
        name = pod["metadata"]["name"]
        return self.written(name)

    def written(self, pod: str) -> tuple[LogLine, ...]:
        lines = self.cluster.standin.all_log_lines(self.cluster.name)
        return lines.get((SPACE, pod, CONTAINER), ())

    def run(self, manifest: dict[str, Any]) -> str:
        """Run to the end; what it wrote to stdout."""
        self.start(manifest)
        self.until(self.condition)
        return "".join(f"{line.text}\n" for line in self.lines() if line.stream == "stdout")

    def state(self) -> dict[str, Any]:
        for pod in self.pods():
            for container in pod["status"].get("containerStatuses") or ():
                found: dict[str, Any] = container["state"]
                return found
        return {}

    def put(self, plural: str, name: str, **data: str) -> None:
        if plural == "secrets":
            data = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        assert (
            self.api("POST", f"{NAMESPACE}/{plural}", {"metadata": {"name": name}, "data": data}).status
            == 201
        )


@pytest.fixture
def machine(cluster: Cluster, api: Client, eventually: Eventually, tmp_path: Path) -> Iterator[Machine]:
    cluster.nodes(1)
    assert api("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}}).status == 201
    agent = Jobs(
        cluster.standin,
        tmp_path / "jobs",
        lambda: datetime.now(UTC),
        network=lambda name: {"http_proxy": f"http://{name}"},
    )
    yield Machine(cluster, api, agent, eventually)
    agent.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # What nobody has waited for yet is dead all the same.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


class TestAJob:
    def test_its_lines_are_the_pods_log_with_the_stream_and_a_time(self, machine: Machine) -> None:
        before = datetime.now(UTC)
        machine.run(made(["sh", "-c", "echo out; echo wrong >&2; echo more"]))

        assert machine.condition() == "Complete CompletionsReached"
        lines = machine.lines()
        assert sorted((line.stream, line.text) for line in lines) == [
            ("stderr", "wrong"),
            ("stdout", "more"),
            ("stdout", "out"),
        ]
        times = [line.at for line in lines]
        assert before.timestamp() * 1e9 <= min(times) <= max(times) <= datetime.now(UTC).timestamp() * 1e9
        (pod,) = machine.pods()
        text = machine.api("GET", f"{NAMESPACE}/pods/{pod['metadata']['name']}/log").body
        assert "more\n" in text and "wrong\n" in text

    def test_the_pod_says_when_it_ran_and_how_it_ended(self, machine: Machine) -> None:
        machine.run(made(["sh", "-c", "exit 3"]))

        assert machine.condition() == "Failed BackoffLimitExceeded"
        (pod,) = machine.pods()
        assert pod["status"]["phase"] == "Failed"
        ended = machine.state()["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (3, "Error")
        began, finished = (datetime.fromisoformat(ended[key]) for key in ("startedAt", "finishedAt"))
        assert abs((datetime.now(UTC) - began).total_seconds()) < 60
        assert began <= finished

    def test_it_is_running_until_it_ends(self, machine: Machine) -> None:
        machine.start(made(FOR_EVER))
        machine.until(lambda: machine.pods() and machine.pods()[0]["status"]["phase"] == "Running")
        assert "running" in machine.state()
        assert machine.condition() == ""
        assert machine.api("GET", f"{JOBS}/check").body["status"]["active"] == 1

    def test_a_program_that_is_not_there(self, machine: Machine) -> None:
        machine.run(made(["no-such-program"]))
        assert machine.state()["terminated"]["reason"] == "StartError"
        assert "no-such-program" in machine.state()["terminated"]["message"]


class TestTheEnvironment:
    def test_it_is_what_the_pod_says_and_nothing_of_the_sandbox(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OF_THE_SANDBOX", "secret")
        machine.put("secrets", "account", password="s3cret", user="u")
        machine.put("configmaps", "settings", HOST="search", PORT="443")
        out = machine.run(
            made(
                SHOW,
                env={
                    "PLAIN": "a",
                    "BOTH": "$(PLAIN)-$(HOST)-$(NOBODY)-$$(PLAIN)",
                    "PASSWORD": {"secretKeyRef": {"name": "account", "key": "password"}},
                    "PORT_AGAIN": {"configMapKeyRef": {"name": "settings", "key": "PORT"}},
                    "NOTHING": {"secretKeyRef": {"name": "gone", "key": "x", "optional": True}},
                    "POD": {"fieldRef": {"fieldPath": "metadata.name"}},
                    "SPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
                    "NODE": {"fieldRef": {"fieldPath": "spec.nodeName"}},
                },
                env_from=[
                    {"configMapRef": {"name": "settings"}},
                    {"secretRef": {"name": "gone", "optional": True}},
                    {"prefix": "S_", "secretRef": {"name": "account"}},
                ],
            )
        )
        found = json.loads(out)
        (pod,) = machine.pods()
        assert found.pop("PATH").endswith("/usr/bin:/bin")
        # The interpreter's own, where it sets it.
        found.pop("LC_CTYPE", None)
        assert found == {
            "http_proxy": f"http://{machine.cluster.name}",
            "HOST": "search",
            "PORT": "443",
            "S_password": "s3cret",
            "S_user": "u",
            "PLAIN": "a",
            "BOTH": "a-search-$(NOBODY)-$(PLAIN)",
            "PASSWORD": "s3cret",
            "PORT_AGAIN": "443",
            "POD": pod["metadata"]["name"],
            "SPACE": SPACE,
            "NODE": pod["spec"]["nodeName"],
        }

    def test_without_its_secret_it_does_not_start(self, machine: Machine) -> None:
        machine.start(made(SHOW, env={"A": {"secretKeyRef": {"name": "account", "key": "password"}}}))
        machine.until(lambda: machine.pods() and machine.pods()[0]["status"].get("containerStatuses"))
        assert machine.state()["waiting"]["reason"] == "CreateContainerConfigError"

        machine.put("secrets", "account", password="s3cret")
        machine.until(machine.condition)
        assert json.loads(machine.lines()[0].text)["A"] == "s3cret"

    def test_python_in_a_shell_is_the_one_that_runs_here(self, machine: Machine) -> None:
        out = machine.run(made(["sh", "-c", "python -c 'import urllib3; print(urllib3.__name__)'"]))
        assert out == "urllib3\n"


class TestVolumes:
    def test_the_folder_stands_wherever_the_path_does(self, machine: Machine) -> None:
        machine.put("configmaps", "texts", **{"a.txt": "from the map"})
        machine.put("secrets", "keys", key="from the secret")
        out = machine.run(
            made(
                [
                    "sh",
                    "-c",
                    'cat /texts/a.txt /keys/here; echo x > /tmp/work/f; cat "$FILE"; ls /database >&2',
                ],
                env={"FILE": "/tmp/work/f"},
                volumes=[
                    Mount("/texts", {"configMap": {"name": "texts"}}),
                    Mount(
                        "/keys", {"secret": {"secretName": "keys", "items": [{"key": "key", "path": "here"}]}}
                    ),
                    Mount("/tmp/work", {"emptyDir": {}}),
                    Mount("/data", {"emptyDir": {}}),
                ],
            )
        )
        assert out == "from the mapfrom the secretx\n"
        # A path that only begins alike is another one.
        assert any("/database" in line.text for line in machine.lines() if line.stream == "stderr")

    def test_a_claims_folder_outlives_the_pod_and_goes_with_the_claim(self, machine: Machine) -> None:
        claims = f"{NAMESPACE}/persistentvolumeclaims"
        machine.cluster.standin.set_addon(machine.cluster.name, "aws-ebs-csi-driver", "v1.0.0")
        claim = {
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "gp2",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        volumes = [Mount("/data", {"persistentVolumeClaim": {"claimName": "data"}})]
        assert machine.api("POST", claims, claim).status == 201
        folder = machine.run(made(["sh", "-c", "echo kept > /data/f; echo /data"], volumes=volumes)).strip()
        machine.api("DELETE", f"{JOBS}/check")
        machine.until(lambda: not machine.pods())

        assert machine.run(made(["sh", "-c", "cat /data/f"], volumes=volumes)) == "kept\n"

        machine.api("DELETE", f"{JOBS}/check")
        machine.api("DELETE", f"{claims}/data")
        machine.until(lambda: not Path(folder).exists())


class TestTheEnd:
    @pytest.fixture
    def pids(self, machine: Machine) -> list[int]:
        """Of a command that goes on for ever, and of what it has started."""
        machine.start(made(FOR_EVER))
        machine.until(lambda: machine.pods() and len(machine.lines()) == 2)
        found = [int(line.text) for line in machine.lines()]
        assert all(alive(pid) for pid in found)
        return found

    def test_a_job_that_is_deleted_takes_its_pod_and_its_processes_along(
        self, machine: Machine, pids: list[int]
    ) -> None:
        machine.api("DELETE", f"{JOBS}/check", {"propagationPolicy": "Background"})
        machine.until(lambda: not any(alive(pid) for pid in pids))
        machine.until(lambda: machine.pods() == [])

    def test_a_cluster_that_is_gone(self, machine: Machine, pids: list[int]) -> None:
        machine.agent.forget(machine.cluster.name)
        machine.eventually(lambda: not any(alive(pid) for pid in pids))

    def test_a_sandbox_that_stops(self, machine: Machine, pids: list[int]) -> None:
        machine.agent.close()
        machine.eventually(lambda: not any(alive(pid) for pid in pids))
        machine.agent.tick(machine.cluster.name)
        assert not any(alive(pid) for pid in pids)

    def test_its_time_is_over(self, machine: Machine) -> None:
        machine.start(made(FOR_EVER, seconds=1))
        machine.until(lambda: machine.condition() == "Failed DeadlineExceeded")
        assert machine.pods() == []

    def test_a_namespace_goes_with_all_that_is_in_it(self, machine: Machine) -> None:
        machine.api("POST", "/api/v1/namespaces", {"metadata": {"name": "cali-verify-def456"}})
        here = "/apis/batch/v1/namespaces/cali-verify-def456/jobs"
        manifest = made(["sh", "-c", "sleep 600"])
        manifest["metadata"]["namespace"] = "cali-verify-def456"
        machine.api("POST", here, manifest)
        pods = "/api/v1/namespaces/cali-verify-def456/pods"
        machine.until(lambda: machine.api("GET", pods).body["items"])
        machine.api("DELETE", "/api/v1/namespaces/cali-verify-def456")
        machine.until(lambda: machine.api("GET", "/api/v1/namespaces/cali-verify-def456").status == 404)
        assert machine.api("GET", pods).body["items"] == []
        assert machine.api("GET", here).body["items"] == []


class TestWhatIsNotRun:
    def test_the_job_of_anybody_else(self, machine: Machine) -> None:
        manifest = made(["sh", "-c", "echo ran"])
        del manifest["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
        machine.start(manifest)
        machine.until(machine.condition)
        # It ends well all the same, as everything does that is not really run.
        assert machine.condition() == "Complete CompletionsReached"
        assert machine.lines() == ()

    def test_a_pod_with_the_label_and_without_a_job(self, machine: Machine) -> None:
        template = made(["sh", "-c", "echo ran"])["spec"]["template"]
        pod = {"metadata": {"name": "alone", **template["metadata"]}, "spec": template["spec"]}
        assert machine.api("POST", f"{NAMESPACE}/pods", pod).status == 201
        path = f"{NAMESPACE}/pods/alone"
        machine.until(lambda: machine.api("GET", path).body["status"]["phase"] == "Running")
        assert machine.written("alone") == ()

    def test_a_job_in_another_namespace(self, machine: Machine) -> None:
        manifest = made(["sh", "-c", "echo ran"])
        manifest["metadata"]["namespace"] = "default"
        there = "/apis/batch/v1/namespaces/default/jobs"
        assert machine.api("POST", there, manifest).status == 201
        machine.until(lambda: machine.api("GET", f"{there}/check").body.get("status", {}).get("succeeded"))
        assert machine.cluster.standin.all_log_lines(machine.cluster.name) == {}

    def test_a_pod_that_names_a_job_which_is_not_the_one_that_is_there(self, machine: Machine) -> None:
        manifest = made(["sh", "-c", "echo ran"])
        manifest["spec"] |= {"suspend": True}
        machine.start(manifest)
        uid = machine.api("GET", f"{JOBS}/check").body["metadata"]["uid"]
        self.forge(machine, "right", uid)
        machine.until(lambda: machine.written("right"))
        self.forge(machine, "wrong", "5d3c1a0e-0000-4000-8000-000000000000")
        machine.until(lambda: machine.api("GET", f"{NAMESPACE}/pods/wrong").status == 404)
        assert machine.written("wrong") == ()

    @staticmethod
    def forge(machine: Machine, name: str, uid: str) -> None:
        template = made(["sh", "-c", "echo ran"])["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "check", "uid": uid}
        meta = {"name": name, **template["metadata"], "ownerReferences": [owner]}
        assert (
            machine.api("POST", f"{NAMESPACE}/pods", {"metadata": meta, "spec": template["spec"]}).status
            == 201
        )

    def test_a_job_without_the_label_whose_pod_has_it(self, machine: Machine) -> None:
        manifest = made(["sh", "-c", "echo ran"])
        del manifest["metadata"]["labels"]["app.kubernetes.io/name"]
        machine.start(manifest)
        machine.until(machine.condition)
        assert machine.lines() == ()

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"initContainers": [{"name": "first", "image": "a:1"}]}, "init containers"),
            ({"restartPolicy": "OnFailure"}, "restartPolicy OnFailure"),
            (
                {"volumes": [{"name": "volume-0", "hostPath": {"path": "/etc"}}]},
                "volume volume-0: hostPath",
            ),
        ],
    )
    def test_what_it_cannot_do_is_refused_in_the_pods_status(
        self, machine: Machine, change: dict[str, Any], what: str
    ) -> None:
        manifest = made(["sh", "-c", "echo ran"])
        manifest["spec"]["template"]["spec"] |= change
        machine.start(manifest)
        machine.until(lambda: machine.state().get("waiting", {}).get("reason") == "CreateContainerError")
        assert machine.state()["waiting"]["message"] == f"the sandbox does not model {what}"

    def test_one_that_its_annotation_makes_fail(self, machine: Machine) -> None:
        manifest = made(["sh", "-c", "echo ran"])
        manifest["metadata"]["annotations"] = {"sandbox.cali.dev/fail": "ImagePullBackOff"}
        machine.start(manifest)
        machine.until(lambda: machine.pods() and machine.pods()[0]["status"].get("containerStatuses"))
        machine.agent.tick(machine.cluster.name)
        assert machine.state()["waiting"]["reason"] == "ImagePullBackOff"


def test_pods_that_shun_each_other_need_a_node_each(machine: Machine) -> None:
    machine.cluster.nodes(2)
    manifest = made(["sh", "-c", "sleep 600"])
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "cali-verify"}},
    }
    manifest["spec"] |= {"parallelism": 3, "completions": 3}
    manifest["spec"]["template"]["spec"]["affinity"] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    }
    machine.start(manifest)

    def placed() -> list[str]:
        return sorted(pod["spec"].get("nodeName", "") for pod in machine.pods())

    machine.until(lambda: [name[:2] for name in placed()] == ["", "ip", "ip"])
    (left,) = [pod for pod in machine.pods() if not pod["spec"].get("nodeName")]
    machine.until(lambda: "conditions" in machine.api("GET", left_path(left)).body["status"])
    (said,) = machine.api("GET", left_path(left)).body["status"]["conditions"]
    assert said["message"] == "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."

    machine.cluster.nodes(3)
    machine.until(lambda: len(set(placed())) == 3 and all(placed()))


def left_path(pod: dict[str, Any]) -> str:
    return f"{NAMESPACE}/pods/{pod['metadata']['name']}"


class TestWhatStaysBehind:
    def test_what_a_container_finds_is_for_nobody_else_and_goes_with_the_agent(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        machine.put("secrets", "credentials", password="s3cret")
        mount = Mount("/secret", {"secret": {"secretName": "credentials"}})
        machine.run(made(["sh", "-c", "cat /secret/password"], volumes=[mount]))
        assert stat.S_IMODE((tmp_path / "jobs").stat().st_mode) == 0o700
        (own,) = (tmp_path / "jobs").iterdir()
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        machine.agent.close()
        assert list((tmp_path / "jobs").iterdir()) == []

    def test_a_path_with_a_space_is_none_to_a_script(
        self, cluster: Cluster, api: Client, eventually: Eventually, tmp_path: Path
    ) -> None:
        cluster.nodes(1)
        api("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        agent = Jobs(cluster.standin, tmp_path / "my jobs", lambda: datetime.now(UTC))
        machine = Machine(cluster, api, agent, eventually)
        machine.put("configmaps", "settings", color="blue")
        mount = Mount("/settings", {"configMap": {"name": "settings"}})
        assert machine.run(made(["sh", "-c", "cat /settings/color; echo"], volumes=[mount])) == "blue\n"
        agent.close()
        assert list((tmp_path / "my jobs").iterdir()) == []

    def test_whoever_is_killed_takes_its_processes_and_folders_along(
        self, eventually: Eventually, tmp_path: Path
    ) -> None:
        folder = tmp_path / "jobs-1"
        folder.mkdir()
        (folder / "password").write_text("s3cret")
        sandbox = subprocess.Popen(
            [sys.executable, "-c", SANDBOX, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert sandbox.stdout
        left = [int(sandbox.stdout.readline()) for _ in range(2)]
        assert all(alive(pid) for pid in left)
        sandbox.kill()
        sandbox.wait()
        sandbox.stdout.close()
        eventually(lambda: not any(alive(pid) for pid in left), seconds=20)
        eventually(lambda: not folder.exists(), seconds=20)


# A process that has a container run, with a child of its own that does not end with it.
SANDBOX = """
import subprocess, sys, time
from pathlib import Path
from cali_infra.sandbox.agents.watcher import Watcher

watcher = Watcher([Path(sys.argv[1])])
script = "echo $$; sleep 600 & echo $!; wait"
child = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE, text=True)
watcher.add(child.pid)
print(child.stdout.readline(), child.stdout.readline(), sep="", end="", flush=True)
time.sleep(600)
"""
