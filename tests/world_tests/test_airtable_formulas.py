"""The formula language of the fake Airtable."""

from __future__ import annotations

import inspect
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyairtable.formulas as F  # noqa: N812 - its documentation imports it so
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyairtable import Api
from requests import HTTPError

from tests.world.airtable import AirtableServer, ApiError, columns
from tests.world.airtable.formula import Formula
from tests.world.airtable.tables import Base, Table, Workspace

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EARLIER = "2026-03-01T11:59:59.999Z"


def make_table(*names: str) -> Table:
    workspace = Workspace(0, lambda: NOW)
    table = Base(workspace, "appTestBase000001", "Test").create_table("Test", [columns.text(name) for name in names])
    for column in (
        columns.number("count"),
        columns.date_time("expiry"),
        columns.checkbox("on"),
        columns.single_select("status", "active", "disabled"),
        columns.date_time("empty time"),
        columns.number("empty number"),
    ):
        table.add_column(column)
    return table


TABLE = make_table("name", "two words", "empty", "bra}ce", "Café")
RECORD = TABLE.add(
    {
        "name": 'it\'s "so"',
        "two words": "b",
        "bra}ce": "c",
        "Café": "d",
        "count": 3,
        "expiry": EARLIER,
        "on": True,
        "status": "active",
    }
)


def value(formula: str, table: Table = TABLE, record: str = RECORD) -> Any:
    """What the formula gives for the record, as a formula column shows it."""
    return Formula.of(formula, table).shown(table, table.rows[record], NOW)


def admits(formula: str, table: Table = TABLE, record: str = RECORD) -> bool:
    return Formula.of(formula, table).admits(table, table.rows[record], NOW)


def reason(formula: str) -> str:
    with pytest.raises(ApiError) as error:
        Formula.of(formula, TABLE)
    assert error.value.status == 422
    assert error.value.content["error"]["type"] == "INVALID_FILTER_BY_FORMULA"
    return str(error.value.content["error"]["message"]).removeprefix("The formula for filtering records is invalid: ")


ERROR = {"error": "#ERROR!"}


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("1", 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("'a'", "a"),
        ('"a"', "a"),
        (r"'it\'s'", "it's"),
        (r'"say \"x\""', 'say "x"'),
        (r"'a\\b'", r"a\b"),
        (r"'line\nbreak'", "line\nbreak"),
        ("'\n'", "\n"),
        ("''", ""),
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("7-2-1", 4),
        ("8/4/2", 1),
        ("-2*-3", 6),
        ("1 + -1", 0),
        ("'a'&1&TRUE()", "a11"),
        ("1+1&'a'", "2a"),
        ("1&2=12", True),
        ("1/0", {"specialValue": "Infinity"}),
        ("0/0", {"specialValue": "NaN"}),
        ("{two words}", "b"),
        (r"{bra\}ce}", "c"),
        ("Café", "d"),
        ("name", 'it\'s "so"'),
        ("NAME", 'it\'s "so"'),
        ("{count}+1", 4),
        ("{on}", True),
        ("{status}", "active"),
        ("{empty}", None),
        ("{expiry}&''", EARLIER),
    ],
)
def test_literals_operators_and_fields(formula: str, expected: Any) -> None:
    assert value(formula) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("2>1", True),
        ("1>=1", True),
        ("1<=0", False),
        ("1!=2", True),
        ("'a'<'b'", True),
        ("'a'='A'", False),
        ("EXACT('a','A')", False),
        ("{count}='3'", True),
        ("{on}=TRUE()", True),
        ("{on}=1", True),
        ("{expiry}<NOW()", True),
        ("{expiry}=DATETIME_PARSE('2026-03-01T11:59:59.999Z')", True),
        ("{expiry}>DATETIME_PARSE('2026-03-01T12:00:00Z')", False),
    ],
)
def test_comparisons(formula: str, expected: bool) -> None:
    assert value(formula) is expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("{empty}=''", True),
        ("{empty}=BLANK()", True),
        ("{empty}!=''", False),
        ("''=BLANK()", True),
        ("{name}=BLANK()", False),
        ("{name}!=BLANK()", True),
        ("0=BLANK()", True),
        ("{empty number}=0", True),
        ("{empty number}<5", True),
        ("{empty number}+1", 1),
        ("{empty}&'x'", "x"),
        ("NOT({empty})", True),
        ("LEN({empty})", 0),
        ("{empty time}=BLANK()", True),
        ("{expiry}=BLANK()", False),
        ("IS_BEFORE({empty time}, NOW())", False),
        ("IS_AFTER({empty time}, NOW())", False),
        ("IS_BEFORE(NOW(), {empty time})", False),
        ("IS_SAME({empty time}, {empty time})", False),
        ("NOT(IS_AFTER({empty time}, NOW()))", True),
        ("DATETIME_DIFF({empty time}, NOW())", ERROR),
        ("DATEADD({empty time}, 1, 'day')", ERROR),
        ("DATETIME_PARSE({empty})", ERROR),
    ],
)
def test_blank(formula: str, expected: Any) -> None:
    assert value(formula) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("AND(1,'a',TRUE())", True),
        ("AND(1,'')", False),
        ("OR(0,'',FALSE())", False),
        ("OR(0,1)", True),
        ("NOT(0)", True),
        ("XOR(1,1,1)", True),
        ("XOR(1,1)", False),
        ("IF(1,'y','n')", "y"),
        ("IF(0,'y')", None),
        ("IF(FALSE(),ERROR(),'n')", "n"),
        ("IF(TRUE(),'y',ERROR())", "y"),
        ("SWITCH(1,1,'y',ERROR())", "y"),
        ("SWITCH({status},'active',1,'disabled',2)", 1),
        ("SWITCH('x','a',1,'b',2,'other')", "other"),
        ("SWITCH('x','a',1)", None),
        ("ERROR()", ERROR),
        ("1+ERROR()", ERROR),
        ("OR(1,ERROR())", ERROR),
        ("AND(0,ERROR())", ERROR),
        ("ISERROR(ERROR())", True),
        ("ISERROR(1)", False),
        ("ISERROR(1+'a')", True),
        ("if(true(),'lower','case')", "lower"),
    ],
)
def test_logic(formula: str, expected: Any) -> None:
    assert value(formula) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("LOWER('Ab')&UPPER('Ab')", "abAB"),
        ("TRIM('  a b ')", "a b"),
        ("LEN('abc')", 3),
        ("FIND('b','abcb')", 2),
        ("FIND('b','abcb',3)", 4),
        ("FIND('z','abc')", 0),
        ("SEARCH('z','abc')", None),
        ("SEARCH('c','abc')", 3),
        ("LEFT('abc',2)&RIGHT('abc',1)&MID('abcd',2,2)", "abcbc"),
        ("RIGHT('abc',0)", ""),
        ("SUBSTITUTE('a-b-c','-','+')", "a+b+c"),
        ("SUBSTITUTE('a-b-c','-','+',2)", "a-b+c"),
        ("REPLACE('abcdef',2,3,'X')", "aXef"),
        ("REPT('ab',2)", "abab"),
        ("CONCATENATE('a',1,BLANK())", "a1"),
        ("T(1)", None),
        ("VALUE('1,234.5 EUR')", 1234.5),
        ("VALUE('none')", ERROR),
        ("ENCODE_URL_COMPONENT('a b&c')", "a%20b%26c"),
        ("REGEX_MATCH('abc','^a.c$')", True),
        ("REGEX_EXTRACT('ab12','[0-9]+')", "12"),
        ("REGEX_REPLACE('ab12','([0-9])','<$1>')", "ab<1><2>"),
        ("REGEX_MATCH('a','(')", ERROR),
    ],
)
def test_text_functions(formula: str, expected: Any) -> None:
    assert value(formula) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("ABS(-2)", 2),
        ("ROUND(2.345,2)", 2.35),
        ("ROUND(-2.5,0)", -2),
        ("ROUNDUP(-2.1,0)", -3),
        ("ROUNDDOWN(-2.9,0)", -2),
        ("INT(-2.1)", -3),
        ("CEILING(7,5)+FLOOR(7,5)", 15),
        ("EVEN(1.5)+ODD(1.5)", 5),
        ("MOD(7,3)", 1),
        ("MOD(7,0)", ERROR),
        ("POWER(2,10)", 1024),
        ("SQRT(-1)", ERROR),
        ("LOG(100)+LOG(8,2)", 5),
        ("MAX(1,3,2)-MIN(1,3,2)", 2),
        ("SUM(1,2,'x')", 3),
        ("AVERAGE(1,2)", 1.5),
        ("COUNT(1,'a',BLANK())", 1),
        ("COUNTA(1,'a',BLANK())", 2),
        ("COUNTALL(1,'a',BLANK())", 3),
        ("EXP(0)", 1),
    ],
)
def test_number_functions(formula: str, expected: Any) -> None:
    shown = value(formula)
    assert shown == expected or math.isclose(shown, expected)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("IS_BEFORE({expiry}, NOW())", True),
        ("IS_AFTER({expiry}, NOW())", False),
        ("IS_BEFORE({expiry}, '2026-03-01T12:00:00Z')", True),
        ("IS_BEFORE({expiry}, '2026-03-01')", False),
        ("IS_BEFORE(NOW(), NOW())", False),
        ("IS_BEFORE({name}, NOW())", ERROR),
        ("IS_SAME({expiry}, NOW())", False),
        ("IS_SAME({expiry}, NOW(), 'day')", True),
        ("IS_SAME({expiry}, NOW(), 'hour')", False),
        ("IS_SAME('2026-02-01','2026-03-31','quarter')", True),
        ("IS_SAME('2026-02-28','2026-03-01','week')", False),
        ("DATEADD('2026-01-31', 1, 'month')&''", "2026-02-28T00:00:00.000Z"),
        ("DATEADD(NOW(), -90, 'minutes')&''", "2026-03-01T10:30:00.000Z"),
        ("DATEADD(NOW(), 1, 'M')&''", "2026-04-01T12:00:00.000Z"),
        ("DATEADD(NOW(), 1, 'm')&''", "2026-03-01T12:01:00.000Z"),
        ("DATEADD(NOW(), 1, 'fortnight')", ERROR),
        ("DATETIME_DIFF('2026-03-01','2026-02-27','days')", 2),
        ("DATETIME_DIFF({expiry}, NOW(), 'minutes')", 0),
        ("DATETIME_DIFF(NOW(), '2026-03-01T11:00:00Z')", 3600),
        ("DATETIME_DIFF('2026-03-30','2026-01-31','months')", 1),
        ("DATETIME_DIFF('2020-03-01','2026-01-31','years')", -5),
        ("DATETIME_PARSE('2026-03-01T14:00:00+02:00')=NOW()", True),
        ("DATETIME_PARSE('01/03/2026 12:00','DD/MM/YYYY HH:mm')=NOW()", True),
        ("DATETIME_PARSE('1772366400','X')=NOW()", True),
        ("DATETIME_PARSE('2026-03-01 14:00 +0200','YYYY-MM-DD HH:mm Z')=NOW()", True),
        ("DATETIME_PARSE('soon')", ERROR),
        ("DATETIME_PARSE('soon','YYYY')", ERROR),
        ("DATETIME_FORMAT(NOW(),'YYYY-MM-DD [at] h:mm a')", "2026-03-01 at 12:00 pm"),
        ("DATETIME_FORMAT(SET_TIMEZONE(NOW(),'America/New_York'),'HH:mm Z')", "07:00 -05:00"),
        ("SET_TIMEZONE(NOW(),'Nowhere/Else')", ERROR),
        ("DATESTR(NOW())&' '&TIMESTR(NOW())", "2026-03-01 12:00:00"),
        ("YEAR(NOW())&MONTH(NOW())&DAY(NOW())", "202631"),
        ("HOUR(NOW())&MINUTE(NOW())&SECOND(NOW())", "1200"),
        ("WEEKDAY(NOW())", 0),
        ("WEEKDAY(NOW(),'Monday')", 6),
        ("WEEKNUM(NOW())", 10),
        ("DATESTR(WORKDAY('2026-02-27',1))", "2026-03-02"),
        ("DATESTR(WORKDAY('2026-02-27',1,'2026-03-02'))", "2026-03-03"),
        ("WORKDAY_DIFF('2026-02-27','2026-03-03')", 3),
        ("TODAY()&''", "2026-03-01T00:00:00.000Z"),
        ("FROMNOW('2026-03-04T12:00:00Z')", 3),
        ("TONOW('2026-02-26T12:00:00Z')", 3),
    ],
)
def test_time_functions(formula: str, expected: Any) -> None:
    assert value(formula) == expected


def test_record_functions() -> None:
    workspace = Workspace(0, lambda: NOW)
    table = Base(workspace, "appTestBase000001", "Test").create_table("T", [columns.text("a"), columns.text("b")])
    record = table.add({"a": "1", "b": "2"})
    workspace.now = lambda: NOW.replace(hour=13)
    table.edit(record, {"b": "3"})
    times = [value(f, table, record) for f in ("CREATED_TIME()", "LAST_MODIFIED_TIME(a)", "LAST_MODIFIED_TIME({b})")]
    assert times == [NOW, NOW, NOW.replace(hour=13)]
    assert value("LAST_MODIFIED_TIME()", table, record) == NOW.replace(hour=13)
    assert value("RECORD_ID()", table, record) == record


@pytest.mark.parametrize(
    "formula",
    [
        "",
        "1 +",
        "(1",
        "1)",
        "'open",
        "{name",
        "1 2",
        "name name",
        "= 1",
        "1 == 1",
        "1 <> 2",
        "AND()",
        "AND(1,)",
        "NOT(1,2)",
        "IS_BEFORE(NOW())",
        "IF(1)",
        "RECORD_ID(1)",
        "LAST_MODIFIED_TIME('name')",
        "“smart”",
        "'a' ; 'b'",
        "(" * 100_000,
    ],
)
def test_malformed_formula_is_refused(formula: str) -> None:
    assert reason(formula) == "Invalid formula. Please check your formula text."


def test_unknown_names_are_refused_by_name() -> None:
    assert reason("AND({Nope}, other, {name}, {Nope})") == "Unknown field names: nope, other"
    assert reason("{ two words}=''") == "Unknown field names:  two words"
    assert reason("FOO(1) + BAR({Nope})") == "Unknown function names: FOO, BAR"


@pytest.mark.parametrize("formula", ["0", "''", "BLANK()", "FALSE()", "0/0", "ERROR()", "{empty}", "1+'a'"])
def test_filter_leaves_out_what_is_false_empty_or_an_error(formula: str) -> None:
    assert not admits(formula)


@pytest.mark.parametrize("formula", ["1", "'0'", "-1", "1/0", "{name}", "{expiry}"])
def test_filter_lets_everything_else_through(formula: str) -> None:
    assert admits(formula)


def test_asking_for_ids_means_the_same_by_the_short_way_and_the_long() -> None:
    other = "rec00000000000000"
    for ids, expected in (([RECORD], True), ([other], False), ([other, RECORD], True)):
        short = Formula.of("OR(" + ",".join(f"RECORD_ID()='{key}'" for key in ids) + ")", TABLE)
        long = Formula.of("OR(0," + ",".join(f"RECORD_ID()='{key}'" for key in ids) + ")", TABLE)
        assert short.ids == frozenset(ids)
        assert long.ids is None
        for formula in (short, long):
            assert formula.admits(TABLE, TABLE.rows[RECORD], NOW) is expected


def test_renamed_column_is_found_by_its_new_name_and_by_its_id() -> None:
    table = make_table("old")
    record = table.add({"old": "x"})
    key = table.column("old").id
    assert admits("{old}='x'", table, record)
    table.rename_column("old", "new")
    assert admits("{new}='x'", table, record)
    assert admits(f"{{{key}}}='x'", table, record)
    with pytest.raises(ApiError):
        Formula.of("{old}='x'", table)


# What pyairtable emits


@given(st.text(min_size=1), st.text())
def test_pyairtables_match_finds_any_text_and_only_that(text: str, other: str) -> None:
    table = make_table("name")
    record = table.add({"name": text})
    assert admits(str(F.match({"name": text})), table, record)
    assert admits(str(F.match({"name": other})), table, record) is (text == other)


@given(st.text(st.characters(exclude_characters="\\"), min_size=1).filter(lambda name: name.strip()))
def test_pyairtables_field_names_are_found(name: str) -> None:
    workspace = Workspace(0, lambda: NOW)
    table = Base(workspace, "appTestBase000001", "Test").create_table("T", [columns.text(name)])
    assert admits(str(F.EQ(F.Field(name), "x")), table, table.add({name: "x"}))


@pytest.mark.parametrize(
    "formula",
    [
        F.match({"name": 'it\'s "so"', "count": (">=", 3)}),
        F.match({"status": "disabled", "count": 3}, match_any=True),
        F.AND(F.EQ(F.Field("on"), True), F.NOT(F.EQ(F.Field("status"), "disabled"))),
        F.LT(F.Field("expiry"), NOW),
        F.GT(F.Field("expiry"), date(2026, 3, 1)),
        F.IS_BEFORE(F.Field("expiry"), F.DATETIME_PARSE("2026-03-01T12:00:00.000Z")),
        F.EQ(F.Field("count"), Decimal("3.0")),
        F.GT(F.Field("count"), Fraction(4, 19)),
        F.GT(F.Field("count"), 1e-07),
        F.EQ(F.EQ(F.Field("count"), 3), F.TRUE()),
        F.OR(F.EQ(F.Field("empty"), F.BLANK()), F.EQ(F.Field("empty"), "x")) & F.Formula("{on}"),
        F.EQ(F.RECORD_ID(), RECORD),
    ],
)
def test_formula_built_by_pyairtable_holds(formula: F.Formula) -> None:
    assert admits(str(formula))


def pyairtable_functions() -> list[str]:
    """Every function that pyairtable can put into a formula, with as few and as many arguments as it takes."""
    calls = []
    for name, function in inspect.getmembers(F, inspect.isfunction):
        if not name.isupper():
            continue
        parameters = list(inspect.signature(function).parameters.values())
        required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_ONLY]
        optional = [p for p in parameters if p.default is None]
        compound = name in {"AND", "OR", "NOT"}
        for count in {len(required) or int(compound), len(required) + len(optional)} - {0 if compound else -1}:
            calls.append(f"{name}({','.join(['{expiry}'] * count)})")
    return calls


@pytest.mark.parametrize("formula", pyairtable_functions())
def test_every_function_of_pyairtable_is_known(formula: str) -> None:
    Formula.of(formula, TABLE)
    value(formula)


def test_pyairtable_functions_were_found() -> None:
    assert len(pyairtable_functions()) > 85


# Over HTTP


def test_filter_over_http_and_its_refusal() -> None:
    with AirtableServer(requests_per_second=None, now=lambda: NOW) as server:
        table = server.six_column_table()
        due = table.add({"locationId": "due", "access_token_expiry": EARLIER})
        table.add_many([{"locationId": "later", "access_token_expiry": "2026-03-02T00:00:00Z"}, {"locationId": "none"}])
        client = Api(server.token, endpoint_url=server.url).table(server.base_id, table.name)
        found = client.all(formula=F.IS_BEFORE(F.Field("access_token_expiry"), F.NOW()))
        assert [record["id"] for record in found] == [due]
        with pytest.raises(HTTPError) as error:
            client.all(formula="IS_BEFORE({expiry}, NOW())")
        assert error.value.response.json()["error"] == {
            "type": "INVALID_FILTER_BY_FORMULA",
            "message": "The formula for filtering records is invalid: Unknown field names: expiry",
        }
