"""Who changes access takes turns: in S3 under a lease, in a workspace under a lock that the kernel gives back."""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cali_infra.adapters.aws import Aws
from cali_infra.adapters.aws_bucket import StoredObject
from cali_infra.core import state_bucket
from cali_infra.core.lease import LocalLease, Terms, lease_for
from cali_infra.core.shared_lease import SharedLease
from cali_infra.core.turns import Waiting
from cali_infra.core.workspace import Workspace
from cali_infra.errors import AwsError, LeaseHeldError, LeaseLostError, RunInterruptedError
from cali_infra.sandbox.aws.controls import Fault
from cali_infra.sandbox.aws.server import AwsStandIn

SEOUL = "ap-northeast-2"
STATES = "team-terraform-states"
JIN = "arn:aws:iam::111122223333:user/jin"
# Real contenders look often, so that a test is quick, and are patient with a machine that is slow.
OFTEN = Terms(poll=0.1, turn=600)
_names = itertools.count(1)


@dataclass
class Turns:
    """Patience and time of one contender; time passes only while it waits."""

    seconds: float = 0.0
    patience: float = 600.0
    told: list[str] = field(default_factory=list)
    cancel: threading.Event = field(default_factory=threading.Event)
    then: Callable[[], None] = lambda: None

    def pause(self, cancel: threading.Event, seconds: float) -> None:
        self.seconds += seconds
        self.then()

    @property
    def waiting(self) -> Waiting:
        return Waiting(
            self.cancel,
            self.told.append,
            patience=self.patience,
            clock=lambda: self.seconds,
            pause=self.pause,
            jitter=lambda: 0.5,
        )


def rest(stopped: threading.Event, seconds: float) -> None:
    """No renewal by itself."""
    stopped.wait()


@dataclass
class Bucket:
    """A bucket of states, and the folder in it that is one test's."""

    aws: Aws
    folder: str
    name: str = STATES

    @property
    def key(self) -> str:
        return f"{self.folder}/prod/access.lease"

    def lease(
        self,
        turns: Turns | None = None,
        *,
        aws: Aws | None = None,
        operation: str = "grant-access",
        now: datetime | None = None,
        **more: Any,
    ) -> SharedLease:
        """A lease whose time passes as `turns` says, and that is renewed only by the test."""
        made = lease_for(
            settings(self, **more),
            cast(Workspace, None),
            aws or self.aws,
            operation=operation,
            caller=JIN,
            waiting=(turns or Turns()).waiting,
            now=lambda: now or datetime.now(UTC),
        )
        assert isinstance(made, SharedLease)
        made._renewal._rest = rest
        return made

    @property
    def document(self) -> dict[str, Any]:
        found = self.aws.read_object(self.name, self.key)
        assert found is not None
        return dict(json.loads(found.content))

    def put(self, content: bytes) -> None:
        found = self.aws.read_object(self.name, self.key)
        assert self.aws.write_object(self.name, self.key, content, instead_of=found and found.etag)


def settings(bucket: Bucket | None, **state: object) -> Any:
    there: dict[str, object] = {"backend": "local", "bucket": None, "prefix": "cali"}
    if bucket is not None:
        there = {"backend": "s3", "bucket": bucket.name, "prefix": bucket.folder}
    there |= {"region": None, "kms_key_id": None, **state}
    return SimpleNamespace(project="cali", region=SEOUL, environment="prod", state=SimpleNamespace(**there))


@pytest.fixture(scope="module")
def aws(account: AwsStandIn) -> Aws:
    """The door, with the bucket as `cali state bootstrap` makes it."""
    aws = Aws(SEOUL, account.environment(SEOUL))
    state_bucket.bootstrap(aws, settings(Bucket(aws, "cali")))
    return aws


@pytest.fixture
def bucket(account: AwsStandIn, aws: Aws) -> Iterator[Bucket]:
    yield Bucket(aws, f"team-{next(_names)}")
    account.controls.clear()


# -- one holder ---------------------------------------------------------------------------------------------


def test_a_free_lease_is_taken_at_once_and_says_who_has_it(account: AwsStandIn, bucket: Bucket) -> None:
    turns = Turns()
    before = account.controls.calls()
    with bucket.lease(turns, now=datetime(2026, 3, 1, 12, tzinfo=UTC)) as lease:
        after = account.controls.calls()
        held = bucket.document
        assert held["holder"].count("@") == 1
        assert held["pid"] == os.getpid()
        assert held["caller"] == JIN
        assert held["operation"] == "grant-access"
        assert held["acquired_at"] == "2026-03-01T12:00:00Z"
        assert held["expires_at"] == "2026-03-01T12:01:00Z"
        assert held["released_at"] is None
        assert held["id"] == lease.holder.id
        assert len(held["id"]) == 32
        lease.check()
    assert turns.told == []
    assert turns.seconds == 0
    assert sum(after.values()) - sum(before.values()) == 2
    assert bucket.document["released_at"] == "2026-03-01T12:00:00Z"


def test_a_lease_is_given_back_without_deleting_anything(bucket: Bucket) -> None:
    with bucket.lease():
        pass
    with bucket.lease() as second:
        assert bucket.document["id"] == second.holder.id
    versions = bucket.aws._client("s3").list_object_versions(Bucket=bucket.name, Prefix=bucket.folder)
    assert "DeleteMarkers" not in versions


@pytest.mark.parametrize(
    ("state", "encryption"),
    [({}, ("AES256", None)), ({"kms_key_id": "alias/states"}, ("aws:kms", "alias/states"))],
)
def test_a_lease_is_encrypted_as_the_state_is(
    bucket: Bucket, state: dict[str, str], encryption: tuple[str, str | None]
) -> None:
    with bucket.lease(**state):
        found = bucket.aws._client("s3").head_object(Bucket=bucket.name, Key=bucket.key)
    assert (found["ServerSideEncryption"], found.get("SSEKMSKeyId")) == encryption


def test_the_lease_is_in_the_region_of_the_state(bucket: Bucket) -> None:
    assert bucket.lease(region="eu-west-1")._object.aws.region == "eu-west-1"
    assert bucket.lease()._object.aws is bucket.aws


def test_an_error_under_the_lease_gives_it_back(bucket: Bucket) -> None:
    with pytest.raises(ZeroDivisionError), bucket.lease():
        _ = 1 / 0
    assert bucket.document["released_at"]


def test_without_a_bucket_the_remedy_makes_one(bucket: Bucket) -> None:
    nowhere = Bucket(bucket.aws, "x", "no-such-bucket")
    with pytest.raises(AwsError) as caught, nowhere.lease():
        pass
    assert caught.value.aws_code == "NoSuchBucket"
    assert "cali state bootstrap" in caught.value.remedy


@pytest.mark.parametrize("operation", ["GetObject", "PutObject"])
def test_a_lease_that_is_not_open_to_one_names_the_permissions(
    account: AwsStandIn, bucket: Bucket, operation: str
) -> None:
    account.controls.fail(Fault("s3", operation, "AccessDenied", "Access Denied", status=403))
    with pytest.raises(AwsError, match=f"s3://{bucket.name}/{bucket.key} is not open") as caught:
        bucket.lease(kms_key_id="alias/states").__enter__()
    for permission in ("s3:GetObject", "s3:PutObject", "s3:ListBucket", "kms:GenerateDataKey"):
        assert permission in caught.value.remedy
    assert bucket.aws.read_object(bucket.name, bucket.key) is None


def test_a_lease_that_cannot_be_given_back_fails_nothing_and_is_said(
    account: AwsStandIn, bucket: Bucket
) -> None:
    turns = Turns()
    with bucket.lease(turns):
        account.controls.fail(Fault("s3", "PutObject", "AccessDenied", "Access Denied", status=403))
    assert "ends by itself after 60 seconds" in turns.told[-1]


# -- many contenders ----------------------------------------------------------------------------------------

CONTENDERS = """
import json, sys, threading
from pathlib import Path
from types import SimpleNamespace
from cali_infra.adapters.aws import Aws
from cali_infra.core import state_bucket
from cali_infra.core.lease import Terms, lease_for
from cali_infra.core.turns import Waiting
from cali_infra.core.workspace import Workspace

given = json.loads(sys.argv[1])
settings = SimpleNamespace(region="ap-northeast-2", environment="prod", state=SimpleNamespace(**given["state"]))
aws = Aws("ap-northeast-2", given["environ"])
counter = Path(given["counter"])

def turn():
    lease = lease_for(
        settings, Workspace(Path(given["workspace"])), aws, operation="grant-access", caller="arn",
        waiting=Waiting(threading.Event(), lambda text: None, patience=120), terms=Terms(poll=0.1),
    )
    with lease:
        alone = counter.with_suffix(".alone")
        alone.touch(exist_ok=False)
        before = int(counter.read_text())
        lease.check()
        counter.write_text(str(before + 1))
        alone.unlink()

threads = [threading.Thread(target=turn) for _ in range(given["threads"])]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def contend(tmp_path: Path, bucket: Bucket | None, environ: Any, *, processes: int, threads: int) -> int:
    """How many turns were counted, each read and written by one process alone or the count is too small."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    given = {
        "state": vars(settings(bucket).state),
        "environ": dict(environ),
        "workspace": str(tmp_path / "workspace"),
        "counter": str(counter),
        "threads": threads,
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CONTENDERS, json.dumps(given)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        for process in running:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0
            assert said == ""
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return int(counter.read_text())


def test_twenty_contenders_have_one_turn_each(account: AwsStandIn, bucket: Bucket, tmp_path: Path) -> None:
    environ = account.environment(SEOUL)
    assert contend(tmp_path, bucket, environ, processes=4, threads=5) == 20
    assert bucket.document["released_at"]
    assert bucket.document["line"] == []


def test_twenty_contenders_of_one_workspace_have_one_turn_each(tmp_path: Path) -> None:
    assert contend(tmp_path, None, {}, processes=4, threads=5) == 20


@contextmanager
def held_by_a_process(tmp_path: Path, bucket: Bucket | None, environ: Any) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease until it is killed."""
    program = CONTENDERS.split("def turn()")[0] + (
        "lease = lease_for(settings, Workspace(Path(given['workspace'])), aws, operation='revoke-access',\n"
        "    caller='arn', waiting=Waiting(threading.Event(), print))\n"
        "lease.__enter__()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    given = {
        "state": vars(settings(bucket).state),
        "environ": dict(environ),
        "workspace": str(tmp_path / "workspace"),
        "counter": "",
    }
    with subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def test_a_holder_that_was_killed_loses_it_when_it_expires(
    account: AwsStandIn, bucket: Bucket, tmp_path: Path
) -> None:
    with held_by_a_process(tmp_path, bucket, account.environment(SEOUL)) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        dead = bucket.document
        turns = Turns()
        with bucket.lease(turns) as lease:
            assert bucket.document["id"] == lease.holder.id
    assert 60 <= turns.seconds <= 62
    assert turns.told == [
        f"waiting for its turn to change who has access: {dead['holder']} (process {process.pid}, arn), "
        f"with revoke-access since {dead['acquired_at']}",
        f"took over the lease of one who has not renewed it: {dead['holder']} (process {process.pid}, arn), "
        f"with revoke-access since {dead['acquired_at']}",
    ]


def test_a_lease_that_s3_has_not_seen_renewed_for_long_is_taken_at_once(bucket: Bucket) -> None:
    class Yesterday(Aws):
        def read_object(self, bucket: str, key: str) -> StoredObject | None:
            found = super().read_object(bucket, key)
            return found and StoredObject(found.content, found.etag, 86400.0)

    bucket.lease().__enter__()._renewal.stop()
    turns = Turns()
    with bucket.lease(turns, aws=Yesterday(SEOUL, bucket.aws._environ)):
        assert turns.seconds == 0


@pytest.mark.parametrize("days", [-3650, 3650])
def test_the_clocks_of_holder_and_contender_may_differ_by_years(bucket: Bucket, days: int) -> None:
    elsewhere = datetime.now(UTC) + timedelta(days=days)
    bucket.lease(now=elsewhere).__enter__()._renewal.stop()
    early = Turns(patience=55)
    with pytest.raises(LeaseHeldError), bucket.lease(early):
        pass
    late = Turns()
    with bucket.lease(late):
        assert 60 <= late.seconds <= 62


def test_a_renewed_lease_does_not_expire(bucket: Bucket) -> None:
    with bucket.lease() as held:
        turns = Turns(patience=125)

        def renew() -> None:
            # The holder's clock goes with the contender's: it renews every 20 seconds.
            if turns.seconds // 20 > renewed[-1]:
                renewed.append(turns.seconds // 20)
                held.renew()

        renewed = [0.0]
        turns.then = renew
        with pytest.raises(LeaseHeldError), bucket.lease(turns):
            pass
        assert len(renewed) == 7
        held.check()


@dataclass
class Rests:
    """The renewal's thread, which goes on when the test says so, and rests at its `last` until it is stopped."""

    last: int
    seconds: list[float] = field(default_factory=list)
    resting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, stopped: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)
        self.resting.release()
        if len(self.seconds) == self.last:
            stopped.wait()
        else:
            self.go.acquire()


def test_it_is_renewed_by_itself_while_the_block_lasts(bucket: Bucket) -> None:
    lease, rests = bucket.lease(), Rests(last=4)
    lease._renewal._rest = rests
    with lease:
        for renewals in range(4):
            rests.resting.acquire()
            assert bucket.document["renewals"] == renewals
            rests.go.release()
    assert rests.seconds == [20.0] * 4


def test_a_renewal_that_fails_is_tried_again_soon(account: AwsStandIn, bucket: Bucket) -> None:
    lease, rests = bucket.lease(), Rests(last=3)
    lease._renewal._rest = rests
    with lease:
        rests.resting.acquire()
        account.controls.fail(Fault("s3", "PutObject", "AccessDenied", "Access Denied", status=403))
        rests.go.release()
        rests.resting.acquire()
        assert bucket.document["renewals"] == 0
        rests.go.release()
        rests.resting.acquire()
        assert bucket.document["renewals"] == 1
    assert rests.seconds == [20.0, 3.0, 20.0]


def test_a_lease_that_is_lost_is_renewed_no_more(bucket: Bucket) -> None:
    lease, rests = bucket.lease(), Rests(last=2)
    lease._renewal._rest = rests
    with lease, bucket.lease() as other:
        rests.resting.acquire()
        rests.go.release()
        assert lease._renewal._thread is not None
        lease._renewal._thread.join(30)
        assert bucket.document["id"] == other.holder.id
        with pytest.raises(LeaseLostError):
            lease.check()


# -- the line -----------------------------------------------------------------------------------------------


def test_those_who_came_first_go_first(bucket: Bucket) -> None:
    order: list[int] = []

    def turn(number: int) -> None:
        waiting = Waiting(threading.Event(), lambda _: None, patience=120)
        lease = lease_for(
            settings(bucket),
            cast(Workspace, None),
            bucket.aws,
            operation="grant-access",
            caller=JIN,
            waiting=waiting,
            terms=OFTEN,
        )
        with lease:
            order.append(number)

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(6)]
    with bucket.lease() as held:
        for number, thread in enumerate(threads):
            thread.start()
            until(lambda number=number: len(bucket.document["line"]) == number + 1)
        held.check()
        assert len(bucket.document["line"]) == 6
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4, 5]


def until(true: Callable[[], bool]) -> None:
    """Wait for other threads, at most half a minute."""
    ended = threading.Event()
    for _ in range(3000):
        if true():
            return
        ended.wait(0.01)
    raise AssertionError("it did not come to pass")


def test_one_that_died_in_the_line_is_passed_over(bucket: Bucket) -> None:
    with bucket.lease():
        pass
    dead = {"id": "dead", "holder": "jin@gone", "since": "2026-01-01T00:00:00Z"}
    late = {"id": "late", "holder": "mina@there", "since": "2026-01-01T00:00:01Z"}
    bucket.put(json.dumps(bucket.document | {"line": [dead]}).encode())
    turns = Turns()

    def another_comes() -> None:
        turns.then = lambda: None
        bucket.put(json.dumps(bucket.document | {"line": [*bucket.document["line"], late]}).encode())

    turns.then = another_comes
    with bucket.lease(turns):
        assert 5 <= turns.seconds <= 7
        assert [each["id"] for each in bucket.document["line"]] == ["late"]
    assert turns.told == ["waiting for its turn to change who has access: others have come earlier"]


def test_a_line_that_is_left_over_from_long_ago_holds_nobody_up(bucket: Bucket) -> None:
    class Yesterday(Aws):
        def read_object(self, bucket: str, key: str) -> StoredObject | None:
            found = super().read_object(bucket, key)
            return found and StoredObject(found.content, found.etag, 86400.0)

    with bucket.lease():
        pass
    dead = [{"id": f"dead-{n}", "holder": "jin@gone", "since": "x"} for n in range(20)]
    bucket.put(json.dumps(bucket.document | {"line": dead}).encode())
    turns = Turns()
    with bucket.lease(turns, aws=Yesterday(SEOUL, bucket.aws._environ)):
        assert turns.seconds == 0
        assert bucket.document["line"] == []


def test_a_new_one_in_the_line_does_not_prolong_the_life_of_a_dead_lease(bucket: Bucket) -> None:
    bucket.lease().__enter__()._renewal.stop()
    turns = Turns()
    names = itertools.count()

    def one_more() -> None:
        ticket = {"id": f"more-{next(names)}", "holder": "x@y", "since": "x"}
        bucket.put(json.dumps(bucket.document | {"line": [*bucket.document["line"], ticket]}).encode())

    turns.then = one_more
    with bucket.lease(turns):
        assert 60 <= turns.seconds <= 62


def test_it_is_told_who_has_it_once_and_again_when_that_changes(bucket: Bucket) -> None:
    first = bucket.lease(operation="grant-access").__enter__()
    first._renewal.stop()
    second = bucket.lease(operation="revoke-access")
    turns = Turns(patience=120)

    def change() -> None:
        if turns.seconds == 10:
            document = bucket.document
            first._release()
            bucket.put(json.dumps(bucket.document | {"line": []}).encode())
            second.__enter__()._renewal.stop()
            bucket.put(json.dumps(bucket.document | {"line": document["line"]}).encode())
        elif turns.seconds == 20:
            second._release()

    turns.then = change
    with bucket.lease(turns):
        assert turns.seconds == 20
    told = [line for line in turns.told if line.startswith("waiting")]
    assert len(told) == 2
    assert "with grant-access since" in told[0]
    assert "with revoke-access since" in told[1]


# -- giving up ----------------------------------------------------------------------------------------------


def test_patience_ends_with_the_holders_name_and_a_remedy(bucket: Bucket) -> None:
    with bucket.lease(operation="revoke-access") as held:
        turns = Turns(patience=30)
        with pytest.raises(LeaseHeldError) as caught, bucket.lease(turns):
            pass
        assert caught.value.code == "lease-held"
        assert str(held.holder) in caught.value.message
        assert caught.value.holder == str(held.holder)
        assert "run the command again" in caught.value.remedy
        assert turns.seconds == 30
        assert bucket.document["line"] == []
        held.check()


def test_a_wait_that_is_cancelled_ends_at_once_and_leaves_the_line(bucket: Bucket) -> None:
    with bucket.lease() as held:
        turns = Turns()
        turns.then = turns.cancel.set
        with pytest.raises(RunInterruptedError, match="nothing was changed"), bucket.lease(turns):
            pass
        assert turns.seconds == 1
        assert bucket.document["line"] == []
        held.check()


def test_ctrl_c_wakes_a_wait_that_sleeps(bucket: Bucket) -> None:
    cancel = threading.Event()
    ended: list[type[BaseException]] = []

    def wait() -> None:
        waiting = Waiting(cancel, lambda _: cancel.set(), patience=3600)
        lease = lease_for(
            settings(bucket),
            cast(Workspace, None),
            bucket.aws,
            operation="grant-access",
            caller=JIN,
            waiting=waiting,
            terms=Terms(poll=3000),
        )
        try:
            lease.__enter__()
        except RunInterruptedError as error:
            ended.append(type(error))

    with bucket.lease():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(30)
    assert ended == [RunInterruptedError]


# -- losing it ----------------------------------------------------------------------------------------------


def test_a_holder_that_lost_it_learns_so_before_it_applies(bucket: Bucket) -> None:
    turns = Turns()
    with bucket.lease(turns) as slept, bucket.lease() as other:
        with pytest.raises(LeaseLostError, match=f"now it is held by .*{JIN}") as caught:
            slept.check()
        assert caught.value.code == "lease-lost"
        assert "run the command again" in caught.value.remedy
        assert turns.told == [caught.value.message]
        with pytest.raises(LeaseLostError):
            slept.renew()
        slept.__exit__(None, None, None)
        assert bucket.document["id"] == other.holder.id
        assert bucket.document["released_at"] is None
        other.check()


def test_a_lease_that_somebody_deleted_is_lost(bucket: Bucket) -> None:
    with bucket.lease() as lease:
        bucket.aws._client("s3").delete_object(Bucket=bucket.name, Key=bucket.key)
        with pytest.raises(LeaseLostError, match="deleted"):
            lease.check()
    assert bucket.aws.read_object(bucket.name, bucket.key) is None


class Trouble(Aws):
    """An S3 behind a network that is away, or that loses answers, when a test says so."""

    away = False
    loses = 0
    twice = 0

    def read_object(self, bucket: str, key: str) -> StoredObject | None:
        self._reach()
        return super().read_object(bucket, key)

    def write_object(self, *where: Any, **what: Any) -> str | None:
        self._reach()
        etag = super().write_object(*where, **what)
        if self.loses:
            self.loses -= 1
            raise AwsError("s3: the connection was closed", aws_code="unreachable")
        if self.twice:
            # The answer was lost, and the call made again by botocore.
            self.twice -= 1
            return None
        return etag

    def _reach(self) -> None:
        if self.away:
            raise AwsError("s3: could not connect", aws_code="unreachable")


@pytest.fixture
def trouble(bucket: Bucket) -> Trouble:
    return Trouble(SEOUL, bucket.aws._environ)


def test_a_lease_that_could_not_be_renewed_in_time_is_lost(bucket: Bucket, trouble: Trouble) -> None:
    turns = Turns()
    with bucket.lease(turns, aws=trouble) as lease:
        trouble.away = True
        turns.seconds = 54
        with pytest.raises(AwsError, match="could not connect"):
            lease.check()
        turns.seconds = 55
        with pytest.raises(LeaseLostError, match="not be renewed in time"):
            lease.check()
        trouble.away = False
        with pytest.raises(LeaseLostError):
            lease.check()


def test_a_network_that_is_away_for_a_while_does_not_cost_the_lease(bucket: Bucket, trouble: Trouble) -> None:
    turns = Turns()
    with bucket.lease(turns, aws=trouble) as lease:
        trouble.away = True
        turns.seconds = 40
        with pytest.raises(AwsError):
            lease.renew()
        trouble.away = False
        lease.renew()
        turns.seconds = 90
        trouble.away = True
        with pytest.raises(AwsError, match="could not connect"):
            lease.check()
        trouble.away = False


def test_a_network_that_is_away_for_a_while_does_not_cost_the_turn(bucket: Bucket, trouble: Trouble) -> None:
    held = bucket.lease().__enter__()
    held._renewal.stop()
    turns = Turns()

    def change() -> None:
        trouble.away = 5 < turns.seconds < 15
        if turns.seconds == 20:
            held._release()

    turns.then = change
    with bucket.lease(turns, aws=trouble):
        assert turns.seconds == 20


def test_a_network_that_is_away_from_the_start_is_said_at_once(bucket: Bucket, trouble: Trouble) -> None:
    trouble.away = True
    turns = Turns()
    with pytest.raises(AwsError, match="could not connect"), bucket.lease(turns, aws=trouble):
        pass
    assert turns.seconds == 0


@pytest.mark.parametrize("lost", ["loses", "twice"])
def test_an_answer_that_is_lost_does_not_make_one_wait_for_oneself(
    bucket: Bucket, trouble: Trouble, lost: str
) -> None:
    with bucket.lease():
        pass
    bucket.put(json.dumps(bucket.document | {"line": [{"id": "dead"}]}).encode())
    turns = Turns()
    lease = bucket.lease(turns, aws=trouble)

    def lose() -> None:
        setattr(trouble, lost, 1 if turns.seconds >= 5 else 0)

    turns.then = lose
    with lease:
        assert turns.seconds <= 7
        assert bucket.document["id"] == lease.holder.id
        setattr(trouble, lost, 1 if lost == "twice" else 0)
        lease.check()
        setattr(trouble, lost, 1 if lost == "twice" else 0)
    assert bucket.document["released_at"]


def test_a_conflict_of_s3_is_contention(account: AwsStandIn, bucket: Bucket) -> None:
    conflict = Fault("s3", "PutObject", "ConditionalRequestConflict", "conflict", times=2, status=409)
    account.controls.fail(conflict)
    turns = Turns()
    with bucket.lease(turns) as lease:
        assert turns.seconds == 0
        account.controls.fail(conflict)
        lease.check()
        account.controls.fail(conflict)
    assert bucket.document["released_at"]


@pytest.mark.parametrize("content", [b"", b"not JSON", b"[1]", b'{"line": 7, "duration_seconds": "x"}'])
def test_an_object_that_is_no_lease_expires_like_one(bucket: Bucket, content: bytes) -> None:
    bucket.put(content)
    turns = Turns()
    with bucket.lease(turns):
        assert 60 <= turns.seconds <= 62
    assert "unknown" in turns.told[0]


# -- a local state ------------------------------------------------------------------------------------------


def local(workspace: Path, turns: Turns | None = None, now: datetime | None = None) -> LocalLease:
    made = lease_for(
        settings(None),
        Workspace(workspace),
        cast(Aws, None),
        operation="grant-access",
        caller=JIN,
        waiting=(turns or Turns()).waiting,
        now=lambda: now or datetime.now(UTC),
    )
    assert isinstance(made, LocalLease)
    made._renewal._rest = rest
    return made


def test_a_local_lease_is_a_private_file_that_says_who_has_it(tmp_path: Path) -> None:
    file = tmp_path / "access.lease"
    with local(tmp_path, now=datetime(2026, 3, 1, 12, tzinfo=UTC)) as lease:
        held = json.loads(file.read_text())
        assert held == vars(lease.holder)
        assert held["operation"] == "grant-access"
        assert held["acquired_at"] == "2026-03-01T12:00:00Z"
        assert held["expires_at"] == "2026-03-01T12:01:00Z"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        lease.check()
    assert json.loads(file.read_text())["released_at"] == "2026-03-01T12:00:00Z"


def test_a_local_lease_is_waited_for_and_its_holder_told(tmp_path: Path) -> None:
    first = local(tmp_path).__enter__()
    turns = Turns()

    def release() -> None:
        if turns.seconds == 4:
            first.__exit__(None, None, None)

    turns.then = release
    with local(tmp_path, turns):
        assert turns.seconds == 4
    assert turns.told == [f"waiting for its turn to change who has access: {first.holder}"]


def test_patience_with_a_local_lease_ends_too(tmp_path: Path) -> None:
    with local(tmp_path) as held:
        turns = Turns(patience=30)
        with pytest.raises(LeaseHeldError) as caught, local(tmp_path, turns):
            pass
        assert str(held.holder) in caught.value.message
        assert "end that process" in caught.value.remedy
        assert turns.seconds == 30
    with local(tmp_path):
        pass


def test_a_killed_holder_of_a_local_lease_is_waited_for_by_nobody(tmp_path: Path) -> None:
    with held_by_a_process(tmp_path, None, {}) as process:
        turns = Turns(patience=10)
        with pytest.raises(LeaseHeldError, match=f"process {process.pid}"):
            local(tmp_path / "workspace", turns).__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()
        turns = Turns()
        with local(tmp_path / "workspace", turns):
            assert turns.seconds == 0


def test_a_cancelled_wait_for_a_local_lease_ends_at_once(tmp_path: Path) -> None:
    with local(tmp_path):
        turns = Turns()
        turns.then = turns.cancel.set
        with pytest.raises(RunInterruptedError), local(tmp_path, turns):
            pass
        assert turns.seconds == 1


def test_a_local_lease_whose_file_is_removed_is_lost(tmp_path: Path) -> None:
    with local(tmp_path) as lease:
        (tmp_path / "access.lease").unlink()
        with pytest.raises(LeaseLostError):
            lease.check()
