"""Dates as OpenSearch reads them: the formats of a `date` field, and date math such as `now-15m/d`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cali_infra.sandbox.opensearch.errors import SearchError

DEFAULT_FORMAT = "strict_date_optional_time||epoch_millis"
KNOWN_FORMATS = (
    "strict_date_optional_time",
    "strict_date_optional_time_nanos",
    "date_optional_time",
    "strict_date_time",
    "epoch_millis",
    "epoch_second",
)
_ISO = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T(?:(\d{2})(?::(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?)?"
    r"(Z|[+-]\d{2}(?::?\d{2})?)?)?)?)?\Z"
)
_MATH = re.compile(r"([+-])(\d*)([yMwdhHms])|/([yMwdhHms])")
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "H": "hours", "m": "minutes", "s": "seconds"}


def parse(value: object, formats: str = DEFAULT_FORMAT) -> float:
    """Milliseconds since 1970 of a document's date. Raises ValueError for what none of the formats reads."""
    for name in formats.split("||"):
        if name in ("epoch_millis", "epoch_second"):
            text = str(value)
            if not isinstance(value, bool) and re.fullmatch(r"-?\d+(\.\d+)?", text):
                return float(text) * (1000 if name == "epoch_second" else 1)
        elif isinstance(value, str | int) and not isinstance(value, bool):
            found = _iso(str(value))
            if found is not None:
                return found
    raise ValueError(f"failed to parse date field [{value}] with format [{formats}]")


def _iso(text: str) -> float | None:
    match = _ISO.match(text)
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    millis = moment.timestamp() * 1000
    if fraction:
        millis += int(fraction.ljust(9, "0")) / 1e6
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = (int(digits[:2]) * 60 + int(digits[2:])) * 60_000
        millis -= offset if zone[0] == "+" else -offset
    return millis


def math(value: object, now: datetime, formats: str = DEFAULT_FORMAT, *, up: bool = False) -> float:
    """Milliseconds of a date in a query: a date, `now` or `DATE||`, with `+1d`, `-15m` and `/d` after it.

    `up` rounds `/d` to the end of its unit, as `gt` and `lte` do. Raises SearchError 400.
    """
    text = str(value)
    if text.startswith("now"):
        moment, rest = now.astimezone(UTC), text[3:]
    else:
        anchor, _, rest = text.partition("||")
        try:
            millis = parse(anchor if isinstance(value, str) else value, formats)
        except ValueError as error:
            raise SearchError(400, "parse_exception", str(error)) from error
        moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=millis)
    at = 0
    while at < len(rest):
        found = _MATH.match(rest, at)
        if not found:
            raise SearchError(400, "parse_exception", f"operator not supported for date math [{rest}]")
        at = found.end()
        sign, count, unit, rounding = found.groups()
        if rounding:
            moment = _rounded(moment, rounding, up)
        else:
            moment = _moved(moment, unit, int(count or 1) * (1 if sign == "+" else -1))
    return moment.timestamp() * 1000


def _moved(moment: datetime, unit: str, count: int) -> datetime:
    if unit in _UNITS:
        return moment + timedelta(**{_UNITS[unit]: count})
    months = moment.year * 12 + moment.month - 1 + count * (12 if unit == "y" else 1)
    year, month = divmod(months, 12)
    day = moment.day
    while True:
        try:
            return moment.replace(year=year, month=month + 1, day=day)
        except ValueError:
            day -= 1


def _rounded(moment: datetime, unit: str, up: bool) -> datetime:
    start = moment.replace(microsecond=0)
    if unit in "mhHdwMy":
        start = start.replace(second=0)
    if unit in "hHdwMy":
        start = start.replace(minute=0)
    if unit in "dwMy":
        start = start.replace(hour=0)
    if unit == "w":
        start -= timedelta(days=start.weekday())
    if unit in "My":
        start = start.replace(day=1)
    if unit == "y":
        start = start.replace(month=1)
    return _moved(start, unit, 1) - timedelta(milliseconds=1) if up else start


def interval_millis(text: str) -> float:
    """A fixed interval such as `30s`, `5m`, `1d` in milliseconds. Raises SearchError 400."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if not found:
        raise SearchError(400, "parse_exception", f"failed to parse setting [interval] with value [{text}]")
    scale = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[found[2]]
    return int(found[1]) * float(scale)
