"""The platform's logs, searched and followed in OpenSearch.

A record never changes once it is stored, so that pages need no point in time: a page is cut between two
milliseconds, each of which it has whole, and the next one goes on behind it.

To follow is not to go on behind the newest record: nodes send theirs at different times, and one that was written
earlier may be found later. Each look therefore goes back a while, and what was seen is known by its id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from cali_infra.errors import OpenSearchError, UsageError

Body = dict[str, Any]
# An index and the id of a record in it.
Key = tuple[str, str]

# Records in one answer; and in the largest that OpenSearch gives (index.max_result_window).
_PAGE, _WINDOW = 1000, 10_000
# Seconds that each look goes back, and each so many-th one. A record is found some 20 seconds after it was written:
# Fluent Bit sends every 5, an index shows it every 10. Later ones were sent again, or their node was cut off.
BACK, FAR_BACK, _FAR_EVERY = 30, 300, 12
# Seconds between two looks.
POLL = 5.0
_MESSAGES = ("log", "app.*message")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?\Z")


class Domain(Protocol):
    """What is asked of a domain; `adapters.opensearch.OpenSearch` is one."""

    def search(self, pattern: str, body: Body) -> Body: ...


@dataclass(frozen=True)
class Wanted:
    """Which records: of these namespaces, of pods whose names begin so, of these containers, with this phrase.

    Nothing given means all of them. The phrase is looked for as whole words, in any case, in a text line and in the
    messages of a JSON line.
    """

    namespaces: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    phrase: str | None = None

    def query(self, since: int, until: int | None) -> Body:
        """The query, between two times in milliseconds since 1970, the second one not included.

        What a user has typed is a value in it and never a part of a query language.
        """
        bounds = {"gte": since, "format": "epoch_millis"} | ({} if until is None else {"lt": until})
        filters: list[Body] = [{"range": {"@timestamp": bounds}}]
        if self.namespaces:
            filters.append({"terms": {"kubernetes.namespace_name": list(self.namespaces)}})
        if self.pods:
            begins = [{"prefix": {"kubernetes.pod_name": {"value": pod}}} for pod in self.pods]
            filters.append({"bool": {"should": begins, "minimum_should_match": 1}})
        if self.containers:
            filters.append({"terms": {"kubernetes.container_name": list(self.containers)}})
        if self.phrase is not None:
            phrase: Body = {
                "query": self.phrase,
                "type": "phrase",
                "fields": list(_MESSAGES),
                "lenient": True,
            }
            filters.append({"multi_match": phrase})
        return {"bool": {"filter": filters}}


def check_phrase(phrase: str, option: str) -> str:
    """The phrase itself; raises UsageError where it holds no word that an index could know."""
    if not any(character.isalnum() for character in phrase):
        raise UsageError(
            f"{option}: {phrase!r} holds no word",
            remedy="whole words are looked for, in any case: connection refused",
        )
    return phrase


@dataclass(frozen=True)
class Line:
    """One record. `nanoseconds` since 1970 are the container runtime's time, `number` tells equal ones apart."""

    key: Key
    nanoseconds: int
    number: int
    record: Mapping[str, Any]

    @property
    def moment(self) -> datetime:
        """To the microsecond, which is all that a datetime holds."""
        seconds, rest = divmod(self.nanoseconds, 1_000_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)

    @property
    def namespace(self) -> str:
        return self._pod("namespace_name")

    @property
    def pod(self) -> str:
        return self._pod("pod_name")

    @property
    def container(self) -> str:
        return self._pod("container_name")

    @property
    def text(self) -> str:
        """The line, or the message of a JSON line; empty where that has none."""
        log = self.record.get("log")
        if isinstance(log, str):
            return log.rstrip("\n")
        message = self._app.get("message")
        return message.rstrip("\n") if isinstance(message, str) else ""

    @property
    def rest(self) -> Mapping[str, Any]:
        """What a JSON line says beside its message."""
        shown = isinstance(self._app.get("message"), str) and not isinstance(self.record.get("log"), str)
        return {key: value for key, value in self._app.items() if key != "message" or not shown}

    @property
    def _app(self) -> Mapping[str, Any]:
        app = self.record.get("app")
        return app if isinstance(app, Mapping) else {}

    def _pod(self, name: str) -> str:
        kubernetes = self.record.get("kubernetes")
        return str(kubernetes.get(name, "")) if isinstance(kubernetes, Mapping) else ""


@dataclass(frozen=True)
class Found:
    """The newest lines, oldest of them first; `more`: there are older ones; `indices`: there is an index at all."""

    lines: tuple[Line, ...]
    more: bool
    indices: bool


class LogSearch:
    """Searches the indices of a pattern. `tell` is told when an answer is not whole."""

    def __init__(
        self,
        domain: Domain,
        pattern: str,
        wanted: Wanted,
        tell: Callable[[str], None],
        *,
        page: int = _PAGE,
        window: int = _WINDOW,
    ) -> None:
        self._domain, self._pattern, self._wanted, self._tell = domain, pattern, wanted, tell
        self._page, self._window = page, window
        self._indices = False

    def newest(self, since: int, until: int | None, limit: int) -> Found:
        """The newest lines, `limit` at most, between two times in milliseconds since 1970.

        Raises OpenSearchError.
        """
        lines: list[Line] = []
        for page in self.pages(since, until, newest_first=True):
            lines += page
            if len(lines) > limit:
                break
        lines.sort(key=_order)
        return Found(tuple(lines[-limit:]), len(lines) > limit, self._indices)

    def pages(
        self, since: int, until: int | None = None, *, newest_first: bool = False, whole: bool = True
    ) -> Iterator[list[Line]]:
        """The lines between two times, page by page, each page in no order of its own.

        Not `whole`: without their records. Raises OpenSearchError.
        """
        after, size = None, self._page
        while True:
            body: Body = {
                "size": size,
                "query": self._wanted.query(since, until),
                "sort": [
                    {"@timestamp": {"order": "desc" if newest_first else "asc", "unmapped_type": "date"}}
                ],
                "seq_no_primary_term": True,
                "track_total_hits": False,
                "_source": whole,
            }
            hits = self._hits(body if after is None else {**body, "search_after": [after]})
            if len(hits) < size:
                yield [_line(hit) for hit in hits]
                return
            last = hits[-1]["sort"][0]
            complete = [hit for hit in hits if hit["sort"][0] != last]
            if not complete and size < self._window:
                # All of one millisecond: how many more there are shows in a larger page.
                size = self._window
                continue
            if not complete:
                self._tell(
                    f"more than {size} lines have the same millisecond; the others of it are not shown"
                )
                complete = hits
            yield [_line(hit) for hit in complete]
            after, size = complete[-1]["sort"][0], self._page

    def _hits(self, body: Body) -> list[Body]:
        answer = self._domain.search(self._pattern, body)
        shards = answer.get("_shards") or {}
        self._indices = bool(shards.get("total"))
        if shards.get("failed") or answer.get("timed_out"):
            self._tell("a part of the domain did not answer: lines may be missing")
        hits: list[Body] = answer["hits"]["hits"]
        return hits


class Follower:
    """Every line that is found from `since` (milliseconds since 1970) on, once; `now` is in the same unit.

    A line that arrives more than `FAR_BACK` seconds behind others is not seen.
    """

    def __init__(self, search: LogSearch, since: int, now: Callable[[], int]) -> None:
        self._search, self._since, self._now = search, since, now
        self._seen: dict[Key, int] = {}
        self._newest = since
        self._looks = 0

    def start(self, limit: int) -> Found:
        """The newest lines that are there already, `limit` at most; older ones count as seen.

        Raises OpenSearchError.
        """
        # First what is there: what arrives between the two is then new.
        there = [
            line
            for page in self._search.pages(self._floor(self._now(), FAR_BACK), whole=False)
            for line in page
        ]
        found = self._search.newest(self._since, None, limit)
        self._take([*there, *found.lines])
        return found

    def look(self) -> Sequence[Line]:
        """The lines that are new since the last look, in the order of their times.

        Raises OpenSearchError; then nothing counts as seen, and the next look finds it all.
        """
        far = self._looks % _FAR_EVERY == 0
        floor = self._floor(min(self._newest, self._now()), FAR_BACK if far else BACK)
        new = {
            line.key: line
            for page in self._search.pages(floor)
            for line in page
            if line.key not in self._seen
        }
        self._take(new.values())
        self._looks += 1
        return sorted(new.values(), key=_order)

    def follow(
        self, sleep: Callable[[float], None], tell: Callable[[str, bool], None]
    ) -> Iterator[Sequence[Line]]:
        """What is new, look after look, without end; a domain that is away is waited for.

        `tell` is told what becomes of it, and whether that is trouble. Raises OpenSearchError when the domain
        refuses the user.
        """
        troubled = False
        while True:
            sleep(POLL)
            try:
                lines = self.look()
            except OpenSearchError as error:
                if error.status in (401, 403):
                    raise
                if not troubled:
                    tell(f"{error.message}; it is asked again, and no line is lost", True)
                troubled = True
                continue
            if troubled:
                tell("the domain answers again", False)
            troubled = False
            yield lines

    def _floor(self, moment: int, seconds: int) -> int:
        return max(self._since, moment - seconds * 1000)

    def _take(self, lines: Iterable[Line]) -> None:
        for line in lines:
            milliseconds = line.nanoseconds // 1_000_000
            self._seen[line.key] = milliseconds
            self._newest = max(self._newest, milliseconds)
        # No later look goes back so far.
        floor = self._floor(min(self._newest, self._now()), FAR_BACK)
        self._seen = {key: moment for key, moment in self._seen.items() if moment >= floor}


def _order(line: Line) -> tuple[int, str, int]:
    return line.nanoseconds, line.key[0], line.number


def _line(hit: Body) -> Line:
    record = hit.get("_source") or {}
    written = _nanoseconds(record.get("@timestamp"))
    return Line(
        (hit["_index"], hit["_id"]),
        int(hit["sort"][0]) * 1_000_000 if written is None else written,
        int(hit.get("_seq_no", 0)),
        record,
    )


def _nanoseconds(value: object) -> int | None:
    """The time of a record as it was written; None for what is no such text."""
    found = _TIME.match(value) if isinstance(value, str) else None
    if not found:
        return None
    day, fraction, zone = found.groups()
    moment = datetime.fromisoformat(day + ("+00:00" if zone in (None, "Z") else zone))
    return int(moment.timestamp()) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
