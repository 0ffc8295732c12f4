"""`rotate-key`: everything is sealed anew under `ENCRYPTION_KEY`, so that the keys before it can go."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.commands.verify import finding_object, refuse_wrong_key
from token_refresh.terminal.console import Talk
from token_refresh.terminal.process import ended_by
from token_refresh.wiring import Context, keyring, open_parts, prepare

if TYPE_CHECKING:
    from token_refresh.keys.inspection import Finding, Inspector, Survey
    from token_refresh.keys.rotation import Rotator
    from token_refresh.refresh.parts import Parts

_HEAD = ("row", "location", "provider", "why", "what to do")
_AGAIN = "Run it again: python token_manager.py rotate-key"


@dataclass
class Outcome:
    """How a rotation ended.

    Attributes:
        left: rows that still need another key, and why.
        journal_left: keys that journal entries still need.
    """

    resealed: int = 0
    journal_resealed: int = 0
    left: list[Finding] = field(default_factory=list)
    journal_left: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether the key in force opens everything."""
        return not self.left and not self.journal_left


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """Rotate, read everything back, and say done only where no other key is needed any more."""
    context = prepare(environ, clock, talk)
    with context.patient_lock(talk), open_parts(context) as parts:
        outcome = _rotate(arguments, context, parts, talk)
    _report(context, outcome, talk)
    return () if outcome.is_done else (Kind.ROW,)


def _rotate(arguments: argparse.Namespace, context: Context, parts: Parts, talk: Talk) -> Outcome:
    from token_refresh.keys.inspection import Inspector
    from token_refresh.keys.rotation import Rotator
    from token_refresh.refresh.leftovers import store_leftovers
    from token_refresh.terminal.report import LineReport, progress_bar

    inspector = Inspector(parts.store, parts.bench, arguments.allow_host)
    survey = _survey(parts, inspector)
    refuse_wrong_key(survey)  # before anything is written
    store_leftovers(parts, LineReport(talk))
    stopped: list[str] = []
    with (
        progress_bar(talk, "sealing anew", len(survey.stale)) as advance,
        ended_by(stopped.append),
    ):
        dead = parts.claimant.of_slot(parts.claimant.slot)
        rotator = Rotator(parts.store, inspector, parts.journal, advance, lambda: not stopped, parts.clock, dead)
        is_at_end = rotator.reseal([one.row for one in survey.stale])
    if not is_at_end:
        talk.info(f"{rotator.resealed} of {len(survey.stale)} rows were sealed anew")
        raise ActionableError(stopped[0], _AGAIN, Kind.STOPPED)
    return Outcome(
        resealed=rotator.resealed,
        journal_resealed=parts.journal.reseal(),
        left=_left(_survey(parts, inspector), rotator),
        journal_left=sorted(parts.journal.key_ids() - {keyring(context.settings).key_id}),
    )


def _survey(parts: Parts, inspector: Inspector) -> Survey:
    return inspector.survey(parts.store.store.rows(complete=True))


def _left(survey: Survey, rotator: Rotator) -> list[Finding]:
    """Rows that do not open, and rows that open and could not be sealed anew."""
    from token_refresh.keys.inspection import Finding

    left = list(survey.findings)
    for one in survey.stale:
        error = rotator.refused.get(one.row)
        why = str(error) if error else f"{' and '.join(one.columns)} changed, or was being refreshed, all the time"
        left.append(Finding(one.row, one.location_id, one.provider, why, error.action if error else _AGAIN))
    return left


def _report(context: Context, outcome: Outcome, talk: Talk) -> None:
    key_id = keyring(context.settings).key_id
    if talk.as_json:
        talk.object(_object(outcome, context, key_id))
    elif outcome.left:
        _show(outcome.left)
    talk.info(f"{outcome.resealed} rows and {outcome.journal_resealed} journal entries were sealed anew")
    for old in outcome.journal_left:
        talk.warn(
            f"the journal keeps answers that only key {old} opens", "Add that key to ENCRYPTION_KEY_FALLBACKS, repeat."
        )
    if not outcome.is_done:
        talk.warn(
            f"not done: {len(outcome.left)} cells do not open with the new key alone",
            "Keep ENCRYPTION_KEY_FALLBACKS until this is fixed.",
        )
        return
    talk.info(f"done: every cell and journal entry opens with key {key_id} alone")
    if context.settings.encryption_key_fallbacks:
        talk.info("now remove ENCRYPTION_KEY_FALLBACKS, and check: python token_manager.py verify")
        talk.info(
            "if an older key leaked, this does not fix it: table history, record revisions and backups keep cells "
            "that it opens. Revoke every client at its provider, log in again, and onboard what you get"
        )


def _show(left: Sequence[Finding]) -> None:
    from token_refresh.terminal.report import show_table

    show_table(_HEAD, [(one.row, one.location_id, one.provider, one.error, one.action) for one in left])


def _object(outcome: Outcome, context: Context, key_id: str) -> dict[str, Any]:
    return {
        "store": context.settings.store,
        "key_id": key_id,
        "done": outcome.is_done,
        "rows_resealed": outcome.resealed,
        "journal_resealed": outcome.journal_resealed,
        "journal_keys_needed": outcome.journal_left,
        "left": [finding_object(one) for one in outcome.left],
    }
