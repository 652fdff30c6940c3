"""A report with everything in it that an output has to cope with."""

from __future__ import annotations

from datetime import UTC, datetime

from cali_infra.verify.checks import Check, Family, Result, Status, failed, passed, skipped, warned
from cali_infra.verify.report import Line, Report

SENTINEL = "Sentinel-9Zk"
HOSTILE = "<script>document.title = 'taken over'</script> & \"quoted\" \x1b[31mred\x00 \ud800"


def line(name: str, family: Family, stage: str, result: Result, seconds: float) -> Line:
    check = Check(
        name, f"{name} is as it should be", family, lambda c: result, "It proves.", "cali up", stage=stage
    )
    status = result.status
    return Line(
        check,
        Result(status, result.detail, result.remedy, result.cause, seconds, result.measurements),
    )


def sample(*, failing: bool = True) -> Report:
    """Each status once or more; what fails has hostile text and a password in it."""
    bad = failed(f"it says {HOSTILE}\nand the password {SENTINEL}", "# look first\ncali up eks")
    lines = (
        line("aws.identity", Family.AWS, "", passed("somebody"), 0.02),
        line("eks.cluster-active", Family.AWS, "eks", bad if failing else passed("fine"), 0.5),
        line("search.tls", Family.AWS, "search", warned("old", "cali up search"), 0.1),
        line("kubernetes.api", Family.KUBERNETES, "eks", skipped("eks.cluster-active failed"), 0.0),
        line("search.auth", Family.OPENSEARCH, "search", passed("200", {"round trip": 0.0123}), 1.25),
    )
    return Report(lines, datetime(2026, 3, 1, 12, 0, tzinfo=UTC), 1.5)


def statuses(report: Report) -> list[Status]:
    return [each.result.status for each in report.lines]
