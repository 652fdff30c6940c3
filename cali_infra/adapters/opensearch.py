"""The one door to an OpenSearch domain, on opensearch-py.

It owns the connection, its bounded retries and the typed error; bodies go out and come back as the REST API
carries them. What an index template or a role has to say is `core/index.py`'s.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cali_infra.errors import OpenSearchError

if TYPE_CHECKING:
    import opensearchpy
    from pydantic import SecretStr
    from tenacity import RetryCallState

# One request, in seconds.
TIMEOUT = 30.0
# For how many seconds a domain that is busy or cannot be reached is asked again.
PATIENCE = 60.0
_BUSY = frozenset({429, 502, 503, 504})
_SECURITY = "/_plugins/_security/api"
_RETENTION = "/_plugins/_ism"
_POLICY_OF_INDEX = "index.plugins.index_state_management.policy_id"
# The longest request line that a domain takes has 4,096 bytes, and an index prefix has up to 64.
_INDICES_AT_ONCE = 40

# A port that nobody listens on may swallow the request.
_PLAIN_TIMEOUT = 5.0

# Connections that are kept for requests at the same time.
_CONNECTIONS = 10

Body = dict[str, Any]
Params = Mapping[str, int | str]


class _TryAgainError(Exception):
    """A request that may well work when it is sent again; carries the error to raise when it does not."""

    def __init__(self, error: OpenSearchError) -> None:
        super().__init__(error.message)
        self.error = error


class OpenSearch:
    """A connection to one domain as one user; safe to use from several threads.

    `endpoint` is `host` or `host:port`, always spoken to over https; `ca_file` the authority behind its
    certificate, where that is none of the public ones.
    """

    def __init__(
        self,
        endpoint: str,
        user: str,
        password: SecretStr,
        ca_file: Path | None = None,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        host, _, port = endpoint.partition(":")
        self.endpoint = endpoint
        self._host, self._port = host, int(port or 443)
        self._user, self._password = user, password
        self._ca_file = ca_file
        self._patience, self._clock, self._sleep, self._jitter = patience, clock, sleep, jitter
        self._client = self._connect(user, password)

    def info(self) -> Body:
        """What the domain says of itself: its name and version."""
        return self._request("GET", "/")

    def health(self) -> str:
        """green, yellow or red."""
        return str(self.cluster_health()["status"])

    def cluster_health(self) -> Body:
        """The cluster's `status` (green, yellow or red) with the counts of its nodes and shards."""
        return self._request("GET", "/_cluster/health")

    def accepts_anybody(self) -> bool:
        """Whether the domain lets a caller in who gives no password; one request."""
        try:
            self._request("GET", "/", client=self._connect())
        except OpenSearchError as error:
            if error.status in (401, 403):
                return False
            raise
        return True

    def answers_plain_http(self) -> bool:
        """Whether the domain takes a request without TLS, on port 80 or on its own port where that has a number.

        No password is sent. To be turned away (no connection, a redirection, 403) is to be refused; a demand for a
        password is not.
        """
        import urllib3

        port = self._port if ":" in self.endpoint else 80
        try:
            with urllib3.HTTPConnectionPool(self._host, port, retries=False, timeout=_PLAIN_TIMEOUT) as pool:
                status = pool.request("GET", "/", redirect=False).status
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        return status < 300 or status == 401

    def may_search(self, index: str) -> bool:
        """Whether this user may search an index, which need not exist; nothing is read."""
        return self._may("POST", f"/{_path(index)}/_search", {"size": 0})

    def may_write(self, index: str) -> bool:
        """Whether this user may write to an index that does not exist; nothing is written.

        The domain looks at the user's rights first, and then refuses what demands an alias where there is none.
        """
        return self._may("POST", f"/{_path(index)}/_doc", {}, {"require_alias": "true"})

    def refresh(self, pattern: str) -> None:
        """Show to searches what was written to the indices of a pattern up to now."""
        path = f"/{quote(pattern, safe='*,')}/_refresh"
        self._request("POST", path, params={"ignore_unavailable": "true", "allow_no_indices": "true"})

    def search(self, pattern: str, body: Body) -> Body:
        """A search over the indices of a pattern; one that fits none finds nothing."""
        path = f"/{quote(pattern, safe='*,')}/_search"
        return self._request("POST", path, body, {"ignore_unavailable": "true", "allow_no_indices": "true"})

    def accepts(self, user: str, password: SecretStr) -> bool:
        """Whether the domain lets this user in with this password; one request."""
        try:
            self._request("GET", "/", client=self._connect(user, password))
        except OpenSearchError as error:
            # Who is let in but may not ask for the version has the right password.
            if error.status in (401, 403):
                return error.status == 403
            raise
        return True

    def template(self, name: str) -> Body | None:
        """The index template of this name, or None."""
        found = self._find(f"/_index_template/{_path(name)}")
        templates = (found or {}).get("index_templates") or []
        return templates[0]["index_template"] if templates else None

    def put_template(self, name: str, body: Body) -> None:
        """Make or replace an index template; indices that exist keep what they were made with."""
        self._request("PUT", f"/_index_template/{_path(name)}", body)

    def mapping(self, index: str) -> Body:
        """The mapping of one index: its fields and their types."""
        found = self._request("GET", f"/{_path(index)}/_mapping")
        return dict(found[index]["mappings"])

    def policy(self, name: str) -> tuple[Body, dict[str, int]] | None:
        """The index state policy of this name with the version that a replacement has to name, or None."""
        found = self._find(f"{_RETENTION}/policies/{_path(name)}")
        if found is None:
            return None
        version = {"if_seq_no": int(found["_seq_no"]), "if_primary_term": int(found["_primary_term"])}
        return found["policy"], version

    def put_policy(self, name: str, policy: Body, version: dict[str, int] | None = None) -> None:
        """Make an index state policy, or replace the one of this version."""
        self._request("PUT", f"{_RETENTION}/policies/{_path(name)}", {"policy": policy}, version)

    def renew_policy(self, name: str, pattern: str) -> dict[str, str]:
        """Give the indices that have this policy its newest version; by themselves they keep the one they got.

        Returns, by index, why one of the pattern will not follow the policy. An index with a policy of somebody
        else's, or with none, is left as it is: it may be there to be kept. Source: the chapter "Managed indexes"
        of the OpenSearch documentation.
        """
        policies = self.policies_of(pattern)
        left = {index: "it has no policy" for index, policy in policies.items() if policy is None}
        ours = sorted(index for index, policy in policies.items() if policy == name)
        for start in range(0, len(ours), _INDICES_AT_ONCE):
            indices = ",".join(map(_path, ours[start : start + _INDICES_AT_ONCE]))
            # It answers 200 for the indices that it refuses, too.
            answer = self._request("POST", f"{_RETENTION}/change_policy/{indices}", {"policy_id": name})
            left |= {one["index_name"]: str(one["reason"]) for one in answer.get("failed_indices") or ()}
        return left

    def policies_of(self, pattern: str) -> dict[str, str | None]:
        """Which index state policy each index of a pattern follows; None is none."""
        found = self._find(f"{_RETENTION}/explain/{quote(pattern, safe='*')}") or {}
        # Beside the indices the answer holds a count.
        return {index: one.get(_POLICY_OF_INDEX) for index, one in found.items() if isinstance(one, dict)}

    def role(self, name: str) -> Body | None:
        """The role of this name, or None."""
        return self._named(f"{_SECURITY}/roles/{_path(name)}", name)

    def put_role(self, name: str, body: Body) -> None:
        """Make or replace a role."""
        self._request("PUT", f"{_SECURITY}/roles/{_path(name)}", body)

    def role_mapping(self, role: str) -> Body | None:
        """Who has this role, or None."""
        return self._named(f"{_SECURITY}/rolesmapping/{_path(role)}", role)

    def put_role_mapping(self, role: str, body: Body) -> None:
        """Say who has a role, instead of whoever had it."""
        self._request("PUT", f"{_SECURITY}/rolesmapping/{_path(role)}", body)

    def user(self, name: str) -> Body | None:
        """The internal user of this name, without its password, or None."""
        return self._named(f"{_SECURITY}/internalusers/{_path(name)}", name)

    def users(self) -> dict[str, Body]:
        """Every internal user by its name, without passwords."""
        return self._request("GET", f"{_SECURITY}/internalusers")

    def delete_user(self, name: str) -> bool:
        """Delete an internal user; False where there was none."""
        try:
            self._request("DELETE", f"{_SECURITY}/internalusers/{_path(name)}")
        except OpenSearchError as error:
            if error.status == 404:
                return False
            raise
        return True

    def put_user(self, name: str, password: SecretStr, body: Body) -> None:
        """Make or replace an internal user."""
        filled = {**body, "password": password.get_secret_value()}
        self._request("PUT", f"{_SECURITY}/internalusers/{_path(name)}", filled)

    # -- requests ---------------------------------------------------------------------------------------

    def _may(self, method: str, path: str, body: Body, params: Params | None = None) -> bool:
        try:
            self._request(method, path, body, params)
        except OpenSearchError as error:
            # What is not there is told to those only who may ask for it.
            if error.status in (403, 404):
                return error.status == 404
            raise
        return True

    def _named(self, path: str, name: str) -> Body | None:
        found = self._find(path)
        return None if found is None else found.get(name)

    def _find(self, path: str) -> Body | None:
        try:
            return self._request("GET", path)
        except OpenSearchError as error:
            if error.status == 404:
                return None
            raise

    def _request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        params: Params | None = None,
        *,
        client: opensearchpy.OpenSearch | None = None,
    ) -> Body:
        from tenacity import Retrying, retry_if_exception_type

        started = self._clock()

        def give_up(state: RetryCallState) -> bool:
            return self._clock() - started + state.upcoming_sleep > self._patience

        def wait(state: RetryCallState) -> float:
            return float(min(0.5 * 2 ** (state.attempt_number - 1), 10.0) * (0.5 + self._jitter() / 2))

        retrying = Retrying(
            retry=retry_if_exception_type(_TryAgainError),
            stop=give_up,
            wait=wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._once, client or self._client, method, path, body, params)
        except _TryAgainError as again:
            raise again.error from again.__cause__

    def _once(
        self,
        client: opensearchpy.OpenSearch,
        method: str,
        path: str,
        body: Body | None,
        params: Params | None,
    ) -> Body:
        from opensearchpy import exceptions

        try:
            answer = client.transport.perform_request(method, path, params=params, body=body)
        except exceptions.SSLError as error:
            # A connection that is cut while TLS begins is one of these as well.
            if "CERTIFICATE" in str(error).upper():
                raise self._unsafe(error) from error
            raise _TryAgainError(self._unreachable(error)) from error
        except exceptions.ConnectionError as error:
            raise _TryAgainError(self._unreachable(error)) from error
        except exceptions.TransportError as error:
            refused = self._refused(error, method, path)
            if error.status_code in _BUSY:
                raise _TryAgainError(refused) from error
            raise refused from error
        except exceptions.SerializationError as error:
            raise self._not_json(method, path) from error
        if not isinstance(answer, dict):
            raise self._not_json(method, path)
        return answer

    def _connect(self, user: str = "", password: SecretStr | None = None) -> opensearchpy.OpenSearch:
        import opensearchpy

        class QuietConnection(opensearchpy.Urllib3HttpConnection):
            """Says nothing by itself: bodies hold passwords, and a 404 is an answer, no warning."""

            def log_request_success(self, *args: Any, **kwargs: Any) -> None: ...

            def log_request_fail(self, *args: Any, **kwargs: Any) -> None: ...

        return opensearchpy.OpenSearch(
            hosts=[{"host": self._host, "port": self._port}],
            http_auth=(user, password.get_secret_value()) if password is not None else None,
            connection_class=QuietConnection,
            use_ssl=True,
            verify_certs=True,
            ca_certs=str(self._ca_file) if self._ca_file else None,
            timeout=TIMEOUT,
            pool_maxsize=_CONNECTIONS,
            # Retries are counted in one place, above.
            max_retries=0,
            retry_on_timeout=False,
        )

    def _not_json(self, method: str, path: str) -> OpenSearchError:
        return OpenSearchError(
            f"{self.endpoint} answered {method} {path} with something other than JSON",
            remedy="check that the endpoint is an OpenSearch domain and no proxy answers for it",
        )

    def _unsafe(self, error: Exception) -> OpenSearchError:
        return OpenSearchError(
            f"the certificate of {self.endpoint} is not trusted: {_words(error)}",
            remedy="check that nothing between here and the domain opens TLS, and that the endpoint is the "
            "domain's own",
        )

    def _unreachable(self, error: Exception) -> OpenSearchError:
        return OpenSearchError(
            f"the domain at {self.endpoint} cannot be reached: {_words(error)}",
            remedy="check that the domain is active and that your address is in allowed_cidrs of cali.yaml",
        )

    def _refused(self, error: Any, method: str, path: str) -> OpenSearchError:
        status = int(error.status_code)
        if status == 401:
            return OpenSearchError(
                f"the domain at {self.endpoint} does not accept the password of {self._user}",
                status=status,
                remedy="opensearch.master_password of secrets.yaml is not what the domain has: put the right one "
                "there, or run `cali up search` to give the domain this one",
            )
        text = (
            f"the domain at {self.endpoint} refused {method} {path}: {status} {_reason(error.info)}".rstrip()
        )
        if status == 403:
            return OpenSearchError(
                text,
                status=status,
                remedy="check that your address is in allowed_cidrs of cali.yaml (then run `cali up search`), and "
                f"that {self._user} may do this",
            )
        remedy = "run the command again in a moment" if status in _BUSY or status >= 500 else ""
        return OpenSearchError(text, status=status, remedy=remedy)


def _path(name: str) -> str:
    return quote(name, safe="")


def _words(error: Any) -> str:
    """What went wrong, without the client's own frame around it."""
    return str(getattr(error, "info", None) or getattr(error, "error", None) or error).strip()[:300]


def _reason(info: Any) -> str:
    """The reason in an answer: the security API says `message` or `reason`, the others an `error` object."""
    if isinstance(info, dict):
        error = info.get("error")
        if isinstance(error, dict):
            return str(error.get("reason") or error.get("type") or "")
        found = info.get("message") or info.get("Message") or info.get("reason") or error
        return str(found or "")
    return str(info or "").strip()[:300]
