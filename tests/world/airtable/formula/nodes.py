"""What a parsed formula is made of: functions of a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tests.world.airtable.formula import functions
from tests.world.airtable.formula.values import (
    FormulaError,
    FormulaSyntaxError,
    Value,
    equal,
    less,
    to_number,
    to_text,
    to_value,
    truthy,
)

if TYPE_CHECKING:
    from tests.world.airtable.tables import Row, Table

INVALID = "Invalid formula. Please check your formula text."


@dataclass(frozen=True)
class Record:
    """One record as a formula sees it."""

    table: Table
    row: Row
    now: datetime


Node = Callable[[Record], Value]


@dataclass(frozen=True)
class FieldRef:
    """`{Name}`: the value of a column."""

    column_id: str

    def __call__(self, record: Record) -> Value:
        column = record.table.columns.get(self.column_id)
        return None if column is None else to_value(record.table.value(record.row, column))


@dataclass(frozen=True)
class IdAmong:
    """`RECORD_ID()='a'`, and `OR(…)` of such: kept apart because a table can answer it without looking at each row."""

    ids: frozenset[str]

    def __call__(self, record: Record) -> Value:
        return record.row.id in self.ids


# Operators


@dataclass(frozen=True)
class Constant:
    """A literal."""

    value: Value

    def __call__(self, _record: Record) -> Value:
        return self.value


_COMPARE: Mapping[str, Callable[[Value, Value], bool]] = {
    "=": equal,
    "!=": lambda left, right: not equal(left, right),
    "<": less,
    ">": lambda left, right: less(right, left),
    "<=": lambda left, right: not less(right, left),
    ">=": lambda left, right: not less(left, right),
}


def compare(sign: str, left: Node, right: Node) -> Node:
    """`left sign right`."""
    if sign == "=" and left is _record_id and isinstance(right, Constant) and isinstance(right.value, str):
        return IdAmong(frozenset({right.value}))
    holds = _COMPARE[sign]
    return lambda record: holds(left(record), right(record))


def join(left: Node, right: Node) -> Node:
    """`left & right`."""
    return lambda record: to_text(left(record)) + to_text(right(record))


def negative(node: Node) -> Node:
    """`-node`."""
    return lambda record: -to_number(node(record))


def arithmetic(sign: str, left: Node, right: Node) -> Node:
    """`left sign right` on numbers."""
    calculate = functions.ARITHMETIC[sign]
    return lambda record: calculate(to_number(left(record)), to_number(right(record)))


# Functions that need the record, or not all their arguments

Builder = Callable[[list[Node]], Node]


def _count(arguments: list[Node], least: int, most: int | None) -> None:
    if len(arguments) < least or (most is not None and len(arguments) > most):
        raise FormulaSyntaxError(INVALID)


def _record_id(record: Record) -> Value:
    return record.row.id


def _without_arguments(node: Node) -> Builder:
    def build(arguments: list[Node]) -> Node:
        _count(arguments, 0, 0)
        return node

    return build


def _if(arguments: list[Node]) -> Node:
    _count(arguments, 2, 3)
    condition, then = arguments[:2]
    otherwise = arguments[2] if len(arguments) == 3 else Constant(None)
    return lambda record: then(record) if truthy(condition(record)) else otherwise(record)


def _switch(arguments: list[Node]) -> Node:
    _count(arguments, 3, None)
    subject, *rest = arguments
    default = rest.pop() if len(rest) % 2 else Constant(None)
    cases = list(zip(rest[::2], rest[1::2], strict=True))

    def choose(record: Record) -> Value:
        value = subject(record)
        for pattern, result in cases:
            if equal(value, pattern(record)):
                return result(record)
        return default(record)

    return choose


def _is_error(arguments: list[Node]) -> Node:
    _count(arguments, 1, 1)

    def check(record: Record) -> Value:
        try:
            arguments[0](record)
        except (FormulaError, OverflowError):
            return True
        return False

    return check


def _or(arguments: list[Node]) -> Node:
    _count(arguments, 1, None)
    ids = [node.ids for node in arguments if isinstance(node, IdAmong)]
    if len(ids) == len(arguments):
        return IdAmong(frozenset().union(*ids))
    return _plain(functions.FUNCTIONS["OR"])(arguments)


def _last_modified(arguments: list[Node]) -> Node:
    columns = [node.column_id for node in arguments if isinstance(node, FieldRef)]
    if len(columns) != len(arguments):
        raise FormulaSyntaxError(INVALID)

    def latest(record: Record) -> Value:
        modified = record.row.modified
        return max((modified[key] for key in columns or modified if key in modified), default=None)

    return latest


def _plain(function: functions.Function) -> Builder:
    def build(arguments: list[Node]) -> Node:
        _count(arguments, function.least, function.most)
        call = function.call
        return lambda record: call(*[node(record) for node in arguments])

    return build


def _today(record: Record) -> Value:
    return record.now.replace(hour=0, minute=0, second=0, microsecond=0)


def _days_from_now(arguments: list[Node]) -> Node:
    _count(arguments, 1, 1)
    return lambda record: functions.days_between(arguments[0](record), record.now)


BUILDERS: dict[str, Builder] = {
    "RECORD_ID": _without_arguments(_record_id),
    "CREATED_TIME": _without_arguments(lambda record: record.row.created),
    "NOW": _without_arguments(lambda record: record.now),
    "TODAY": _without_arguments(_today),
    "LAST_MODIFIED_TIME": _last_modified,
    "FROMNOW": _days_from_now,
    "TONOW": _days_from_now,
    "IF": _if,
    "SWITCH": _switch,
    "ISERROR": _is_error,
    **{name: _plain(function) for name, function in functions.FUNCTIONS.items()},
    "OR": _or,
}
