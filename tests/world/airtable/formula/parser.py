"""Reading a formula: recursive descent over tokens.

Field names are found whatever their case, as Airtable's own messages suggest (they name unknown fields in lower
case); field ids are names too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.world.airtable.formula import nodes
from tests.world.airtable.formula.nodes import INVALID, Node
from tests.world.airtable.formula.values import FormulaSyntaxError

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<field>\{(?:\\[{}]|[^}])*\})
      | (?P<name>[^\W\d]\w*)
      | (?P<sign>!=|<=|>=|[=<>&+\-*/(),])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Parser:
    """Recursive descent, loosest operator first: comparison, `&`, sum, product, sign, operand."""

    def __init__(self, text: str, ids_by_name: Mapping[str, str]) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._ids_by_name = ids_by_name
        self._ids_by_lower_name = {name.lower(): key for name, key in ids_by_name.items()}
        self._unknown_fields: list[str] = []
        self._unknown_functions: list[str] = []

    def parse(self) -> Node:
        """The whole formula. Raises `FormulaSyntaxError`, naming every unknown name."""
        node = self._comparison()
        if self._kind != "end":
            raise FormulaSyntaxError(INVALID)
        if self._unknown_functions:
            raise FormulaSyntaxError("Unknown function names: " + ", ".join(self._unknown_functions))
        if self._unknown_fields:
            raise FormulaSyntaxError("Unknown field names: " + ", ".join(self._unknown_fields).lower())
        return node

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _text(self) -> str:
        return self._tokens[self._at][1]

    def _take(self) -> str:
        text = self._text
        self._at += 1
        return text

    def _take_sign(self, *signs: str) -> str | None:
        return self._take() if self._kind == "sign" and self._text in signs else None

    def _expect(self, sign: str) -> None:
        if self._take_sign(sign) is None:
            raise FormulaSyntaxError(INVALID)

    def _comparison(self) -> Node:
        node = self._joined()
        while sign := self._take_sign("=", "!=", "<", ">", "<=", ">="):
            node = nodes.compare(sign, node, self._joined())
        return node

    def _joined(self) -> Node:
        node = self._sum()
        while self._take_sign("&"):
            node = nodes.join(node, self._sum())
        return node

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._take_sign("+", "-"):
            node = nodes.arithmetic(sign, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._signed()
        while sign := self._take_sign("*", "/"):
            node = nodes.arithmetic(sign, node, self._signed())
        return node

    def _signed(self) -> Node:
        if self._take_sign("-"):
            return nodes.negative(self._signed())
        return self._operand()

    def _operand(self) -> Node:
        kind, text = self._kind, self._take()
        if kind == "number":
            return nodes.Constant(float(text))
        if kind == "string":
            return nodes.Constant(_unescaped(text[1:-1]))
        if kind == "field":
            return self._field(re.sub(r"\\([{}])", r"\1", text[1:-1]))
        if kind == "name":
            return self._call(text) if self._take_sign("(") else self._field(text)
        if (kind, text) == ("sign", "("):
            node = self._comparison()
            self._expect(")")
            return node
        raise FormulaSyntaxError(INVALID)

    def _field(self, name: str) -> Node:
        key = self._ids_by_name.get(name) or self._ids_by_lower_name.get(name.lower())
        if key is None and name in self._ids_by_name.values():
            key = name
        if key is None and name not in self._unknown_fields:
            self._unknown_fields.append(name)
        return nodes.FieldRef(key or "")

    def _call(self, name: str) -> Node:
        arguments = self._arguments()
        builder = nodes.BUILDERS.get(name.upper())
        if builder is None:
            self._unknown_functions.append(name)
            return nodes.Constant(None)
        return builder(arguments)

    def _arguments(self) -> list[Node]:
        if self._take_sign(")"):
            return []
        arguments = [self._comparison()]
        while self._take_sign(","):
            arguments.append(self._comparison())
        self._expect(")")
        return arguments


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text, flags=re.DOTALL)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while not tokens or tokens[-1][0] != "end":
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise FormulaSyntaxError(INVALID)
        tokens.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return tokens
