"""The lease on the record of who has access: those who write it take turns.

It owns what a holder says of itself, when a lease has to be renewed, and the lease of a local state, a lock on a
file that the kernel gives back. The one beside a state in S3 is `shared_lease.py`. No lease keeps an apply from
going wrong by itself: Terraform's lock on the state and the comparison of serials do that. It keeps those who
come at the same time from planning for nothing, again and again.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from cali_infra.core import access, turns
from cali_infra.core.turns import InFront, Waiting
from cali_infra.errors import CaliError, LeaseHeldError, LeaseLostError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws
    from cali_infra.core.settings import Settings
    from cali_infra.core.workspace import Workspace

NAME = "access.lease"
WHAT = "its turn to change who has access"
# Nobody has it at the moment.
BETWEEN = InFront("", "others have come earlier")


@dataclass(frozen=True)
class Terms:
    """The terms of a lease, in seconds.

    Who does not renew for `duration` has lost it; a holder counts on `margin` less. Waiting ones look about every
    `poll`, and each gives the one before it `turn` to take what has become free.
    """

    duration: float = 60.0
    renew: float = 20.0
    retry: float = 3.0
    margin: float = 5.0
    poll: float = 1.0
    turn: float = 5.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lease and for what: `holder` is USER@HOST, `caller` an ARN; times are the holder's own, RFC 3339
    in UTC, for people to read and for nothing else.
    """

    id: str
    holder: str
    pid: int
    caller: str
    operation: str
    acquired_at: str
    expires_at: str

    def __str__(self) -> str:
        return f"{self.holder} (process {self.pid}, {self.caller}), with {self.operation} since {self.acquired_at}"


def holder_from(document: Mapping[str, Any]) -> Holder:
    """The holder in a lease's document; what is missing or of another kind is said to be unknown."""

    def text(key: str) -> str:
        value = document.get(key)
        return value if isinstance(value, str) and value else "unknown"

    pid = document.get("pid")
    return Holder(
        id=text("id"),
        holder=text("holder"),
        pid=pid if isinstance(pid, int) else 0,
        caller=text("caller"),
        operation=text("operation"),
        acquired_at=text("acquired_at"),
        expires_at=text("expires_at"),
    )


class Lease(Protocol):
    """A turn at the record, for as long as the block lasts; entering waits for it.

    Entering raises LeaseHeldError when patience is at its end, RunInterruptedError when the wait is cancelled.
    """

    @property
    def holder(self) -> Holder:
        """What others read of this one."""

    def check(self) -> None:
        """Make sure that it is still held, right before an apply; raises LeaseLostError."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def lease_for(
    settings: Settings,
    workspace: Workspace,
    aws: Aws,
    *,
    operation: str,
    caller: str,
    waiting: Waiting,
    terms: Terms = Terms(),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Lease:
    """The lease on the environment's record: beside its state, in S3 or in the workspace.

    `operation` is the command's name, `caller` the ARN that STS names; `now` is what this machine believes.
    """
    moment = now()
    holder = Holder(
        id=secrets.token_hex(16),
        holder=_user_at_host(),
        pid=os.getpid(),
        caller=caller,
        operation=operation,
        acquired_at=access.timestamp(moment),
        expires_at=access.timestamp(moment),
    )
    state = settings.state
    if state.backend == "s3" and state.bucket:
        from cali_infra.core.shared_lease import LeaseObject, SharedLease

        beside = LeaseObject(
            aws.in_region(state.region or settings.region),
            state.bucket,
            f"{state.prefix}/{settings.environment}/{NAME}",
            state.kms_key_id,
        )
        return SharedLease(beside, holder, waiting=waiting, terms=terms, now=now)
    return LocalLease(turns.FileLock(workspace.path / NAME), holder, waiting=waiting, terms=terms, now=now)


class LocalLease:
    """The lease of a local state: a lock on a file in the workspace, with the holder in it for people to read."""

    def __init__(
        self,
        lock: turns.FileLock,
        holder: Holder,
        *,
        waiting: Waiting,
        terms: Terms,
        now: Callable[[], datetime],
        rest: Callable[[Event, float], object] = Event.wait,
    ) -> None:
        """`rest` sleeps between renewals, for some seconds or until the event is set."""
        self._lock = lock
        self._holder = holder
        self._waiting = waiting
        self._terms = terms
        self._now = now
        self._renewal = Renewal(self._write, terms, rest)

    @property
    def holder(self) -> Holder:
        return self._holder

    def check(self) -> None:
        if self._lock.removed():
            raise LeaseLostError(
                f"{self._lock.path} was removed while it was held", remedy="run the command again"
            )

    def __enter__(self) -> Self:
        try:
            with turns.in_line(self._lock.path) as first:

                def attempt() -> InFront | None:
                    return None if first() and self._lock.take() else self._in_front()

                turns.take_turn(attempt, self._waiting, what=WHAT, every=self._terms.poll, late=self._late)
            self._holder = taken(self._holder, self._now())
            self._write()
        except BaseException:
            self._lock.close()
            raise
        self._renewal.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renewal.stop()
        try:
            document = {**asdict(self._holder), "released_at": access.timestamp(self._now())}
            self._lock.write(encode(document))
        finally:
            self._lock.close()

    def _write(self) -> None:
        # The kernel's lock does not expire: who reads a time that has passed knows that its holder died.
        self._holder = prolonged(self._holder, self._now(), self._terms)
        self._lock.write(encode(asdict(self._holder)))

    def _in_front(self) -> InFront:
        document = decode(self._lock.read())
        if not document or document.get("released_at"):
            return BETWEEN
        holder = holder_from(document)
        return InFront(holder.id, str(holder))

    def _late(self, front: InFront) -> CaliError:
        return still_held(
            front, self._waiting, "a lease ends with its process: end that process, or run the command again"
        )


class Renewal:
    """Renews a lease in a thread of its own, for as long as it is held: an apply may take long.

    A renewal that fails is tried again soon; the lease itself knows when it is lost.
    """

    def __init__(
        self, renew: Callable[[], object], terms: Terms, rest: Callable[[Event, float], object]
    ) -> None:
        self._renew = renew
        self._terms = terms
        self._rest = rest
        self._stopped = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Renew from now on; a lease is entered once."""
        assert not self._stopped.is_set()
        self._thread = Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Renew no more; a renewal under way has ended when this returns."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        wait = self._terms.renew
        while True:
            self._rest(self._stopped, wait)
            if self._stopped.is_set():
                return
            try:
                self._renew()
                wait = self._terms.renew
            except LeaseLostError:
                return
            except (CaliError, OSError):
                wait = self._terms.retry


def taken(holder: Holder, now: datetime) -> Holder:
    """The holder at the moment at which it gets the lease."""
    return replace(holder, acquired_at=access.timestamp(now))


def prolonged(holder: Holder, now: datetime, terms: Terms) -> Holder:
    """The holder when it has the lease for another while."""
    return replace(holder, expires_at=access.timestamp(now + timedelta(seconds=terms.duration)))


def encode(document: Mapping[str, Any]) -> bytes:
    """A lease's document, for people too."""
    return (json.dumps(document, indent=2) + "\n").encode()


def decode(content: bytes) -> dict[str, Any]:
    """A lease's document; empty where it cannot be read."""
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def still_held(front: InFront, waiting: Waiting, remedy: str) -> LeaseHeldError:
    """The error of who has waited for as long as it was willing to."""
    return LeaseHeldError(
        f"others are changing who has access, still after {waiting.patience / 60:.0f} minutes: {front.who}",
        holder=front.who,
        remedy=remedy,
    )


def _user_at_host() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
