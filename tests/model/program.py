"""A run and the commands, in the order in which the program does things, and what may come in between."""

from __future__ import annotations

from tests.model.state import SPENT, Entry, Expiry, Installation, Row, Sent, Simulation, Token, Who

SENDS = {"never": 3, "grace": 3, "until_used": 3, "once": 2, "family": 2}  # of one token, in one run
OPEN = ("sent", "answered", "lost", "unproven", "unread")  # steps of an entry that somebody still works on
PEOPLE = ("somebody onboards", "revoked", "the table restored")
FORMS = {"a refresh token alone": "alone", "a form that is not known": "unknown", "a pair in a 5xx": "failed"}
SAMPLES = {"a sample for a token": "alone", "a sample in a 5xx": "failed"}  # on the page of a service that did nothing
WINDOW = ("killed, answered", "answer lost")  # the provider has acted, and we have nothing
MEANWHILE = "the other's whole run meanwhile"


class Killed(Exception):  # noqa: N818 - no error
    """The run is over before its end."""


# The provider, and people


def asked(sim: Simulation, token: int) -> int:
    """The provider gets a token: the new one; 0 where it is refused."""
    kind, book = sim.rules.kind, sim.book
    grant, status, parent = book[token - 1]
    if status == "spent" and kind == "family":
        book[:] = [Token(0, "dead") if one.grant == grant else one for one in book]
    if status in ("spent", "dead"):
        return 0
    if kind == "never":
        return token
    book[token - 1] = Token(grant, {"grace": "used", "until_used": "kept"}.get(kind, "spent"))
    if parent and book[parent - 1].status == "kept":
        book[parent - 1] = Token(book[parent - 1].grant, "spent")
    book.append(Token(grant, "good", token if kind == "until_used" else 0))
    return len(book)


def people(sim: Simulation) -> list[str]:
    """What somebody may do now; to a grant that is lost nothing but onboard."""
    can_restore = sim.snapshot != sim.row.token and len(sim.folders) == 1
    can = (True, not sim.is_lost and any(one.grant == sim.theirs for one in sim.book), not sim.is_lost and can_restore)
    return [label for label, can_do in zip(PEOPLE, can, strict=True) if can_do]


def done_by_people(sim: Simulation, label: str) -> None:
    """Somebody changes the row, or revokes the grant at the provider. A token that is put back counts as new."""
    if label == "revoked":
        sim.book[:] = [Token(0, "dead") if one.grant == sim.theirs else one for one in sim.book]
        sim.is_lost = True
        return
    if label == "somebody onboards":
        sim.book.append(Token(max(one.grant for one in sim.book) + 1, "good"))
        token, sim.is_lost = len(sim.book), False
    else:
        token, sim.is_lost, sim.jumped = sim.snapshot, True, bool(sim.flying)
    sim.row, sim.theirs = Row(token, Expiry.LAST_MINUTE, 0, sim.row.by, sim.row.claim), sim.book[token - 1].grant


# Where faults strike


def _faults(sim: Simulation, run: Sent, point: str) -> list[str]:
    """What may go wrong at a point. People act where that makes a difference: around the last look at the row."""
    is_airtable, kind = sim.rules.store == "airtable", sim.rules.kind
    found = people(sim) if point == "decided" or (point == "kept" and is_airtable) else []
    if sim.is_lost:  # to a grant that is lost nothing else happens
        return found
    if point != "decided" or run.end == "unproven":  # else it is as if it had been killed before
        found.append(f"killed, {point}")
    if point in ("noted", "kept") and len(sim.folders) > 1 and not is_airtable:
        found.append(MEANWHILE)
    if point == "noted":
        is_answered = kind != "never" and sim.status(run.token) not in ("spent", "dead")
        found += ["killed, request out", "never arrived", *WINDOW, *[*SAMPLES][: 1 if kind == "never" else 2]]
        found += FORMS if is_answered else ()
    return found


def _passed(sim: Simulation, run: Sent, point: str) -> str:
    """The run comes by a point; returns what becomes of its request, where that is out of the ordinary."""
    if sim.choose is None:
        return ""
    sim.judge()
    while sim.choose is not None and (what := sim.choose(sim, run, lambda: _faults(sim, run, point))):
        sim.labels.append(what if what in PEOPLE else f"{run.who}: {what}")
        if what in PEOPLE:
            done_by_people(sim, what)
        elif what == MEANWHILE:
            sim.undisturbed(whole_run, 1 - run.who)
        elif what == f"killed, {point}":
            raise Killed
        else:
            return what
        sim.judge()
    sim.labels.append(f"{run.who}: {point}")
    return ""


def _answer_to(sim: Simulation, run: Sent) -> tuple[str, int]:
    """What comes of a request: the form of the answer, and the token in it."""
    what, new = _passed(sim, run, "noted"), 0
    if what == "killed, request out":
        sim.flying = run.token
    elif what in SAMPLES:
        sim.book.append(Token(0, "dead"))
        new = len(sim.book)
    elif what != "never arrived":
        sim.broken = sim.broken or (SPENT if _is_known_to_kill(sim, run) else "")
        new = asked(sim, run.token)
    if what in WINDOW:
        new = 0
        sim.judge(is_excused=True)
    if what.startswith("killed"):
        raise Killed
    sim.in_memory += (new,)
    form = {"": "pair" if new else "refused", **FORMS, **SAMPLES}.get(what, "none")
    return form, new


def _is_known_to_kill(sim: Simulation, run: Sent) -> bool:
    """Whether the folder knows that the token was used, or has to wait, where a second use revokes the grant."""
    entry, spent, row = sim.folders[run.who].entry(run.token), sim.folders[run.who].spent, sim.row
    is_early = entry is not None and entry.lost and row.expiry < Expiry.LAST_MINUTE and row.token == run.token
    return sim.rules.kind == "family" and sim.status(run.token) == "spent" and (is_early or run.token in spent)


# A run, from its beginning to its end


def whole_run(sim: Simulation, who: int, *, takeover: bool = False) -> str:
    """A run; returns what it says where a person has to do something."""
    if takeover:
        sim.folders[who] = sim.folders[who]._replace(is_copy=False, is_twin=False, ignores=True)
        sim.row = sim.row._replace(claim=who if sim.row.claim != Who.NOBODY else Who.NOBODY)
    in_memory = sim.in_memory
    try:
        _replay(sim, who)
        says = "takeover" if sim.folders[who].is_copy else _listed(sim, who)
        _end(sim, who)
    except Killed:
        says = ""
    sim.in_memory = in_memory
    return says


def _end(sim: Simulation, who: int) -> None:
    """Its claim stays while the journal knows of something open."""
    if sim.row.claim == who and not sim.folders[who].is_at(*OPEN):
        sim.row = sim.row._replace(claim=Who.NOBODY)


def _replay(sim: Simulation, who: int) -> None:
    """What an earlier run left is stored."""
    if sim.row.claim == Who.BEFORE_THE_CLONE and sim.folders[who].is_twin:
        sim.row = sim.row._replace(claim=who)
    end = ""
    while end != "waits" and (entry := _review(sim, who)) is not None:
        run = Sent(who, entry.token, entry.answers[-1], sends=SENDS[sim.rules.kind], is_replay=True)
        _store(sim, run)
        end = run.end


def _review(sim: Simulation, who: int) -> Entry | None:
    """The entry whose answer is to be stored now; before it, those that are at their end are ended."""
    token, is_family = sim.row.token, sim.rules.kind == "family"
    for entry in sim.folders[who].entries:
        folder = sim.folders[who]
        form, new = entry.answers[-1] if entry.answers else ("", 0)
        if entry.step == "unproven" and token == entry.token and is_family and not _is_tried(folder, entry):
            sim.folders[who] = folder.put(entry._replace(step="answered"))
            return entry
        if entry.step == "unproven" and token not in _chain(folder, entry):
            is_back, is_tried = token == entry.token, _is_tried(folder, entry)
            back = _refuted(entry) if is_tried else entry._replace(step="lost", lost=True)
            folder = folder.put(back if is_back else entry._replace(step="superseded"))
        elif entry.step == "answered" and token == entry.token:
            return entry
        elif entry.step != "answered":
            continue
        elif entry.previous and token == entry.successor:
            folder = folder.put(entry._replace(step="unproven"))
        elif token == new:
            folder = folder.drop(entry.token, entry.token)
        elif form in ("pair", "alone") or (form == "failed" and is_family):
            folder = folder._replace(spent=folder.spent | ({entry.token} if form == "pair" else set()))
            folder = folder.put(entry._replace(step="superseded"))
        else:
            folder = folder.drop(entry.token)
        sim.folders[who] = folder
    return None


def _is_tried(folder: Installation, entry: Entry) -> bool:
    """Whether an answer to the unproven successor of a token is in the journal, too."""
    return any(one.token == entry.successor and one.step in ("unproven", "answered") for one in folder.entries)


def _refuted(entry: Entry) -> Entry:
    """The row holds the token again that was sent: it is as if the answer had been lost."""
    return entry._replace(step="lost", lost=True, refuted=(*entry.refuted, entry.successor), previous=0)


def _chain(folder: Installation, entry: Entry) -> set[int]:
    """The unproven successor of a token, its own, and so on."""
    found, after = {entry.successor}, folder.entry(entry.successor)
    while after is not None and after.step in ("unproven", "answered") and after.successor not in found:
        found.add(after.successor)
        after = folder.entry(after.successor)
    return found


def _listed(sim: Simulation, who: int) -> str:
    """The row is read, claimed in a database, and sent where it is due."""
    folder, row, is_airtable = sim.folders[who], sim.row, sim.rules.store == "airtable"
    if row.dead == row.token:
        return "reauthorize"
    if row.expiry == Expiry.FRESH:
        return ""
    if row.by not in (Who.NOBODY, who) and not folder.ignores:
        sim.folders[who] = folder._replace(is_copy=folder.is_copy or folder.is_twin)
        if folder.is_twin or (is_airtable and row.expiry != Expiry.LAST_MINUTE):
            return "takeover"
    if not is_airtable:
        if row.claim not in (Who.NOBODY, who):
            return "claimed"
        sim.row = row._replace(claim=who)
    left = [one for one in folder.entries if one.step not in ("sent", "lost") or one.token == row.token]
    sim.folders[who] = folder._replace(entries=tuple(left))
    return _send(sim, Sent(who, row.token))


def _send(sim: Simulation, run: Sent) -> str:
    """The row's token is sent, or what the run says where it is not sent now."""
    folder, kind = sim.folders[run.who], sim.rules.kind
    entry = folder.entry(run.token)
    step = entry.step if entry is not None and kind != "never" else ""
    if step in ("superseded", "unread"):
        return "recover" if step == "superseded" else "resend"
    if sim.rules.is_strict and run.token in folder.spent:
        return "onboard"
    must_wait = kind == "family" and sim.row.expiry < Expiry.LAST_MINUTE
    if entry is not None and step in ("sent", "lost") and (entry.waits or must_wait):
        return ""
    return _exchange(sim, run)


def _exchange(sim: Simulation, run: Sent) -> str:
    """Intent, request, answer, row; and once more where no answer came or its token is to be proved."""
    who, kind, entry = run.who, sim.rules.kind, sim.folders[run.who].entry(run.token)
    is_again = entry is not None and (entry.step in ("sent", "lost") or run.sends > 0)
    entry = entry._replace(step="sent", waits=True, lost=True) if entry and is_again else Entry(run.token)
    sim.folders[who], run.sends = sim.folders[who].put(entry), run.sends + 1
    run.answer = _answer_to(sim, run)
    if run.answer[0] != "none":
        before = entry.answers if run.answer[0] != "pair" else ()  # which nobody looks at any more
        kept = entry._replace(step="answered", answers=(*before, run.answer), expiry=Expiry.FRESH)
        sim.folders[who] = sim.folders[who].put(kept)
    is_harmless = not sim.rules.is_strict
    is_harmless |= not entry.lost and (kind == "once" or sim.row.expiry >= Expiry.LAST_MINUTE)
    run.repeats = run.sends < SENDS[kind] and is_harmless
    new = _store(sim, run)
    if run.end == "unproven" and not run.is_proof:
        return _send(sim, Sent(who, new, is_proof=True))
    return _exchange(sim, run) if run.end == "lost" and run.repeats else ""


def _store(sim: Simulation, run: Sent) -> int:
    """A kept answer is read, written into the row and confirmed; returns the token that the row gets by it.

    Not where its token is not in the row any more (`changed`); it waits where the row is another's, and what is
    unproven in a copy, for the original may prove it and would not know the token before.
    """
    who, is_airtable, goes_over = run.who, sim.rules.store == "airtable", run.over or run.token
    _passed(sim, run, "kept")
    run.end, new = _meant(sim, run)
    if run.end == "lost" and run.repeats:  # before anything is written
        return 0
    if run.end == "unproven" and sim.folders[who].is_copy:
        run.end = "waits"
        return 0
    entry = sim.folders[who].entry(run.token)
    if run.end == "unproven" and entry is not None:
        entry = entry._replace(successor=new, previous=entry.previous or goes_over)
        sim.folders[who] = sim.folders[who].put(entry)
    read, theirs = sim.row.token, sim.theirs  # once more, on Airtable
    if not is_airtable or read == goes_over:
        _passed(sim, run, "decided")
    now = read if is_airtable else sim.row.token
    if now != goes_over or (not is_airtable and sim.row.claim not in (Who.NOBODY, who)):
        _close(sim, run, new, "unclaimed" if now == goes_over else "changed")
        run.end = "waits" if now == goes_over else "changed"
        return 0
    if is_airtable and sim.row.token != read and run.end in ("refreshed", "unproven", "put back"):  # the second window
        sim.theirs, sim.is_lost = theirs, True
    _write(sim, run, new)
    _passed(sim, run, "written")
    _close(sim, run, new, "stored")
    return new


def _meant(sim: Simulation, run: Sent) -> tuple[str, int]:
    """What is to be done about an answer, and the token that the row gets by it."""
    folder, (form, new) = sim.folders[run.who], run.answer
    entry, before = folder.entry(run.token) or Entry(run.token), folder.proved_by(run.token)
    if form == "pair":
        return "refreshed", new
    if form == "alone" or (form == "failed" and sim.rules.kind == "family"):  # the old one could end the new ones
        return "unproven", new
    if form in ("none", "failed", "unknown"):
        return "unread" if form == "unknown" else "lost", 0
    pairs = [token for name, token in entry.answers if name in ("failed", "alone") and token not in entry.refuted]
    if pairs:
        return "unproven", pairs[0]
    previous = before.previous if before is not None else sim.row.previous
    return ("put back", previous) if previous else ("dead", 0)


def _write(sim: Simulation, run: Sent, new: int) -> None:
    row, folder = sim.row, sim.folders[run.who]
    entry = folder.entry(run.token)
    if run.end == "refreshed":
        sim.row = Row(new, entry.expiry if entry else Expiry.FRESH, by=run.who, claim=row.claim)
        sim.folders[:] = [one._replace(ignores=one.ignores and at == run.who) for at, one in enumerate(sim.folders)]
    elif run.end in ("unproven", "put back"):
        previous = row.previous if row.previous != new else 0
        is_known = not previous or previous in [one.previous for one in folder.entries if one.step == "unproven"]
        if run.end == "unproven" and sim.rules.store == "database" and is_known:
            previous = entry.previous if entry else 0  # else it is one that no entry here knows of
        sim.row = row._replace(token=new, expiry=Expiry.LAST_MINUTE, previous=previous)
    elif run.end == "dead":
        sim.row = row._replace(dead=run.token)


def _close(sim: Simulation, run: Sent, new: int, written: str) -> None:
    """The journal follows. Where the row has changed, or another has claimed it, theirs stays and ours is kept."""
    folder, end, is_rotated = sim.folders[run.who], run.end, sim.rules.kind != "never"
    entry, before = folder.entry(run.token) or Entry(run.token), folder.proved_by(run.token)
    step = end if end in ("unproven", "unread") and (is_rotated or written != "unclaimed") else ""
    if is_rotated and written != "changed" and (end == "lost" or (end == "dead" and entry.lost)):
        step = "lost"
    elif is_rotated and written == "unclaimed" and end in ("refreshed", "unproven"):
        step = entry.step  # the next run tries again
    elif written == "changed" and end in ("refreshed", "unproven", "unread"):
        step = "superseded"
    folder = folder.put(entry._replace(step=step)) if step else folder.drop(run.token)
    if end == "put back" and before is not None and written != "unclaimed":
        folder = folder.put(_refuted(before) if written == "stored" else before._replace(step="superseded"))
    if end == "refreshed":  # it works: what it was the successor of is spent, and so on
        folder = folder._replace(spent=folder.spent | (set() if written == "unclaimed" else {run.token} - {new}))
        while before is not None:
            folder = folder.drop(before.token, before.token)
            before = folder.proved_by(before.token)
    sim.folders[run.who] = folder


# Commands


def recover_replay(sim: Simulation, who: int) -> None:
    """`recover --replay`: also what was superseded, where the row has its token again, or a spent one of its grant."""
    folder, token = sim.folders[who], sim.row.token
    superseded = [one for one in folder.entries if one.step == "superseded" and one.answers]
    of_grant = [one for one in superseded if sim.book[one.token - 1].grant == sim.book[token - 1].grant]
    newest = [one for one in of_grant if token in folder.spent and sim.rules.is_strict]
    newest += [one for one in superseded if one.token == token]
    for one in newest[-1:] if not folder.is_at("answered") else ():
        _store(sim, Sent(who, one.token, one.answers[-1], sends=SENDS[sim.rules.kind], is_replay=True, over=token))
    _replay(sim, who)
    _end(sim, who)
    if newest and sim.row.token != token:  # of a sample, too
        sim.theirs = sim.book[sim.row.token - 1].grant or sim.theirs


def end_unread(sim: Simulation, who: int, *, resend: bool) -> None:
    """`recover --resend`, or `recover --discard --yes`."""
    for one in [one for one in sim.folders[who].entries if one.step == "unread"]:
        folder, left = sim.folders[who], tuple([answer for answer in one.answers if answer[0] != "unknown"])
        sent = one._replace(step="lost", lost=True, answers=left)  # what the answer held is given up
        sim.folders[who] = folder.put(sent) if resend else folder.drop(one.token)
    sim.is_lost = True
