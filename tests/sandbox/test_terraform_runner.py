"""The door to Terraform with the real Terraform: small configurations that need no provider."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from cali_infra.adapters import terraform_process
from cali_infra.adapters.terraform import Terraform
from cali_infra.adapters.terraform_events import Event, HookStarted, Interrupting, Provisioning
from cali_infra.adapters.terraform_process import Ended
from cali_infra.errors import (
    InvalidConfigurationError,
    LockHeldError,
    PreconditionError,
    ProviderMissingError,
    RunInterruptedError,
    StalePlanError,
    TerraformError,
)
from cali_infra.plans import Action, ResourceChange

pytestmark = pytest.mark.sandbox

ROOT = Path(__file__).resolve().parents[2]
LOCAL = '{"terraform": {"backend": {"local": {"path": "terraform.tfstate"}}}}'
ONE = """
variable "size" {
  type    = number
  default = 1
  validation {
    condition     = var.size > 0
    error_message = "size must be positive"
  }
}
variable "password" {
  type      = string
  sensitive = true
  default   = ""
}
resource "terraform_data" "one" {
  input = [var.size, var.password]
}
output "size" {
  value = var.size
}
output "password" {
  value     = var.password
  sensitive = true
}
"""
SLOW = """
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "sleep SECONDS"
  }
}
resource "terraform_data" "after" {
  input = terraform_data.slow.id
}
"""


@pytest.fixture
def terraform(terraform_environ: Mapping[str, str], tmp_path: Path) -> Terraform:
    return Terraform(
        "terraform",
        environ=terraform_environ,
        log=tmp_path / "cali.log",
        plugin_cache=tmp_path / "plugins",
    )


@pytest.fixture
def stack(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder with this configuration and a local backend."""

    def make(configuration: str) -> Path:
        folder = tmp_path / "stack"
        folder.mkdir(exist_ok=True)
        (folder / "main.tf").write_text(configuration)
        (folder / "cali_backend.tf.json").write_text(LOCAL)
        return folder

    return make


def apply(terraform: Terraform, folder: Path) -> None:
    """From nothing to applied."""
    terraform.init(folder)
    terraform.plan(folder, out=folder / "p")
    terraform.apply(folder, folder / "p")


def values(folder: Path, **variables: object) -> None:
    (folder / "terraform.tfvars.json").write_text(json.dumps(variables))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def alive(pid: int) -> bool:
    """Runs, and is not only waiting for its parent to notice its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- a stack's life -----------------------------------------------------------------------------------------


def test_the_life_of_a_stack(terraform: Terraform, stack: Callable[[str], Path]) -> None:
    folder = stack(ONE)
    values(folder, size=2, password='Sentinel-${x}-"한글"')
    assert terraform.needs_init(folder)
    terraform.init(folder)
    assert not terraform.needs_init(folder)
    assert not terraform.state(folder).exists

    plan = terraform.plan(folder, out=folder / "p")
    assert plan.changes == (ResourceChange("terraform_data.one", Action.CREATE),)
    assert (plan.add, plan.change, plan.destroy, plan.outputs_changed) == (1, 0, 0, True)
    assert terraform.apply(folder, folder / "p").add == 1

    state = terraform.state(folder)
    assert state.outputs == {"size": 2, "password": 'Sentinel-${x}-"한글"'}
    assert [resource.address for resource in state.managed] == ["terraform_data.one"]
    assert terraform.plan(folder, out=folder / "p").empty

    values(folder, size=3, password="")
    assert terraform.plan(folder, out=folder / "p").changes == (
        ResourceChange("terraform_data.one", Action.UPDATE),
    )
    gone = terraform.plan(folder, out=folder / "p", destroy=True)
    assert gone.changes == (ResourceChange("terraform_data.one", Action.DELETE),)
    assert terraform.apply(folder, folder / "p").destroy == 1
    assert terraform.state(folder).empty


def test_what_terraform_writes_is_private_and_the_log_knows_no_value(
    terraform: Terraform, stack: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = stack(ONE)
    values(folder, password="Sentinel")
    apply(terraform, folder)
    assert mode(folder / "p") == mode(folder / "terraform.tfstate") == mode(tmp_path / "cali.log") == 0o600
    assert "Sentinel" in (folder / "terraform.tfstate").read_text()
    assert "Sentinel" not in (tmp_path / "cali.log").read_text()


def test_a_change_of_an_output_alone_is_a_change(terraform: Terraform, stack: Callable[[str], Path]) -> None:
    folder = stack('output "a" {\n  value = 1\n}\n')
    terraform.init(folder)
    plan = terraform.plan(folder, out=folder / "p")
    assert not plan.changes
    assert plan.outputs_changed
    terraform.apply(folder, folder / "p")
    assert terraform.plan(folder, out=folder / "p").empty


def test_an_import_brings_what_exists_under_management(
    terraform: Terraform, stack: Callable[[str], Path]
) -> None:
    folder = stack('resource "terraform_data" "one" {}\n')
    terraform.init(folder)
    terraform.import_(folder, "terraform_data.one", "an-id")
    assert terraform.state(folder).managed[0].id == "an-id"


# -- what goes wrong ----------------------------------------------------------------------------------------


def test_wrong_values_are_the_configurations_fault(
    terraform: Terraform, stack: Callable[[str], Path]
) -> None:
    folder = stack(ONE)
    values(folder, size=0)
    terraform.init(folder)
    with pytest.raises(InvalidConfigurationError, match="size must be positive"):
        terraform.plan(folder, out=folder / "p")
    (folder / "more.tf").write_text('resource "terraform_data" "two" {\n  inputs = 1\n}\n')
    with pytest.raises(InvalidConfigurationError, match='Did you mean "input"'):
        terraform.validate(folder)


def test_a_provider_that_cannot_be_had(
    terraform_environ: Mapping[str, str], stack: Callable[[str], Path], tmp_path: Path
) -> None:
    rc = tmp_path / "rc"
    rc.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{tmp_path}"\n  }}\n}}\n')
    folder = stack(
        'terraform {\n  required_providers {\n    null = {\n      source = "hashicorp/null"\n    }\n  }\n}\n'
    )
    door = Terraform("terraform", environ={**terraform_environ, "TF_CLI_CONFIG_FILE": str(rc)})
    with pytest.raises(ProviderMissingError, match="hashicorp/null") as caught:
        door.init(folder)
    assert "TF_CLI_CONFIG_FILE" in caught.value.remedy
    assert door.needs_init(folder)


def test_a_plan_is_refused_once_the_state_has_moved_on(
    terraform: Terraform, stack: Callable[[str], Path]
) -> None:
    folder = stack(ONE)
    terraform.init(folder)
    terraform.plan(folder, out=folder / "old")
    terraform.plan(folder, out=folder / "new")
    terraform.apply(folder, folder / "new")
    with pytest.raises(StalePlanError):
        terraform.apply(folder, folder / "old")


def test_who_holds_the_lock_is_told(terraform: Terraform, stack: Callable[[str], Path]) -> None:
    folder = stack(SLOW.replace("SECONDS", "30"))
    terraform.init(folder)
    terraform.plan(folder, out=folder / "p")
    cancel, running = threading.Event(), threading.Event()

    def watch(event: Event) -> None:
        if isinstance(event, Provisioning):
            running.set()

    def work() -> None:
        with pytest.raises(RunInterruptedError):
            terraform.apply(folder, folder / "p", watch=watch, cancel=cancel)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert running.wait(20)
        with pytest.raises(LockHeldError) as caught:
            terraform.plan(folder, out=folder / "q")
    finally:
        cancel.set()
        thread.join()
    assert caught.value.lock.operation == "apply"
    assert caught.value.lock.id in caught.value.remedy


def test_a_local_state_is_not_forgotten_when_the_backend_changes(
    terraform: Terraform, stack: Callable[[str], Path]
) -> None:
    folder = stack(ONE)
    apply(terraform, folder)
    elsewhere = LOCAL.replace("terraform.tfstate", "other.tfstate")
    (folder / "cali_backend.tf.json").write_text(elsewhere)
    assert terraform.needs_init(folder)
    with pytest.raises(PreconditionError, match="kept elsewhere") as caught:
        terraform.init(folder)
    assert "-migrate-state" in caught.value.remedy
    (folder / "cali_backend.tf.json").write_text(LOCAL)
    terraform.init(folder)
    assert terraform.state(folder).exists


def test_a_backend_may_change_before_the_first_apply(
    terraform: Terraform, stack: Callable[[str], Path]
) -> None:
    folder = stack(ONE)
    terraform.init(folder)
    (folder / "cali_backend.tf.json").write_text(LOCAL.replace("terraform.tfstate", "other.tfstate"))
    apply(terraform, folder)
    assert (folder / "other.tfstate").exists()


# -- interrupts ---------------------------------------------------------------------------------------------


def test_an_interrupt_leaves_state_and_lock_in_order(
    terraform: Terraform, stack: Callable[[str], Path]
) -> None:
    folder = stack(SLOW.replace("SECONDS", "30"))
    terraform.init(folder)
    terraform.plan(folder, out=folder / "p")
    cancel = threading.Event()
    seen: list[Event] = []

    def watch(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Provisioning):
            cancel.set()

    started = time.monotonic()
    with pytest.raises(RunInterruptedError):
        terraform.apply(folder, folder / "p", watch=watch, cancel=cancel)
    assert time.monotonic() - started < 15
    assert [type(event) for event in seen].count(Interrupting) == 1
    assert HookStarted("terraform_data.after", "create") not in seen

    (tainted,) = terraform.state(folder).tainted
    assert tainted.address == "terraform_data.slow"
    terraform.untaint(folder, tainted.address)
    plan = terraform.plan(folder, out=folder / "p")
    assert plan.changes == (ResourceChange("terraform_data.after", Action.CREATE),)


def test_what_is_left_tainted_says_so_in_the_plan(terraform: Terraform, stack: Callable[[str], Path]) -> None:
    folder = stack(
        'resource "terraform_data" "slow" {\n  provisioner "local-exec" {\n    command = "false"\n  }\n}\n'
    )
    terraform.init(folder)
    terraform.plan(folder, out=folder / "p")
    with pytest.raises(TerraformError, match="local-exec provisioner error"):
        terraform.apply(folder, folder / "p")
    plan = terraform.plan(folder, out=folder / "p")
    assert plan.changes == (ResourceChange("terraform_data.slow", Action.REPLACE, ("it is tainted",)),)


def test_terraform_finishes_its_work_when_cali_is_killed(
    terraform_environ: Mapping[str, str], terraform: Terraform, stack: Callable[[str], Path]
) -> None:
    folder = stack(SLOW.replace("SECONDS", "1"))
    terraform.init(folder)
    terraform.plan(folder, out=folder / "p")
    program = """
import os, sys
from pathlib import Path
from cali_infra.adapters.terraform import Terraform
from cali_infra.adapters.terraform_events import Provisioning
def watch(event):
    if isinstance(event, Provisioning):
        os.kill(os.getpid(), 9)
folder = Path(sys.argv[1])
Terraform("terraform", environ=os.environ).apply(folder, folder / "p", watch=watch)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={**terraform_environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    # Terraform's last act is to take its lock away.
    lock = folder / ".terraform.tfstate.lock.info"
    assert until(lambda: not lock.exists() and len(terraform.state(folder).managed) == 2)
    assert not terraform.state(folder).tainted
    assert terraform.plan(folder, out=folder / "p").empty


# -- the process itself -------------------------------------------------------------------------------------


class Shell:
    """A shell script in the runner; collects what it prints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out: list[str] = []
        self.err: list[str] = []

    def run(
        self,
        script: str,
        *,
        cancel: threading.Event | None = None,
        on_out: Callable[[str], None] | None = None,
        timeout: float | None = None,
        grace: float = 5.0,
    ) -> Ended:
        return terraform_process.run(
            ["/bin/sh", "-c", script],
            folder=self.folder,
            environ={"PATH": os.environ["PATH"]},
            on_out=on_out or self.out.append,
            on_err=self.err.append,
            cancel=cancel,
            timeout=timeout,
            grace=grace,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_flood_on_both_streams_blocks_nothing(shell: Shell) -> None:
    script = "i=0; while [ $i -lt 5000 ]; do echo out-$i-$0; echo err-$i >&2; i=$((i+1)); done"
    assert shell.run(script) == Ended(0)
    assert len(shell.out) == len(shell.err) == 5000
    assert (shell.out[0], shell.err[-1]) == ("out-0-/bin/sh", "err-4999")


def test_every_kind_of_line_arrives(shell: Shell) -> None:
    shell.run(r"printf 'a\r\n\n\377b\n\355\225\234'; exit 3")
    assert shell.out == ["a", "", "\ufffdb", "한"]


def test_the_last_words_come_before_the_end(shell: Shell) -> None:
    for _ in range(20):
        shell.run("echo last")
    assert shell.out == ["last"] * 20


def test_the_child_writes_private_files_in_a_group_of_its_own(shell: Shell) -> None:
    shell.run("touch f; umask; ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat")
    assert mode(shell.folder / "f") == 0o600
    assert shell.out[0].endswith("077")
    assert int(shell.out[1]) != os.getpgrp()


def test_the_interrupt_comes_once_and_what_it_sets_off_may_take_its_time(shell: Shell) -> None:
    cancel = threading.Event()

    def on_out(line: str) -> None:
        shell.out.append(line)
        if line == "ready":
            cancel.set()

    script = (
        "trap 'n=$((n+1))' INT; echo ready; i=0; while [ $i -lt 12 ]; do sleep 0.1; i=$((i+1)); done; echo $n"
    )
    assert shell.run(script, cancel=cancel, on_out=on_out, grace=0.1) == Ended(0, interrupted=True)
    assert shell.out == ["ready", "1"]


def test_the_interrupt_spares_what_terraform_has_started(shell: Shell) -> None:
    cancel = threading.Event()

    def on_out(line: str) -> None:
        shell.out.append(line)
        if line == "ready":
            cancel.set()

    (shell.folder / "child.py").write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('hit', flush=True))\n"
        "print('ready', flush=True)\n"
        "time.sleep(0.5)\n"
        "print('done', flush=True)\n"
    )
    shell.run(f"trap : INT; '{sys.executable}' child.py & wait; wait", cancel=cancel, on_out=on_out)
    assert shell.out == ["ready", "done"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_plugins_of_a_killed_terraform_are_ended(shell: Shell) -> None:
    ended = shell.run("sleep 60 & echo $!; kill -9 $$")
    assert ended.exit_code == -signal.SIGKILL
    assert until(lambda: not alive(int(shell.out[0])))


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_mistake_in_cali_leaves_no_terraform_behind(shell: Shell) -> None:
    def on_out(line: str) -> None:
        shell.out.append(line)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shell.run("trap '' INT; echo $$; sleep 60 & echo $!; wait", on_out=on_out, grace=0.3)
    assert not alive(int(shell.out[0]))


def test_a_process_that_hangs_is_stopped(shell: Shell) -> None:
    started = time.monotonic()
    ended = shell.run("trap '' INT; sleep 60", timeout=0.2, grace=0.2)
    assert ended.timed_out
    assert time.monotonic() - started < 5


def test_an_unknown_program_is_said_to_be_missing(terraform_environ: Mapping[str, str]) -> None:
    with pytest.raises(PreconditionError, match="no-such-terraform is not installed"):
        Terraform("no-such-terraform", environ=terraform_environ).version()


# -- a remote state -----------------------------------------------------------------------------------------


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 of our own; yields its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_a_state_in_s3(
    terraform_environ: Mapping[str, str], s3: str, stack: Callable[[str], Path], tmp_path: Path
) -> None:
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "ap-northeast-2"}
    environ = {**terraform_environ, **keys, "AWS_ENDPOINT_URL": s3, "AWS_EC2_METADATA_DISABLED": "true"}
    door = Terraform("terraform", environ=environ, plugin_cache=tmp_path / "plugins")
    folder = stack(ONE)
    bucket = {"bucket": "states", "key": "cali/one.tfstate", "region": "us-east-1", "use_lockfile": True}
    remote = json.dumps({"terraform": {"backend": {"s3": bucket}}})
    (folder / "cali_backend.tf.json").write_text(remote)
    with pytest.raises(PreconditionError) as caught:
        door.init(folder)
    assert "cali state bootstrap" in caught.value.remedy

    client = boto3.client(
        "s3",
        endpoint_url=s3,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    client.create_bucket(Bucket="states")
    door.init(folder)
    assert not door.state(folder).exists
    door.plan(folder, out=folder / "p")
    door.apply(folder, folder / "p")
    assert door.state(folder).outputs["size"] == 1
    assert not (folder / "terraform.tfstate").exists()

    lock = {"ID": "b2c3", "Operation": "OperationTypeApply", "Who": "mina@desk", "Version": "1.11.4"}
    lock |= {"Created": "2026-01-02T03:04:05.678Z", "Path": "states/cali/one.tfstate", "Info": ""}
    client.put_object(Bucket="states", Key="cali/one.tfstate.tflock", Body=json.dumps(lock).encode())
    with pytest.raises(LockHeldError, match=r"mina@desk \(apply since 2026-01-02 03:04:05 UTC\)"):
        door.plan(folder, out=folder / "p")
    # Reading takes no lock.
    assert door.state(folder).exists

    (folder / "cali_backend.tf.json").write_text(LOCAL)
    with pytest.raises(PreconditionError, match="kept elsewhere"):
        door.init(folder)
    with pytest.raises(PreconditionError, match="kept elsewhere"):
        door.state(folder)


def test_the_real_terraform_is_new_enough(terraform: Terraform) -> None:
    assert shutil.which("terraform")
    assert terraform.version()
