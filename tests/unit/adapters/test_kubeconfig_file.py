"""A kubeconfig as a file: which one, its lock, its backup, and what is left when something goes wrong."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import cali_infra
from cali_infra import files
from cali_infra.adapters.kubeconfig_file import Change, KubeconfigFile, default_files
from cali_infra.adapters.kubeconfig_text import Kubeconfig
from cali_infra.errors import InvalidKubeconfigError, KubeconfigError, RefusedError, UsageError
from tests.unit.conftest import Clock

TEXT = "# mine\nkind: Config\ncurrent-context: home\nusers:\n- name: me\n  user: {token: Sentinel}\n"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
BACKUP = "config.cali-backup-20261125T120000Z"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def switch_to(name: str) -> Callable[[Kubeconfig], Kubeconfig]:
    return lambda config: config.put({}, name) if config.current != name else config


@pytest.fixture(autouse=True)
def _a_careless_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A kubeconfig in a folder of its own."""
    path = tmp_path / "kube" / "config"
    path.parent.mkdir()
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def change(path: Path, name: str = "new", clock: Clock | None = None) -> Change:
    clock = clock or Clock()
    file = KubeconfigFile(path, clock=clock, sleep=clock.sleep, now=lambda: NOON)
    return file.change(switch_to(name))


# -- which file ---------------------------------------------------------------------------------------------


def test_kubectl_s_own_choice_of_the_file(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    home = {"HOME": str(tmp_path)}
    default = tmp_path / ".kube" / "config"
    assert default_files(home) == (default, ())
    assert default_files({**home, "KUBECONFIG": ""}) == (default, ())
    assert default_files({**home, "KUBECONFIG": os.pathsep}) == (default, ())
    assert default_files({"KUBECONFIG": str(one)}) == (one, ())
    several = {"KUBECONFIG": os.pathsep.join(map(str, (one, "", two, one, three)))}
    # None is there: the last one.
    assert default_files(several) == (three, (one, two))
    two.touch()
    assert default_files(several) == (two, (one, three))
    one.touch()
    assert default_files(several) == (one, (two, three))


def test_kubectl_itself_chooses_the_same(tmp_path: Path) -> None:
    """Against the real program, where it is there: it is what the rule was read from."""
    for there in ([], ["two"], ["one", "two"]):
        folder = tmp_path / f"{len(there)}"
        folder.mkdir()
        for name in there:
            (folder / name).write_text("kind: Config\n")
        environ = {"KUBECONFIG": os.pathsep.join(str(folder / name) for name in ("one", "two", "three"))}
        chosen, _ = default_files(environ)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        try:
            subprocess.run(
                ["kubectl", "config", "set-cluster", "a", "--server", "https://a"],
                env={**os.environ, **environ},
                check=True,
                capture_output=True,
                timeout=60,
            )
        except FileNotFoundError:
            pytest.skip("kubectl is not installed")
        changed = [path for path in folder.iterdir() if before.get(path.name) != path.read_bytes()]
        assert changed == [chosen]


def test_without_a_home_nothing_is_guessed() -> None:
    with pytest.raises(UsageError, match="HOME is not set") as caught:
        default_files({})
    assert "--kubeconfig FILE" in caught.value.remedy


# -- a change -----------------------------------------------------------------------------------------------


def test_a_new_file_and_its_folder_are_private(tmp_path: Path) -> None:
    path = tmp_path / ".kube" / "config"
    done = change(path)
    assert (done.changed, done.backup, done.open_mode) == (True, None, None)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert path.read_text() == "apiVersion: v1\nkind: Config\ncurrent-context: new\n"
    assert names(path.parent) == ["config"]


def test_a_change_keeps_a_copy(path: Path) -> None:
    path.parent.chmod(0o755)
    done = change(path)
    assert done.changed
    assert path.read_text() == TEXT.replace("home", "new")
    assert done.backup == path.with_name(BACKUP)
    assert (done.backup.read_text(), mode(done.backup)) == (TEXT, 0o600)
    assert change(path, "newer").backup == path.with_name(f"{BACKUP}-2")
    assert names(path.parent) == ["config", BACKUP, f"{BACKUP}-2"]
    # It is not our folder.
    assert mode(path.parent) == 0o755


def test_without_a_difference_nothing_is_written(path: Path) -> None:
    before = path.stat()
    done = change(path, "home")
    assert (done.changed, done.backup) == (False, None)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert names(path.parent) == ["config"]


@pytest.mark.parametrize(("before", "after", "told"), [(0o400, 0o400, None), (0o644, 0o600, 0o644)])
def test_a_stricter_mode_stays_and_an_open_one_is_told(
    path: Path, before: int, after: int, told: int | None
) -> None:
    path.chmod(before)
    done = change(path)
    assert (mode(path), done.open_mode) == (after, told)
    assert done.backup is not None
    assert mode(done.backup) == 0o600


def test_an_open_file_that_is_not_changed_is_told_and_left(path: Path) -> None:
    path.chmod(0o640)
    assert change(path, "home").open_mode == 0o640
    assert mode(path) == 0o640


def test_a_link_stays_and_what_it_leads_to_is_replaced(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "home" / "config"
    link.parent.mkdir()
    link.symlink_to(Path("../kube/config"))
    locks: list[list[str]] = []

    def look(config: Kubeconfig) -> Kubeconfig:
        locks.append(names(path.parent) + names(link.parent))
        return config.put({}, "new")

    done = KubeconfigFile(link, now=lambda: NOON).change(look)
    assert link.is_symlink()
    assert path.read_text() == TEXT.replace("home", "new")
    assert not path.is_symlink()
    # kubectl locks whichever name it is given.
    assert locks == [["config", "config.lock", "config", "config.lock"]]
    # Beside the name that people know: the target may be in a repository.
    assert done.backup == link.with_name(BACKUP)
    assert names(path.parent) == ["config"]
    assert names(link.parent) == ["config", BACKUP]


def test_a_link_to_nothing_yet_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "config"
    link.symlink_to("dotfiles/kube")
    change(link)
    assert link.is_symlink()
    assert mode(tmp_path / "dotfiles" / "kube") == 0o600
    assert mode(tmp_path / "dotfiles") == 0o700


# -- the lock -----------------------------------------------------------------------------------------------


def test_another_s_lock_is_waited_for(path: Path, clock: Clock) -> None:
    lock = path.with_name("config.lock")
    lock.touch()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.seconds > 2:
            lock.unlink(missing_ok=True)

    assert KubeconfigFile(path, clock=clock, sleep=sleep).change(switch_to("new")).changed
    assert 2 < clock.seconds < 3
    assert not lock.exists()


def test_a_lock_that_stays_is_told_and_left(path: Path, clock: Clock) -> None:
    lock = path.with_name("config.lock")
    lock.touch()
    with pytest.raises(KubeconfigError, match=r"config\.lock is there for more than 10 seconds") as caught:
        change(path, clock=clock)
    assert f"rm {lock}" in caught.value.remedy
    assert 10 <= clock.seconds < 11
    assert path.read_text() == TEXT
    assert names(path.parent) == ["config", "config.lock"]


def test_kubectl_keeps_out_while_the_lock_is_held(path: Path) -> None:
    """The real program, where it is there, refuses to write then."""

    def look(config: Kubeconfig) -> Kubeconfig:
        try:
            done = subprocess.run(
                ["kubectl", "--kubeconfig", str(path), "config", "set-cluster", "a", "--server", "https://a"],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        except FileNotFoundError:
            pytest.skip("kubectl is not installed")
        assert done.returncode != 0
        assert "config.lock" in done.stderr
        return config.put({}, "new")

    KubeconfigFile(path).change(look)
    assert path.read_text() == TEXT.replace("home", "new")


MERGE = """
import sys
from pathlib import Path
from cali_infra.adapters.kubeconfig_file import KubeconfigFile
print(flush=True)
sys.stdin.readline()
for number in range(5):
    name = f"{sys.argv[2]}-{number}"
    KubeconfigFile(Path(sys.argv[1]), patience=60).change(
        lambda config: config.put({"contexts": (name, {"cluster": name})}, name)
    )
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(cali_infra.__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_that_merge_at_once_lose_nothing(path: Path) -> None:
    processes = [python(MERGE, str(path), f"p{number}") for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outcomes
    found = KubeconfigFile(path).read()
    assert {entry["name"] for entry in found.data["contexts"]} == {
        f"p{process}-{number}" for process in range(4) for number in range(5)
    }
    assert found.body("users", "me") == {"token": "Sentinel"}
    assert not [name for name in names(path.parent) if name.endswith((".lock", ".tmp"))]
    backups = [name for name in names(path.parent) if "backup" in name]
    assert len(backups) == 20


def test_threads_that_merge_at_once_lose_nothing(path: Path) -> None:
    def merge(name: str) -> None:
        KubeconfigFile(path, patience=60).change(lambda config: config.put({"users": (name, {})}))

    threads = [threading.Thread(target=merge, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    users = {entry["name"] for entry in KubeconfigFile(path).read().data["users"]}
    assert users == {"me", *(f"t{number}" for number in range(8))}


# -- when something goes wrong ------------------------------------------------------------------------------


def test_a_refusal_leaves_everything_and_no_lock(path: Path) -> None:
    def refuse(config: Kubeconfig) -> Kubeconfig:
        raise RefusedError("no")

    with pytest.raises(RefusedError):
        KubeconfigFile(path).change(refuse)
    assert path.read_text() == TEXT
    assert names(path.parent) == ["config"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_end_between_the_new_file_and_its_name_leaves_the_old_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(self: Path, target: Path) -> Path:
        assert self.read_text() == TEXT.replace("home", "new")
        raise error

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((KubeconfigError, KeyboardInterrupt)) as caught:
        change(path)
    if isinstance(caught.value, KubeconfigError):
        assert "No space left on device" in caught.value.message
    assert path.read_text() == TEXT
    # The copy was made before; it is no harm.
    assert names(path.parent) == ["config", BACKUP]


KILLED = """
import os, signal, sys
from pathlib import Path
from cali_infra.adapters.kubeconfig_file import KubeconfigFile
Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
KubeconfigFile(Path(sys.argv[1])).change(lambda config: config.put({}, "new"))
"""


def test_a_killed_process_leaves_the_old_file_and_a_lock_that_is_explained(path: Path, clock: Clock) -> None:
    process = python(KILLED, str(path))
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert path.read_text() == TEXT
    with pytest.raises(KubeconfigError, match="is locked") as caught:
        change(path, clock=clock)
    lock = Path(caught.value.remedy.rpartition(" ")[2])
    lock.unlink()
    assert change(path).changed


def test_a_file_that_others_change_without_the_lock_is_not_written_over(path: Path) -> None:
    def meanwhile(config: Kubeconfig) -> Kubeconfig:
        path.write_text(TEXT + "# by the AWS CLI\n")
        return config.put({}, "new")

    with pytest.raises(KubeconfigError, match="changed by another program"):
        KubeconfigFile(path).change(meanwhile)
    assert path.read_text() == TEXT + "# by the AWS CLI\n"
    assert names(path.parent) == ["config"]


def test_what_is_no_kubeconfig_is_left(path: Path) -> None:
    path.write_text("kind: Config\nusers: {\n")
    with pytest.raises(InvalidKubeconfigError, match=rf"{path}, line"):
        change(path)
    assert path.read_text() == "kind: Config\nusers: {\n"
    path.write_bytes("kind: Config\n# größer\n".encode("latin-1"))
    with pytest.raises(InvalidKubeconfigError, match="line 2: this is no text in UTF-8"):
        change(path)
    assert names(path.parent) == ["config"]


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="Is a directory"):
        change(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(KubeconfigError, match=r"(Not a directory|File exists)"):
        change(tmp_path / "file" / "config")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_told(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        with pytest.raises(KubeconfigError, match="Permission denied") as caught:
            change(path)
    finally:
        path.parent.chmod(0o700)
    assert "owner and mode" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_leaves_the_file_to_its_owner(path: Path) -> None:
    os.chown(path, 12345, 12345)
    change(path)
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (12345, 12345, 0o600)


def test_a_file_of_another_s_is_not_taken_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    class Another:
        st_mode, st_uid, st_gid = 0o100600, 4242, 4242

    real = Path.stat
    monkeypatch.setattr(os, "chown", denied)
    monkeypatch.setattr(Path, "stat", lambda self, **k: Another() if self == path else real(self, **k))
    with pytest.raises(PermissionError):
        files.replace_private(path, b"new")
    monkeypatch.undo()
    assert path.read_text() == TEXT
    assert names(path.parent) == ["config"]
