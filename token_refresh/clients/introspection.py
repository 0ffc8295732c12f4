"""What providers themselves say of stored access tokens (RFC 7662), and where the rows' tokens come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from providers.base import Answer, Provider, RawAnswer
from providers.introspection import introspection_request
from token_refresh.base.checks import BAD, DOUBTFUL, GOOD, Check
from token_refresh.base.program import TOKEN_MANAGER, flag
from token_refresh.base.text import counted
from token_refresh.clients.rows import access_token_of
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.run_context import RunContext


def endpoints_in_use(made: Iterable[Job | UnusableRow]) -> dict[str, str]:
    """The token endpoints of these rows, with their provider's name.

    Not those of hosts that a row names itself: nobody should be able to make this machine knock there.
    """
    jobs = [one for one in made if isinstance(one, Job)]
    return {job.endpoint.url: job.provider.name for job in jobs if job.endpoint.is_fixed}


def unused_endpoint(default: Provider) -> dict[str, str]:
    """What to try where no row has an endpoint: the default provider's, unless its rows name their host."""
    if any(placeholder is None for placeholder in default.placeholders.values()):
        return {}
    return {default.endpoint({}).url: f"{default.name}, which no row uses,"}


def check_tokens(context: RunContext) -> Iterator[Check]:
    """Ask each provider that has an introspection endpoint whether the stored access tokens are active."""
    asked = 0
    for row in context.store.store.rows():
        job = context.job_factory.job(row) if row.encrypted_refresh else None
        if not isinstance(job, Job) or job.provider.introspect_url is None:
            continue
        token = access_token_of(context, row, job)
        request = introspection_request(job.provider, job.credential, token) if token else None
        if request is None:
            continue
        asked += 1
        is_active = _is_active(context.transport.post(request))
        if is_active is not True:
            what = "gave no usable answer" if is_active is None else "says that the access token is not active"
            yield Check(
                "online",
                DOUBTFUL if is_active is None else BAD,
                f"{row.location_id}: {job.provider.name} {what}",
                f"Run: {TOKEN_MANAGER} refresh --all {flag('--location', row.location_id)}",
            )
    tokens = counted(asked, "access token was", "access tokens were")
    yield Check("online", GOOD, f"{tokens} asked about; the other providers have no introspection")


def _is_active(answer: RawAnswer | Answer) -> bool | None:
    """The `active` member of the answer; None where there is none."""
    if isinstance(answer, Answer):
        return None
    try:
        active = json.loads(answer.body).get("active")
    except (ValueError, AttributeError, RecursionError):
        return None
    return active if isinstance(active, bool) else None
