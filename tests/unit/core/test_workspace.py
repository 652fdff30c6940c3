"""The workspace: private, up to date with the stacks, and nobody else's."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

from cali_infra.core.turns import Waiting
from cali_infra.core.workspace import BACKEND, Owner, Workspace
from cali_infra.errors import PreconditionError, RunInterruptedError, WrongTargetError

MINE = Owner("123456789012", "ap-northeast-2", "aws")
LOCAL = {"local": {"path": "terraform.tfstate"}}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "terraform" / "network"
    folder.mkdir(parents=True)
    (folder / "main.tf").write_text("# one\n")
    (folder / "old.tf").write_text("# two\n")
    return folder


def test_a_stack_s_copy_follows_its_source_and_keeps_its_state(tmp_path: Path, source: Path) -> None:
    workspace = Workspace(tmp_path / ".cali" / "default")
    folder = workspace.copy_stack("network", source, LOCAL)
    (folder / "terraform.tfstate").write_text("{}")
    (source / "old.tf").unlink()
    (source / "main.tf").write_text("# new\n")

    assert workspace.copy_stack("network", source, LOCAL) == folder

    assert {path.name for path in folder.iterdir()} == {"main.tf", BACKEND, "terraform.tfstate"}
    assert (folder / "main.tf").read_text() == "# new\n"
    assert json.loads((folder / BACKEND).read_text()) == {"terraform": {"backend": LOCAL}}
    assert {path.name for path in source.iterdir()} == {"main.tf"}, "the source is only read"


def test_a_file_that_a_stack_has_no_more_goes_from_its_folder_in_the_copy(
    tmp_path: Path, source: Path
) -> None:
    (source / "dashboards").mkdir()
    for name in ("logs.json", "old.json"):
        (source / "dashboards" / name).write_text("{}")
    workspace = Workspace(tmp_path / ".cali" / "default")
    folder = workspace.copy_stack("network", source, LOCAL)
    # States of Terraform's own workspaces lie in a folder as well.
    other = folder / "terraform.tfstate.d" / "other" / "terraform.tfstate"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    (source / "dashboards" / "old.json").unlink()

    workspace.copy_stack("network", source, LOCAL)

    assert [path.name for path in (folder / "dashboards").iterdir()] == ["logs.json"]
    assert other.exists()


def test_what_is_written_is_for_its_owner_only(tmp_path: Path, source: Path) -> None:
    workspace = Workspace(tmp_path / ".cali" / "default")
    workspace.create()
    workspace.copy_stack("network", source, LOCAL)
    workspace.claim(MINE)

    for path in [workspace.path.parent, *workspace.path.parent.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_workspace_belongs_to_whom_it_was_first_applied_for(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.check_owner(MINE)
    workspace.claim(MINE)
    workspace.claim(Owner("999999999999", "us-east-1", "aws"))

    workspace.check_owner(MINE)
    with pytest.raises(WrongTargetError) as caught:
        workspace.check_owner(Owner("999999999999", "ap-northeast-2", "aws"))
    assert "account is 999999999999, the workspace's is 123456789012" in str(caught.value)
    assert "region" not in str(caught.value)


def test_two_runs_do_not_share_a_workspace(tmp_path: Path) -> None:
    with (
        Workspace(tmp_path).exclusive(),
        pytest.raises(PreconditionError, match="another cali"),
        Workspace(tmp_path).exclusive(),
    ):
        pass
    with Workspace(tmp_path).exclusive():
        pass


@dataclass
class Turns:
    """Time that passes while somebody waits, and what happens then."""

    seconds: float = 0.0
    told: list[str] = field(default_factory=list)
    cancel: Event = field(default_factory=Event)
    then: Callable[[], None] = lambda: None

    def pause(self, cancel: Event, seconds: float) -> None:
        self.seconds += seconds
        self.then()

    @property
    def waiting(self) -> Waiting:
        return Waiting(
            self.cancel, self.told.append, patience=60, clock=lambda: self.seconds, pause=self.pause
        )


def test_a_run_that_may_wait_comes_when_the_other_has_ended(tmp_path: Path) -> None:
    turns = Turns()
    with ExitStack() as other:
        other.enter_context(Workspace(tmp_path / "ws").exclusive())
        turns.then = lambda: other.close() if turns.seconds > 5 else None
        with Workspace(tmp_path / "ws").exclusive(turns.waiting):
            assert 5 < turns.seconds < 6
            with pytest.raises(PreconditionError), Workspace(tmp_path / "ws").exclusive():
                pass
    assert turns.told == [f"waiting for {tmp_path / 'ws'}: another cali (process {os.getpid()})"]


def test_a_run_that_may_wait_does_not_where_nobody_is(tmp_path: Path) -> None:
    turns = Turns()
    with Workspace(tmp_path).exclusive(turns.waiting):
        pass
    assert (turns.seconds, turns.told) == (0, [])


def test_patience_with_a_workspace_ends_as_a_refusal(tmp_path: Path) -> None:
    turns = Turns()
    with Workspace(tmp_path).exclusive():
        with pytest.raises(PreconditionError, match=f"process {os.getpid()}.* is working in") as caught:
            Workspace(tmp_path).exclusive(turns.waiting).__enter__()
        assert "run the command again" in caught.value.remedy
    assert turns.seconds == 60


def test_a_wait_for_a_workspace_can_be_cancelled(tmp_path: Path) -> None:
    turns = Turns()
    turns.then = turns.cancel.set
    with Workspace(tmp_path).exclusive(), pytest.raises(RunInterruptedError, match="nothing was changed"):
        Workspace(tmp_path).exclusive(turns.waiting).__enter__()
    assert turns.seconds < 1


def test_who_waits_for_a_workspace_that_is_taken_away_gets_a_new_one(tmp_path: Path) -> None:
    workspace, turns = Workspace(tmp_path / "ws"), Turns()
    with ExitStack() as down:
        down.enter_context(workspace.exclusive())

        def take_away() -> None:
            if turns.seconds > 5 and workspace.path.exists():
                workspace.remove()
            elif turns.seconds > 10:
                assert not workspace.path.exists()
                down.close()

        turns.then = take_away
        with Workspace(tmp_path / "ws").exclusive(turns.waiting):
            assert workspace.plans.is_dir()
            with pytest.raises(PreconditionError, match="another cali"):
                workspace.exclusive().__enter__()


def test_those_who_wait_for_a_workspace_go_in_the_order_of_their_coming(tmp_path: Path) -> None:
    order: list[int] = []
    line = tmp_path / "cali.lock.line"

    def turn(number: int) -> None:
        with Workspace(tmp_path).exclusive(Waiting(Event(), lambda _: None)):
            order.append(number)

    threads = [Thread(target=turn, args=(number,)) for number in range(5)]
    with Workspace(tmp_path).exclusive():
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while (
                len([t for t in line.glob("*") if not t.name.startswith(".")] if line.exists() else [])
                < number
            ):
                Event().wait(0.01)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    assert list(line.iterdir()) == []


def test_one_that_was_killed_while_it_waited_holds_nobody_up(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cali_infra.core import turns\n"
        "with turns.in_line(Path(sys.argv[1])): print('there', flush=True); sys.stdin.read()"
    )
    lock = Workspace(tmp_path / "ws").path / "cali.lock"
    Workspace(tmp_path / "ws").create()
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as waits:
        assert waits.stdout is not None
        assert waits.stdout.readline() == b"there\n"
        early = Turns()
        with pytest.raises(PreconditionError):
            Workspace(tmp_path / "ws").exclusive(early.waiting).__enter__()
        waits.kill()
        waits.wait()
        late = Turns()
        with Workspace(tmp_path / "ws").exclusive(late.waiting):
            assert late.seconds == 0
    assert list(lock.with_name("cali.lock.line").iterdir()) == []


def test_a_folder_that_cannot_be_locked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(PreconditionError, match="No locks available"):
        Workspace(tmp_path).exclusive().__enter__()
