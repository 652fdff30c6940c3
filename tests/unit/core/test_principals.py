"""Which ARNs can have an access entry; each other kind is turned down in words of its own."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cali_infra.core import principals
from cali_infra.core.principals import PrincipalArn, Rejection, RoleSession, examine, parse
from cali_infra.errors import UsageError

ACCOUNT = "arn:aws:iam::111122223333"


@pytest.mark.parametrize(
    ("arn", "kind", "path", "name"),
    [
        (f"{ACCOUNT}:user/jiwoo", "user", "", "jiwoo"),
        (f"{ACCOUNT}:user/team/a/jiwoo+x=1@acme.com", "user", "team/a/", "jiwoo+x=1@acme.com"),
        (f"{ACCOUNT}:role/ops", "role", "", "ops"),
        (
            f"{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/ap-northeast-2/AWSReservedSSO_Admin_0123",
            "role",
            "aws-reserved/sso.amazonaws.com/ap-northeast-2/",
            "AWSReservedSSO_Admin_0123",
        ),
        ("arn:aws-cn:iam::111122223333:user/x", "user", "", "x"),
        ("arn:aws-us-gov:iam::111122223333:role/x", "role", "", "x"),
    ],
)
def test_users_and_roles_are_taken_with_their_path(arn: str, kind: str, path: str, name: str) -> None:
    found = parse(arn)
    assert isinstance(found, PrincipalArn)
    assert (found.arn, found.kind, found.path, found.name) == (arn, kind, path, name)
    assert found.account == "111122223333"


REJECTED = {
    f"{ACCOUNT}:root": "root user",
    f"{ACCOUNT}:group/ops": "IAM group",
    f"{ACCOUNT}:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS": "service-linked",
    f"{ACCOUNT}:user/*": "wildcards",
    f"{ACCOUNT}:saml-provider/okta": "identity provider",
    f"{ACCOUNT}:instance-profile/x": "instance profile",
    f"{ACCOUNT}:policy/x": "a policy",
    "arn:aws:sts::111122223333:assumed-role/ops/jiwoo": "session of a role",
    "arn:aws:sts::111122223333:federated-user/jiwoo": "federated user",
    "arn:aws:sts::111122223333:self": "session of STS",
    "arn:aws:s3:::bucket": "something in 's3'",
    "arn:aws:iam:us-east-1:111122223333:user/x": "no region",
    "arn:aws:iam::1111:user/x": "not 12 digits",
    "arn:azure:iam::111122223333:user/x": "not a partition",
    "arn:azure:iam::111122223333:root": "not a partition",
    f"{ACCOUNT}:user/": "user/NAME or role/NAME",
    f"{ACCOUNT}:jiwoo": "user/NAME or role/NAME",
    f" {ACCOUNT}:user/jiwoo": "white space",
    f"{ACCOUNT}:user/jiwoo\n": "white space",
    f"{ACCOUNT}:user//jiwoo": "nothing between the two slashes",
    f"{ACCOUNT}:user/team/": "name behind the last slash is missing",
    f"{ACCOUNT}:user/ji woo": "the name holds ' '",
    f"{ACCOUNT}:user/{'x' * 65}": "longer than 64",
    f"{ACCOUNT}:user/{'x' * 511}/jiwoo": "longer than 512",
    f"{ACCOUNT}:user/te am/jiwoo": "path before the name holds ' '",
    "arn:aws:iam::١١١١٢٢٢٢٣٣٣٣:user/x": "not 12 digits",
    "arn:aws-moon:iam::111122223333:user/x": "not a partition",
    "arn:aws:sts::111122223333:assumed-role/team/ops/jiwoo": "not the ARN of a role's session",
    "arn:aws:sts::111122223333:assumed-role/ops": "not the ARN of a role's session",
    "arn:aws:sts::111122223333:assumed-role/ops/x": "not the ARN of a role's session",
    "arn:aws:sts::1111:assumed-role/ops/jiwoo": "not 12 digits",
    "arn:aws:sts:us-east-1:111122223333:assumed-role/ops/jiwoo": "no region",
    "jiwoo": "not an ARN",
    "": "not an ARN",
}


@pytest.mark.parametrize(("arn", "words"), REJECTED.items())
def test_anything_else_is_turned_down_with_a_way_out(arn: str, words: str) -> None:
    found = examine(arn)
    assert isinstance(found, Rejection)
    assert words in found.reason
    assert found.remedy


def test_a_session_s_remedy_finds_the_role_with_its_path() -> None:
    with pytest.raises(UsageError) as caught:
        parse("arn:aws:sts::111122223333:assumed-role/ops/jiwoo")
    assert "aws iam get-role --role-name ops" in caught.value.remedy


def test_a_session_is_told_with_its_role() -> None:
    found = examine("arn:aws-cn:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123/jin@acme.com")
    assert isinstance(found, RoleSession)
    assert (found.partition, found.account) == ("aws-cn", "111122223333")
    assert (found.role, found.session) == ("AWSReservedSSO_Admin_0123", "jin@acme.com")


# -- whatever AWS may call a principal, and whatever it may not ----------------------------------------------
# The grammar is that of the IAM and STS API references: names, paths, sessions.

NAME_CHARACTERS = string.ascii_letters + string.digits + "_+=,.@-"
# A path has any visible ASCII character; those of patterns are turned down as such.
PATH_CHARACTERS = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in "*?")
names = st.text(NAME_CHARACTERS, min_size=1, max_size=64)
accounts = st.text(string.digits, min_size=12, max_size=12)
partitions = st.sampled_from(
    ["aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f"]
)
# Without the slash in front, which counts among the 512.
paths = (
    st.text(PATH_CHARACTERS, min_size=1, max_size=510)
    .map(lambda text: text + "/")
    .filter(lambda path: path != "//" and not path.startswith("aws-service-role/"))
)
sso_paths = st.sampled_from(
    ["aws-reserved/sso.amazonaws.com/", "aws-reserved/sso.amazonaws.com/ap-northeast-2/"]
)
sso_names = st.builds(
    "AWSReservedSSO_{}_{}".format,
    st.text(NAME_CHARACTERS, min_size=1, max_size=32),
    st.text("0123456789abcdef", min_size=16, max_size=16),
)


@dataclass(frozen=True)
class Arn:
    """The parts of an ARN, right or wrong."""

    partition: str
    account: str
    kind: str
    path: str
    name: str
    service: str = "iam"
    region: str = ""
    start: str = "arn"

    def __str__(self) -> str:
        resource = f"{self.kind}/{self.path}{self.name}"
        return ":".join((self.start, self.partition, self.service, self.region, self.account, resource))


plain = st.builds(Arn, partitions, accounts, st.sampled_from(["user", "role"]), st.just("") | paths, names)
sso = st.builds(Arn, partitions, accounts, st.just("role"), sso_paths, sso_names)
right = plain | sso


@settings(max_examples=1000, deadline=None)
@given(right)
def test_no_right_arn_is_refused(arn: Arn) -> None:
    assert examine(str(arn)) == PrincipalArn(
        str(arn), arn.partition, arn.account, arn.kind, arn.path, arn.name
    )


@settings(max_examples=1000, deadline=None)
@given(partitions, accounts, names, st.text(NAME_CHARACTERS, min_size=2, max_size=64))
def test_every_session_of_a_role_is_known_for_one(
    partition: str, account: str, role: str, session: str
) -> None:
    found = examine(f"arn:{partition}:sts::{account}:assumed-role/{role}/{session}")
    assert isinstance(found, RoleSession)
    assert (found.partition, found.account, found.role, found.session) == (partition, account, role, session)


@dataclass(frozen=True)
class Wrong:
    """A way to be wrong, and the words in which it is turned down."""

    words: str
    arns: st.SearchStrategy[str]


def wrong(words: str, how: Callable[[Arn], str | Arn], of: st.SearchStrategy[Arn] = right) -> Wrong:
    return Wrong(words, of.map(how).map(str))


def also(words: str, how: Callable[[Arn, str], Arn], more: st.SearchStrategy[str]) -> Wrong:
    return Wrong(words, st.builds(how, right, more).map(str))


def somewhere(text: str, character: str) -> str:
    half = len(text) // 2
    return text[:half] + character + text[half:]


outside_path = st.characters(min_codepoint=0x00, max_codepoint=0x20) | st.characters(
    min_codepoint=0x7F, exclude_categories=["Cs"]
)
outside_name = outside_path | st.sampled_from("!\"#$%&'();<>[\\]^`{|}~:")
not_accounts = (
    st.text(string.digits, max_size=11)
    | st.text(string.digits, min_size=13, max_size=14)
    | st.text("٠١٢٣٤٥٦٧٨٩", min_size=12, max_size=12)
    | accounts.map(lambda account: account[:5] + "-" + account[6:])
    | accounts.map(lambda account: account[:11] + "O")
)
not_partitions = st.sampled_from(["", "AWS", "aws-", "aws_cn", "azure", "aws-moon", "aws-cn-north-1", "gcp"])
not_services = st.sampled_from(["", "s3", "eks", "IAM", "ec2", "sso", "organizations", "identitystore"])
regions = st.sampled_from(["us-east-1", "ap-northeast-2", "global", "-"])
blanks = st.sampled_from([" ", "\t", "\n", "\r\n", "\u3000", "\xa0"])
not_starts = st.sampled_from(["", "ARN", "urn", "http", '"arn'])
other_kinds = st.sampled_from(
    ["User", "ROLE", "users", "mfa", "sms-mfa", "server-certificate", "access-report", "u2f"]
)

WRONG = [
    also("not an ARN", lambda arn, start: replace(arn, start=start), not_starts),
    Wrong("not an ARN", st.text(NAME_CHARACTERS + "/", max_size=80)),
    Wrong("white space", st.builds(lambda arn, blank: f"{arn}{blank}", right, blanks)),
    Wrong("white space", st.builds(lambda arn, blank: f"{blank}{arn}", right, blanks)),
    also("not a partition", lambda arn, other: replace(arn, partition=other), not_partitions),
    also("something in", lambda arn, other: replace(arn, service=other), not_services),
    also("no region", lambda arn, region: replace(arn, region=region), regions),
    also("not 12 digits", lambda arn, account: replace(arn, account=account), not_accounts),
    wrong("wildcards", lambda arn: replace(arn, name="*")),
    wrong("wildcards", lambda arn: replace(arn, name=somewhere(arn.name, "?"))),
    wrong("wildcards", lambda arn: replace(arn, path=f"{arn.path}*/")),
    wrong("wildcards", lambda arn: replace(arn, account="*")),
    wrong("root user", lambda arn: str(replace(arn, kind="", path="", name="")).removesuffix("/") + "root"),
    wrong("IAM group", lambda arn: replace(arn, kind="group")),
    wrong("identity provider", lambda arn: replace(arn, kind="saml-provider")),
    wrong("identity provider", lambda arn: replace(arn, kind="oidc-provider")),
    wrong("instance profile", lambda arn: replace(arn, kind="instance-profile")),
    wrong("a policy", lambda arn: replace(arn, kind="policy")),
    wrong("federated user", lambda arn: replace(arn, kind="federated-user")),
    wrong("federated user", lambda arn: replace(arn, kind="federated-user", service="sts")),
    wrong("session of STS", lambda arn: replace(arn, service="sts")),
    wrong(
        "session of a role",
        lambda arn: replace(arn, kind="assumed-role", service="sts", path="ops/", name="jin"),
    ),
    wrong("role's session", lambda arn: replace(arn, kind="assumed-role", service="sts", path="")),
    also("user/NAME or role/NAME", lambda arn, kind: replace(arn, kind=kind), other_kinds),
    wrong("user/NAME or role/NAME", lambda arn: replace(arn, path="", name="")),
    wrong("service-linked", lambda arn: replace(arn, kind="role", path=f"aws-service-role/{arn.path}")),
    wrong("nothing between", lambda arn: replace(arn, path="/")),
    wrong("longer than 512", lambda arn: replace(arn, path="a" * (511 - len(arn.path)) + "/" + arn.path)),
    also(
        "the path before the name holds",
        lambda arn, c: replace(arn, path=f"a{c}b/{arn.path}"[:400] + "/"),
        outside_path,
    ),
    wrong("name behind the last slash", lambda arn: replace(arn, path=arn.path or "team/", name="")),
    also("the name holds", lambda arn, c: replace(arn, name=f"a{c}{arn.name}"), outside_name),
    wrong("longer than 64", lambda arn: replace(arn, name=arn.name + "x" * (65 - len(arn.name)))),
]


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(WRONG).flatmap(lambda one: one.arns.map(lambda arn: (one.words, arn))))
def test_no_wrong_arn_is_taken_and_each_is_told_what_is_wrong(wrong: tuple[str, str]) -> None:
    words, arn = wrong
    found = examine(arn)
    assert isinstance(found, Rejection)
    assert words in found.reason
    assert found.remedy
    with pytest.raises(UsageError):
        parse(arn)


@pytest.mark.parametrize("one", WRONG, ids=lambda one: one.words)
def test_each_way_to_be_wrong_is_tried(one: Wrong) -> None:
    """Ten of each, so that no kind depends on what is drawn."""

    @settings(max_examples=10, deadline=None, database=None)
    @given(one.arns)
    def tried(arn: str) -> None:
        found = examine(arn)
        assert isinstance(found, Rejection)
        assert one.words in found.reason

    tried()


def test_the_partitions_are_those_of_botocore() -> None:
    from botocore.session import Session

    assert set(principals.PARTITIONS) == set(Session().get_available_partitions())
