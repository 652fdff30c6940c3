"""The OpenSearch domains of a sandbox: each on a TLS port of its own.

`OpenSearchStandIn` is the DomainHost that the AWS stand-in calls. All domains run in one event loop; the
methods here may be called from any thread and return when the change is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from cali_infra.sandbox.certificates import Authority, now
from cali_infra.sandbox.faults import Faults
from cali_infra.sandbox.opensearch.errors import Obj
from cali_infra.sandbox.opensearch.server import Domain, Recorded
from cali_infra.sandbox.serving import Listener, ServerThread


class OpenSearchStandIn:
    """Runs the HTTP side of OpenSearch domains; `faults` makes their next requests fail.

    Plain HTTP fails in the TLS handshake.
    """

    def __init__(self, authority: Authority, clock: Callable[[], datetime] = now) -> None:
        self.faults = Faults()
        self._clock = clock
        self._context = authority.issue().server_context()
        self._thread = ServerThread("opensearch stand-in")
        self._lock = threading.Lock()
        self._domains: dict[str, tuple[Domain, Listener]] = {}

    def create(self, name: str, username: str, password: str) -> str:
        """Starts a domain with this master user; returns `host:port`, to be spoken to over https.

        A domain that is there already gets this master user and keeps its data.
        """
        with self._lock:
            if name not in self._domains:
                domain = Domain(name, username, password, self._clock, self.faults)
                self._domains[name] = domain, self._thread.serve(domain.handle, self._context)
                return self._domains[name][1].address
        self.update(name, username, password)
        return self._domains[name][1].address

    def update(self, name: str, username: str, password: str) -> None:
        """Replaces the master user. Raises LookupError for a domain that is not there."""
        domain = self._domain(name)
        self._thread.run(lambda: domain.security.set_master(username, password))

    def delete(self, name: str) -> None:
        """Stops a domain and forgets its data; a name that is not there is no error."""
        with self._lock:
            found = self._domains.pop(name, None)
        if found is not None:
            self._thread.stop(found[1])

    def leave_open(self, name: str, *holes: str) -> None:
        """Let callers in whom a domain should refuse (`any-password`, `no-password`), or, without a hole, nobody.

        Raises LookupError for a domain that is not there.
        """
        domain = self._domain(name)
        self._thread.run(lambda: setattr(domain.security, "holes", frozenset(holes)))

    def requests(self, name: str) -> list[Recorded]:
        """The latest requests to a domain, oldest first. Raises LookupError."""
        domain = self._domain(name)
        return self._thread.run(lambda: list(domain.recorded))

    def documents(self, name: str, index: str) -> list[Obj]:
        """All documents of an index expression, refreshed or not, for a test. Raises LookupError."""
        domain = self._domain(name)

        def read() -> list[Obj]:
            names = domain.indices.resolve(index, lenient=True)
            return [
                document.source
                for one in names
                for document in domain.indices.indices[one].documents.values()
            ]

        return self._thread.run(read)

    def close(self) -> None:
        """Stops every domain and the thread."""
        for name in list(self._domains):
            self.delete(name)
        self._thread.close()

    def _domain(self, name: str) -> Domain:
        with self._lock:
            if name not in self._domains:
                raise LookupError(f"the sandbox runs no domain named {name}")
            return self._domains[name][0]
