"""What `up` and `plan` say of releases that stand in their own way, and how `up` asks about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cali_infra.errors import CaliError, RefusedError

if TYPE_CHECKING:
    from cali_infra.core.platform import Platform
    from cali_infra.core.wedged import Wedged
    from cali_infra.ui import UI

_SHOWN = 5


def mend_releases(ui: UI, platform: Platform, stages: Sequence[str], *, yes: bool, now: datetime) -> None:
    """Show what is wedged and why, keep that, ask, and put it right, before anything is planned on it.

    `yes` is not enough where somebody may still be at work. Raises RefusedError where it is not approved.
    """
    from cali_infra.core import diagnostics, wedged

    for one in show_wedged(ui, platform, stages, now):
        folder = platform.workspace.diagnostics
        text = ui.redacted(f"{one}\n\n{one.evidence.text()}")
        path = diagnostics.write(folder, one.last.name, now, text)
        ui.info(f"  kept in {path}")
        if one.at_work:
            ui.warn(
                f"{one.last.name}: whoever began that may still be at it; Helm gives up after "
                f"{wedged.AT_WORK.total_seconds() / 60:.0f} minutes at the latest"
            )
        if (one.at_work or not yes) and not ui.confirm(
            f"{one.last.name}: {one.remedy.value}?",
            remedy="wait until whoever began it has ended, then run the command again; --yes is not enough for this"
            if one.at_work
            else "run it again with --yes to approve it",
        ):
            raise RefusedError(
                f"the release {one.last.name} was left as it is, and {one.stage} cannot be applied on it",
                remedy="answer y, mend it with helm, or name other stages: cali up STAGE...",
            )
        kubernetes = platform.cluster_at_hand()
        assert kubernetes is not None
        try:
            wedged.mend(kubernetes, one, ui.info)
        finally:
            kubernetes.close()
        ui.success(f"{one.last.name}: done; the next apply makes it anew")


def show_wedged(ui: UI, platform: Platform, stages: Sequence[str], now: datetime) -> tuple[Wedged, ...]:
    """Say which releases of these stages are wedged, why, and what would be done about each."""
    from cali_infra.core import wedged

    if not any(stage in wedged.RELEASES for stage in stages):
        return ()
    try:
        kubernetes = platform.cluster_at_hand()
        if kubernetes is None:
            return ()
        try:
            switches = platform.settings.services
            found, notes = wedged.find(kubernetes, stages, now, lambda name: getattr(switches, name, True))
        finally:
            kubernetes.close()
    except CaliError as error:
        # Whoever cannot get in yet may be let in by this very run.
        ui.info(f"releases were not looked at: {error.message}")
        return ()
    for note in notes:
        ui.warn(note)
    for one in found:
        ui.warn(str(one))
        for reason in one.evidence.reasons[:_SHOWN]:
            ui.info(f"  {reason}")
        ui.info(f"  the remedy: {one.remedy.value}")
        ui.info(f"  goes: {', '.join(str(ref) for ref, _ in one.goes)}")
        if one.stays:
            ui.info(f"  stays: {', '.join(map(str, one.stays))}")
    return found
