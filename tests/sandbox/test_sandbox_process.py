"""The sandbox's process: one at a time, found while it lives, gone without a trace when it ends."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cali_infra.cli.app import run
from cali_infra.core import exec_credential
from cali_infra.errors import SandboxError
from cali_infra.sandbox.process import Sandbox
from cali_infra.sandbox.record import SandboxAddress
from cali_infra.ui import UI
from cali_infra.verify.jobs import Mount, job

pytestmark = pytest.mark.sandbox

REGION = "ap-northeast-2"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def wait_for(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # What nobody has waited for yet is dead all the same.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def is_gone(address: SandboxAddress) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(address.pid, os.WNOHANG)
    try:
        os.kill(address.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    found = Sandbox(tmp_path / ".cali" / "sandbox")
    yield found
    found.stop()


def client(address: SandboxAddress, service: str) -> Any:
    import boto3

    return boto3.client(
        service,
        endpoint_url=address.aws_endpoint,
        region_name=address.region,
        aws_access_key_id=address.access_key_id,
        aws_secret_access_key=address.secret_access_key,
    )


def make_cluster(address: SandboxAddress) -> tuple[Any, list[str]]:
    """A cluster named demo; EKS' client and the subnets."""
    ec2, eks = client(address, "ec2"), client(address, "eks")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")
        for n, zone in enumerate("ab")
    ]
    names = [each["Subnet"]["SubnetId"] for each in subnets]
    eks.create_cluster(
        name="demo",
        roleArn=make_role(address, "eks"),
        version="1.35",
        resourcesVpcConfig={"subnetIds": names},
        accessConfig={"authenticationMode": "API"},
    )
    eks.get_waiter("cluster_active").wait(name="demo", WaiterConfig={"Delay": 1})
    return eks, names


def make_role(address: SandboxAddress, service: str) -> str:
    principal = {"Service": f"{service}.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made = client(address, "iam").create_role(RoleName=service, AssumeRolePolicyDocument=trust)
    return str(made["Role"]["Arn"])


def configure(folder: Path, cluster: Any, *, create_namespace: bool = False) -> None:
    """A stack with one release, whose credential is this very cali's."""
    folder.mkdir(exist_ok=True)
    command, arguments = exec_credential.words(cluster["name"], REGION)
    kubernetes = {
        "host": cluster["endpoint"],
        "cluster_ca_certificate": base64.b64decode(cluster["certificateAuthority"]["data"]).decode(),
        "exec": {
            "api_version": "client.authentication.k8s.io/v1beta1",
            "command": command,
            "args": arguments,
            "env": {},
        },
    }
    release = {
        "name": "autoscaler",
        "namespace": "elsewhere",
        "create_namespace": create_namespace,
        "repository": "https://kubernetes.github.io/autoscaler",
        "chart": "cluster-autoscaler",
        "version": "9.59.0",
        "values": ["replicaCount: 2"],
    }
    document = {
        "terraform": {"required_providers": {"helm": {"source": "hashicorp/helm", "version": "~> 3.0"}}},
        "provider": {"helm": {"kubernetes": kubernetes}},
        "resource": {"helm_release": {"this": release}},
    }
    (folder / "main.tf.json").write_text(json.dumps(document))


def terraform(folder: Path, address: SandboxAddress, *arguments: str, ok: bool = True) -> str:
    done = subprocess.run(
        ["terraform", *arguments, "-no-color"],
        cwd=folder,
        env=address.surroundings(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).replace("│", " ").split())


class Cali:
    """cali in a project folder, with what it wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        stdout, stderr = io.StringIO(), io.StringIO()
        ui = UI(
            stdin=io.StringIO(),
            stdout=stdout,
            stderr=stderr,
            environ={},
            clock=time.monotonic,
            now=datetime.now,
        )
        environ = {name: value for name, value in os.environ.items() if name != "CALI_SANDBOX_DIR"}
        code = run(arguments, ui, environ, self.folder)
        return code, stdout.getvalue(), stderr.getvalue()


def test_a_sandbox_is_private_answers_and_leaves_nothing_behind(sandbox: Sandbox) -> None:
    address = sandbox.start(REGION, os.environ)
    assert mode(sandbox.folder) == 0o700
    assert {mode(path) for path in sandbox.folder.iterdir()} == {0o600}
    assert sandbox.address() == address
    assert sandbox.start(REGION, os.environ) == address, "a second start finds the first"
    identity = client(address, "sts").get_caller_identity()
    assert identity["Arn"].endswith(":user/sandbox/operator")
    assert os.getsid(address.pid) == address.pid, "it leads a session of its own"

    assert sandbox.stop() is True
    assert is_gone(address)
    assert {path.name for path in sandbox.folder.iterdir()} == {
        "sandbox.lock",
        "sandbox.log",
        "start.lock",
    }
    assert sandbox.address() is None
    log = address.log.read_text()
    assert address.secret_access_key not in log
    assert address.control_url not in log


def test_of_two_starters_at_once_both_get_the_one_sandbox(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(3) as pool:
        ids = set(pool.map(lambda _: sandbox.start(REGION, os.environ).id, range(3)))
    assert len(ids) == 1


def test_a_sandbox_that_was_killed_is_noticed_and_started_anew(sandbox: Sandbox) -> None:
    first = sandbox.start(REGION, os.environ)
    os.kill(first.pid, signal.SIGKILL)
    os.waitpid(first.pid, 0)
    assert sandbox.status()["running"] is False
    assert not (sandbox.folder / "sandbox.json").exists()
    second = sandbox.start(REGION, os.environ)
    assert second.id != first.id
    assert sandbox.status()["running"] is True


def test_a_sandbox_that_was_killed_leaves_no_container_behind(sandbox: Sandbox) -> None:
    address = sandbox.start(REGION, os.environ)
    eks, subnets = make_cluster(address)
    eks.create_nodegroup(
        clusterName="demo",
        nodegroupName="workers",
        subnets=subnets,
        nodeRole=make_role(address, "ec2"),
        scalingConfig={"minSize": 1, "maxSize": 1, "desiredSize": 1},
    )
    found = sandbox.address()
    assert found is not None

    def kubectl(*arguments: str, text: str | None = None) -> str:
        command = ["kubectl", "--kubeconfig", str(found.kubeconfig), "-n", "cali-verify-abc123", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
        return done.stdout

    kubectl("create", "namespace", "cali-verify-abc123")
    kubectl("create", "secret", "generic", "credentials", "--from-literal=password=s3cret")
    secret = {"secret": {"secretName": "credentials"}}
    script = "cat /secret/password; echo; echo $$$$; sleep 600 & echo $!; wait"
    manifest = job(
        "check",
        "cali-verify-abc123",
        image="a:1",
        command=["sh", "-c", script],
        seconds=600,
        volumes=[Mount("/secret", secret)],
    )
    kubectl("create", "-f", "-", text=json.dumps(manifest))

    def lines() -> list[str]:
        return kubectl("logs", "job/check").split()

    assert wait_for(lambda: len(lines()) == 3, 20)
    password, *left = lines()
    assert password == "s3cret"
    assert [path for path in sandbox.folder.rglob("password") if path.read_text() == "s3cret"]
    os.kill(address.pid, signal.SIGKILL)
    os.waitpid(address.pid, 0)
    assert wait_for(lambda: not any(is_alive(int(pid)) for pid in left), 10)
    assert sandbox.status()["running"] is False
    assert {path.name for path in sandbox.folder.iterdir()} == {"sandbox.lock", "sandbox.log", "start.lock"}


def test_a_sandbox_whose_folder_is_gone_ends_by_itself(sandbox: Sandbox) -> None:
    address = sandbox.start(REGION, os.environ)
    shutil.rmtree(sandbox.folder.parent)
    assert wait_for(lambda: is_gone(address), 6)
    assert not sandbox.folder.exists(), "it does not make its folder anew"


def test_a_sandbox_that_cannot_start_says_why(sandbox: Sandbox, tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "msgpack"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('this package is broken')\n")
    path = os.pathsep.join([str(broken.parent), os.environ.get("PYTHONPATH", "")])
    with pytest.raises(SandboxError, match="this package is broken"):
        sandbox.start(REGION, {**os.environ, "PYTHONPATH": path})
    assert sandbox.address() is None


def test_clusters_releases_and_domains_come_and_go(sandbox: Sandbox, tmp_path: Path) -> None:
    address = sandbox.start(REGION, os.environ)
    eks, _ = make_cluster(address)
    found = sandbox.address()
    assert found is not None
    assert found.kubeconfig is not None
    assert mode(found.kubeconfig) == 0o600
    kubectl = ["kubectl", "--kubeconfig", str(found.kubeconfig), "get", "--raw", "/version"]
    version = subprocess.run(kubectl, capture_output=True, text=True, timeout=30)
    assert json.loads(version.stdout or "{}").get("minor") == "35", version.stderr
    assert sandbox.status()["clusters"] == ["demo"]
    configure(tmp_path / "stack", eks.describe_cluster(name="demo")["cluster"])
    assert sandbox.status()["helm_releases"] == []

    terraform(tmp_path / "stack", address, "init", "-input=false")
    said = terraform(tmp_path / "stack", address, "apply", "-auto-approve", "-input=false", ok=False)
    assert 'namespaces "elsewhere" not found' in said
    configure(tmp_path / "stack", eks.describe_cluster(name="demo")["cluster"], create_namespace=True)
    terraform(tmp_path / "stack", address, "apply", "-auto-approve", "-input=false")
    assert sandbox.status()["helm_releases"] == [
        {
            "name": "autoscaler",
            "namespace": "elsewhere",
            "chart": "cluster-autoscaler",
            "version": "9.59.0",
            "values": {"replicaCount": 2},
        }
    ]
    assert "No changes" in terraform(tmp_path / "stack", address, "plan", "-input=false")
    terraform(tmp_path / "stack", address, "destroy", "-auto-approve", "-input=false")
    assert sandbox.status()["helm_releases"] == []

    client(address, "opensearch").create_domain(
        DomainName="logs",
        EngineVersion="OpenSearch_2.19",
        EncryptionAtRestOptions={"Enabled": True},
        NodeToNodeEncryptionOptions={"Enabled": True},
        DomainEndpointOptions={"EnforceHTTPS": True},
        AdvancedSecurityOptions={
            "Enabled": True,
            "InternalUserDatabaseEnabled": True,
            "MasterUserOptions": {"MasterUserName": "admin", "MasterUserPassword": "An0ther-secret!"},
        },
    )
    status = sandbox.status()
    assert status["opensearch_url"].startswith("https://127.0.0.1:")
    assert status["domains"] == ["logs"]

    client(address, "opensearch").delete_domain(DomainName="logs")
    eks.delete_cluster(name="demo")
    eks.get_waiter("cluster_deleted").wait(name="demo", WaiterConfig={"Delay": 1})
    found = sandbox.address()
    assert found is not None
    assert (found.kubeconfig, found.opensearch_url) == (None, None)
    assert not (sandbox.folder / "kubeconfig").exists()


def test_the_commands_start_show_and_stop_it(tmp_path: Path) -> None:
    cali = Cali(tmp_path)
    code, out, _ = cali("sandbox", "status", "--output", "json")
    assert (code, json.loads(out)) == (
        0,
        {
            "running": False,
            "aws_endpoint": None,
            "kubeconfig": None,
            "opensearch_url": None,
            "helm_releases": [],
        },
    )
    try:
        code, out, said = cali("sandbox", "start")
        assert code == 0
        assert "the sandbox has started" in said
        assert "no cluster yet" in out
        code, out, _ = cali("sandbox", "start", "--output", "json")
        document = json.loads(out)
        assert document["running"] is True
        assert document["aws_endpoint"].startswith("http://127.0.0.1:")
        assert set(document) == {"running", "aws_endpoint", "kubeconfig", "opensearch_url", "helm_releases"}
    finally:
        code, out, said = cali("sandbox", "stop")
    assert code == 0
    assert "the sandbox has ended" in said
    assert "gone with it" in said
    code, out, said = cali("sandbox", "stop", "--output", "json")
    assert json.loads(out)["running"] is False
    assert "does not run" in said
