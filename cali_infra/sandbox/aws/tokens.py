"""Bearer tokens of EKS clusters: whose they are, and what the cluster's access entry gives.

A token is a presigned URL of STS' GetCallerIdentity behind a prefix, as `aws eks get-token` and cali make
it. EKS sends the URL to STS; here the signature is computed again from the secret that IAM knows. The
checks are those of aws-iam-authenticator, EKS' own: the signed cluster name, 15 minutes of life, only the
parameters of such a URL.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cali_infra.sandbox.aws.eks.access import ADMIN_POLICY
from cali_infra.sandbox.aws.eks.service import Eks
from cali_infra.sandbox.aws.eks.state import AccessEntry
from cali_infra.sandbox.aws.identity import AccessKey, Identities
from cali_infra.sandbox.ports import AccessPolicy, Caller

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
LIFETIME = timedelta(minutes=15)
# The clocks of two machines differ by some seconds; AWS allows five minutes.
LEEWAY = timedelta(minutes=5)
_ALLOWED = {
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-user-agent",
}


class TokenError(Exception):
    """A token is not one, or is not valid here; the message says why, for the sandbox's log."""


class TokenAuthenticator:
    """Authenticates the callers of clusters; implements `ports.Authenticator`."""

    def __init__(
        self,
        identities: Identities,
        eks: Eks,
        *,
        hosts: Callable[[str], bool],
        now: Callable[[], datetime],
        rejected: Callable[[str, str], None] = lambda cluster, why: None,
    ) -> None:
        """`hosts` tells whether a URL's host is STS; `rejected` hears (cluster, reason) of a refusal."""
        self._identities = identities
        self._eks = eks
        self._hosts = hosts
        self._now = now
        self._rejected = rejected

    def __call__(self, cluster: str, token: str) -> Caller | None:
        """The caller behind a token, None when the API server must answer 401."""
        try:
            key = self.verify(cluster, token)
            return self._caller(cluster, key)
        except TokenError as refusal:
            self._rejected(cluster, str(refusal))
            return None

    def verify(self, cluster: str, token: str) -> AccessKey:
        """The access key that signed a token for this cluster; raises TokenError."""
        url = urlsplit(_decode(token))
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        lower = {name.lower(): value for name, value in query.items()}
        if url.scheme not in ("http", "https") or not self._hosts(url.netloc) or url.path not in ("", "/"):
            raise TokenError(f"the token's URL is not one of STS: {url.netloc}{url.path}")
        foreign = sorted(set(lower) - _ALLOWED)
        if foreign or lower.get("action") != "GetCallerIdentity":
            raise TokenError(f"the token's URL is not GetCallerIdentity alone: {', '.join(foreign)}")
        if CLUSTER_HEADER not in lower.get("x-amz-signedheaders", "").split(";"):
            raise TokenError(f"{CLUSTER_HEADER} is not among the signed headers")
        self._check_age(lower.get("x-amz-date", ""))
        parts = lower.get("x-amz-credential", "").split("/")
        if len(parts) != 5 or parts[3] != "sts":
            raise TokenError("the credential's scope is not one of STS")
        key = self._identities.access_key(parts[0])
        if key is None:
            raise TokenError(f"the access key {parts[0]} is unknown, inactive or expired")
        if lower.get("x-amz-security-token", "") != key.session_token:
            raise TokenError("the session token is not the access key's")
        signature = query.pop("X-Amz-Signature", "")
        plain = urlunsplit(url._replace(path=url.path or "/", query=urlencode(query)))
        expected = _signature(plain, key, parts[2], lower["x-amz-date"], cluster)
        if not hmac.compare_digest(signature, expected):
            raise TokenError(
                f"the signature does not fit: another secret, or a token for another cluster than {cluster}"
            )
        return key

    def _check_age(self, stamp: str) -> None:
        try:
            made = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError as problem:
            raise TokenError(f"X-Amz-Date is not a time: {stamp!r}") from problem
        if not made - LEEWAY <= self._now() <= made + LIFETIME:
            raise TokenError(f"the token of {stamp} has expired, or its time has not come")

    def _caller(self, cluster: str, key: AccessKey) -> Caller:
        principal = key.principal
        entry = self._eks.entry(cluster, principal.arn)
        if entry is None:
            raise TokenError(f"{principal.arn} has no access entry")
        if entry.unique_id and entry.unique_id != principal.unique_id:
            raise TokenError(f"{principal.arn} was deleted and made anew since its access entry was made")
        return _caller(entry, principal.arn, principal.session)


def _caller(entry: AccessEntry, arn: str, session: str) -> Caller:
    # A session's name may hold an @, which a Kubernetes user name may too; EKS replaces it by a hyphen.
    username = entry.username.replace("{{SessionName}}", session.replace("@", "-"))
    policies = tuple(
        AccessPolicy(each.policy_arn.rsplit("/", 1)[-1], each.namespaces) for each in entry.policies
    )
    is_admin = any(each.policy_arn == ADMIN_POLICY and not each.namespaces for each in entry.policies)
    return Caller(arn, username, entry.groups, policies, is_admin)


def _decode(token: str) -> str:
    if not token.startswith(PREFIX):
        raise TokenError(f"the token does not begin with {PREFIX}")
    text = token.removeprefix(PREFIX)
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as problem:
        raise TokenError("the token is not base64 of a URL") from problem


def _signature(url: str, key: AccessKey, region: str, stamp: str, cluster: str) -> str:
    """The signature that the access key's owner gives this URL, with the cluster's name as signed header."""
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signer = SigV4QueryAuth(Credentials(key.id, key.secret), "sts", region)
    request = AWSRequest("GET", url, headers={CLUSTER_HEADER: cluster})
    request.context["timestamp"] = stamp
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))
