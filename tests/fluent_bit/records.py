"""What becomes of a line: the samples, and what has to arrive of each.

Two run them: the real program on a node, and the sandbox's evaluator of the same configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, timezone
from typing import Any

import pytest

from . import samples
from .node import SEOUL, Moment

Obj = dict[str, Any]
NOON = Moment.of("2026-01-27T03:04:05.123456789Z")

# What is text stays text, byte for byte.
TEXTS = {
    "plain": "GET /orders/17 200 3ms",
    "empty": "",
    "spaces": "  kept before and behind  ",
    "tab": "a\tb",
    "backslashes": r'C:\new\table "quoted" \u00e9 \n',
    "korean": "주문 17번이 접수되었습니다. 🎉 é ﷽",
    "colours": "\x1b[31mred\x1b[0m",
    "nul": "before\x00behind",
    "number": "123",
    "list": "[1, 2]",
    "quoted": '"a": 1',
    # What looks like JSON and is none, or is more than that.
    "open": '{"a": 1',
    "braces": "{not json}",
    "no-value": '  {"a": nope} ',
    "empty-object": "{}",
    "template": "{} rows deleted",
    "behind": '{"a": 1} and more',
    "two": '{"a": 1}{"b": 2}',
    "behind-brace": '{"a": 1} {',
    # OpenSearch refuses a field without a name.
    "nameless": '{"": 1}',
    # More objects than the pattern looks into.
    "crowded": '{"a":' * 250 + "1" + "}" * 250,
}
# Lines of JSON, and what is below `app` then.
OBJECTS: dict[str, tuple[str, Any]] = {
    "simple": ('{"level": "info", "n": 1}', {"level": "info", "n": 1}),
    "spaced": ('  {"n": 1}  ', {"n": 1}),
    "escapes": (r'{"m": "a\nb \"q\" \\ \u00e9 \ud83c\udf89 한"}', {"m": 'a\nb "q" \\ é 🎉 한'}),
    "numbers": (
        '{"big": 12345678901234567890, "low": -9223372036854775808, "f": 0.1}',
        {"big": 12345678901234567890, "low": -9223372036854775808, "f": 0.1},
    ),
    "others": ('{"t": true, "none": null, "l": [], "o": {}}', {"t": True, "none": None, "l": [], "o": {}}),
    "braces-in-text": (r'{"m": "} {", "l": [{"q": "\""}]}', {"m": "} {", "l": [{"q": '"'}]}),
    # Keys of ours do not lose their place.
    "our-keys": (
        '{"time": "t", "stream": "s", "log": "l", "kubernetes": "k", "cluster": "c", "pod": "p"}',
        {"time": "t", "stream": "s", "log": "l", "kubernetes": "k", "cluster": "c", "pod": "p"},
    ),
    "dotted": ('{"a.b": 1, "l": [{"c.d": {"e.f": 2}}]}', {"a_b": 1, "l": [{"c_d": {"e_f": 2}}]}),
    "inner-time": ('{"inner": {"@timestamp": "2001-01-01"}}', {"inner": {"@timestamp": "2001-01-01"}}),
}
# The `@timestamp` that an application writes.
TIMES: dict[str, Any] = {
    "text": "2001-02-03T04:05:06Z",
    "nonsense": "yesterday",
    "number": 981173106000,
    "fraction": 981173106.25,
    "truth": True,
    "object": {"seconds": 981173106, "nanos": 7},
    "nested": {"a": {"b": [{"c": 1}]}},
    "list": ["2001-02-03", {"a": 1}],
    "nothing": None,
}
LONG_TEXT = ("가나다라😀" * 25_000)[:100_000]
LONG_OBJECT = {"message": "x" * 300_000, "items": [{"n": n} for n in range(150)]}
NO_TRACES = [
    "  indented",
    "\tindented by a tab",
    "    at the end of the day",
    "ValueError: said without a traceback",
    "The above exception was the direct cause of the following exception:",
    "goroutine 7 [running]:",
    "main.main()",
    "java.lang.RuntimeException: said without frames",
    "Exception",
    "panic: said without goroutines",
    "no more",
]


@dataclass
class Written:
    """When each line was written by pod, and how many records they make."""

    when: dict[str, list[Moment]]
    count: int


def write_all(pod: Callable[..., Any], container: Callable[..., Any]) -> Written:
    """Write every sample.

    `pod(name, **metadata)` makes a pod that the API server knows and `container(pod, namespace, name)` one that it
    does not; both give its log, which has `write`.
    """
    when: dict[str, list[Moment]] = {}
    count = 0

    def write(name: str, *lines: str, **options: Any) -> Any:
        nonlocal count
        made = pod(name, **options.pop("metadata", {}))
        when[name] = made.write(*lines, at=NOON, **options)
        count += len(lines)
        return made

    for name, text in TEXTS.items():
        write(f"text-{name}", text)
    for name, (line, _) in OBJECTS.items():
        write(f"object-{name}", line)
    for name, value in TIMES.items():
        write(f"time-{name}", json.dumps({"@timestamp": value, "n": 1}))
    write("long-text", LONG_TEXT)
    write("long-object", json.dumps(LONG_OBJECT), "the next one")
    labels = {"app": "web", "app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop"}
    write("labelled", "hello", metadata={"labels": labels, "annotations": {"a": "b"}})
    write("in-utc", "hello", zone=UTC)
    write("equal", *["the same"] * 3, step=1)
    write("one-nanosecond", *["the same"] * 2, step=0)
    count -= 1
    both = write("both-streams", "the same", step=0)
    both.write("the same", at=NOON, stream="stderr")
    midnight = pod("midnight")
    when["midnight"] = midnight.write(
        "before", "behind", at=Moment.of("2026-01-27T23:59:59.999999999Z"), step=1
    )
    count += 3

    gone = container("gone")
    when["gone"] = gone.write("last words", at=NOON)
    count += 1
    pod("quiet", annotations={"fluentbit.io/exclude": "true"}).write("not wanted", at=NOON)
    container("fluent-bit-x7k2p", "logging", "fluent-bit").write("of its own", at=NOON)

    # Traces: one behind the other, each with a line of its own before and behind.
    for name, trace in samples.ALL.items():
        write(f"trace-{name}", "before", *trace, "behind")
        count -= len(trace) - 1
    everything = [line for name, trace in samples.ALL.items() for line in (*trace, f"behind {name}")]
    write("traces", *everything)
    count -= len(everything) - 2 * len(samples.ALL)
    # Filled up so that a read of 64 KB ends within the trace.
    write("traces-cut", *["x" * 1000] * 64, *["y" * 30] * 8, *samples.JAVA, "behind")
    count -= len(samples.JAVA) - 1
    # Both streams at once, line by line.
    mixed = pod("mixed")
    for number, line in enumerate(samples.PYTHON_CHAIN):
        mixed.write(line, at=NOON.later(2 * number), stream="stderr")
        mixed.write(f"out {number}", at=NOON.later(2 * number + 1))
    count += len(samples.PYTHON_CHAIN) + 1
    # What only looks like a part of a trace.
    write("no-traces", *NO_TRACES)
    return Written(when, count)


@dataclass
class Delivered:
    """What has arrived: `stored` gives a pod's records, of an index or of all, in the order of the runtime's time.

    `when` tells when each line was written by pod, `zone` is the node's.
    """

    stored: Callable[..., list[Obj]]
    when: dict[str, list[Moment]]
    zone: timezone

    def one(self, pod: str) -> Obj:
        """The one record of a pod, with the runtime's time in it."""
        (found,) = self.stored(pod)
        assert happened(found, self.when[pod][0])
        return found

    def texts(self, pod: str) -> list[str]:
        """The text of each record of a pod."""
        return [one["log"] for one in self.stored(pod)]


def happened(found: Obj, when: Moment) -> bool:
    """Whether a record carries this time of the runtime.

    The program counts fractions of a second in a double: its `@timestamp`, of which a domain keeps milliseconds,
    may be off by one nanosecond. `time` is what the runtime wrote.
    """
    stamp = Moment.of(found["@timestamp"])
    exact = found["time"] in (when.cri(SEOUL), when.cri(UTC))
    return exact and stamp in (when, when.later(-1), when.later(1))


class Records:
    """The expectations, for a class that is collected where a fixture `delivered` is."""

    def test_nothing_else_arrived(self, delivered: Delivered) -> None:
        pods = {one["kubernetes"]["pod_name"] for one in delivered.stored()}
        assert pods == {*delivered.when, "mixed"}

    @pytest.mark.parametrize("name", TEXTS)
    def test_text_arrives_as_it_was_written(self, delivered: Delivered, name: str) -> None:
        found = delivered.one(f"text-{name}")
        assert found["log"] == TEXTS[name]
        assert set(found) == {"@timestamp", "time", "stream", "log", "kubernetes", "cluster"}

    @pytest.mark.parametrize("name", OBJECTS)
    def test_a_line_of_json_is_below_app(self, delivered: Delivered, name: str) -> None:
        found = delivered.one(f"object-{name}")
        assert found["app"] == OBJECTS[name][1]
        assert set(found) == {"@timestamp", "time", "stream", "app", "kubernetes", "cluster"}

    @pytest.mark.parametrize("name", TIMES)
    def test_the_applications_own_time_is_kept_beside_the_runtimes(
        self, delivered: Delivered, name: str
    ) -> None:
        found = delivered.one(f"time-{name}")
        assert found["source_timestamp"] == TIMES[name]
        assert found["app"] == {"n": 1}

    def test_a_line_of_300_kb_is_one_record(self, delivered: Delivered) -> None:
        # Cut in the middle of characters, on its way.
        assert len(LONG_TEXT.encode()) > 300_000
        assert delivered.one("long-text")["log"] == LONG_TEXT
        long, behind = delivered.stored("long-object")
        assert long["app"] == LONG_OBJECT
        assert behind["log"] == "the next one"

    def test_the_runtimes_time_is_kept_to_the_nanosecond(self, delivered: Delivered) -> None:
        found = delivered.one("text-plain")
        assert found["@timestamp"] == "2026-01-27T03:04:05.123456789Z"
        assert found["time"] == NOON.cri(delivered.zone)
        assert delivered.one("in-utc")["time"] == "2026-01-27T03:04:05.123456789Z"

    def test_a_record_names_its_pod_and_its_cluster(self, delivered: Delivered) -> None:
        found = delivered.one("labelled")
        pod = found["kubernetes"]
        assert (pod["namespace_name"], pod["pod_name"], pod["container_name"]) == ("shop", "labelled", "app")
        assert pod["labels"] == {
            "app": "web",
            "app_kubernetes_io/name": "web",
            "app_kubernetes_io/part-of": "shop",
        }
        assert pod["pod_id"]
        assert "annotations" not in pod
        assert found["cluster"] == "cali-default"

    def test_a_pod_that_is_gone_is_named_by_its_file(self, delivered: Delivered) -> None:
        pod = delivered.one("gone")["kubernetes"]
        assert {key: pod[key] for key in pod if key != "docker_id"} == {
            "pod_name": "gone",
            "namespace_name": "shop",
            "container_name": "app",
        }

    def test_equal_lines_of_one_millisecond_are_all_stored(self, delivered: Delivered) -> None:
        times = sorted(one["time"] for one in delivered.stored("equal"))
        assert times == [moment.cri(delivered.zone) for moment in delivered.when["equal"]]
        streams = [one["stream"] for one in delivered.stored("both-streams")]
        assert streams == ["stderr", "stdout"]

    def test_equal_lines_of_one_nanosecond_and_stream_are_one(self, delivered: Delivered) -> None:
        """A runtime asks the clock for each line and does not get there; this is where the id ends."""
        assert delivered.texts("one-nanosecond") == ["the same"]

    def test_an_index_holds_a_day_of_utc(self, delivered: Delivered) -> None:
        assert [one["log"] for one in delivered.stored("midnight", "cali-logs-2026.01.27")] == ["before"]
        assert [one["log"] for one in delivered.stored("midnight", "cali-logs-2026.01.28")] == ["behind"]

    @pytest.mark.parametrize("name", samples.ALL)
    def test_a_stack_trace_is_one_record(self, delivered: Delivered, name: str) -> None:
        before, trace, behind = delivered.stored(f"trace-{name}")
        lines = samples.ALL[name]
        assert (before["log"], behind["log"]) == ("before", "behind")
        assert trace["log"] == "\n".join(lines)
        when = delivered.when[f"trace-{name}"]
        assert happened(trace, when[1])
        assert happened(behind, when[-1])

    def test_stack_traces_of_all_kinds_follow_each_other(self, delivered: Delivered) -> None:
        wanted = [
            text for name, trace in samples.ALL.items() for text in ("\n".join(trace), f"behind {name}")
        ]
        assert delivered.texts("traces") == wanted

    def test_a_stack_trace_is_whole_where_a_read_ends_in_it(self, delivered: Delivered) -> None:
        assert delivered.texts("traces-cut")[-2:] == ["\n".join(samples.JAVA), "behind"]

    def test_the_other_stream_does_not_cut_a_stack_trace(self, delivered: Delivered) -> None:
        found = delivered.stored("mixed")
        (trace,) = [one["log"] for one in found if one["stream"] == "stderr"]
        assert trace == "\n".join(samples.PYTHON_CHAIN)
        out = [one["log"] for one in found if one["stream"] == "stdout"]
        assert out == [f"out {number}" for number in range(len(samples.PYTHON_CHAIN))]

    def test_what_only_looks_like_a_part_of_a_trace_stays_alone(self, delivered: Delivered) -> None:
        assert delivered.texts("no-traces") == NO_TRACES
