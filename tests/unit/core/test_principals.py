"""Which ARNs can have an access entry; each other kind is turned down in words of its own."""

from __future__ import annotations

import pytest

from cali_infra.core.principals import PrincipalArn, Rejection, examine, parse
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
    f"{ACCOUNT}:user/": "user/NAME or role/NAME",
    f"{ACCOUNT}:jiwoo": "user/NAME or role/NAME",
    f" {ACCOUNT}:user/jiwoo": "not an ARN",
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
