"""How a run ended: the result of every stage, and the JSON that `plan`, `up` and `down` print of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cali_infra.plans import StageResult, Status


@dataclass(frozen=True)
class Report:
    """The stages in the graph's order; `interrupted` says why some did not run."""

    results: tuple[StageResult, ...]
    interrupted: bool = False

    @property
    def refused(self) -> bool:
        """A stage was left as it was because its plan was not approved; none failed otherwise."""
        failed = [r for r in self.results if r.status is Status.FAILED]
        return bool(failed) and all(r.refused for r in failed)

    @property
    def ok(self) -> bool:
        """Every stage is as it should be."""
        bad = (Status.FAILED, Status.SKIPPED)
        return not self.interrupted and all(r.status not in bad for r in self.results)

    @property
    def changed(self) -> bool:
        """Something was applied or destroyed, or would be."""
        moving = (Status.APPLIED, Status.DESTROYED, Status.CHANGES, Status.PENDING)
        return any(r.status in moving for r in self.results)


def run_document(
    report: Report,
    environment: str,
    survivors: Sequence[str] = (),
    verify: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The document of `up` and `down`; `verify` is the one of the checks that ended it, where they ran."""
    document: dict[str, object] = {
        "ok": report.ok and not survivors and (not verify or bool(verify["ok"])),
        "env": environment,
        "verify": dict(verify or {}),
        "stages": [
            {
                "name": r.name,
                "status": r.status.value,
                "seconds": round(r.seconds, 1),
                "add": r.add,
                "change": r.change,
                "destroy": r.destroy,
                "error": r.error or None,
            }
            for r in report.results
        ],
    }
    if survivors:
        document["survivors"] = list(survivors)
    return document


def plan_document(report: Report) -> dict[str, object]:
    """The document of `plan`."""
    return {
        "ok": report.ok,
        "stages": [
            {
                "name": r.name,
                "status": r.status.value,
                "add": r.add,
                "change": r.change,
                "destroy": r.destroy,
                "resources": [{"address": c.address, "action": c.action.value} for c in r.changes],
                "error": r.error or None,
            }
            for r in report.results
        ],
    }
