"""The workspace: private, up to date with the stacks, and nobody else's."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cali_infra.core.workspace import BACKEND, Owner, Workspace
from cali_infra.errors import PreconditionError, WrongTargetError

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
