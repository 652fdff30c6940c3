"""The one door to Terraform: every terraform process of cali goes through `Terraform`.

It owns the arguments, the child's environment, the plugin cache and the kept log; the process itself is
`terraform_process.py`'s, the typed events `terraform_events.py`'s, the typed errors `terraform_errors.py`'s.
Arguments carry flags and paths only: values reach Terraform by the 0600 variable file in the stack's folder.

The binary may be OpenTofu's, by its name: only flags that both have are used. That is untried.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from python_terraform import IsFlagged
from python_terraform import Terraform as CommandBuilder

from cali_infra import files
from cali_infra.adapters import terraform_errors, terraform_plan, terraform_process, terraform_state
from cali_infra.adapters.terraform_events import (
    ChangeSummary,
    DiagnosticEvent,
    Event,
    Interrupting,
    Outputs,
    PlannedChange,
    decode,
    diagnostic,
)
from cali_infra.adapters.terraform_state import StateSnapshot
from cali_infra.errors import CaliError, Diagnostic, PreconditionError, RunInterruptedError
from cali_infra.plans import Action, ResourceChange

Watch = Callable[[Event], None]
Log = Callable[[str], None]

# python-terraform's mark for a flag without a value.
_FLAG = IsFlagged

MINIMUM = (1, 11)
MINIMUM_TOFU = (1, 10)

# A look that starts no plugin, in seconds.
_QUICK = 120.0
# Downloading the AWS provider (700 MB unpacked) over a slow line, in seconds.
_INIT = 1800.0
_ACTIONS = {
    "create": Action.CREATE,
    "update": Action.UPDATE,
    "replace": Action.REPLACE,
    "delete": Action.DELETE,
}
_LOCK_FILE = ".terraform.lock.hcl"
# Data sources that are read, and resources that stay as they are.
_NOTHING = frozenset({"read", "noop", "no-op"})
# Why Terraform replaces or deletes something, in words for a person; other reasons explain nothing.
_REASONS = {
    "tainted": "it is tainted",
    "cannot_update": "it cannot be changed in place",
    "requested": "it was asked for",
    "replace_triggered_by": "something that it hangs on changes",
    "delete_because_no_resource_config": "it is no longer in the configuration",
    "delete_because_no_module": "it is no longer in the configuration",
    "delete_because_each_key": "its key is no longer in the configuration",
    "delete_because_count_index": "its index is no longer in the configuration",
}
_BOOKKEEPING = {
    "move": "{address}: moved from {previous}",
    "import": "{address}: imported",
    "remove": "{address}: forgotten, and left as it is in AWS",
}
_TARGETING = "Resource targeting is in effect"
_INTERRUPTED = "interrupted: waiting for Terraform to finish what is in flight and to write its state"
_NO_SURROUNDINGS: Mapping[str, str] = MappingProxyType({})
# How often a wait for another init looks at the cancel event, in seconds.
_TICK = 0.1


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


class _Arguments(CommandBuilder):  # type: ignore[misc]
    """python-terraform's builder of argument lists, and nothing else of it.

    Its constructor would read the state file of the current folder, with every secret in it. A mapping among
    the options would become a readable file with values in it: hand in flags, strings and lists only.
    """

    def read_state_file(self, file_path: str | None = None) -> None: ...


class Terraform:
    """Terraform in folders that hold a root module each; safe to use from several threads.

    `binary` is a name that is looked for in PATH, or a path. `environ` is the whole environment of the
    children (`os.environ` is never read); `log` the file to which every line is appended, redacted; `redact`
    takes secrets out of a text. `plugin_cache` is a private folder for providers, shared between stacks:
    `TF_PLUGIN_CACHE_DIR` in `environ` wins over it. `lock_timeout` is how long to wait for a held state lock,
    in seconds; `run` starts the processes. Making the object touches nothing.
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
        run: terraform_process.Runner = terraform_process.run,
    ) -> None:
        # The children run in other folders, where a relative path would lead elsewhere.
        self._binary = str(Path(binary).expanduser().absolute()) if os.sep in binary else binary
        self._builder = _Arguments(terraform_bin_path=self._binary)
        self._log = log
        self._redact = redact
        chosen = environ.get("TF_PLUGIN_CACHE_DIR")
        cache = Path(chosen).expanduser() if chosen else plugin_cache
        self._cache = cache and cache.absolute()
        self._cache_is_ours = not chosen
        self._environ = child_environment(environ)
        self._reattached = _reattached(environ)
        self._lock_timeout = f"{lock_timeout:g}s"
        self._start = run
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
        return _initialised(folder) != self._wanted(folder) or not _providers_there(folder)

    def init(self, folder: Path, *, watch: Watch = _look_away, cancel: threading.Event | None = None) -> None:
        """Get the folder ready; one at a time among threads and processes that share the plugin cache.

        A backend that has changed is taken over where nothing was applied yet. Raises PreconditionError where
        a state would be left behind, ProviderMissingError, InvalidConfigurationError, TerraformError;
        RunInterruptedError after `cancel`.
        """
        wanted = self._wanted(folder)
        options = {"no_color": _FLAG, "reconfigure": _FLAG if _nothing_to_lose(folder) else None}
        with self._one_at_a_time(cancel), self._shared_choice(folder):
            self._run(folder, "init", options, watch=watch, cancel=cancel, timeout=_INIT)
        files.write_private(_marker(folder), _encoded(asdict(wanted)))

    def validate(self, folder: Path) -> tuple[Diagnostic, ...]:
        """Check the configuration without asking AWS; returns the warnings.

        Raises InvalidConfigurationError with every mistake.
        """
        run = self._run(folder, "validate", {"json": _FLAG}, plain=True, check=False, timeout=_QUICK)
        try:
            raw = json.loads("\n".join(run.lines))
            found = tuple(diagnostic(item) for item in raw["diagnostics"])
        except (ValueError, KeyError, TypeError):
            raise self._failed(folder, "validate", run) from None
        if run.exit_code != 0:
            run.diagnostics.extend(found)
            raise self._failed(folder, "validate", run)
        return found

    def plan(
        self,
        folder: Path,
        *,
        out: Path,
        destroy: bool = False,
        targets: Sequence[str] = (),
        replace: Sequence[str] = (),
        lock: bool = True,
        refresh: bool = True,
        watch: Watch = _look_away,
        cancel: threading.Event | None = None,
    ) -> PlanOutcome:
        """Plan into the file `out`, which holds every secret in clear: 0600, in a private folder.

        With `targets` only these addresses and what they need are planned; `replace` makes these anew.
        Raises TerraformError and its kinds; RunInterruptedError after `cancel`; PreconditionError where an
        earlier run could not write its state.
        """
        changes: list[ResourceChange] = []
        bookkeeping: list[str] = []
        summary = ChangeSummary("plan", 0, 0, 0)
        outputs_changed = False

        def listen(event: Event) -> None:
            nonlocal summary, outputs_changed
            match event:
                case PlannedChange() if event.action in _ACTIONS:
                    why = (_REASONS[event.reason],) if event.reason in _REASONS else ()
                    changes.append(ResourceChange(event.address, _ACTIONS[event.action], why))
                case PlannedChange() if event.action not in _NOTHING:
                    words = _BOOKKEEPING.get(event.action, "{address}: " + event.action)
                    bookkeeping.append(words.format(address=event.address, previous=event.previous))
                case ChangeSummary():
                    summary = event
                case Outputs() if event.changed:
                    outputs_changed = True
                case _:
                    pass
            watch(event)

        options = {
            "json": _FLAG,
            "out": str(out.absolute()),
            "detailed_exitcode": _FLAG,
            "destroy": _FLAG if destroy else None,
            "refresh": None if refresh else False,
            "target": list(targets),
            "replace": list(replace),
            **self._lock_options(lock),
        }
        refuse_unsaved_state(folder)
        run = self._run(folder, "plan", options, watch=listen, cancel=cancel, good=(0, 2))
        return PlanOutcome(
            tuple(changes),
            outputs_changed,
            tuple(bookkeeping),
            summary.add,
            summary.change,
            summary.remove,
            # Whoever names targets knows that the rest is left out.
            tuple(one for one in run.warnings if not (targets and one.summary == _TARGETING)),
        )

    def apply(
        self,
        folder: Path,
        plan: Path,
        *,
        watch: Watch = _look_away,
        cancel: threading.Event | None = None,
    ) -> ApplyOutcome:
        """Do exactly what the plan file says.

        Raises StalePlanError when the state has moved on, other kinds of TerraformError, and
        RunInterruptedError after `cancel`, when the lock is released and the state written.
        """
        summary = ChangeSummary("apply", 0, 0, 0)

        def listen(event: Event) -> None:
            nonlocal summary
            if isinstance(event, ChangeSummary):
                summary = event
            watch(event)

        options = {"json": _FLAG, **self._lock_options(True)}
        refuse_unsaved_state(folder)
        run = self._run(folder, "apply", options, str(plan.absolute()), watch=listen, cancel=cancel)
        return ApplyOutcome(summary.add, summary.change, summary.remove, run.warnings)

    def undoes(self, folder: Path, plan: Path) -> Mapping[str, tuple[str, ...]]:
        """Which resources a saved plan would put back after somebody has changed them outside, by address, with the
        attributes (none: the resource is gone).

        Starts plugins, as a plan does. Raises TerraformError when the plan cannot be read.
        """
        options = {"json": _FLAG, "no_color": _FLAG}
        run = self._run(folder, "show", options, str(plan.absolute()), plain=True, timeout=_QUICK)
        return terraform_plan.undone("\n".join(run.lines))

    def state(self, folder: Path) -> StateSnapshot:
        """The state as it is now, local or remote; starts no plugin. The folder must be initialised.

        Raises TerraformError when it cannot be read, PreconditionError when it is kept elsewhere than the
        folder's backend file says.
        """
        wanted, initialised = _backend(folder), _initialised_backend(folder)
        if wanted is not None and initialised is not None and "local" in wanted and "local" in initialised:
            try:
                return terraform_state.parse(_local_state(folder, initialised).read_text())
            except FileNotFoundError:
                return StateSnapshot()
        command, options = "state pull", {"no_color": _FLAG}
        if wanted is None:
            run = self._run(folder, command, options, plain=True, timeout=_QUICK)
        else:
            # In a folder with nothing but the backend in it, for the providers of the real one would each be
            # hashed first: 0.6 s of CPU a stack with the AWS provider, against 0.08 s.
            bare = folder / ".terraform" / "cali-backend"
            files.write_private(bare / "backend.tf.json", _encoded({"terraform": {"backend": wanted}}))
            data = {"TF_DATA_DIR": str((folder / ".terraform").absolute())}
            run = self._run(
                bare, command, options, plain=True, timeout=_QUICK, surroundings=data, named=folder
            )
        return terraform_state.parse("\n".join(run.lines))

    def untaint(self, folder: Path, address: str) -> None:
        """Take the mark off a resource that was looked at and found whole."""
        options = {"no_color": _FLAG, **self._lock_options(True)}
        self._run(folder, "untaint", options, address, timeout=_QUICK)

    def import_(
        self,
        folder: Path,
        address: str,
        identifier: str,
        *,
        watch: Watch = _look_away,
        cancel: threading.Event | None = None,
    ) -> None:
        """Put what exists under management: `identifier` is the provider's name for it, no secret."""
        options = {"no_color": _FLAG, **self._lock_options(True)}
        self._run(folder, "import", options, address, identifier, watch=watch, cancel=cancel)

    def _ask_version(self) -> str:
        remedy = "install Terraform 1.11 or newer, or name the program in cali.yaml: terraform_binary"
        try:
            # What ends with another exit code says no version either.
            run = self._run(
                Path.cwd(), "version", {"json": _FLAG}, plain=True, bare=True, check=False, timeout=_QUICK
            )
            found = str(json.loads("\n".join(run.lines))["terraform_version"])
            number = tuple(int(part) for part in found.split("-")[0].split(".")[:2])
        except (FileNotFoundError, PermissionError):
            raise PreconditionError(f"{self._binary} is not installed", remedy=remedy) from None
        except (ValueError, KeyError, TypeError, OSError):
            raise PreconditionError(f"{self._binary} is not Terraform", remedy=remedy) from None
        minimum = MINIMUM_TOFU if "tofu" in Path(self._binary).name else MINIMUM
        if number < minimum:
            raise PreconditionError(
                f"{self._binary} is version {found}; cali needs {'.'.join(map(str, minimum))} or newer",
                remedy="install a newer one, or name another program in cali.yaml: terraform_binary",
            )
        return found

    def _lock_options(self, lock: bool) -> dict[str, Any]:
        return {"lock_timeout": self._lock_timeout} if lock else {"lock": False}

    def _wanted(self, folder: Path) -> _Initialised:
        return _Initialised(_configuration(folder), self._reattached, self.version())

    @contextmanager
    def _one_at_a_time(self, cancel: threading.Event | None) -> Iterator[None]:
        """Terraform's plugin cache is not safe for two inits at once."""
        if self._cache is None:
            yield
            return
        self._make_cache(self._cache)
        descriptor = os.open(self._cache / "init.lock", os.O_RDWR | os.O_CREAT, files.PRIVATE_FILE)
        try:
            # Each holder opens the file anew, so the lock keeps threads apart as well as processes.
            while not _locked(descriptor):
                if cancel is None:
                    time.sleep(_TICK)
                elif cancel.wait(_TICK):
                    raise RunInterruptedError("interrupted while waiting for another terraform init")
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _shared_choice(self, folder: Path) -> Iterator[None]:
        """Start from the provider versions that the first stack chose.

        Without a lock file Terraform installs a provider into the cache anew, though it is there: another
        download, which takes the provider away from a Terraform that runs it in another stack.
        """
        if self._cache is None:
            yield
            return
        shared, own = self._cache / _LOCK_FILE, folder / _LOCK_FILE
        if shared.exists() and not own.exists():
            files.write_private(own, shared.read_bytes())
        yield
        if own.exists() and not shared.exists():
            files.write_private(shared, own.read_bytes())

    def _make_cache(self, cache: Path) -> None:
        if self._cache_is_ours:
            files.private_folder(cache)
        else:
            cache.mkdir(parents=True, exist_ok=True)

    def _run(
        self,
        folder: Path,
        command: str,
        options: Mapping[str, Any],
        *arguments: str,
        watch: Watch = _look_away,
        cancel: threading.Event | None = None,
        timeout: float | None = None,
        good: Sequence[int] = (0,),
        plain: bool = False,
        bare: bool = False,
        check: bool = True,
        surroundings: Mapping[str, str] = _NO_SURROUNDINGS,
        named: Path | None = None,
    ) -> _Run:
        """One terraform process. `plain` keeps stdout, which may hold secrets, out of log and events; `bare`
        writes nothing anywhere. `surroundings` is added to the environment; an error names the folder `named`.
        """
        if cancel is not None and cancel.is_set():
            raise RunInterruptedError(f"interrupted before terraform {command}")
        run = _Run()
        words = self._command(command, options, arguments)
        environ = {**self._environ, **surroundings}
        if self._cache is not None and not bare:
            self._make_cache(self._cache)
            environ["TF_PLUGIN_CACHE_DIR"] = str(self._cache)
        with self._appended(None if bare else self._log) as log:
            log(f"$ {' '.join(words)}   (in {folder})")

            def out(line: str) -> None:
                if plain:
                    run.lines.append(line)
                    return
                event, clean = decode(line, self._redact)
                log(clean)
                if isinstance(event, DiagnosticEvent):
                    run.diagnostics.append(event.diagnostic)
                watch(event)

            def err(line: str) -> None:
                clean = self._redact(line)
                log(clean)
                run.stderr.append(clean)

            ended = self._start(
                words,
                folder=folder,
                environ=environ,
                on_out=out,
                on_err=err,
                cancel=cancel,
                on_cancel=lambda: watch(Interrupting(_INTERRUPTED)),
                timeout=timeout,
            )
            log(f"= exit {ended.exit_code}")
        run.exit_code, run.timed_out = ended.exit_code, ended.timed_out
        if run.exit_code in good or (not check and not run.timed_out):
            return run
        # A signal that came before Terraform had begun to listen kills it, and then there is nothing to write.
        in_order = run.exit_code == -signal.SIGINT or (
            run.exit_code > 0 and not terraform_errors.state_unsaved(run.diagnostics)
        )
        if ended.interrupted and in_order:
            raise RunInterruptedError(f"terraform {command} was interrupted; state and lock are in order")
        raise self._failed(named or folder, command, run)

    def _command(self, command: str, options: Mapping[str, Any], arguments: Sequence[str]) -> list[str]:
        asks = command in ("init", "plan", "apply", "import")
        chosen = {"input": False, **options} if asks else dict(options)
        return [str(word) for word in self._builder.generate_cmd_string(command, *arguments, **chosen)]

    @contextmanager
    def _appended(self, path: Path | None) -> Iterator[Log]:
        if path is None:
            yield lambda line: None
            return
        files.private_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, files.PRIVATE_FILE)
        # A log line is never a reason to stop: what cannot be encoded is escaped.
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
            yield lambda line: _append(file, line)

    def _failed(self, folder: Path, command: str, run: _Run) -> CaliError:
        return terraform_errors.error(
            terraform_errors.Failure(
                command=command,
                folder=str(folder),
                exit_code=run.exit_code,
                diagnostics=tuple(run.diagnostics),
                stderr="\n".join(run.stderr),
                log=str(self._log or ""),
                timed_out=run.timed_out,
            )
        )


def _append(file: IO[str], line: str) -> None:
    file.write(line + "\n")


@dataclass
class _Run:
    """What one process said."""

    lines: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    exit_code: int = 0
    timed_out: bool = False

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "warning")


@dataclass(frozen=True)
class _Initialised:
    """What a folder was initialised for: a digest of its configuration, the providers that run already, and
    Terraform's version.
    """

    configuration: str
    reattached: str
    version: str


def _marker(folder: Path) -> Path:
    return folder / ".terraform" / "cali-init.json"


def _initialised(folder: Path) -> _Initialised | None:
    try:
        return _Initialised(**json.loads(_marker(folder).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _configuration(folder: Path) -> str:
    """A digest of what `init` reads. Most files say nothing of providers, modules or backends: a new subnet
    needs no init.
    """
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.tf"), *folder.glob("*.tf.json")]):
        content = path.read_bytes()
        if any(word in content for word in (b"required_", b"backend", b"module")):
            digest.update(path.name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def _providers_there(folder: Path) -> bool:
    """The folder's providers are links into the plugin cache, which somebody may have cleared."""
    return all(link.exists() for link in (folder / ".terraform" / "providers").glob("*/*/*/*/*"))


def _reattached(environ: Mapping[str, str]) -> str:
    """The providers that `init` need not install because they run already; their addresses change freely."""
    try:
        return ",".join(sorted(json.loads(environ.get("TF_REATTACH_PROVIDERS") or "{}")))
    except ValueError:
        return ""


def _backend(folder: Path) -> Mapping[str, Any] | None:
    """The backend block of the folder's JSON files, such as `{"s3": {...}}`, or None where there is none."""
    for path in sorted(folder.glob("*.tf.json")):
        block = json.loads(path.read_text()).get("terraform", {}).get("backend")
        if block:
            return dict(block)
    return None


def _initialised_backend(folder: Path) -> Mapping[str, Any] | None:
    """The backend that the folder was initialised for, in the same form."""
    try:
        record = json.loads((folder / ".terraform" / "terraform.tfstate").read_text())["backend"]
        return {record["type"]: record["config"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _local_state(folder: Path, backend: Mapping[str, Any]) -> Path:
    return folder / (backend["local"].get("path") or "terraform.tfstate")


def _nothing_to_lose(folder: Path) -> bool:
    """Whether the backend that the folder was initialised for is a local one without a state."""
    backend = _initialised_backend(folder)
    if backend is None or "local" not in backend:
        return False
    try:
        return terraform_state.parse(_local_state(folder, backend).read_text()).empty
    except FileNotFoundError:
        return True
    except CaliError:
        return False


def _encoded(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def refuse_unsaved_state(folder: Path) -> None:
    """Raises PreconditionError where an earlier run could not write its state: to go on would fork it, and to
    remove the folder would lose it.
    """
    unsaved = folder / "errored.tfstate"
    if unsaved.exists():
        raise PreconditionError(
            f"{folder.name}: an earlier run could not write its state, which is in {unsaved}",
            remedy=terraform_errors.unsaved_remedy(str(folder)),
        )


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a terraform process, without the plugin cache.

    Taken out is what would change arguments, variables or the place of the state behind cali's back
    (TF_CLI_ARGS*, TF_VAR_*, TF_WORKSPACE, TF_DATA_DIR), and TF_LOG*: it mixes foreign lines into stderr and
    writes requests, with the passwords in them, to a file of its own.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("TF_CLI_ARGS", "TF_VAR_", "TF_LOG"))
        and name not in ("TF_WORKSPACE", "TF_DATA_DIR", "TF_PLUGIN_CACHE_DIR")
    }
    kept |= {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"}
    # Decoding the AWS provider's schema is bound by garbage collection: a fifth less time for some memory.
    kept.setdefault("GOGC", "400")
    return kept
