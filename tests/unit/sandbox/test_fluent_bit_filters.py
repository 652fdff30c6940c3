"""What the sandbox's Fluent Bit makes of lines by the configuration: the same expectations as of the real program,
and what becomes of a record when a part of the configuration is taken out or is not known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, timezone
from typing import Any

import pytest
import yaml

from cali_infra.core import assets
from cali_infra.sandbox.fluent_bit import ConfigurationError, Document, LogFile, Pipeline
from cali_infra.sandbox.kubernetes.logs import LogLine
from tests.fluent_bit.node import SEOUL, Moment
from tests.fluent_bit.records import Delivered, Records, write_all

Obj = dict[str, Any]
TEXT = (assets.folder("k8s") / "fluent-bit" / "fluent-bit.yaml").read_text()
ENVIRON = {
    "CLUSTER_NAME": "cali-default",
    "OPENSEARCH_HOST": "127.0.0.1",
    "OPENSEARCH_PORT": "9200",
    "OPENSEARCH_USER": "writer",
    "OPENSEARCH_PASSWORD": "Sentinel-password-1",
    "INDEX_PREFIX": "cali-logs",
}
NOON = 1_769_483_045_123_456_789


def pipeline(text: str = TEXT, **environ: str) -> Pipeline:
    return Pipeline.read("fluent-bit.yaml", text, {**ENVIRON, **environ})


def without(*parts: str, text: str = TEXT) -> str:
    """The configuration with these parts taken out; each is in it once."""
    for part in parts:
        assert text.count(part) == 1, part
        text = text.replace(part, "")
    return text


def changed(said: str, here: str) -> str:
    assert TEXT.count(said) >= 1, said
    return TEXT.replace(said, here)


def processor(alias: str) -> str:
    """A processor's lines in the configuration, by its alias."""
    (found,) = [part for part in TEXT.split("          - name: ")[1:] if f"alias: {alias}\n" in part]
    return "          - name: " + found.split("\n\n")[0].rstrip() + "\n"


def a_pod(**metadata: Any) -> Obj:
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "uid-1", **metadata},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "example.com/app:1"}]},
    }


def log_of(pod: Obj, container: str = "app") -> LogFile:
    return LogFile.of(pod, container, hashlib.sha256(container.encode()).hexdigest())


def sent(made: Pipeline, *lines: str, stream: str = "stdout", pod: Obj | None = None) -> list[Document]:
    return made.documents(
        log_of(pod or a_pod()), [LogLine(NOON + number, stream, line) for number, line in enumerate(lines)]
    )


def bodies(text: str, *lines: str, **options: Any) -> list[Obj]:
    return [one.body for one in sent(pipeline(text), *lines, **options)]


@dataclass
class Log:
    """One container's log, which the samples are written to."""

    file: LogFile
    lines: list[LogLine] = field(default_factory=list)

    def write(
        self, *lines: str, at: Moment, step: int = 1_000_000, stream: str = "stdout", zone: timezone = SEOUL
    ) -> list[Moment]:
        moments = [at.later(step * number) for number in range(len(lines))]
        for line, when in zip(lines, moments, strict=True):
            self.lines.append(LogLine(when.seconds * 1_000_000_000 + when.nanos, stream, line))
        return moments


@pytest.fixture(scope="module")
def delivered() -> Delivered:
    logs: list[Log] = []

    def container(name: str, namespace: str = "shop", container: str = "app") -> Log:
        pod = {"metadata": {"name": name, "namespace": namespace}}
        logs.append(Log(LogFile(log_of(pod, container).path, None)))
        return logs[-1]

    def pod(name: str, **metadata: Any) -> Log:
        logs.append(Log(log_of(a_pod(name=name, **metadata))))
        return logs[-1]

    written = write_all(pod, container)
    made = pipeline()
    found = [one for log in logs for one in made.documents(log.file, log.lines)]
    # A domain keeps one document of an identifier.
    kept = {(one.index, one.identifier): one for one in found}

    def stored(pod: str = "", index: str = "") -> list[Obj]:
        mine = [
            one.body
            for one in kept.values()
            if index in ("", one.index) and pod in ("", one.body["kubernetes"]["pod_name"])
        ]
        return sorted(mine, key=lambda one: (one["@timestamp"], one["stream"]))

    return Delivered(stored, written.when, UTC)


class TestRecords(Records):
    """The expectations that the real program is held to."""


class TestADocument:
    def test_it_goes_to_the_index_of_its_day_and_is_never_overwritten(self) -> None:
        (found,) = sent(pipeline(), "hello")
        assert (found.operation, found.index) == ("create", "cali-logs-2026.01.27")

    def test_equal_records_have_equal_identifiers_and_others_do_not(self) -> None:
        first, second = sent(pipeline(), "hello", "hello")
        assert first.identifier != second.identifier
        assert sent(pipeline(), "hello", "hello") == [first, second]

    def test_where_it_goes_comes_from_the_environment(self) -> None:
        destination = pipeline().destination
        assert (destination.host, destination.port, destination.tls) == ("127.0.0.1", 9200, True)
        assert (destination.user, destination.password) == ("writer", "Sentinel-password-1")
        assert "Sentinel" not in repr(destination)

    def test_it_says_what_the_api_server_knows_of_the_pod(self) -> None:
        pod = a_pod(labels={"app": "web"}, annotations={"a": "b"})
        pod["status"] = {
            "podIP": "10.0.0.7",
            "containerStatuses": [{"name": "app", "image": "app:1", "imageID": "docker://app@sha256:1"}],
        }
        (found,) = sent(pipeline(), "hello", pod=pod)
        assert found.body["kubernetes"] == {
            "pod_name": "web",
            "namespace_name": "shop",
            "pod_id": "uid-1",
            "labels": {"app": "web"},
            "host": "node-1",
            "pod_ip": "10.0.0.7",
            "container_name": "app",
            "docker_id": hashlib.sha256(b"app").hexdigest(),
            "container_hash": "app@sha256:1",
            "container_image": "app:1",
        }

    @pytest.mark.parametrize(
        ("annotations", "kept"),
        [
            ({"exclude": "true"}, set()),
            ({"exclude": "false"}, {"stdout", "stderr"}),
            ({"exclude_stderr": "true"}, {"stdout"}),
            ({"exclude-app": "true"}, set()),
            ({"exclude-other": "true"}, {"stdout", "stderr"}),
            ({"exclude": "true", "exclude_stdout-app": "false"}, {"stdout"}),
        ],
    )
    def test_a_pod_can_ask_to_be_left_out(self, annotations: dict[str, str], kept: set[str]) -> None:
        pod = a_pod(annotations={f"fluentbit.io/{key}": value for key, value in annotations.items()})
        found = {
            one.body["stream"]
            for stream in ("stdout", "stderr")
            for one in sent(pipeline(), "hello", stream=stream, pod=pod)
        }
        assert found == kept

    def test_the_pods_of_fluent_bit_itself_are_left_out_by_their_files_names(self) -> None:
        own = LogFile.of(
            {"metadata": {"name": "fluent-bit-x7k2p", "namespace": "logging"}}, "fluent-bit", "0" * 64
        )
        line = [LogLine(NOON, "stdout", "of its own")]
        assert not pipeline().takes(own.path)
        assert pipeline().documents(own, line) == []
        text = without("      exclude_path: /var/log/containers/fluent-bit-*_logging_fluent-bit-*.log\n")
        assert len(pipeline(text).documents(own, line)) == 1


class TestAPartThatIsTakenOut:
    STAMPED = '{"@timestamp": "2001-02-03T04:05:06Z", "n": 1}'

    def test_without_the_hard_rename_the_applications_own_time_stays_below_app(self) -> None:
        (found,) = bodies(without("              - '__app__@timestamp source_timestamp'\n"), self.STAMPED)
        assert found["app"] == {"@timestamp": "2001-02-03T04:05:06Z", "n": 1}
        assert "source_timestamp" not in found

    def test_without_the_app_the_hard_rename_is_what_keeps_the_runtimes_time(self) -> None:
        # The JSON's own keys at the top, as with a kubernetes filter that merges logs.
        lifted = changed("            add_prefix: __app__\n", "")
        (kept,) = bodies(lifted, self.STAMPED)
        assert kept["@timestamp"] == "2026-01-27T03:04:05.123456789Z"
        assert kept["source_timestamp"] == "2001-02-03T04:05:06Z"
        (lost,) = bodies(
            without("              - '@timestamp source_timestamp'\n", text=lifted), self.STAMPED
        )
        assert lost["@timestamp"] == "2001-02-03T04:05:06Z"
        assert "source_timestamp" not in lost

    def test_without_the_json_parser_a_line_of_json_stays_text(self) -> None:
        (found,) = bodies(without(processor("json")), self.STAMPED)
        assert found["log"] == self.STAMPED
        assert "app" not in found
        assert "source_timestamp" not in found

    def test_without_reserve_data_the_rest_of_the_record_is_lost(self) -> None:
        said = processor("json")
        (found,) = bodies(changed(said, said.replace("reserve_data: on", "reserve_data: off")), self.STAMPED)
        assert "kubernetes" not in found

    def test_without_the_kubernetes_processor_the_file_names_the_pod(self) -> None:
        (found,) = bodies(without(processor("pods")), "hello")
        assert found["kubernetes"]["pod_name"] == "web"
        assert "labels" not in found["kubernetes"]
        assert "pod_id" not in found["kubernetes"]

    def test_without_the_removal_the_parsers_own_fields_arrive(self) -> None:
        (text,) = bodies(without("              - _p\n"), "hello")
        assert text["_p"] == "F"

    def test_without_the_cluster_its_name_is_missing(self) -> None:
        (found,) = bodies(without("            set: cluster ${CLUSTER_NAME}\n"), "hello")
        assert "cluster" not in found

    def test_without_the_multiline_processors_a_trace_is_a_record_for_each_line(self) -> None:
        lines = ["Traceback (most recent call last):", '  File "a.py", line 1', "KeyError: 1"]
        assert [one["log"] for one in bodies(TEXT, *lines)] == ["\n".join(lines)]
        text = without(processor("stdout-traces"))
        assert [one["log"] for one in bodies(text, *lines)] == lines
        assert [one["log"] for one in bodies(text, *lines, stream="stderr")] == ["\n".join(lines)]

    def test_without_replaced_dots_labels_keep_them(self) -> None:
        pod = a_pod(labels={"app.kubernetes.io/name": "web"})
        (found,) = bodies(without("      replace_dots: on\n"), "hello", pod=pod)
        assert found["kubernetes"]["labels"] == {"app.kubernetes.io/name": "web"}

    def test_without_nanoseconds_the_time_has_three_digits(self) -> None:
        (found,) = bodies(without("      time_key_nanos: on\n"), "hello")
        assert found["@timestamp"] == "2026-01-27T03:04:05.123Z"

    def test_without_a_generated_identifier_the_domain_makes_one(self) -> None:
        (found,) = sent(pipeline(without("      generate_id: on\n")), "hello")
        assert found.identifier is None

    def test_an_output_for_other_tags_gets_nothing(self) -> None:
        assert sent(pipeline(changed("match: kube.*", "match: host.*")), "hello") == []

    def test_a_prefix_of_another_length_leaves_the_pod_to_its_file(self) -> None:
        text = changed(
            "kube_tag_prefix: kube.var.log.containers.", "kube_tag_prefix: kube.var.log.containers.we"
        )
        (found,) = bodies(text, "hello")
        assert "pod_id" not in found["kubernetes"]

    def test_a_looser_pattern_drops_what_stands_behind_the_json(self) -> None:
        """As the JSON decoder does it: why the pattern is as it is."""
        config = yaml.safe_load(TEXT)
        config["parsers"][0]["regex"] = r"^(?<app>\{.*)$"
        (first, second) = bodies(
            yaml.safe_dump(config, sort_keys=False), "{} rows deleted", '{"a": 1}{"b": 2}'
        )
        assert "log" not in first
        assert second["log"] == '{"a": 1}{"b": 2}'


class TestAModify:
    RULES = processor("source-timestamp")

    def with_rules(self, *rules: str) -> Obj:
        said = "".join(f"            {rule}\n" for rule in rules)
        (found,) = bodies(changed(self.RULES, f"          - name: modify\n{said}"), "hello")
        return found

    def test_a_rename_leaves_a_key_that_is_there_and_a_hard_one_replaces_it(self) -> None:
        assert self.with_rules("rename: stream log")["log"] == "hello"
        found = self.with_rules("hard_rename: stream log")
        assert found["log"] == "stdout"
        assert "stream" not in found

    def test_a_copy_an_addition_and_a_set_value(self) -> None:
        assert self.with_rules("copy: log message")["message"] == "hello"
        assert self.with_rules("copy: stream log")["log"] == "hello"
        assert self.with_rules("hard_copy: stream log")["log"] == "stdout"
        assert self.with_rules("add: log x")["log"] == "hello"
        assert self.with_rules("set: log x")["log"] == "x"

    def test_rules_are_followed_in_their_order(self) -> None:
        assert "b" in self.with_rules("set: a 1", "rename: a b")
        assert "a" in self.with_rules("rename: a b", "set: a 1")


class TestWhatIsNotModelled:
    @pytest.mark.parametrize(
        ("said", "here", "where", "key"),
        [
            ("log_level: info", "log_levels: info", "service", "log_levels"),
            ("            labels: on\n", "            lables: on\n", "logs[0] (kubernetes)", "lables"),
            ("            labels: on\n", "            labels: maybe\n", "logs[0] (kubernetes)", "labels"),
            ("            labels: on\n", "            merge_log: on\n", "logs[0] (kubernetes)", "merge_log"),
            ("k8s-logging.parser: off", "k8s-logging.parser: on", "(kubernetes)", "k8s-logging.parser"),
            ("- name: kubernetes", "- name: lua", "processors.logs[0] (lua)", "name"),
            ("multiline.parser: cri", "multiline.parser: docker", "inputs[0] (tail)", "multiline.parser"),
            ("      read_from_head: on\n", "", "inputs[0] (tail)", "read_from_head"),
            ("path: /var/log/containers/*.log", "path: /var/log/pods/*/*.log", "inputs[0] (tail)", "path"),
            ("            set: cluster", "            condition: cluster", "(modify)", "condition"),
            ("hard_rename: kubernetes pod", "hard_rename: kubernetes", "logs[1] (modify)", "hard_rename"),
            ("operation: lift", "operation: flatten", "logs[5] (nest)", "operation"),
            ("            parser: json_line", "            parser: json_lines", "logs[4] (parser)", "parser"),
            ("decode_field_as: json app", "decode_field_as: escaped app", "parsers[0]", "decode_field_as"),
            ("format: regex\n    regex: '^", "format: json\n    regex: '^", "parsers[0]", "format"),
            ("next_state: python_group", "next_state: nowhere", "multiline_parsers[0]", "rules"),
            ("flush_ms: 500", "flush_ms: 100", "logs[8] (multiline)", "flush_ms"),
            ("field: $stream", "field: $a['b']", "condition.rules[0]", "field"),
            ("              op: and", "              op: xor", "condition", "op"),
            ("- name: opensearch", "- name: es", "outputs[0] (es)", "name"),
            ("write_operation: create", "write_operation: upsert", "outputs[0]", "write_operation"),
            ("suppress_type_name: on", "suppress_type_name: off", "outputs[0]", "suppress_type_name"),
            ("tls.verify: on", "tls.verify: off", "outputs[0]", "tls.verify"),
            ("'%Y.%m.%d'", "'%G.%V'", "outputs[0]", "logstash_dateformat"),
            ("match: kube.*", "match_regex: kube", "outputs[0]", "match"),
            ("  outputs:", "  filters:\n    - name: grep\n  outputs:", "pipeline", "filters"),
            ("  outputs:", "  outputs:\n    - name: stdout", "pipeline", "outputs"),
            ("service:", "includes: [other.yaml]\nservice:", "fluent-bit.yaml", "includes"),
            ("${CLUSTER_NAME}", "${CLUSTER_NAME:-x}", "(modify)", "set"),
        ],
    )
    def test_it_is_refused_with_its_place(self, said: str, here: str, where: str, key: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            pipeline(changed(said, here))
        assert refused.value.where.startswith("fluent-bit.yaml")
        assert where in refused.value.where
        assert refused.value.key == key
        assert refused.value.reason

    def test_a_property_that_stands_twice_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="stands twice"):
            pipeline(
                changed("      time_key_nanos: on\n", "      time_key_nanos: on\n      time_key_nanos: off\n")
            )

    @pytest.mark.parametrize("text", ["", "[]", "a: [", "- a"])
    def test_what_is_no_configuration_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError):
            pipeline(text)

    @pytest.mark.parametrize("pattern", [r"\bx", r"\p{L}", "[[a]b]", "[a&&b]", "/x/i", "(", r"\g<1>"])
    def test_a_pattern_that_the_two_engines_read_differently_is_refused(self, pattern: str) -> None:
        config = yaml.safe_load(TEXT)
        config["parsers"][1]["regex"] = pattern
        with pytest.raises(ConfigurationError, match="pattern"):
            pipeline(yaml.safe_dump(config, sort_keys=False))

    @pytest.mark.parametrize("name", ENVIRON)
    def test_a_variable_that_the_container_lacks_is_named_and_no_value_is_shown(self, name: str) -> None:
        environ = {key: value for key, value in ENVIRON.items() if key != name}
        with pytest.raises(ConfigurationError, match=name) as refused:
            Pipeline.read("fluent-bit.yaml", TEXT, environ)
        assert "Sentinel" not in str(refused.value)


def test_what_does_not_change_records_is_not_looked_at() -> None:
    before = sent(pipeline(), "hello")
    for said, here in (
        ("retry_limit: 60", "retry_limit: 2"),
        ("flush: 5", "flush: 1"),
        ("workers: 2", "workers: 1"),
    ):
        assert sent(pipeline(changed(said, here)), "hello") == before
