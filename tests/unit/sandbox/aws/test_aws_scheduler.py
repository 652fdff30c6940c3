"""Schedules that end access: when they run, as whom, and what becomes of those that fail."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cali_infra.sandbox.aws.controls import Fault

Refuses = Callable[..., str]
AT = "2099-01-31T00:00:00"
TARGET = "arn:aws:scheduler:::aws-sdk:eks:deleteAccessEntry"
RETRIES = {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 2}


@dataclass
class Expiry:
    """A cluster with an entry that is to end, and what ends it: a group, a role and a queue."""

    world: Any
    cluster: str
    arn: str
    account: str

    @property
    def scheduler(self) -> Any:
        return self.world.client("scheduler")

    @property
    def role(self) -> str:
        return f"arn:aws:iam::{self.account}:role/{self.cluster}-expiry"

    @property
    def queue(self) -> str:
        return f"arn:aws:sqs:ap-northeast-2:{self.account}:{self.cluster}"

    @property
    def entries(self) -> str:
        return f"arn:aws:eks:ap-northeast-2:{self.account}:access-entry/{self.cluster}/*"

    @property
    def group(self) -> str:
        return f"arn:aws:scheduler:ap-northeast-2:{self.account}:schedule-group/{self.cluster}"

    def trust(self, service: str = "scheduler.amazonaws.com", **condition: Mapping[str, str]) -> str:
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sts:AssumeRole",
            "Condition": condition
            or {
                "StringEquals": {"aws:SourceAccount": self.account},
                "ArnEquals": {"aws:SourceArn": self.group},
            },
        }
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    def allow(self, *statements: Mapping[str, Any]) -> None:
        """Give the role these rights alone."""
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        self.world.iam.put_role_policy(
            RoleName=f"{self.cluster}-expiry", PolicyName="end", PolicyDocument=json.dumps(document)
        )

    def wanted(self, **changes: Any) -> dict[str, Any]:
        """What the schedule is made from; `target` changes its target."""
        target = {
            "Arn": TARGET,
            "RoleArn": self.role,
            "Input": json.dumps({"ClusterName": self.cluster, "PrincipalArn": self.arn}),
            "RetryPolicy": RETRIES,
            "DeadLetterConfig": {"Arn": self.queue},
            **changes.pop("target", {}),
        }
        return {
            "Name": "end",
            "GroupName": self.cluster,
            "ScheduleExpression": f"at({AT})",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {key: value for key, value in target.items() if value is not None},
            **changes,
        }

    def schedule(self, **changes: Any) -> str:
        return str(self.scheduler.create_schedule(**self.wanted(**changes))["ScheduleArn"])

    def at(self, moment: str, seconds: float = 0.0) -> None:
        """Turn the scheduler's clock to a moment and some seconds."""
        then = datetime.fromisoformat(moment).replace(tzinfo=UTC) + timedelta(seconds=seconds)
        self.world.control("POST", "clock", {"now": then.isoformat()})

    def grant(self) -> None:
        self.world.eks.create_access_entry(clusterName=self.cluster, principalArn=self.arn)

    @property
    def granted(self) -> bool:
        return self.arn in self.world.eks.list_access_entries(clusterName=self.cluster)["accessEntries"]

    def letters(self) -> list[dict[str, str]]:
        """The attributes and the body of every dead letter, which are taken out."""
        sqs = self.world.client("sqs")
        url = sqs.get_queue_url(QueueName=self.cluster)["QueueUrl"]
        found = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], MaxNumberOfMessages=10).get(
            "Messages", []
        )
        return [
            {
                "body": letter["Body"],
                **{key: value["StringValue"] for key, value in letter["MessageAttributes"].items()},
            }
            for letter in found
        ]


ALLOW_ALL: dict[str, Any] = {"Effect": "Allow", "Action": "*", "Resource": "*"}
SEND: dict[str, Any] = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
DELETE: dict[str, Any] = {"Effect": "Allow", "Action": "eks:DeleteAccessEntry", "Resource": "*"}


@pytest.fixture
def expiry(world: Any) -> Iterator[Expiry]:
    cluster = world.cluster()
    made = Expiry(world, cluster, world.user(f"temp-{cluster}", "/team/"), world.aws.account)
    made.grant()
    made.scheduler.create_schedule_group(Name=cluster)
    world.client("sqs").create_queue(QueueName=cluster)
    world.iam.create_role(RoleName=f"{cluster}-expiry", AssumeRolePolicyDocument=made.trust())
    made.allow({**DELETE, "Resource": made.entries}, {**SEND, "Resource": made.queue})
    yield made
    groups = [group["Name"] for group in made.scheduler.list_schedule_groups()["ScheduleGroups"]]
    if cluster in groups:
        made.scheduler.delete_schedule_group(Name=cluster)


def test_access_ends_at_its_time_and_not_before(expiry: Expiry) -> None:
    world = expiry.world
    sts = world.key_of(f"temp-{expiry.cluster}")
    expiry.schedule()
    expiry.at(AT, -1)
    assert world.aws.authenticator(expiry.cluster, world.token(sts, expiry.cluster)) is not None
    expiry.at(AT)
    assert not expiry.granted
    assert "has no access entry" in world.refused(expiry.cluster, world.token(sts, expiry.cluster))
    assert expiry.letters() == []


def test_a_schedule_runs_once_and_stays(expiry: Expiry) -> None:
    expiry.schedule()
    expiry.at(AT)
    expiry.grant()
    expiry.at(AT, 86400)
    assert expiry.granted
    shown = expiry.scheduler.get_schedule(Name="end", GroupName=expiry.cluster)
    assert (shown["State"], shown["ActionAfterCompletion"]) == ("ENABLED", "NONE")
    assert shown["ScheduleExpression"] == f"at({AT})"
    assert shown["Target"] == expiry.wanted()["Target"]


def test_one_that_is_changed_runs_at_its_new_time_also_when_it_has_run(expiry: Expiry) -> None:
    expiry.schedule()
    made = expiry.scheduler.get_schedule(Name="end", GroupName=expiry.cluster)
    expiry.scheduler.update_schedule(**expiry.wanted(ScheduleExpression="at(2099-06-01T00:00:00)"))
    expiry.at(AT)
    assert expiry.granted
    expiry.at("2099-06-01T00:00:00")
    assert not expiry.granted
    expiry.grant()
    expiry.scheduler.update_schedule(**expiry.wanted(ScheduleExpression="at(2099-07-01T00:00:00)"))
    expiry.at("2099-07-01T00:00:00")
    assert not expiry.granted
    shown = expiry.scheduler.get_schedule(Name="end", GroupName=expiry.cluster)
    assert shown["CreationDate"] == made["CreationDate"]


def test_a_disabled_or_deleted_schedule_does_not_run(expiry: Expiry) -> None:
    expiry.schedule(State="DISABLED")
    expiry.schedule(Name="gone")
    expiry.scheduler.delete_schedule(Name="gone", GroupName=expiry.cluster)
    expiry.at(AT, 60)
    assert expiry.granted


def test_by_itself_it_runs_in_real_time(expiry: Expiry, eventually: Callable[..., Any]) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=4)
    expiry.schedule(ScheduleExpression=f"at({soon:%Y-%m-%dT%H:%M:%S})")
    assert expiry.granted
    eventually(lambda: not expiry.granted, 30.0)


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ([{}], True),
        ([{"Action": "EKS:deleteaccessentry"}], True),
        ([{"Action": ["eks:Delete*", "eks:List*"]}], True),
        ([{"Resource": ["arn:aws:s3:::x", "arn:aws:eks:*:*:access-entry/*/user/*"]}], True),
        ([{"Action": None, "NotAction": "iam:*"}], True),
        ([{"Action": "eks:DescribeAccessEntry"}], False),
        ([{"Resource": "arn:aws:eks:ap-northeast-2:123456789012:access-entry/another/*"}], False),
        ([{"Resource": "arn:aws:eks:ap-northeast-2:123456789012:cluster/*"}], False),
        ([{}, {"Effect": "Deny", "Action": "eks:*"}], False),
        ([{"Resource": None, "NotResource": "arn:aws:eks:*"}], False),
    ],
)
def test_the_role_s_own_policy_decides(expiry: Expiry, changes: list[dict[str, Any]], ends: bool) -> None:
    statements = [
        {key: value for key, value in {**DELETE, **change}.items() if value is not None} for change in changes
    ]
    expiry.allow(SEND, *statements)
    expiry.schedule()
    expiry.at(AT, 600)
    assert expiry.granted is not ends
    letters = expiry.letters()
    assert [letter["ERROR_CODE"] for letter in letters] == ([] if ends else ["AccessDeniedException"])
    if not ends:
        assert "is not authorized to perform: eks:DeleteAccessEntry" in letters[0]["ERROR_MESSAGE"]
        assert f":assumed-role/{expiry.cluster}-expiry/" in letters[0]["ERROR_MESSAGE"]


def test_an_attached_policy_counts_like_an_inline_one(expiry: Expiry) -> None:
    expiry.allow(SEND)
    document = {"Version": "2012-10-17", "Statement": [DELETE]}
    policy = expiry.world.iam.create_policy(
        PolicyName=f"{expiry.cluster}-end", PolicyDocument=json.dumps(document)
    )["Policy"]["Arn"]
    expiry.world.iam.attach_role_policy(RoleName=f"{expiry.cluster}-expiry", PolicyArn=policy)
    expiry.schedule()
    expiry.at(AT)
    assert not expiry.granted


@pytest.mark.parametrize(
    ("service", "condition"),
    [
        ("events.amazonaws.com", {}),
        ("scheduler.amazonaws.com", {"StringEquals": {"aws:SourceAccount": "999999999999"}}),
        (
            "scheduler.amazonaws.com",
            {"ArnLike": {"aws:SourceArn": "arn:aws:scheduler:*:123456789012:schedule/*"}},
        ),
        (
            "scheduler.amazonaws.com",
            {"ArnLike": {"aws:SourceArn": "arn:aws:scheduler:*:123456789012:schedule-group/another"}},
        ),
    ],
)
def test_a_role_that_does_not_trust_the_scheduler_is_refused(
    expiry: Expiry, refuses: Refuses, service: str, condition: dict[str, Any]
) -> None:
    expiry.world.iam.update_assume_role_policy(
        RoleName=f"{expiry.cluster}-expiry", PolicyDocument=expiry.trust(service, **condition)
    )
    message = refuses("ValidationException", expiry.schedule)
    assert message == (
        "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
    )


def test_a_role_that_does_not_exist_or_is_another_account_s_is_refused(
    expiry: Expiry, refuses: Refuses
) -> None:
    nobody = f"arn:aws:iam::{expiry.account}:role/nobody"
    assert "assume the role" in refuses("ValidationException", expiry.schedule, target={"RoleArn": nobody})
    foreign = "arn:aws:iam::999999999999:role/expiry"
    refuses("AccessDeniedException", expiry.schedule, target={"RoleArn": foreign})


def test_trust_that_was_taken_away_since_ends_in_nothing(expiry: Expiry) -> None:
    """Not even the letter can be written: the role that may send it is the same."""
    expiry.schedule()
    expiry.world.iam.update_assume_role_policy(
        RoleName=f"{expiry.cluster}-expiry", PolicyDocument=expiry.trust("events.amazonaws.com")
    )
    expiry.at(AT, 7200)
    assert expiry.granted
    assert expiry.letters() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            '{"clusterName": "c", "principalArn": "p"}',
            "is missing the following field(s): ClusterName, PrincipalArn.",
        ),
        ('{"ClusterName": "c"}', "is missing the following field(s): PrincipalArn."),
        (None, "is missing the following field(s): ClusterName, PrincipalArn."),
        ("not JSON", "is not a JSON object"),
        ("[]", "is not a JSON object"),
    ],
)
def test_an_input_that_eks_would_not_take_is_refused(
    expiry: Expiry, refuses: Refuses, text: str | None, reason: str
) -> None:
    message = refuses("ValidationException", expiry.schedule, target={"Input": text})
    assert message.startswith("Invalid RequestJson provided. Reason ")
    assert reason in message


def test_a_dead_letter_says_what_failed(expiry: Expiry) -> None:
    arn = expiry.schedule()
    expiry.world.eks.delete_access_entry(clusterName=expiry.cluster, principalArn=expiry.arn)
    expiry.at(AT, 3)
    assert expiry.letters() == [], "it is tried again first"
    expiry.at(AT, 6)
    [letter] = expiry.letters()
    assert letter.pop("EXECUTION_ID")
    assert "could not be found" in letter.pop("ERROR_MESSAGE")
    assert letter == {
        "body": expiry.wanted()["Target"]["Input"],
        "ERROR_CODE": "ResourceNotFoundException",
        "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts",
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": "2",
        "SCHEDULED_TIME": f"{AT}Z",
        "SCHEDULE_ARN": arn,
        "TARGET_ARN": TARGET,
    }
    expiry.at(AT, 86400)
    assert expiry.letters() == [], "and then it is over"


def test_what_fails_for_a_while_is_tried_again(expiry: Expiry) -> None:
    fault = Fault("eks", "DeleteAccessEntry", "ThrottlingException", "slow down", times=2)
    expiry.world.aws.controls.fail(fault)
    expiry.schedule()
    expiry.world.control("DELETE", "calls")
    expiry.at(AT, 3)
    assert expiry.granted
    expiry.at(AT, 6)
    assert not expiry.granted
    assert expiry.world.control("GET", "calls")["eks:DeleteAccessEntry"] == 3
    assert expiry.letters() == []


@pytest.mark.parametrize(
    ("policy", "condition", "retries", "after"),
    [
        ({"MaximumRetryAttempts": 0}, "MaximumRetryAttempts", "0", 0),
        ({"MaximumEventAgeInSeconds": 60}, "MaximumEventAgeInSeconds", "5", 60),
    ],
)
def test_retries_end_by_number_or_by_age(
    expiry: Expiry, policy: dict[str, int], condition: str, retries: str, after: int
) -> None:
    expiry.allow(SEND)
    expiry.schedule(target={"RetryPolicy": policy})
    expiry.at(AT, after - 1)
    assert expiry.letters() == []
    expiry.at(AT, after)
    [letter] = expiry.letters()
    assert (letter["EXHAUSTED_RETRY_CONDITION"], letter["RETRY_ATTEMPTS"]) == (condition, retries)


def test_without_a_retry_policy_aws_tries_for_a_day(expiry: Expiry) -> None:
    expiry.allow(SEND)
    expiry.schedule(target={"RetryPolicy": None})
    expiry.at(AT, 86399)
    assert expiry.letters() == []
    expiry.allow(DELETE, SEND)
    expiry.at(AT, 86400)
    assert not expiry.granted


def test_a_letter_that_cannot_be_sent_holds_nothing_up(expiry: Expiry) -> None:
    expiry.allow({**DELETE, "Resource": expiry.entries})
    gone = json.dumps({"ClusterName": expiry.cluster, "PrincipalArn": f"{expiry.arn}-never"})
    expiry.schedule(Name="no-right", target={"Input": gone})
    nowhere = {"Arn": f"{expiry.queue}-nowhere"}
    expiry.schedule(Name="no-queue", target={"Input": gone, "DeadLetterConfig": nowhere})
    expiry.schedule(Name="no-letter", target={"Input": gone, "DeadLetterConfig": None})
    expiry.schedule(ScheduleExpression="at(2099-02-01T00:00:00)")
    expiry.at("2099-02-01T00:00:00")
    assert not expiry.granted
    assert expiry.letters() == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ScheduleExpression": "rate(1 day)"}, "rate(1 day)"),
        ({"ScheduleExpression": "cron(0 9 * * ? *)"}, "cron(0 9 * * ? *)"),
        ({"ScheduleExpressionTimezone": "Asia/Seoul"}, "time zone"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}}, "flexible"),
        ({"ActionAfterCompletion": "DELETE"}, "deletes itself"),
        ({"KmsKeyArn": "arn:aws:kms:ap-northeast-2:123456789012:key/x"}, "KmsKeyArn"),
        ({"EndDate": datetime(2099, 3, 1, tzinfo=UTC)}, "EndDate"),
        ({"target": {"Arn": "arn:aws:scheduler:::aws-sdk:eks:deleteCluster"}}, "deleteCluster"),
        ({"target": {"Arn": "arn:aws:lambda:ap-northeast-2:123456789012:function:x"}}, "function:x"),
        ({"target": {"SqsParameters": {"MessageGroupId": "x"}}}, "SqsParameters"),
        (
            {"target": {"Input": '{"ClusterName": "c", "PrincipalArn": "p", "ClientRequestToken": "t"}'}},
            "ClientRequestToken",
        ),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(
    expiry: Expiry, refuses: Refuses, changes: dict[str, Any], named: str
) -> None:
    assert named in refuses("SandboxNotModelled", expiry.schedule, **changes)


def test_a_right_that_cannot_be_judged_is_refused_when_the_schedule_is_made(
    expiry: Expiry, refuses: Refuses
) -> None:
    expiry.allow({**DELETE, "Condition": {"StringEquals": {"aws:ResourceTag/managed-by": "cali"}}})
    assert "aws:ResourceTag/managed-by" in refuses("SandboxNotModelled", expiry.schedule)


def test_one_that_cannot_be_judged_any_more_ends_in_a_letter(expiry: Expiry) -> None:
    expiry.schedule()
    expiry.allow(SEND, {**DELETE, "Condition": {"Bool": {"aws:SecureTransport": "true"}}})
    expiry.at(AT, 60)
    assert expiry.granted
    [letter] = expiry.letters()
    assert letter["ERROR_CODE"] == "SandboxNotModelled"
    assert "aws:SecureTransport" in letter["ERROR_MESSAGE"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ScheduleExpression": "at(2001-01-31T00:00:00)"}, "in the past"),
        ({"ScheduleExpression": "at(2099-01-31T00:00:00Z)"}, "Invalid Schedule Expression"),
        ({"ScheduleExpression": "at(2099-02-30T00:00:00)"}, "Invalid Schedule Expression"),
        ({"ScheduleExpression": "tomorrow"}, "Invalid Schedule Expression"),
        ({"State": "ASLEEP"}, "ASLEEP"),
        ({"target": {"RetryPolicy": {"MaximumRetryAttempts": 186}}}, "0 to 185"),
        ({"target": {"RetryPolicy": {"MaximumEventAgeInSeconds": 86401}}}, "60 to 86400"),
        ({"target": {"DeadLetterConfig": {"Arn": "arn:aws:sqs:eu-west-1:123456789012:a.fifo"}}}, "a.fifo"),
        ({"target": {"RoleArn": "arn:aws:iam::123456789012:user/jin"}}, "user/jin"),
    ],
)
def test_a_wrong_schedule_is_refused(
    expiry: Expiry, refuses: Refuses, changes: dict[str, Any], named: str
) -> None:
    assert named in refuses("ValidationException", expiry.schedule, **changes)
    refuses("ResourceNotFoundException", expiry.scheduler.get_schedule, Name="end", GroupName=expiry.cluster)


def test_a_name_is_taken_once_in_its_group(expiry: Expiry, refuses: Refuses) -> None:
    expiry.schedule()
    refuses("ConflictException", expiry.schedule)
    refuses("ConflictException", expiry.scheduler.create_schedule_group, Name=expiry.cluster)
    for call in ("get_schedule", "delete_schedule"):
        refuses("ResourceNotFoundException", getattr(expiry.scheduler, call), Name="end")
    refuses("ResourceNotFoundException", expiry.schedule, GroupName="nowhere")


def test_a_group_takes_its_schedules_along(expiry: Expiry, refuses: Refuses) -> None:
    expiry.schedule()
    expiry.scheduler.delete_schedule_group(Name=expiry.cluster)
    expiry.at(AT)
    assert expiry.granted
    refuses("ResourceNotFoundException", expiry.scheduler.get_schedule_group, Name=expiry.cluster)
    refuses("ResourceNotFoundException", expiry.scheduler.delete_schedule_group, Name=expiry.cluster)
    refuses("ValidationException", expiry.scheduler.delete_schedule_group, Name="default")


def test_a_group_has_tags(expiry: Expiry, refuses: Refuses) -> None:
    scheduler = expiry.scheduler
    name = f"{expiry.cluster}-tagged"
    arn = scheduler.create_schedule_group(Name=name, Tags=[{"Key": "a", "Value": "1"}])["ScheduleGroupArn"]
    assert scheduler.get_schedule_group(Name=name)["Arn"] == arn
    scheduler.tag_resource(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    scheduler.untag_resource(ResourceArn=arn, TagKeys=["a"])
    assert scheduler.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    refuses("ResourceNotFoundException", scheduler.list_tags_for_resource, ResourceArn=f"{arn}-not")
    scheduler.delete_schedule_group(Name=name)


def test_schedules_are_listed_in_pages(expiry: Expiry) -> None:
    for name in ("end-a", "end-b", "end-c"):
        expiry.schedule(Name=name)
    expiry.schedule(Name="other", State="DISABLED")
    pages = expiry.scheduler.get_paginator("list_schedules").paginate(
        GroupName=expiry.cluster, NamePrefix="end-", PaginationConfig={"PageSize": 2}
    )
    found = [[schedule["Name"] for schedule in page["Schedules"]] for page in pages]
    assert found == [["end-a", "end-b"], ["end-c"]]
    [disabled] = expiry.scheduler.list_schedules(GroupName=expiry.cluster, State="DISABLED")["Schedules"]
    assert disabled["Name"] == "other"
    assert disabled["Target"] == {"Arn": TARGET}


def test_the_clock_is_the_scheduler_s_alone(expiry: Expiry) -> None:
    world = expiry.world
    before = datetime.now(UTC)
    world.control("POST", "clock", {"advance": 3600})
    shown = world.control("POST", "clock", {"advance": 1800.5})
    assert shown["ahead"] == 5400.5
    assert datetime.fromisoformat(shown["now"]) >= before + timedelta(seconds=5400.5)
    assert world.control("GET", "clock")["ahead"] == 5400.5
    sts = world.key_of(f"temp-{expiry.cluster}")
    assert world.aws.authenticator(expiry.cluster, world.token(sts, expiry.cluster)) is not None
    entry = world.eks.describe_access_entry(clusterName=expiry.cluster, principalArn=expiry.arn)
    assert entry["accessEntry"]["createdAt"] < datetime.now(UTC) + timedelta(seconds=60)
    assert world.control("DELETE", "clock")["ahead"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"advance": -1},
        {"advance": "a day"},
        {"advance": True, "now": "2099-01-01T00:00:00Z"},
        {"now": "2099-01-01T00:00:00"},
        {"now": "soon"},
        {"later": 1},
    ],
)
def test_a_clock_is_not_turned_by_nonsense(world: Any, body: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        world.control("POST", "clock", body)
    assert refusal.value.code == 400
    refusal.value.close()
    assert world.control("GET", "clock")["ahead"] == 0
