"""The objects of the stage `logging`, and what Fluent Bit is told to do.

Without the program itself the configuration is held to its structure; what each line is for stands beside it, and
what the program makes of it is tried in tests/fluent_bit.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from cali_infra.adapters.kustomize import Kustomize
from cali_infra.core import assets
from cali_infra.core.fluent_bit import REVISION, SECRET, FluentBit, build
from cali_infra.core.fluent_bit import objects as from_settings
from cali_infra.core.secrets import OpenSearchSecrets, Secrets
from cali_infra.core.settings import Settings

SOURCE = assets.folder("k8s") / "fluent-bit"
FILE = "fluent-bit.yaml"
PASSWORD = "Sentinel-password-1"

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="there is no kubectl on this machine"
)


def fluent_bit(**changes: Any) -> FluentBit:
    values: dict[str, Any] = {
        "cluster_name": "cali-default",
        "endpoint": "search.example.com",
        "index_prefix": "cali-logs",
        "user": "cali-writer",
        "password": SecretStr(PASSWORD),
        "revision_key": SecretStr("only-on-the-laptop"),
    }
    return FluentBit(**{**values, **changes})


def rendered(folder: Path, **changes: Any) -> list[dict[str, Any]]:
    render = Kustomize(environ=os.environ).render
    return build(fluent_bit(**changes), source=SOURCE, folder=folder / "fluent-bit", render=render)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on this machine")
    return rendered(tmp_path_factory.mktemp("rendered"))


def one(objects: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].startswith(name)]
    return found


def configuration() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SOURCE / FILE).read_text())
    return found


def tail() -> dict[str, Any]:
    (found,) = configuration()["pipeline"]["inputs"]
    assert isinstance(found, dict)
    return found


def output() -> dict[str, Any]:
    (found,) = configuration()["pipeline"]["outputs"]
    assert isinstance(found, dict)
    return found


def processor(alias: str) -> dict[str, Any]:
    (found,) = [one for one in tail()["processors"]["logs"] if one["alias"] == alias]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


# -- the objects --------------------------------------------------------------------------------------------


def test_the_stage_holds_these_objects(objects: list[dict[str, Any]]) -> None:
    def name(obj: dict[str, Any]) -> str:
        hashed = obj["kind"] == "ConfigMap"
        return str(obj["metadata"]["name"]).rpartition("-")[0] if hashed else str(obj["metadata"]["name"])

    assert sorted((o["kind"], name(o)) for o in objects) == [
        ("ClusterRole", "cali-fluent-bit"),
        ("ClusterRoleBinding", "cali-fluent-bit"),
        ("ConfigMap", "fluent-bit-config"),
        ("ConfigMap", "fluent-bit-settings"),
        ("DaemonSet", "fluent-bit"),
        ("Namespace", "logging"),
        ("Secret", SECRET),
        ("ServiceAccount", "fluent-bit"),
    ]


def test_the_settings_are_this_platforms(objects: list[dict[str, Any]]) -> None:
    assert one(objects, "ConfigMap", "fluent-bit-settings")["data"] == {
        "CLUSTER_NAME": "cali-default",
        "OPENSEARCH_HOST": "search.example.com",
        "OPENSEARCH_PORT": "443",
        "INDEX_PREFIX": "cali-logs",
    }


def test_an_endpoint_may_name_its_port() -> None:
    settings = fluent_bit(endpoint="127.0.0.1:9200").settings()
    assert (settings["OPENSEARCH_HOST"], settings["OPENSEARCH_PORT"]) == ("127.0.0.1", "9200")


def test_the_committed_settings_name_the_same_variables() -> None:
    lines = (SOURCE / "settings.env").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert names == set(fluent_bit().settings())


def test_the_password_is_in_the_secret_and_nowhere_else(
    objects: list[dict[str, Any]], tmp_path: Path, container: dict[str, Any]
) -> None:
    secret = one(objects, "Secret")
    assert base64.b64decode(secret["data"]["OPENSEARCH_PASSWORD"]).decode() == PASSWORD
    assert base64.b64decode(secret["data"]["OPENSEARCH_USER"]).decode() == "cali-writer"
    assert {"secretRef": {"name": SECRET}} in container["envFrom"]
    rest = repr([o for o in objects if o["kind"] != "Secret"])
    assert PASSWORD not in rest
    rendered(tmp_path)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes()
    assert PASSWORD not in repr(fluent_bit())


@needs_kubectl
def test_a_new_password_rolls_the_pods_and_its_mark_says_nothing(tmp_path: Path) -> None:
    def mark(**changes: Any) -> str:
        meta = one(rendered(tmp_path, **changes), "DaemonSet")["spec"]["template"]["metadata"]
        return str(meta["annotations"][REVISION])

    assert mark() == mark()
    assert mark(password=SecretStr("Another-password-2")) != mark()
    # Without the key, which the cluster does not hold, a guess cannot be held against it.
    assert mark(revision_key=SecretStr("another key")) != mark()


@needs_kubectl
def test_a_change_of_the_settings_rolls_the_pods(tmp_path: Path) -> None:
    def reference(**changes: Any) -> Any:
        template = one(rendered(tmp_path, **changes), "DaemonSet")["spec"]["template"]
        return template["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]

    assert reference() != reference(index_prefix="other")


@needs_kubectl
def test_it_is_rendered_in_a_private_copy_without_leftovers(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in SOURCE.iterdir()}
    folder = tmp_path / "fluent-bit"
    folder.mkdir()
    (folder / "left-over.yaml").write_text("kind: Namespace")
    rendered(tmp_path)
    assert {path: path.read_bytes() for path in SOURCE.iterdir()} == before
    assert {path.name for path in folder.iterdir()} == {path.name for path in SOURCE.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "OPENSEARCH_HOST=search.example.com" in (folder / "settings.env").read_text()


def test_it_may_look_up_pods_and_nothing_else(objects: list[dict[str, Any]]) -> None:
    assert one(objects, "ClusterRole")["rules"] == [
        {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["get", "list", "watch"]}
    ]
    binding = one(objects, "ClusterRoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "fluent-bit", "namespace": "logging"}]


def test_it_runs_on_every_node_and_rolls_a_few_at_a_time(
    objects: list[dict[str, Any]], pod: dict[str, Any]
) -> None:
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"
    strategy = one(objects, "DaemonSet")["spec"]["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}


def test_its_image_is_pinned(container: dict[str, Any]) -> None:
    assert re.fullmatch(r"cr\.fluentbit\.io/fluent/fluent-bit:\d+\.\d+\.\d+", container["image"])


def test_it_may_do_no_more_than_read_logs(container: dict[str, Any]) -> None:
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["state"]
    assert container["resources"]["limits"]["memory"]
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_its_probes_ask_its_health_port(container: dict[str, Any]) -> None:
    (port,) = container["ports"]
    service = configuration()["service"]
    assert (service["http_server"], service["http_port"]) == (True, port["containerPort"])
    assert service["health_check"] is True
    assert container["livenessProbe"]["httpGet"] == {"path": "/", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/api/v1/health", "port": "http"}


def test_what_is_not_sent_yet_outlives_the_pod(pod: dict[str, Any], container: dict[str, Any]) -> None:
    (volume,) = [v for v in pod["volumes"] if v["name"] == "state"]
    assert volume["hostPath"]["type"] == "DirectoryOrCreate"
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "state"]
    state = Path(mount["mountPath"])
    assert state in Path(configuration()["service"]["storage.path"]).parents
    assert state in Path(tail()["db"]).parents


# -- the configuration --------------------------------------------------------------------------------------


def test_the_container_is_told_this_file(objects: list[dict[str, Any]], container: dict[str, Any]) -> None:
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "config"]
    assert container["args"] == [f"--config={mount['mountPath']}/{FILE}"]
    assert list(one(objects, "ConfigMap", "fluent-bit-config")["data"]) == [FILE]


def test_the_runtimes_time_is_the_timestamp() -> None:
    assert tail()["multiline.parser"] == "cri"
    written = output()
    assert written["time_key"] == "@timestamp"
    assert written["time_key_nanos"] is True
    assert written["logstash_format"] is True
    # A parser with a time of its own, or one of the pod's choice, would set the record's time.
    assert not any("time_key" in one or "time_format" in one for one in configuration()["parsers"])
    kubernetes = processor("pods")
    assert kubernetes["k8s-logging.parser"] is False
    # Merging takes `{} rows deleted` for an object and drops the text behind it.
    assert "merge_log" not in kubernetes


def test_the_applications_own_timestamp_is_kept_at_the_top() -> None:
    lift, rename, nest = (processor(alias) for alias in ("open-app", "source-timestamp", "close-app"))
    assert (lift["operation"], lift["nested_under"]) == ("lift", "app")
    assert (nest["operation"], nest["nest_under"]) == ("nest", "app")
    prefix = lift["add_prefix"]
    assert (nest["wildcard"], nest["remove_prefix"]) == (f"{prefix}*", prefix)
    assert rename["hard_rename"][:2] == [
        "@timestamp source_timestamp",
        f"{prefix}@timestamp source_timestamp",
    ]


def test_the_processors_work_in_this_order() -> None:
    """The joining of traces hands records on one by one: what asks the API server comes before it."""
    assert [one["alias"] for one in tail()["processors"]["logs"]] == [
        "pods",
        "pod-or-file",
        "pod-of-file",
        "close-pod",
        "json",
        "open-app",
        "source-timestamp",
        "close-app",
        "stdout-traces",
        "stderr-traces",
    ]
    # A multiline filter, other than a processor, keeps its records in memory and stops reading in an outage.
    assert "filters" not in configuration()["pipeline"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_each_stream_has_stack_traces_of_its_own(stream: str) -> None:
    joins = processor(f"{stream}-traces")
    assert (joins["multiline.key_content"], joins["multiline.parser"]) == ("log", "stack_trace")
    (rule,) = joins["condition"]["rules"]
    assert (rule["field"], rule["op"], rule["value"]) == ("$stream", "eq", stream)
    # On SIGTERM the program does not wait longer than a second.
    assert joins["flush_ms"] <= 500


def test_no_rule_leads_to_a_beginning() -> None:
    """The program sends such a line twice: at the end of its trace, and alone."""
    (parser,) = configuration()["multiline_parsers"]
    rules = [([state.strip() for state in rule["state"].split(",")], rule) for rule in parser["rules"]]
    assert "start_state" in rules[0][0]
    known = {state for states, _ in rules for state in states}
    beginnings = {state for states, _ in rules if "start_state" in states for state in states}
    for _, rule in rules:
        assert rule["next_state"] in known - beginnings


@pytest.mark.parametrize(
    "trace",
    [
        'Traceback (most recent call last):|  File "a.py", line 1, in f|    g()|KeyError: 1||During handling of '
        'the above exception, another exception occurred:||Traceback (most recent call last):|  File "a.py"|E',
        "java.lang.NullPointerException|\tat a.B.c(B.java:1)|Caused by: a.C: no|\t... 2 more",
        "panic: no||goroutine 1 [running]:|main.main()|\t/app/main.go:3||goroutine 2 [select]:|created by a.b",
    ],
)
def test_the_rules_follow_a_trace_to_its_end(trace: str) -> None:
    (parser,) = configuration()["multiline_parsers"]
    state = "start_state"
    for line in trace.split("|"):
        following = [
            rule["next_state"]
            for rule in parser["rules"]
            if state in rule["state"].split(", ") and re.search(rule["regex"].strip("/"), line)
        ]
        assert following, (state, line)
        state = following[0]


def test_its_own_logs_are_left_out() -> None:
    assert "logging_fluent-bit" in tail()["exclude_path"]


def test_an_outage_is_survived_on_disk_and_a_bad_record_ends_somewhere() -> None:
    service = configuration()["service"]
    assert tail()["storage.type"] == "filesystem"
    assert output()["storage.total_limit_size"]
    assert int(output()["retry_limit"]) > 10
    # A chunk that was open when the program was killed has no right checksum, and would not be sent.
    assert service["storage.checksum"] is False
    assert service["storage.keep.rejected"] is True
    # What lies below the chunks is loaded at the start, and counts as open.
    chunks = PurePosixPath(service["storage.path"])
    rejected = os.path.normpath(chunks / service["storage.rejected.path"])
    assert chunks not in PurePosixPath(rejected).parents
    assert PurePosixPath(rejected).parent == chunks.parent


def test_a_chunk_that_is_sent_again_is_not_stored_twice() -> None:
    assert output()["generate_id"] is True
    assert output()["write_operation"] == "create"


def test_it_speaks_to_opensearch_2_safely() -> None:
    written = output()
    assert written["suppress_type_name"] is True
    assert written["replace_dots"] is True
    assert written["trace_error"] is True
    assert written["tls"] is written["tls.verify"] is written["tls.verify_hostname"] is True


def test_every_variable_is_given(container: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{(\w+)\}", json.dumps(configuration())))
    given = {*fluent_bit().settings(), "OPENSEARCH_USER", "OPENSEARCH_PASSWORD"}
    assert used <= given | {env["name"] for env in container["env"]}


def test_no_folder_of_the_project_holds_a_password() -> None:
    for path in SOURCE.iterdir():
        assert not re.search(
            r"(?i)passw(or)?d\s*[=:]\s*\S*[^\s}]", path.read_text().replace("http_passwd", "")
        )


@needs_kubectl
def test_it_is_told_what_settings_and_secrets_say(tmp_path: Path) -> None:
    password = {"writer_password": PASSWORD, "reader_password": PASSWORD, "master_password": PASSWORD}
    found = from_settings(
        tmp_path / "fluent-bit",
        settings=Settings.model_validate({"project": "shop", "logging": {"index_prefix": "shop-logs"}}),
        secrets=Secrets.model_construct(opensearch=OpenSearchSecrets.model_validate(password)),
        endpoint="search.example.com",
        render=Kustomize(environ=os.environ).render,
    )
    told = one(found, "ConfigMap", "fluent-bit-settings")["data"]
    assert (told["CLUSTER_NAME"], told["INDEX_PREFIX"]) == ("shop-default", "shop-logs")
    assert base64.b64decode(one(found, "Secret")["data"]["OPENSEARCH_PASSWORD"]).decode() == PASSWORD
