"""The forms in which an answer may come, as faults that can be put together: shape, status, framing, cut.

`composed(reshaped("form"), framed("close"), cut_at(0.5))` is one; `GRANTS` and `REFUSALS` are all of a kind, for
tests that draw. Each shape has been seen: as the answer of a real provider, a gateway in front of one, or a mistake.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, get_args
from urllib.parse import urlencode

from tests.world.http import Framing, Response
from tests.world.oauth.faults import HTML, JSON, Act, Call, Fault

FRAMINGS: tuple[Framing, ...] = get_args(Framing)
PAGE = {"Content-Type": "text/html; charset=utf-8"}
TEXT = {"Content-Type": "text/plain"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Shape:
    """How a good answer is written. `is_read`: its tokens can be told from it without a doubt."""

    write: Callable[[Mapping[str, Any]], bytes]
    headers: Mapping[str, str]
    is_read: bool = True


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _respelled(content: Mapping[str, Any], spell: Callable[[str], str] = _camel) -> dict[str, Any]:
    return {spell(name): value for name, value in content.items()}


def _apart(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"access": {"access_token": content["access_token"]}, "renewal": {**content, "access_token": None}}


def _json(change: Callable[[Mapping[str, Any]], Any], *, is_read: bool = True, **how: Any) -> Shape:
    encoding = how.pop("encoding", "utf-8")
    return Shape(lambda content: json.dumps(change(content), **how).encode(encoding), JSON, is_read)


def _form(content: Mapping[str, Any]) -> bytes:
    return urlencode({name: value for name, value in content.items() if isinstance(value, str | int)}).encode()


SHAPES: Mapping[str, Shape] = {
    "json": _json(dict),
    "json with blanks": _json(dict, indent=2),
    "json in UTF-16": _json(dict, encoding="utf-16"),
    "json as text": replace(_json(dict), headers=TEXT),
    "json as a page": replace(_json(dict), headers=PAGE),
    "camel case": _json(_respelled),
    "one level down": _json(lambda content: {"status": 0, "body": content}),
    "one level down in camel case": _json(lambda content: {"data": _respelled(content), "meta": {}}),
    "form": Shape(_form, FORM),
    "form as a page": Shape(_form, PAGE),
    "form in camel case": Shape(lambda content: _form(_respelled(content)), FORM),
    "two levels down": _json(lambda content: {"response": {"data": content}}, is_read=False),
    "in a list": _json(lambda content: {"data": [content]}, is_read=False),
    "two candidates": _json(lambda content: {"data": content, "example": content}, is_read=False),
    "two spellings that differ": _json(lambda content: {**content, "accessToken": "sample-access"}, is_read=False),
    "tokens apart": _json(_apart, is_read=False),
    "capitals": _json(lambda content: _respelled(content, str.upper), is_read=False),
    "names of its own": _json(lambda content: _respelled(content, "oauth:{}".format), is_read=False),
    "form with a name twice": Shape(lambda content: _form(content) + b"&access_token=sample-access", FORM, False),
}


@dataclass(frozen=True)
class RefusalForm:
    """How a refusal is written.

    Attributes:
        write: of code and words.
        tells_code: where every reader looks for one.
        tells_words: where a person may read them.
    """

    write: Callable[[str, str], bytes]
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    tells_code: bool = False
    tells_words: bool = True


def _refusal(change: Callable[[str, str], Any], *, tells_code: bool = False, tells_words: bool = True) -> RefusalForm:
    return RefusalForm(lambda code, words: json.dumps(change(code, words)).encode(), JSON, tells_code, tells_words)


REFUSAL_FORMS: Mapping[str, RefusalForm] = {
    "error": _refusal(lambda code, words: {"error": code, "error_description": words}, tells_code=True),
    "error.code": _refusal(lambda code, words: {"error": {"code": code, "message": words}}, tells_code=True),
    "errors[].code": _refusal(lambda code, words: {"errors": [{"code": code, "detail": words}]}, tells_code=True),
    "errors[].errorType": _refusal(lambda code, words: {"errors": [{"errorType": code, "message": words}]}),
    "errors[].type": _refusal(lambda code, words: {"success": False, "errors": [{"type": code, "title": words}]}),
    "code": _refusal(lambda code, words: {"code": code, "message": words}, tells_code=True),
    "__type": _refusal(lambda code, words: {"__type": code, "message": words}),
    "words alone": _refusal(lambda _, words: {"message": words}),
    "words deep inside": _refusal(lambda _, words: {"fault": {"detail": {"reason": words}}}),
    "a list of words": _refusal(lambda _, words: {"errors": [words]}),
    "form": RefusalForm(
        lambda code, words: urlencode({"error": code, "error_description": words}).encode(), FORM, tells_code=True
    ),
    "text": RefusalForm(lambda _, words: words.encode(), TEXT),
    "page": RefusalForm(lambda _, words: f"<!doctype html><title>{words}</title>".encode(), PAGE),
    "XML": RefusalForm(
        lambda code, words: f"<?xml version='1.0'?><Error><Code>{code}</Code><Why>{words}</Why></Error>".encode(),
        {"Content-Type": "application/xml"},
    ),
    "nothing": RefusalForm(lambda *_: b"", {}, tells_words=False),
    "an empty object": RefusalForm(lambda *_: b"{}", tells_words=False),
    "a number": RefusalForm(lambda *_: b"401", tells_words=False),
}


def composed(*faults: Fault) -> Fault:
    """One after the other: each is handed what the one before it made of the provider's answer."""

    def apply(call: Call, act: Act) -> Response:
        for fault in faults:
            act = partial(fault.apply, call, act)
        return act()

    return Fault(", ".join(fault.name for fault in faults), apply)


def reshaped(shape: str) -> Fault:
    """The provider acts; its JSON answer is written in this shape of `SHAPES`. Refusals stay as they are."""

    def apply(call: Call, act: Act) -> Response:
        answer = act()
        if answer.status >= 300 or b"access_token" not in answer.body:
            return answer
        how = SHAPES[shape]
        return replace(answer, body=how.write(json.loads(answer.body)), headers=how.headers)

    return Fault(shape, apply)


def with_status(code: int) -> Fault:
    """The provider acts; its answer has another status: 503 from something that failed behind the exchange."""
    return Fault(f"status {code}", lambda call, act: replace(act(), status=code))


def framed(how: Framing) -> Fault:
    """The answer's end is announced so, or not at all."""
    return Fault(f"framed by {how}", lambda call, act: replace(act(), framing=how))


def cut_at(place: float) -> Fault:
    """The answer breaks off behind this part of its body: 0 is before the first byte, 1 behind the last."""

    def apply(call: Call, act: Act) -> Response:
        answer = act()
        return replace(answer, cut=round(place * len(answer.body)))

    return Fault(f"cut at {place:.2f}", apply)


def refused_in(form: str, code: str = "", words: str = "", status: int = 400) -> Fault:
    """A refusal in a form of `REFUSAL_FORMS`, before acting."""
    how = REFUSAL_FORMS[form]
    return Fault(f"{status} {form}", lambda call, act: Response(status, how.write(code, words), how.headers))


def firewall(status: int = 403) -> Fault:
    """The page of something that stands before the provider, which never saw the request."""
    return Fault(f"firewall {status}", lambda call, act: Response(status, HTML, PAGE))


_CUTS = (None, 0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)


def _in_all_ways(fault: Fault) -> list[Fault]:
    return [
        composed(fault, framed(framing), *([] if cut is None else [cut_at(cut)]))
        for framing, cut in product(FRAMINGS, _CUTS)
    ]


GRANTS = tuple(one for shape in SHAPES for one in _in_all_ways(reshaped(shape)))
"""The provider acts, and answers in every shape, framed in every way, whole and broken off."""

FAILED_GRANTS = tuple(one for shape in SHAPES for one in _in_all_ways(composed(reshaped(shape), with_status(503))))
"""The same under a status that says of failure."""

REFUSALS = tuple(
    one
    for form, status in product(REFUSAL_FORMS, (400, 401, 403, 404, 409, 422))
    for one in _in_all_ways(refused_in(form, "x_unknown", "You shall not pass", status))
)
"""Nothing is done; the refusal comes in every form, framed in every way, whole and broken off."""
