"""The platform as a picture: the stages and how they hang together, coloured by what the checks found.

An inline SVG without script; each box says its state in words too.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cali_infra.core.stages import Stage, closure
from cali_infra.verify.checks import Status
from cali_infra.verify.report import Report

_WIDTH, _HEIGHT = 168, 52
_ACROSS, _DOWN = 56, 22
_MARGIN = 8
# From the worst to the best; a stage has the state of its worst check.
_ORDER = (Status.FAIL, Status.WARN, Status.PASS, Status.SKIP)
_WORDS = {Status.FAIL: "failed", Status.WARN: "warning", Status.PASS: "passed", Status.SKIP: "skipped"}


def states(report: Report, stages: Sequence[Stage]) -> dict[str, Status | None]:
    """The state of each stage; None for one that no check of the run speaks of."""
    found: dict[str, Status | None] = {}
    for stage in stages:
        seen = {line.result.status for line in report.lines if line.check.stage == stage.name}
        found[stage.name] = next((status for status in _ORDER if status in seen), None)
    return found


def draw(report: Report, stages: Sequence[Stage]) -> str:
    """The SVG element."""
    places = _places(stages)
    found = states(report, stages)
    width = max(x for x, _ in places.values()) + _WIDTH + _MARGIN
    height = max(y for _, y in places.values()) + _HEIGHT + _MARGIN
    parts = [
        f'<svg class="picture" role="img" aria-label="The stages and their state" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" xmlns="http://www.w3.org/2000/svg">'
    ]
    for stage in stages:
        for need in _direct(stage, stages):
            parts.append(_edge(places[need], places[stage.name]))
    parts += [_box(stage, places[stage.name], found[stage.name], report) for stage in stages]
    return "".join([*parts, "</svg>"])


def _places(stages: Sequence[Stage]) -> dict[str, tuple[int, int]]:
    """The upper left corner of each box: a column for each step from the beginning."""
    depth: dict[str, int] = {}
    for stage in stages:
        depth[stage.name] = 1 + max((depth[need] for need in stage.needs if need in depth), default=-1)
    places, used = {}, dict[int, int]()
    tallest = max(list(depth.values()).count(column) for column in depth.values())
    for stage in stages:
        column = depth[stage.name]
        row = used.setdefault(column, 0)
        used[column] += 1
        rows = list(depth.values()).count(column)
        offset = (tallest - rows) * (_HEIGHT + _DOWN) // 2
        places[stage.name] = (
            _MARGIN + column * (_WIDTH + _ACROSS),
            _MARGIN + offset + row * (_HEIGHT + _DOWN),
        )
    return places


def _direct(stage: Stage, stages: Sequence[Stage]) -> list[str]:
    """What it needs, but for what another need of it needs already."""
    known = {each.name for each in stages}
    implied = {below.name for need in stage.needs for below in closure(need) if below.name != need}
    return [need for need in stage.needs if need in known and need not in implied]


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    middle = (x1 + x2) // 2
    return f'<path class="edge" d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"/>'


def _box(stage: Stage, place: tuple[int, int], status: Status | None, report: Report) -> str:
    x, y = place
    results = [line.result.status for line in report.lines if line.check.stage == stage.name]
    counts = [_counted(results.count(each), each) for each in _ORDER if each in results]
    name = status.value if status else "none"
    said = ", ".join(counts) or "not checked"
    middle = x + _WIDTH // 2
    return (
        f'<g class="stage {name}"><title>{escape(stage.makes)}: {escape(said)}</title>'
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{middle}" y="{y + 21}">{escape(stage.name)}</text>'
        f'<text class="said" x="{middle}" y="{y + 39}">{escape(said)}</text></g>'
    )


def _counted(count: int, status: Status) -> str:
    return f"{count} {_WORDS[status]}" + ("s" if status is Status.WARN and count > 1 else "")
