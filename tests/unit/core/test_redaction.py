"""A secret is found in every form in which another program repeats it."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from pydantic import BaseModel, SecretStr

from cali_infra.core.redaction import MASK, redactor

SECRET = 'Pa$$ "w/ord"\\ <\'&> \ud55c\uae00 \u00e9'
IN_GO = json.dumps(SECRET, ensure_ascii=False)[1:-1]
for character in "<>&":
    IN_GO = IN_GO.replace(character, f"\\u{ord(character):04x}")


class Inner(BaseModel):
    key: SecretStr | None = None
    name: str = "plain text stays"


class Outer(BaseModel):
    password: SecretStr
    inner: Inner = Inner()
    several: list[Inner] = []


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        repr(SECRET)[1:-1],
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        json.dumps(json.dumps(SECRET))[3:-3],
        IN_GO,
        json.dumps(IN_GO)[1:-1],
        html.escape(SECRET),
        html.escape(SECRET, quote=False),
        html.escape(SECRET).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    ],
)
def test_each_form_is_hidden(form: str) -> None:
    redact = redactor(Outer(password=SecretStr(SECRET)), {})
    assert redact(f"before {form} after") == f"before {MASK} after"


@pytest.mark.parametrize("user", ["a", "ab", "abc", "admin"])
@pytest.mark.parametrize("secret", [SECRET, "Simple-password1"])
def test_a_password_behind_a_name_in_base64_is_hidden(user: str, secret: str) -> None:
    encoded = base64.b64encode(f"{user}:{secret}\n".encode()).decode()
    left, right = redactor(Outer(password=SecretStr(secret)), {})(f"Basic {encoded}").split(MASK)
    # What is left says nothing of the password but a few bits of its first and last letter.
    assert len(left.removeprefix("Basic ")) <= (len(user) + 1) * 8 // 6 + 1
    assert len(right) <= 4


def test_secrets_are_found_at_any_depth_and_the_longest_goes_first() -> None:
    secrets = Outer(
        password=SecretStr("abcdefgh"),
        inner=Inner(key=SecretStr("abcdefgh-longer")),
        several=[Inner(key=SecretStr("third-secret"))],
    )
    redact = redactor(secrets, {})
    text = redact("abcdefgh abcdefgh-longer third-secret plain text stays")
    assert text == f"{MASK} {MASK} {MASK} plain text stays"


def test_each_line_of_a_key_is_hidden_but_not_its_armour() -> None:
    line = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ"
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{line}\n-----END OPENSSH PRIVATE KEY-----\n"
    redact = redactor(Outer(password=SecretStr(key)), {})
    assert line not in redact(f"  {line}\n")
    assert redact("-----BEGIN OPENSSH PRIVATE KEY-----") == "-----BEGIN OPENSSH PRIVATE KEY-----"


def test_aws_keys_of_the_environment_and_cluster_tokens_are_hidden() -> None:
    environ = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG", "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2VjE"}
    redact = redactor(None, environ)
    said = redact(
        f"{environ['AWS_SECRET_ACCESS_KEY']} {environ['AWS_SESSION_TOKEN']} k8s-aws-v1.{'aB3_' * 9}"
    )
    assert said == f"{MASK} {MASK} {MASK}"


def test_short_values_do_not_eat_ordinary_words() -> None:
    redact = redactor(Outer(password=SecretStr("test")), {"AWS_SECRET_ACCESS_KEY": "testing"})
    assert redact("a test while testing") == "a test while testing"
