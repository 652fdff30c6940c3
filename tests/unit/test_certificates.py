"""The sandbox's certificates hold against the strictest client that Python has."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from cali_infra.sandbox.certificates import Authority


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Speak TLS over a socket pair; raises what the client raises."""
    near, far = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(far, server_side=True).close()
        except (ssl.SSLError, OSError):
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(near, server_hostname=name).close()
    finally:
        near.close()
        thread.join(5)


def strict(ca_pem: bytes) -> ssl.SSLContext:
    """A client as Python 3.13 makes it by default."""
    context = ssl.create_default_context(cadata=ca_pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_strict_client_accepts_the_server(name: str) -> None:
    authority = Authority.create()
    handshake(authority.issue().server_context(), strict(authority.ca_pem), name)


def test_another_name_and_another_authority_are_refused() -> None:
    authority = Authority.create()
    server = authority.issue(["127.0.0.1"]).server_context()
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(server, strict(authority.ca_pem), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, strict(Authority.create().ca_pem), "127.0.0.1")


def test_the_private_key_does_not_show_in_a_representation() -> None:
    assert "PRIVATE" not in repr(Authority.create().issue())
