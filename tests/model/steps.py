"""One step of a run after the other, by the rules of the program, and what a provider makes of a token."""

from __future__ import annotations

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
OPEN = ("sent", "answered", "lost", "unproven", "unread")  # steps of an entry that somebody still works on
START = State(Row(1), (Token(1, "good"),))  # a row with a fresh grant that is due


def asked(state: State, token: int, kind: str) -> tuple[State, int]:
    """The provider gets a token: what is true then, and the new one; 0 where it is refused."""
    book = list(state.book)
    grant, status, parent = book[token - 1]
    if status == "spent" and kind == "family":
        book = [Token(0, "dead") if one.grant == grant else one for one in book]
    if status in ("spent", "dead"):
        return state._replace(book=tuple(book)), 0
    if kind == "never":
        return state, token
    book[token - 1] = Token(grant, {"grace": "used", "until_used": "kept"}.get(kind, "spent"))
    if parent and book[parent - 1].status == "kept":
        book[parent - 1] = Token(book[parent - 1].grant, "spent")
    book.append(Token(grant, "good", token if kind == "until_used" else 0))
    return state._replace(book=tuple(book)), len(book)


# A run, from its beginning to its end


def begin(state: State, who: int, rules: Rules, *, takeover: bool = False) -> tuple[State, str]:
    """Take over what an earlier run left, then read the row; returns what the run says where it ends with that."""
    if takeover:
        folder = state.folders[who]._replace(is_copy=False, is_twin=False, ignores=True)
        claim = who if state.row.claim != NOBODY else NOBODY
        state = state.put(who, folder)._replace(row=state.row._replace(claim=claim))
    if state.row.claim == BEFORE_THE_CLONE and state.folders[who].is_twin:
        state = state._replace(row=state.row._replace(claim=who))
    state = _replayed(state, who, rules)
    if state.run is not None:
        return state, ""
    if state.folders[who].is_copy and rules.has("a copy is noticed"):
        return _ended(state, who), "takeover"
    return _listed(state, who, rules)


def _replayed(state: State, who: int, rules: Rules) -> State:
    """What the journal holds: an answer is on its way into the row then, or its entry is at its end."""
    for entry in state.folders[who].entries if rules.has("answers are replayed") else ():
        folder, token = state.folders[who], state.row.token
        form, new = entry.answers[-1] if entry.answers else ("", 0)
        is_noted = entry.previous > 0 and token == entry.successor
        is_noted &= form in ("alone", "failed") or rules.has("what was noted is found again, whatever came last")
        if entry.step == "unproven" and token not in _chain(folder, entry, rules):
            end = _refuted(entry, rules) if token == entry.token else entry._replace(step="superseded")
            state = state.put(who, folder.put(end))
        elif entry.step != "answered":
            continue
        elif token == entry.token:
            return state._replace(run=Run(who, "kept", token, (form, new), sends=SENDS[rules.kind], is_replay=True))
        elif is_noted:
            state = state.put(who, folder.put(entry._replace(step="unproven")))
        elif token == new:
            state = state.put(who, folder.drop(entry.token, entry.token))
        elif form in ("pair", "alone") or (new and form == "failed" and rules.kind == "family"):
            is_proved = form == "pair" or not rules.has("what an unproven answer was for is not spent")
            folder = folder._replace(spent=folder.spent | ({entry.token} if is_proved else set()))
            state = state.put(who, folder.put(entry._replace(step="superseded")))
        else:
            state = state.put(who, folder.drop(entry.token))
    return state


def _refuted(entry: Entry, rules: Rules) -> Entry:
    """The row holds the token again that was sent: it is as if the answer had been lost."""
    earlier = entry.refuted if rules.has("all refused successors are remembered") else ()
    return entry._replace(step="lost", lost=True, refuted=(*earlier, entry.successor), previous=0)


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
        return _ended(state, who), "reauthorize"
    if row.expiry == FRESH or (row.expiry == IMPOSSIBLE and not rules.has("impossible times are due")):
        return _ended(state, who), ""
    if row.by not in (NOBODY, who) and not folder.ignores:
        if folder.is_twin:
            return _ended(state.put(who, folder._replace(is_copy=True)), who), "takeover"
        if rules.store == "airtable" and row.expiry != LAST_MINUTE:
            return _ended(state, who), "takeover"
    if rules.store == "database" and rules.has("rows are claimed"):
        if row.claim not in (NOBODY, who):
            return state, "claimed"
        state = state._replace(row=row._replace(claim=who))
    overtaken = [one for one in folder.entries if one.step in ("sent", "lost") and one.token != row.token]
    folder = folder._replace(entries=tuple(one for one in folder.entries if one not in overtaken))
    return _sent(state.put(who, folder), Run(who, "read", row.token), rules)


def _sent(state: State, run: Run, rules: Rules) -> tuple[State, str]:
    """The row's token is on its way, or what the run says where it is not sent now."""
    folder, row = state.folders[run.who], state.row
    entry = folder.entry(run.token)
    step = entry.step if entry is not None and rules.kind != "never" else ""
    if step in ("superseded", "unread"):
        return _ended(state, run.who), "recover" if step == "superseded" else "resend"
    if rules.is_strict and run.token in folder.spent and rules.has("spent tokens are remembered"):
        return _ended(state, run.who), "onboard"
    if entry is not None and step in ("sent", "lost"):
        is_early = entry.waits and rules.has("a dead run's request is waited for")
        if is_early or (rules.kind == "family" and not is_last_minute(row, rules)):
            return _ended(state, run.who), ""
    return _noted(state, run), ""


def is_last_minute(row: Row, rules: Rules) -> bool:
    """Whether the old access token is nearly out, or its end unknown."""
    if row.expiry == IMPOSSIBLE and rules.has("an impossible expiry is none"):
        return True
    return row.expiry == LAST_MINUTE or not rules.has("the last minute is waited for")


def _noted(state: State, run: Run) -> State:
    """The intent is on the disk."""
    folder = state.folders[run.who]
    entry = folder.entry(run.token)
    was_open = entry is not None and (entry.step in ("sent", "lost") or run.sends > 0)
    entry = entry._replace(step="sent", waits=True, lost=True) if entry and was_open else Entry(run.token)
    return state.put(run.who, folder.put(entry))._replace(run=run._replace(at="noted", sends=run.sends + 1))


def advance(state: State, run: Run, rules: Rules) -> tuple[State, str]:
    """The next step of the run, where nothing goes wrong, and what the run says."""
    if run.at == "noted":
        after, new = asked(state, run.token, rules.kind)
        return after._replace(run=run._replace(at="answered", answer=("pair" if new else "refused", new))), ""
    if run.at == "answered":
        return kept(state, run, rules), ""
    return {"kept": _decided, "decided": _written, "written": _confirmed}[run.at](state, run, rules)


def kept(state: State, run: Run, rules: Rules) -> State:
    """The answer is on the disk, where one came."""
    folder = state.folders[run.who]
    entry = folder.entry(run.token)
    if run.answer[0] != "none" and entry is not None and rules.has("answers are kept before they are used"):
        entry = entry._replace(step="answered", answers=(*entry.answers, run.answer), expiry=FRESH)
        state = state.put(run.who, folder.put(entry))
    return state._replace(run=run._replace(at="kept"))


def _meant(state: State, run: Run, rules: Rules) -> tuple[str, int]:
    """What is to be done about an answer, and the token that the row gets by it."""
    folder, (form, new) = state.folders[run.who], run.answer
    entry, before = folder.entry(run.token) or Entry(run.token), folder.proved_by(run.token)
    if form == "failed" and rules.kind == "family" and rules.has("where a replay kills, a pair in a 5xx goes first"):
        form = "alone"
    if form in ("pair", "alone"):
        return ("unproven" if form == "alone" and rules.has("an unproven token is proved") else "refreshed"), new
    if form in ("none", "failed", "unknown"):
        is_unread = form == "unknown" and rules.has("an unknown form is not sent again")
        return "unread" if is_unread else "lost", 0
    tried = {*entry.refuted, 0 if rules.has("a pair that was noted may be tried") else entry.successor}
    pairs = [token for name, token in entry.answers if name == "failed" and token not in tried]
    if pairs and rules.has("a pair in a 5xx is tried in the end"):
        return "unproven", pairs[0]
    is_known = not run.is_replay or rules.has("a replay knows what a token was to prove")
    previous = before.previous if before is not None and is_known else state.row.previous
    if previous and rules.has("a predecessor is put back"):
        return "put back", previous
    return "dead", 0


def _decided(state: State, run: Run, rules: Rules) -> tuple[State, str]:
    """What the answer means; a successor that is to be proved is noted. Airtable is asked for the row once more."""
    run = run._replace(at="decided", end=_meant(state, run, rules))
    entry = state.folders[run.who].entry(run.token)
    if run.end[0] == "unproven" and entry is not None:
        noted = entry._replace(successor=run.end[1], previous=entry.previous or run.over or run.token)
        state = state.put(run.who, state.folders[run.who].put(noted))
    if rules.store == "airtable" and not run.is_over(state.row) and rules.has("a write goes only over what was read"):
        return _overtaken(state, run)
    return state._replace(run=run), ""


def _written(state: State, run: Run, rules: Rules) -> tuple[State, str]:
    (what, new), row = run.end, state.row
    is_conditional = rules.store == "database" and rules.has("a write goes only over what was read")
    if is_conditional and (not run.is_over(row) or row.claim not in (NOBODY, run.who)):
        return _overtaken(state, run)
    if what == "refreshed":
        entry = state.folders[run.who].entry(run.token)
        expiry = entry.expiry if entry else FRESH
        row = row._replace(token=new, expiry=expiry, dead=0, by=run.who, previous=0)
        others = [one._replace(ignores=False) if at != run.who else one for at, one in enumerate(state.folders)]
        state = state._replace(folders=tuple(others))
    elif what in ("unproven", "put back"):
        sent = state.folders[run.who].entry(run.token)
        previous = sent.previous if sent and what == "unproven" and rules.store == "database" else 0
        row = row._replace(token=new, expiry=LAST_MINUTE, previous=previous)
    elif what == "dead":
        row = row._replace(dead=run.token)
    return state._replace(row=row, run=run._replace(at="written")), ""


def _overtaken(state: State, run: Run) -> tuple[State, str]:
    """Somebody else's token is in the row: theirs stays, ours is kept."""
    (what, new), folder = run.end, state.folders[run.who]
    entry, before = folder.entry(run.token), folder.proved_by(run.token)
    if what in ("refreshed", "unproven", "unread"):
        if what == "refreshed" and new != run.token:
            folder = folder._replace(spent=folder.spent | {run.token})
        folder = folder.put(entry._replace(step="superseded")) if entry is not None else folder
    else:
        folder = folder.drop(run.token)
    if before is not None and what == "put back":
        folder = folder.put(before._replace(step="superseded"))
    if what == "refreshed":  # it was proved all the same
        folder = _proved(folder, run.token)
    return _ended(state.put(run.who, folder), run.who), ""


def _confirmed(state: State, run: Run, rules: Rules) -> tuple[State, str]:
    """The store has it: the journal follows, and the run goes on or ends."""
    (what, new), folder = run.end, state.folders[run.who]
    entry, before = folder.entry(run.token) or Entry(run.token), folder.proved_by(run.token)
    if what == "refreshed":
        folder = folder.drop(run.token, *({run.token} if new != run.token else ()))
    elif what == "put back":
        folder = folder.drop(run.token)
        folder = folder.put(_refuted(before, rules)) if before is not None else folder
    elif what in ("dead", "lost") and (rules.kind == "never" or (what == "dead" and not entry.lost)):
        folder = folder.drop(run.token)
    else:
        folder = folder.put(entry._replace(step="lost" if what == "dead" else what))
    is_proof = what == "refreshed" and (not run.is_replay or rules.has("a replay knows what a token was to prove"))
    is_proof |= what == "unproven" and not rules.has("a success that is to be proved proves nothing")
    folder = _proved(folder, run.token) if is_proof else folder
    state = state.put(run.who, folder)
    if run.is_replay:
        return begin(state._replace(run=None), run.who, rules)
    if what == "unproven" and not run.is_proof:
        return _sent(state, Run(run.who, "read", new, is_proof=True), rules)
    if what == "lost" and run.sends < SENDS[rules.kind]:
        is_allowed = not entry.lost and (rules.kind == "once" or is_last_minute(state.row, rules))
        if is_allowed or not rules.is_strict:
            return _noted(state, run._replace(end=("", 0))), ""
    return _ended(state, run.who), ""


def _proved(folder: Installation, token: int) -> Installation:
    """A token works: what it was the successor of is spent, and so on."""
    while (before := folder.proved_by(token)) is not None:
        folder, token = folder.drop(before.token, before.token), before.token
    return folder


def _ended(state: State, who: int) -> State:
    """The run is over; its claim stays while the journal knows of something open."""
    is_done = state.row.claim == who and not state.folders[who].is_at(*OPEN)
    return state._replace(row=state.row._replace(claim=NOBODY) if is_done else state.row, run=None)


def whole(state: State, who: int, rules: Rules, *, takeover: bool = False) -> tuple[State, str]:
    """A whole run where nothing goes wrong, and what it says."""
    return _finished(*begin(state, who, rules, takeover=takeover), rules)


def _finished(state: State, says: str, rules: Rules) -> tuple[State, str]:
    while state.run is not None:
        state, said = advance(state, state.run, rules)
        says = said or says
    return state, says


# Commands


def replayed_by_hand(state: State, who: int, rules: Rules) -> State:
    """`recover --replay`: also what was superseded, where the row holds its token again, or one that is spent."""
    folder, token = state.folders[who], state.row.token
    halted = state.put(who, folder._replace(is_copy=True))  # it stores, and asks nobody: as a copy does
    is_old = token in folder.spent and rules.is_strict and rules.has("recover puts a newer token over a spent one")
    superseded = [one for one in folder.entries if one.step == "superseded" and one.answers]
    newest = [one for one in superseded if is_old] + [one for one in superseded if one.token == token]
    for entry in newest[-1:] if not folder.is_at("answered") else ():
        run = Run(who, "kept", entry.token, entry.answers[-1], sends=SENDS[rules.kind], is_replay=True, over=token)
        halted = halted._replace(run=run)
    after, _ = whole(halted, who, rules) if halted.run is None else _finished(halted, "", rules)
    stored = after.book[after.row.token - 1].grant if newest and after.row.token != token else 0  # of a sample, too
    return after.put(who, after.folders[who]._replace(is_copy=folder.is_copy))._replace(theirs=stored or after.theirs)


def resent(state: State, who: int) -> State:
    """`recover --resend`."""
    entries = state.folders[who].entries
    lost = [one._replace(step="lost", lost=True) if one.step == "unread" else one for one in entries]
    return state.put(who, state.folders[who]._replace(entries=tuple(lost)))._replace(is_lost=True)


def discarded(state: State, who: int) -> State:
    """`recover --discard --yes`."""
    left = [one for one in state.folders[who].entries if one.step != "unread"]
    return state.put(who, state.folders[who]._replace(entries=tuple(left)))._replace(is_lost=True)
