"""What to say, and to do, where others have claimed a row that somebody asks for."""

from __future__ import annotations

from collections.abc import Mapping

from token_refresh.refresh.claims import other_hosts
from token_refresh.stores.base import Claimant


def who_holds(
    held: Mapping[str, int], held_long: Mapping[str, int], claimant: Claimant, location_id: str
) -> tuple[str, str]:
    """The sentence and the action, for the one row of this location; see `RunFinished`.

    A takeover is only advised where no refresh can still be under way.
    """
    hosts = other_hosts(held, claimant)
    if not hosts:
        return "another process is refreshing it", "Try again in a minute."
    named = ", ".join(sorted(hosts))[:80]
    if other_hosts(held_long, claimant) != hosts:
        return f"another process is refreshing it, on {named}", "Try again in a minute."
    command = f"python token_manager.py refresh --all --takeover --location {location_id}"
    action = f"Run the program there once. If that machine is gone for ever: {command}"
    return f"{named} claimed it and has not finished with it", action
