"""Searching and following logs: the stand-in of OpenSearch, with the platform's own index template and reader, and
a wire in between that is cut."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from loopback import Wire
from pydantic import SecretStr

from cali_infra.adapters.opensearch import OpenSearch
from cali_infra.core.index import READER, Index
from cali_infra.core.logs import BACK, FAR_BACK, Follower, Line, LogSearch, Wanted, check_phrase
from cali_infra.errors import OpenSearchError, UsageError
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.opensearch.standin import OpenSearchStandIn

if TYPE_CHECKING:
    from conftest import Clock

MASTER = ("cali-admin", SecretStr("Master-1-password"))
PASSWORD = SecretStr("Reader-1-password")
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def stamp(moment: datetime, nanoseconds: int = 0) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond * 1000 + nanoseconds:09d}Z"


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def record(text: str, moment: datetime, *, nanoseconds: int = 0, **kubernetes: str) -> dict[str, Any]:
    pod = {"namespace_name": "airflow", "pod_name": "scheduler-0", "container_name": "scheduler"} | kubernetes
    return {"@timestamp": stamp(moment, nanoseconds), "log": text, "stream": "stdout", "kubernetes": pod}


@dataclass
class Logs:
    """A domain with the platform's indices, a writer, a clock that is moved by hand, and a wire to the domain."""

    standin: OpenSearchStandIn
    ca_file: Path
    wire: Wire
    master: OpenSearch
    now: datetime = START
    told: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def write(self, *records: dict[str, Any], refresh: bool = True) -> None:
        """As Fluent Bit does: by `_bulk`, into the index of the record's day."""
        lines: list[Any] = []
        for one in records:
            lines += [{"create": {"_index": f"cali-logs-{one['@timestamp'][:10].replace('-', '.')}"}}, one]
        client = self.master._client
        answer = client.bulk(body=lines, params={"refresh": "true"} if refresh else None)
        assert answer["errors"] is False, answer

    def reader(self, clock: Clock, password: SecretStr = PASSWORD) -> OpenSearch:
        host, port = self.wire.address
        return OpenSearch(
            f"{host}:{port}", READER, password, self.ca_file, patience=3.0, clock=clock, sleep=clock.sleep
        )

    def search(self, clock: Clock, wanted: Wanted | None = None, **sizes: int) -> LogSearch:
        return LogSearch(self.reader(clock), "cali-logs-*", wanted or Wanted(), self.told.append, **sizes)

    def follower(self, clock: Clock, since: timedelta = timedelta(minutes=15), **sizes: int) -> Follower:
        search = self.search(clock, **sizes)
        return Follower(search, milliseconds(self.now - since), lambda: milliseconds(self.now))


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    authority = Authority.create()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.ca_pem)
    made: Logs
    standin = OpenSearchStandIn(authority, lambda: made.now)
    with ExitStack() as stack:
        stack.callback(standin.close)
        user, password = MASTER
        address = standin.create("logs", user, password.get_secret_value())
        host, _, port = address.partition(":")
        wire = Wire((host, int(port)))
        stack.callback(wire.close)
        master = OpenSearch(address, user, password, ca_file)
        made = Logs(standin, ca_file, wire, master)
        index = Index("cali-logs", 30, 3, SecretStr("Writer-1-password"), PASSWORD)
        master.put_template("cali-logs", index.template())
        master.put_role(READER, dict(index.roles()[READER]))
        master.put_user(READER, PASSWORD, {})
        master.put_role_mapping(READER, {"users": [READER]})
        yield made


def texts(lines: Sequence[Line]) -> list[str]:
    return [line.text for line in lines]


def found(logs: Logs, clock: Clock, wanted: Wanted | None = None, **between: datetime) -> list[str]:
    since = milliseconds(between.get("since", START - timedelta(days=2)))
    until = milliseconds(between["until"]) if "until" in between else None
    return texts(logs.search(clock, wanted).newest(since, until, 100).lines)


# -- one search -------------------------------------------------------------------------------------------------


def test_lines_come_in_the_order_in_which_they_were_written(logs: Logs, clock: Clock) -> None:
    before = START - timedelta(minutes=1)
    logs.write(
        record("third", before, nanoseconds=300),
        # In the same nanosecond, in the order in which they came.
        record("fourth", before, nanoseconds=301),
        record("fifth", before, nanoseconds=301),
        record("second", before, nanoseconds=2),
        record("first", before - timedelta(days=1)),
    )

    answer = logs.search(clock).newest(milliseconds(START - timedelta(days=2)), None, 100)

    assert texts(answer.lines) == ["first", "second", "third", "fourth", "fifth"]
    assert (answer.more, answer.indices) == (False, True)
    line = answer.lines[1]
    assert (line.namespace, line.pod, line.container) == ("airflow", "scheduler-0", "scheduler")
    assert line.nanoseconds == milliseconds(before) * 1_000_000 + 2
    assert line.moment == before


def test_which_lines(logs: Logs, clock: Clock) -> None:
    before = START - timedelta(minutes=1)
    logs.write(
        record("Connection REFUSED by peer", before),
        record("refused connection", before + timedelta(seconds=1), pod_name="scheduler-1"),
        record(
            "nothing", before + timedelta(seconds=2), namespace_name="milvus", pod_name="milvus-standalone-0"
        ),
        record("side", before + timedelta(seconds=3), container_name="log-groomer"),
        {
            **record("", before + timedelta(seconds=4), namespace_name="grafana", pod_name="grafana-1"),
            "log": None,
            "app": {"message": "connection refused, too", "level": "error", "message_code": 5},
        },
    )

    def of(**wanted: Any) -> list[str]:
        return found(logs, clock, Wanted(**wanted))

    both = ["Connection REFUSED by peer", "connection refused, too"]
    assert of(phrase="connection refused") == both
    assert of(phrase="connection refused", namespaces=("grafana",)) == both[1:]
    assert of(namespaces=("milvus", "grafana")) == ["nothing", "connection refused, too"]
    assert of(pods=("scheduler-1", "milvus")) == ["refused connection", "nothing"]
    assert of(pods=("scheduler",), containers=("log-groomer",)) == ["side"]
    # Words, not pieces of them, and nothing of a language.
    assert of(phrase="connect") == []
    assert of(phrase='* OR refused" AND') == []
    assert found(logs, clock, since=before, until=before + timedelta(seconds=2)) == [
        "Connection REFUSED by peer",
        "refused connection",
    ]


def test_a_phrase_needs_a_word() -> None:
    assert check_phrase("로그 1", "--grep") == "로그 1"
    with pytest.raises(UsageError, match="--grep: '\\*\\*\\*' holds no word"):
        check_phrase("***", "--grep")


def test_a_json_line_shows_its_message_and_what_else_it_says(logs: Logs, clock: Clock) -> None:
    moment = START - timedelta(minutes=1)
    base = record("", moment)
    del base["log"]
    logs.write(
        {**base, "app": {"message": "up\n", "level": "info"}},
        {**base, "app": {"event": "no message"}},
        {"@timestamp": stamp(moment), "log": "no pod at all\n"},
    )
    lines = {line.text: line for line in logs.search(clock).newest(0, None, 10).lines}
    assert lines["up"].rest == {"level": "info"}
    assert lines[""].rest == {"event": "no message"}
    alone = lines["no pod at all"]
    assert (alone.namespace, alone.pod, alone.container, alone.rest) == ("", "", "", {})


@pytest.mark.parametrize("page", [1, 3, 7, 50])
def test_pages_neither_lose_nor_repeat_a_line(logs: Logs, clock: Clock, page: int) -> None:
    chance = random.Random(page)
    # Many in one millisecond, over three days.
    moments = [START - timedelta(hours=30 * chance.random()) for _ in range(6)]
    written = [
        record(f"line {number}", chance.choice(moments), nanoseconds=chance.randrange(1_000_000))
        for number in range(120)
    ]
    logs.write(*written)
    expected = [one["log"] for one in sorted(written, key=lambda one: one["@timestamp"])]
    search = logs.search(clock, page=page)

    assert texts(search.newest(0, None, 1000).lines) == expected
    newest = search.newest(0, None, 17)
    assert (texts(newest.lines), newest.more) == (expected[-17:], True)
    up = [line for one in search.pages(0) for line in one]
    assert sorted(texts(up)) == sorted(expected)
    # Without their records all that is known is which they are.
    bare = [line for one in search.pages(0, whole=False) for line in one]
    assert [line.key for line in bare] == [line.key for line in up]
    assert {line.text for line in bare} == {""}
    assert logs.told == []


def test_more_lines_in_one_millisecond_than_the_domain_gives_are_told(logs: Logs, clock: Clock) -> None:
    moment = START - timedelta(minutes=1)
    logs.write(
        *(record(f"line {n}", moment) for n in range(12)), record("after", moment + timedelta(seconds=1))
    )
    lines = [line for page in logs.search(clock, page=2, window=5).pages(0) for line in page]
    assert [text for text in texts(lines) if text == "after"] == ["after"]
    assert len(lines) == 6
    assert logs.told == ["more than 5 lines have the same millisecond; the others of it are not shown"]


def test_before_the_first_record_there_is_no_index(logs: Logs, clock: Clock) -> None:
    answer = logs.search(clock).newest(0, None, 10)
    assert (answer.lines, answer.more, answer.indices) == ((), False, False)


def test_a_part_of_the_domain_that_does_not_answer_is_told() -> None:
    class Half:
        def search(self, pattern: str, body: dict[str, Any]) -> dict[str, Any]:
            return {"timed_out": False, "_shards": {"total": 3, "failed": 1}, "hits": {"hits": []}}

    told: list[str] = []
    LogSearch(Half(), "logs-*", Wanted(), told.append).newest(0, None, 10)
    assert told == ["a part of the domain did not answer: lines may be missing"]


def test_a_search_survives_a_cut_connection(logs: Logs, clock: Clock) -> None:
    logs.write(record("here", START - timedelta(minutes=1)))
    search = logs.search(clock)
    assert texts(search.newest(0, None, 10).lines) == ["here"]
    logs.wire.cut()
    assert texts(search.newest(0, None, 10).lines) == ["here"]
    logs.standin.faults.answer(503, 2)
    assert texts(search.newest(0, None, 10).lines) == ["here"]


# -- following --------------------------------------------------------------------------------------------------


def test_what_is_there_and_what_comes_each_line_once(logs: Logs, clock: Clock) -> None:
    logs.write(*(record(f"old {n}", START - timedelta(seconds=60 - n)) for n in range(5)))
    follower = logs.follower(clock)

    assert texts(follower.start(3).lines) == ["old 2", "old 3", "old 4"]
    # Those that were over the limit are not news.
    assert follower.look() == []
    logs.pass_by(5)
    logs.write(record("new 1", logs.now), record("new 0", logs.now - timedelta(seconds=1)))
    assert texts(follower.look()) == ["new 0", "new 1"]
    assert follower.look() == []


def test_a_line_that_arrives_late_is_shown(logs: Logs, clock: Clock) -> None:
    follower = logs.follower(clock)
    follower.start(100)
    shown: list[str] = []
    logs.write(record("now", logs.now))
    shown += texts(follower.look())
    # Its node sent it late, but within what every look goes back, or what some do.
    logs.write(record("late", logs.now - timedelta(seconds=BACK - 1)))
    shown += texts(follower.look())
    logs.write(record("very late", logs.now - timedelta(seconds=FAR_BACK - 1)))
    for _ in range(12):
        shown += texts(follower.look())
    assert shown == ["now", "late", "very late"]


def test_what_the_index_does_not_show_yet_is_shown_later(logs: Logs, clock: Clock) -> None:
    follower = logs.follower(clock)
    follower.start(100)
    logs.write(record("first", logs.now), refresh=False)
    logs.write(record("second", logs.now + timedelta(seconds=1)), refresh=False)
    assert follower.look() == []
    # The index template's refresh_interval.
    logs.pass_by(10)
    assert texts(follower.look()) == ["first", "second"]


def test_a_clock_that_is_wrong_in_the_cluster_or_here_hides_nothing(logs: Logs, clock: Clock) -> None:
    follower = logs.follower(clock)
    follower.start(100)
    logs.write(record("from the future", logs.now + timedelta(hours=1)))
    assert texts(follower.look()) == ["from the future"]
    logs.write(record("on time", logs.now))
    assert texts(follower.look()) == ["on time"]
    assert follower.look() == []


def test_a_stream_of_lines_over_cuts_and_outages_comes_whole_and_once(logs: Logs, clock: Clock) -> None:
    chance = random.Random(3)
    waiting: list[dict[str, Any]] = []
    written: list[str] = []
    shown: list[str] = []
    rounds = iter(range(60))

    def sleep(seconds: float) -> None:
        """Time goes by: nodes write, some of it arrives late, and the way to the domain breaks."""
        number = next(rounds)
        logs.pass_by(seconds)
        for line in range(chance.randrange(8)):
            text = f"{number}.{line}"
            written.append(text)
            waiting.append(record(text, logs.now - timedelta(seconds=chance.random() * 5)))
        chance.shuffle(waiting)
        arrived = [waiting.pop() for _ in range(chance.randrange(len(waiting) + 1))]
        if arrived:
            logs.write(*arrived, refresh=False)
        if number % 7 == 3:
            logs.wire.cut()
        if number % 20 == 10:
            logs.wire.unplug()
        if number % 20 == 13:
            logs.wire.plug()
        if number % 9 == 5:
            # In the middle of the pages of one look.
            logs.standin.faults.cut(1, path="_search")

    told: list[tuple[str, bool]] = []
    follower = logs.follower(clock, page=4)
    follower.start(100)
    with pytest.raises(RuntimeError, match="StopIteration"):
        for lines in follower.follow(sleep, lambda text, bad: told.append((text, bad))):
            shown += texts(lines)
    logs.write(*waiting)
    logs.pass_by(10)
    for _ in range(12):
        shown += texts(follower.look())

    assert len(written) > 100
    assert sorted(shown) == sorted(written)
    # Of each outage, that it began and that it ended.
    assert [bad for _, bad in told] == [True, False] * 3
    assert [text for text, bad in told if bad and "cannot be reached" not in text] == []


def test_what_is_remembered_is_bounded(logs: Logs, clock: Clock) -> None:
    follower = logs.follower(clock)
    follower.start(100)
    for _ in range(30):
        logs.pass_by(60)
        logs.write(*(record("x", logs.now) for _ in range(10)))
        assert len(follower.look()) == 10
    assert len(follower._seen) <= 10 * (FAR_BACK // 60 + 1)


def test_a_password_that_is_changed_ends_it(logs: Logs, clock: Clock) -> None:
    follower = logs.follower(clock)
    follower.start(100)
    logs.master.put_user(READER, SecretStr("Another-1-password"), {})
    with pytest.raises(OpenSearchError) as caught:
        next(follower.follow(lambda seconds: None, lambda text, bad: None))
    assert caught.value.status == 401


def test_it_starts_where_it_was_asked_to(logs: Logs, clock: Clock) -> None:
    logs.write(
        record("too old", START - timedelta(seconds=20)), record("in time", START - timedelta(seconds=5))
    )
    follower = logs.follower(clock, since=timedelta(seconds=10))
    assert texts(follower.start(100).lines) == ["in time"]
    logs.write(record("too old as well", START - timedelta(seconds=15)))
    assert follower.look() == []
