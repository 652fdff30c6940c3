"""The door to AWS against moto inside this process, and against answers that moto does not give."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.exceptions
import pytest
from moto import mock_aws

from cali_infra.adapters.aws import Aws, ClusterVersion, InstanceType
from cali_infra.adapters.aws_bucket import BucketDescription
from cali_infra.adapters.aws_errors import translated
from cali_infra.errors import AwsError

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret"}
SEOUL = "ap-northeast-2"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        yield Aws(SEOUL, KEYS)


@contextmanager
def answering(
    status: int, body: str, kind: str = "text/xml", owners: list[str] | None = None
) -> Iterator[str]:
    """A server that gives every request the same answer, and 403 to HEAD, which has no body; yields its
    address. `owners` gets the bucket owners that HEAD asked for.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815

        def do_HEAD(self) -> None:
            self.server.owners.append(self.headers["x-amz-expected-bucket-owner"])  # type: ignore[attr-defined]
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.owners = [] if owners is None else owners  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


JIN = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    "<GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/jin</Arn><UserId>AIDA</UserId>"
    "<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)


def refusal(code: str) -> str:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>it is {code}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )


# -- what is there ------------------------------------------------------------------------------------------


def test_the_caller(aws: Aws) -> None:
    assert aws.identity().account == "123456789012"
    assert aws.identity().arn.startswith("arn:aws:sts::123456789012:")


def test_what_is_not_there_is_none(aws: Aws) -> None:
    assert aws.cluster("cali-default") is None
    assert not aws.has_access_entry("cali-default", "arn:aws:iam::123456789012:user/jin")
    assert aws.nodegroup("cali-default", "workers") is None
    assert aws.domain("cali-default") is None
    assert aws.vpc_state("vpc-1") is None
    assert aws.subnet_state("subnet-1") is None
    assert aws.bucket("cali-states") is None
    assert aws.object_modified("cali-states", "k") is None


def test_a_cluster_its_nodes_and_a_domain(aws: Aws) -> None:
    eks, search = aws._client("eks"), aws._client("opensearch")
    role = "arn:aws:iam::123456789012:role/r"
    eks.create_cluster(name="cali", version="1.35", roleArn=role, resourcesVpcConfig={})
    eks.create_nodegroup(
        clusterName="cali",
        nodegroupName="workers",
        nodeRole=role,
        subnets=["s"],
        scalingConfig={"minSize": 1, "maxSize": 3, "desiredSize": 2},
    )
    search.create_domain(DomainName="cali")
    cluster, group, domain = aws.cluster("cali"), aws.nodegroup("cali", "workers"), aws.domain("cali")
    assert cluster is not None
    assert cluster.status == "ACTIVE"
    assert cluster.endpoint.startswith("https://")
    assert base64.b64decode(cluster.ca)
    assert group is not None
    assert (group.status, group.desired_nodes) == ("ACTIVE", 2)
    assert domain is not None
    assert not domain.deleted


def test_an_instance_that_nobody_knows_hides_none_that_runs(aws: Aws) -> None:
    ec2 = aws._client("ec2")
    image = ec2.register_image(Name="image")["ImageId"]
    run, ended = (
        ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2)["Instances"][i]["InstanceId"] for i in (0, 1)
    )
    ec2.terminate_instances(InstanceIds=[ended])
    assert aws.instances_gone([run, ended, "i-0123456789abcdef0"]) == {ended, "i-0123456789abcdef0"}
    volume = ec2.create_volume(Size=7, AvailabilityZone="ap-northeast-2a")["VolumeId"]
    assert aws.volumes([volume, "vol-0123456789abcdef0"]) == {volume: "7 GiB in ap-northeast-2a"}
    assert aws.instances_gone([]) == frozenset()
    assert aws.volumes([]) == {}


@pytest.mark.parametrize(("public", "networks"), [(True, ("203.0.113.7/32", "198.51.100.0/24")), (False, ())])
def test_who_reaches_a_cluster_s_endpoint(public: bool, networks: tuple[str, ...]) -> None:
    network = {"endpointPublicAccess": public, "publicAccessCidrs": ["203.0.113.7/32", "198.51.100.0/24"]}
    cluster = {
        "name": "c",
        "arn": "arn",
        "status": "ACTIVE",
        "version": "1.35",
        "resourcesVpcConfig": network,
    }
    with answering(200, json.dumps({"cluster": cluster}), "application/json") as endpoint:
        found = Aws(SEOUL, {**KEYS, "AWS_ENDPOINT_URL": endpoint}).cluster("c")
    assert found is not None
    assert found.public_cidrs == networks


def test_the_versions_that_eks_offers() -> None:
    versions = [
        {
            "clusterVersion": "1.35",
            "defaultVersion": True,
            "versionStatus": "STANDARD_SUPPORT",
            "endOfStandardSupportDate": 1806105600,
            "endOfExtendedSupportDate": 1837641600,
        },
        # An older form of the answer.
        {"clusterVersion": "1.31", "status": "extended-support"},
    ]
    with answering(200, json.dumps({"clusterVersions": versions}), "application/json") as endpoint:
        found = Aws(SEOUL, {**KEYS, "AWS_ENDPOINT_URL": endpoint}).cluster_versions()
    assert found == (
        ClusterVersion("1.35", "STANDARD_SUPPORT", True, date(2027, 3, 27), date(2028, 3, 26)),
        ClusterVersion("1.31", "EXTENDED_SUPPORT", False, None, None),
    )


# -- where credentials and endpoint come from ---------------------------------------------------------------


def test_the_endpoint_and_keys_of_the_given_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setenv("AWS_PROFILE", "one-that-is-not-there")
    with answering(200, JIN) as endpoint:
        given = {**KEYS, "AWS_SESSION_TOKEN": "t", "AWS_ENDPOINT_URL": endpoint, "AWS_PROFILE": "no-such"}
        aws = Aws(SEOUL, given)
        assert aws.identity().arn == "arn:aws:iam::111122223333:user/jin"
        credentials = aws._botocore().get_credentials()
    assert credentials is not None
    assert (credentials.access_key, credentials.token) == ("AKIATEST", "t")


def test_a_profile_is_looked_up_in_the_files_that_the_environment_names(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile team]\nregion = eu-west-1\n")
    (tmp_path / "keys").write_text("[team]\naws_access_key_id = AKIATEAM\naws_secret_access_key = s\n")
    files = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys"),
    }
    for aws in (Aws(SEOUL, {**KEYS, **files}, "team"), Aws(SEOUL, {**files, "AWS_PROFILE": "team"})):
        assert "AKIATEAM" in url_of(aws.token("c").value)


def test_threads_share_one_client(aws: Aws) -> None:
    clients: list[Any] = []
    threads = [threading.Thread(target=lambda: clients.append(aws._client("sts"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(client) for client in clients}) == 1


# -- bearers ------------------------------------------------------------------------------------------------


def url_of(token: str) -> str:
    encoded = token.removeprefix("k8s-aws-v1.")
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()


def test_a_bearer_is_a_presigned_call_that_names_the_cluster() -> None:
    token = Aws(SEOUL, {**KEYS, "AWS_SESSION_TOKEN": "session"}).token("cali-default", now=lambda: NOW)
    assert token.value.startswith("k8s-aws-v1.")
    assert "=" not in token.value
    assert token.expires_at == datetime(2026, 1, 2, 3, 18, 5, tzinfo=UTC)
    url = urlsplit(url_of(token.value))
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc, url.path) == ("https", "sts.ap-northeast-2.amazonaws.com", "/")
    assert query["Action"] == ["GetCallerIdentity"]
    assert query["X-Amz-Expires"] == ["60"]
    assert query["X-Amz-SignedHeaders"] == ["host;x-k8s-aws-id"]
    assert query["X-Amz-Credential"][0].endswith("/ap-northeast-2/sts/aws4_request")
    assert query["X-Amz-Security-Token"] == ["session"]
    assert "secret" not in url_of(token.value)


def test_a_bearer_is_the_clusters_own() -> None:
    aws = Aws(SEOUL, KEYS)

    def signature(cluster: str) -> str:
        return parse_qs(urlsplit(url_of(aws.token(cluster).value)).query)["X-Amz-Signature"][0]

    assert signature("one") != signature("two")


@pytest.mark.parametrize(
    ("region", "environ", "host"),
    [
        ("cn-north-1", {}, "sts.cn-north-1.amazonaws.com.cn"),
        ("us-east-1", {}, "sts.us-east-1.amazonaws.com"),
        (SEOUL, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1234/"}, "127.0.0.1:1234"),
        (
            SEOUL,
            {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:5", "AWS_ENDPOINT_URL": "http://x"},
            "127.0.0.1:5",
        ),
    ],
)
def test_a_bearer_is_signed_for_the_regions_own_sts(region: str, environ: dict[str, str], host: str) -> None:
    assert urlsplit(url_of(Aws(region, {**KEYS, **environ}).token("c").value)).netloc == host


def test_without_credentials_there_is_no_bearer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nothing = {"AWS_CONFIG_FILE": str(tmp_path / "c"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "k")}
    with pytest.raises(AwsError, match="no AWS credentials") as caught:
        Aws(SEOUL, nothing).token("c")
    assert "aws sso login" in caught.value.remedy


# -- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("ExpiredToken", "aws sso login"),
        ("InvalidClientTokenId", "aws sts get-caller-identity"),
        ("AccessDenied", "permission"),
        ("RequestExpired", "clock"),
    ],
)
def test_a_refusal_says_what_to_do(code: str, remedy: str) -> None:
    with answering(403, refusal(code)) as endpoint, pytest.raises(AwsError, match=f"sts: it is {code}") as e:
        Aws(SEOUL, {**KEYS, "AWS_ENDPOINT_URL": endpoint}).identity()
    assert e.value.aws_code == code
    assert remedy in e.value.remedy


def test_an_endpoint_that_is_no_address() -> None:
    with pytest.raises(AwsError, match="Invalid endpoint: nonsense") as caught:
        Aws(SEOUL, {**KEYS, "AWS_ENDPOINT_URL": "nonsense"}).identity()
    assert "AWS_ENDPOINT_URL" in caught.value.remedy


def test_an_endpoint_that_is_not_there() -> None:
    with pytest.raises(AwsError, match="Could not connect") as caught, fast():
        Aws(SEOUL, {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}).identity()
    assert caught.value.aws_code == "unreachable"
    assert "AWS_ENDPOINT_URL" in caught.value.remedy


@contextmanager
def fast() -> Iterator[None]:
    """botocore's waits between its tries would take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
        yield


def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(AwsError, match="no-such-profile") as caught:
        Aws(SEOUL, {}, "no-such-profile").identity()
    assert "aws configure list-profiles" in caught.value.remedy


def _made(kind: type[Exception]) -> Exception:
    """An instance of one of botocore's errors, whatever its message wants to be filled with."""

    class Anything(dict[str, str]):
        def __missing__(self, key: str) -> str:
            return "x"

    error: Exception = kind.__new__(kind)
    error.args = (str(getattr(kind, "fmt", "x")).format_map(Anything()),)
    return error


@pytest.mark.parametrize(
    "kind",
    sorted(
        (
            kind
            for kind in vars(botocore.exceptions).values()
            if isinstance(kind, type) and issubclass(kind, botocore.exceptions.BotoCoreError)
        ),
        key=repr,
    ),
    ids=repr,
)
def test_no_error_of_botocore_gets_through(kind: type[Exception]) -> None:
    with pytest.raises(AwsError) as caught, translated("eks"):
        raise _made(kind)
    assert caught.value.remedy
    about_credentials = ("Credential", "SSO", "Login")
    if kind.__name__.startswith(about_credentials) and "Unknown" not in kind.__name__:
        assert caught.value.aws_code == "credentials"


# -- the public address -------------------------------------------------------------------------------------


def test_the_address_that_aws_sees(aws: Aws) -> None:
    with answering(200, "203.0.113.7\n", "text/plain") as url:
        assert aws.public_address(url=url) == "203.0.113.7"


@pytest.mark.parametrize(("status", "body"), [(500, "oops"), (200, "<html>sign in to this network</html>")])
def test_an_answer_that_is_no_address(aws: Aws, status: int, body: str) -> None:
    with answering(status, body) as url, pytest.raises(AwsError, match="does not answer"):
        aws.public_address(url=url)


# -- the bucket ---------------------------------------------------------------------------------------------


def test_a_bucket_is_made_where_it_is_wanted() -> None:
    with mock_aws():
        for region in (SEOUL, "us-east-1"):
            aws = Aws(region, KEYS)
            aws.create_bucket(f"cali-{region}")
            assert aws.bucket(f"cali-{region}") == BucketDescription(f"cali-{region}", region)


def test_a_bucket_of_another_account_is_refused() -> None:
    owners: list[str] = []
    with answering(200, JIN, owners=owners) as endpoint, pytest.raises(AwsError) as caught:
        Aws(SEOUL, {**KEYS, "AWS_ENDPOINT_URL": endpoint}).bucket("cali-states")
    assert caught.value.aws_code == "403"
    # S3 lets a bucket be seen that its owner has opened to all; only this condition tells whose it is.
    assert owners == ["111122223333"]


def test_a_missing_policy_is_none(aws: Aws) -> None:
    aws.create_bucket("cali-states")
    assert aws.bucket_policy("cali-states") is None


def test_an_instance_type_tells_what_it_has(aws: Aws) -> None:
    (found,) = aws.instance_types(["m6i.xlarge"])
    assert found == InstanceType("m6i.xlarge", 4, 16384, 4, 15)
    with pytest.raises(AwsError) as caught:
        aws.instance_types(["m6i.xlarge", "m9z.huge"])
    assert caught.value.aws_code == "InvalidInstanceType"
    assert "m9z.huge" in caught.value.message
