"""What holds our values against a chart's: it sees a mistyped key, and leaves alone what a chart leaves open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from . import charts

VALUES = """
image:
  tag: "1"
persistence:
  enabled: false
  # storageClassName: default
resources: {}
extra:
  resources:
    requests:
      memory: 2Gi
plugins: []
grafana.ini:
  log:
    mode: console
"""


@pytest.fixture
def chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> charts.Chart:
    (tmp_path / "grafana-1.2.3.values.yaml").write_text(VALUES)
    monkeypatch.setenv("CALI_TEST_CHARTS", str(tmp_path))
    return charts.chart("grafana", tmp_path)


@pytest.mark.parametrize(
    ("values", "unknown"),
    [
        ({"image": {"tag": "2"}, "plugins": ["one"]}, []),
        ({"imag": {"tag": "2"}}, ["imag"]),
        ({"image": {"tga": "2"}}, ["image.tga"]),
        # Shown in a comment only.
        ({"persistence": {"storageClassName": "gp2"}}, []),
        ({"persistence": {"storageClass": "gp2"}}, ["persistence.storageClass"]),
        ({"extra": {"resources": {"requests": {"cpu": "1"}}, "resource": {}}}, ["extra.resource"]),
        # Empty in the chart: whatever Kubernetes takes.
        ({"resources": {"limits": {"memory": "1Gi"}}}, []),
        # The application's own settings.
        ({"grafana.ini": {"analytics": {"reporting_enabled": False}}}, []),
    ],
)
def test_a_mistyped_key_is_seen(chart: charts.Chart, values: dict[str, Any], unknown: list[str]) -> None:
    assert chart.version == "1.2.3"
    assert charts.unknown(values, chart) == unknown


def test_a_chart_inside_another_has_its_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "milvus" / "charts" / "etcd"
    inner.mkdir(parents=True)
    (tmp_path / "milvus" / "Chart.yaml").write_text("version: 5.0.0")
    (tmp_path / "milvus" / "values.yaml").write_text("etcd:\n  replicaCount: 3\n")
    (inner / "values.yaml").write_text("replicaCount: 1\nresources: {}\n")
    monkeypatch.setenv("CALI_TEST_CHARTS", str(tmp_path))

    found = charts.chart("milvus", tmp_path)

    assert found.defaults["etcd"] == {"replicaCount": 3, "resources": {}}
    assert charts.unknown({"etcd": {"resources": {"requests": {}}, "replica": 1}}, found) == ["etcd.replica"]


def test_what_is_not_at_hand_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CALI_TEST_CHARTS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="CALI_TEST_CHARTS"):
        charts.chart("grafana", tmp_path)
    monkeypatch.setenv("CALI_TEST_CHARTS", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="no chart grafana"):
        charts.chart("grafana", tmp_path)
