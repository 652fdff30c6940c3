"""What the stack `services` is given: sizes, versions and names, and no password."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from test_service_secrets import GITSYNC, secret_values

from cali_infra.core import assets, tfvars
from cali_infra.core.inputs import Inputs
from cali_infra.core.secrets import Secrets
from cali_infra.core.settings import Settings

OUTPUTS: Mapping[str, Mapping[str, Any]] = {
    "eks": {"cluster_endpoint": "https://cluster.example", "cluster_ca": "LS0t", "cluster_version": "1.35"},
    "search": {"opensearch_endpoint": "search.example.com"},
}
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def given(settings: dict[str, Any] | None = None, secrets: Secrets | None = None) -> dict[str, Any]:
    """The variables of the stack, as its file has them."""
    inputs = Inputs(
        Settings.model_validate(settings or {}),
        secrets or secret_values(gitsync=GITSYNC),
        "111122223333",
        "arn:aws:iam::111122223333:user/lead",
        NOW,
        lambda stack: OUTPUTS.get(stack, {}),
    )
    folder = assets.folder("terraform") / "services"
    rendered = tfvars.encode(tfvars.render(folder, inputs.variables("services")))
    return cast(dict[str, Any], json.loads(rendered))


def test_no_password_is_among_them() -> None:
    everything = secret_values(
        gitsync={**GITSYNC, "token": "Sentinel-token"},
        airflow={"database_url": "postgresql://air:Sentinel-outside@db.example.com/x"},
    )
    for secrets in (everything, secret_values(gitsync=GITSYNC)):
        text = json.dumps(given(secrets=secrets))
        assert "Sentinel" not in text
        assert "PRIVATE KEY" not in text
        assert secrets.airflow.fernet_key.get_secret_value() not in text


def test_each_switch_takes_its_release_and_its_pods_away() -> None:
    found = given({"services": {"milvus": False}})
    assert found["milvus"] is None
    assert found["airflow"]["version"] == "3.2.2"
    assert not [name for name in (*found["pods"], *found["revisions"]) if name.startswith("milvus")]
    none = given({"services": {"airflow": False, "milvus": False, "grafana": False}})
    assert none["revisions"] == {}
    assert set(none["pods"]) == {"git-sync", "log-groomer"}


@pytest.mark.parametrize(
    ("gitsync", "auth", "known_hosts"),
    [
        (GITSYNC, "ssh", GITSYNC["known_hosts"]),
        ({"url": "https://example.com/acme/dags", "token": "Sentinel-token"}, "token", ""),
        # What is there for another URL is not used.
        ({**GITSYNC, "url": "https://example.com/acme/dags"}, "none", ""),
    ],
)
def test_git_sync_is_told_how_to_get_in(gitsync: dict[str, Any], auth: str, known_hosts: str) -> None:
    settings = {"airflow": {"dags_branch": "release", "dags_path": "dags", "sync_seconds": 30}}
    found = given(settings, secret_values(gitsync=gitsync))["airflow"]["git"]
    assert found == {
        "url": gitsync["url"],
        "branch": "release",
        "path": "dags",
        "seconds": 30,
        "auth": auth,
        "known_hosts": known_hosts,
    }
    names = set(given(settings, secret_values(gitsync=gitsync))["revisions"])
    assert ("airflow-git-ssh" in names, "airflow-git-credentials" in names) == (
        auth == "ssh",
        auth == "token",
    )


def test_without_a_repository_git_sync_is_off_and_nothing_is_kept_for_it() -> None:
    found = given(secrets=secret_values())
    assert found["airflow"]["git"] is None
    assert not [name for name in found["revisions"] if "git" in name]


def test_a_database_elsewhere_is_said_without_its_url() -> None:
    url = "postgresql://air:Sentinel-outside@db.example.com/x"
    found = given(secrets=secret_values(airflow={"database_url": url}))
    assert found["airflow"]["bundled_database"] is False
    assert "airflow/postgresql" not in found["pods"]
    assert "airflow-database" not in found["revisions"]


def test_grafana_reads_the_indices_that_fluent_bit_writes() -> None:
    found = given(
        {"logging": {"index_prefix": "acme"}, "search": {"engine_version": "OpenSearch_2.17"}},
    )
    grafana = found["grafana"]
    assert (grafana["index"], grafana["user"], grafana["engine_version"]) == (
        *("acme-*", "cali-reader"),
        "2.17.0",
    )
    assert found["opensearch_endpoint"] == "search.example.com"


def test_a_bucket_belongs_to_a_cluster_only() -> None:
    assert given({"milvus": {"bucket": "acme-milvus"}})["milvus"]["bucket"] is None
    assert (
        given({"milvus": {"mode": "cluster", "bucket": "acme-milvus"}})["milvus"]["bucket"] == "acme-milvus"
    )


def test_the_example_names_every_secret_and_every_pod_of_the_defaults() -> None:
    """For whoever runs Terraform by hand."""
    text = (Path(__file__).parents[3] / "terraform.tfvars.example").read_text()
    found = given()
    for name, pod in found["pods"].items():
        size = f'{{ cpu = "{pod["cpu"]}", memory = "{pod["memory"]}", replicas = {pod["replicas"]} }}'
        assert f'"{name}"' in text
        assert size in text.split(f'"{name}"')[1].splitlines()[0]
    for name in set(found["revisions"]) - {"airflow-admin"}:
        assert f'"{name}"' in text
    for service in ("airflow", "milvus", "grafana"):
        for key in ("chart_version", "version"):
            assert f"{key}" in text
            assert f'= "{found[service][key]}"' in text
