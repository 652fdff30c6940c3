"""How `up` asks about a release that stands in its own way: what it shows, and when it does not go on."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_wedged import LATER, START, Helm

from cali_infra.cli.mending import mend_releases, show_wedged
from cali_infra.core.settings import Settings
from cali_infra.core.wedged import AT_WORK
from cali_infra.core.workspace import Workspace
from cali_infra.errors import RefusedError, UnreachableError
from cali_infra.sandbox.helm.releases import Mishap
from cali_infra.ui import UI

if TYPE_CHECKING:
    from conftest import Cluster

    from cali_infra.core.platform import Platform


class Stream(io.StringIO):
    """Text in memory that may claim to be a terminal."""

    def __init__(self, text: str = "", *, terminal: bool) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Terminal:
    """A person in front of it, or nobody."""

    def __init__(self, answers: str | None) -> None:
        self.err = Stream(terminal=answers is not None)
        self.ui = UI(
            stdin=Stream(answers or "", terminal=answers is not None),
            stdout=io.StringIO(),
            stderr=self.err,
            environ={"TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"},
            clock=lambda: 0.0,
            now=lambda: LATER,
        )


@pytest.fixture
def helm(cluster: Cluster) -> Helm:
    return Helm(cluster)


Mend = Callable[..., str]


@pytest.fixture
def platform(cluster: Cluster, tmp_path: Path) -> Platform:
    found: Any = SimpleNamespace(
        settings=Settings(), workspace=Workspace(tmp_path / "ws"), cluster_at_hand=cluster.connect
    )
    return cast("Platform", found)


def mend(platform: Platform, answers: str | None, *, yes: bool = False, now: Any = LATER) -> str:
    terminal = Terminal(answers)
    mend_releases(terminal.ui, platform, ["services"], yes=yes, now=now)
    return terminal.err.getvalue()


def test_it_is_shown_asked_and_put_right(helm: Helm, platform: Platform, tmp_path: Path) -> None:
    helm.install(Mishap.KILLED)

    said = mend(platform, "y\n")

    assert "grafana/grafana is pending-install" in said
    assert "goes: Secret grafana/sh.helm.release.v1.grafana.v1" in said
    assert "uninstall it" in said
    assert helm.statuses() == []
    (kept,) = (tmp_path / "ws" / "diagnostics").iterdir()
    assert "pending-install" in kept.read_text()


@pytest.mark.parametrize("answers", ["n\n", "\n", None])
def test_without_an_approval_it_is_left_and_the_run_ends(
    helm: Helm, platform: Platform, answers: str | None
) -> None:
    helm.install(Mishap.KILLED)

    with pytest.raises(RefusedError):
        mend(platform, answers)
    assert helm.statuses() == ["pending-install"]


def test_yes_is_enough_once_nobody_can_be_at_it_any_more(helm: Helm, platform: Platform) -> None:
    helm.install()
    helm.upgrade(Mishap.KILLED)

    with pytest.raises(RefusedError) as caught:
        mend(platform, None, yes=True, now=START + timedelta(minutes=1))
    assert "--yes is not enough" in caught.value.remedy
    assert helm.statuses() == ["deployed", "pending-upgrade"]

    mend(platform, None, yes=True, now=START + AT_WORK)
    assert helm.statuses() == ["deployed"]


def test_a_healthy_release_is_not_mentioned(helm: Helm, platform: Platform) -> None:
    helm.install()
    assert mend(platform, None) == ""


def test_a_plan_shows_it_and_changes_nothing(helm: Helm, platform: Platform) -> None:
    helm.install(Mishap.KILLED)
    terminal = Terminal(None)

    assert len(show_wedged(terminal.ui, platform, ["services"], LATER)) == 1
    assert "the remedy: uninstall it" in terminal.err.getvalue()
    assert helm.statuses() == ["pending-install"]


def test_a_cluster_that_is_not_there_or_not_reached_stops_nothing(platform: Platform) -> None:
    def unreachable() -> Any:
        raise UnreachableError("no route")

    there_is_none: Any = SimpleNamespace(**{**vars(platform), "cluster_at_hand": lambda: None})
    assert mend(there_is_none, None) == ""
    gone: Any = SimpleNamespace(**{**vars(platform), "cluster_at_hand": unreachable})
    assert "no route" in mend(gone, None)
