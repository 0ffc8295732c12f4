"""A table whose every change is written down, and which has troubles of its own, whatever keeps it."""

from __future__ import annotations

import itertools
import random
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.conftest import World
from tests.refresh.runs.faults_world import PostgresRows, meanwhile
from tests.world.airtable import faults
from tests.world.airtable.columns import text
from tests.world.airtable.faults import Injection
from tests.world.oauth.faults import Script
from tests.world.postgres import PostgresServer
from token_refresh.stores.database import DatabaseStore

LEAST_TROUBLES = 5
TOKEN_COLUMNS = {"encrypted_refresh", "last_access_token", "access_token_expiry", "refresh_token_expiry"}
PROGRAM_COLUMNS = TOKEN_COLUMNS | {"status", "last_error", "last_refreshed", "refreshed_by", "failure_count"}


@dataclass(frozen=True)
class Written:
    """One cell that the program changed."""

    location: str
    column: str
    after: Any
    at: datetime


class Books(ABC):
    """See the module.

    Attributes:
        program_columns: what the program may write.
    """

    program_columns = PROGRAM_COLUMNS

    @abstractmethod
    def add(self, cells: dict[str, Any], note: str) -> None:
        """A row with these cells, and a note of its owner's in a column of theirs."""

    @abstractmethod
    def open(self) -> None:
        """From now on changes are written down."""

    @abstractmethod
    def cells(self) -> dict[str, dict[str, Any]]:
        """All rows as they are, by location."""

    @abstractmethod
    def changes(self) -> list[Written]:
        """Since `open`, in their order; rows that were added or deleted are changes, too."""

    @abstractmethod
    def trouble(self, odds: random.Random) -> None:
        """Something will go wrong with the table in the next run."""

    @abstractmethod
    def settle(self) -> None:
        """Whatever has not gone wrong by now will not."""

    @abstractmethod
    def assert_were_troubled(self) -> None:
        """Troubles came about, and the program kept to the table's rules."""


class AirtableBooks(Books):
    """See `Books`: its server fails, and counts how often it is asked too fast."""

    def __init__(self, world: World) -> None:
        assert world.airtable is not None
        self._airtable = world.airtable
        self._table = world.airtable.table("APISecrets")
        self._table.add_column(text("Notes"))
        self._locations: dict[str, str] = {}  # by record
        self._before = 0
        self._troubles: list[Injection] = []

    def add(self, cells: dict[str, Any], note: str) -> None:
        self._locations[self._table.add(cells | {"Notes": note})] = cells["locationId"]

    def open(self) -> None:
        self._before = len(self._airtable.changes)

    def cells(self) -> dict[str, dict[str, Any]]:
        records = [record["id"] for record in self._table.records()]
        return {self._locations[record]: self._table.cells(record) for record in records}

    def changes(self) -> list[Written]:
        changes = self._airtable.changes[self._before :]
        return [Written(self._locations[one.record], one.column, one.after, one.at) for one in changes]

    def trouble(self, odds: random.Random) -> None:
        code, nth = odds.choice((500, 502, 503)), odds.randint(1, 9)
        self._troubles.append(self._airtable.inject(faults.status(code), times=odds.randint(1, 2), nth=nth))

    def settle(self) -> None:
        self._airtable.faults.clear()

    def assert_were_troubled(self) -> None:
        assert sum(trouble.hits for trouble in self._troubles) >= LEAST_TROUBLES
        assert self._airtable.answers[429] == 0


_AUDIT = """
ALTER TABLE credentials ADD COLUMN notes text;
CREATE TABLE audit (id serial, location text, name text, value text, at timestamptz);
CREATE SEQUENCE writes;
CREATE TABLE cut (at bigint);
INSERT INTO cut VALUES (0);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.location_id = OLD.location_id THEN
        INSERT INTO audit (location, name, value, at)
        SELECT NEW.location_id, key, value, NEW.updated_at FROM jsonb_each_text(to_jsonb(NEW))
        WHERE value IS DISTINCT FROM to_jsonb(OLD) ->> key;
    ELSE
        INSERT INTO audit (location, name) VALUES (coalesce(NEW.location_id, OLD.location_id), TG_OP);
    END IF;
    IF nextval('writes') = (SELECT at FROM cut) THEN  -- a sequence is not rolled back
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NULL;
END $$;
"""
_OPEN = "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON credentials FOR EACH ROW EXECUTE FUNCTION note()"


class PostgresBooks(Books):
    """See `Books`: a trigger writes them. In the midst of a run, or of a write, sessions end or the server restarts."""

    program_columns = PROGRAM_COLUMNS | {"claim_owner", "claim_generation", "claimed_at", "updated_at"}

    def __init__(self, world: World, server: PostgresServer) -> None:
        self._world = world
        self._server = server
        self._address = PostgresRows(world).address()
        self._troubles: list[Script] = []
        self._cuts = 0  # in a write
        self._notes: dict[str, str] = {}
        self._store = DatabaseStore(self._address, world.clock)

    def add(self, cells: dict[str, Any], note: str) -> None:
        self._store.create(cells)
        self._notes[cells["locationId"]] = note

    def open(self) -> None:
        self._store.close()
        with closing(self._server.connect(self._address)) as shell:
            shell.execute(_AUDIT)
            for location, note in self._notes.items():
                shell.execute("UPDATE credentials SET notes = %s WHERE location_id = %s", (note, location))
            shell.execute(_OPEN)

    def cells(self) -> dict[str, dict[str, Any]]:
        return {row["location_id"]: row for row in self._select("SELECT * FROM credentials")}

    def changes(self) -> list[Written]:
        records = self._select("SELECT * FROM audit ORDER BY id")
        return [Written(one["location"], one["name"], one["value"], one["at"]) for one in records]

    def trouble(self, odds: random.Random) -> None:
        nth = odds.randint(1, 9)
        act = odds.choice((self._cut, self._server.restart, None))
        if act is None:
            with closing(self._server.connect(self._address)) as shell:
                shell.execute("SELECT setval('writes', 1)")
                shell.execute("UPDATE cut SET at = %s", (10 * nth,))
        else:
            calls = itertools.count(1)
            self._troubles.append(self._world.oauth.fail(meanwhile(act), times=1, when=lambda _: next(calls) == nth))

    def settle(self) -> None:
        for script in self._troubles:
            script.stop()
        with closing(self._server.connect(self._address)) as shell:
            cut = shell.execute("UPDATE cut SET at = 0 WHERE at > 0 AND (SELECT last_value FROM writes) >= at")
            self._cuts += cut.rowcount

    def assert_were_troubled(self) -> None:
        assert sum(script.hits for script in self._troubles) >= LEAST_TROUBLES
        assert self._cuts > 0

    def _cut(self) -> None:
        self._server.cut(self._address)

    def _select(self, query: str) -> list[dict[str, Any]]:
        with closing(self._server.connect(self._address)) as shell:
            return shell.execute(query.encode()).fetchall()
