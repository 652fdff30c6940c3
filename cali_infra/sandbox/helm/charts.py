"""The charts that the stand-in knows, and Helm's words for one that it does not.

The table is explicit, so that a mistyped chart never counts as deployed. It holds the charts of this
platform with the newest release known and the application that belongs to a release; a release is accepted
when it has the form of the chart's releases and is not newer than that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Chart:
    """A chart of a repository; `app_versions` maps a chart version to its application's, where known."""

    repository: str
    name: str
    newest: str
    releases: str
    app_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ChartVersion:
    """One release of a chart."""

    name: str
    version: str
    app_version: str


class ChartNotFoundError(Exception):
    """The chart cannot be located; the text is Helm's own, followed by what the sandbox knows."""


KNOWN: tuple[Chart, ...] = (
    Chart(
        "https://kubernetes.github.io/autoscaler",
        "cluster-autoscaler",
        newest="9.59.0",
        releases=r"9\.\d{1,2}\.\d{1,2}",
        app_versions={"9.59.0": "1.35.0"},
    ),
    Chart(
        "https://airflow.apache.org",
        "airflow",
        newest="1.22.0",
        releases=r"1\.\d{1,2}\.\d{1,2}",
        app_versions={"1.20.0": "3.1.8", "1.22.0": "3.2.2"},
    ),
    Chart(
        "https://zilliztech.github.io/milvus-helm",
        "milvus",
        newest="5.0.19",
        releases=r"[345]\.\d{1,2}\.\d{1,2}",
        app_versions={"5.0.19": "2.6.15"},
    ),
    Chart(
        "https://grafana-community.github.io/helm-charts",
        "grafana",
        newest="12.11.1",
        releases=r"1[012]\.\d{1,2}\.\d{1,2}",
        app_versions={"12.11.1": "13.2.0"},
    ),
)


def locate(
    repository: str | None, name: str, version: str | None, known: Sequence[Chart] = KNOWN
) -> ChartVersion:
    """The release of a chart that Helm would install; no version is the newest.

    Raises ChartNotFoundError when the repository, the chart in it or the version is not in the table.
    """
    name = name.strip()
    if not repository:
        raise ChartNotFoundError(
            f"non-absolute URLs should be in form of repo_name/path_to_chart, got: {name}"
            f" ({_knows('give the repository of a chart', known)})"
        )
    root = repository.rstrip("/")
    of_repository = [chart for chart in known if chart.repository == root]
    if not of_repository:
        raise ChartNotFoundError(
            f'looks like "{repository}" is not a valid chart repository or cannot be reached'
            f" ({_knows('the sandbox has no network', known)})"
        )
    named = [chart for chart in of_repository if chart.name == name]
    wanted = (version or "").strip()
    if not named:
        what = f'chart "{name}"' + (f' version "{wanted}"' if wanted else "")
        raise ChartNotFoundError(f"{what} not found in {repository} repository ({_knows('', of_repository)})")
    chart = named[0]
    exact = wanted.removeprefix("v") or chart.newest
    if not re.fullmatch(chart.releases, exact) or _order(exact) > _order(chart.newest):
        raise ChartNotFoundError(
            f'chart "{name}" version "{wanted}" not found in {repository} repository'
            f" (the sandbox knows exact releases of it up to {chart.newest})"
        )
    return ChartVersion(name, exact, chart.app_versions.get(exact, ""))


def _knows(lead: str, known: Sequence[Chart]) -> str:
    charts = ", ".join(f"{chart.name} at {chart.repository}" for chart in known)
    return (lead + "; " if lead else "") + f"the sandbox knows {charts}"


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
