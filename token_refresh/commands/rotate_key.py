"""`rotate-key`: re-encrypt all rows with `ENCRYPTION_KEY`, so that the keys before it can go."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.base.events import audited
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.stop import Stop
from token_refresh.base.text import counted
from token_refresh.commands import patient_lock, prepare
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_allow_row_host
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.prompts import Terminal, can_ask
from token_refresh.wiring import Installation, keyring, make_job_factory, open_run_context, open_sealed

if TYPE_CHECKING:
    from token_refresh.keys.rotation import RotationResult
    from token_refresh.refresh.run_context import RunContext

_ADD_IT = "Add that key to ENCRYPTION_KEY_FALLBACKS, repeat."
_ELSEWHERE = "the journals of a run or program that is active, of other tables, or of this one before a restore,"
_END_ELSEWHERE = (
    f"Where a run, program or service is active here, repeat this after its end. Then store what waits: {TOKEN_MANAGER}"
    " recover --replay. Rotate the key of the other tables, too; of one that nobody uses any more, delete the folder in"
    " STATE_DIR."
)
_HEAD = ("row", "location", "provider", "why", "what to do")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    add_allow_row_host(parser)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Rotate, read everything back, and say done only where no other key is needed any more."""
    installation = prepare(environ, clock, console)
    agreed = [*arguments.allow_host, *(_ask_for_hosts(arguments.allow_host, installation) if can_ask() else ())]
    with (
        patient_lock(installation, console),
        open_run_context(installation) as context,
        audited(context.audit, "rotate") as used,
    ):
        result = _rotate(context, agreed, keyring(installation.settings).key_id, console)
        used.outcome = "done" if result.is_done else "unfinished"
    if console.as_json:
        console.object({"store": installation.settings.store, **result.as_json()})
    _report(result, console)
    if result.is_done and installation.settings.encryption_key_fallbacks:
        console.info(f"now remove ENCRYPTION_KEY_FALLBACKS, and check: {TOKEN_MANAGER} verify")
        console.info(
            "if an older key leaked, this does not fix it: table history, record revisions and backups keep values "
            "that it decrypts. Revoke every client at its provider, log in again, and onboard what you get"
        )
    return () if result.is_done else (Kind.ROW,)


def _ask_for_hosts(agreed: list[tuple[str, str]], installation: Installation) -> list[tuple[str, str]]:
    """What a person agrees to, row by row, before anything is locked or changed."""
    from token_refresh.keys.inspection import Inspector, consent_to_rows
    from token_refresh.net.hosts import agreement_question

    with open_sealed(installation) as store:
        inspector = Inspector(store, make_job_factory(installation, store), consent_to_rows(agreed))
        unconfirmed = list(inspector.unconfirmed(store.store.rows(complete=True)))
    if not unconfirmed:
        return []
    with Terminal() as ask:
        return [
            one.consent
            for one in unconfirmed
            if ask.yes(f"{one.location_id} ({one.provider}), encrypted for no host: {agreement_question(one.binding)}")
        ]


def _rotate(context: RunContext, agreed: list[tuple[str, str]], key_id: str, console: Console) -> RotationResult:
    from token_refresh.keys.inspection import Inspector, consent_to_rows
    from token_refresh.keys.rotation import KeyRotation
    from token_refresh.refresh.recovery import store_leftovers
    from token_refresh.terminal.report import LineReport, progress_bar

    inspector = Inspector(context.store, context.job_factory, consent_to_rows(agreed))
    rotation = KeyRotation(context, inspector, key_id)
    keys = rotation.stale_rows()
    store_leftovers(context, LineReport(console))
    stop = Stop()
    with progress_bar(console, "re-encrypting", len(keys)) as advance, ended_by(stop):
        return rotation.run(keys, advance, stop)


def _report(result: RotationResult, console: Console) -> None:
    from token_refresh.terminal.report import show_table

    if result.left and not console.as_json:
        show_table(_HEAD, [(one.row, one.location_id, one.provider, one.error, one.action) for one in result.left])
    entries = counted(result.journal_resealed, "journal entry", "journal entries")
    console.info(f"{counted(result.resealed, 'row')} and {entries} were re-encrypted")
    for old in result.journal_left:
        console.warn(f"the journal keeps answers that only key {old} decrypts", _ADD_IT)
    for old in result.elsewhere:
        console.warn(f"{_ELSEWHERE} keep answers that only key {old} decrypts", _END_ELSEWHERE)
    if result.is_done:
        console.info(f"done: key {result.key_id} alone decrypts every value, and every journal entry of this machine")
    else:
        console.warn(
            f"not done: {counted(len(result.left), 'value')} cannot be decrypted with the new key alone",
            "Keep ENCRYPTION_KEY_FALLBACKS until this is fixed.",
        )
