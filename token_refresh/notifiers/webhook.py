"""WEBHOOK_URL: events for a program, signed by Standard Webhooks 1.0. What is not accepted waits for later runs."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from token_refresh.base.clock import iso
from token_refresh.base.errors import ActionableError
from token_refresh.base.events import Outcome
from token_refresh.notifiers.messages import require_extra
from token_refresh.notifiers.news import Item, Message
from token_refresh.notifiers.ping import MOST_SECONDS, post
from token_refresh.notifiers.summary import Code, RunSummary
from token_refresh.notifiers.watch import Limit, Surroundings

KEPT = timedelta(days=3)
MOST_KEPT = 10_000
_MOST_FAILURES = 3  # of one run: a receiver that is down is left alone
_TYPES = {  # of a row's news the type of its event, and the outcome in its data
    Code.LOGIN_NEEDED: ("token.login_needed", Outcome.REAUTHORIZE),
    Code.UNREADABLE_CELL: ("token.failed", Outcome.OPERATOR),
    Code.NEEDS_FIXING: ("token.failed", Outcome.OPERATOR),
    Code.FAILING: ("token.failed", Outcome.TRANSIENT),
    Code.ENDING: ("token.ending", None),
    Code.RECOVERED: ("token.recovered", Outcome.REFRESHED),
}
_TABLE = "CREATE TABLE IF NOT EXISTS outbox (id TEXT PRIMARY KEY, at REAL, tries INTEGER, body TEXT)"
_TOO_MANY = "DELETE FROM outbox WHERE rowid NOT IN (SELECT rowid FROM outbox ORDER BY at DESC, rowid DESC LIMIT ?)"

Event = tuple[str, datetime, dict[str, Any], str]  # type, time, data, id


class Webhook:
    """The events of one run, and those of earlier ones that wait.

    Args:
        surroundings: see there.
        url: of the receiver.
    """

    def __init__(self, surroundings: Surroundings, url: str) -> None:
        self._surroundings, self._url = surroundings, url

    def send(self, messages: Mapping[str, Message], summary: RunSummary, limit: Limit, accepted: set[str]) -> None:
        """See `Channel.send`. What is on the disk is accepted; what waits there is sent, what failed before last."""
        require_extra("standardwebhooks")
        around = self._surroundings
        file, wanted = around.state / f"webhooks-{around.name}.sqlite3", around.settings.webhook_events
        items = [item for message in messages.values() for item in message.items]
        events = [one for one in events_of(items, summary) if one[0] in wanted or not summary.is_scheduled]
        try:
            self._deliver(file, events, limit, lambda: accepted.update(messages))
        except sqlite3.OperationalError as error:  # a full disk
            raise ActionableError(f"{file} cannot be used ({error})", "Free the disk.") from None
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)
            raise ActionableError(f"{file} was damaged; it was deleted, and what waited in it is lost", "") from None

    def _deliver(self, file: Path, events: Sequence[Event], limit: Limit, on_kept: Callable[[], None]) -> None:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(file, timeout=MOST_SECONDS, isolation_level=None)) as outbox:
            for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", _TABLE):
                outbox.execute(statement)
            dropped = _keep(outbox, events, self._surroundings.clock.now())
            on_kept()
            problem = self._send_waiting(outbox, limit)
            left = outbox.execute("SELECT count(*) FROM outbox").fetchone()[0]
        if left or dropped:
            what = f"{left} events wait for the next run ({problem})" if left else "all other events were accepted"
            lost = f"; {dropped} were too old or too many, and were dropped" if dropped else ""
            raise ActionableError(what + lost, "Check the receiver.")

    def _send_waiting(self, outbox: sqlite3.Connection, limit: Limit) -> str:
        """Why something is left, where it is."""
        failures, problem = 0, "there was no time left"
        waiting = outbox.execute("SELECT id, body FROM outbox ORDER BY tries, at, rowid").fetchall()
        with closing(self._surroundings.open_transport(MOST_SECONDS)) as transport:
            for name, body in waiting:
                if failures == _MOST_FAILURES or limit.is_over():
                    break
                try:
                    post(transport, self._url, self._headers(name, body), body.encode(), limit)
                except ActionableError as error:
                    failures, problem = failures + 1, str(error)
                    outbox.execute("UPDATE outbox SET tries = tries + 1 WHERE id = ?", (name,))
                else:
                    outbox.execute("DELETE FROM outbox WHERE id = ?", (name,))
        return problem

    def _headers(self, name: str, body: str) -> dict[str, str]:
        import standardwebhooks

        now, secret = self._surroundings.clock.now(), self._surroundings.settings.webhook_secret
        secrets = secret.reveal().split() if secret is not None else []  # several while they are changed
        signatures = (standardwebhooks.Webhook(one).sign(name, now, body) for one in secrets)
        signed = {"webhook-id": name, "webhook-timestamp": str(int(now.timestamp()))}
        return {"Content-Type": "application/json", **signed, "webhook-signature": " ".join(signatures)}


def events_of(items: Sequence[Item], summary: RunSummary) -> Iterator[Event]:
    """What a run's news, and the run itself, are as events. One that happens once has one id, whoever makes it."""
    run, at = summary.run, summary.ended_at
    for item in items:
        if item.location_id and not item.is_lasting:
            kind, outcome = _TYPES[Code(item.code)]
            error = None if item.code == Code.RECOVERED else item.message
            data = _data(item.location_id, item.provider, outcome, error, item.action or None, item.ends or None)
            yield kind, at, data | {"since": item.since}, _id(kind, item.key, item.since, item.step)
    for one in run.results:
        if one.outcome is Outcome.REFRESHED:
            ends = iso(one.expires_at) if one.expires_at else None
            data = _data(one.location_id, one.provider, one.outcome, None, None, ends)
            yield "token.refreshed", at, data, _id("token.refreshed", run.run_id, one.location_id, one.provider)
    data = {"run_id": run.run_id or None, "counts": run.counts(), "exit_code": summary.exit_code}
    yield "run.finished", at, data, _id("run.finished", run.run_id, run.started_at)


def _data(*values: str | None) -> dict[str, Any]:
    """A row, by the names of the report."""
    return dict(zip(("location_id", "provider", "outcome", "error", "action", "expires_at"), values, strict=True))


def _id(*identity: object) -> str:
    return "msg_" + hashlib.sha256(json.dumps(list(map(str, identity))).encode()).hexdigest()[:32]


def _keep(outbox: sqlite3.Connection, events: Sequence[Event], now: datetime) -> int:
    """Keep these events in order; how many were dropped, for they are too old, or too many."""
    outbox.execute("BEGIN IMMEDIATE")
    for kind, at, data, name in events:
        body = json.dumps({"type": kind, "timestamp": iso(at), "data": data})
        outbox.execute("INSERT OR IGNORE INTO outbox VALUES (?, ?, 0, ?)", (name, at.timestamp(), body))
    dropped = outbox.execute("DELETE FROM outbox WHERE at < ?", ((now - KEPT).timestamp(),)).rowcount
    dropped += outbox.execute(_TOO_MANY, (MOST_KEPT,)).rowcount
    outbox.execute("COMMIT")
    return dropped
