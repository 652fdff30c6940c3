"""`cali logs`, as a teammate runs it: with cali.yaml and keys, against stand-ins of AWS and OpenSearch."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from cali_infra.adapters.opensearch import OpenSearch
from cali_infra.cli.app import run
from cali_infra.core import init
from cali_infra.core.index import READER, Index
from cali_infra.ui import UI

from .account import MASTER, Account
from .conftest import Cali, Ran, Stream

PASSWORD = "Reader-password-1"
INDEX = "cali-logs-2026.03.01"
JIN = "Of-his-own-1-password"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    made = Account("210987654344", tmp_path_factory.mktemp("account"))
    made.start()
    made.add("jin")
    yield made
    made.close()


class Domain:
    """The account's domain, with the platform's index and its readers."""

    def __init__(self, account: Account) -> None:
        user, password = MASTER
        self.master = OpenSearch(account.make_domain(), user, SecretStr(password), account.ca_file)
        index = Index("cali-logs", 30, 3, SecretStr("Writer-password-1"), SecretStr(PASSWORD))
        self.master.put_template("cali-logs", index.template())
        self.master.put_role(READER, dict(index.roles()[READER]))
        for name, secret in ((READER, PASSWORD), ("jin", JIN), ("nobody", JIN)):
            self.master.put_user(name, SecretStr(secret), {})
        self.master.put_role_mapping(READER, {"users": [READER, "jin"]})

    def write(self, text: str, ago: float = 60.0, **fields: Any) -> str:
        """One line, written so many seconds ago; returns its time."""
        moment = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(timespec="microseconds")
        stamp = moment.replace("+00:00", "789Z")
        pod = {"namespace_name": "airflow", "pod_name": "scheduler-0", "container_name": "scheduler"}
        record = {"@timestamp": stamp, "log": text, "kubernetes": pod, **fields}
        self.master._client.index(index=INDEX, body=record, params={"refresh": "true"})
        return stamp


@pytest.fixture(scope="module")
def _domain(account: Account) -> Domain:
    return Domain(account)


@pytest.fixture
def domain(_domain: Domain, account: Account, monkeypatch: pytest.MonkeyPatch) -> Domain:
    """The domain, as yet without a line."""
    # The stand-in's certificate is of no public authority.
    monkeypatch.setenv("SSL_CERT_FILE", str(account.ca_file))
    indices = _domain.master._client.indices
    if indices.exists(index=INDEX):
        indices.delete(index=INDEX)
    return _domain


@pytest.fixture
def jin(cali: Cali, account: Account, tmp_path: Path) -> Callable[..., Ran]:
    """`cali` as a teammate: without secrets.yaml."""
    (tmp_path / "cali.yaml").touch()

    def invoke(*arguments: str, password: str | None = None, **options: Any) -> Ran:
        environ = account.environ("jin")
        if password is not None:
            environ["CALI_OPENSEARCH__READER_PASSWORD"] = password
        return cali(*arguments, environ=environ, **options)

    return invoke


def lead(folder: Path) -> None:
    """The lead's own secrets.yaml, with the reader's password in it."""
    init.create(folder, init.Answers(), random.Random(7))
    path = folder / "secrets.yaml"
    secrets = yaml.safe_load(path.read_text())
    secrets["opensearch"]["reader_password"] = PASSWORD
    path.write_text(yaml.safe_dump(secrets))
    path.chmod(0o600)


def test_the_lead_searches_as_the_reader(domain: Domain, jin: Callable[..., Ran], tmp_path: Path) -> None:
    lead(tmp_path)
    stamp = domain.write("Connection refused by db-1")
    domain.write("fine")
    domain.write("Connection refused long ago", ago=3600)

    ran = jin("logs", "--grep", "connection refused", "--utc")

    assert ran.code == 0, ran.err
    assert ran.out == f"{stamp[:23]}Z airflow/scheduler-0 scheduler Connection refused by db-1\n"
    assert ran.err == ""
    ran = jin("logs", "--since", "2h", "--until", "30m")
    local = datetime.fromisoformat(ran.out.split()[0])
    assert local.utcoffset() == datetime.now().astimezone().utcoffset()
    assert ran.out.rstrip().endswith("Connection refused long ago")


def test_a_teammate_has_a_user_of_his_own(domain: Domain, jin: Callable[..., Ran]) -> None:
    domain.write("here")
    ran = jin("logs", "--user", "jin", password=JIN)
    assert ran.code == 0, ran.err
    assert "here" in ran.out
    # Or types it, and it shows nowhere.
    ran = jin("logs", answers=f"jin\n{JIN}\n")
    assert ran.code == 0, ran.err
    assert "here" in ran.out
    assert "User: Password of jin: " in ran.err
    assert JIN not in ran.err + ran.out
    ran = jin("--output", "json", "logs", "--user", "jin")
    assert ran.code == 2
    assert ran.document["error"]["message"] == "there is no password for jin, and no terminal to ask for it"
    assert "CALI_OPENSEARCH__READER_PASSWORD" in ran.document["error"]["remedy"]


def test_the_lines_as_one_document(domain: Domain, jin: Callable[..., Ran]) -> None:
    stamps = [domain.write(f"line {number}", ago=60 - number) for number in range(3)]
    domain.write(
        "", ago=10, log=None, app={"message": "up", "level": "info"}, kubernetes={"namespace_name": "milvus"}
    )

    ran = jin("--output", "json", "logs", "--limit", "3", password=PASSWORD)

    assert ran.code == 0, ran.err
    document = ran.document
    assert (document["ok"], document["index"], document["until"]) == (True, "cali-logs-*", None)
    assert document["more"] is True
    assert [line["text"] for line in document["lines"]] == ["line 1", "line 2", "up"]
    first = document["lines"][0]
    assert first["record"]["@timestamp"] == stamps[1]
    assert first["time"] == f"{stamps[1][:26]}Z"
    assert (first["namespace"], first["pod"], first["container"]) == ("airflow", "scheduler-0", "scheduler")
    assert "warning: these are the newest 3 lines" in ran.err
    # What a JSON line says beside its message stands behind it.
    ran = jin("logs", "--namespace", "milvus", password=PASSWORD)
    assert ran.out.rstrip().endswith('milvus/  up {"level": "info"}')


def test_following_shows_what_comes_and_ends_with_ctrl_c(
    domain: Domain, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cali_infra.core.logs.POLL", 0.01)
    (tmp_path / "cali.yaml").touch()
    domain.write("old")
    out, err = Stream(), Stream()
    ui = UI(
        stdin=Stream(),
        stdout=out,
        stderr=err,
        environ={},
        clock=lambda: 0.0,
        now=lambda: pytest.fail("not asked"),
    )
    failures: list[BaseException] = []

    def until(text: str, stream: Stream) -> None:
        last = time.monotonic() + 30
        while text not in stream.getvalue():
            assert time.monotonic() < last, err.getvalue()
            time.sleep(0.01)

    def somebody() -> None:
        try:
            until("Ctrl-C ends it", err)
            for number in range(3):
                domain.write(f"new {number}", ago=5 - number)
                until(f"new {number}", out)
            # The connection is cut in the middle of a search, and nobody needs to know.
            account.opensearch.faults.cut(3, path="_search")
            domain.write("over the cut", ago=0)
            until("over the cut", out)
        except BaseException as failure:
            failures.append(failure)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=somebody)
    thread.start()
    environ = {**account.environ("jin"), "CALI_OPENSEARCH__READER_PASSWORD": PASSWORD}
    code = run(("logs", "--follow"), ui, environ, tmp_path)
    thread.join()
    assert not failures, failures
    assert code == 0
    shown = [line.partition(" scheduler ")[2] for line in out.getvalue().splitlines()]
    assert shown == ["old", "new 0", "new 1", "new 2", "over the cut"]
    assert "lines show some 20 seconds after they are written" in err.getvalue()


def test_who_the_domain_does_not_let_in(domain: Domain, jin: Callable[..., Ran], tmp_path: Path) -> None:
    domain.write("here")
    ran = jin("--output", "json", "logs", password="Wrong-password-1")
    error = ran.document["error"]
    assert (ran.code, error["code"]) == (1, "opensearch")
    assert error["message"].endswith("does not accept the password of cali-reader")
    assert "cali up index" in error["remedy"]
    error = jin("--output", "json", "logs", "--user", "jin", password="Wrong-password-1").document["error"]
    assert "check the user (--user)" in error["remedy"]
    error = jin("--output", "json", "logs", "--user", "nobody", password=JIN).document["error"]
    assert "nobody may read the logs' indices" in error["remedy"]
    assert "allowed_cidrs" in error["remedy"]


def test_what_is_not_there(account: Account, domain: Domain, jin: Callable[..., Ran], tmp_path: Path) -> None:
    ran = jin("logs", password=PASSWORD)
    assert (ran.code, ran.out) == (0, "")
    assert "warning: there is no index cali-logs-* yet: nothing was ever logged (cali up logging)" in ran.err
    domain.write("here")
    ran = jin("logs", "--namespace", "elsewhere", password=PASSWORD)
    assert (ran.code, ran.out, ran.err) == (0, "", "no line fits\n")
    (tmp_path / "cali.yaml").write_text("environment: other\n")
    ran = jin("--output", "json", "logs", password=PASSWORD)
    assert (ran.code, ran.document["error"]["code"]) == (2, "precondition")
    assert "there is no OpenSearch domain cali-other" in ran.document["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--output", "json", "--follow"), "--follow has no end, and --output json is one document"),
        (("--follow", "--until", "1m"), "--follow has no end, and --until is one"),
        (("--since", "soon"), "--since: 'soon' is no duration"),
        (("--since", "2026-13-01"), "--since: '2026-13-01' is no time"),
        (("--since", "1h", "--until", "2h"), "--until is not after --since"),
        (("--namespace", "Air flow"), "--namespace: 'Air flow' is no name that Kubernetes gives"),
        (("--grep", "***"), "--grep: '***' holds no word"),
        (("--limit", "0"), "--limit"),
    ],
)
def test_what_cannot_be_meant(jin: Callable[..., Ran], arguments: tuple[str, ...], says: str) -> None:
    ran = jin("logs", *arguments, password=PASSWORD)
    assert ran.code == 2
    assert says in ran.err


def test_times_are_of_this_machine_s_zone_or_utc(domain: Domain, jin: Callable[..., Ran]) -> None:
    stamp = domain.write("here")
    moment = datetime.fromisoformat(stamp[:26] + "+00:00")
    before = (moment - timedelta(seconds=30)).replace(tzinfo=None).isoformat()
    after = (moment + timedelta(seconds=30)).astimezone().replace(tzinfo=None).isoformat()
    assert "here" in jin("logs", "--since", before, "--utc", password=PASSWORD).out
    assert "here" not in jin("logs", "--since", after, password=PASSWORD).out
    assert "here" in jin("logs", "--since", f"{before}+00:00", password=PASSWORD).out
