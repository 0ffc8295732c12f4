"""What `doctor` finds of one part; the command only lists it."""

from __future__ import annotations

from typing import NamedTuple

GOOD, DOUBTFUL, BAD = "ok", "look", "bad"


class Check(NamedTuple):
    """How one part stands.

    Attributes:
        part: its name; several checks may be of one part.
        state: `GOOD`, `DOUBTFUL` (somebody should look) or `BAD`.
        message: what was found.
        action: how to fix it; empty where there is nothing to fix.
    """

    part: str
    state: str
    message: str
    action: str = ""
