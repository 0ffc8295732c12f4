"""What a measurement says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table: a ratio, the bound that it should keep, and what it was made of."""

    name: str
    ratio: float
    bound: str
    detail: str
