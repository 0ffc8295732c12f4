"""`rebind LOCATION`: after an honest change of location id, tenant, instance or endpoint, seal the cells for it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from functools import partial

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.base.events import audited
from token_refresh.clients.rows import find_one
from token_refresh.commands import patient_lock, prepare
from token_refresh.keys.rebind import FormerPlace, Rebinding, plan_rebinding, rebind
from token_refresh.net.hosts import agreement_question, is_agreed, require_agreement
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_allow_host, add_row, add_yes
from token_refresh.terminal.prompts import can_ask, require_yes
from token_refresh.wiring import make_job_factory, open_sealed, run_context_around


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    add_row(parser, "as the row has it now")
    parser.add_argument("--was-location", metavar="ID", help="the location id that the cells were sealed for")
    parser.add_argument("--was-origin", metavar="ORIGIN", help="the token host that they were sealed for: https://host")
    add_yes(parser)
    add_allow_host(parser)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Show both places, ask, and seal what opens only in the former one."""
    installation = prepare(environ, clock, console)
    former = FormerPlace(arguments.was_location, arguments.was_origin)
    with open_sealed(installation) as store:
        job_factory = make_job_factory(installation, store)
        find_row = partial(find_one, store.store, job_factory, arguments.location, arguments.provider)
        plan = plan_rebinding(find_row, store, job_factory, former)
        if plan.check.stale:
            _agree(arguments, plan, console)
            with (
                patient_lock(installation, console),
                run_context_around(installation, store) as context,
                audited(context.audit, "rebind", plan.row.location_id) as used,
            ):
                used.client_id = plan.row.client_id
                rebind(context, find_row, former, plan)
    if console.as_json:
        console.object(plan.as_json())
    columns = ", ".join(plan.check.stale)
    what = f"{columns} encrypted for {plan.binding.origin}" if columns else "all values can be decrypted already"
    console.info(f"{plan.row.location_id} {plan.provider}: {what}")
    return ()


def _agree(arguments: argparse.Namespace, plan: Rebinding, console: Console) -> None:
    """A yes to this very host: from a person, or by flags where nobody can be asked.

    Raises:
        ActionableError: there is none.
    """
    console.info(f"sealed for: {plan.was_origin}, location {plan.was_location!r}")
    console.info(f"the row is: {plan.binding.origin}, location {plan.row.location_id!r}")
    if arguments.yes and is_agreed(plan.binding, arguments.allow_host):
        return
    if arguments.yes and not can_ask():
        require_agreement(plan.binding, arguments.allow_host)
    require_yes(agreement_question(plan.binding), "If both are right, repeat with --yes.")
