"""The lease beside a state in S3: one object, every change of it a conditional write.

It owns the object's form and the rules by which it changes hands. No clock of one machine is compared with one of
another: a lease has expired when its holder has not renewed it for as long as it lasts, as seen by whoever waits
on a clock of its own, or by S3, which dates its answers and its objects by one clock. Source of the first:
client-go, package leaderelection. Those who wait stand in line in the same object, and each leaves the one before
it some seconds to take what has become free, so that one that died in the line holds nobody up for long.

A lease that is given back stays as an object that says so. To delete it would need one more permission, and in a
versioned bucket it would leave a marker and as many versions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from threading import Event, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cali_infra.core import access, lease, turns
from cali_infra.core.lease import Holder, Renewal, Terms
from cali_infra.core.turns import InFront, Waiting
from cali_infra.errors import AwsError, CaliError, LeaseLostError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.aws_bucket import StoredObject

# Others may change the object between a read and a write: each change of theirs costs one more round.
_ROUNDS = 3
_HELD_ROUNDS = 50
# S3 tells the time to the second, at both ends.
_RESOLUTION = 2.0
# Seconds for which one who gives up may still take its ticket away.
_GOODBYE = 5.0
_PASSING = frozenset(
    {
        "unreachable",
        "InternalError",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "500",
        "503",
    }
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "403"})


@dataclass(frozen=True)
class Ticket:
    """Somebody in the line."""

    id: str
    holder: str
    since: str


@dataclass(frozen=True)
class Document:
    """What the object says. `renewals` counts up while it is held; `line` is in the order of coming."""

    holder: Holder
    renewals: int
    duration: float
    released_at: str
    line: tuple[Ticket, ...]

    @property
    def mark(self) -> tuple[object, ...]:
        """What stays the same for as long as nobody takes, renews or releases the lease."""
        return self.holder.id, self.renewals, self.released_at

    def encode(self) -> bytes:
        """The object's content."""
        return lease.encode(
            {
                **asdict(self.holder),
                "renewals": self.renewals,
                "duration_seconds": self.duration,
                "released_at": self.released_at or None,
                "line": [asdict(ticket) for ticket in self.line],
            }
        )


def document_from(content: bytes, duration: float) -> Document:
    """What an object says; `duration` is how long a lease lasts that does not say so itself.

    One that makes no sense is a lease like any other: it expires, and is replaced.
    """
    found = lease.decode(content)
    renewals, lasts = found.get("renewals"), found.get("duration_seconds")
    line = found.get("line")
    tickets = [each for each in line if isinstance(each, Mapping)] if isinstance(line, list) else []
    return Document(
        holder=lease.holder_from(found),
        renewals=renewals if isinstance(renewals, int) else 0,
        duration=float(lasts) if isinstance(lasts, int | float) and 0 < lasts <= 3600 else duration,
        released_at=str(found.get("released_at") or ""),
        line=tuple(
            Ticket(str(each.get("id")), str(each.get("holder")), str(each.get("since"))) for each in tickets
        ),
    )


@dataclass(frozen=True)
class LeaseObject:
    """Where the lease lies: `aws` is in the bucket's region."""

    aws: Aws
    bucket: str
    key: str
    kms_key_id: str | None = None

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def read(self) -> StoredObject | None:
        """What is there, or None where there is nothing."""
        try:
            return self.aws.read_object(self.bucket, self.key)
        except AwsError as error:
            raise self._explained(error) from error

    def write(self, document: Document, instead_of: str | None) -> str | None:
        """The new etag, or None where somebody else was first: read again."""
        try:
            return self.aws.write_object(
                self.bucket,
                self.key,
                document.encode(),
                instead_of=instead_of,
                kms_key_id=self.kms_key_id,
            )
        except AwsError as error:
            raise self._explained(error) from error

    def _explained(self, error: AwsError) -> AwsError:
        if error.aws_code not in _DENIED:
            return error
        needs = "s3:GetObject and s3:PutObject on it and s3:ListBucket on its bucket"
        if self.kms_key_id:
            needs += ", kms:GenerateDataKey and kms:Decrypt on state.kms_key_id"
        return AwsError(
            f"the lease {self} is not open to you: {error.message}",
            aws_code=error.aws_code,
            remedy=f"who changes access needs {needs}, as for the state itself",
        )


class SharedLease:
    """A turn at the record of a state in S3; see `lease.Lease`."""

    def __init__(
        self,
        beside: LeaseObject,
        holder: Holder,
        *,
        waiting: Waiting,
        terms: Terms,
        now: Callable[[], datetime],
        rest: Callable[[Event, float], object] = Event.wait,
    ) -> None:
        """`rest` sleeps between renewals, for some seconds or until the event is set."""
        self._object = beside
        self._waiting = waiting
        self._terms = terms
        self._now = now
        self._clock = waiting.clock
        # What it wrote last, or is about to write; a line is added to it as it is found.
        self._mine = Document(holder, 0, terms.duration, "", ())
        self._etag = ""
        self._until = 0.0
        self._lost: LeaseLostError | None = None
        # The renewal's thread and `check` both write.
        self._writing = Lock()
        # Since when what others have written is the same, and when this one last tried to write the lease its own.
        self._seen: tuple[tuple[object, ...], float] | None = None
        self._tried = 0.0
        self._wrote = False
        self._renewal = Renewal(self.renew, terms, rest)

    @property
    def holder(self) -> Holder:
        return self._mine.holder

    def __enter__(self) -> Self:
        try:
            turns.take_turn(
                self._attempt, self._waiting, what=lease.WHAT, every=self._terms.poll, late=self._late
            )
        except BaseException:
            if self._wrote:
                # Aside, for whoever presses Ctrl-C because S3 does not answer shall not wait for S3.
                goodbye = Thread(target=self._leave, name="lease", daemon=True)
                goodbye.start()
                goodbye.join(_GOODBYE)
            raise
        self._renewal.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renewal.stop()
        try:
            self._release()
        except LeaseLostError:
            pass
        except CaliError as problem:
            # What was done under it is done; nobody waits for longer than it lasts.
            self._waiting.tell(
                f"the lease {self._object} could not be given back and ends by itself "
                f"after {self._terms.duration:.0f} seconds: {problem.message}"
            )

    def check(self) -> None:
        """Renew it now: only an answer of S3 tells that it is still held, after a laptop's sleep for example."""
        self.renew()

    def renew(self) -> None:
        """Hold it for another while.

        Raises LeaseLostError when somebody else has it, or when it could not be renewed in time; AwsError when S3
        does not answer and there is time left.
        """
        with self._writing:
            try:
                self._rewrite(released_at="")
            except AwsError as error:
                if self._clock() >= self._until:
                    self._lost = self._losing(f"it could not be renewed in time: {error.message}")
                    raise self._lost from error
                raise

    def _release(self) -> None:
        with self._writing:
            self._rewrite(released_at=access.timestamp(self._now()))

    def _rewrite(self, *, released_at: str) -> None:
        """Write it anew for as long as it is one's own, whoever joins the line meanwhile."""
        if self._lost is not None:
            raise self._lost
        for _ in range(_HELD_ROUNDS):
            asked = self._clock()
            holder = self._mine.holder
            if not released_at:
                holder = lease.prolonged(holder, self._now(), self._terms)
            document = replace(
                self._mine, holder=holder, renewals=self._mine.renewals + 1, released_at=released_at
            )
            etag = self._object.write(document, self._etag)
            if etag is not None:
                self._own(document, etag, asked)
                return
            found = self._object.read()
            if found is None:
                self._lost = self._losing("somebody has deleted it")
                raise self._lost
            there = document_from(found.content, self._terms.duration)
            if there.holder.id != self._mine.holder.id or (there.released_at and not released_at):
                self._lost = self._losing(f"now it is held by {there.holder}")
                raise self._lost
            if there.released_at:
                return
            self._mine, self._etag = there, found.etag
        raise AwsError(
            f"{self._object} changes faster than it can be written", remedy="run the command again"
        )

    def _own(self, document: Document, etag: str, asked: float) -> None:
        self._mine, self._etag = document, etag
        self._until = asked + self._terms.duration - self._terms.margin

    def _losing(self, why: str) -> LeaseLostError:
        error = LeaseLostError(
            f"the lease {self._object} is lost: {why}",
            remedy="run the command again: it reads anew who has access",
        )
        self._waiting.tell(error.message)
        return error

    # -- waiting ----------------------------------------------------------------------------------------

    def _attempt(self) -> InFront | None:
        """Take it if it is free and nobody has come earlier, else stand in line; who has it, else."""
        try:
            return self._try()
        except AwsError as error:
            if self._seen is None or error.aws_code not in _PASSING:
                raise
            # It could be read before: a network that is away for a while does not cost the place in line.
            return lease.BETWEEN

    def _try(self) -> InFront | None:
        front = lease.BETWEEN
        for _ in range(_ROUNDS):
            found = self._object.read()
            there = None if found is None else document_from(found.content, self._terms.duration)
            if found is None or there is None:
                if self._take(None, None):
                    return None
                continue
            if there.holder.id == self._mine.holder.id and not there.released_at:
                # Its own write, whose answer was lost on the way.
                self._own(there, found.etag, self._tried)
                return None
            front = lease.BETWEEN if there.released_at else InFront(there.holder.id, str(there.holder))
            if self._free(there, found.age or 0.0):
                if self._take(there, found.etag):
                    return None
            elif self._place(there) < len(there.line) or self._join(there, found.etag):
                return front
        return front

    def _free(self, there: Document, age: float) -> bool:
        """Whether it has been free, or not renewed, for so long that it is this one's turn."""
        if self._seen is None or self._seen[0] != there.mark:
            self._seen = (there.mark, self._clock())
        unchanged = max(self._clock() - self._seen[1], age - _RESOLUTION)
        lasts = 0.0 if there.released_at else there.duration
        return unchanged >= lasts + self._place(there) * self._terms.turn

    def _place(self, there: Document) -> int:
        """How many are before it in the line; one that is not in it comes after all."""
        ids = [ticket.id for ticket in there.line]
        return ids.index(self._mine.holder.id) if self._mine.holder.id in ids else len(ids)

    def _take(self, there: Document | None, etag: str | None) -> bool:
        """Write the lease its own. Who was before it in the line has let its time pass, and is out."""
        self._tried, self._wrote = self._clock(), True
        moment = self._now()
        holder = lease.prolonged(lease.taken(self._mine.holder, moment), moment, self._terms)
        line = there.line[self._place(there) + 1 :] if there is not None else ()
        wanted = Document(holder, 0, self._terms.duration, "", line)
        made = self._object.write(wanted, etag)
        if made is None:
            return False
        self._own(wanted, made, self._tried)
        if there is not None and not there.released_at:
            self._waiting.tell(f"took over the lease of one who has not renewed it: {there.holder}")
        return True

    def _join(self, there: Document, etag: str) -> bool:
        self._wrote = True
        mine = self._mine.holder
        ticket = Ticket(mine.id, mine.holder, access.timestamp(self._now()))
        return self._object.write(replace(there, line=(*there.line, ticket)), etag) is not None

    def _leave(self) -> None:
        """Take its ticket out of the line, or back what it may have taken: nobody is to wait for it."""
        try:
            for _ in range(_ROUNDS):
                found = self._object.read()
                if found is None:
                    return
                there = document_from(found.content, self._terms.duration)
                line = tuple(ticket for ticket in there.line if ticket.id != self._mine.holder.id)
                gone = there.released_at
                if there.holder.id == self._mine.holder.id and not gone:
                    gone = access.timestamp(self._now())
                left = replace(there, line=line, released_at=gone)
                if left == there or self._object.write(left, found.etag) is not None:
                    return
        except CaliError:
            # Then the others pass it over, some seconds later.
            return

    def _late(self, front: InFront) -> CaliError:
        return lease.still_held(
            front,
            self._waiting,
            "run the command again later; the lease of one that has died ends by itself "
            f"after {self._terms.duration:.0f} seconds",
        )
