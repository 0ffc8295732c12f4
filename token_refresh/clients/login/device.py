"""A login on another device (RFC 8628): a code is shown, and the provider is asked until the person has agreed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.authorization import device_request, device_token_request
from providers.base import Answer, RawAnswer, parse_answer
from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import safe_error, squeezed
from token_refresh.clients.login.attempt import LIFETIME
from token_refresh.clients.login.redemption import NoGrantError, Redemption

INTERVAL_SECONDS = 5.0  # RFC 8628 section 3.5, also what `slow_down` adds
_PENDING, _SLOW_DOWN = "authorization_pending", "slow_down"
_LONGEST_SHOWN = 200
_A_DAY = 86_400


class DeviceLoginError(ActionableError):
    """The provider does not begin such a login, or it ended without a yes."""

    kind = Kind.ROW


@dataclass(frozen=True)
class _Begun:
    device_code: str = field(repr=False)
    user_code: str
    address: str
    complete_address: str
    lives_seconds: float
    interval_seconds: float


def wait_for_device(
    redemption: Redemption, scope: str, say: Callable[[str], None], clock: Clock
) -> tuple[int, RawAnswer]:
    """Show the code, and ask for the tokens until the person has agreed; returns the journal's entry and the answer.

    Raises:
        ProviderError, DeviceLoginError, NoGrantError: nothing came; nothing was stored.
        JournalError: nothing was sent.
    """
    begun = _begin(redemption, scope)
    say(f"On any device open {begun.address} and enter this code: {begun.user_code}")
    if begun.complete_address:
        say(f"Or open: {begun.complete_address}")
    ends = clock.monotonic() + min(begun.lives_seconds, LIFETIME.total_seconds())
    interval = begun.interval_seconds
    while clock.monotonic() + interval <= ends:
        clock.sleep(interval)
        try:
            request = device_token_request(redemption.provider, redemption.credential, begun.device_code)
            return redemption.redeem(request, begun.device_code)
        except NoGrantError as error:
            if error.code not in (_PENDING, _SLOW_DOWN) and not error.is_passing:
                raise
            interval += INTERVAL_SECONDS if error.code != _PENDING else 0.0
    raise DeviceLoginError("nobody agreed in time; nothing was stored", "Start again.")


def _begin(redemption: Redemption, scope: str) -> _Begun:
    raw = redemption.ask_openly(device_request(redemption.provider, redemption.credential, scope))
    content: Mapping[str, Any] = {}
    if not isinstance(raw, Answer):
        content = parse_answer(raw)[0] if raw.status < 300 else {}
    device_code, user_code = content.get("device_code"), content.get("user_code")
    address = content.get("verification_uri") or content.get("verification_url")  # Google's earlier name
    if not (isinstance(device_code, str) and isinstance(user_code, str) and isinstance(address, str)):
        said = raw.error if isinstance(raw, Answer) else redemption.provider.read_answer(raw).error
        said = safe_error(said or "no code in its answer", redemption.credential.client_secret)
        raise DeviceLoginError(
            f"the provider does not begin a login by device: {said}",
            "Switch the device flow on in the app's settings, or log in with a browser: leave out --device.",
        )
    complete = content.get("verification_uri_complete")
    return _Begun(
        device_code,
        squeezed(user_code)[:_LONGEST_SHOWN],
        squeezed(address)[:_LONGEST_SHOWN],
        squeezed(complete)[:_LONGEST_SHOWN] if isinstance(complete, str) else "",
        _seconds(content.get("expires_in"), LIFETIME.total_seconds()),
        max(1.0, _seconds(content.get("interval"), INTERVAL_SECONDS)),
    )


def _seconds(value: object, default: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return default
    return float(value) if 0 < value < _A_DAY else default
