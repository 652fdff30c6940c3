"""Private files: never readable by others, never half written, never written over by `write_new`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cali_infra import files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _a_careless_umask() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def test_a_private_file_and_its_new_folders_are_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    files.write_private(path, b"secret")
    assert path.read_bytes() == b"secret"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700


def test_an_open_file_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o666)
    files.write_private(path, b"new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    (path / "kept").touch()
    with pytest.raises(OSError, match="irectory"):
        files.write_private(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert (path / "kept").exists()


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o600), (0o600, 0o600), (0o400, 0o400)])
def test_a_replaced_file_keeps_what_is_stricter(tmp_path: Path, before: int, after: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(before)
    files.replace_private(path, b"new")
    assert (path.read_text(), mode(path)) == ("new", after)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_tightened(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(0o755)
    assert files.private_folder(folder) == folder
    assert mode(folder) == 0o700


def test_write_new_never_writes_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_new(path, b"first", 0o644)
    with pytest.raises(FileExistsError):
        files.write_new(path, b"second")
    assert (path.read_bytes(), mode(path)) == (b"first", 0o644)
    assert list(tmp_path.iterdir()) == [path]
