"""Dead letters: what the scheduler leaves in a queue of SQS when a target could not be called to the end.

It owns their form. Source: EventBridge Scheduler user guide, "Configuring a schedule's dead-letter queue".
The queues are moto's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.scheduler.state import Schedule


@dataclass(frozen=True)
class DeadLetter:
    """One failed invocation; `exhausted` is which limit of the retry policy ended it."""

    schedule: Schedule
    execution: str
    error: ServiceError
    retries: int
    exhausted: str

    def attributes(self) -> dict[str, str]:
        """The attributes of the message; its body is the input of the target."""
        return {
            "ERROR_CODE": self.error.code,
            "ERROR_MESSAGE": self.error.message,
            "EXECUTION_ID": self.execution,
            "EXHAUSTED_RETRY_CONDITION": self.exhausted,
            "IS_PAYLOAD_TRUNCATED": "false",
            "RETRY_ATTEMPTS": str(self.retries),
            "SCHEDULED_TIME": f"{self.schedule.due:%Y-%m-%dT%H:%M:%SZ}",
            "SCHEDULE_ARN": self.schedule.arn,
            "TARGET_ARN": str(self.schedule.target["Arn"]),
        }


class Mailbox:
    """The queues of moto's SQS."""

    def __init__(self, turn: threading.Lock) -> None:
        """`turn` is the lock by which whoever calls moto takes turns."""
        self._turn = turn

    def send(self, queue: str, letter: DeadLetter) -> None:
        """Put a letter into the queue of that ARN; raises ServiceError without such a queue."""
        from moto.sqs.exceptions import QueueDoesNotExist
        from moto.sqs.models import sqs_backends

        _, _, _, region, account, name = queue.split(":", 5)
        attributes = {
            key: {"DataType": "String", "StringValue": value} for key, value in letter.attributes().items()
        }
        try:
            with self._turn:
                sqs_backends[account][region].send_message(
                    name, str(letter.schedule.target["Input"]), message_attributes=attributes
                )
        except QueueDoesNotExist as missing:
            raise ServiceError("AWS.SimpleQueueService.NonExistentQueue", f"there is no {queue}") from missing
