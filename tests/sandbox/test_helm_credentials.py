"""The credential commands that a provider block names: run once, kept until they expire, ended in time."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cali_infra.sandbox.helm.cluster import ClusterError, Credentials, Exec

pytestmark = pytest.mark.sandbox

VERSION = "client.authentication.k8s.io/v1beta1"


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def command(code: str, **env: str) -> Exec:
    return Exec(VERSION, sys.executable, ("-c", code), tuple(env.items()))


def saying(status: Mapping[str, object], version: str = VERSION) -> Exec:
    answer = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    return command(f"print({answer!r})")


def test_the_command_sees_the_environment_the_block_adds_and_who_asks() -> None:
    code = (
        "import json, os; info = json.loads(os.environ['KUBERNETES_EXEC_INFO']);"
        "print(json.dumps({'apiVersion': info['apiVersion'],"
        " 'status': {'token': os.environ['FIRST'] + os.environ['SECOND']}}))"
    )
    credentials = Credentials({**os.environ, "FIRST": "a", "SECOND": "b"}, Clock())
    assert credentials.get(command(code, SECOND="c")).token == "ac"


def test_an_answer_is_kept_until_shortly_before_it_expires_or_is_refused(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    clock = Clock()
    expires = (clock.now + timedelta(minutes=14)).isoformat().replace("+00:00", "Z")
    answer = json.dumps({"apiVersion": VERSION, "status": {"token": "t", "expirationTimestamp": expires}})
    run = command(f"open({str(counter)!r}, 'a').write('x'); print({answer!r})")
    credentials = Credentials(os.environ, clock)
    credentials.get(run)
    clock.now += timedelta(minutes=12)
    credentials.get(run)
    assert counter.read_text() == "x"
    clock.now += timedelta(minutes=1, seconds=30)
    credentials.get(run)
    assert counter.read_text() == "xx"
    credentials.forget(run)
    credentials.get(run)
    assert counter.read_text() == "xxx"


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (Exec(VERSION, "cali-no-such-command"), "executable cali-no-such-command not found"),
        (Exec("client.authentication.k8s.io/v1alpha1", sys.executable), "invalid apiVersion"),
        (command("print('hello')"), "decoding stdout"),
        (saying({"token": "t"}, "client.authentication.k8s.io/v1"), "plugin returned version client.auth"),
        (saying({}), "didn't return a token or cert/key pair"),
        (saying({"token": "t", "expirationTimestamp": "soon"}), "expirationTimestamp"),
        (command("raise SystemExit('expired')"), "failed with exit code 1: expired"),
    ],
)
def test_what_goes_wrong_is_said_in_the_words_of_the_kubernetes_client(run: Exec, said: str) -> None:
    with pytest.raises(ClusterError, match="getting credentials: ") as caught:
        Credentials(os.environ, Clock()).get(run)
    assert said in str(caught.value)


def test_a_command_that_hangs_ends_with_the_sandbox(tmp_path: Path) -> None:
    started = tmp_path / "started"
    run = command(f"import time; open({str(started)!r}, 'w').close(); time.sleep(60)")
    credentials = Credentials(os.environ, Clock())
    ended: list[str] = []

    def get() -> None:
        try:
            credentials.get(run)
        except ClusterError as error:
            ended.append(str(error))

    thread = threading.Thread(target=get)
    thread.start()
    deadline = time.monotonic() + 10
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    credentials.close()
    thread.join(5)
    assert not thread.is_alive()
    assert "failed with exit code" in ended[0]
    with pytest.raises(ClusterError, match="the sandbox is stopping"):
        credentials.get(run)
