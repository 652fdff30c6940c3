"""The output `opensearch`: where documents go, and the form that a record gets there."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cali_infra.sandbox.fluent_bit.records import Record
from cali_infra.sandbox.fluent_bit.sections import Section

_SECOND = 1_000_000_000
_DATE = re.compile(r"(?:[^%]|%[YmdH])+")
_SAME_RECORDS = (
    "alias",
    "trace_error",
    "compress",
    "buffer_size",
    "workers",
    "retry_limit",
    "storage.total_limit_size",
)


@dataclass(frozen=True)
class Destination:
    """A domain and the user who writes there; without a user requests carry no credentials."""

    host: str
    port: int
    tls: bool
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Document:
    """One document of a `_bulk` request; without an identifier the domain makes one."""

    operation: str
    index: str
    identifier: str | None
    body: dict[str, Any]


@dataclass(frozen=True)
class OpenSearch:
    """The output, as far as it decides about documents."""

    destination: Destination
    match: str
    prefix: str
    date_format: str
    time_key: str
    nanoseconds: bool
    generate_id: bool
    operation: str
    replace_dots: bool

    def takes(self, tag: str) -> bool:
        """Whether records with this tag come here."""
        before, star, behind = self.match.partition("*")
        if not star:
            return tag == before
        return len(tag) >= len(before + behind) and tag.startswith(before) and tag.endswith(behind)

    def document(self, record: Record) -> Document:
        """What is sent of a record.

        The time comes first and the record's fields behind it; of two fields of a name the last one is written,
        so that a record with the time key keeps its own.
        """
        seconds, nanos = divmod(record.at, _SECOND)
        moment = datetime.fromtimestamp(seconds, UTC)
        fraction = f"{nanos:09d}" if self.nanoseconds else f"{nanos // 1_000_000:03d}"
        shown = {self.time_key: f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z"}
        body: dict[str, Any] = {**shown, **self._cleaned(dict(record.fields))}
        index = f"{self.prefix}-{moment.strftime(self.date_format)}"
        return Document(self.operation, index, _identifier(body) if self.generate_id else None, body)

    def _cleaned(self, value: Any) -> Any:
        if not self.replace_dots:
            return value
        if isinstance(value, dict):
            return {key.replace(".", "_"): self._cleaned(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._cleaned(one) for one in value]
        return value


def read(section: Section) -> OpenSearch:
    """The output of a section. Raises ConfigurationError."""
    section.choice("name", "opensearch")
    section.ignore(*_SAME_RECORDS)
    section.must_be("logstash_format", wanted=True, default=False)
    # OpenSearch 2 and newer refuses a type.
    section.must_be("suppress_type_name", wanted=True, default=False)
    for key in ("tls.verify", "tls.verify_hostname"):
        section.must_be(key, wanted=True, default=key == "tls.verify")
    match, port = section.text("match"), section.text("port")
    date = section.text("logstash_dateformat", "%Y.%m.%d")
    if match.count("*") > 1:
        section.refuse("match", "one star is modelled")
    if not port.isdecimal():
        section.refuse("port", "a number is needed")
    if not _DATE.fullmatch(date):
        section.refuse("logstash_dateformat", "%Y, %m, %d and %H are modelled")
    found = OpenSearch(
        destination=Destination(
            host=section.text("host"),
            port=int(port),
            tls=section.flag("tls", default=False),
            user=section.text("http_user", ""),
            password=section.text("http_passwd", ""),
        ),
        match=match,
        prefix=section.text("logstash_prefix"),
        date_format=date,
        time_key=section.text("time_key", "@timestamp"),
        nanoseconds=section.flag("time_key_nanos", default=False),
        generate_id=section.flag("generate_id", default=False),
        operation=section.choice("write_operation", "create", "index", default="create"),
        replace_dots=section.flag("replace_dots", default=False),
    )
    section.end()
    return found


def _identifier(body: dict[str, Any]) -> str:
    """Equal records have equal ones. A hash of our own: Fluent Bit's is one of its MessagePack."""
    packed = json.dumps(body, sort_keys=True).encode()
    return hashlib.sha256(packed).hexdigest()[:32].upper()
