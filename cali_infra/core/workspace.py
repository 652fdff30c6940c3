"""The workspace of one environment: `.cali/ENV/`, private, git-ignored, and where its files stand.

It owns the copies of the stacks, the backend files, the folder for plans, the record of which account the
workspace belongs to, and the lock that keeps two runs out of one folder. What is written into a stack's
variables is `tfvars`' business.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cali_infra import files
from cali_infra.core import turns
from cali_infra.core.turns import Waiting
from cali_infra.errors import OperationError, PreconditionError, WrongTargetError

VARIABLES = "terraform.tfvars.json"
BACKEND = "cali_backend.tf.json"
# Seconds between two looks at a lock that another process of this machine has.
_POLL = 0.3


@dataclass(frozen=True)
class Owner:
    """The account, region and realm that a workspace was first applied to."""

    account: str
    region: str
    realm: str


class Workspace:
    """The folder `.cali/ENV/`; making the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stack(self, name: str) -> Path:
        """The folder in which plain `terraform plan` works for this stack."""
        return self.path / "terraform" / name

    @property
    def manifests(self) -> Path:
        """Where manifests are rendered."""
        return self.path / "k8s"

    @property
    def handover(self) -> Path:
        """Passwords of teammates' own, until somebody has handed them over."""
        return self.path / "handover"

    @property
    def diagnostics(self) -> Path:
        """What the pods of a release that failed said, before Helm took them away."""
        return self.path / "diagnostics"

    @property
    def plans(self) -> Path:
        """Where plan files live for as long as they are needed."""
        return self.path / "plans"

    @property
    def log(self) -> Path:
        """The debug log of the run at hand."""
        return self.path / "logs" / "cali.log"

    @property
    def plugin_cache(self) -> Path:
        """Terraform's plugin cache, shared by the stacks of this workspace."""
        return self.path / "plugins"

    def stacks(self) -> tuple[str, ...]:
        """The stacks that have a folder here."""
        root = self.path / "terraform"
        return tuple(sorted(entry.name for entry in root.iterdir())) if root.is_dir() else ()

    def create(self) -> None:
        """Make the private folders; harmless when they are there."""
        for folder in (self.path.parent, self.path, self.plans, self.log.parent, self.plugin_cache):
            files.private_folder(folder)

    def copy_stack(self, name: str, source: Path, backend: Mapping[str, object]) -> Path:
        """Bring the stack's copy up to date with `source` and render its backend file; returns the copy."""
        folder = self.stack(name)
        files.private_folder(folder.parent)
        files.private_folder(folder)
        wanted = {
            entry.relative_to(source): entry.read_bytes()
            for entry in source.rglob("*")
            if entry.is_file() and not any(part.startswith(".terraform") for part in entry.parts)
        }
        wanted[Path(BACKEND)] = (json.dumps({"terraform": {"backend": backend}}, indent=2) + "\n").encode()
        for relative, content in wanted.items():
            files.write_private(folder / relative, content)
        # Beside the stack's files lie Terraform's; a folder of the stack's holds nothing else.
        theirs = {relative.parts[0] for relative in wanted if len(relative.parts) > 1}
        copies = [
            *(entry for entry in folder.iterdir() if entry.name.endswith((".tf", ".tf.json"))),
            *(entry for name in theirs for entry in (folder / name).rglob("*")),
        ]
        for entry in copies:
            if entry.is_file() and entry.relative_to(folder) not in wanted:
                entry.unlink()
        return folder

    def remove_stack(self, name: str) -> None:
        """Remove a stack's copy with its variables and local state: only after it was destroyed."""
        _remove(self.stack(name))

    def remove(self) -> None:
        """Remove the whole workspace: only after everything in it was destroyed."""
        _remove(self.path)

    def owner(self) -> Owner | None:
        """Whom the workspace belongs to, or None before its first apply."""
        try:
            return Owner(**json.loads((self.path / "workspace.json").read_text()))
        except FileNotFoundError:
            return None

    def claim(self, owner: Owner) -> None:
        """Record whom the workspace belongs to, at its first apply."""
        if self.owner() is None:
            content = json.dumps(asdict(owner), indent=2) + "\n"
            files.write_private(self.path / "workspace.json", content.encode())

    def check_owner(self, caller: Owner) -> None:
        """Compare the record with the caller, before anything is refreshed.

        Raises WrongTargetError when account, region or realm differ.
        """
        owner = self.owner()
        if owner is None or owner == caller:
            return
        differences = [
            f"{key} is {getattr(caller, key)}, the workspace's is {getattr(owner, key)}"
            for key in ("account", "region", "realm")
            if getattr(caller, key) != getattr(owner, key)
        ]
        raise WrongTargetError(
            f"{self.path} was applied elsewhere: {'; '.join(differences)}",
            remedy="use the credentials and the region that it was made with, or another --env",
        )

    @contextmanager
    def exclusive(self, waiting: Waiting | None = None) -> Iterator[None]:
        """Keep other runs of cali out of this workspace for as long as the block lasts.

        Another run in it is waited for as `waiting` says, those who came first going first; without it there is
        no wait. Raises PreconditionError, naming the process, when the other run is still in it, and
        RunInterruptedError when the wait is cancelled.
        """
        self.create()
        lock = turns.FileLock(self.path / "cali.lock")

        def busy(front: turns.InFront) -> PreconditionError:
            return PreconditionError(
                f"{front.who} is working in {self.path}",
                remedy="wait until it has ended, then run the command again",
            )

        try:
            if waiting is None:
                if not lock.take():
                    raise busy(self._occupant(lock))
            else:
                self._wait(lock, waiting, busy)
                # The one before may have removed the workspace, as `down` does.
                self.create()
            lock.write(str(os.getpid()).encode())
            yield
        finally:
            lock.close()

    def _wait(
        self, lock: turns.FileLock, waiting: Waiting, late: Callable[[turns.InFront], PreconditionError]
    ) -> None:
        with turns.in_line(lock.path) as first:

            def attempt() -> turns.InFront | None:
                return None if first() and lock.take() else self._occupant(lock)

            turns.take_turn(attempt, waiting, what=str(self.path), every=_POLL, late=late)

    def _occupant(self, lock: turns.FileLock) -> turns.InFront:
        process = lock.read().decode(errors="replace").strip() or "unknown"
        return turns.InFront(process, f"another cali (process {process})")


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperationError(
            f"{folder} cannot be removed: {error}",
            remedy="remove it by hand: it holds states and variables, and so passwords",
        ) from error
