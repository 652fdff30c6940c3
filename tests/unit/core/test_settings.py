"""What a person is told about `cali.yaml`: everything at once, in words, with the way out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from cali_infra.core.settings import Settings, load_settings
from cali_infra.errors import PreconditionError, SettingsError


def load(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, env: str | None = None
) -> Settings:
    (folder / "cali.yaml").write_text(text, encoding="utf-8")
    return load_settings(folder, environ or {}, env)


def mistakes(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Dotted key to what is wrong with it."""
    with pytest.raises(SettingsError) as caught:
        load(folder, text, environ)
    return {problem.key: problem.problem for problem in caught.value.problems}


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, "# nothing yet\n")
    assert (settings.region, settings.environment) == ("ap-northeast-2", "default")
    assert settings.cluster_name == settings.domain_name == "cali-default"
    assert settings.allowed_cidrs == []
    assert settings.autoscaler_image_tag == "v1.35.0"


def test_sections_whose_keys_are_all_commented_out_mean_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "eks:\n  # version: '1.34'\nallowed_cidrs:\n").eks.version == "1.35"


def test_without_the_file_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match=r"no cali\.yaml") as caught:
        load_settings(tmp_path, {})
    assert "cali init" in caught.value.remedy


def test_every_mistake_is_told_at_once_with_an_example(tmp_path: Path) -> None:
    text = """
projekt: demo
region: seoul
network: {cidr: 10.0.0.0/24}
eks: {min_nodes: several, disk_gib: 5, capacity_type: ondemand, log_types: [audti]}
search: {instance_count: 4}
services: [airflow]
"""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert {problem.key for problem in caught.value.problems} == {
        *("projekt", "region", "network.cidr", "eks.min_nodes", "eks.disk_gib", "eks.capacity_type"),
        *("eks.log_types[0]", "search.instance_count", "services"),
    }
    assert all(problem.file == "cali.yaml" for problem in caught.value.problems)
    shown = caught.value.message
    assert 'region: "ap-northeast-2"' in shown
    assert "pydantic" not in shown
    assert "input" not in shown.lower()


def test_mistakes_of_both_files_come_together(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("opensearch: 5\n")
    secrets.chmod(0o600)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, "region: 1\n")
    assert {problem.file for problem in caught.value.problems} == {"cali.yaml", "secrets.yaml"}


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("projekt: a", "projekt", "did you mean 'project'"),
        ("eks: {min_node: 2}", "eks.min_node", "did you mean 'min_nodes'"),
        ("version: '1.35'", "version", "it belongs at 'eks.version'"),
        ("zzzzz: 1", "zzzzz", "known here: project, environment"),
        ("_env_file: /etc/passwd", "_env_file", "no such key"),
        ("eks: {min_nodes: lots}", "eks.min_nodes", "must be a whole number, not text"),
        ("eks: {min_nodes: true}", "eks.min_nodes", "must be a whole number, not true"),
        ("eks: {min_nodes: [1]}", "eks.min_nodes", "must be a whole number, not a list"),
        ("eks: {min_nodes: 0}", "eks.min_nodes", "must be at least 1"),
        ("eks: {instance_types: []}", "eks.instance_types", "must have at least 1 entry"),
        ("eks: {instance_types: m6i.large}", "eks.instance_types", "must be a list, not text"),
        ("eks: {log_types: [audti]}", "eks.log_types[0]", "did you mean 'audit'"),
        ("eks: {log_retention_days: 31}", "eks.log_retention_days", "the nearest is 30"),
        ("eks: {version: 1.7}", "eks.version", "not a Kubernetes version"),
        ("eks: {min_nodes: 9}", "eks.max_nodes", "is 8, less than min_nodes (9)"),
        ("eks: {desired_nodes: 9}", "eks.desired_nodes", "is 9, more than max_nodes (8)"),
        ("eks: {min_nodes: 3, desired_nodes: 2}", "eks.desired_nodes", "is 2, less than min_nodes (3)"),
        ("eks: 7", "eks", "must be a block of keys and values, not a number"),
        ("services: {airflow: maybe}", "services.airflow", "must be true or false"),
        ("project: 7", "project", "must be text, not a number; put it in quotes"),
        ("project: Demo", "project", "lower-case letters"),
        ("project: a-really-long-project-name", "environment", "34 characters"),
        ("environment: sandbox", "environment", "kept for the sandbox"),
        ("environment: sandbox-a", "environment", "kept for the sandbox"),
        ("environment: ../up", "environment", "lower-case letters"),
        ("region: ap_northeast", "region", "not the name of an AWS region"),
        ("network: {cidr: 10.0.0.0/21}", "network.cidr", "need a /20 or larger"),
        ("network: {cidr: 10.0.0.0/8}", "network.cidr", "a VPC is a /16 at most"),
        ("network: {cidr: 10.0.0.1/16}", "network.cidr", "the network is 10.0.0.0/16"),
        ("network: {cidr: '::/16'}", "network.cidr", "not an IPv4 network"),
        ("allowed_cidrs: [203.0.113.7]", "allowed_cidrs[0]", "one single address is 203.0.113.7/32"),
        ("allowed_cidrs: [0.0.0.0/0]", "allowed_cidrs", "needs allow_world: true"),
        ("allowed_cidrs: [0.0.0.0/1, 128.0.0.0/1]", "allowed_cidrs", "needs allow_world: true"),
        ("search: {instance_count: 5}", "search.instance_count", "use 1, 2 or a multiple of 3"),
        ("search: {create_timeout: 1 hour}", "search.create_timeout", "not a duration"),
        ("search: {engine_version: OpenSearch_1.3}", "search.engine_version", "2 or newer"),
        ("search: {instance_type: r6g.large}", "search.instance_type", "r6g.large.search"),
        ("state: {backend: s3}", "state.bucket", "backend s3 needs it"),
        ("state: {backend: s3, bucket: No}", "state.bucket", "not a bucket's name"),
        ("state: {backend: gcs}", "state.backend", "must be 'local' or 's3'"),
        ("autoscaler: {chart_version: 9.46.6}", "autoscaler", "needs chart 9.47.0 or newer"),
        ("autoscaler: {chart_version: latest}", "autoscaler.chart_version", "version of three numbers"),
        ("autoscaler: {image_tag: latest}", "autoscaler.image_tag", "such as v1.35.0"),
        (
            "airflow: {chart_version: 1.19.0}",
            "airflow.chart_version",
            "it takes 1.20.0 or newer, below 2.0.0",
        ),
        ("airflow: {chart_version: 2.0.0}", "airflow.chart_version", "does not go with the values"),
        ("airflow: {version: 2.11.0}", "airflow.version", "it takes 3.1.0 or newer, below 4.0.0"),
        ("airflow: {dags_branch: -x}", "airflow.dags_branch", "not the name of a branch"),
        ("airflow: {dags_path: /dags}", "airflow.dags_path", "a folder inside the repository"),
        ("airflow: {dags_path: a/../../b}", "airflow.dags_path", "a folder inside the repository"),
        ("airflow: {sizes: {webserver: {cpu: 1, memory: 1Gi}}}", "airflow.sizes", "there are api-server,"),
        ("airflow: {sizes: {worker: {cpu: '1'}}}", "airflow.sizes.worker.memory", "is missing"),
        ("airflow: {sizes: {worker: {cpu: '0.5', memory: 1Gi}}}", "airflow.sizes.worker.cpu", "500m or 2"),
        ("airflow: {sizes: {worker: {cpu: '1', memory: 1G}}}", "airflow.sizes.worker.memory", "512Mi or 2Gi"),
        ("milvus: {chart_version: 4.2.40}", "milvus.chart_version", "it takes 5.0.8 or newer, below 6.0.0"),
        ("milvus: {chart_version: 5.0.7}", "milvus.chart_version", "it takes 5.0.8 or newer, below 6.0.0"),
        ("milvus: {version: v2.6.15}", "milvus.version", "a version of three numbers"),
        ("milvus: {version: 2.5.20}", "milvus.version", "it takes 2.6.0 or newer, below 3.0.0"),
        ("milvus: {mode: cluster}", "milvus.bucket", "mode cluster keeps its data there"),
        ("milvus: {mode: cluster, bucket: No}", "milvus.bucket", "not a bucket's name"),
        ("grafana: {chart_version: 10.5.0}", "grafana.chart_version", "it takes 12.0.0 or newer"),
        ("grafana: {version: 11.6.0}", "grafana.version", "it takes 12.0.0 or newer, below 14.0.0"),
        ("grafana: {plugin_version: 3.0.0}", "grafana.plugin_version", "below 3.0.0"),
        ("tags: {aws:x: y}", "tags", "keeps the prefix"),
        ("tags: {team: 7}", "tags.team", "put it in quotes"),
        ("1: 2", "1", "a key must be text"),
        ("- a", "", "must be keys and values, not a list"),
        ("just text", "", "must be keys and values, not text"),
        ("region: a\nregion: b", "region", "stands here twice (line 2)"),
        ("eks: {a: 1,\n  a: 2}", "a", "stands here twice (line 2)"),
        ("project: [a", "", "line 1, column 12: is not valid YAML"),
        ("a: b: c", "", "line 1, column 5: is not valid YAML"),
        ("project: \x07", "", "U+0007"),
    ],
)
def test_a_mistake_in_words(tmp_path: Path, text: str, key: str, words: str) -> None:
    found = mistakes(tmp_path, text)
    assert words in found[key]


@pytest.mark.parametrize(
    "text",
    [
        "environment: prod",
        "allowed_cidrs: [0.0.0.0/0]\nallow_world: true",
        "state: {backend: s3, bucket: acme-state}",
        "autoscaler: {chart_version: 9.46.6, image_tag: v1.31.0}\neks: {version: '1.31'}",
        "eks: {min_nodes: 4, desired_nodes: 4, max_nodes: 4}",
        "airflow: {dags_branch: release/2.x, dags_path: airflow/my dags}",
        "airflow: {sizes: {worker: {cpu: 500m, memory: 3Gi}, scheduler: {cpu: 2, memory: 2048Mi}}}",
        "milvus: {mode: cluster, bucket: acme-milvus}",
        "milvus: {bucket: acme-milvus}",
        *(f"search: {{instance_count: {count}}}" for count in (1, 2, 3, 6, 9)),
        *(f"network: {{cidr: 10.0.0.0/{size}}}" for size in (16, 20)),
        *(f"region: {region}" for region in ("us-gov-west-1", "cn-north-1", "us-east-1", "eusc-de-east-1")),
    ],
)
def test_what_is_right_is_taken(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


def test_a_version_without_quotes_keeps_its_last_zero(tmp_path: Path) -> None:
    assert load(tmp_path, "eks: {version: 1.30}").eks.version == "1.30"


def test_text_is_kept_as_terraform_keeps_it(tmp_path: Path) -> None:
    decomposed = "\u1112\u1161\u11ab"
    assert load(tmp_path, f"tags: {{team: {decomposed}}}").tags == {"team": "\ud55c"}


class TestEnvironment:
    def test_a_variable_overrides_a_key(self, tmp_path: Path) -> None:
        settings = load(
            tmp_path,
            "search: {create_timeout: 60m, volume_gib: 50}",
            {"CALI_SEARCH__CREATE_TIMEOUT": "1s", "CALI_REGION": "us-east-1", "CALI_ALLOW_WORLD": "true"},
        )
        assert settings.search.create_timeout == "1s"
        assert settings.search.volume_gib == 50
        assert (settings.region, settings.allow_world) == ("us-east-1", True)

    @pytest.mark.parametrize("given", ['["m6i.large", "m6a.large"]', "m6i.large, m6a.large"])
    def test_a_list_is_json_or_separated_by_commas(self, tmp_path: Path, given: str) -> None:
        settings = load(tmp_path, "", {"CALI_EKS__INSTANCE_TYPES": given})
        assert settings.eks.instance_types == ["m6i.large", "m6a.large"]

    def test_a_mistake_names_the_variable(self, tmp_path: Path) -> None:
        found = mistakes(
            tmp_path,
            "",
            {"CALI_EKS__MIN_NODES": "few", "CALI_EKS__VERSIONS": "1", "CALI_SERVICES": "{broken"},
        )
        assert set(found) == {"CALI_EKS__MIN_NODES", "CALI_EKS__VERSIONS", "CALI_SERVICES"}
        assert "did you mean 'version'" in found["CALI_EKS__VERSIONS"]

    def test_cali_variables_that_are_no_settings_are_left_alone(self, tmp_path: Path) -> None:
        other = {"CALI_SANDBOX_DIR": "/x", "CALI_TEST_KUBECONFIG": "y", "CALI_ENVIRONMENT": "", "HOME": "/"}
        assert load(tmp_path, "", other) == load(tmp_path, "")

    def test_the_process_s_own_environment_is_not_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CALI_REGION", "us-east-1")
        assert load(tmp_path, "").region == "ap-northeast-2"

    def test_env_overrides_file_and_variable(self, tmp_path: Path) -> None:
        settings = load(tmp_path, "environment: a1", {"CALI_ENVIRONMENT": "b1"}, env="c1")
        assert settings.cluster_name == "cali-c1"
