"""The functions of Airtable formulas that depend on their arguments alone.

Each is listed with what support.airtable.com/docs/formula-field-reference says of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from tests.world.airtable.formula import dates
from tests.world.airtable.formula.values import FormulaError, Value, to_number, to_text, to_time, truthy


@dataclass(frozen=True)
class Function:
    """A function and how many arguments it takes (`most` is `None`: any number)."""

    call: Callable[..., Value]
    least: int
    most: int | None


def _divide(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if not left or math.isnan(left) else math.copysign(math.inf, left)


ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _divide,
}


# Logic


def _error() -> Value:
    raise FormulaError


def _and(*values: Value) -> Value:
    return all(truthy(value) for value in values)


def _or(*values: Value) -> Value:
    return any(truthy(value) for value in values)


def _xor(*values: Value) -> Value:
    return sum(truthy(value) for value in values) % 2 == 1


# Text


def _find(needle: Value, text: Value, start: Value = None) -> int:
    """The place of the first occurrence, counted from 1; 0 where there is none."""
    return to_text(text).find(to_text(needle), max(int(to_number(start)) - 1, 0)) + 1


def _search(needle: Value, text: Value, start: Value = None) -> Value:
    """As FIND, but blank where there is none."""
    return _find(needle, text, start) or None


def _substitute(text: Value, old: Value, new: Value, index: Value = None) -> Value:
    whole, part, other = to_text(text), to_text(old), to_text(new)
    if index is None or not part:
        return whole.replace(part, other) if part else whole
    pieces = whole.split(part)
    at = int(to_number(index))
    if not 0 < at < len(pieces):
        return whole
    return part.join(pieces[:at]) + other + part.join(pieces[at:])


def _replace(text: Value, start: Value, count: Value, new: Value) -> Value:
    whole, at = to_text(text), int(to_number(start)) - 1
    return whole[:at] + to_text(new) + whole[at + int(to_number(count)) :]


def _mid(text: Value, start: Value, count: Value) -> Value:
    at = max(int(to_number(start)) - 1, 0)
    return to_text(text)[at : at + int(to_number(count))]


def _right(text: Value, count: Value) -> Value:
    wanted = int(to_number(count))
    return to_text(text)[-wanted:] if wanted > 0 else ""


def _value(text: Value) -> Value:
    """Text as a number; an error where it has none."""
    if not isinstance(text, str):
        return to_number(text)
    found = re.search(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+", text)
    if found is None:
        raise FormulaError
    return float(found[0].replace(",", ""))


def _pattern(expression: Value) -> re.Pattern[str]:
    try:
        return re.compile(to_text(expression))
    except re.error:
        raise FormulaError from None


def _regex_extract(text: Value, expression: Value) -> Value:
    found = _pattern(expression).search(to_text(text))
    return found[0] if found else None


def _regex_replace(text: Value, expression: Value, new: Value) -> Value:
    replacement = re.sub(r"\$(\d)", r"\\\1", to_text(new))
    return _pattern(expression).sub(replacement, to_text(text))


# Numbers


def _rounded(how: Callable[[float], float]) -> Callable[..., Value]:
    def call(value: Value, precision: Value = None) -> Value:
        scale = 10.0 ** int(to_number(precision))
        return how(to_number(value) * scale) / scale

    return call


def _to_multiple(how: Callable[[float], int]) -> Callable[..., Value]:
    def call(value: Value, significance: Value = 1) -> Value:
        step = to_number(significance)
        return how(_divide(to_number(value), step)) * step

    return call


def _away_from_zero(value: float) -> float:
    return math.copysign(math.ceil(abs(value)), value)


def _parity(parity: int) -> Callable[[Value], Value]:
    """EVEN and ODD round away from zero to the next number of that parity."""

    def call(value: Value) -> Value:
        number = _away_from_zero(to_number(value))
        return number if number % 2 == parity else number + math.copysign(1, number)

    return call


def _real(calculate: Callable[[float, float], float]) -> Callable[..., Value]:
    def call(left: Value, right: Value = None) -> Value:
        try:
            return calculate(to_number(left), to_number(right))
        except (ValueError, ZeroDivisionError):
            raise FormulaError from None

    return call


def _numbers(values: tuple[Value, ...]) -> list[float]:
    return [to_number(value) for value in values if isinstance(value, int | float)]


def _average(*values: Value) -> Value:
    numbers = _numbers(values)
    return _divide(sum(numbers), len(numbers))


def days_between(moment: Value, now: datetime) -> Value:
    """FROMNOW and TONOW: whole days, whichever comes first."""
    return abs(to_time(moment) - now).days


FUNCTIONS: Mapping[str, Function] = {
    "AND": Function(_and, 1, None),
    "OR": Function(_or, 1, None),
    "NOT": Function(lambda value: not truthy(value), 1, 1),
    "XOR": Function(_xor, 1, None),
    "TRUE": Function(lambda: True, 0, 0),
    "FALSE": Function(lambda: False, 0, 0),
    "BLANK": Function(lambda: None, 0, 0),
    "ERROR": Function(_error, 0, 0),
    "CONCATENATE": Function(lambda *values: "".join(map(to_text, values)), 1, None),
    "ENCODE_URL_COMPONENT": Function(lambda text: quote(to_text(text), safe="!'()*"), 1, 1),
    "EXACT": Function(lambda left, right: to_text(left) == to_text(right), 2, 2),
    "FIND": Function(_find, 2, 3),
    "LEFT": Function(lambda text, count: to_text(text)[: max(int(to_number(count)), 0)], 2, 2),
    "LEN": Function(lambda text: len(to_text(text)), 1, 1),
    "LOWER": Function(lambda text: to_text(text).lower(), 1, 1),
    "MID": Function(_mid, 3, 3),
    "REGEX_EXTRACT": Function(_regex_extract, 2, 2),
    "REGEX_MATCH": Function(lambda text, expression: bool(_pattern(expression).search(to_text(text))), 2, 2),
    "REGEX_REPLACE": Function(_regex_replace, 3, 3),
    "REPLACE": Function(_replace, 4, 4),
    "REPT": Function(lambda text, count: to_text(text) * int(to_number(count)), 2, 2),
    "RIGHT": Function(_right, 2, 2),
    "SEARCH": Function(_search, 2, 3),
    "SUBSTITUTE": Function(_substitute, 3, 4),
    "T": Function(lambda value: value if isinstance(value, str) else None, 1, 1),
    "TRIM": Function(lambda text: to_text(text).strip(), 1, 1),
    "UPPER": Function(lambda text: to_text(text).upper(), 1, 1),
    "VALUE": Function(_value, 1, 1),
    "ABS": Function(lambda value: abs(to_number(value)), 1, 1),
    "AVERAGE": Function(_average, 1, None),
    "CEILING": Function(_to_multiple(math.ceil), 1, 2),
    "COUNT": Function(lambda *values: len(_numbers(values)), 1, None),
    "COUNTA": Function(lambda *values: sum(value not in (None, "") for value in values), 1, None),
    "COUNTALL": Function(lambda *values: len(values), 1, None),
    "EVEN": Function(_parity(0), 1, 1),
    "EXP": Function(_real(lambda power, _: math.exp(power)), 1, 1),
    "FLOOR": Function(_to_multiple(math.floor), 1, 2),
    "INT": Function(lambda value: math.floor(to_number(value)), 1, 1),
    "LOG": Function(_real(lambda value, base: math.log(value, base or 10)), 1, 2),
    "MAX": Function(lambda *values: max(_numbers(values), default=0), 1, None),
    "MIN": Function(lambda *values: min(_numbers(values), default=0), 1, None),
    "MOD": Function(_real(lambda value, divisor: value % divisor), 2, 2),
    "ODD": Function(_parity(1), 1, 1),
    "POWER": Function(_real(math.pow), 2, 2),
    "ROUND": Function(_rounded(lambda value: math.floor(value + 0.5)), 1, 2),
    "ROUNDDOWN": Function(_rounded(math.trunc), 1, 2),
    "ROUNDUP": Function(_rounded(_away_from_zero), 1, 2),
    "SQRT": Function(_real(lambda value, _: math.sqrt(value)), 1, 1),
    "SUM": Function(lambda *values: sum(_numbers(values)), 1, None),
    **{name: Function(*signature) for name, signature in dates.FUNCTIONS.items()},
}
