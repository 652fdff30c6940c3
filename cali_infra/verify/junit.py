"""The report as JUnit XML, for a CI system: a suite for each family, a case for each check.

A warning is a passed case with its text in `system-out`: to let warnings fail is `--strict`'s. Source: the schema
that Jenkins' JUnit plugin publishes.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from cali_infra.verify.checks import Result, Status
from cali_infra.verify.report import Line, Report

# What XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report, name: str, *, strict: bool = False) -> bytes:
    """The document; `name` is what was verified. With `strict` a warning is a failure."""
    root = ET.Element("testsuites", name=_text(f"cali verify {name}"), time=f"{report.seconds:.3f}")
    total = 0, 0, 0
    for family, lines in report.families():
        failed = sum(_fails(line, strict) for line in lines)
        skipped = sum(line.result.status is Status.SKIP for line in lines)
        total = total[0] + len(lines), total[1] + failed, total[2] + skipped
        suite = ET.SubElement(
            root,
            "testsuite",
            name=family.title,
            tests=str(len(lines)),
            failures=str(failed),
            errors="0",
            skipped=str(skipped),
            time=f"{sum(line.result.seconds for line in lines):.3f}",
            timestamp=f"{report.at:%Y-%m-%dT%H:%M:%S}",
        )
        for line in lines:
            _case(suite, line, strict)
    for key, count in zip(("tests", "failures", "skipped"), total, strict=True):
        root.set(key, str(count))
    root.set("errors", "0")
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _case(suite: ET.Element, line: Line, strict: bool) -> None:
    check, result = line.check, line.result
    case = ET.SubElement(
        suite,
        "testcase",
        name=_text(check.title),
        classname=_text(check.id),
        time=f"{result.seconds:.3f}",
    )
    if _fails(line, strict):
        failure = ET.SubElement(case, "failure", message=_text(result.detail), type=result.status.value)
        failure.text = _text(_words(result))
    elif result.status is Status.SKIP:
        ET.SubElement(case, "skipped", message=_text(result.detail))
    else:
        ET.SubElement(case, "system-out").text = _text(_words(result))


def _words(result: Result) -> str:
    lines = [result.detail, result.remedy]
    lines += [f"{name}: {seconds:.3f} s" for name, seconds in result.measurements.items()]
    return "\n".join(line for line in lines if line)


def _fails(line: Line, strict: bool) -> bool:
    return line.result.status is Status.FAIL or (strict and line.result.status is Status.WARN)


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
