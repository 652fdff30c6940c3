"""What the services' charts are rendered to, as far as anything in cali looks at it.

Helm's stand-in puts it into a release's record as its manifest, where Helm has it, and the agent of the services
makes the objects. Left out are what nobody here asks about: roles, disruption budgets, probes, security contexts,
first containers, and the Jobs that end before the release counts as deployed. A chart that is not known is rendered
to nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cali_infra.sandbox.charts import airflow, grafana, milvus
from cali_infra.sandbox.charts.objects import Obj, Release

_CHARTS = {"airflow": airflow.render, "milvus": milvus.render, "grafana": grafana.render}


def render(chart: str, release: str, namespace: str, values: Mapping[str, Any]) -> list[Obj]:
    """The objects of a chart with the values that differ from its own; none where the chart is not known."""
    made = _CHARTS.get(chart)
    return made(Release(release, namespace, values)) if made else []


def manifest(chart: str, release: str, namespace: str, values: Mapping[str, Any]) -> str:
    """The same as Helm keeps it: one YAML document for each object."""
    return "".join(f"---\n{json.dumps(obj)}\n" for obj in render(chart, release, namespace, values))
