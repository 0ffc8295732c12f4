"""`doctor`: of each part, whether it is right, and how to fix it. It refreshes nothing and changes no value."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from providers.base import Answer, RawAnswer
from token_refresh.base.clock import Clock
from token_refresh.base.columns import OPTIONAL_COLUMNS
from token_refresh.base.errors import Kind
from token_refresh.journal.state_folder import file_system
from token_refresh.refresh.duplicates import ACTION, Duplicates, Member, sentence
from token_refresh.refresh.jobs import Bench, Job, RowError
from token_refresh.stores.airtable.quota import SHORT_ACTION, UNKNOWN_ACTION, Quota
from token_refresh.stores.base import Row, StoreError
from token_refresh.terminal.console import Talk
from token_refresh.wiring import Context, keyring, make_bench, open_parts, open_sealed, prepare

if TYPE_CHECKING:
    from token_refresh.refresh.parts import Parts
    from token_refresh.stores.sealed import SealedStore

GOOD, DOUBTFUL, BAD = "ok", "look", "bad"
CLOCK_SECONDS = 60  # a clock further off refreshes too late
REACH_SECONDS = 10


@dataclass(frozen=True)
class Finding:
    """What was found of one part; `action` says how to fix it."""

    part: str
    state: str
    text: str
    action: str = ""


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """Look at every part and report; exit 1 where one is bad."""
    context = prepare(environ, clock, talk)
    findings = list(_findings(context, online=arguments.online))
    if talk.as_json:
        talk.object({"findings": [finding.__dict__ for finding in findings]})
    else:
        from token_refresh.terminal.report import show_table

        show_table(
            ("part", "", "finding", "what to do"), [(one.part, one.state, one.text, one.action) for one in findings]
        )
    return (Kind.ROW,) if any(finding.state == BAD for finding in findings) else ()


def _findings(context: Context, *, online: bool) -> Iterator[Finding]:
    yield Finding("key", GOOD, f"cells are sealed with key {keyring(context.settings).key_id}")
    yield _state_folder(context)
    yield from _dotenv(context.settings.home)
    endpoints: dict[str, str] = {}
    yield from _guarded("store", lambda: _table(context, endpoints))
    yield from _providers(context, endpoints)
    if online:
        yield from _guarded("online", lambda: _online(context))


def _guarded(part: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from list(look())
    except StoreError as error:
        yield Finding(part, BAD, str(error), error.action)


def _state_folder(context: Context) -> Finding:
    path = context.state.path
    kind = file_system(path)
    return Finding("state folder", GOOD, f"{path} can be written" + (f" ({kind})" if kind else ""))


def _dotenv(home: Path) -> Iterator[Finding]:
    """`.env` must not be in version control, nor be one `git add` away from it."""
    path = home / ".env"
    if not path.exists():
        yield Finding(".env", GOOD, "there is none; the settings come from the environment")
        return
    if _git(home, "ls-files", "--error-unmatch", ".env"):
        yield Finding(
            ".env", BAD, ".env is in version control, with its secrets",
            "Run: git rm --cached .env; then change every secret in it.",
        )  # fmt: skip
    elif _git(home, "rev-parse") and not _git(home, "check-ignore", "-q", ".env"):
        yield Finding(".env", DOUBTFUL, ".env is not ignored by git", "Add the line .env to .gitignore.")
    else:
        yield Finding(".env", GOOD, "private, and not in version control")


def _git(folder: Path, *arguments: str) -> bool:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the user's own git
            cwd=folder,
            capture_output=True,
            timeout=REACH_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _table(context: Context, endpoints: dict[str, str]) -> Iterator[Finding]:
    """A database is asked when it is opened, Airtable when it is used."""
    with open_sealed(context) as store:
        yield from _guarded("store", lambda: _store(context, store))
        yield from _guarded("rows", lambda: _rows(context, store, endpoints))


def _store(context: Context, store: SealedStore) -> Iterator[Finding]:
    columns = store.store.columns
    missing = [name for name in OPTIONAL_COLUMNS if name not in columns]
    yield Finding("store", GOOD, f"{context.settings.store} answers, with all required columns")
    if "refreshed_by" in missing:
        yield Finding(
            "columns", DOUBTFUL, "without refreshed_by a second machine on this table goes unnoticed",
            "Run: python token_manager.py setup",
        )  # fmt: skip
    if missing:
        yield Finding("columns", GOOD, f"not there, and not required: {', '.join(missing)}")
    usage = store.store.usage()
    if usage is not None:
        plan = context.settings.airtable.plan if context.settings.airtable else ""
        yield quota(plan, usage.calls, usage.forecast)


def quota(plan: str, calls: int, forecast: int) -> Finding:
    """How the month's calls stand against the plan."""
    stand = Quota.of(plan, calls, forecast)
    if stand.is_short:
        return Finding("quota", BAD if stand.is_spent else DOUBTFUL, str(stand), SHORT_ACTION)
    return Finding("quota", GOOD, str(stand), "" if plan else UNKNOWN_ACTION)


def _rows(context: Context, store: SealedStore, endpoints: dict[str, str]) -> Iterator[Finding]:
    """Every row with a credential is opened, and the store proves that it takes writes.

    The token endpoints that the rows use are put into `endpoints`, with their provider's name; not those of hosts
    that a row names itself, which nobody should be able to make this machine knock at.
    """
    bench = make_bench(context, store)
    rows = [row for row in store.store.rows() if row.encrypted_refresh]
    if rows:
        store.store.prove_writable(rows[0])
        yield Finding("writing", GOOD, "the store takes writes (one cell was written with the value it had)")
    else:
        yield Finding("writing", DOUBTFUL, "there is no row to try it on", "Add a client: python onboard_client.py")
    made = [bench.job(row) for row in rows]
    faults = [one for one in made if isinstance(one, RowError)]
    jobs = [one for one in made if isinstance(one, Job)]
    endpoints.update({job.endpoint.url: job.provider.name for job in jobs if job.endpoint.is_fixed})
    yield Finding("cells", GOOD, f"{len(rows) - len(faults)} of {len(rows)} rows open")
    for fault in faults:
        yield Finding("cells", BAD, f"{fault.row.location_id}: {fault.error}", fault.action)
    yield from _duplicates(bench, rows)


def _online(context: Context) -> Iterator[Finding]:
    with open_parts(context) as parts:
        yield from _introspections(parts)


def _introspections(parts: Parts) -> Iterator[Finding]:
    """Ask each provider that has an introspection endpoint (RFC 7662) whether the stored access tokens live."""
    asked = 0
    for row in parts.store.store.rows():
        job = parts.bench.job(row) if row.encrypted_refresh else None
        if not isinstance(job, Job) or job.provider.introspect_url is None:
            continue
        [whole] = [one for one in parts.store.store.find(row.location_id) if one.key == row.key]
        token = parts.store.access_token(whole, job.binding)
        request = job.provider.introspect_request(job.credential, token) if token else None
        if request is None:
            continue
        asked += 1
        state = _introspected(parts.transport.post(request))
        if state is not True:
            what = "says that the access token is not active" if state is False else "gave no usable answer"
            yield Finding(
                "online", BAD if state is False else DOUBTFUL, f"{row.location_id}: {job.provider.name} {what}",
                f"Run: python token_manager.py refresh --all --location {row.location_id}",
            )  # fmt: skip
    yield Finding("online", GOOD, f"{asked} access tokens were asked about; the other providers have no introspection")


def _introspected(answer: RawAnswer | Answer) -> bool | None:
    """The `active` member of an RFC 7662 answer; None where there is none."""
    if isinstance(answer, Answer):
        return None
    try:
        active = json.loads(answer.body).get("active")
    except (ValueError, AttributeError, RecursionError):
        return None
    return active if isinstance(active, bool) else None


def _duplicates(bench: Bench, rows: list[Row]) -> Iterator[Finding]:
    duplicates = Duplicates()
    for row in rows:
        duplicates.add_identity(Member(row.key, row.location_id, bench.provider_name(row)))
    for kind, members in duplicates.groups():
        yield Finding("rows", BAD, sentence(kind, members), ACTION)


def _providers(context: Context, endpoints: dict[str, str]) -> Iterator[Finding]:
    """Whether each endpoint in use answers at all, and what time it has. No credential is sent."""
    clocks: list[datetime] = []
    for url, name in (endpoints or _default_endpoint(context)).items():
        answer = _date_at(url, context)
        if isinstance(answer, str):
            yield Finding("provider", BAD, f"{name} cannot be reached: {answer}", "Check network, proxy and CA_BUNDLE.")
            continue
        yield Finding("provider", GOOD, f"{name} answers")
        clocks += [answer] if answer is not None else []
    if clocks:
        yield _clock(clocks[0], context.clock.now())


def _default_endpoint(context: Context) -> dict[str, str]:
    """The default provider's endpoint, for a table without rows; none where each row names its host."""
    provider = context.catalog.get(context.settings.default_provider)
    if any(default is None for default in provider.placeholders.values()):
        return {}
    return {provider.endpoint({}).url: provider.name}


def _date_at(url: str, context: Context) -> datetime | str | None:
    """The server's time; a reason where it does not answer."""
    import requests

    from token_refresh.net import tls

    proxy = context.settings.https_proxy_url
    adapter = tls.Adapter(context.settings.ca_bundle, connections=1)
    try:
        with (
            tls.make_session(adapter, proxy.reveal() if proxy else None) as session,
            session.get(url, timeout=REACH_SECONDS, allow_redirects=False, stream=True) as answer,
        ):
            date = answer.headers.get("Date")
        moment = parsedate_to_datetime(date) if date else None
    except requests.RequestException as error:
        return type(error).__name__
    except tls.CertificatesError as error:
        return str(error)
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def _clock(theirs: datetime, ours: datetime) -> Finding:
    off = abs((ours - theirs).total_seconds())
    if off > CLOCK_SECONDS:
        return Finding(
            "clock", BAD, f"this machine's clock is {off:.0f} s off", "Switch on time synchronisation (NTP)."
        )
    return Finding("clock", GOOD, "agrees with the provider's")
