"""What a run looks like: the tree of stages for a terminal, the lines for everything else.

It keeps what a watcher was told and draws it; it writes nothing. Who writes, and where to, is `ui.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cali_infra.plans import Action, StagePlan, StageResult, Status

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

# Shown per stage; the rest is counted.
_RESOURCES_SHOWN = 2
_DOING = {
    "create": "creating",
    "update": "updating",
    "delete": "deleting",
    "read": "reading",
    "replace": "replacing",
}
_DONE = {"create": "created", "update": "updated", "delete": "deleted", "read": "read", "replace": "replaced"}
_CHANGE = {
    Action.CREATE: ("+", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.REPLACE: ("-/+", "red"),
    Action.DELETE: ("-", "red"),
}
_STYLE = {
    Status.APPLIED: "green",
    Status.UNCHANGED: "dim",
    Status.FAILED: "bold red",
    Status.SKIPPED: "yellow",
    Status.DESTROYED: "green",
    Status.CHANGES: "cyan",
    Status.PENDING: "dim",
}


@dataclass(frozen=True)
class Icons:
    """One cell per state of a stage."""

    ended: dict[Status, str]
    waiting: str
    planned: str
    running: str
    ellipsis: str
    between: str


UNICODE = Icons(
    {
        Status.APPLIED: "✓",
        Status.UNCHANGED: "=",
        Status.FAILED: "✗",
        Status.SKIPPED: "–",
        Status.DESTROYED: "✓",
        Status.CHANGES: "~",
        Status.PENDING: "·",
    },
    waiting="·",
    planned="◇",
    running="⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
    ellipsis="…",
    between=" · ",
)
ASCII = Icons(
    {
        Status.APPLIED: "v",
        Status.UNCHANGED: "=",
        Status.FAILED: "x",
        Status.SKIPPED: "-",
        Status.DESTROYED: "v",
        Status.CHANGES: "~",
        Status.PENDING: ".",
    },
    waiting=".",
    planned="?",
    running="|/-\\",
    ellipsis="...",
    between=", ",
)


def doing(action: str) -> str:
    """The present participle of an action of Terraform's: `creating`."""
    return _DOING.get(action, action)


def done(action: str) -> str:
    """The past participle of an action of Terraform's: `created`."""
    return _DONE.get(action, action)


def duration(seconds: float) -> str:
    """Seconds for a person: `7s`, `1m05s`, `2h03m`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def counts(add: int, change: int, destroy: int) -> str:
    """`+3 ~1 -2`, without the zeros; empty when there is nothing."""
    return " ".join(f"{sign}{n}" for sign, n in (("+", add), ("~", change), ("-", destroy)) if n)


def shorten(text: str, width: int, ellipsis: str) -> str:
    """The text cut in its middle to a width in cells: an address says most at both ends."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    room = width - cell_len(ellipsis)
    if room < 2:
        return set_cell_size(text, max(width, 0))
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > room - room // 2:
            break
        tail = character + tail
    return set_cell_size(text, room - cell_len(tail)).rstrip() + ellipsis + tail


def clip(text: str, width: int, ellipsis: str) -> str:
    """The text cut at its end to a width in cells: a sentence says most at its start."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - cell_len(ellipsis), 0)).rstrip() + ellipsis


@dataclass
class ResourceLine:
    """A resource that is being worked on; times are the run's own clock, in seconds."""

    address: str
    action: str
    since: float


@dataclass
class StageLine:
    """What is known of one stage so far."""

    name: str
    doing: str = ""
    since: float | None = None
    plan: StagePlan | None = None
    result: StageResult | None = None
    finished: int = 0
    resources: dict[str, ResourceLine] = field(default_factory=dict)


class RunView:
    """The state of a run, told by events and drawn on demand; its owner guards it against threads."""

    def __init__(self, title: str, stages: Sequence[str], icons: Icons, started: float) -> None:
        self.title = title if icons is UNICODE else title.replace("·", "-")
        self.icons = icons
        self.started = started
        self.stages = {name: StageLine(name) for name in stages}

    def stage(self, name: str) -> StageLine:
        """The line of a stage; one that was not announced is added."""
        return self.stages.setdefault(name, StageLine(name))

    def start(self, name: str, doing: str, now: float) -> None:
        """A stage begins something."""
        line = self.stage(name)
        line.doing = doing
        line.since = now if line.since is None else line.since
        line.resources.clear()
        line.finished = 0

    def planned(self, plan: StagePlan) -> None:
        """A stage's plan is known; it waits from here on."""
        line = self.stage(plan.stage)
        line.plan = plan
        line.doing = ""

    def end(self, result: StageResult) -> None:
        """A stage is done."""
        line = self.stage(result.name)
        line.result = result
        line.resources.clear()

    def resource(self, name: str, address: str, action: str, state: str, elapsed: float, now: float) -> None:
        """A resource moved on."""
        line = self.stage(name)
        if state in ("started", "progress"):
            if address not in line.resources:
                line.resources[address] = ResourceLine(address, action, now - elapsed)
            return
        line.resources.pop(address, None)
        if state == "complete" and action != "read":
            line.finished += 1

    def draw(self, now: float, width: int) -> Tree:
        """The tree as it stands, no line wider than `width` cells."""
        from rich.text import Text
        from rich.tree import Tree

        head = Text(no_wrap=True, overflow="ellipsis")
        head.append(clip(self.title, width - 8, self.icons.ellipsis), "bold")
        head.append(f"  {duration(now - self.started)}", "dim")
        tree = Tree(head, guide_style="dim")
        names = max((len(name) for name in self.stages), default=0)
        for line in self.stages.values():
            # The guide of one level is four cells, that of two levels eight.
            branch = tree.add(self._stage_text(line, names, now, width - 4))
            for text in self._resource_texts(line, now, width - 8):
                branch.add(text)
        return tree

    def _stage_text(self, line: StageLine, names: int, now: float, width: int) -> Text:
        from rich.text import Text

        icon, style = self._icon(line, now)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{icon} ", style)
        quiet = line.since is None and line.result is None
        text.append(line.name.ljust(names), "dim" if quiet else "")
        text.append(f"  {self._seconds(line, now):>6}  ", "dim")
        word = self._word(line)
        if word:
            text.append(word.ljust(9), style if line.result else "")
        self._append_counts(line, text)
        if line.result and line.result.error:
            room = width - text.cell_len - 2
            first = next(iter(line.result.error.strip().splitlines()), "")
            if room > 12:
                text.append("  " + clip(first, room, self.icons.ellipsis), "red" if _failed(line) else "dim")
        text.rstrip()
        return text

    def _append_counts(self, line: StageLine, text: Text) -> None:
        known = line.result if line.result and line.result.status is not Status.SKIPPED else line.plan
        if known is None or (line.result and line.result.status is Status.UNCHANGED):
            return
        for sign, number, style in (
            ("+", known.add, "green"),
            ("~", known.change, "yellow"),
            ("-", known.destroy, "red"),
        ):
            if number:
                text.append(f" {sign}{number}", style)
        total = known.add + known.change + known.destroy
        if line.result is None and line.doing and line.finished and total:
            text.append(f"  {min(line.finished, total)}/{total}", "dim")

    def _resource_texts(self, line: StageLine, now: float, width: int) -> list[Text]:
        from rich.text import Text

        if line.result is not None:
            return []
        # The one that has been going longest is the one that is waited for.
        going = sorted(line.resources.values(), key=lambda one: one.since)
        texts = []
        for one in going[:_RESOURCES_SHOWN]:
            tail = f"  {doing(one.action)} {duration(now - one.since)}"
            address = shorten(one.address, max(width - len(tail), 8), self.icons.ellipsis)
            text = Text(address, no_wrap=True, overflow="ellipsis")
            text.append(tail, "dim")
            texts.append(text)
        if len(going) > _RESOURCES_SHOWN:
            texts.append(Text(f"and {len(going) - _RESOURCES_SHOWN} more", "dim"))
        return texts

    def _icon(self, line: StageLine, now: float) -> tuple[str, str]:
        if line.result:
            return self.icons.ended[line.result.status], _STYLE[line.result.status]
        if line.doing:
            return self.icons.running[int(now * 4) % len(self.icons.running)], "cyan"
        if line.plan is not None:
            return self.icons.planned, "cyan"
        return self.icons.waiting, "dim"

    def _seconds(self, line: StageLine, now: float) -> str:
        if line.result:
            return duration(line.result.seconds) if line.result.seconds else ""
        return duration(now - line.since) if line.since is not None and line.doing else ""

    def _word(self, line: StageLine) -> str:
        if line.result:
            return line.result.status.value
        if line.doing:
            return line.doing
        return "planned" if line.plan is not None else ""


def _failed(line: StageLine) -> bool:
    return line.result is not None and line.result.status is Status.FAILED


def plan_line(plan: StagePlan) -> str:
    """One line about a plan: `3 to add, 1 to change`."""
    parts = [
        f"{number} to {verb}"
        for number, verb in ((plan.add, "add"), (plan.change, "change"), (plan.destroy, "destroy"))
        if number
    ]
    return ", ".join(parts) or "no changes"


def change_lines(plan: StagePlan) -> Iterator[tuple[str, str]]:
    """Each change of a plan as a line and its style, with the signs in a column."""
    width = max((len(_CHANGE[change.action][0]) for change in plan.changes), default=0)
    for change in plan.changes:
        sign, style = _CHANGE[change.action]
        fields = f" ({', '.join(change.fields)})" if change.fields else ""
        yield f"{sign:>{width}} {change.address}{fields}", style


def is_bad(result: StageResult) -> bool:
    """Whether a stage ended in a way that is said even with `--quiet`."""
    return result.status in (Status.FAILED, Status.SKIPPED)


def result_line(result: StageResult) -> str:
    """One line about how a stage ended: `applied (+3) in 1m05s`."""
    text = result.status.value
    number = counts(result.add, result.change, result.destroy)
    if number and result.status not in (Status.UNCHANGED, Status.SKIPPED):
        text += f" ({number})"
    if result.seconds:
        text += f" in {duration(result.seconds)}"
    if result.error:
        text += f": {result.error.strip()}"
    return text
