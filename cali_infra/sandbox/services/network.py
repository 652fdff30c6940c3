"""The network of pods, for a process that the sandbox runs in place of one: names of Services lead to stand-ins.

It is a proxy for plain HTTP: a request for `http://SERVICE.NAMESPACE[.svc[.cluster.local]]:PORT/...` goes to the
server behind that port. A name that is no Service of the cluster, or has nobody to answer, is a 502 and the reason.
TLS through it (CONNECT) is not modelled: what is spoken to by TLS here is on loopback and needs no proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import urllib3

from cali_infra.sandbox.services.http import HOST, Answer, LoopbackServer, Request

_TIMEOUT = 30.0
# What belongs to one connection and is not handed on.
_OWN = frozenset(
    {"connection", "proxy-connection", "keep-alive", "content-length", "transfer-encoding", "host"}
)

# The server behind a port of a Service, by namespace, name and port, or in words why there is none.
Find = Callable[[str, str, int], tuple[str, int] | str]


class PodNetwork:
    """The network of one cluster."""

    def __init__(self, find: Find, ca_file: str) -> None:
        self._find, self._ca_file = find, ca_file
        self._server = LoopbackServer("pod network", self._answer)

    def environ(self) -> Mapping[str, str]:
        """What a process needs to reach the Services by their names, and to trust the sandbox's authority."""
        here = f"{HOST},localhost"
        return {
            "http_proxy": self._server.url,
            "no_proxy": here,
            "NO_PROXY": here,
            "SSL_CERT_FILE": self._ca_file,
        }

    def close(self) -> None:
        self._server.close()

    def _answer(self, request: Request) -> Answer:
        if request.method == "CONNECT":
            return Answer(501, {"message": "cali's network of pods does not model CONNECT"})
        url = urlsplit(request.target)
        if url.scheme != "http" or not url.hostname:
            return Answer(
                501, {"message": "cali's network of pods is a proxy: it takes requests for http:// only"}
            )
        service, _, rest = url.hostname.partition(".")
        namespace, _, domain = rest.partition(".")
        if not namespace or domain not in ("", "svc", "svc.cluster.local"):
            return Answer(502, {"message": f"{url.hostname} is no name of a Service in this cluster"})
        found = self._find(namespace, service, url.port or 80)
        if isinstance(found, str):
            return Answer(502, {"message": found})
        path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        headers = {key: value for key, value in request.headers.items() if key not in _OWN}
        try:
            with urllib3.HTTPConnectionPool(*found, retries=False, timeout=_TIMEOUT) as pool:
                answer = pool.request(
                    request.method, path, body=request.body or None, headers=headers, redirect=False
                )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return Answer(502, {"message": f"{url.hostname}: {error}"})
        given = {
            key: value
            for key, value in answer.headers.items()
            if key.lower() not in (*_OWN, "date", "server")
        }
        return Answer(answer.status, answer.data, given)
