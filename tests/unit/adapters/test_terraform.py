"""The door to Terraform with a runner that only plays Terraform: arguments, environment, files, outcomes."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cali_infra.adapters.terraform import PlanOutcome, Terraform, child_environment
from cali_infra.adapters.terraform_events import Event, Interrupting, Unparsed
from cali_infra.adapters.terraform_process import Ended, Line
from cali_infra.errors import (
    InvalidConfigurationError,
    PreconditionError,
    RunInterruptedError,
    StalePlanError,
    TerraformError,
)
from cali_infra.plans import Action, ResourceChange

SAMPLES = Path(__file__).parent / "terraform_samples"
VERSION = json.dumps({"terraform_version": "1.11.4", "platform": "linux_amd64"}, indent=2)
BACKEND = '{"terraform": {"backend": {"local": {"path": "terraform.tfstate"}}}}'


@dataclass
class Played:
    """Stands in for the process: answers each command with what was put in for it."""

    out: dict[str, str] = field(default_factory=dict)
    err: dict[str, str] = field(default_factory=dict)
    ended: dict[str, Ended | Exception] = field(default_factory=dict)
    does: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    environs: list[Mapping[str, str]] = field(default_factory=list)

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        on_out: Line,
        on_err: Line,
        cancel: threading.Event | None = None,
        on_cancel: Callable[[], None] = lambda: None,
        timeout: float | None = None,
    ) -> Ended:
        self.calls.append(list(arguments))
        self.folders.append(folder)
        self.environs.append(environ)
        command = arguments[1]
        ended = self.ended.get(command, Ended(0))
        if isinstance(ended, Exception):
            raise ended
        for line in self.out.get(command, VERSION if command == "version" else "").splitlines():
            on_out(line)
        for line in self.err.get(command, "").splitlines():
            on_err(line)
        if command in self.does:
            self.does[command](folder)
        if ended.interrupted:
            on_cancel()
        return ended

    def count(self, command: str) -> int:
        return sum(call[1] == command for call in self.calls)


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def terraform(played: Played, tmp_path: Path) -> Terraform:
    return Terraform(
        "terraform",
        environ={"PATH": "/bin"},
        log=tmp_path / "logs" / "cali.log",
        plugin_cache=tmp_path / "plugins",
        redact=lambda text: text.replace("sentinel", "***"),
        run=played,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stack = tmp_path / "eks"
    stack.mkdir()
    (stack / "versions.tf").write_text('terraform {\n  required_version = ">= 1.11"\n}\n')
    (stack / "cali_backend.tf.json").write_text(BACKEND)
    return stack


def initialise(folder: Path, kind: str = "local", **config: object) -> None:
    """What `terraform init` leaves of the backend."""
    record = {"version": 3, "backend": {"type": kind, "config": {"path": "terraform.tfstate", **config}}}
    (folder / ".terraform").mkdir(exist_ok=True)
    (folder / ".terraform" / "terraform.tfstate").write_text(json.dumps(record))


def sample(name: str) -> str:
    return (SAMPLES / name).read_text()


# -- the surroundings ---------------------------------------------------------------------------------------


def test_a_door_that_is_only_opened_touches_nothing(terraform: Terraform, tmp_path: Path) -> None:
    terraform.version()
    assert not list(tmp_path.iterdir())


def test_the_child_gets_the_given_environment_and_what_automation_needs(
    terraform: Terraform, played: Played, folder: Path, tmp_path: Path
) -> None:
    terraform.plan(folder, out=tmp_path / "p")
    assert played.environs[-1] == {
        "PATH": "/bin",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "CHECKPOINT_DISABLE": "1",
        "GOGC": "400",
        "TF_PLUGIN_CACHE_DIR": str(tmp_path / "plugins"),
    }
    assert stat.S_IMODE((tmp_path / "plugins").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "name",
    ["TF_LOG", "TF_LOG_PATH", "TF_CLI_ARGS", "TF_CLI_ARGS_plan", "TF_VAR_x", "TF_WORKSPACE", "TF_DATA_DIR"],
)
def test_what_would_work_behind_calis_back_is_taken_out(name: str) -> None:
    assert name not in child_environment({name: "x"})


def test_what_the_user_chose_stays() -> None:
    chosen = {"GOGC": "50", "TF_CLI_CONFIG_FILE": "/c", "TF_REATTACH_PROVIDERS": "{}", "AWS_REGION": "r"}
    assert child_environment(chosen).items() >= chosen.items()


def test_a_plugin_cache_of_the_users_is_used_and_left_as_it_is(played: Played, folder: Path) -> None:
    cache = folder.parent / "cache"
    cache.mkdir(mode=0o755)
    terraform = Terraform(
        "terraform",
        environ={"TF_PLUGIN_CACHE_DIR": str(cache)},
        plugin_cache=folder.parent / "plugins",
        run=played,
    )
    terraform.plan(folder, out=folder.parent / "p")
    assert played.environs[-1]["TF_PLUGIN_CACHE_DIR"] == str(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o755
    assert not (folder.parent / "plugins").exists()


def test_a_program_by_its_path_is_found_from_every_folder(
    played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Terraform("bin/terraform", environ={}, run=played).version()
    assert played.calls[0][0] == str(tmp_path / "bin" / "terraform")


def test_no_state_in_the_current_folder_is_read(
    played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "terraform.tfstate").write_text("no state at all")
    monkeypatch.chdir(tmp_path)
    assert Terraform("terraform", environ={}, run=played).version() == "1.11.4"


# -- the version --------------------------------------------------------------------------------------------


def test_the_version_is_asked_once(terraform: Terraform, played: Played) -> None:
    assert terraform.version() == terraform.version() == "1.11.4"
    assert played.calls == [["terraform", "version", "-json"]]


@pytest.mark.parametrize(("binary", "version"), [("terraform", "1.10.5"), ("tofu", "1.9.1")])
def test_an_old_version_is_refused_with_what_to_do(played: Played, binary: str, version: str) -> None:
    played.out["version"] = json.dumps({"terraform_version": version})
    with pytest.raises(PreconditionError, match=f"is version {version}; cali needs") as caught:
        Terraform(binary, environ={}, run=played).version()
    assert "terraform_binary" in caught.value.remedy


@pytest.mark.parametrize(
    ("binary", "version"),
    [("terraform", "1.11.0"), ("terraform", "2.0.0-beta1"), ("/opt/tofu", "1.10.0")],
)
def test_a_new_one_is_taken(played: Played, binary: str, version: str) -> None:
    played.out["version"] = json.dumps({"terraform_version": version})
    assert Terraform(binary, environ={}, run=played).version() == version


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError()])
def test_a_missing_program_says_what_to_install(
    terraform: Terraform, played: Played, error: Exception
) -> None:
    played.ended["version"] = error
    with pytest.raises(PreconditionError, match="is not installed") as caught:
        terraform.version()
    assert "install Terraform 1.11" in caught.value.remedy


@pytest.mark.parametrize("out", ["hello", "[]", "{}", '{"terraform_version": "new"}'])
def test_another_program_is_not_taken_for_terraform(terraform: Terraform, played: Played, out: str) -> None:
    played.out["version"] = out
    with pytest.raises(PreconditionError, match="is not Terraform"):
        terraform.version()


def test_a_program_that_knows_no_such_command_is_not_taken_for_terraform(
    terraform: Terraform, played: Played
) -> None:
    played.out["version"], played.ended["version"] = "", Ended(2)
    with pytest.raises(PreconditionError, match="is not Terraform"):
        terraform.version()


# -- init ---------------------------------------------------------------------------------------------------


def test_init_is_needed_once(terraform: Terraform, played: Played, folder: Path) -> None:
    assert terraform.needs_init(folder)
    terraform.init(folder)
    assert not terraform.needs_init(folder)
    assert played.calls[-1] == ["terraform", "init", "-input=false", "-no-color"]
    assert stat.S_IMODE((folder / ".terraform" / "cali-init.json").stat().st_mode) == 0o600


def test_a_new_subnet_needs_no_init(terraform: Terraform, folder: Path) -> None:
    terraform.init(folder)
    (folder / "subnets.tf").write_text('resource "aws_subnet" "a" {}\n')
    assert not terraform.needs_init(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("versions.tf", 'terraform {\n  required_version = ">= 1.12"\n}\n'),
        ("cali_backend.tf.json", '{"terraform": {"backend": {"s3": {"bucket": "b"}}}}'),
        ("parts.tf", 'module "m" {\n  source = "./m"\n}\n'),
    ],
)
def test_what_init_reads_needs_a_new_one(terraform: Terraform, folder: Path, name: str, content: str) -> None:
    terraform.init(folder)
    (folder / name).write_text(content)
    assert terraform.needs_init(folder)


def test_another_terraform_needs_a_new_init(terraform: Terraform, folder: Path) -> None:
    terraform.init(folder)
    newer = Played(out={"version": json.dumps({"terraform_version": "1.12.0"})})
    assert Terraform("terraform", environ={}, run=newer).needs_init(folder)


def test_providers_that_run_already_are_part_of_what_was_initialised(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    terraform.init(folder)
    helm = {"registry.terraform.io/hashicorp/helm": {"Pid": 1}}
    with_helm = Terraform("terraform", environ={"TF_REATTACH_PROVIDERS": json.dumps(helm)}, run=played)
    assert with_helm.needs_init(folder)
    with_helm.init(folder)
    helm["registry.terraform.io/hashicorp/helm"]["Pid"] = 2
    restarted = Terraform("terraform", environ={"TF_REATTACH_PROVIDERS": json.dumps(helm)}, run=played)
    assert not restarted.needs_init(folder)


def test_a_cleared_plugin_cache_needs_a_new_init(
    terraform: Terraform, played: Played, folder: Path, tmp_path: Path
) -> None:
    package = tmp_path / "plugins" / "package"

    def install(stack: Path) -> None:
        package.mkdir(parents=True, exist_ok=True)
        link = stack / ".terraform/providers/registry.terraform.io/hashicorp/aws/5.100.0/linux_amd64"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(package)

    played.does["init"] = install
    terraform.init(folder)
    assert not terraform.needs_init(folder)
    package.rmdir()
    assert terraform.needs_init(folder)


def test_a_failed_init_has_to_be_done_again(terraform: Terraform, played: Played, folder: Path) -> None:
    played.ended["init"], played.err["init"] = Ended(1), sample("provider-missing.txt")
    with pytest.raises(TerraformError):
        terraform.init(folder)
    assert terraform.needs_init(folder)


def test_a_changed_backend_is_terraforms_to_refuse(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    initialise(folder)
    (folder / "terraform.tfstate").write_text(sample("state.json"))
    played.ended["init"], played.err["init"] = Ended(1), sample("backend-changed.txt")
    with pytest.raises(PreconditionError, match="kept elsewhere"):
        terraform.init(folder)
    assert "-reconfigure" not in played.calls[-1]


def test_a_changed_backend_is_taken_over_before_the_first_apply(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    initialise(folder)
    terraform.init(folder)
    assert "-reconfigure" in played.calls[-1]


def test_a_remote_state_is_never_left_behind(terraform: Terraform, played: Played, folder: Path) -> None:
    initialise(folder, "s3", bucket="b")
    terraform.init(folder)
    assert "-reconfigure" not in played.calls[-1]


def test_one_init_at_a_time(played: Played, folder: Path, tmp_path: Path) -> None:
    inside, most = [], []

    def busy(stack: Path) -> None:
        inside.append(stack)
        most.append(len(inside))
        threading.Event().wait(0.02)
        inside.remove(stack)

    played.does["init"] = busy
    # A door of its own for each: as several cali processes with one plugin cache have.
    doors = [Terraform("terraform", environ={}, plugin_cache=tmp_path / "c", run=played) for _ in range(4)]
    threads = [threading.Thread(target=door.init, args=(folder,)) for door in doors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_a_wait_for_another_init_can_be_interrupted(played: Played, folder: Path, tmp_path: Path) -> None:
    entered, leave, cancel = threading.Event(), threading.Event(), threading.Event()

    def busy(stack: Path) -> None:
        entered.set()
        leave.wait(10)

    played.does["init"] = busy
    door = Terraform("terraform", environ={}, plugin_cache=tmp_path / "c", run=played)
    first = threading.Thread(target=door.init, args=(folder,))
    first.start()
    assert entered.wait(10)
    threading.Timer(0.05, cancel.set).start()
    with pytest.raises(RunInterruptedError, match="another terraform init"):
        door.init(folder, cancel=cancel)
    leave.set()
    first.join()


# -- plan and apply -----------------------------------------------------------------------------------------


def test_a_plan_is_told_resource_by_resource(
    terraform: Terraform, played: Played, folder: Path, tmp_path: Path
) -> None:
    played.out["plan"], played.ended["plan"] = sample("plan.jsonl"), Ended(2)
    seen: list[Event] = []
    outcome = terraform.plan(folder, out=tmp_path / "p", watch=seen.append)
    assert set(outcome.changes) == {
        ResourceChange("terraform_data.created", Action.CREATE),
        ResourceChange("terraform_data.changed", Action.UPDATE),
        ResourceChange("terraform_data.tainted", Action.REPLACE, ("it is tainted",)),
        ResourceChange("terraform_data.replaced", Action.REPLACE, ("it cannot be changed in place",)),
        ResourceChange("terraform_data.gone", Action.DELETE, ("it is no longer in the configuration",)),
    }
    assert set(outcome.bookkeeping) == {
        "terraform_data.new: moved from terraform_data.old",
        "terraform_data.imported: imported",
        "terraform_data.forgotten: forgotten, and left as it is in AWS",
    }
    assert (outcome.add, outcome.change, outcome.destroy) == (3, 1, 3)
    assert outcome.outputs_changed
    assert not outcome.empty
    assert [w.summary for w in outcome.warnings] == ["Some objects will no longer be managed by Terraform"]
    assert len(seen) == len(played.out["plan"].splitlines())


def test_a_plan_without_changes_is_empty(terraform: Terraform, folder: Path, tmp_path: Path) -> None:
    assert terraform.plan(folder, out=tmp_path / "p") == PlanOutcome()
    assert PlanOutcome().empty


@pytest.mark.parametrize(
    "outcome", [PlanOutcome(outputs_changed=True), PlanOutcome(bookkeeping=("a.b: moved from a.c",))]
)
def test_a_plan_that_changes_the_state_alone_is_not_empty(outcome: PlanOutcome) -> None:
    assert not outcome.empty


def test_data_sources_that_are_read_are_no_change(
    terraform: Terraform, played: Played, folder: Path, tmp_path: Path
) -> None:
    line = {
        "type": "planned_change",
        "change": {"resource": {"addr": "data.a.b", "resource_type": "a"}, "action": "read"},
    }
    played.out["plan"] = json.dumps(line)
    assert terraform.plan(folder, out=tmp_path / "p").empty


def test_the_flags_of_a_plan(terraform: Terraform, played: Played, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    terraform.plan(folder, out=out)
    always = ["terraform", "plan", "-input=false", "-json", f"-out={out}", "-detailed-exitcode"]
    assert played.calls[-1] == [*always, "-lock-timeout=0s"]
    terraform.plan(folder, out=out, destroy=True, refresh=False, lock=False, targets=['a.b["c"]', "module.d"])
    assert played.calls[-1] == [
        *always,
        "-destroy",
        "-refresh=false",
        '-target=a.b["c"]',
        "-target=module.d",
        "-lock=false",
    ]


def test_the_wait_for_a_lock_can_be_chosen(played: Played, folder: Path, tmp_path: Path) -> None:
    Terraform("terraform", environ={}, lock_timeout=90, run=played).apply(folder, tmp_path / "p")
    assert played.calls[-1] == [
        "terraform",
        "apply",
        "-input=false",
        "-json",
        "-lock-timeout=90s",
        str(tmp_path / "p"),
    ]


def test_an_apply_counts_what_it_did(terraform: Terraform, played: Played, folder: Path) -> None:
    played.out["apply"] = sample("apply.jsonl")
    outcome = terraform.apply(folder, folder / "p")
    assert (outcome.add, outcome.change, outcome.destroy) == (3, 1, 3)


def test_a_failure_becomes_its_type_and_names_the_log(
    terraform: Terraform, played: Played, folder: Path, tmp_path: Path
) -> None:
    played.out["apply"], played.ended["apply"] = sample("stale.jsonl"), Ended(1)
    with pytest.raises(StalePlanError) as caught:
        terraform.apply(folder, folder / "p")
    assert caught.value.log == str(tmp_path / "logs" / "cali.log")
    assert caught.value.exit_code == 1


def test_an_interrupt_is_passed_on_and_told(terraform: Terraform, played: Played, folder: Path) -> None:
    played.out["apply"], played.ended["apply"] = sample("interrupted.jsonl"), Ended(1, interrupted=True)
    seen: list[Event] = []
    with pytest.raises(RunInterruptedError, match="state and lock are in order"):
        terraform.apply(folder, folder / "p", watch=seen.append, cancel=threading.Event())
    assert [type(e) for e in seen].count(Interrupting) == 1


def test_an_apply_that_was_done_when_the_interrupt_came_is_done(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    played.out["apply"], played.ended["apply"] = sample("apply.jsonl"), Ended(0, interrupted=True)
    assert terraform.apply(folder, folder / "p", cancel=threading.Event()).add == 3


def test_a_terraform_that_was_killed_is_not_called_interrupted(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    played.ended["apply"] = Ended(-9, interrupted=True)
    with pytest.raises(TerraformError, match="killed by signal 9"):
        terraform.apply(folder, folder / "p", cancel=threading.Event())


def test_an_interrupt_that_lost_the_state_says_so(terraform: Terraform, played: Played, folder: Path) -> None:
    played.out["apply"] = sample("state-lost-interrupted.jsonl")
    played.ended["apply"] = Ended(1, interrupted=True)
    with pytest.raises(TerraformError, match=r"errored\.tfstate"):
        terraform.apply(folder, folder / "p", cancel=threading.Event())


def test_nothing_is_planned_over_a_state_that_was_not_written(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    (folder / "errored.tfstate").write_text("{}")
    for work in (terraform.apply, lambda f, p: terraform.plan(f, out=p)):
        with pytest.raises(PreconditionError, match="eks: an earlier run") as caught:
            work(folder, folder / "p")
        assert f"-chdir={folder} state push errored.tfstate" in caught.value.remedy
    assert not played.calls


def test_nothing_is_started_after_the_interrupt(terraform: Terraform, played: Played, folder: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(RunInterruptedError):
        terraform.plan(folder, out=folder / "p", cancel=cancel)
    assert not played.calls


# -- the rest -----------------------------------------------------------------------------------------------


def test_validate_lists_every_mistake(terraform: Terraform, played: Played, folder: Path) -> None:
    played.out["validate"], played.ended["validate"] = sample("validate-invalid.json"), Ended(1)
    with pytest.raises(InvalidConfigurationError, match='Did you mean "input"'):
        terraform.validate(folder)


def test_validate_returns_warnings(terraform: Terraform, played: Played, folder: Path) -> None:
    warning = {"severity": "warning", "summary": "Deprecated", "detail": ""}
    played.out["validate"] = json.dumps({"valid": True, "diagnostics": [warning]})
    assert [w.summary for w in terraform.validate(folder)] == ["Deprecated"]


def test_a_validate_that_breaks_down_is_an_error(terraform: Terraform, played: Played, folder: Path) -> None:
    played.err["validate"], played.ended["validate"] = "panic: boom", Ended(11)
    with pytest.raises(TerraformError, match="boom"):
        terraform.validate(folder)


def test_untaint_and_import(terraform: Terraform, played: Played, folder: Path) -> None:
    terraform.untaint(folder, 'a.b["c"]')
    assert played.calls[-1] == ["terraform", "untaint", "-no-color", "-lock-timeout=0s", 'a.b["c"]']
    terraform.import_(folder, "a.b", "id-1")
    assert played.calls[-1] == [
        "terraform",
        "import",
        "-input=false",
        "-no-color",
        "-lock-timeout=0s",
        "a.b",
        "id-1",
    ]


# -- the state ----------------------------------------------------------------------------------------------


def test_a_local_state_is_read_without_a_process(terraform: Terraform, played: Played, folder: Path) -> None:
    initialise(folder)
    assert not terraform.state(folder).exists
    (folder / "terraform.tfstate").write_text(sample("state.json"))
    assert terraform.state(folder).outputs["a"] == 1
    assert not played.calls


def test_a_remote_state_is_pulled_where_no_provider_is_in_the_way(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    initialise(folder, "s3", bucket="b")
    backend = '{"terraform": {"backend": {"s3": {"bucket": "b"}}}}'
    (folder / "cali_backend.tf.json").write_text(backend)
    played.out["state"] = sample("state.json")
    assert terraform.state(folder).outputs["a"] == 1
    assert played.calls == [["terraform", "state", "pull", "-no-color"]]
    (bare,) = played.folders
    assert [path.name for path in bare.iterdir()] == ["backend.tf.json"]
    assert json.loads((bare / "backend.tf.json").read_text()) == json.loads(backend)
    assert played.environs[0]["TF_DATA_DIR"] == str(folder / ".terraform")


def test_a_state_that_is_kept_elsewhere_is_not_read(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    initialise(folder)
    (folder / "terraform.tfstate").write_text(sample("state.json"))
    (folder / "cali_backend.tf.json").write_text('{"terraform": {"backend": {"s3": {"bucket": "b"}}}}')
    played.err["state"], played.ended["state"] = sample("backend-pull.txt"), Ended(1)
    with pytest.raises(PreconditionError, match="eks: its state is kept elsewhere"):
        terraform.state(folder)


def test_without_a_backend_file_terraform_knows_where_the_state_is(
    terraform: Terraform, played: Played, folder: Path
) -> None:
    (folder / "cali_backend.tf.json").unlink()
    assert not terraform.state(folder).exists
    assert played.folders == [folder]


# -- the log ------------------------------------------------------------------------------------------------


def test_the_log_is_private_kept_and_without_secrets(
    terraform: Terraform, played: Played, folder: Path, tmp_path: Path
) -> None:
    played.out["apply"] = '{"type":"log","@message":"it is sentinel"}\nno JSON: sentinel'
    played.err["apply"] = "panic: sentinel"
    seen: list[Event] = []
    terraform.apply(folder, folder / "p", watch=seen.append)
    terraform.plan(folder, out=folder / "p")
    log = tmp_path / "logs" / "cali.log"
    text = log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    assert "sentinel" not in text
    assert '"it is ***"' in text
    assert "panic: ***" in text
    assert text.index("terraform apply") < text.index("terraform plan")
    assert Unparsed("no JSON: ***") in seen


def test_a_state_never_gets_into_the_log(
    terraform: Terraform, played: Played, folder: Path, tmp_path: Path
) -> None:
    initialise(folder, "s3")
    played.out["state"] = sample("state.json")
    terraform.state(folder)
    assert "lineage" not in (tmp_path / "logs" / "cali.log").read_text()


def test_what_cannot_be_encoded_does_not_stop_the_run(
    terraform: Terraform, played: Played, folder: Path, tmp_path: Path
) -> None:
    played.out["apply"] = '{"type":"log","@message":"half a \\ud83d"}'
    terraform.apply(folder, folder / "p")
    assert "half a \\ud83d" in (tmp_path / "logs" / "cali.log").read_text()
