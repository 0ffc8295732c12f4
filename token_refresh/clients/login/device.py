"""A login on another device (RFC 8628): a code is shown, and the provider is asked until the person has agreed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from providers.authorization import device_request, device_token_request
from providers.base import Answer, parse_answer
from token_refresh.base.text import safe_error, squeezed
from token_refresh.clients.credential import Candidate
from token_refresh.clients.login.attempt import LIFETIME, NoGrantError
from token_refresh.clients.login.redemption import redeem
from token_refresh.refresh.run_context import RunContext

INTERVAL_SECONDS = 5.0  # RFC 8628 section 3.5, also what `slow_down` adds
_PENDING, _SLOW_DOWN = "authorization_pending", "slow_down"
_LONGEST_SHOWN, _A_DAY = 200, 86_400  # characters, seconds


def log_in_by_device(
    context: RunContext, candidate: Candidate, scope: str, say: Callable[[str], None], finish: Callable[..., int]
) -> int:
    """Show the code, and ask for the tokens until the person has agreed; returns the journal's entry.

    Args:
        context: what it works with.
        candidate: whose login it is.
        scope: what is asked for, as the provider writes it.
        say: shows a line.
        finish: calls what must not be cut off, with its arguments: each request may be the one that brings the tokens.

    Raises:
        ProviderError, AdmissionError: nothing came; nothing was stored.
        JournalError: nothing was sent.
    """
    begun, clock = _begun(context, candidate, scope), context.clock
    names = ("verification_uri", "user_code", "verification_uri_complete")
    address, code, whole = (squeezed(str(begun.get(name) or ""))[:_LONGEST_SHOWN] for name in names)
    say(f"On any device open {address} and enter this code: {code}")
    if whole:
        say(f"Or open: {whole}")
    ends = clock.monotonic() + min(_seconds(begun.get("expires_in"), _A_DAY), LIFETIME.total_seconds())
    interval = max(1.0, _seconds(begun.get("interval"), INTERVAL_SECONDS))
    request = device_token_request(candidate.provider, candidate.credential, begun["device_code"])
    while clock.monotonic() + interval <= ends:
        clock.sleep(interval)
        try:
            return finish(redeem, context, candidate, request, begun["device_code"])
        except NoGrantError as error:
            if error.code not in (_PENDING, _SLOW_DOWN) and not error.is_passing:
                raise
            interval += INTERVAL_SECONDS if error.code != _PENDING else 0.0
    raise NoGrantError("nobody agreed in time; nothing was stored", "Start again.")


def _begun(context: RunContext, candidate: Candidate, scope: str) -> Mapping[str, Any]:
    """The answer of RFC 8628 section 3.2."""
    raw = context.transport.post(device_request(candidate.provider, candidate.credential, scope))
    content = parse_answer(raw)[0] if not isinstance(raw, Answer) and raw.status < 300 else {}
    begun = {"verification_uri": content.get("verification_url"), **content}  # Google's earlier name
    if all(isinstance(begun.get(name), str) for name in ("device_code", "user_code", "verification_uri")):
        return begun
    answer = raw if isinstance(raw, Answer) else candidate.provider.read_answer(raw)
    said = safe_error(answer.error or "no code in its answer", candidate.credential.client_secret)
    raise NoGrantError(
        f"the provider does not begin a login by device: {said}",
        "Switch the device flow on in the app's settings, or log in with a browser: leave out --device.",
    )


def _seconds(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < _A_DAY else default
