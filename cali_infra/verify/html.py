"""The report as one HTML file: no network, nothing beside it, readable without script; it can be mailed.

The page itself is `report.html`; this fills it. Every text is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib.resources import files
from string import Template

from cali_infra.core.stages import STAGES
from cali_infra.verify import picture
from cali_infra.verify.checks import Family, Status
from cali_infra.verify.report import Line, Report

_WORDS = {Status.FAIL: "Failed", Status.WARN: "Warnings", Status.PASS: "Passed", Status.SKIP: "Skipped"}
_ICONS = {Status.FAIL: "\u2717", Status.WARN: "!", Status.PASS: "\u2713", Status.SKIP: "\u2013"}
_SHOWN = (Status.FAIL, Status.WARN, Status.PASS, Status.SKIP)


def render(report: Report, name: str, about: Mapping[str, str], *, strict: bool = False) -> bytes:
    """The page; `name` is what was verified and `about` what else stands in its head."""
    page = Template(files("cali_infra.verify").joinpath("report.html").read_text("utf-8"))
    counts = report.counts()
    slowest = max((line.result.seconds for line in report.lines), default=0.0)
    text = page.substitute(
        title=escape(f"cali verify \u00b7 {name}"),
        name=escape(name),
        verdict="good" if report.ok(strict) else "bad",
        verdict_words=escape(_verdict(report, counts, strict)),
        about="".join(
            f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in about.items()
        ),
        picture=picture.draw(report, STAGES),
        buttons="".join(_buttons(counts)),
        bad="".join(_bad(report.of(Status.FAIL, Status.WARN))),
        families="".join(_family(family, lines, slowest) for family, lines in report.families()),
    )
    return text.encode("utf-8", "replace")


def _verdict(report: Report, counts: Mapping[Status, int], strict: bool) -> str:
    if report.interrupted:
        return "Interrupted: this is what was known by then"
    if report.ok(strict):
        return f"It works: {counts[Status.PASS]} of {len(report.lines)} checks passed, none failed"
    bad = counts[Status.FAIL] + (counts[Status.WARN] if strict else 0)
    return f"{bad} of {len(report.lines)} checks failed"


def _buttons(counts: Mapping[Status, int]) -> Iterator[str]:
    total = sum(counts.values())
    yield f'<button type="button" data-show="all" aria-pressed="true">All <b>{total}</b></button>'
    for status in _SHOWN:
        yield (
            f'<button type="button" data-show="{status.value}" class="{status.value}" aria-pressed="false">'
            f"{_WORDS[status]} <b>{counts[status]}</b></button>"
        )


def _bad(lines: Iterable[Line]) -> Iterator[str]:
    """What failed and what warns, each with its cause and what to type."""
    for line in sorted(lines, key=lambda line: line.result.status is Status.WARN):
        check, result = line.check, line.result
        remedy = f"<pre>{escape(result.remedy)}</pre>" if result.remedy else ""
        yield (
            f'<article class="{result.status.value}" data-status="{result.status.value}">'
            f"<h3><span>{_ICONS[result.status]}</span> {escape(check.title)} <code>{escape(check.id)}</code></h3>"
            f"<p>{_lines(result.detail)}</p>{remedy}</article>"
        )


def _family(family: Family, lines: Iterable[Line], slowest: float) -> str:
    rows = "".join(_row(line, slowest) for line in lines)
    return (
        f'<section class="family"><h2>{escape(family.title)}</h2><table><thead><tr><th></th><th>Check</th>'
        f"<th>Found</th><th>Seconds</th></tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _row(line: Line, slowest: float) -> str:
    check, result = line.check, line.result
    measured = "".join(
        f"<li>{escape(name)}: {seconds:.3f} s</li>" for name, seconds in result.measurements.items()
    )
    width = round(100 * result.seconds / slowest) if slowest else 0
    return (
        f'<tr class="{result.status.value}" data-status="{result.status.value}">'
        f'<td class="icon" title="{result.status.value}">{_ICONS[result.status]}'
        f'<span class="words">{result.status.value}</span></td>'
        f'<td title="{escape(check.proves)}">{escape(check.title)}<br><code>{escape(check.id)}</code></td>'
        f"<td>{_lines(result.detail)}{f'<ul>{measured}</ul>' if measured else ''}</td>"
        f'<td class="time"><span class="bar" style="width:{width}%"></span>{result.seconds:.2f}</td></tr>'
    )


def _lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.splitlines())
