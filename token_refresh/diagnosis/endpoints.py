"""Whether token endpoints answer at all, and what time it is there. No credential is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from token_refresh.base.checks import BAD, GOOD, Check
from token_refresh.base.clock import Clock
from token_refresh.net import tls

CLOCK_SECONDS = 60  # a clock further off refreshes too late
REACH_SECONDS = 10


def check_endpoints(
    endpoints: Mapping[str, str], clock: Clock, proxy: str | None, ca_bundle: Path | None, unreachable: str = BAD
) -> Iterator[Check]:
    """Knock at each endpoint (URL: its provider's name), and compare our clock with the first that tells the time.

    `unreachable` is the state of one that does not answer.
    """
    theirs: datetime | None = None
    for url, name in endpoints.items():
        answer = _date_at(url, proxy, ca_bundle)
        if isinstance(answer, str):
            what = f"{name} cannot be reached: {answer}"
            yield Check("provider", unreachable, what, "Check network, proxy and CA_BUNDLE.")
            continue
        yield Check("provider", GOOD, f"{name} answers")
        theirs = theirs or answer
    if theirs is not None:
        yield check_clock(theirs, clock.now())


def check_clock(theirs: datetime, ours: datetime, whose: str = "the provider's") -> Check:
    """Our clock against another one."""
    off = abs((ours - theirs).total_seconds())
    if off > CLOCK_SECONDS:
        what = f"this machine's clock is {off:.0f} s off {whose}"
        return Check("clock", BAD, what, "Switch on time synchronisation (NTP).")
    return Check("clock", GOOD, f"agrees with {whose}")


def _date_at(url: str, proxy: str | None, ca_bundle: Path | None) -> datetime | str | None:
    """The server's time; a reason where it does not answer."""
    adapter = tls.Adapter(ca_bundle, connections=1)
    try:
        with (
            tls.make_session(adapter, proxy) as session,
            session.get(url, timeout=REACH_SECONDS, allow_redirects=False, stream=True) as answer,
        ):
            date = answer.headers.get("Date")
        moment = parsedate_to_datetime(date) if date else None
    except requests.RequestException as error:
        return type(error).__name__
    except tls.CertificatesError as error:
        return str(error)
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
