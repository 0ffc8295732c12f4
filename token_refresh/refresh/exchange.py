"""One token request, so that no answer is lost: each step is on the disk before the next one is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from crypto import Context
from providers.base import Answer, Provider, RawAnswer, TokenRequest
from token_refresh.journal.entries import Journal
from token_refresh.journal.file import JournalError
from token_refresh.net.transport import Transport

T = TypeVar("T")


def exchange(
    journal: Journal,
    transport: Transport,
    request: TokenRequest,
    read: Callable[[RawAnswer], T],
    context: Context,
    note_intent: Callable[[], int],
) -> tuple[int, T | Answer, JournalError | None]:
    """Send a request that may bring tokens: intent on the disk, request, answer kept sealed, and only then read.

    Args:
        request: with the token, or the code of a login, that is used up by it.
        read: makes of the answer what it means.
        context: what the kept answer is bound to: location and origin.
        note_intent: notes durably that the request is about to leave, in a new journal entry or in one that there is
            (`Journal.intend`, `admit`, `send_again`); returns the entry.

    Returns:
        the entry, the answer, and, where the journal does not hold it, why: a full disk. The answer counts all the
        same, and the store may have room for it; but nothing new may be sent. See `Journal.not_saved`.

    Raises:
        JournalError: the intent could not be noted: nothing was sent.
    """
    entry_id = note_intent()
    raw = transport.post(request)
    if isinstance(raw, Answer):
        return entry_id, raw, None
    not_saved = None
    try:
        journal.keep(entry_id, raw, context)
    except JournalError as error:
        not_saved = error
    return entry_id, read(raw), not_saved


def kept_pair(journal: Journal, provider: Provider, entry_id: int | None, sent: str) -> Answer | None:
    """What came for `sent`, the token of an entry, before it was refused: its successor, not known to work.

    A pair in a 5xx, or a token alone. None where there is none, or it was refused, too.
    """
    for entry in journal.entries():
        for raw in journal.answers(entry) if entry.id == entry_id else ():
            found = provider.pair_in(raw) or provider.read_answer(raw)
            token = found.refresh_token or sent
            if token != sent and not journal.is_refuted(entry, token):
                return found
    return None
