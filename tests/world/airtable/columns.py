"""Columns: how each of Airtable's field types takes a value and shows it again.

A cell is kept parsed (an aware UTC `datetime` for a dateTime, text for texts) and `None` where it is empty.
Types and their options: airtable.com/developers/web/api/field-model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tests.world.airtable import errors

MAX_TEXT_CHARACTERS = 100_000
TEXT_TYPES = frozenset({"singleLineText", "multilineText", "richText", "email", "url", "phoneNumber"})
# What Airtable makes of other records or services: a test says what it shows, by `Table.compute`.
SHOWN_TYPES = frozenset({"multipleLookupValues", "rollup", "count", "aiText", "button", "createdBy"})
COMPUTED_TYPES = frozenset({"formula", "createdTime", "lastModifiedTime", "autoNumber"}) | SHOWN_TYPES
_MARKDOWN = re.compile(r"[\\_*`~]")
_RECORD_ID = re.compile(r"rec[0-9A-Za-z]{14}")
_ISO_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[T ](?P<clock>\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(?P<zone>Z|[+-]\d\d:?\d\d)?)?"
)


@dataclass
class Column:
    """One column of a table; `id` is given when it enters one."""

    name: str
    type: str = "singleLineText"
    options: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    description: str = ""

    @property
    def computed(self) -> bool:
        """Whether Airtable fills it: read-only over the API."""
        return self.type in COMPUTED_TYPES

    def schema(self) -> dict[str, Any]:
        """As the schema endpoints show it."""
        shown: dict[str, Any] = {"id": self.id, "name": self.name, "type": self.type}
        if self.description:
            shown["description"] = self.description
        if self.options:
            shown["options"] = self.options
        return shown

    def parse(self, value: Any, *, typecast: bool = False) -> Any:
        """The cell that a written value makes; `None` for an emptied one. Raises `ApiError` (422)."""
        if self.computed:
            raise errors.computed_field(self.name)
        if value is None:
            return None
        return _PARSERS[self.type](self, value, typecast)

    def render(self, cell: Any) -> Any:
        """The JSON value of a filled cell."""
        if isinstance(cell, datetime):
            return iso(cell)
        if isinstance(cell, date):
            return cell.isoformat()
        if self.type == "richText":
            return _MARKDOWN.sub(r"\\\g<0>", cell) + "\n"
        return cell

    @property
    def choices(self) -> list[str]:
        """The names of a select column's options."""
        return [choice["name"] for choice in self.options.get("choices", [])]


def iso(moment: datetime) -> str:
    """Airtable's way to write a time: UTC, milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_zone(name: str) -> tzinfo:
    """The zone of a dateTime column; `client` is read as UTC. Raises `ZoneInfoNotFoundError`."""
    if name in {"utc", "client"}:
        return UTC
    if "/" not in name:
        raise ZoneInfoNotFoundError(name)
    return ZoneInfo(name)


def parse_iso(text: str, zone: tzinfo = UTC) -> datetime | None:
    """An ISO 8601 date or time as aware UTC, read in `zone` where it names none; `None` where it is none."""
    found = _ISO_TIME.fullmatch(text.strip())
    if found is None:
        return None
    offset = (found["zone"] or "").replace("Z", "+00:00")
    try:
        moment = datetime.fromisoformat(f"{found['date']}T{_six_digits(found['clock'] or '00:00')}{offset}")
        return _milliseconds((moment if offset else moment.replace(tzinfo=zone)).astimezone(UTC))
    except (ValueError, OverflowError):
        return None


def _six_digits(clock: str) -> str:
    """Python reads at most six digits of a second, so the rest is dropped."""
    whole, dot, fraction = clock.partition(".")
    return f"{whole}.{fraction[:6].ljust(6, '0')}" if dot else whole


def _milliseconds(moment: datetime) -> datetime:
    return moment - timedelta(microseconds=moment.microsecond % 1000)


def _parse_text(column: Column, value: Any, typecast: bool) -> str | None:
    if typecast and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS:
        raise errors.invalid_value(column.name)
    if column.type == "richText":
        value = re.sub(r"\\([\\_*`~])", r"\1", value.removesuffix("\n"))
    return value or None


def _parse_time(column: Column, value: Any, typecast: bool) -> datetime:
    if not isinstance(value, str):
        raise errors.invalid_value(column.name)
    moment = parse_iso(value, time_zone(column.options.get("timeZone", "utc")))
    if moment is None:
        raise errors.invalid_date(column.name, value)
    return moment


def _parse_date(column: Column, value: Any, typecast: bool) -> date:
    """A time is taken, too, and cut to its day without a word (reported; the documentation shows a day alone)."""
    if not isinstance(value, str):
        raise errors.invalid_value(column.name)
    moment = parse_iso(value)
    if moment is None:
        raise errors.invalid_date(column.name, value)
    return moment.date()


def _parse_number(column: Column, value: Any, typecast: bool) -> int | float:
    if typecast and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise errors.invalid_value(column.name) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise errors.invalid_value(column.name)
    return int(value) if float(value).is_integer() else value


def _parse_checkbox(column: Column, value: Any, typecast: bool) -> bool | None:
    if typecast and isinstance(value, str):
        value = value.lower() in {"true", "1", "checked", "yes"}
    if not isinstance(value, bool):
        raise errors.invalid_value(column.name)
    return value or None


def _parse_choice(column: Column, value: Any, typecast: bool) -> str | None:
    if not isinstance(value, str):
        raise errors.invalid_value(column.name)
    if typecast and not value.strip():
        return None
    if value not in column.choices and not typecast:
        raise errors.unknown_choice(value)
    return value


def _parse_links(column: Column, value: Any, typecast: bool) -> list[str] | None:
    if not isinstance(value, list) or not all(isinstance(one, str) and _RECORD_ID.fullmatch(one) for one in value):
        raise errors.invalid_value(column.name)
    return value or None


def _parse_choices(column: Column, value: Any, typecast: bool) -> list[str] | None:
    if not isinstance(value, list):
        raise errors.invalid_value(column.name)
    return [choice for one in value if (choice := _parse_choice(column, one, typecast)) is not None] or None


def _parse_object(column: Column, value: Any, typecast: bool) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise errors.invalid_value(column.name)
    return value


_PARSERS: Mapping[str, Callable[[Column, Any, bool], Any]] = {
    **dict.fromkeys(TEXT_TYPES, _parse_text),
    "dateTime": _parse_time,
    "date": _parse_date,
    "number": _parse_number,
    "percent": _parse_number,
    "checkbox": _parse_checkbox,
    "singleSelect": _parse_choice,
    "multipleSelects": _parse_choices,
    "multipleRecordLinks": _parse_links,
    "singleCollaborator": _parse_object,
    "barcode": _parse_object,
}
WRITABLE_TYPES = frozenset(_PARSERS)

_DATE_FORMATS = {"local": "l", "friendly": "LL", "us": "M/D/YYYY", "european": "D/M/YYYY", "iso": "YYYY-MM-DD"}
_TIME_FORMATS = {"12hour": "h:mma", "24hour": "HH:mm"}


def text(name: str) -> Column:
    """A single line of text."""
    return Column(name)


def long_text(name: str) -> Column:
    """Plain long text."""
    return Column(name, "multilineText")


def rich_text(name: str) -> Column:
    """Long text with formatting: it comes back as Markdown, `_` escaped and a newline appended."""
    return Column(name, "richText")


def date_time(name: str, zone: str = "utc", day: str = "iso", clock: str = "24hour") -> Column:
    """A time; `zone` is where a time without offset is read, `day` and `clock` name formats for people alone."""
    options = {
        "timeZone": zone,
        "dateFormat": {"name": day, "format": _DATE_FORMATS[day]},
        "timeFormat": {"name": clock, "format": _TIME_FORMATS[clock]},
    }
    return Column(name, "dateTime", options)


def day(name: str) -> Column:
    """A date without a time."""
    return Column(name, "date", {"dateFormat": {"name": "iso", "format": _DATE_FORMATS["iso"]}})


def number(name: str, precision: int = 0) -> Column:
    """A number; `precision` is for display only."""
    return Column(name, "number", {"precision": precision})


def checkbox(name: str) -> Column:
    """True or empty."""
    return Column(name, "checkbox", {"icon": "check", "color": "greenBright"})


def single_select(name: str, *choices: str) -> Column:
    """One of the given options."""
    return Column(name, "singleSelect", {"choices": [{"name": choice} for choice in choices]})


def multi_select(name: str, *choices: str) -> Column:
    """Any of the given options: a list."""
    return Column(name, "multipleSelects", {"choices": [{"name": choice} for choice in choices]})


def link(name: str) -> Column:
    """Links to records: a list of their ids."""
    return Column(name, "multipleRecordLinks", {"isReversed": False, "prefersSingleRecordLink": True})


def shown(name: str, kind: str = "multipleLookupValues") -> Column:
    """One of `SHOWN_TYPES`, by default a lookup, which is a list; `Table.compute` fills its cells."""
    return Column(name, kind, {"isValid": True})


def formula(name: str, expression: str) -> Column:
    """Computed from the other columns."""
    return Column(name, "formula", {"isValid": True, "formula": expression, "referencedFieldIds": [], "result": None})


def created_time(name: str) -> Column:
    """Computed: when the record was made."""
    return Column(name, "createdTime", {"result": {"type": "dateTime", "options": date_time("").options}})


def last_modified_time(name: str) -> Column:
    """Computed: when a cell of the record last changed."""
    result = {"type": "dateTime", "options": date_time("").options}
    return Column(name, "lastModifiedTime", {"isValid": True, "referencedFieldIds": [], "result": result})


def auto_number(name: str) -> Column:
    """Computed: 1, 2, 3 in the order of creation."""
    return Column(name, "autoNumber")


def from_request(spec: Any) -> Column:
    """A column as a schema request describes it. Raises `ApiError` (422)."""
    if not isinstance(spec, dict) or not isinstance(spec.get("type"), str) or not isinstance(spec.get("name"), str):
        raise errors.invalid_request()
    if not spec["name"].strip():
        raise errors.error(422, "DUPLICATE_OR_EMPTY_FIELD_NAME")
    column = Column(spec["name"], spec["type"], dict(spec.get("options") or {}), "", spec.get("description") or "")
    if column.computed:
        reason = f"Creating {column.type} fields is not supported at this time"
        raise errors.error(422, "UNSUPPORTED_FIELD_TYPE_FOR_CREATE", f"Invalid options for {column.name}: {reason}")
    if column.type not in WRITABLE_TYPES:
        raise errors.invalid_request()
    _complete_options(column)
    return column


def _complete_options(column: Column) -> None:
    """Check what the type requires, and add what Airtable adds (the `format` beside a format's name)."""
    required = _REQUIRED_OPTIONS.get(column.type, ())
    if not required and column.options:
        raise _bad_options(f"{column.name}.options is not allowed")
    if required and not column.options:
        raise _bad_options(f"{column.name}.options is missing")
    for option in required:
        if option not in column.options:
            raise _bad_options(f"{column.name}.options.{option} is missing")
    if column.type == "dateTime":
        _check_zone(column.options["timeZone"])
    for option, formats in (("dateFormat", _DATE_FORMATS), ("timeFormat", _TIME_FORMATS)):
        if option in required:
            column.options[option] = _named_format(column.options[option], formats)


def _named_format(given: Any, formats: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(given, dict) or given.get("name") not in formats:
        raise errors.invalid_request()
    return {"name": given["name"], "format": formats[given["name"]]}


def _check_zone(name: Any) -> None:
    try:
        time_zone(str(name))
    except (ZoneInfoNotFoundError, ValueError):
        raise _bad_options(f'Invalid timezone "{name}"') from None


def _bad_options(reason: str) -> errors.ApiError:
    return errors.error(422, "INVALID_FIELD_TYPE_OPTIONS_FOR_CREATE", f"Failed schema validation: {reason}")


_REQUIRED_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "dateTime": ("timeZone", "dateFormat", "timeFormat"),
    "date": ("dateFormat",),
    "number": ("precision",),
    "percent": ("precision",),
    "checkbox": ("icon", "color"),
    "singleSelect": ("choices",),
}
