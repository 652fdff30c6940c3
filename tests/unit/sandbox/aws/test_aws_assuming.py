"""Who gets a session of a role, and what the session is worth at a cluster."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

Refuses = Callable[..., str]
_names = itertools.count(1)


@pytest.fixture
def kim(world: Any) -> Any:
    """A user with a key and no rights at all: its STS client, with the name in `user`."""
    name = f"kim-{next(_names)}"
    world.user(name, "/team/")
    sts = world.key_of(name)
    sts.user = name
    return sts


def arn_of(world: Any, user: str) -> str:
    return f"arn:aws:iam::{world.aws.account}:user/team/{user}"


def trusting(world: Any, *statements: Mapping[str, Any]) -> str:
    """Make a role with this trust; returns its ARN."""
    filled = [{"Effect": "Allow", "Action": "sts:AssumeRole", **each} for each in statements]
    document = json.dumps({"Version": "2012-10-17", "Statement": filled})
    made = world.iam.create_role(
        RoleName=f"taken-{next(_names)}", Path="/on-call/", AssumeRolePolicyDocument=document
    )
    return str(made["Role"]["Arn"])


def may(world: Any, user: str, effect: str, resource: str) -> None:
    """Say in a policy of the user's own that it may, or may not, assume a role."""
    statement = {"Effect": effect, "Action": "sts:AssumeRole", "Resource": resource}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    world.iam.put_user_policy(UserName=user, PolicyName="assume", PolicyDocument=json.dumps(document))


def take(sts: Any, role: str, **more: Any) -> Any:
    return sts.assume_role(RoleArn=role, RoleSessionName="kim@corp", **more)["Credentials"]


def test_whom_the_trust_names_gets_in_as_the_role(world: Any, kim: Any) -> None:
    cluster = world.cluster()
    role = trusting(world, {"Principal": {"AWS": arn_of(world, kim.user)}})
    world.eks.create_access_entry(clusterName=cluster, principalArn=role)
    taken = take(kim, role)
    session = world.client("sts", taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    caller = world.aws.authenticator(cluster, world.token(session, cluster))
    assert caller is not None
    assert caller.arn == role
    assert "has no access entry" in world.refused(cluster, world.token(kim, cluster))


def test_whom_it_does_not_name_is_refused(world: Any, kim: Any, refuses: Refuses) -> None:
    world.user("someone-else")
    role = trusting(
        world,
        {"Principal": {"AWS": f"arn:aws:iam::{world.aws.account}:user/someone-else"}},
        {"Principal": {"Service": "ec2.amazonaws.com"}},
    )
    message = refuses("AccessDenied", take, kim, role)
    assert message == (
        f"User: {arn_of(world, kim.user)} is not authorized to perform: sts:AssumeRole on resource: {role}"
    )


def test_rights_of_one_s_own_do_not_replace_trust(world: Any, kim: Any, refuses: Refuses) -> None:
    role = trusting(world, {"Principal": {"Service": "ec2.amazonaws.com"}})
    may(world, kim.user, "Allow", "*")
    refuses("AccessDenied", take, kim, role)


def test_a_role_that_does_not_exist_is_refused_in_the_same_words(
    world: Any, kim: Any, refuses: Refuses
) -> None:
    message = refuses("AccessDenied", take, kim, f"arn:aws:iam::{world.aws.account}:role/nobody")
    assert "sts:AssumeRole" in message


@pytest.mark.parametrize("account", ["arn:aws:iam::123456789012:root", "123456789012"])
def test_trust_in_the_account_leaves_it_to_one_s_own_policies(
    world: Any, kim: Any, refuses: Refuses, account: str
) -> None:
    role = trusting(world, {"Principal": {"AWS": account}})
    refuses("AccessDenied", take, kim, role)
    may(world, kim.user, "Allow", "arn:aws:iam::*:role/another")
    refuses("AccessDenied", take, kim, role)
    may(world, kim.user, "Allow", role)
    assert take(kim, role)["SessionToken"]


def test_a_policy_of_one_s_group_counts(world: Any, kim: Any) -> None:
    role = trusting(world, {"Principal": {"AWS": world.aws.account}})
    group = f"group-{kim.user}"
    world.iam.create_group(GroupName=group)
    world.iam.attach_group_policy(GroupName=group, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    world.iam.add_user_to_group(GroupName=group, UserName=kim.user)
    assert take(kim, role)["SessionToken"]


def test_a_denial_outweighs_trust(world: Any, kim: Any, refuses: Refuses) -> None:
    named = {"Principal": {"AWS": arn_of(world, kim.user)}}
    refuses("AccessDenied", take, kim, trusting(world, named, {**named, "Effect": "Deny"}))
    may(world, kim.user, "Deny", "*")
    refuses("AccessDenied", take, kim, trusting(world, named))


def test_a_secret_between_the_two_has_to_be_said(world: Any, kim: Any, refuses: Refuses) -> None:
    role = trusting(
        world,
        {"Principal": {"AWS": "*"}, "Condition": {"StringEquals": {"sts:ExternalId": "open sesame"}}},
    )
    refuses("AccessDenied", take, kim, role)
    refuses("AccessDenied", take, kim, role, ExternalId="sesame")
    assert take(kim, role, ExternalId="open sesame")["SessionToken"]


def test_a_session_takes_another_role_as_its_own(world: Any, kim: Any, refuses: Refuses) -> None:
    first = trusting(world, {"Principal": {"AWS": arn_of(world, kim.user)}})
    second = trusting(world, {"Principal": {"AWS": first}})
    taken = take(kim, first)
    session = world.client("sts", taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    assert take(session, second)["SessionToken"]
    refuses("AccessDenied", take, kim, second)


@pytest.mark.parametrize(
    ("statement", "more", "named"),
    [
        (
            {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}},
            {},
            "aws:MultiFactorAuthPresent",
        ),
        ({}, {"Policy": '{"Version": "2012-10-17", "Statement": []}'}, "Policy"),
        ({}, {"SerialNumber": "arn:aws:iam::123456789012:mfa/kim", "TokenCode": "123456"}, "TokenCode"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(
    world: Any, kim: Any, refuses: Refuses, statement: dict[str, Any], more: dict[str, Any], named: str
) -> None:
    role = trusting(world, {"Principal": {"AWS": "*"}, **statement})
    assert named in refuses("SandboxNotModelled", take, kim, role, **more)


def test_another_account_s_role_is_not_modelled(kim: Any, refuses: Refuses) -> None:
    assert "999999999999" in refuses("SandboxNotModelled", take, kim, "arn:aws:iam::999999999999:role/x")


def test_a_role_made_anew_finds_a_dead_entry_until_it_is_made_again(world: Any, kim: Any) -> None:
    cluster = world.cluster()
    named = {"Principal": {"AWS": arn_of(world, kim.user)}}
    role = trusting(world, named)
    world.eks.create_access_entry(clusterName=cluster, principalArn=role)
    name = role.rsplit("/", 1)[-1]
    world.iam.delete_role(RoleName=name)
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", **named}],
    }
    world.iam.create_role(RoleName=name, Path="/on-call/", AssumeRolePolicyDocument=json.dumps(document))
    taken = take(kim, role)
    session = world.client("sts", taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    assert "made anew" in world.refused(cluster, world.token(session, cluster))
    world.eks.delete_access_entry(clusterName=cluster, principalArn=role)
    world.eks.create_access_entry(clusterName=cluster, principalArn=role)
    assert world.aws.authenticator(cluster, world.token(session, cluster)) is not None
