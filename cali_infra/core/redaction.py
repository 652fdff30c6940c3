"""Taking secrets out of a text, for everything that is shown, logged or kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote

from pydantic import BaseModel, SecretStr

MASK = "********"
# Shorter ones would blank out ordinary words.
_SHORTEST = 4
_NAMES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def redactor(secrets: BaseModel, environ: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces every secret of the model, and the AWS keys of `environ`, by a mask.

    Secrets are also found as JSON, URLs and Python escape them.
    """
    values = {*_values(secrets), *(environ.get(name, "") for name in _NAMES)}
    forms = {form for value in values if len(value) >= _SHORTEST for form in _forms(value)}
    if not forms:
        return lambda text: text
    # The longest first: one secret may begin with another.
    pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))
    return lambda text: pattern.sub(MASK, text)


def _forms(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield quote(value, safe="")


def _values(item: object) -> Iterator[str]:
    if isinstance(item, SecretStr):
        yield item.get_secret_value()
    elif isinstance(item, BaseModel):
        for name in type(item).model_fields:
            yield from _values(getattr(item, name))
    elif isinstance(item, (list, tuple)):
        for entry in item:
            yield from _values(entry)
