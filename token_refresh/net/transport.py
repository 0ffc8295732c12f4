"""One POST to a token endpoint: no redirects, nothing ambient, bounded in time and size.

Where no complete answer came, one question decides: can the provider have acted on the request?
"""

from __future__ import annotations

import contextlib
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import requests
import urllib3

from providers.base import Answer, RawAnswer, TokenRequest, Verdict
from token_refresh.base.clock import Clock
from token_refresh.net import tls
from token_refresh.net.hosts import PrivateAddressError, host_of, may_be_public
from token_refresh.net.watchdog import Watch, Watchdog, WatchedAdapter

CONNECT_SECONDS = 10.0
EXCHANGE_SECONDS = 90.0
MAX_BODY_BYTES = 1024 * 1024
USER_AGENT = "token-refresh"

_CHUNK_BYTES = 64 * 1024


_PRIVATE = Answer(
    Verdict.REQUEST_REFUSED,
    error="the row's host is not on the public internet",
    action="Correct the host in the row's provider_params, or list it in ALLOWED_PRIVATE_HOSTS.",
)


class Transport(Protocol):
    """What sends a token request."""

    def post(self, request: TokenRequest) -> RawAnswer | Answer:
        """Send it once. Never raises for anything that the network or the provider does.

        Returns:
            the complete answer, to be read; an `Answer` where none came. That is `UNCLEAR` where the request, or part
            of it, had left, `NOT_ACTED` where nothing had, and `REQUEST_REFUSED` where nothing ever will.
        """


class HTTPTransport:
    """See `Transport`; used by many threads.

    Args:
        clock: stamps answers.
        connections: how many threads use it.
        proxy: `https://…` proxy for all requests; none is taken from the environment.
        ca_bundle: certificates to trust instead of the usual ones.
        private_hosts: `host`, or `host:port` where the port is not the default, that a row may name although it is
            not on the public internet.
        exchange_seconds: the limit of one whole exchange.
    """

    def __init__(
        self,
        clock: Clock,
        connections: int,
        proxy: str | None = None,
        ca_bundle: Path | None = None,
        private_hosts: frozenset[str] = frozenset(),
        exchange_seconds: float = EXCHANGE_SECONDS,
    ) -> None:
        self._clock = clock
        self._watchdog = Watchdog(exchange_seconds)
        self._seconds = exchange_seconds
        self._private_hosts = private_hosts
        self._proxy = proxy
        self._session = tls.make_session(WatchedAdapter(ca_bundle, connections), proxy)

    def post(self, request: TokenRequest) -> RawAnswer | Answer:
        """See `Transport.post`."""
        watch, seconds = Watch(), min(self._seconds, request.seconds or self._seconds)
        try:
            with self._watchdog.guarding(watch, seconds):
                self._limit(watch, request)
                return self._exchange(request)
        except PrivateAddressError:
            return _PRIVATE
        except Exception as error:  # whatever it is, the request may have left, and only this row is concerned
            verdict = Verdict.UNCLEAR if watch.may_have_acted else Verdict.NOT_ACTED
            return Answer(verdict, error=_reason(error, watch, seconds))

    def close(self) -> None:
        """Release connections and the watching thread; no exchange may be under way."""
        self._session.close()
        self._watchdog.close()

    def _limit(self, watch: Watch, request: TokenRequest) -> None:
        """Keep a request whose host the table supplied on the public internet."""
        parts = urlsplit(request.url)
        watch.public_only = not (request.host_is_fixed or host_of(request.url) in self._private_hosts)
        if watch.public_only and self._proxy and parts.scheme == "https":
            # The proxy looks the name up, so only an address in the request itself can be judged.
            watch.public_only = False
            if not may_be_public(parts.hostname or ""):
                raise PrivateAddressError

    def _exchange(self, request: TokenRequest) -> RawAnswer:
        url, body = request.url, request.body
        if request.method == "GET":
            url, body = f"{url}?{body.decode('ascii')}" if body else url, b""
        prepared = requests.Request(request.method, url, dict(request.headers), data=body).prepare()
        prepared.headers["User-Agent"] = USER_AGENT
        with self._session.send(
            prepared,
            timeout=(min(CONNECT_SECONDS, self._seconds), None),  # the watchdog alone ends what takes too long
            allow_redirects=False,
            stream=True,
            verify=True,
            proxies=self._session.proxies,
        ) as response:
            body, is_complete = _read(response)
            headers = {name.lower(): value for name, value in response.headers.items() if name.lower() in _KEPT_HEADERS}
            return RawAnswer(response.status_code, headers, body, self._clock.now(), is_complete)


_KEPT_HEADERS = ("content-type", "retry-after", "date", "location")


def _read(response: requests.Response) -> tuple[bytes, bool]:
    """What came of the body, at most 1 MiB, and whether it came to its announced length or to its last chunk.

    A body that breaks off is kept as far as it came: it is evidence, and whether it can be read is decided later.
    requests and urllib3 would drop the part before the break, and what does not unpack.
    """
    body, is_complete = bytearray(), False
    with contextlib.suppress(urllib3.exceptions.HTTPError, HTTPException, OSError):
        while len(body) < MAX_BODY_BYTES and (part := response.raw.read1(_CHUNK_BYTES, decode_content=False)):
            body += part
        is_complete = len(body) < MAX_BODY_BYTES and _has_ended(response)
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing not in ("gzip", "x-gzip", "deflate"):
        return bytes(body[:MAX_BODY_BYTES]), is_complete
    unpacked, is_whole = _unpacked(bytes(body))
    return unpacked[:MAX_BODY_BYTES], is_complete and is_whole


def _has_ended(response: requests.Response) -> bool:
    """Whether a body that was read without an error came to the end that was announced."""
    # Beside other codings http.client reads a chunked body like one that the end of the connection ends.
    if response.headers.get("Transfer-Encoding", "").strip().lower() == "chunked":
        return True
    return "Transfer-Encoding" not in response.headers and response.raw.length_remaining == 0


def _unpacked(body: bytes) -> tuple[bytes, bool]:
    """The body without the packing that nobody asked for, and whether that came to its end.

    As it came where it is not what it claims to be.
    """
    unpacked, rest, is_whole = bytearray(), body, True
    with contextlib.suppress(zlib.error):
        while rest and len(unpacked) < MAX_BODY_BYTES:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # of gzip or zlib
            is_whole = False
            unpacked += unpacker.decompress(rest, MAX_BODY_BYTES - len(unpacked))
            rest, is_whole = unpacker.unused_data, unpacker.eof
    return (bytes(unpacked), is_whole and not rest) if unpacked or is_whole else (body, True)


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (requests.exceptions.SSLError, "the provider's certificate is not accepted, or it speaks no TLS"),
    (tls.CertificatesError, tls.NO_CERTIFICATES),
    (requests.exceptions.ProxyError, "no connection through the proxy"),
    (requests.exceptions.InvalidURL, "the provider's address cannot be used"),
    (urllib3.exceptions.LocationValueError, "the provider's address cannot be used"),
    (RuntimeError, "the system starts no more threads, so nothing was sent"),
)


def _reason(error: Exception, watch: Watch, seconds: float) -> str:
    if watch.is_aborted:
        return f"no complete {'answer' if watch.may_have_acted else 'connection'} within {seconds:g} s"
    if watch.may_have_acted:
        return f"the answer was lost ({type(error).__name__})"
    return next((words for kind, words in _REASONS if isinstance(error, kind)), "no connection to the provider")
