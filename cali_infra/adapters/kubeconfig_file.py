"""A user's kubeconfig as a file: which one kubectl writes, its lock, its backup, and its replacement at once.

kubectl locks a kubeconfig by a file beside it that it makes with O_EXCL, and gives up when there is one; so does
whoever else builds on client-go. What is in the text is `kubeconfig_text.py`'s. Source of both rules: client-go,
tools/clientcmd, `PathOptions.GetDefaultFilename` and `lockFile`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cali_infra import files
from cali_infra.adapters.kubeconfig_text import Kubeconfig
from cali_infra.errors import InvalidKubeconfigError, KubeconfigError, UsageError

# kubectl holds the lock for milliseconds; this long somebody waits before a lock that was left behind is told.
_PATIENCE = 10.0
_PAUSE = 0.05


def default_files(environ: Mapping[str, str]) -> tuple[Path, tuple[Path, ...]]:
    """The kubeconfig that kubectl writes new entries to, and the others that it reads, in its order.

    Of several in KUBECONFIG it is the first that is there, else the last. Raises UsageError where neither
    KUBECONFIG nor HOME is set.
    """
    named = [Path(name) for name in environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    paths = list(dict.fromkeys(path.absolute() for path in named))
    if not paths:
        if not environ.get("HOME"):
            raise UsageError(
                "HOME is not set, so there is no place for a kubeconfig",
                remedy="name the file: cali --kubeconfig FILE kubeconfig",
            )
        return Path(environ["HOME"]).absolute() / ".kube" / "config", ()
    chosen = next((path for path in paths if path.exists()), paths[-1])
    return chosen, tuple(path for path in paths if path != chosen)


@dataclass(frozen=True)
class Change:
    """What became of a file: its content now, its copy from before (None: nothing was written, or there was no
    file), and its mode from before where others could read or write it.
    """

    config: Kubeconfig
    changed: bool
    backup: Path | None
    open_mode: int | None


@dataclass(frozen=True)
class KubeconfigFile:
    """One kubeconfig. A symbolic link stays one: the file that it leads to is replaced, and both are locked.

    `patience` is for how many seconds another's lock is waited for.
    """

    path: Path
    patience: float = _PATIENCE
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def at(self, path: Path) -> KubeconfigFile:
        """Another file, dealt with in the same way."""
        return KubeconfigFile(path, self.patience, self.clock, self.sleep, self.now)

    def read(self) -> Kubeconfig:
        """What is in the file; nothing where there is none. Raises InvalidKubeconfigError and KubeconfigError."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return Kubeconfig.parse("", str(self.path))
        except OSError as error:
            raise self._failed("cannot be read", error) from error
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise InvalidKubeconfigError(str(self.path), line, "this is no text in UTF-8") from error
        return Kubeconfig.parse(text, str(self.path))

    def change(self, change: Callable[[Kubeconfig], Kubeconfig]) -> Change:
        """Put what `change` makes of the content in its place, at once and under the lock.

        Without a difference nothing is written; else a copy of what was there is kept beside the file, mode 0600.
        A new file has mode 0600, one that is there keeps what is stricter. Raises KubeconfigError when the lock
        stays taken, the file is another user's, or reading or writing fails; the file is as it was then.
        """
        real = Path(os.path.realpath(self.path))
        try:
            with self._locked(real):
                return self._changed(real, change)
        except OSError as error:
            raise self._failed("cannot be written", error) from error

    def _changed(self, real: Path, change: Callable[[Kubeconfig], Kubeconfig]) -> Change:
        before = self.read()
        after = change(before)
        exists = real.exists()
        mode = stat.S_IMODE(real.stat().st_mode) if exists else 0
        open_mode = mode if mode & 0o077 else None
        if after.text == before.text:
            return Change(after, False, None, open_mode)
        if not exists:
            files.write_private(real, after.text.encode())
            return Change(after, True, None, None)
        content = real.read_bytes()
        if content != before.text.encode():
            # The AWS CLI, for one, takes no lock.
            raise KubeconfigError(
                f"{self.path} was changed by another program just now", remedy="run the command again"
            )
        backup = self._back_up(content)
        files.replace_private(real, after.text.encode())
        return Change(after, True, backup, open_mode)

    def _back_up(self, content: bytes) -> Path:
        """Keep the content beside the path that people know, which may be a link to somewhere else."""
        name = f"{self.path.name}.cali-backup-{self.now():%Y%m%dT%H%M%SZ}"
        path, number = self.path.with_name(name), 1
        while True:
            try:
                files.write_new(path, content)
                return path
            except FileExistsError:
                number += 1
                path = self.path.with_name(f"{name}-{number}")

    @contextmanager
    def _locked(self, real: Path) -> Iterator[None]:
        # kubectl locks the name that it was given; whoever uses the file by its own name locks that one.
        locks = sorted({Path(f"{path}.lock") for path in (self.path, real)})
        until = self.clock() + self.patience
        with ExitStack() as held:
            for lock in locks:
                if not lock.parent.is_dir():
                    files.private_folder(lock.parent)
                self._take(lock, until)
                held.callback(lock.unlink, missing_ok=True)
            yield

    def _take(self, lock: Path, until: float) -> None:
        while True:
            try:
                os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, files.PRIVATE_FILE))
                return
            except FileExistsError:
                if self.clock() >= until:
                    raise KubeconfigError(
                        f"{self.path} is locked by another program: {lock} is there for more than "
                        f"{self.patience:.0f} seconds",
                        remedy="wait for the other program; if none changes the file (one that was killed leaves "
                        f"its lock), remove the lock: rm {lock}",
                    ) from None
            self.sleep(_PAUSE)

    def _failed(self, what: str, error: OSError) -> KubeconfigError:
        return KubeconfigError(
            f"{self.path} {what}: {error.strerror or error}",
            remedy="check owner and mode of the file and of its folder, and the space on the disk, or name another "
            "file: cali --kubeconfig FILE kubeconfig",
        )
