"""Servers that speak byte for byte, in the clear or under TLS: for what no well-behaved server would ever say."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class RawServer:
    """Accepts connections on loopback and hands each to `talk`, in a thread of its own.

    Args:
        talk: speaks byte for byte, so that it may say what no server library would.
        family: IPv4 or IPv6.
    """

    talk: Callable[[socket.socket], object]
    family: int = socket.AF_INET
    accepted: int = 0
    received: bytearray = field(default_factory=bytearray)

    def __enter__(self) -> RawServer:
        host = "::1" if self.family == socket.AF_INET6 else "127.0.0.1"
        self._listener = socket.create_server((host, 0), family=self.family)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/token"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self.talk(sock)

    def read_request(self, sock: socket.socket) -> None:
        """Wait for one whole request."""
        got = b""
        while not _is_whole(got):
            part = sock.recv(65_536)
            if not part:
                return
            got += part
            self.received += part


@contextlib.contextmanager
def silent_server() -> Iterator[RawServer]:
    """Accepts connections, and never says a word."""
    ended = threading.Event()
    with RawServer(lambda _: not ended.wait()) as server:
        yield server
        ended.set()


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of this test run, and a server certificate for 127.0.0.1 and localhost.

    `bundle` is what clients trust; `server` is what a server speaks with.
    """

    bundle: Path
    server: ssl.SSLContext


def _certificate(name: str, key: Any, issuer: Any, signer: Any, *extensions: Any) -> Any:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, hashes.SHA256())


def make_authority(folder: Path, name: str = "test authority") -> Authority:
    """A new authority, whose files lie in `folder`."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _certificate(name, ca_key, None, ca_key, x509.BasicConstraints(ca=True, path_length=None))
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    leaf = _certificate("localhost", key, ca.subject, ca_key, x509.SubjectAlternativeName(names))
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + leaf.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return Authority(folder / "ca.pem", context)


@contextlib.contextmanager
def serving_tls(authority: Authority, talk: Callable[[ssl.SSLSocket], None]) -> Iterator[RawServer]:
    """A `RawServer` under TLS."""

    def talk_tls(sock: socket.socket) -> None:
        with authority.server.wrap_socket(sock, server_side=True) as secured:
            talk(secured)

    with RawServer(talk_tls) as server:
        server.url = f"https://127.0.0.1:{server.port}/token"
        yield server
