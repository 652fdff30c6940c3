"""How core tells whoever watches what is going on; `ui.py` is one watcher, a test's list another.

The calls come from several threads: an implementation guards its own state.
"""

from __future__ import annotations

from typing import Protocol

from cali_infra.plans import StagePlan, StageResult


class Progress(Protocol):
    """A watcher of a run."""

    def stage_started(self, stage: str, doing: str) -> None:
        """`doing` is a present participle for a person: planning, applying, destroying, waiting."""

    def stage_planned(self, plan: StagePlan) -> None:
        """A stage's plan is known."""

    def stage_ended(self, result: StageResult) -> None:
        """A stage is done, in whatever way."""

    def resource(self, stage: str, address: str, action: str, state: str, elapsed: float) -> None:
        """One resource moved on: `state` is started, progress, complete or errored; seconds elapsed."""

    def note(self, text: str, *, stage: str = "") -> None:
        """Something worth a line."""

    def warn(self, text: str, *, stage: str = "") -> None:
        """Something worth a line that stands out."""


class Silent:
    """A watcher that looks away."""

    def stage_started(self, stage: str, doing: str) -> None: ...

    def stage_planned(self, plan: StagePlan) -> None: ...

    def stage_ended(self, result: StageResult) -> None: ...

    def resource(self, stage: str, address: str, action: str, state: str, elapsed: float) -> None: ...

    def note(self, text: str, *, stage: str = "") -> None: ...

    def warn(self, text: str, *, stage: str = "") -> None: ...
