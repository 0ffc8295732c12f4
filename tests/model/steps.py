"""One step of a run after the other, by the rules of the program, and everything that may go wrong at each."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.state import (
    BEFORE_THE_CLONE,
    FRESH,
    IMPOSSIBLE,
    LAST_MINUTE,
    NOBODY,
    Entry,
    Installation,
    Row,
    Rules,
    Run,
    State,
    Token,
)

SENDS = {"never": 3, "grace": 3, "until_used": 3, "once": 2, "family": 2}
OPEN = ("sent", "answered", "lost")


class Step(NamedTuple):
    """What happened, what it cost of the faults, and what is true then; `broken`: a promise that this step breaks."""

    label: str
    cost: int
    state: State
    broken: str = ""


def first(rules: Rules) -> State:
    """A row with a fresh grant that is due."""
    return State(Row(1), (Token(1, "good"),))


def asked(state: State, token: int, kind: str) -> tuple[State, int]:
    """The provider gets a token: what is true then, and the new one; 0 where it is refused."""
    book = list(state.book)
    grant, status, parent = book[token - 1]
    if status == "spent" and kind == "family":
        book = [one._replace(status="dead") if one.grant == grant else one for one in book]
    if status in ("spent", "dead"):
        return state._replace(book=tuple(book)), 0
    if kind == "never":
        return state, token
    book[token - 1] = Token(grant, {"grace": "used", "until_used": "kept"}.get(kind, "spent"))
    if parent and book[parent - 1].status == "kept":
        book[parent - 1] = book[parent - 1]._replace(status="spent")
    book.append(Token(grant, "good", token if kind == "until_used" else 0))
    return state._replace(book=tuple(book)), len(book)


def changed(state: State, who: int, folder: Installation) -> State:
    """With this folder for an installation."""
    return state._replace(folders=tuple(folder if at == who else one for at, one in enumerate(state.folders)))


# A run, from its beginning to its end


def begin(state: State, who: int, rules: Rules, *, takeover: bool = False) -> tuple[State, str]:
    """Take over what an earlier run left, then read the row; returns what the run says where it ends with that."""
    if takeover:
        folder = state.folders[who]._replace(is_copy=False, is_twin=False, ignores=True)
        claim = who if state.row.claim != NOBODY else NOBODY
        state = changed(state, who, folder)._replace(row=state.row._replace(claim=claim))
    if state.row.claim == BEFORE_THE_CLONE and state.folders[who].is_twin:
        state = state._replace(row=state.row._replace(claim=who))
    state = _replayed(state, who, rules)
    if state.run is not None:
        return state, ""
    if state.folders[who].is_copy and rules.has("a copy is noticed"):
        return ended(state, who), "takeover"
    return _listed(state, who, rules)


def _replayed(state: State, who: int, rules: Rules) -> State:
    """What the journal holds: an answer is on its way into the row then, or its entry is at its end."""
    for entry in state.folders[who].entries if rules.has("answers are replayed") else ():
        folder, token = state.folders[who], state.row.token
        new = entry.answers[-1][1] if entry.answers else 0
        if entry.step == "unproven" and token not in _chain(folder, entry, rules):
            step = "lost" if token == entry.token else "superseded"
            refuted = (*entry.refuted, entry.successor)
            state = changed(state, who, folder.put(entry._replace(step=step, lost=True, refuted=refuted)))
        elif entry.step == "answered" and token == entry.token:
            return state._replace(
                run=Run(who, "kept", token, entry.answers[-1], sends=SENDS[rules.kind], is_replay=True)
            )
        elif entry.step == "answered" and _is_noted(entry, token, rules):
            state = changed(state, who, folder.put(entry._replace(step="unproven")))
        elif entry.step == "answered" and token == new:
            state = changed(state, who, folder.drop(entry.token, entry.token))
        elif entry.step == "answered" and new and _brings(entry, rules):
            aside = folder.put(entry._replace(step="superseded"))
            is_proved = entry.answers[-1][0] == "pair" or not rules.has("what an unproven answer was for is not spent")
            state = changed(state, who, aside._replace(spent=aside.spent | ({entry.token} if is_proved else set())))
        elif entry.step == "answered":
            state = changed(state, who, folder.drop(entry.token))
    return state


def _is_noted(entry: Entry, token: int, rules: Rules) -> bool:
    """Whether the row's token is the successor that the entry noted before it was stored."""
    is_of_last = entry.answers[-1][0] in ("alone", "failed")
    return token == entry.successor and (is_of_last or rules.has("what was noted is found again, whatever came last"))


def _brings(entry: Entry, rules: Rules) -> bool:
    """Whether a token can be read out of the last answer."""
    form = entry.answers[-1][0]
    return form in ("pair", "alone") or (form == "failed" and rules.kind == "family")


def _chain(folder: Installation, entry: Entry, rules: Rules) -> set[int]:
    """The unproven successor of a token, its own, and so on."""
    found = {entry.successor}
    while rules.has("an unproven successor may have one, too") and (after := folder.entry(entry.successor)) is not None:
        if after.step not in ("unproven", "answered") or after.successor in found:
            break
        found.add(after.successor)
        entry = after
    return found


def _listed(state: State, who: int, rules: Rules) -> tuple[State, str]:
    folder, row = state.folders[who], state.row
    if row.dead == row.token:
        return ended(state, who), "reauthorize"
    if row.expiry == FRESH or (row.expiry == IMPOSSIBLE and not rules.has("impossible times are due")):
        return ended(state, who), ""
    if row.by not in (NOBODY, who) and not folder.ignores:
        if folder.is_twin:
            return ended(changed(state, who, folder._replace(is_copy=True)), who), "takeover"
        if rules.store == "airtable" and row.expiry != LAST_MINUTE:
            return ended(state, who), "takeover"
    if rules.store == "database" and rules.has("rows are claimed"):
        if row.claim not in (NOBODY, who):
            return state, "claimed"
        state = state._replace(row=row._replace(claim=who))
    overtaken = {one for one in folder.entries if one.step in ("sent", "lost") and one.token != row.token}
    folder = folder._replace(entries=tuple(one for one in folder.entries if one not in overtaken))
    state = changed(state, who, folder)
    why = _why_not(folder, row, rules)
    return (noted(state, Run(who, "read", row.token)), "") if why is None else (ended(state, who), why)


def _why_not(folder: Installation, row: Row, rules: Rules) -> str | None:
    """What the run says where the row's token is not sent now; None where it is."""
    entry = folder.entry(row.token)
    if rules.kind == "never":
        return None
    if entry is not None and entry.step in ("superseded", "unread"):
        return "recover" if entry.step == "superseded" else "resend"
    if rules.is_strict and row.token in folder.spent and rules.has("spent tokens are remembered"):
        return "onboard"
    if entry is not None and entry.step in ("sent", "lost"):
        is_early = entry.waits and rules.has("a dead run's request is waited for")
        return "" if is_early or (rules.kind == "family" and not is_last_minute(row, rules)) else None
    return None


def is_last_minute(row: Row, rules: Rules) -> bool:
    """Whether the old access token is nearly out, or its end unknown."""
    if row.expiry == IMPOSSIBLE and rules.has("an impossible expiry is none"):
        return True
    return row.expiry == LAST_MINUTE or not rules.has("the last minute is waited for")


def advance(state: State, rules: Rules) -> tuple[State, str]:
    """The next step of the run, where nothing goes wrong."""
    run = state.run
    assert run is not None
    if run.at == "noted":
        after, new = asked(state, run.token, rules.kind)
        return after._replace(run=run._replace(at="answered", answer=("pair" if new else "refused", new))), ""
    if run.at == "answered":
        return kept(state, rules), ""
    if run.at == "kept":
        return _decided(state, run, rules)
    if run.at == "decided":
        return _written(state, run, rules)
    return _confirmed(state, run, rules)


def noted(state: State, run: Run) -> State:
    """The intent is on the disk."""
    folder = state.folders[run.who]
    entry = folder.entry(run.token)
    was_open = entry is not None and (entry.step in ("sent", "lost") or run.sends > 0)
    entry = entry._replace(step="sent", waits=True, lost=True) if entry and was_open else Entry(run.token)
    return changed(state, run.who, folder.put(entry))._replace(run=run._replace(at="noted", sends=run.sends + 1))


def kept(state: State, rules: Rules) -> State:
    """The answer is on the disk, where one came."""
    run = state.run
    assert run is not None
    folder = state.folders[run.who]
    entry = folder.entry(run.token)
    if run.answer[0] != "none" and entry is not None and rules.has("answers are kept before they are used"):
        entry = entry._replace(step="answered", answers=(*entry.answers, run.answer))
        state = changed(state, run.who, folder.put(entry))
    return state._replace(run=run._replace(at="kept"))


def meant(state: State, run: Run, rules: Rules) -> tuple[str, int]:
    """What is to be done about an answer, and the token that the row gets by it."""
    folder, (form, new) = state.folders[run.who], run.answer
    entry, before = folder.entry(run.token), folder.proved_by(run.token)
    if (
        form == "failed"
        and new
        and rules.kind == "family"
        and rules.has("where a replay kills, a pair in a 5xx goes first")
    ):
        form = "alone"
    if form in ("pair", "alone"):
        return ("unproven" if form == "alone" and rules.has("an unproven token is proved") else "refreshed"), new
    if form == "unknown":
        return ("unread" if rules.has("an unknown form is not sent again") else "lost"), 0
    if form in ("none", "failed"):
        return "lost", 0
    tried = {0, *(entry.refuted if entry else ())}
    if entry is not None and not rules.has("a pair that was noted may be tried"):
        tried.add(entry.successor)
    pairs = [token for name, token in (entry.answers if entry else ()) if name == "failed" and token not in tried]
    if pairs and rules.kind != "never" and rules.has("a pair in a 5xx is tried in the end"):
        return "unproven", pairs[0]
    is_known = not run.is_replay or rules.has("a replay knows what a token was to prove")
    if before is not None and is_known and rules.has("a predecessor is put back"):
        return "put back", before.token
    return "dead", 0


def _decided(state: State, run: Run, rules: Rules) -> tuple[State, str]:
    """What the answer means; a successor that is to be proved is noted. Airtable is asked for the row once more."""
    end = meant(state, run, rules)
    entry = state.folders[run.who].entry(run.token)
    if end[0] == "unproven" and entry is not None:
        folder = state.folders[run.who].put(entry._replace(successor=end[1]))
        state = changed(state, run.who, folder)
    run = run._replace(at="decided", end=end)
    if rules.store == "airtable" and state.row.token != run.token and rules.has("a write goes only over what was read"):
        return _overtaken(state, run)
    return state._replace(run=run), ""


def _written(state: State, run: Run, rules: Rules) -> tuple[State, str]:
    (what, new), row = run.end, state.row
    is_conditional = rules.store == "database" and rules.has("a write goes only over what was read")
    if is_conditional and (row.token != run.token or row.claim not in (NOBODY, run.who)):
        return _overtaken(state, run)
    if what == "refreshed":
        row = row._replace(token=new, expiry=FRESH, dead=0, by=run.who)
    elif what in ("unproven", "put back"):
        row = row._replace(token=new, expiry=LAST_MINUTE)
    elif what == "dead":
        row = row._replace(dead=run.token)
    others = [one._replace(ignores=False) if at != run.who else one for at, one in enumerate(state.folders)]
    state = state._replace(folders=tuple(others)) if what == "refreshed" else state
    return state._replace(row=row, run=run._replace(at="written")), ""


def _overtaken(state: State, run: Run) -> tuple[State, str]:
    """Somebody else's token is in the row: theirs stays, ours is kept."""
    what, new = run.end
    folder = state.folders[run.who]
    entry, before = folder.entry(run.token), folder.proved_by(run.token)
    if new or what == "unread":
        if what == "refreshed" and new != run.token:
            folder = folder._replace(spent=folder.spent | {run.token})
        folder = folder.put(entry._replace(step="superseded")) if entry is not None else folder
    else:
        folder = folder.drop(run.token)
    if before is not None and what == "put back":
        folder = folder.put(before._replace(step="superseded"))
    while before is not None and what == "refreshed":  # it was proved all the same
        folder, before = folder.drop(before.token, before.token), folder.proved_by(before.token)
    return ended(changed(state, run.who, folder), run.who), ""


def _confirmed(state: State, run: Run, rules: Rules) -> tuple[State, str]:
    """The store has it: the journal follows, and the run goes on or ends."""
    (what, new), folder = run.end, state.folders[run.who]
    entry, before = folder.entry(run.token) or Entry(run.token), folder.proved_by(run.token)
    if what == "refreshed":
        folder = folder.drop(run.token, *({run.token} if new != run.token else ()))
        while before is not None and (not run.is_replay or rules.has("a replay knows what a token was to prove")):
            folder, before = folder.drop(before.token, before.token), folder.proved_by(before.token)
    elif what == "put back" and before is not None:
        earlier = before.refuted if rules.has("all refused successors are remembered") else ()
        refuted = (*earlier, before.successor)
        folder = folder.drop(run.token).put(before._replace(step="lost", lost=True, refuted=refuted))
    elif what == "dead" and not entry.lost:
        folder = folder.drop(run.token)
    else:
        folder = folder.put(entry._replace(step="lost" if what == "dead" else what))
    after = changed(state, run.who, folder)
    if what == "unproven" and not run.is_proof:
        why = _why_not(folder, after.row, rules)
        return (
            (noted(after, Run(run.who, "read", new, is_proof=True)), "") if why is None else (ended(after, run.who), "")
        )
    if what == "lost" and run.sends < SENDS[rules.kind]:
        is_allowed = not entry.lost and (rules.kind == "once" or is_last_minute(state.row, rules))
        if is_allowed or not rules.is_strict:
            return noted(after, run._replace(end=("", 0))), ""
    return begin(after._replace(run=None), run.who, rules) if run.is_replay else (ended(after, run.who), "")


def ended(state: State, who: int) -> State:
    """The run is over; its claim stays while the journal knows of something open."""
    is_open = any(entry.step in (*OPEN, "unproven", "unread") for entry in state.folders[who].entries)
    row = state.row._replace(claim=NOBODY) if state.row.claim == who and not is_open else state.row
    return state._replace(row=row, run=None)


def finished(state: State, rules: Rules, says: str = "") -> tuple[State, str]:
    """The run to its end, where nothing goes wrong."""
    while state.run is not None:
        state, said = advance(state, rules)
        says = said or says
    return state, says


def whole(state: State, who: int, rules: Rules, *, takeover: bool = False) -> tuple[State, str]:
    """A whole run, and what it says."""
    begun, says = begin(state, who, rules, takeover=takeover)
    return finished(begun, rules, says)
