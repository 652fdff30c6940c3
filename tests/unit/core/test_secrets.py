"""What a person is told about `secrets.yaml`, and that no message repeats what is in it."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cali_infra.core.secrets import Secrets, load_secrets
from cali_infra.errors import PreconditionError, SettingsError

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PASSWORD = "Correct-Horse-7"
WHOLE: dict[str, Any] = {
    "principals": [],
    "opensearch": {f"{user}_password": PASSWORD for user in ("master", "writer", "reader")},
    "grafana": {"admin_password": PASSWORD},
    "airflow": {
        "fernet_key": KEY,
        "api_secret_key": "a" * 32,
        "jwt_secret": "b" * 32,
        "admin_password": PASSWORD,
        "database_password": PASSWORD,
    },
    "milvus": {"root_password": PASSWORD, "minio_access_key": "cali", "minio_secret_key": PASSWORD},
}
ARN = "arn:aws:iam::111122223333:user/team/jiwoo"
SSH_URL = "git@github.com:acme/dags.git"
SSH_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\n-----END OPENSSH PRIVATE KEY-----\n"
KNOWN_HOSTS = "# github.com:22 SSH-2.0\ngithub.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMq\n"


def load(folder: Path, document: dict[str, Any] | str, environ: dict[str, str] | None = None) -> Secrets:
    path = folder / "secrets.yaml"
    text = document if isinstance(document, str) else yaml.safe_dump(document, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return load_secrets(folder, environ or {})


def changed(path: str, value: object) -> dict[str, Any]:
    """The whole document with one key changed."""
    document = copy.deepcopy(WHOLE)
    section, _, key = path.partition(".")
    if key:
        document.setdefault(section, {})[key] = value
    else:
        document[section] = value
    return document


def mistakes(folder: Path, document: dict[str, Any] | str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(folder, document)
    return {problem.key: problem.problem for problem in caught.value.problems}


def test_a_right_file_is_read_and_shows_no_secret(tmp_path: Path) -> None:
    secrets = load(tmp_path, WHOLE)
    assert secrets.opensearch.master_password.get_secret_value() == PASSWORD
    assert secrets.gitsync.url is None
    assert PASSWORD not in repr(secrets)


def test_an_empty_file_is_told_everything_that_is_missing(tmp_path: Path) -> None:
    assert set(mistakes(tmp_path, "")) == {"opensearch", "grafana", "airflow", "milvus"}


def test_without_the_file_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match=r"no secrets\.yaml") as caught:
        load_secrets(tmp_path, {})
    assert "cali init" in caught.value.remedy


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    environ = {
        f"CALI_{section.upper()}__{key.upper()}": value
        for section, keys in WHOLE.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
    }
    assert load_secrets(tmp_path, environ).grafana.admin_password.get_secret_value() == PASSWORD


def test_an_environment_variable_overrides_a_password(tmp_path: Path) -> None:
    secrets = load(tmp_path, WHOLE, {"CALI_OPENSEARCH__MASTER_PASSWORD": "Other-Horse-8"})
    assert secrets.opensearch.master_password.get_secret_value() == "Other-Horse-8"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_open_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    load(tmp_path, WHOLE)
    path = tmp_path / "secrets.yaml"
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"chmod 600 {path}"):
        load_secrets(tmp_path, {})


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("Sh0rt-", "8 to 128 characters"),
        ("Long-1" * 22, "8 to 128 characters"),
        ("lower-case-1", "an upper-case letter"),
        ("UPPER-CASE-1", "a lower-case letter"),
        ("No-Digits-here", "a digit"),
        ("NoSpecials1234", "a special character"),
        ("With space 1", "a special character"),
        ("With-\nbreak-1", "control character"),
    ],
)
@pytest.mark.parametrize("user", ["master", "writer", "reader"])
def test_a_weak_password_is_told_what_it_lacks_and_never_shown(
    tmp_path: Path, user: str, password: str, words: str
) -> None:
    key = f"opensearch.{user}_password"
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, changed(key, password))
    (problem,) = caught.value.problems
    assert (problem.key, words in problem.problem) == (key, True)
    assert password not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "opensearch: {master_password: *Hunter-2-secret}",
        "opensearch: {master_password: !Hunter-2-secret}",
        "opensearch: {master_password: &Hunter-2-secret}",
        "opensearch: {master_password: %Hunter-2-secret}",
        "opensearch: {master_password: 'Hunter-2-secret}",
        'opensearch: {master_password: "\\q Hunter-2-secret"}',
        "opensearch: {master_password: [Hunter-2-secret]}",
        "opensearch: {master_password: {a: Hunter-2-secret}}",
        "opensearch: Hunter-2-secret",
        "Hunter-2-secret",
        "gitsync: {url: 'https://me:Hunter-2-secret@example.com/x'}",
        "airflow: {fernet_key: Hunter-2-secret}",
    ],
)
def test_no_message_repeats_a_value(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert "Hunter-2" not in str(caught.value)
    assert all("Hunter-2" not in repr(problem) for problem in caught.value.problems)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("path", "value", "key", "words"),
    [
        ("opensearch.master_password", 12345678, "opensearch.master_password", "put it in quotes"),
        ("opensearch.master_passwort", "x", "opensearch.master_passwort", "did you mean 'master_password'"),
        ("airflow.fernet_key", "abc", "airflow.fernet_key", "not a Fernet key"),
        ("airflow.jwt_secret", "short", "airflow.jwt_secret", "at least 16 characters"),
        ("grafana.admin_password", "With-${HOME}-1", "grafana.admin_password", "leave out the braces"),
        ("grafana.admin_password", "$__env{HOME}-1", "grafana.admin_password", "leave out the braces"),
        ("airflow.admin_password", "Two-lines-\n", "airflow.admin_password", "control character"),
        ("airflow.database_url", "mysql://a:b@db/x", "airflow.database_url", "is not postgresql://"),
        ("airflow.database_url", "postgresql://a@db/x", "airflow.database_url", "is not postgresql://"),
        ("airflow.database_url", "postgresql://a:b@db", "airflow.database_url", "is not postgresql://"),
        ("airflow.database_url", "postgresql://a:b#c@db/x", "airflow.database_url", "a # as %23"),
        ("airflow.database_url", "postgresql://a:b@db:x/x", "airflow.database_url", "is not postgresql://"),
        ("airflow.database_url", "postgresql://a:b$c@db/x", "airflow.database_url", "write it as %24"),
        ("airflow.database_url", "postgresql://a:b@db/x?options=1", "airflow.database_url", "only sslmode"),
        (
            "airflow.database_url",
            "postgresql://a:b@db/x?sslmode=verify-full",
            "airflow.database_url",
            "that check a certificate",
        ),
        ("hash_key", "short", "hash_key", "at least 16 characters"),
        ("milvus.root_password", "\uac00" * 25, "milvus.root_password", "at most 72 bytes"),
        ("gitsync.url", "https://me:pw@example.com/x.git", "gitsync.url", "use an SSH key"),
        ("gitsync.url", "https://me:p/w@example.com/x.git", "gitsync.url", "holds a password"),
        ("gitsync.url", "https://ghp_token@example.com/x.git", "gitsync.url", "or a token"),
        ("gitsync.url", "dags", "gitsync.url", "not the URL of a Git repository"),
        ("principals", [{"name": "x"}], "principals[0].arn", "is missing"),
        ("principals", [{"arn": ARN, "level": "amdin"}], "principals[0].level", "did you mean 'admin'"),
        ("principals", [{"arn": ARN, "namespaces": ["Bad"]}], "principals[0].namespaces[0]", "a namespace"),
        ("principals", [{"arn": ARN, "until": "soon"}], "principals[0].until", "neither a date nor a time"),
        ("principals", [{"arn": ARN, "until": "2027-01-01T10:00"}], "principals[0].until", "time zone"),
        ("principals", [{"arn": ARN}, {"arn": ARN}], "principals", "more than once"),
        ("principals", [{"arn": ARN}, {"arn": "x"}], "principals[1].arn", "not an ARN"),
        ("principals", ARN, "principals", "must be a list, not text"),
    ],
)
def test_a_mistake_in_words(tmp_path: Path, path: str, value: object, key: str, words: str) -> None:
    assert words in mistakes(tmp_path, changed(path, value))[key]


def test_principals_are_read_as_people_write_them(tmp_path: Path) -> None:
    entries = [
        {"arn": ARN},
        {"arn": ARN + "2", "name": "\uc9c0\uc6b0", "level": "view", "namespaces": ["airflow", "team-*"]},
        {"arn": ARN + "3", "until": "2020-12-31"},
        {"arn": ARN + "4", "until": "2027-01-01T09:00:00+09:00"},
    ]
    first, second, expired, timed = load(tmp_path, changed("principals", entries)).principals
    assert (first.name, first.level, first.namespaces, first.until) == ("jiwoo", "admin", [], None)
    assert (second.name, second.namespaces) == ("\uc9c0\uc6b0", ["airflow", "team-*"])
    assert expired.until == date(2020, 12, 31)
    assert timed.until == datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("rest", ["", ":5433", "?sslmode=require", ":5433?sslmode=disable"])
def test_urls_of_a_database_that_are_right(tmp_path: Path, rest: str) -> None:
    port, _, query = rest.partition("?")
    url = f"postgresql://air:p%24w@db.example.com{port}/metadata" + (f"?{query}" if query else "")
    secrets = load(tmp_path, changed("airflow.database_url", url))
    assert secrets.airflow.database_url is not None
    assert secrets.airflow.database_url.get_secret_value() == url


def test_a_line_that_was_emptied_is_none(tmp_path: Path) -> None:
    document = {**WHOLE, "gitsync": {"url": "", "ssh_key": " ", "known_hosts": "", "token": ""}}
    gitsync = load(tmp_path, document).gitsync
    assert (gitsync.url, gitsync.ssh_key, gitsync.known_hosts, gitsync.token) == (None,) * 4


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:acme/dags.git",
        "ssh://git@example.com:2222/acme/dags.git",
        "https://example.com/acme/dags",
    ],
)
def test_git_urls_that_are_right(tmp_path: Path, url: str) -> None:
    document = {**WHOLE, "gitsync": {"url": url, "ssh_key": SSH_KEY, "known_hosts": KNOWN_HOSTS}}
    assert load(tmp_path, document).gitsync.url == url


@pytest.mark.parametrize(
    ("url", "scan"),
    [
        (SSH_URL, "`ssh-keyscan github.com` prints it"),
        ("ssh://git@example.com:2222/acme/dags.git", "`ssh-keyscan -p 2222 example.com` prints it"),
    ],
)
def test_a_url_over_ssh_needs_a_key_and_known_hosts(tmp_path: Path, url: str, scan: str) -> None:
    found = mistakes(tmp_path, changed("gitsync.url", url))
    assert set(found) == {"gitsync.ssh_key", "gitsync.known_hosts"}
    assert found["gitsync.ssh_key"] == "is missing, and gitsync.url goes over SSH"
    assert scan in found["gitsync.known_hosts"]


def test_a_url_over_https_needs_neither_and_takes_a_token(tmp_path: Path) -> None:
    url = "https://example.com/acme/dags"
    assert load(tmp_path, changed("gitsync.url", url)).gitsync.token is None
    secrets = load(tmp_path, {**WHOLE, "gitsync": {"url": url, "token": "Sentinel-token"}})
    assert (secrets.gitsync.username, "Sentinel" in repr(secrets)) == ("git", False)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ssh_key", "ssh-ed25519 AAAASentinel me@here", "is a public key"),
        ("ssh_key", SSH_KEY.replace("\n", " "), "keeps its line breaks"),
        ("ssh_key", "Sentinel", "is not a private key"),
        ("ssh_key", SSH_KEY.partition("-----END")[0], "is not a private key"),
        ("ssh_key", SSH_KEY.replace("OPENSSH", "ENCRYPTED"), "has a passphrase"),
        ("ssh_key", SSH_KEY.replace("b3", "Proc-Type: 4,ENCRYPTED\nb3"), "has a passphrase"),
        ("known_hosts", "ssh-ed25519 AAAASentinel", "line 1 is not HOST TYPE KEY"),
        ("known_hosts", KNOWN_HOSTS + "github.com ssh-rsa Sentinel", "line 3 is not HOST TYPE KEY"),
        ("known_hosts", "# nothing", "names no host"),
    ],
)
def test_a_key_or_a_host_in_the_wrong_form_is_told(tmp_path: Path, key: str, value: str, words: str) -> None:
    gitsync = {"url": SSH_URL, "ssh_key": SSH_KEY, "known_hosts": KNOWN_HOSTS, key: value}
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, {**WHOLE, "gitsync": gitsync})
    (problem,) = caught.value.problems
    assert (problem.key, words in problem.problem) == (f"gitsync.{key}", True)
    assert "Sentinel" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        SSH_KEY.rstrip(),
        SSH_KEY.replace("\n", "\r\n"),
        SSH_KEY.replace("OPENSSH ", ""),
        SSH_KEY.replace("OPENSSH", "RSA"),
    ],
)
def test_forms_of_a_private_key_that_are_right(tmp_path: Path, key: str) -> None:
    load(tmp_path, {**WHOLE, "gitsync": {"url": SSH_URL, "ssh_key": key, "known_hosts": KNOWN_HOSTS}})


def test_hashed_and_marked_known_hosts_are_right(tmp_path: Path) -> None:
    lines = "|1|c2FsdA==|aGFzaA== ssh-rsa AAAAB3Nz\n@cert-authority *.example.com ssh-rsa AAAAB3Nz comment\n"
    load(tmp_path, {**WHOLE, "gitsync": {"url": SSH_URL, "ssh_key": SSH_KEY, "known_hosts": lines}})


def test_the_environment_brings_what_a_url_over_ssh_needs(tmp_path: Path) -> None:
    environ = {"CALI_GITSYNC__SSH_KEY": SSH_KEY, "CALI_GITSYNC__KNOWN_HOSTS": KNOWN_HOSTS}
    assert load(tmp_path, changed("gitsync.url", SSH_URL), environ).gitsync.known_hosts == KNOWN_HOSTS


def test_two_fernet_keys_while_one_is_changed(tmp_path: Path) -> None:
    secrets = load(tmp_path, changed("airflow.fernet_key", f"{KEY},{KEY}"))
    assert secrets.airflow.fernet_key.get_secret_value() == f"{KEY},{KEY}"
