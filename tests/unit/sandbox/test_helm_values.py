"""The values of a release, as Helm's `--set` and the provider read them; and the charts that are known."""

from __future__ import annotations

from typing import Any

import pytest

from cali_infra.core.settings import Settings
from cali_infra.sandbox.helm import values
from cali_infra.sandbox.helm.charts import ChartNotFoundError, locate


def entry(name: str, value: str, kind: str | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "type": kind}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("a.b", "x", {"a": {"b": "x"}}),
        ("a", "true", {"a": True}),
        ("a", "null", {"a": None}),
        ("a", "0", {"a": 0}),
        ("a", "-12", {"a": -12}),
        ("a", "012", {"a": "012"}),
        ("a", "1.5", {"a": "1.5"}),
        ("a", "", {"a": ""}),
        ("a", "{x,2}", {"a": ["x", 2]}),
        ("a", "{}", {"a": []}),
        ("a", "1,b=2", {"a": 1, "b": 2}),
        ("a", r"1\,b=2", {"a": "1,b=2"}),
        ("a[1].b", "x", {"a": [None, {"b": "x"}]}),
        (r"annotations.eks\.amazonaws\.com/role", "x", {"annotations": {"eks.amazonaws.com/role": "x"}}),
        ("a", "x=y", {"a": "x=y"}),
        ("이름", "값 😀", {"이름": "값 😀"}),
    ],
)
def test_an_entry_is_read_as_helm_reads_it(name: str, value: str, expected: dict[str, Any]) -> None:
    assert values.document({"set": [entry(name, value)]}) == expected


def test_a_string_stays_a_string_and_a_literal_is_yaml() -> None:
    assert values.document({"set": [entry("a.b", "12", "string")]}) == {"a": {"b": "12"}}
    assert values.document({"set": [entry("a", "{x: [1, 2]}", "literal")]}) == {"a": {"x": [1, 2]}}


def test_documents_merge_left_to_right_and_entries_come_after() -> None:
    release = {
        "values": ["a: {x: 1, y: 1}\nday: 2026-01-02\n", "", "a: {y: 2}\n8080: open\n"],
        "set": [entry("a.z", "3")],
        "set_list": [{"name": "list", "value": ["p", "q"]}],
        "set_sensitive": [entry("a.x", "9")],
    }
    assert values.document(release) == {
        "a": {"x": 9, "y": 2, "z": 3},
        "day": "2026-01-02",
        "8080": "open",
        "list": ["p", "q"],
    }


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("a.b", "secret", None),
        ("a.b", "secret,c.d=secret", None),
        ("a", "{secret,secret}", None),
        ("a[1].b", "secret", None),
        (r"a\.b", "secret", "string"),
        ("a.b", "secret", "literal"),
        ("a", "{b: secret}", "literal"),
    ],
)
def test_whatever_a_sensitive_entry_sets_is_covered(name: str, value: str, kind: str | None) -> None:
    release = {"values": ["keep: 1\na: {keep: 2}"], "set_sensitive": [entry(name, value, kind)]}
    document = values.document(release)
    covered = values.cloak(document, values.sensitive(release["set_sensitive"]))
    assert "secret" in values.as_json(document)
    assert "secret" not in values.as_json(covered)
    assert "(sensitive value)" in values.as_json(covered)
    assert covered["keep"] == 1


@pytest.mark.parametrize(
    "release",
    [
        {"set": [entry("a", "{secret")]},
        {"set": [entry("a", "x,secret")]},
        {"set": [entry("a[-1]", "secret")]},
        {"set": [entry("a[99999]", "secret")]},
        {"set": [entry("a", "*secret", "literal")]},
        {"values": ["a: *secret"]},
        {"values": ["a: 'secret"]},
        {"values": ["- secret"]},
    ],
)
def test_what_cannot_be_read_is_refused_without_being_quoted(release: dict[str, Any]) -> None:
    with pytest.raises(values.ValuesError) as caught:
        values.document(release)
    assert "secret" not in caught.value.detail


def test_json_is_written_as_go_writes_it() -> None:
    assert values.as_json({"b": "<&>", "a": "한"}) == '{"a":"한","b":"\\u003c\\u0026\\u003e"}'


def test_the_newest_release_is_taken_without_a_version() -> None:
    located = locate("https://grafana-community.github.io/helm-charts/", "grafana", None)
    assert (located.version, located.app_version) == ("12.11.1", "13.2.0")
    assert locate("https://airflow.apache.org", "airflow", "v1.20.0").version == "1.20.0"


@pytest.mark.parametrize(
    ("repository", "name", "version", "said"),
    [
        (None, "grafana", None, "non-absolute URLs"),
        ("https://grafana.github.io/helm-charts", "grafana", None, "is not a valid chart repository"),
        ("https://airflow.apache.org", "airflov", "1.20.0", 'chart "airflov" version "1.20.0" not found in'),
        ("https://airflow.apache.org", "airflow", "~> 1.20", 'version "~> 1.20" not found in'),
        ("https://zilliztech.github.io/milvus-helm", "milvus", "5.0.20", "up to 5.0.19"),
    ],
)
def test_what_is_not_in_the_table_is_not_found(
    repository: str | None, name: str, version: str | None, said: str
) -> None:
    with pytest.raises(ChartNotFoundError, match=said):
        locate(repository, name, version)


@pytest.mark.parametrize(
    ("section", "repository", "chart"),
    [
        ("airflow", "https://airflow.apache.org", "airflow"),
        ("milvus", "https://zilliztech.github.io/milvus-helm", "milvus"),
        ("grafana", "https://grafana-community.github.io/helm-charts", "grafana"),
    ],
)
def test_the_versions_that_are_pinned_belong_together(section: str, repository: str, chart: str) -> None:
    """The image is the one that the chart's authors released it for."""
    pinned = getattr(Settings(), section)
    assert locate(repository, chart, pinned.chart_version).app_version == pinned.version
