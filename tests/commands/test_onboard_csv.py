"""Onboarding from a file: each line judged by itself, nothing overwritten in silence, no cell repeated in a message."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import World
from tests.world.airtable import faults as airtable_faults
from tests.world.http import Response
from tests.world.oauth import faults
from tests.world.oauth.faults import Fault
from tests.world.program import Result
from token_refresh.clients.csv_file import CSV_HEADER

HEADER = ",".join(CSV_HEADER)


def file_of(world: World, content: str | bytes, name: str = "clients.csv") -> str:
    path = world.program.home / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return str(path)


def onboard(world: World, *lines: Sequence[str], flags: Sequence[str] = (), params: bool = False) -> Result:
    return world.program.onboard("--from-csv", world.program.csv(*lines, params=params), *flags)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def hosted(world: World) -> str:
    """A provider whose host a line may choose; returns that of the fake."""
    with Path(world.program.settings["PROVIDERS_FILE"]).open("a") as file:
        file.write(
            '[hosted]\ntoken_url = "http://{instance}/acme/token"\nrotates = "always"\nreplay = "once"\n'
            'placeholders = { instance = "127.0.0.1:9" }\n'
        )
    host = world.oauth.url.removeprefix("http://")
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = host
    return host


def hosted_line(world: World, location: str, host: str) -> tuple[str, ...]:
    token = world.oauth.grant("acme", "app-acme", location_id=location)
    return (location, "hosted", "app-acme", "acme secret", token, quoted(f'{{"instance": "{host}"}}'))


# What goes well


def test_every_line_is_saved_with_its_rotated_token(world: World) -> None:
    lines = [world.csv_line(provider, f"loc-{provider}") for provider in ("gohighlevel", "google", "acme")]
    result = onboard(world, *lines, flags=["--json"])
    assert result.code == 0, result.err
    assert result.outcomes() == dict.fromkeys([line[0] for line in lines], "refreshed")
    assert [one["line"] for one in result.json()["results"]] == [2, 3, 4]
    for location, *_, entered in lines:
        assert world.token_of(location) == world.oauth.current(location)
        rotates = "google" not in location
        assert (world.oauth.tokens[entered].spent_at is not None) == rotates
    assert "lines in the table: 3 of 3" in result.err
    assert world.program.run("--json").json()["results"] == []


def test_a_token_that_its_provider_says_is_of_another_location_is_saved_with_a_warning(world: World) -> None:
    lines = [world.csv_line("gohighlevel", location) for location in ("right", "real")]
    result = onboard(world, lines[0], ("other", *lines[1][1:]))
    assert result.code == 0
    assert "other has the tokens of real, as its provider says. If the two were mixed up, delete this row" in result.err
    assert result.err.count("has the tokens of") == 1
    assert world.token_of("other") == world.oauth.current("real")


@pytest.mark.parametrize(
    "shape",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: ("\ufeff" + text.replace("\n", "\r\n") + "\r\n ,,,, \r\n\r\n").encode(),
        lambda text: re.sub(r"[^,\n]+", lambda cell: quoted(cell[0]), text).encode(),
        lambda text: re.sub(r"[^,\n]+", lambda cell: f" {cell[0]}\t", text).encode(),
        lambda text: text.rstrip("\n").encode(),
    ],
    ids=["bom", "crlf", "cr", "bom, crlf, empty lines", "quotes", "outer space", "no last line end"],
)
def test_file_as_spreadsheets_write_it_is_understood(world: World, shape) -> None:
    line = world.csv_line("acme", "Zürich, 東京".replace(", ", " "))
    result = world.program.onboard("--from-csv", file_of(world, shape(f"{HEADER}\n{','.join(line)}\n")))
    assert result.code == 0, result.err
    assert "lines in the table: 1 of 1" in result.err
    assert world.token_of(line[0]) == world.oauth.current(line[0])


def test_standard_input_is_read_for_a_dash(world: World) -> None:
    lines = [",".join(world.csv_line("acme", location)) for location in ("loc1", "loc2")]
    text = "\n".join([HEADER, *lines])
    result = world.program.spawn("--from-csv", "-", "--json", script="onboard_client.py", stdin=text)
    assert result.code == 0, result.err
    assert result.outcomes() == {"loc1": "refreshed", "loc2": "refreshed"}


def test_line_without_provider_and_client_takes_the_settings(world: World) -> None:
    token = world.oauth.grant("gohighlevel", "app-highlevel", location_id="loc1")
    world.program.settings |= {
        "GOHIGHLEVEL_CLIENT_ID": "app-highlevel",
        "GOHIGHLEVEL_CLIENT_SECRET": "highlevel secret",
    }
    assert onboard(world, ("loc1", "", "", "", token)).code == 0
    row = world.rows()["loc1"]
    assert (row["provider"], row["client_id"], row["encrypted_secret"]) == ("gohighlevel", "app-highlevel", "")


def test_prepared_row_keeps_its_parameters_and_client(airtable_world: World) -> None:
    world = airtable_world
    host = hosted(world)
    params = f'{{"instance": "{host}", "note": "kept"}}'
    record = world.table.add(
        {"locationId": "loc1", "provider": "hosted", "client_id": "app-acme", "provider_params": params}
    )
    location, *_, token, _params = hosted_line(world, "loc1", host)
    line = (location, "hosted", "", "acme secret", token)
    refused = onboard(world, line)
    assert refused.code == 1
    assert f"--allow-host {host}" in refused.err
    assert world.oauth.requests == []
    assert onboard(world, line, flags=["--allow-host", host]).code == 0
    cells = world.table.cells(record)
    assert (cells["client_id"], cells["provider_params"]) == ("app-acme", params)
    assert world.open_refresh("loc1", cells["encrypted_refresh"]) == world.oauth.current("loc1")


def test_parameters_of_the_line_reach_the_provider(world: World) -> None:
    token = world.oauth.grant("gohighlevel", "app-highlevel", location_id="agency", user_type="Company")
    line = ("agency", "gohighlevel", "app-highlevel", "highlevel secret", token, quoted('{"user_type": "Company"}'))
    result = onboard(world, line, params=True)
    assert result.code == 0, result.err
    assert world.rows()["agency"]["provider_params"] == '{"user_type": "Company"}'


@pytest.mark.parametrize("allowed", ["{host}", " {host} "])
def test_allowed_host_gets_the_credential(world: World, allowed: str) -> None:
    host = hosted(world)
    line = hosted_line(world, "loc1", host)
    flags = ["--allow-host", "other.example", "--allow-host", allowed.format(host=host)]
    assert onboard(world, line, params=True, flags=flags).code == 0


@pytest.mark.by_turns("column", "flags")
@pytest.mark.parametrize(
    ("wrapper", "problem"),
    [
        ("Bearer {}", "begins with `Bearer`"), ("'{}'", "stands in quotes"), ("1%2F%2F0gAb", "is percent-encoded"),
        ("\u200b{}", "holds an invisible"), ("refresh_token={}", "begins with its name"),
        ("sealed:v1:{}", "is an encrypted value"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("column", ["refresh_token", "client_secret", "client_id"])
@pytest.mark.parametrize("flags", [[], ["--no-check"]])
def test_what_was_copied_together_with_a_token_or_secret_is_named_and_nothing_is_sent(
    world: World, column: str, wrapper: str, problem: str, flags: list[str]
) -> None:
    """The provider would call a living grant dead."""
    cells = dict(zip(CSV_HEADER, world.csv_line("acme", "loc1"), strict=True))
    cells[column] = wrapper.format(cells[column])
    other = world.csv_line("acme", "loc2")
    result = world.program.onboard("--from-csv", world.program.csv(tuple(cells.values()), other), *flags)
    assert result.code == 1
    assert f"the {column} {problem}" in result.err
    assert "Copy it again as the provider shows it" in result.err
    assert list(world.rows()) == ["loc2"]
    assert len(world.oauth.requests) == (0 if flags else 1)


def test_a_client_id_of_another_form_than_the_providers_is_named_and_nothing_is_sent(world: World) -> None:
    token = world.oauth.grant("acme", "app-acme", location_id="loc")
    own = Path(world.program.settings["PROVIDERS_FILE"])
    own.write_text(own.read_text().replace("[acme]\n", "[acme]\nclient_id_pattern = 'app-[a-z]+'\n"))
    strange = onboard(world, ("loc", "acme", "app-1", "acme secret", token))
    assert strange.code == 1
    assert "its client id is not of the form that this provider's have; it was not sent. Copy it again." in strange.err
    assert world.oauth.requests == []
    assert onboard(world, ("loc", "acme", "app-acme", "acme secret", token)).code == 0


@pytest.mark.parametrize("allowed", [[], ["--allow-host", "127.0.0.1:1"], ["--allow-host", "127.0.0.1"]])
def test_host_that_nobody_allowed_is_sent_nothing(world: World, allowed: list[str]) -> None:
    host = hosted(world)
    result = onboard(world, hosted_line(world, "loc1", host), params=True, flags=allowed)
    assert result.code == 1
    assert f"repeat with --allow-host {host}" in result.err
    assert world.oauth.requests == []


@pytest.mark.parametrize(
    "location",
    ["=1+1", "@SUM(A1)", "-loc", "+49", "'; DROP TABLE credentials; --", "a' OR 'x", "b\\", "{x}", "%s", "*", "ﬀ", "0"],
)
def test_odd_location_is_kept_as_it_is_and_touches_no_other_row(airtable_world: World, location: str) -> None:
    world = airtable_world
    other = world.table.add(world.cells("acme", "other"))
    before = world.table.cells(other)
    line = world.csv_line("acme", location)
    assert onboard(world, line).code == 0
    [record] = world.table.find(locationId=location)
    assert world.open_refresh(location, world.table.cell(record, "encrypted_refresh")) == world.oauth.current(location)
    assert world.table.cells(other) == before
    assert "already done" in onboard(world, line).err
    assert len(world.table) == 2


# What was there before


def test_second_run_skips_what_is_done(world: World) -> None:
    lines = [world.csv_line(provider, f"loc-{provider}") for provider in ("acme", "google", "acme-grace")]
    assert onboard(world, *lines).code == 0
    before, asked = world.rows(), len(world.oauth.requests)
    result = onboard(world, *lines, flags=["--json", "--replace"])
    assert result.code == 0
    assert set(result.outcomes().values()) == {"changed"}
    assert result.err.count("already done: skipped") == 3
    assert (world.rows(), len(world.oauth.requests)) == (before, asked)


def test_line_that_comes_twice_is_done_once(world: World) -> None:
    line = world.csv_line("acme", "loc1")
    never = world.csv_line("google", "loc2")
    result = onboard(world, line, line, never, never)
    assert result.code == 0
    assert result.err.count("already done: skipped") == 2
    assert world.oauth.sent_twice() == []


def test_used_up_token_under_another_location_is_refused_unsent(world: World) -> None:
    """A copying mistake: it is not done, for that location has nothing."""
    line = world.csv_line("acme", "loc1")
    result = onboard(world, line, ("loc2", *line[1:]))
    assert result.code == 1
    assert "line 3: not saved (operator): this refresh token is used up" in result.err
    assert list(world.rows()) == ["loc1"]
    assert world.oauth.sent_twice() == []


def test_other_credential_is_not_overwritten_without_replace(world: World) -> None:
    assert onboard(world, world.csv_line("acme", "loc1")).code == 0
    kept = world.token_of("loc1")
    line = world.csv_line("acme", "loc1")
    result = onboard(world, line)
    assert result.code == 1
    assert "the row already has a credential. Repeat with --replace to replace it." in result.err
    assert world.token_of("loc1") == kept
    assert onboard(world, line, flags=["--replace"]).code == 0
    assert world.token_of("loc1") == world.oauth.current(line[4])


def test_two_rows_of_one_identity_are_left_alone(airtable_world: World) -> None:
    world = airtable_world
    for _ in range(2):
        world.table.add({"locationId": "loc1", "provider": "acme"})
    result = onboard(world, world.csv_line("acme", "loc1"))
    assert result.code == 1
    assert "several rows have the same location and provider: 'loc1' (row " in result.err
    assert world.oauth.requests == []


def test_row_that_somebody_fills_during_the_proof_keeps_theirs(airtable_world: World) -> None:
    world = airtable_world
    record = world.table.add({"locationId": "loc1", "provider": "acme"})
    theirs = world.cells("acme", "loc1")
    line = world.csv_line("acme", "loc1")

    def edit(call: faults.Call, act: faults.Act) -> Response:
        world.table.edit(record, {"encrypted_refresh": theirs["encrypted_refresh"]})
        return act()

    world.oauth.fail(faults.Fault("somebody onboards", edit))
    result = onboard(world, line)
    assert result.code == 1
    assert "line 2: not saved (changed): somebody changed the row meanwhile, and theirs stays" in result.err
    assert world.table.cell(record, "encrypted_refresh") == theirs["encrypted_refresh"]
    assert [entry["step"] for entry in world.journalled()] == ["superseded"]


# What is wrong with a line


def test_bad_lines_are_named_and_good_ones_saved(world: World) -> None:
    dead = world.csv_line("acme", "dead")
    world.oauth.revoke(dead[4])
    lines = [
        world.csv_line("acme", "good1"),
        dead,
        ("", "acme", "app-acme", "acme secret", "canary-token"),
        ("no-token", "acme", "app-acme", "acme secret", ""),
        ("short", "acme", "app-acme"),
        ("long", "acme", "app-acme", "acme secret", "canary-token", "more"),
        ("odd", "canary-provider", "app-acme", "acme secret", "canary-token"),
        ("no-client", "acme", "", "acme secret", "canary-token"),
        world.csv_line("google", "good2"),
    ]
    result = onboard(world, *lines, flags=["--json"])
    assert result.code == 1
    assert sorted(world.rows()) == ["good1", "good2"]
    for told in (
        "line 3: not saved (reauthorize): HTTP 400, invalid_grant",
        "line 4: not saved (operator): has no location_id. Correct the line.",
        "line 5: not saved (operator): has no refresh_token. Correct the line. (no-token, acme)",
        "line 6: not saved (operator): has 3 cells, not 5. Correct the line. (short, acme)",
        "line 7: not saved (operator): has 6 cells, not 5. Correct the line. (long, acme)",
        "line 8: not saved (operator): names a provider that is not known. Known: acme,",
        "line 9: not saved (operator): client_id is empty",
        "lines in the table: 2 of 9",
    ):
        assert told in result.err
    assert [one["outcome"] for one in result.json()["results"]].count("refreshed") == 2
    assert "canary" not in result.said


@pytest.mark.parametrize(
    "params",
    [
        "canary",
        "[]",
        '{"instance": 5}',
        '{"instance": "canary/../"}',
        '{"instance": "a@canary"}',
        '{"instance":"canary',
    ],
)
def test_parameters_that_cannot_be_used_are_not_repeated(world: World, params: str) -> None:
    host = hosted(world)
    line = (*hosted_line(world, "loc1", host)[:5], quoted(params))
    result = onboard(world, line, (*world.csv_line("acme", "loc2"), ""), params=True)
    assert result.code == 1
    assert "line 2: not saved" in result.err
    assert "provider_params" in result.err
    assert "canary" not in result.said
    assert sorted(world.rows()) == ["loc2"]


def test_shifted_columns_show_no_secret(world: World) -> None:
    """Whatever stands where, a message may not repeat it."""
    cells = ("loc1", "acme", "app-acme", "canary-secret", "canary-token")
    lines = [cells[shift:] + cells[:shift] for shift in range(1, 5)]
    result = onboard(world, *lines)
    assert result.code == 1
    assert "canary" not in result.said
    assert world.rows() == {}


def test_refusal_that_quotes_the_credential_is_reported_without_it(world: World) -> None:
    location, provider, client_id, secret, token = world.csv_line("acme", "loc1")
    world.oauth.fail(faults.refused("invalid_grant", f"token {token} of client {client_id} with {secret} is unknown"))
    result = onboard(world, (location, provider, client_id, secret, token), flags=["--json"])
    assert result.code == 1
    assert "is unknown" in result.out
    assert token not in result.said
    assert secret not in result.said


def test_default_secret_that_a_refusal_quotes_is_not_shown(world: World) -> None:
    world.program.settings |= {"ACME_CLIENT_ID": "app-acme", "ACME_CLIENT_SECRET": "acme secret"}
    token = world.oauth.grant("acme", "app-acme", location_id="loc1")
    world.oauth.fail(faults.refused("invalid_client", "the secret acme secret is wrong"))
    result = onboard(world, ("loc1", "acme", "", "", token))
    assert result.code == 1
    assert "acme secret" not in result.said


# What is wrong with the file


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the first line is not the expected header. Write: location_id,provider,"),
        ("canary1,acme,app,canary2,canary3\n", "the first line is not the expected header"),
        (HEADER.replace("location_id", "locationId") + "\n", "the first line is not the expected header"),
        (HEADER + ",canary\n", "the first line is not the expected header"),
        ("provider,location_id,client_id,client_secret,refresh_token\n", "the first line is not the expected header"),
        (f"{HEADER}\nZürich".encode("latin-1"), "is not UTF-8 text. Save it as CSV in UTF-8."),
        (f"{HEADER}\n".encode("utf-16"), "is not UTF-8 text"),
        (None, "cannot be read (No such file or directory)"),
    ],
    ids=["empty", "none", "misnamed", "too many", "another order", "latin-1", "utf-16", "missing"],
)
def test_file_that_cannot_be_used_is_refused_whole(world: World, content: str | bytes | None, told: str) -> None:
    path = file_of(world, content) if content is not None else str(world.program.home / "nowhere.csv")
    result = world.program.onboard("--from-csv", path)
    assert result.code == 2
    assert told in result.err
    assert "canary" not in result.said
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_file_as_a_spreadsheet_separates_its_cells_is_read(world: World, separator: str) -> None:
    lines = [HEADER.split(","), world.csv_line("acme", "loc1"), world.csv_line("google", "loc2")]
    path = file_of(world, "".join(f"{separator.join(line)}\n" for line in lines))
    assert world.program.onboard("--from-csv", path).code == 0
    assert sorted(world.rows()) == ["loc1", "loc2"]


def test_a_bad_line_that_may_begin_with_a_secret_is_not_named_by_it(world: World) -> None:
    path = file_of(world, f"{HEADER}\ncanary-secret,canary-token\ncanary-secret,,,,\n")
    result = world.program.onboard("--from-csv", path)
    assert (result.code, "canary" in result.said) == (1, False)


def test_folder_instead_of_a_file_is_refused(world: World) -> None:
    result = world.program.onboard("--from-csv", str(world.program.home))
    assert (result.code, "cannot be read (Is a directory)" in result.err) == (2, True)


def test_unclosed_quote_is_reported_where_it_opens_and_lines_before_are_saved(world: World) -> None:
    good, never = world.csv_line("acme", "loc1"), world.csv_line("acme", "loc2")
    content = f'{HEADER}\n{",".join(good)}\n"canary,{",".join(never)}\n{",".join(never)}\n'
    result = world.program.onboard("--from-csv", file_of(world, content))
    assert result.code == 1
    assert "line 3: not saved (operator): cannot be read as CSV (a quote that is not closed?)" in result.err
    assert sorted(world.rows()) == ["loc1"]
    assert "canary" not in result.said


def test_file_that_others_can_read_is_warned_about(world: World) -> None:
    path = world.program.csv(world.csv_line("acme", "loc1"))
    Path(path).chmod(0o644)
    result = world.program.onboard("--from-csv", path)
    assert result.code == 0
    assert f"other users can read {path}, which holds secrets. Run: chmod 600 {path}" in result.err


def test_no_check_saves_unproved_and_the_next_run_refreshes(world: World) -> None:
    line = world.csv_line("acme", "loc1")
    assert onboard(world, line, flags=["--no-check"]).code == 0
    assert world.oauth.requests == []
    assert world.token_of("loc1") == line[4]
    assert world.rows()["loc1"]["access_token_expiry"] is None
    assert world.program.run("--json").outcomes() == {"loc1": "refreshed"}
    assert "already done: skipped" in onboard(world, line).err


# What is wrong with the table


def test_table_without_the_provider_column_takes_no_other_provider(world: World, airtable_world: World) -> None:
    world = airtable_world
    airtable = world.airtable
    assert airtable is not None
    airtable.six_column_table("Six")
    world.program.settings["AIRTABLE_TABLE_NAME"] = "Six"
    plain = world.csv_line("gohighlevel", "loc1")
    other = world.csv_line("acme", "loc2")
    with_params = (*world.csv_line("gohighlevel", "loc3"), quoted('{"user_type": "Location"}'))
    result = onboard(world, (*plain, ""), (*other, ""), with_params, params=True)
    assert result.code == 1
    assert "line 3: not saved (operator): the table has no column provider, which this row needs. Run: " in result.err
    assert "line 4: not saved (operator): the table has no column provider_params" in result.err
    assert [world.oauth.tokens[line[4]].times_sent for line in (plain, other, with_params)] == [1, 0, 0]
    [record] = airtable.table("Six").records()
    assert world.open_refresh("loc1", record["fields"]["encrypted_refresh"]) == world.oauth.current("loc1")


@pytest.mark.parametrize("prepared", [False, True])
def test_store_that_fails_after_the_proof_gets_the_tokens_from_the_next_run(
    airtable_world: World, prepared: bool
) -> None:
    world = airtable_world
    airtable = world.airtable
    assert airtable is not None
    if prepared:
        world.table.add({"locationId": "loc1", "provider": "acme"})
    first, second = world.csv_line("acme", "loc1"), world.csv_line("acme", "loc2")

    def fail(call: faults.Call, act: faults.Act) -> Response:
        for kind in ("create", "update", "list"):
            airtable.inject(airtable_faults.status(503), kind=kind, times=math.inf)
        return act()

    world.oauth.fail(faults.Fault("the store goes down", fail))
    result = onboard(world, first, second, flags=["--json"])
    assert result.code == 3
    assert "the proved tokens wait, encrypted, in the journal" in result.err
    assert "1 line was not tried" in result.err
    assert world.oauth.tokens[second[4]].times_sent == 0
    [entry] = world.journalled()
    assert entry["step"] == "answered"
    assert not any(secret in str(entry) for secret in (first[4], "acme secret", *world.oauth.access_tokens))

    airtable.faults.clear()
    world.clock.advance(100)
    assert world.program.run().code == 0
    assert world.journalled() == []
    [record] = world.table.find(locationId="loc1")
    cell = world.table.cell(record, "encrypted_refresh")
    assert world.open_refresh("loc1", cell) == world.oauth.current("loc1")
    assert world.oauth.sent_twice() == []
    assert "already done: skipped (loc1, acme)" in onboard(world, first, second).err


def test_repeating_the_file_after_an_outage_sends_no_token_twice(airtable_world: World) -> None:
    """Before a second request the journal gets its turn: the answer of the first is there."""
    world = airtable_world
    airtable = world.airtable
    assert airtable is not None
    line = world.csv_line("acme", "loc1")
    airtable.inject(airtable_faults.status(503), kind="create", times=math.inf)
    assert onboard(world, line).code == 3
    airtable.faults.clear()
    result = onboard(world, line)
    assert result.code == 0, result.err
    assert "already done: skipped" in result.err
    [record] = world.table.find(locationId="loc1")
    assert world.open_refresh("loc1", world.table.cell(record, "encrypted_refresh")) == world.oauth.current("loc1")
    assert world.oauth.sent_twice() == []


def test_lost_answer_is_asked_for_once_and_then_left_to_the_next_run(world: World) -> None:
    line = world.csv_line("acme", "loc1")
    world.oauth.fail(faults.reset(), times=2)
    result = onboard(world, line)
    assert result.code == 1
    assert "kept, encrypted: the next run asks once more and saves it" in result.err
    assert world.oauth.tokens[line[4]].times_sent == 2
    again = onboard(world, line)
    assert again.code == 1
    assert "has begun and is not at its end" in again.err
    assert world.oauth.tokens[line[4]].times_sent == 2
    world.clock.advance(100)
    assert world.program.run().code == 0
    assert world.token_of("loc1") == world.oauth.current("loc1")


@pytest.mark.parametrize("provider", ["acme", "acme-never"])
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (faults.documents_token(503), {"acme": "unknown", "acme-never": "transient"}),
        (faults.echoes_token(400), {"acme": "operator", "acme-never": "operator"}),
    ],
    ids=["503", "400"],
)
def test_answer_that_only_shows_a_token_saves_nothing(
    world: World, provider: str, fault: Fault, outcome: dict[str, str]
) -> None:
    line = world.csv_line(provider, "loc")
    shown = world.oauth.fail(fault, times=math.inf)
    result = onboard(world, line, flags=["--json"])
    assert (result.code, result.outcomes()) == (1, {"loc": outcome[provider]})
    assert world.rows() == {}
    shown.stop()
    world.clock.advance(200)
    if outcome[provider] == "unknown":
        assert world.program.run().code == 0  # what was entered is kept, and asked for once more
    else:
        assert onboard(world, line).code == 0
    assert world.token_of("loc") == world.oauth.current("loc")


def test_second_refusal_after_a_lost_answer_says_so(world: World) -> None:
    world.oauth.fail(faults.acted_then_dropped())
    result = onboard(world, world.csv_line("acme", "loc1"))
    assert result.code == 1
    assert "the first answer was lost, and the token is used up" in result.err
    assert "enter the new refresh token" in result.err


def test_where_a_repeat_would_end_the_grant_a_lost_answer_is_not_asked_for_again(world: World) -> None:
    line = world.csv_line("acme-family", "loc1")
    world.oauth.fail(faults.reset())
    assert onboard(world, line).code == 1
    assert world.oauth.tokens[line[4]].times_sent == 1
    assert [entry["step"] for entry in world.journalled()] == ["lost"]


def test_table_that_may_only_be_read_is_reported_before_anything_is_sent(airtable_world: World) -> None:
    world = airtable_world
    airtable = world.airtable
    assert airtable is not None
    world.table.add({"locationId": "loc1", "provider": "acme"})
    airtable.add_token(airtable.token, role="read")
    result = onboard(world, world.csv_line("acme", "loc1"))
    assert result.code == 2
    assert "may not read or write this table" in result.err
    assert world.oauth.requests == []


def test_missing_column_is_reported_before_anything_is_sent(airtable_world: World) -> None:
    world = airtable_world
    world.table.rename_column("encrypted_secret", "secret")
    result = onboard(world, world.csv_line("acme", "loc1"))
    assert result.code == 2
    assert "the table has no column encrypted_secret" in result.err
    assert world.oauth.requests == []
