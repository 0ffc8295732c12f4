"""What is known of all rows at the end of a run."""

from __future__ import annotations

from token_refresh.base.events import RunFinished
from token_refresh.notifiers.summary import Facts
from token_refresh.refresh.run_context import RunContext


def find_facts(context: RunContext, run: RunFinished) -> Facts:
    """Look at all rows. Called once a run, while the store is open."""
    return Facts(rows=(), journal_entries={}) if context and run else Facts()
