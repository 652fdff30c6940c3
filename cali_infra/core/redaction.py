"""Taking secrets out of text that goes to a terminal, a log or a report.

It knows the secrets' values and the forms in which other programs repeat them. Who calls it stands at the
doors: `ui.py`, the Terraform runner, the log of a crash.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, quote_plus

MASK = "********"

# Shorter ones would take ordinary words out of ordinary sentences; the models ask for 8 where it matters.
_SHORTEST = 8
# The stand-ins' dummy keys are words.
_SHORTEST_AWS_KEY = 16
_SHORTEST_LINE = 20
_AWS_KEYS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# A presigned call that anybody could make in the caller's name.
_EKS_TOKEN = re.compile(r"k8s-aws-v1\.[A-Za-z0-9_=-]{20,}")
_ARMOUR = re.compile(r"-+(BEGIN|END)[^-]*-+")


def redactor(secrets: object, environ: Mapping[str, str]) -> Callable[[str], str]:
    """A function that puts `********` in the place of every secret of the model and AWS key of `environ`.

    Found are values as they are, inside JSON (once or twice, as Python and as Go write it), a Python literal,
    XML or a URL, in base64 (alone, as in a Kubernetes Secret, or behind a name, as in an Authorization header),
    and the single lines of a value with several. Tokens for EKS go as well.
    """
    values = {value for value in _values(secrets) if len(value) >= _SHORTEST}
    values |= {key for name in _AWS_KEYS if len(key := environ.get(name, "")) >= _SHORTEST_AWS_KEY}
    # The longest first: one secret may begin with another.
    forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)

    def redact(text: str) -> str:
        # One fast search per form: an alternation of all would be tried at every character.
        for form in forms:
            if form in text:
                text = text.replace(form, MASK)
        return _EKS_TOKEN.sub(MASK, text) if "k8s-aws-v1." in text else text

    return redact


def _values(item: object) -> Iterator[str]:
    unwrap = getattr(item, "get_secret_value", None)
    if unwrap is not None:
        yield str(unwrap())
    elif isinstance(item, Mapping):
        for entry in item.values():
            yield from _values(entry)
    elif isinstance(item, (list, tuple, set, frozenset)):
        for entry in item:
            yield from _values(entry)
    else:
        for name in getattr(type(item), "model_fields", ()):
            yield from _values(getattr(item, name))


def _forms(value: str) -> Iterator[str]:
    data = value.encode("utf-8", "surrogatepass")
    plain = [value]
    if "\n" in value.strip():
        plain.append(value.strip())
        plain += [
            line.strip()
            for line in value.splitlines()
            if len(line.strip()) >= _SHORTEST_LINE and not _ARMOUR.fullmatch(line.strip())
        ]
    for one in plain:
        yield one
        yield repr(one)[1:-1]
        yield from _in_xml(one)
        for inside in set(_in_json(one)):
            yield inside
            # A request's body, quoted in the JSON of who reports it.
            yield from _in_json(inside)
    yield quote(data, safe="")
    yield quote(data)
    yield quote_plus(data)
    yield base64.b64encode(data).decode()
    yield base64.urlsafe_b64encode(data).decode()
    yield from _inside_base64(data)


def _in_json(text: str) -> Iterator[str]:
    yield json.dumps(text)[1:-1]
    literal = json.dumps(text, ensure_ascii=False)[1:-1]
    yield literal
    # Go escapes what would mean something in HTML.
    yield re.sub(r"[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", literal)


def _in_xml(text: str) -> Iterator[str]:
    bare = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield bare
    # As Python and moto, Go, and XML itself name the quotes.
    for double, single in (("&quot;", "&#x27;"), ("&#34;", "&#39;"), ("&quot;", "&apos;")):
        yield bare.replace('"', double).replace("'", single)


def _inside_base64(data: bytes) -> Iterator[str]:
    """The characters that are the same wherever the data stands in a longer encoded text."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        yield encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
