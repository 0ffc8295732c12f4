"""WEBHOOK_URL: events for a program, signed by Standard Webhooks 1.0. What is not accepted waits for later runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from token_refresh.base.clock import iso
from token_refresh.base.errors import ActionableError
from token_refresh.base.events import Outcome
from token_refresh.base.text import counted
from token_refresh.notifiers.ledger import Execute, transact_in
from token_refresh.notifiers.messages import require_extra
from token_refresh.notifiers.news import Message, WaitingError
from token_refresh.notifiers.ping import MOST_SECONDS, post
from token_refresh.notifiers.summary import Code, Item, RunSummary
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
SCHEMA = "CREATE TABLE IF NOT EXISTS outbox (id TEXT PRIMARY KEY, at REAL, tries INTEGER, body TEXT)"
_ADD = "INSERT INTO outbox VALUES (:id, :at, 0, :body) ON CONFLICT DO NOTHING"
_DROP = (
    "DELETE FROM outbox WHERE at < :oldest "
    "OR rowid NOT IN (SELECT rowid FROM outbox ORDER BY at DESC, rowid DESC LIMIT :most) RETURNING id"
)
_WAITING = "SELECT id, body FROM outbox ORDER BY tries, at, rowid"

Event = tuple[str, datetime, dict[str, Any], str]  # type, time, data, id


class Webhook:
    """The events of one run, and those of earlier ones that wait.

    Args:
        surroundings: see there.
        url: of the receiver.
    """

    def __init__(self, surroundings: Surroundings, url: str) -> None:
        self._surroundings, self._url = surroundings, url
        file = surroundings.state / f"webhooks-{surroundings.name}.sqlite3"
        self._outbox = transact_in(file, SCHEMA, surroundings.say)

    def send(self, message: Message, summary: RunSummary, limit: Limit) -> None:
        """See `Channel.send`. What is on the disk is accepted; what waits there is sent, what failed before last."""
        require_extra("standardwebhooks")
        around = self._surroundings
        wanted = around.settings.webhook_events
        events = [one for one in events_of(message.items, summary) if one[0] in wanted or not summary.is_scheduled]
        dropped, waiting = self._outbox(partial(keep, events, around.clock.now()))
        sent, refused, problem = self._send(waiting, limit)
        self._outbox(partial(_note_sent, sent, refused))
        left = len(waiting) - len(sent)
        if left or dropped:
            wait = counted(left, "event waits", "events wait")
            what = f"{wait} for the next run ({problem})" if left else "all other events were accepted"
            lost = f"; dropped, too old or too many: {dropped}" if dropped else ""
            raise WaitingError(what + lost, "Check the receiver.")

    def _send(self, waiting: Iterable[tuple[str, str]], limit: Limit) -> tuple[list[str], list[str], str]:
        """Which were accepted, which were not, and why something is left."""
        sent, refused, problem = list[str](), list[str](), "there was no time left"
        with closing(self._surroundings.open_transport(MOST_SECONDS)) as transport:
            for name, body in waiting:
                if len(refused) == _MOST_FAILURES or limit.is_over():
                    break
                try:
                    post(transport, self._url, self._headers(name, body), body.encode(), limit)
                    sent.append(name)
                except ActionableError as error:
                    refused.append(name)
                    problem = str(error)
        return sent, refused, problem

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


def keep(events: Iterable[Event], now: datetime, execute: Execute) -> tuple[int, list[tuple[str, str]]]:
    """Keep these events; how many were dropped, for they are too old, or too many, and all that wait now, in order."""
    for kind, at, data, name in events:
        body = json.dumps({"type": kind, "timestamp": iso(at), "data": data})
        execute(_ADD, {"id": name, "at": at.timestamp(), "body": body})
    dropped = execute(_DROP, {"oldest": (now - KEPT).timestamp(), "most": MOST_KEPT})
    return len(dropped), execute(_WAITING, {})


def _note_sent(sent: Iterable[str], refused: Iterable[str], execute: Execute) -> None:
    for name in sent:
        execute("DELETE FROM outbox WHERE id = :id", {"id": name})
    for name in refused:
        execute("UPDATE outbox SET tries = tries + 1 WHERE id = :id", {"id": name})
