"""Durations as people type them: `30d`, `12h`, `1w`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

from cali_infra.errors import UsageError

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_PART = re.compile(r"(\d+)([wdhms])", re.ASCII)
# No end that anybody means, and still a date that every system can write.
_LONGEST = timedelta(days=36500)


def parse(text: str, option: str) -> timedelta:
    """The duration; raises UsageError, naming the `option`, for anything else and for none at all."""
    cleaned = text.strip().lower()
    found = _PART.findall(cleaned)
    units = [unit for _, unit in found]
    length = timedelta()
    if found and "".join(map("".join, found)) == cleaned and len(set(units)) == len(units):
        try:
            length = sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in found), timedelta())
        except OverflowError:
            length = timedelta.max
    if not timedelta() < length <= _LONGEST:
        raise UsageError(
            f"{option}: {text!r} is no duration",
            remedy="write a number and a unit, w, d, h, m or s: 30d, 12h, 1h30m",
        )
    return length
