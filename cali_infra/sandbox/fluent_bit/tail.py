"""The input `tail`: which of a node's log files it reads, and the records that their lines are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cali_infra.sandbox.fluent_bit.records import Record
from cali_infra.sandbox.fluent_bit.sections import Section
from cali_infra.sandbox.kubernetes.logs import LogLine

FOLDER = "/var/log/containers"
# The longest piece of a line that the runtime writes at once.
_PIECE = 16 * 1024
_SECOND = 1_000_000_000
_SAME_RECORDS = (
    "alias",
    "db",
    "db.locking",
    "buffer_chunk_size",
    "buffer_max_size",
    "skip_long_lines",
    "refresh_interval",
    "rotate_wait",
    "storage.type",
)


@dataclass(frozen=True)
class LogFile:
    """A container's log on a node: its path, and its pod as the API server has it; None: it has none."""

    path: str
    pod: Mapping[str, Any] | None

    @classmethod
    def of(cls, pod: Mapping[str, Any], container: str, identifier: str) -> LogFile:
        """The file of a pod's container, named as the kubelet links it; the identifier is 64 hex digits."""
        meta = pod["metadata"]
        return cls(f"{FOLDER}/{meta['name']}_{meta['namespace']}_{container}-{identifier}.log", pod)


@dataclass(frozen=True)
class Tail:
    """The input, as far as it decides about records."""

    tag: str
    files: tuple[re.Pattern[str], ...]
    excluded: tuple[re.Pattern[str], ...]
    path_key: str

    def takes(self, path: str) -> bool:
        """Whether it reads the file."""
        matching = any(one.fullmatch(path) for one in self.files)
        return matching and not any(one.fullmatch(path) for one in self.excluded)

    def tag_of(self, path: str) -> str:
        """The tag of the file's records: the path with dots stands for the star."""
        return self.tag.replace("*", path.strip("/").replace("/", "."))

    def records(self, path: str, lines: Sequence[LogLine]) -> list[Record]:
        """A record of each line, as the runtime has written it and the multiline parser `cri` reads it.

        Nodes run in UTC. The pieces of a long line are one record, with the fields of the first one.
        """
        return [self._record(path, line) for line in lines]

    def _record(self, path: str, line: LogLine) -> Record:
        kind = "P" if len(line.text.encode(errors="surrogatepass")) > _PIECE else "F"
        fields = [("time", rfc3339(line.at)), ("stream", line.stream), ("_p", kind), ("log", line.text)]
        if self.path_key:
            fields.append((self.path_key, path))
        return Record(_as_parsed(line.at), tuple(fields))


def read(section: Section) -> Tail:
    """The input of a section; its processors are not read. Raises ConfigurationError."""
    section.choice("name", "tail")
    section.ignore(*_SAME_RECORDS)
    section.choice("multiline.parser", "cri")
    section.must_be("read_from_head", wanted=True, default=False)
    return Tail(
        tag=section.text("tag"),
        files=tuple(_glob(section, "path", one, r"[^/]") for one in _list(section, "path")),
        # Compared with fnmatch(3), whose star passes a slash.
        excluded=tuple(_glob(section, "exclude_path", one, ".") for one in _list(section, "exclude_path")),
        path_key=section.text("path_key", ""),
    )


def rfc3339(at: int) -> str:
    """A time in nanoseconds since 1970 as the runtime of a node in UTC writes it."""
    seconds, nanos = divmod(at, _SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


def _as_parsed(at: int) -> int:
    """The time that the parser `cri` reads: it counts the fraction in a double and cuts it off."""
    seconds, nanos = divmod(at, _SECOND)
    return seconds * _SECOND + int(float(f"0.{nanos:09d}") * 1e9)


def _list(section: Section, key: str) -> list[str]:
    return [one.strip() for one in section.text(key, "").split(",") if one.strip()]


def _glob(section: Section, key: str, glob: str, one: str) -> re.Pattern[str]:
    if not glob.startswith(f"{FOLDER}/") or set(glob) & set("[]{}~\\"):
        section.refuse(key, f"files in {FOLDER} with * and ? are modelled")
    parts = {"*": f"{one}*", "?": one}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in glob), re.DOTALL)
