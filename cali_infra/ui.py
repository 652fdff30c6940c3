"""The one place that writes to the terminal: messages on stderr, data on stdout.

Everything that goes out passes `_clean`, which hides secrets and takes out control characters. With JSON
output stdout carries one document and nothing else. Rich is imported where something is drawn: it would
double the time that `cali --help` takes.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

from cali_infra.errors import CaliError, RefusedError, SettingsError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text
    from rich.tree import Tree

    from cali_infra.plans import StagePlan, StageResult
    from cali_infra.ui_tree import RunView
    from cali_infra.verify.checks import Check, Result
    from cali_infra.verify.report import Report

# What a terminal would obey instead of show; line breaks and tabs stay.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# A resource that takes long is told of again after this many seconds where there is no live display.
_STILL_EVERY = 60.0


def _unchanged(text: str) -> str:
    return text


def _open_page(url: str) -> None:
    import webbrowser

    webbrowser.open(url)


@contextmanager
def _without_echo(stream: IO[str]) -> Iterator[None]:
    """What is typed does not show for as long as the block lasts."""
    import termios

    try:
        number = stream.fileno()
        before = termios.tcgetattr(number)
    except (OSError, ValueError, termios.error):
        # Not a device, so there is nothing that would show it.
        yield
        return
    quiet = list(before)
    quiet[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(number, termios.TCSAFLUSH, quiet)
        yield
    finally:
        termios.tcsetattr(number, termios.TCSAFLUSH, before)


class UI:
    """Messages, questions, tables, JSON and the live display of one invocation of cali.

    `clock` counts seconds for elapsed times, `now` is the wall clock for the lines of a log; `asking` is true
    while somebody is expected to answer.
    """

    def __init__(
        self,
        *,
        stdin: IO[str],
        stdout: IO[str],
        stderr: IO[str],
        environ: Mapping[str, str],
        clock: Callable[[], float],
        now: Callable[[], datetime],
        json_output: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        browser: Callable[[str], object] | None = None,
    ) -> None:
        self.json_output = json_output
        self.quiet = quiet
        self.verbose = verbose
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._environ = environ
        self._clock, self._now = clock, now
        self._browser = browser or _open_page
        self._redact: Callable[[str], str] = _unchanged
        self._consoles: dict[str, Console] = {}
        self._tree: LiveTree | None = None
        self._document_written = False
        self._lock = threading.RLock()
        self.asking = False

    # -- secrets ----------------------------------------------------------------------------------------

    def hide(self, redact: Callable[[str], str]) -> None:
        """From here on everything passes `redact` first; called once the secrets are known."""
        self._redact = redact

    def clean(self, text: str) -> str:
        """The text as it is shown: without secrets and control characters, for a file that is kept."""
        return self._clean(text)

    def redacted(self, text: str) -> str:
        """The text without secrets, for a file that is kept."""
        return self._redact(text)

    def _clean(self, text: object) -> str:
        return _CONTROL.sub("", self._redact(str(text)).replace("\r\n", "\n"))

    # -- messages, on stderr ----------------------------------------------------------------------------

    def info(self, text: str) -> None:
        """A line that says what happens; not with `--quiet`."""
        if not self.quiet:
            self._message(text)

    def success(self, text: str) -> None:
        """A line that says that something is done; not with `--quiet`."""
        if not self.quiet:
            self._message(text, "green")

    def debug(self, text: str) -> None:
        """A line for `--verbose`."""
        if self.verbose:
            self._message(text, "dim")

    def warn(self, text: str) -> None:
        """A line that stands out, also with `--quiet`."""
        self._message(text, "yellow", prefix="warning: ")

    def error(self, error: CaliError) -> None:
        """What went wrong and what to do; with JSON output also the error document, unless one is out."""
        first, *rest = self._clean(error.message).splitlines() or [error.code]
        if isinstance(error, SettingsError) and error.problems:
            number = len(error.problems)
            first = "1 mistake in the settings" if number == 1 else f"{number} mistakes in the settings"
            rest = [f"  {self._clean(problem)}" for problem in error.problems]
        self._message(first, "bold red", prefix="error: ")
        for line in rest:
            self._message(line)
        log = getattr(error, "log", "")
        if log:
            self._message(f"  log: {log}", "dim")
        if error.remedy:
            self._message(f"  {error.remedy}", "cyan")
        if self.json_output and not self._document_written:
            said = {"code": error.code, "message": error.message, "remedy": error.remedy}
            self.json({"ok": False, "error": said})

    def usage(self, message: str, remedy: str = "") -> None:
        """A mistake on the command line, in one line; with JSON output the error document too."""
        self._message(message + (f" ({remedy})" if remedy else ""), "bold red", prefix="error: ")
        if self.json_output and not self._document_written:
            said = {"code": "usage", "message": message, "remedy": remedy}
            self.json({"ok": False, "error": said})

    def plan(self, plan: StagePlan, *, as_data: bool = False, asked: bool = False) -> None:
        """What a stage's plan would change, resource by resource.

        `as_data`: it is what was asked for, and goes to stdout. `asked`: somebody is to approve it, and sees it
        with `--quiet` too.
        """
        if self.quiet and not (asked or as_data):
            return
        from cali_infra.ui_tree import change_lines, plan_line

        to_stdout = as_data and not self.json_output
        self._message(f"{plan.stage}: {plan_line(plan)}", "bold", to_stdout=to_stdout)
        for line, style in change_lines(plan):
            self._message(f"  {line}", style, to_stdout=to_stdout)
        for warning in plan.warnings:
            self._message(f"  ! {warning}", "yellow", to_stdout=to_stdout)

    def _message(self, text: str, style: str = "", *, prefix: str = "", to_stdout: bool = False) -> None:
        clean = self._clean(text)
        name, stream = ("stdout", self._stdout) if to_stdout else ("stderr", self._stderr)
        with self._lock:
            if not self._is_terminal(stream):
                self._write(stream, f"{prefix}{clean}\n")
                return
            from rich.text import Text

            line = Text()
            line.append(prefix, style)
            # With a prefix the text itself keeps the reader's own colour.
            line.append(clean, "" if prefix and style != "bold red" else style)
            self._console(name).print(line, soft_wrap=False, overflow="fold")

    # -- questions --------------------------------------------------------------------------------------

    @property
    def interactive(self) -> bool:
        """Whether there is somebody to ask."""
        return self._is_terminal(self._stdin) and self._is_terminal(self._stderr)

    def confirm(self, question: str, *, remedy: str = "run it again with --yes to approve it") -> bool:
        """Ask yes or no; anything but yes is no. The live display steps aside meanwhile.

        Raises RefusedError where there is no terminal to ask in.
        """
        if not self.interactive:
            raise RefusedError("this needs approval, and there is no terminal to ask in", remedy=remedy)
        return self._ask(f"{self._clean(question)} [y/N] ").strip().lower() in ("y", "yes")

    def prompt(self, question: str, default: str = "") -> str:
        """Ask for a line of text; an empty answer is the default.

        Raises RefusedError where there is no terminal to ask in.
        """
        if not self.interactive:
            raise RefusedError(
                f"{question}: there is no terminal to ask in", remedy="give it as an option, or use --yes"
            )
        shown = f" [{self._clean(default)}]" if default else ""
        return self._ask(f"{self._clean(question)}{shown}: ").strip() or default

    def secret(self, question: str) -> str:
        """Ask for a password, which the terminal does not show.

        Raises RefusedError where there is no terminal to ask in.
        """
        if not self.interactive:
            raise RefusedError(f"{question}: there is no terminal to ask in", remedy="run it in a terminal")
        with _without_echo(self._stdin):
            answer = self._ask(f"{self._clean(question)}: ")
        self._write(self._stderr, "\n")
        return answer.rstrip("\r\n")

    def _ask(self, text: str) -> str:
        with self.paused():
            self._write(self._stderr, text)
            self.asking = True
            try:
                answer = self._stdin.readline()
            finally:
                self.asking = False
            if not answer:
                self._write(self._stderr, "\n")
                raise RefusedError("the input ended before there was an answer", remedy="run it again")
            return answer

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Without the live display for as long as the block lasts."""
        tree = self._tree
        if tree is None:
            yield
            return
        tree.pause()
        try:
            yield
        finally:
            tree.resume()

    # -- data, on stdout --------------------------------------------------------------------------------

    def data(self, text: str) -> None:
        """A line of data. With JSON output it goes to stderr: stdout is kept for the document."""
        self._write(self._stderr if self.json_output else self._stdout, self._clean(text) + "\n")

    def record(self, parts: Sequence[tuple[str, str]]) -> None:
        """A line of data that is made of parts, each with a style that shows in a terminal only."""
        name, stream = ("stderr", self._stderr) if self.json_output else ("stdout", self._stdout)
        cleaned = [(self._clean(text), style) for text, style in parts]
        if not self._is_terminal(stream):
            self._write(stream, "".join(text for text, _ in cleaned) + "\n")
            return
        from rich.text import Text

        self._console(name).print(Text.assemble(*cleaned), soft_wrap=True)

    def json(self, document: Mapping[str, Any]) -> None:
        """The one JSON document of this invocation."""
        if self._document_written:
            raise RuntimeError("a second JSON document in one run")
        self._document_written = True
        text = json.dumps(self._clean_document(document), indent=2, ensure_ascii=not _is_utf(self._stdout))
        self._write(self._stdout, text + "\n")

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        title: str = "",
        as_data: bool = True,
        styles: Sequence[str] = (),
    ) -> None:
        """A table: drawn in a terminal, plain aligned columns anywhere else; of messages, unless `as_data`.

        `styles` colour the first cell of each row.
        """
        head, *cleaned = [[self._clean(cell) for cell in row] for row in (columns, *rows)]
        to_stdout = as_data and not self.json_output
        name, stream = ("stdout", self._stdout) if to_stdout else ("stderr", self._stderr)
        if not self._is_terminal(stream):
            above = f"{self._clean(title)}\n" if title else ""
            self._write(stream, above + _aligned([head, *cleaned]))
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=box.SIMPLE_HEAD if _is_utf(stream) else box.ASCII2, header_style="bold", pad_edge=False
        )
        for column in head:
            table.add_column(column, overflow="fold")
        for number, row in enumerate(cleaned):
            first = styles[number] if styles else ""
            table.add_row(*(Text(cell, "" if index else first) for index, cell in enumerate(row)))
        if title:
            # Not Rich's own title: that is wrapped to the width of the columns.
            self._console(name).print(Text(self._clean(title), "bold"))
        self._console(name).print(table)

    def report(self, report: Report, *, whole: bool = True) -> None:
        """What checks found: tables by family, what is wrong with its cause and remedy, and the counts.

        A `whole` report is what was asked for, and goes to stdout; one that a run only ends with, and one beside
        JSON, goes to stderr and has no tables.
        """
        from cali_infra import ui_checks

        to_stdout = whole and not self.json_output
        if self.quiet and not to_stdout and report.ok():
            return
        if to_stdout:
            for table in ui_checks.tables(report, utf=_is_utf(self._stdout)):
                self.table(ui_checks.COLUMNS, table.rows, title=table.title, styles=table.styles)
                self._message("", to_stdout=True)
        for finding in ui_checks.findings(report):
            self._message(finding.heading, finding.style, to_stdout=to_stdout)
            for line in finding.cause.splitlines():
                self._message(f"  {line}", to_stdout=to_stdout)
            for line in finding.remedy.splitlines():
                self._message(f"    {line}", "cyan", to_stdout=to_stdout)
        good = report.ok()
        self._message(ui_checks.summary(report), "green" if good else "bold", to_stdout=to_stdout)

    # -- a browser --------------------------------------------------------------------------------------

    def browse(self, url: str) -> bool:
        """Open a page in the browser; False where nobody would see it: no terminal, or no desktop.

        A browser for terminals would take this one, so one is only looked for where there is a desktop.
        """
        desktop = sys.platform == "darwin" or any(
            self._environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
        )
        if self.json_output or not self._is_terminal(self._stderr) or not desktop:
            return False
        # Some of them come back only when they are closed.
        threading.Thread(target=self._browser, args=(url,), daemon=True).start()
        return True

    # -- a run ------------------------------------------------------------------------------------------

    def checks(self, total: int) -> LiveChecks:
        """A watcher of checks, to be used in a `with` block."""
        return LiveChecks(self, total)

    def tree(self, title: str, stages: Sequence[str]) -> LiveTree:
        """A watcher of a run over these stages, to be used in a `with` block."""
        return LiveTree(self, self._clean(title), stages)

    # -- streams ----------------------------------------------------------------------------------------

    def _is_terminal(self, stream: IO[str]) -> bool:
        try:
            return stream.isatty() and self._environ.get("TERM", "") != "dumb"
        except ValueError:
            return False

    def _console(self, name: str) -> Console:
        with self._lock:
            if name not in self._consoles:
                from rich.console import Console

                stream = self._stderr if name == "stderr" else self._stdout
                self._consoles[name] = Console(
                    file=stream if _is_utf(stream) else cast("IO[str]", _Encodable(stream)),
                    highlight=False,
                    markup=False,
                    emoji=False,
                    _environ=self._environ,
                )
            return self._consoles[name]

    def _write(self, stream: IO[str], text: str) -> None:
        _Encodable(stream).write(text)
        stream.flush()

    def _clean_document(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self._clean(key): self._clean_document(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._clean_document(entry) for entry in value]
        # Only secrets are taken out here: JSON escapes control characters by itself.
        return self._redact(value) if isinstance(value, str) else value


class _Encodable:
    """A stream that shows `?` for what its encoding does not have, instead of failing."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return self._stream.write(text.encode(encoding, "replace").decode(encoding))


class LiveTree:
    """A `Progress` that shows: a live tree in a terminal, lines with the time of day anywhere else."""

    def __init__(self, ui: UI, title: str, stages: Sequence[str]) -> None:
        from cali_infra import ui_tree

        self._ui = ui
        self._lock = threading.RLock()
        self._words = ui_tree
        icons = ui_tree.UNICODE if _is_utf(ui._stderr) else ui_tree.ASCII
        self._view: RunView = ui_tree.RunView(title, stages, icons, ui._clock())
        self._console = ui._console("stderr") if ui._is_terminal(ui._stderr) else None
        self._live: Live | None = None
        self._paused = 0
        self._told: dict[tuple[str, str], float] = {}
        self._shown = ui._is_terminal(ui._stderr) and not ui.quiet

    def __enter__(self) -> LiveTree:
        self._ui._tree = self
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ui._tree = None
        self._stop()
        if self._shown and self._console:
            self._console.print(self)

    def __rich__(self) -> Tree:
        # Drawn while Rich holds its own lock: nothing here may wait for the UI's.
        with self._lock:
            return self._view.draw(self._ui._clock(), self._console.width if self._console else 80)

    def pause(self) -> None:
        """Clear the display until `resume`; the run goes on."""
        self._paused += 1
        if self._paused == 1:
            self._stop()

    def resume(self) -> None:
        """Show the display again."""
        self._paused -= 1
        if self._paused == 0:
            self._start()

    def _start(self) -> None:
        if not self._shown:
            return
        from rich.live import Live

        # Transient: while it is aside for a question nothing of it is left on the screen.
        self._live = Live(
            self,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live:
            live.stop()

    # -- core.progress.Progress -------------------------------------------------------------------------

    def stage_started(self, stage: str, doing: str) -> None:
        with self._lock:
            self._view.start(stage, self._ui._clean(doing), self._ui._clock())
        self._line(stage, doing)

    def stage_planned(self, plan: StagePlan) -> None:
        with self._lock:
            self._view.planned(plan)
        self._line(plan.stage, f"plan: {self._words.plan_line(plan)}")

    def stage_ended(self, result: StageResult) -> None:
        with self._lock:
            self._view.end(_cleaned(result, self._ui._clean))
        self._line(result.name, self._words.result_line(result), urgent=self._words.is_bad(result))

    def resource(self, stage: str, address: str, action: str, state: str, elapsed: float) -> None:
        clean = self._ui._clean(address)
        with self._lock:
            self._view.resource(stage, clean, action, state, elapsed, self._ui._clock())
        words, length = self._words, self._words.duration(elapsed)
        if state == "errored":
            self._line(stage, f"{clean}: {words.doing(action)} failed after {length}", urgent=True)
        elif state == "complete" and action != "read":
            self._line(stage, f"{clean}: {words.done(action)} in {length}")
        elif state == "progress" and self._time_to_tell(stage, clean, elapsed):
            self._line(stage, f"{clean}: still {words.doing(action)}, {length}")

    def note(self, text: str, *, stage: str = "") -> None:
        if self._shown:
            self._ui.info(f"{stage}: {text}" if stage else text)
        else:
            self._line(stage, text)

    def warn(self, text: str, *, stage: str = "") -> None:
        if self._shown:
            self._ui.warn(f"{stage}: {text}" if stage else text)
        else:
            self._line(stage, f"warning: {text}", urgent=True)

    def _time_to_tell(self, stage: str, address: str, elapsed: float) -> bool:
        with self._lock:
            last = self._told.get((stage, address), 0.0)
            if elapsed - last < (0 if self._ui.verbose else _STILL_EVERY):
                return False
            self._told[(stage, address)] = elapsed
            return True

    def _line(self, stage: str, text: str, *, urgent: bool = False) -> None:
        """A line of the log that stands in for the live display."""
        if self._shown or (self._ui.quiet and not urgent):
            return
        about = f"{stage}: " if stage else ""
        clean = self._ui._clean(f"{about}{text}").replace("\n", "\n  ")
        with self._ui._lock:
            self._ui._write(self._ui._stderr, f"{self._ui._now():%H:%M:%S} {clean}\n")


class LiveChecks:
    """A `verify.runner.Watch` that shows: one line that lives in a terminal, nothing but what matters elsewhere."""

    def __init__(self, ui: UI, total: int) -> None:
        from cali_infra.ui_checks import Running

        self._ui = ui
        self._lock = threading.Lock()
        self._running = Running(total, _is_utf(ui._stderr))
        self._shown = ui._is_terminal(ui._stderr) and not ui.quiet
        self._live: Live | None = None
        self._started = ui._clock()

    def __enter__(self) -> LiveChecks:
        if self._shown:
            from rich.live import Live

            self._live = Live(
                self,
                console=self._ui._console("stderr"),
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live:
            live.stop()

    def __rich__(self) -> Text:
        from rich.text import Text

        # Drawn while Rich holds its own lock: nothing here may wait for the UI's.
        with self._lock:
            line = self._running.line(self._ui._clock() - self._started)
        return Text(line, "dim", no_wrap=True, overflow="ellipsis")

    # -- verify.runner.Watch ----------------------------------------------------------------------------

    def started(self, check: Check) -> None:
        with self._lock:
            self._running.started(check)

    def ended(self, check: Check, result: Result) -> None:
        with self._lock:
            self._running.ended(check, result)
        self._ui.debug(f"{result.status.value} {check.id}: {result.detail}")

    def putting_down(self, checks: Sequence[Check]) -> None:
        names = ", ".join(check.id for check in checks)
        self._ui.info(f"putting down what was made by {names}")

    def again(self, left: int, total: int, pause: float) -> None:
        with self._lock:
            self._running.again(total)
        have = "1 check has" if left == 1 else f"{left} checks have"
        self._ui.info(f"{have} not passed yet; asking again in {pause:.0f} seconds")


def _cleaned(result: StageResult, clean: Callable[[str], str]) -> StageResult:
    from dataclasses import replace

    return replace(result, error=clean(result.error), remedy=clean(result.remedy))


def _is_utf(stream: IO[str]) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    from rich.cells import cell_len

    widths = [max(cell_len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "".join(
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        + "\n"
        for row in rows
    )
