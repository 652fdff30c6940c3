"""The one door to Terraform: every terraform process of cali goes through `Terraform`.

It owns the arguments, the child's environment, the plugin cache and the kept log; the process itself is
`terraform_process.py`'s, the typed events `terraform_events.py`'s, the typed errors `terraform_errors.py`'s.
Arguments carry flags and paths only: values reach Terraform by the 0600 variable file in the stack's folder.

The binary may be OpenTofu's, by its name: only flags that both have are used. That is untried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cali_infra.adapters.terraform_events import (
    Event,
)
from cali_infra.adapters.terraform_state import StateSnapshot
from cali_infra.core.plans import ResourceChange
from cali_infra.errors import Diagnostic

Watch = Callable[[Event], None]

MINIMUM = (1, 11)
MINIMUM_TOFU = (1, 10)

# A look that starts no plugin, in seconds.
_QUICK = 120.0
# Downloading the AWS provider (700 MB unpacked) over a slow line, in seconds.
_INIT = 1800.0


def _look_away(event: Event) -> None:
    """The watcher of who does not watch."""


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class PlanOutcome:
    """What a plan would do. Data sources that would be read and resources left alone are not in it.

    `bookkeeping` says what would change in the state alone (a move, an import, a resource that is forgotten);
    `add`, `change` and `destroy` are Terraform's own counts, `warnings` its warnings.
    """

    changes: tuple[ResourceChange, ...] = ()
    outputs_changed: bool = False
    bookkeeping: tuple[str, ...] = ()
    add: int = 0
    change: int = 0
    destroy: int = 0
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def empty(self) -> bool:
        """Applying it would write nothing."""
        return not (self.changes or self.outputs_changed or self.bookkeeping)


@dataclass(frozen=True)
class ApplyOutcome:
    """What an apply did, in Terraform's own counts."""

    add: int = 0
    change: int = 0
    destroy: int = 0
    warnings: tuple[Diagnostic, ...] = ()


class Terraform:
    """Terraform in folders that hold a root module each; safe to use from several threads.

    `environ` is the whole environment of the children (`os.environ` is never read); `log` the file to which
    every line is appended, redacted; `redact` takes secrets out of a text. `plugin_cache` is a private folder
    for providers, shared between stacks: `TF_PLUGIN_CACHE_DIR` in `environ` wins over it. `lock_timeout` is
    how long to wait for a held state lock, in seconds.
    """

    def __init__(
        self,
        binary: str,
        *,
        environ: Mapping[str, str],
        log: Path | None = None,
        redact: Callable[[str], str] = _as_it_is,
        plugin_cache: Path | None = None,
        lock_timeout: float = 0.0,
    ) -> None:
        self._binary = binary
        self._log = log
        self._redact = redact
        chosen = environ.get("TF_PLUGIN_CACHE_DIR")
        self._cache = Path(chosen) if chosen else plugin_cache
        self._environ = child_environment(environ, self._cache)
        self._lock_timeout = f"{lock_timeout:g}s"
        self._init_lock = threading.Lock()
        self._version_lock = threading.Lock()
        self._version: str | None = None

    def version(self) -> str:
        """The version of the binary, asked once.

        Raises PreconditionError when it is missing or older than 1.11 (OpenTofu: 1.10).
        """
        with self._version_lock:
            if self._version is None:
                self._version = self._ask_version()
            return self._version

    def needs_init(self, folder: Path) -> bool:
        """Whether `init` has anything to do here: no process, a few file reads."""
        raise NotImplementedError

    def init(self, folder: Path, *, watch: Watch = _look_away, cancel: threading.Event | None = None) -> None:
        """Get the folder ready; one at a time among threads and processes that share the plugin cache.

        Raises ProviderMissingError, InvalidConfigurationError, TerraformError; PreconditionError when the
        backend is not the one that the folder's state is in.
        """
        raise NotImplementedError

    def validate(self, folder: Path) -> tuple[Diagnostic, ...]:
        """Check the configuration without asking AWS; returns the warnings.

        Raises InvalidConfigurationError with every mistake.
        """
        raise NotImplementedError

    def plan(
        self,
        folder: Path,
        *,
        out: Path,
        destroy: bool = False,
        targets: Sequence[str] = (),
        lock: bool = True,
        refresh: bool = True,
        watch: Watch = _look_away,
        cancel: threading.Event | None = None,
    ) -> PlanOutcome:
        """Plan into the file `out`, which holds every secret in clear: 0600, in a 0700 folder of the caller's.

        Raises TerraformError and its kinds; InterruptedError_ after `cancel`.
        """
        raise NotImplementedError

    def apply(
        self,
        folder: Path,
        plan: Path,
        *,
        watch: Watch = _look_away,
        cancel: threading.Event | None = None,
    ) -> ApplyOutcome:
        """Do exactly what the plan file says.

        Raises StalePlanError when the state has moved on, other kinds of TerraformError, and InterruptedError_
        after `cancel`, when the lock is released and the state written.
        """
        raise NotImplementedError

    def state(self, folder: Path) -> StateSnapshot:
        """The state as it is now, local or remote; starts no plugin. The folder must be initialised."""
        raise NotImplementedError

    def untaint(self, folder: Path, address: str) -> None:
        """Take the mark off a resource that was looked at and found whole."""
        raise NotImplementedError

    def import_(
        self,
        folder: Path,
        address: str,
        id: str,
        *,
        watch: Watch = _look_away,
        cancel: threading.Event | None = None,
    ) -> None:
        """Put a resource that exists under management at `address`."""
        raise NotImplementedError

    def _ask_version(self) -> str:
        raise NotImplementedError


def child_environment(environ: Mapping[str, str], cache: Path | None) -> dict[str, str]:
    raise NotImplementedError
