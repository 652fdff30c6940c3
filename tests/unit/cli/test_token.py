"""`cali token`: what kubectl and the Helm provider read, by the parser and without it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cali_infra.cli import credential
from cali_infra.ui import UI
from tests.unit.cli.conftest import Cali

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "Sentinel"}
WORDS = ("token", "--cluster", "cali-default", "--region", "ap-northeast-2")
V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"


def url_of(document: Mapping[str, Any]) -> str:
    encoded = document["status"]["token"].removeprefix("k8s-aws-v1.")
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()


def without_parser(*arguments: str, environ: Mapping[str, str]) -> dict[str, Any] | None:
    out = io.StringIO()
    ui = UI(
        stdin=io.StringIO(),
        stdout=out,
        stderr=io.StringIO(),
        environ={},
        clock=lambda: 0.0,
        now=datetime.now,
    )
    return json.loads(out.getvalue()) if credential.answered(arguments, environ, ui) else None


def test_the_parser_and_its_short_cut_say_the_same(cali: Cali) -> None:
    ran, quick = cali(*WORDS, environ=KEYS), without_parser(*WORDS, environ=KEYS)
    assert ran.code == 0
    assert ran.err == ""
    for document in (ran.document, quick):
        assert document is not None
        assert (document["apiVersion"], document["kind"]) == (V1BETA1, "ExecCredential")
        url = urlsplit(url_of(document))
        assert url.netloc == "sts.ap-northeast-2.amazonaws.com"
        assert parse_qs(url.query)["X-Amz-Credential"][0].startswith("AKIATEST/")
        datetime.strptime(document["status"]["expirationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
        assert "Sentinel" not in json.dumps(document) + url_of(document)


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"apiVersion": V1, "kind": "ExecCredential", "spec": {"interactive": False}}, V1),
        ({"apiVersion": V1BETA1}, V1BETA1),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, V1BETA1),
        ({}, V1BETA1),
        ([], V1BETA1),
    ],
)
def test_the_answer_has_the_version_that_was_asked_for(cali: Cali, info: object, version: str) -> None:
    environ = {**KEYS, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    assert cali(*WORDS, environ=environ).document["apiVersion"] == version
    quick = without_parser(*WORDS, environ=environ)
    assert quick is not None
    assert quick["apiVersion"] == version


def test_a_broken_question_is_answered_all_the_same(cali: Cali) -> None:
    assert cali(*WORDS, environ={**KEYS, "KUBERNETES_EXEC_INFO": "{"}).document["apiVersion"] == V1BETA1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("token",),
        ("token", "--help"),
        ("token", "--cluster", "c"),
        ("token", "--region", "r", "--cluster", "c"),
        ("token", "--cluster", "--help", "--region", "r"),
        (*WORDS, "--profile"),
        ("--sandbox", *WORDS),
        ("plan", "--cluster", "c", "--region", "r"),
    ],
)
def test_other_words_are_the_parsers(words: tuple[str, ...]) -> None:
    assert without_parser(*words, environ=KEYS) is None


def test_an_error_is_told_by_the_parser(cali: Cali, tmp_path: Path) -> None:
    nowhere = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no")}
    words = (*WORDS, "--profile", "no-such-profile")
    assert without_parser(*words, environ=nowhere) is None
    ran = cali(*words, environ=nowhere)
    assert ran.code == 1
    assert ran.out == ""
    assert "no-such-profile" in ran.err
    assert "aws configure list-profiles" in ran.err


def test_a_profile_signs(cali: Cali, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("[team]\naws_access_key_id = AKIATEAM\naws_secret_access_key = s\n")
    environ = {
        **KEYS,
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    words = (*WORDS, "--profile", "team")
    quick = without_parser(*words, environ=environ)
    assert quick is not None
    assert "AKIATEAM" in url_of(quick)
    assert "AKIATEAM" in url_of(cali(*words, environ=environ).document)


def test_a_teammate_needs_cali_yaml_alone(cali: Cali, tmp_path: Path) -> None:
    (tmp_path / "cali.yaml").write_text("project: logs\nenvironment: prod\nregion: eu-west-1\n")
    document = cali("token", environ=KEYS).document
    assert urlsplit(url_of(document)).netloc == "sts.eu-west-1.amazonaws.com"
