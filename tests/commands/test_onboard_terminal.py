"""Onboarding at a terminal: a real process on a real pseudo-terminal, typed at as people type, paste and give up."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import World
from tests.world.http import Response
from tests.world.oauth import faults
from tests.world.terminal import (
    BACKSPACE,
    CTRL_C,
    CTRL_D,
    CTRL_U,
    CTRL_Z,
    DEADLINE_SECONDS,
    ENTER,
    ESCAPE,
    TerminalProcess,
    paste,
    python,
)
from token_refresh.journal.lock import run_lock

SECRET = "acme secret"
LOCATION, PROVIDER, CLIENT, CLIENT_SECRET, TOKEN = (
    "Location id: ",
    "Provider [gohighlevel]: ",
    "Client id: ",
    "Client secret (not shown): ",
    "Refresh token (not shown): ",
)


def onboard(world: World, *flags: str, output: Path | None = None) -> TerminalProcess:
    return world.program.at_terminal(*flags, script="onboard_client.py", output=output)


def fill_in(terminal: TerminalProcess, location: str, token: str, provider: str = "acme", secret: str = SECRET) -> None:
    """All questions about a new client."""
    terminal.answer(LOCATION, location)
    terminal.answer(PROVIDER, provider)
    terminal.answer(CLIENT, f"app-{provider}")
    terminal.answer(CLIENT_SECRET, secret)
    terminal.answer(TOKEN, token)


def granted(world: World, location: str, provider: str = "acme") -> str:
    return world.oauth.grant(provider, f"app-{provider}", location_id=location)


def onboarded(world: World, location: str, provider: str = "acme") -> str:
    """A location that is in the table; its refresh token as it is now."""
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line(provider, location))).code == 0
    return world.token_of(location)


def own_provider(world: World, text: str) -> None:
    with Path(world.program.settings["PROVIDERS_FILE"]).open("a") as file:
        file.write(text)


def instance_provider(world: World, client_id: str = "app-acme") -> None:
    """A provider whose host a row may choose, and a row that did."""
    host = world.oauth.url.removeprefix("http://")
    own_provider(
        world,
        '[hosted]\ntoken_url = "http://{instance}/acme/token"\nrotates = "always"\nreplay = "once"\n'
        'placeholders = { instance = "127.0.0.1:9" }\n',
    )
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = host
    prepare_row(world, "loc", "hosted", client_id, f'{{"instance": "{host}"}}')


def prepare_row(world: World, location: str, provider: str, client_id: str, params: str = "") -> None:
    """A row that waits for its credential."""
    assert world.program.run("status").code == 0  # creates the table
    with closing(sqlite3.connect(world.program.home / "state/tokens.sqlite3")) as database, database:
        database.execute(
            "INSERT INTO credentials (location_id, provider, client_id, provider_params) VALUES (?, ?, ?, ?)",
            (location, provider, client_id, params),
        )


# What goes well


def test_typed_credential_is_stored_as_the_rotated_pair_and_never_shown(world: World, tmp_path: Path) -> None:
    token = granted(world, "loc1")
    output = tmp_path / "output.json"
    with onboard(world, "--json", output=output) as terminal:
        fill_in(terminal, "loc1", token)
        assert terminal.end() == 0, terminal.transcript
        assert terminal.modes() == terminal.modes_before
    assert "loc1 is saved" in terminal.transcript
    assert world.token_of("loc1") == world.oauth.current("loc1") != token
    assert world.oauth.tokens[token].spent_at is not None
    assert world.oauth.sent_twice() == []
    for hidden in (token, SECRET, *world.oauth.tokens, *world.oauth.access_tokens):
        assert hidden not in terminal.transcript + output.read_text()
    assert '"outcome": "refreshed"' in output.read_text()
    assert world.journalled() == []


def test_provider_may_be_typed_in_any_spelling(world: World) -> None:
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "A.C.M.E")
        terminal.answer(CLIENT, "app-acme")
        terminal.answer(CLIENT_SECRET, SECRET)
        terminal.answer(TOKEN, granted(world, "loc1"))
        assert terminal.end() == 0
    assert world.rows()["loc1"]["provider"] == "acme"


def test_pastes_editing_keys_and_a_very_long_token_arrive_as_meant(world: World) -> None:
    long_token = "".join(f"{number:05x}" for number in range(2000))
    assert len(long_token) == 10_000
    with onboard(world, "--no-check") as terminal:
        terminal.expect(LOCATION)
        terminal.type(f"lox{BACKSPACE}c{ESCAPE}[D{ESCAPE}[C{ESCAPE}OA{ESCAPE}[1;5H-Zürich 東京{BACKSPACE}{ENTER}")
        terminal.expect(PROVIDER)
        terminal.type(f"nonsense{CTRL_U}acme\r\n")  # a Windows line end is one Enter
        terminal.answer(CLIENT, f"{CTRL_Z}app-acme")
        terminal.expect(CLIENT_SECRET)
        terminal.type(paste("sec\r\nret\r") + f"x{BACKSPACE}{ESCAPE}{paste('ive')}{ENTER}")
        terminal.expect(TOKEN)
        terminal.type(paste("\n".join(long_token[place : place + 64] for place in range(0, 10_000, 64)) + "\n") + ENTER)
        assert terminal.end() == 0, terminal.transcript
        assert terminal.modes() == terminal.modes_before
    location = "loc-Zürich 東"
    row = world.rows()[location]
    assert (row["provider"], row["client_id"], row["access_token_expiry"]) == ("acme", "app-acme", None)
    assert world.token_of(location) == long_token
    assert "[200~" not in terminal.transcript.replace("\x1b[?2004", "")
    assert long_token[:20] not in terminal.transcript
    assert "secret" not in terminal.transcript.replace("Client secret", "")
    assert world.oauth.requests == []


def test_what_is_typed_ahead_is_not_shown_between_two_questions(world: World) -> None:
    """A block that is pasted whole, at a terminal that marks no pastes: the secrets arrive while a row is looked up."""
    token = granted(world, "loc1")
    with onboard(world) as terminal:
        terminal.expect(LOCATION)
        terminal.type(f"loc1\racme\rapp-acme\r{SECRET}\r{token}\rleft over for the shell\r")
        assert terminal.end() == 0, terminal.transcript
    for hidden in (SECRET, token, "left over"):
        assert hidden not in terminal.transcript
    assert world.token_of("loc1") == world.oauth.current("loc1")


def test_prepared_row_is_not_asked_for_its_client_id(world: World) -> None:
    prepare_row(world, "loc1", "acme", "app-acme")
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "acme")
        terminal.answer(CLIENT_SECRET, SECRET)
        terminal.answer(TOKEN, granted(world, "loc1"))
        assert terminal.end() == 0, terminal.transcript
    assert CLIENT not in terminal.transcript
    assert world.token_of("loc1") == world.oauth.current("loc1")


def fill_in_highlevel(terminal: TerminalProcess, location: str, token: str) -> None:
    """All questions about a new client of HighLevel's, whose app is in the settings."""
    terminal.answer(LOCATION, location)
    terminal.answer(PROVIDER, "")
    terminal.answer("instead of entering a refresh token? [y/N] ", "")
    terminal.answer("User type [Location]: ", "")
    terminal.answer("Client secret (empty: the one from the settings) (not shown): ", "")
    terminal.answer(TOKEN, token)


@pytest.fixture
def highlevel(world: World) -> World:
    """The app is in the settings."""
    world.program.settings |= {
        "GOHIGHLEVEL_CLIENT_ID": "app-highlevel",
        "GOHIGHLEVEL_CLIENT_SECRET": "highlevel secret",
    }
    return world


def test_a_token_that_its_provider_says_is_of_another_location_is_saved_with_a_warning(highlevel: World) -> None:
    token = highlevel.oauth.grant("gohighlevel", "app-highlevel", location_id="real")
    with onboard(highlevel) as terminal:
        fill_in_highlevel(terminal, "loc1", token)
        terminal.expect("loc1 has the tokens of real, as its provider says")
        assert terminal.end() == 0
    assert highlevel.token_of("loc1") == highlevel.oauth.current("real")


def test_empty_secret_and_provider_take_what_the_settings_say(highlevel: World) -> None:
    token = highlevel.oauth.grant("gohighlevel", "app-highlevel", location_id="loc1")
    with onboard(highlevel) as terminal:
        fill_in_highlevel(terminal, "loc1", token)
        assert terminal.end() == 0, terminal.transcript
        assert "has the tokens of" not in terminal.transcript
    row = highlevel.rows()["loc1"]
    assert (row["client_id"], row["encrypted_secret"]) == ("app-highlevel", "")
    assert not row["provider_params"]


def test_required_placeholder_is_asked_for_and_the_row_s_other_parameters_stay(world: World) -> None:
    own_provider(
        world,
        f'[realms]\ntoken_url = "{world.oauth.url}/{{realm}}/token"\nrotates = "always"\nreplay = "once"\n'
        'placeholders = { user_type = "Location" }\n',
    )
    prepare_row(world, "loc1", "realms", "app-acme", '{"user_type": "Company"}')
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "realms")
        terminal.answer("Realm: ", "acme")
        terminal.answer(CLIENT_SECRET, SECRET)
        terminal.answer(TOKEN, granted(world, "loc1"))
        assert terminal.end() == 0, terminal.transcript
    assert world.rows()["loc1"]["provider_params"] == '{"user_type": "Company", "realm": "acme"}'


@pytest.mark.long
def test_waits_for_another_run_and_says_so(airtable_world: World) -> None:
    world = airtable_world
    assert world.airtable is not None
    world.airtable.requests_per_second = None  # the process lives by the real clock, the service does not
    assert world.program.run("status").code == 0
    [folder] = [path for path in (world.program.home / "state").iterdir() if path.is_dir()]
    with onboard(world) as terminal:
        with run_lock(folder, world.clock):
            fill_in(terminal, "loc1", granted(world, "loc1"))
            terminal.expect("another run is active; waiting for it to end")
            assert world.oauth.requests == []
        assert terminal.end() == 0, terminal.transcript
    assert [record["fields"]["locationId"] for record in world.table.records()] == ["loc1"]


# An existing credential


def test_existing_credential_stays_after_anything_but_yes(world: World) -> None:
    token = onboarded(world, "loc1")
    before = world.rows()
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "acme")
        terminal.answer("loc1 already has a credential. Replace it? [y/N] ", "no")
        assert terminal.end() == 1
        assert terminal.modes() == terminal.modes_before
    assert "nothing was changed" in terminal.transcript
    assert world.rows() == before
    assert world.oauth.current("loc1") == token


def test_existing_credential_is_replaced_after_a_yes_and_its_failures_forgotten(world: World) -> None:
    onboarded(world, "loc1")
    old = world.oauth.family("loc1")
    world.oauth.revoke("loc1")
    world.clock.advance(3600)
    assert world.program.run().code == 1
    assert world.rows()["loc1"]["status"] == "reauthorize"
    token = granted(world, "loc1")
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "acme")
        terminal.answer("Replace it? [y/N] ", "Yes")
        terminal.answer(CLIENT_SECRET, SECRET)
        terminal.answer(TOKEN, token)
        assert terminal.end() == 0, terminal.transcript
    row = world.rows()["loc1"]
    assert (row["status"], row["last_error"], row["failure_count"]) == ("active", "", 0)
    assert world.token_of("loc1") == world.oauth.current(token)
    assert old.family != world.oauth.family("loc1").family


def test_replace_flag_needs_no_question(world: World) -> None:
    onboarded(world, "loc1")
    token = granted(world, "loc1")
    with onboard(world, "--replace") as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "acme")
        terminal.answer(CLIENT_SECRET, SECRET)
        terminal.answer(TOKEN, token)
        assert terminal.end() == 0, terminal.transcript
    assert world.token_of("loc1") == world.oauth.current(token)


def test_credential_that_came_while_somebody_typed_is_not_replaced(world: World) -> None:
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "acme")
        terminal.expect(CLIENT)
        theirs = onboarded(world, "loc1")
        mine = granted(world, "loc1")
        terminal.type(f"app-acme{ENTER}")
        terminal.answer(CLIENT_SECRET, SECRET)
        terminal.answer(TOKEN, mine)
        assert terminal.end() == 1
    assert "the row already has a credential" in terminal.transcript
    assert world.token_of("loc1") == theirs
    assert world.oauth.tokens[mine].times_sent == 0


# A host that the table chose


def test_host_of_the_row_s_choice_is_shown_and_a_no_sends_nothing(world: World) -> None:
    instance_provider(world)
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc")
        terminal.answer(PROVIDER, "hosted")
        terminal.answer(f"will be sent to {world.oauth.url}. Is that right? [y/N] ", "")
        assert terminal.end() == 1
    assert "nothing was sent or changed" in terminal.transcript
    assert world.oauth.requests == []


def test_host_of_the_row_s_choice_gets_the_credential_after_a_yes(world: World) -> None:
    instance_provider(world)
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc")
        terminal.answer(PROVIDER, "hosted")
        terminal.answer("Is that right? [y/N] ", "y")
        terminal.answer(CLIENT_SECRET, SECRET)
        terminal.answer(TOKEN, granted(world, "loc"))
        assert terminal.end() == 0, terminal.transcript
    assert world.token_of("loc") == world.oauth.current("loc")


@pytest.mark.parametrize(
    ("ours", "entered", "secret"),
    [
        ("app-acme", "", SECRET),
        ("our-app", "", ""),
        pytest.param("our-app", "app-acme", SECRET, marks=pytest.mark.long),
        pytest.param("our-app", "our-app", "", marks=pytest.mark.long),
    ],
)
def test_the_settings_client_is_proposed_for_a_host_of_the_row_s_choice_and_its_secret_kept_from_it(
    world: World, ours: str, entered: str, secret: str
) -> None:
    instance_provider(world, client_id="")
    world.program.settings |= {"HOSTED_CLIENT_ID": ours, "HOSTED_CLIENT_SECRET": "our own secret"}
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc")
        terminal.answer(PROVIDER, "hosted")
        terminal.answer("Is that right? [y/N] ", "y")
        terminal.answer(f"Client id [{ours}]: ", entered)
        terminal.answer(CLIENT_SECRET, secret)
        terminal.answer(TOKEN, granted(world, "loc"))
        assert terminal.end() == (0 if secret else 2), terminal.transcript
    if not secret:
        assert "HOSTED_CLIENT_SECRET is not sent to" in terminal.transcript
    assert [dict(request.form())["client_secret"] for request in world.oauth.requests] == ([SECRET] if secret else [])


# What goes wrong


@pytest.mark.by_turns("fault", "told")
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (faults.refused("invalid_grant", "no such token"), "not saved: HTTP 400, invalid_grant: no such token"),
        (faults.wrong_secret(), "Check the client id and the client secret"),
        (faults.too_many_requests(), "Nothing was saved: try again later"),
    ],
    ids=lambda value: value.name if isinstance(value, faults.Fault) else "",
)
def test_refused_proof_leaves_the_row_untouched(world: World, fault: faults.Fault, told: str) -> None:
    onboarded(world, "loc1")
    before = world.rows()
    world.oauth.fail(fault)
    with onboard(world, "--replace") as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "acme")
        terminal.answer(CLIENT_SECRET, SECRET)
        terminal.answer(TOKEN, granted(world, "loc1"))
        assert terminal.end() == 1
    assert told in terminal.transcript
    assert "Traceback" not in terminal.transcript
    assert world.rows() == before | {"loc1": replaced(before["loc1"], world)}
    assert world.journalled() == []


def replaced(row: dict[str, object], world: World) -> dict[str, object]:
    """The proof that the row takes writes touches its time stamp and nothing else."""
    return {**row, "updated_at": world.rows()["loc1"]["updated_at"]}


def test_used_up_token_is_not_sent_again(world: World) -> None:
    line = world.csv_line("acme", "loc1")
    assert world.program.onboard("--from-csv", world.program.csv(line)).code == 0
    with onboard(world) as terminal:
        fill_in(terminal, "loc2", line[4])
        assert terminal.end() == 2
    assert "this refresh token is used up" in terminal.transcript
    assert world.oauth.sent_twice() == []


def test_interrupt_during_the_proof_waits_for_its_answer(world: World) -> None:
    """The provider has acted: without the answer the client would have to log in anew."""
    token = granted(world, "loc1")
    acted, answered = threading.Event(), threading.Event()

    def hold(call: faults.Call, act: faults.Act) -> Response:
        answer = act()
        acted.set()
        answered.wait(DEADLINE_SECONDS)
        return answer

    world.oauth.fail(faults.Fault("held", hold))
    with onboard(world) as terminal:
        fill_in(terminal, "loc1", token)
        assert acted.wait(DEADLINE_SECONDS)
        terminal.type(CTRL_C)
        terminal.expect("brought to its end")
        answered.set()
        assert terminal.end() == 0, terminal.transcript
    assert world.token_of("loc1") == world.oauth.current("loc1")


QUESTIONS = {LOCATION: "loc1", PROVIDER: "acme", CLIENT: "app-acme", CLIENT_SECRET: SECRET, TOKEN: ""}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.split(" ")[0].lower())
@pytest.mark.by_turns("end")
@pytest.mark.parametrize("end", [CTRL_C, CTRL_D, "hang-up"], ids=["ctrl-c", "ctrl-d", "hang-up"])
def test_giving_up_at_a_question_leaves_nothing_behind(world: World, question: str, end: str) -> None:
    with onboard(world) as terminal:
        for earlier, keys in QUESTIONS.items():
            if earlier == question:
                break
            terminal.answer(earlier, keys)
        terminal.expect(question)
        if end == CTRL_D:
            terminal.type(CTRL_D)
        else:
            terminal.type("begun")
            terminal.type(CTRL_C) if end == CTRL_C else terminal.signal(signal.SIGHUP)
        assert terminal.end() == 4
        assert terminal.modes() == terminal.modes_before
    assert "interrupted; nothing half-written is left behind" in terminal.transcript
    assert terminal.transcript.count("\x1b[?2004h") == terminal.transcript.count("\x1b[?2004l") == 1
    assert "Traceback" not in terminal.transcript
    assert SECRET not in terminal.transcript
    assert (world.rows(), world.journalled(), world.oauth.requests) == ({}, [], [])


def test_closed_terminal_ends_the_program(world: World) -> None:
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.answer(PROVIDER, "acme")
        terminal.answer(CLIENT, "app-acme")
        terminal.expect(CLIENT_SECRET)
        terminal.hang_up()
        assert terminal.process.wait(60) == 4
    assert (world.rows(), world.journalled(), world.oauth.requests) == ({}, [], [])


def test_terminal_that_closes_without_a_hang_up_ends_the_program(world: World) -> None:
    """It is not the controlling one, so nothing but the failing read tells."""
    program = world.program
    master, slave = pty.openpty()
    with subprocess.Popen(
        python(program.installed() / "onboard_client.py"), env=program.environment(), stdin=slave, stderr=slave
    ) as process:
        os.close(slave)
        seen = b""
        while LOCATION.encode() not in seen:
            seen += os.read(master, 1000)
        os.close(master)
        assert process.wait(60) == 4


@pytest.mark.by_turns("answers", "told")
@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({LOCATION: "  "}, "the location id is empty; nothing was changed. Start again."),
        ({LOCATION: "loc1", PROVIDER: "acmee"}, "there is no provider 'acmee'. Did you mean acme?"),
        ({LOCATION: "loc1", PROVIDER: "acme", CLIENT: ""}, "the client id is empty"),
        ({LOCATION: "loc1", PROVIDER: "acme", CLIENT: "a", CLIENT_SECRET: "", TOKEN: ""}, "the refresh token is empty"),
    ],
    ids=["location", "provider", "client", "token"],
)
def test_answer_that_cannot_be_used_is_named(world: World, answers: dict[str, str], told: str) -> None:
    with onboard(world) as terminal:
        for question, keys in answers.items():
            terminal.answer(question, keys)
        assert terminal.end() == 2
        assert terminal.modes() == terminal.modes_before
    assert told in terminal.transcript
    assert world.rows() == {}


def test_without_a_terminal_it_says_so_instead_of_asking(world: World) -> None:
    result = world.program.spawn(script="onboard_client.py", stdin="loc1\nacme\n")
    assert result.code == 2
    assert "this is no terminal" in result.err
    assert "--from-csv FILE" in result.err
    assert result.out == ""


def test_input_from_a_file_at_a_terminal_would_show_the_secrets_and_is_refused(world: World) -> None:
    with onboard(world, "--from-csv", "-") as terminal:
        assert terminal.end() == 2
    assert "standard input is a terminal" in terminal.transcript


def test_program_that_is_stopped_at_a_question_leaves_the_terminal_as_it_was(world: World) -> None:
    with onboard(world) as terminal:
        terminal.answer(LOCATION, "loc1")
        terminal.expect(PROVIDER)
        assert terminal.modes() != terminal.modes_before
        terminal.signal(signal.SIGTERM)
        assert terminal.end() == 4
        assert terminal.modes() == terminal.modes_before
