"""What an answer means for its row, and what may be said of it."""

from __future__ import annotations

from providers.base import Rotation, Verdict
from token_refresh.base.events import Outcome

_OUTCOMES = {
    Verdict.GRANTED: Outcome.REFRESHED,
    Verdict.DEAD_GRANT: Outcome.REAUTHORIZE,
    Verdict.CLIENT_REFUSED: Outcome.OPERATOR,
    Verdict.REQUEST_REFUSED: Outcome.OPERATOR,
    Verdict.NOT_ACTED: Outcome.TRANSIENT,
    Verdict.UNREAD: Outcome.OPERATOR,
}
_ACTIONS = {
    Outcome.TRANSIENT: "Nothing to do if it passes: the next run tries again.",
    Outcome.UNKNOWN: "Nothing to do now: the next run tries again, and the old access token stays in place.",
    Outcome.REAUTHORIZE: "A person must log in again: connect the account again, then run `python onboard_client.py`.",
    Outcome.OPERATOR: "Correct the row, or onboard it again with `python onboard_client.py`.",
}
_VERDICT_ACTIONS = {
    Verdict.CLIENT_REFUSED: (
        "Correct client_id and client secret of this app (python onboard_client.py); its rows were left alone."
    ),
    Verdict.UNREAD: (
        "Report the provider and how its answer looks. To send the same refresh token once more: "
        "python token_manager.py recover --resend LOCATION. To give the answer up: recover --discard LOCATION."
    ),
}


def outcome_of(verdict: Verdict, rotates: Rotation) -> Outcome:
    """What a verdict means for the row. An unclear answer is harmless where refresh tokens never change."""
    if verdict is Verdict.UNCLEAR:
        return Outcome.TRANSIENT if rotates == "never" else Outcome.UNKNOWN
    return _OUTCOMES[verdict]


def action_of(outcome: Outcome, verdict: Verdict) -> str | None:
    """What to do about an outcome, where the provider has no better advice; None on success."""
    return _VERDICT_ACTIONS.get(verdict) or _ACTIONS.get(outcome)
