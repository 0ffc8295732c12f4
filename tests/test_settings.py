"""Settings: what is read from where, and that each mistake is named with its mend and without its content."""

from __future__ import annotations

import base64
import copy
import dataclasses
import itertools
import os
import pickle
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

import crypto
from token_refresh import settings
from token_refresh.base.checks import BAD, DOUBTFUL, GOOD
from token_refresh.settings import (
    AirtableSettings,
    ImportSettings,
    ProviderSettings,
    Secret,
    ServiceSettings,
    Settings,
    SettingsError,
)

PROJECT = Path(__file__).resolve().parent.parent
ENV_EXAMPLE = PROJECT / ".env.example"
KEY, OLD_KEY, OLDER_KEY = (crypto.generate_key() for _ in range(3))
# A file of somebody else's is made by root alone (chown(2)); as another user there is nothing to show it with.
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
CANARY = "canary-5e1f-secret"
AIRTABLE = {"AIRTABLE_API_KEY": "pat.token", "AIRTABLE_BASE_ID": "appAbc123"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The program's folder, without `.env`."""
    (tmp_path / "program").mkdir()
    return tmp_path / "program"


class Loader:
    """Loads settings with a key that is in order, unless a test says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, **environ: str) -> Settings:
        return self.exactly({"ENCRYPTION_KEY": KEY} | environ)

    def exactly(self, environ: Mapping[str, str]) -> Settings:
        return settings.load(environ, crypto.parse_key, self.folder)

    def problems(self, **environ: str) -> list[str]:
        return self.problems_exactly({"ENCRYPTION_KEY": KEY} | environ)

    def problems_exactly(self, environ: Mapping[str, str]) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.exactly(environ)
        assert str(caught.value) == " ".join(caught.value.problems)
        return list(caught.value.problems)

    def dotenv(self, content: str | bytes, mode: int = 0o600) -> Path:
        path = self.folder / ".env"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path


@pytest.fixture
def load(folder: Path) -> Loader:
    return Loader(folder)


def revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


# Values


def test_defaults(load):
    """With a key alone the program runs, on a SQLite file in its own folder."""
    loaded = load()
    assert loaded == Settings(
        home=load.folder,
        encryption_key=Secret(KEY),
        encryption_key_fallbacks=(),
        accept_legacy_ciphertext=True,
        store="database",
        airtable=None,
        database_url=None,
        state_dir=load.folder / "state",
        state_dir_is_explicit=False,
        state_dir_spare=Path("/var/tmp"),
        default_provider="gohighlevel",
        refresh_interval=3600,
        token_expiry_buffer=300,
        providers={},
        providers_file=None,
        concurrency=16,
        https_proxy_url=None,
        ca_bundle=None,
        allowed_private_hosts=frozenset(),
        seal_access_tokens=True,
        log_level="INFO",
        log_format="text",
        notify_urls=(),
        notify_command=(),
        webhook_url=None,
        webhook_secret=None,
        webhook_events=frozenset(
            {"token.failed", "token.login_needed", "token.recovered", "token.ending", "run.finished"}
        ),
        ping_url=None,
        metrics_file=None,
        security_log=None,
        service=ServiceSettings(
            host="127.0.0.1",
            port=8002,
            public_url="",
            allowed_hosts=frozenset({"127.0.0.1", "localhost", "::1"}),
            allowed_token_hosts=frozenset(),
            trusted_proxies=(),
            tls_cert_file=None,
            tls_key_file=None,
            allow_plain_http=False,
        ),
        imports=ImportSettings(),
        warnings=(),
    )


def test_defaults_on_airtable(load):
    """Airtable needs two settings; access tokens stay readable there for automations."""
    loaded = load(**AIRTABLE)
    assert loaded.store == "airtable"
    assert not loaded.seal_access_tokens
    assert loaded.airtable == AirtableSettings(
        api_key=Secret("pat.token"),
        base_id="appAbc123",
        table_name="APISecrets",
        id_field="locationId",
        endpoint_url="https://api.airtable.com",
        requests_per_second=4.0,
        plan="",
    )


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("LEGACY_CIPHERTEXT", "refuse", False),
        ("LEGACY_CIPHERTEXT", "Accept", True),
        ("DEFAULT_PROVIDER", "exact-online", "exact-online"),
        ("REFRESH_INTERVAL", "900", 900),
        ("REFRESH_INTERVAL", " 60 ", 60),
        ("TOKEN_EXPIRY_BUFFER", "0", 0),
        ("CONCURRENCY", "1", 1),
        ("CONCURRENCY", "256", 256),
        ("HTTPS_PROXY_URL", "http://user:pass@proxy.example:3128", Secret("http://user:pass@proxy.example:3128")),
        ("ALLOWED_PRIVATE_HOSTS", "10.0.0.5, Idp.internal:8443 ,", frozenset({"10.0.0.5", "idp.internal:8443"})),
        ("ALLOWED_PRIVATE_HOSTS", "[fd00::1]:9,localhost:65535", frozenset({"[fd00::1]:9", "localhost:65535"})),
        ("SEAL_ACCESS_TOKENS", "off", False),
        ("SEAL_ACCESS_TOKENS", "TRUE", True),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("LOG_FORMAT", "json", "json"),
        ("NOTIFY_URLS", "mailto://a@x.example", (Secret("mailto://a@x.example"),)),
        (
            "NOTIFY_URLS",
            "mailto://x.example?to=a@x.example,b@x.example, slack://T/B/C",
            (Secret("mailto://x.example?to=a@x.example,b@x.example"), Secret("slack://T/B/C")),
        ),
        ("WEBHOOK_SECRET", "s3cret", Secret("s3cret")),
        ("PING_URL", "https://hc.example/0b1c?x=1", Secret("https://hc.example/0b1c?x=1")),
        ("HOST", "0.0.0.0", "0.0.0.0"),
        ("HOST", "::1", "::1"),
        ("PORT", "80", 80),
        ("PUBLIC_URL", "https://tokens.example/", "https://tokens.example"),
        ("PUBLIC_URL", "http://localhost:8002", "http://localhost:8002"),
        ("ALLOWED_HOSTS", "Tokens.example, [::1],10.0.0.5", frozenset({"tokens.example", "::1", "10.0.0.5"})),
        ("ALLOWED_TOKEN_HOSTS", "login.example,idp.example:8443", frozenset({"login.example", "idp.example:8443"})),
        ("TRUSTED_PROXIES", "10.0.0.5, FD00::/8", ("10.0.0.5", "fd00::/8")),
        ("ALLOW_PLAIN_HTTP", "yes", True),
    ],
)
def test_setting_is_read(load, name, text, value):
    """What can be written for a setting, and what it becomes."""
    member, loaded = {"LEGACY_CIPHERTEXT": "accept_legacy_ciphertext"}.get(name, name.lower()), load(**{name: text})
    holder = loaded if hasattr(loaded, member) else loaded.service
    assert getattr(holder, member) == value


def test_service_answers_to_its_own_names_alone_where_nobody_lists_others(load):
    """Otherwise a page of another name, which leads here, could use what a browser knows of the service."""
    loaded = load(HOST="10.0.0.5", PUBLIC_URL="https://Tokens.example:8443")
    assert loaded.service.allowed_hosts == {"127.0.0.1", "localhost", "::1", "10.0.0.5", "tokens.example"}
    assert load().service.allowed_hosts == {"127.0.0.1", "localhost", "::1"}


@pytest.mark.parametrize("name", ["TLS_CERT_FILE", "TLS_KEY_FILE"])
def test_certificate_without_key_is_refused_and_key_without_certificate(load, name):
    """It would be served without encryption."""
    (problem,) = load.problems(**{name: "file.pem"})
    assert problem == "Only one of TLS_CERT_FILE and TLS_KEY_FILE is set. Set both, or neither."


@pytest.mark.parametrize(
    "set_too",
    [
        {"TRUSTED_PROXIES": "10.0.0.5"},
        {"TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "key.pem"},
        {"ALLOW_PLAIN_HTTP": "yes"},
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "tokens.example"])
def test_service_listens_to_other_machines_only_where_that_is_safe_or_was_asked_for(load, host, set_too):
    """It does not start otherwise; cron does, which reads the same settings."""
    with pytest.raises(SettingsError, match="HOST lets other machines reach the service without encryption"):
        load(HOST=host).service.require_safe()
    load(HOST=host, **set_too).service.require_safe()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8002"),
        ("::1", "http://[::1]:8002"),
        ("localhost", "http://localhost:8002"),
        ("127.0.0.2", "http://127.0.0.2:8002"),
    ],
)
def test_service_is_safe_where_only_this_machine_reaches_it(load, host, address):
    """Nobody is in between."""
    loaded = load(HOST=host)
    loaded.service.require_safe()
    assert loaded.service.address == address


@pytest.mark.parametrize(
    ("settings", "origin"),
    [
        ({}, "http://127.0.0.1:8002"),
        ({"HOST": "::1"}, "http://[::1]:8002"),
        ({"TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "key.pem"}, "https://127.0.0.1:8002"),
        ({"HOST": "0.0.0.0"}, ""),
        ({"HOST": "0.0.0.0", "PUBLIC_URL": "https://tokens.example"}, "https://tokens.example"),
    ],
)
def test_browsers_of_this_machine_reach_the_service_where_it_listens_others_where_public_url_says(
    load, settings, origin
):
    assert load(**settings).service.origin == origin


def test_service_s_certificate_and_key_may_be_read_by_it_alone(load):
    """Cron, of another user perhaps, reads the same file of settings."""
    loaded = load(TLS_CERT_FILE="cert.pem", TLS_KEY_FILE="/nowhere/key.pem")
    assert loaded.service.tls_cert_file == load.folder / "cert.pem"
    assert loaded.service.tls_key_file == Path("/nowhere/key.pem")


@pytest.mark.parametrize(
    ("name", "text", "member", "value"),
    [
        ("AIRTABLE_TABLE_NAME", "My Secrets", "table_name", "My Secrets"),
        ("AIRTABLE_ID_FIELD", "Location ID", "id_field", "Location ID"),
        ("AIRTABLE_ENDPOINT_URL", "http://127.0.0.1:9000", "endpoint_url", "http://127.0.0.1:9000"),
        ("AIRTABLE_REQUESTS_PER_SECOND", "0.5", "requests_per_second", 0.5),
        ("AIRTABLE_PLAN", "Team", "plan", "team"),
    ],
)
def test_airtable_setting_is_read(load, name, text, member, value):
    """See above."""
    assert getattr(load(**AIRTABLE, **{name: text}).airtable, member) == value


WRITTEN = ["STATE_DIR", "STATE_DIR_SPARE", "METRICS_FILE", "SECURITY_LOG"]


@pytest.mark.parametrize("name", [*WRITTEN, "PROVIDERS_FILE", "CA_BUNDLE"])
def test_path_is_read_relative_to_the_program(load, tmp_path, name):
    """Cron's working folder does not matter; `~` is the home folder."""
    (load.folder / "here").touch()
    (tmp_path / "absolute").touch()
    assert getattr(load(**{name: "here"}), name.lower()) == load.folder / "here"
    assert getattr(load(**{name: str(tmp_path / "absolute")}), name.lower()) == tmp_path / "absolute"
    if name in WRITTEN:
        assert getattr(load(**{name: "~/x"}), name.lower()) == Path("~/x").expanduser()


def test_state_dir_that_was_set_is_marked(load):
    """Only then is a network file system accepted for it."""
    assert load(STATE_DIR="elsewhere").state_dir_is_explicit


def test_keys_are_read(load):
    """Fallbacks are a list; either name of the primary counts."""
    loaded = load(ENCRYPTION_KEY_FALLBACKS=f"{OLD_KEY}, {OLDER_KEY},")
    assert [secret.reveal() for secret in loaded.encryption_key_fallbacks] == [OLD_KEY, OLDER_KEY]
    assert revealed(load.exactly({"OAUTH_ENCRYPTION_KEY": KEY}).encryption_key) == KEY
    assert revealed(load(OAUTH_ENCRYPTION_KEY=KEY).encryption_key) == KEY


def test_provider_settings_are_read(load):
    """Each of the five, by the provider's name in upper case; what is not said is None."""
    loaded = load(
        MICROSOFT_TOKEN_URL="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        MICROSOFT_AUTH_URL="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
        MICROSOFT_SCOPE="Mail.Read offline_access",
        MICROSOFT_CLIENT_ID="an-id",
        MICROSOFT_CLIENT_SECRET=CANARY,
        EXACT_ONLINE_TOKEN_URL="https://{instance}/api/oauth2/token",
    )
    assert loaded.providers["MICROSOFT"] == ProviderSettings(
        token_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        authorize_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
        scope="Mail.Read offline_access",
        client_id="an-id",
        client_secret=Secret(CANARY),
    )
    assert loaded.providers["EXACT_ONLINE"] == ProviderSettings(token_url="https://{instance}/api/oauth2/token")
    assert "GOOGLE" not in loaded.providers


@pytest.mark.parametrize("name", ["ENCRYPTION_KEY", "CONCURRENCY", "PORT", "LOG_LEVEL", "CA_BUNDLE", "TOKEN_STORE"])
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_blank_value_counts_as_unset(load, name, blank):
    """As container tools pass settings that nobody filled in; the one of `.env` then holds."""
    load.dotenv(f"ENCRYPTION_KEY={KEY}\nCONCURRENCY=5\nPORT=\n")
    loaded = load.exactly({name: blank})
    assert (loaded.concurrency, loaded.service.port, revealed(loaded.encryption_key)) == (5, 8002, KEY)


# Stores


@pytest.mark.parametrize(
    ("url", "mapped"),
    [
        ("sqlite:////var/lib/tokens.db", "sqlite:////var/lib/tokens.db"),
        ("sqlite+aiosqlite:////var/lib/tokens.db", "sqlite:////var/lib/tokens.db"),
        ("sqlite:////var/lib/tokens.db?mode=rw", "sqlite:////var/lib/tokens.db?mode=rw"),
        ("postgresql://u:p@db.example:5432/tokens", "postgresql+psycopg://u:p@db.example:5432/tokens"),
        ("postgres://u:p%40@db.example/tokens", "postgresql+psycopg://u:p%40@db.example/tokens"),
        ("postgresql+asyncpg://u@[::1]:5432/tokens", "postgresql+psycopg://u@[::1]:5432/tokens"),
        ("postgresql+asyncpg://u@h/t?a=1&ssl=require", "postgresql+psycopg://u@h/t?a=1&sslmode=require"),
        ("postgresql+psycopg2://u@h/t?sslmode=require", "postgresql+psycopg://u@h/t?sslmode=require"),
        ("postgresql+psycopg:///tokens?host=/run/pg", "postgresql+psycopg:///tokens?host=/run/pg"),
        ("PostgreSQL://u:a:b/c#d?e@h/t", "postgresql+psycopg://u:a:b/c#d?e@h/t"),
    ],
)
def test_database_url_is_mapped(load, url, mapped):
    """The forms that other programs write come out as the one driver that is used; passwords as they are."""
    loaded = load(DATABASE_URL=url)
    assert loaded.store == "database"
    assert revealed(loaded.database_url) == mapped


@pytest.mark.parametrize("path", ["tokens.db", "./tokens.db"])
def test_relative_sqlite_file_is_beside_the_program(load, path):
    """Not wherever cron happens to start it."""
    assert revealed(load(DATABASE_URL=f"sqlite:///{path}").database_url) == f"sqlite:///{load.folder}/tokens.db"


@pytest.mark.parametrize(
    "url",
    [
        "tokens.db",
        "mysql://u:p@h/t",
        "sqlite",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite:///.",
        "sqlite:////var/lib/",
        "sqlite://tokens.db",
        "sqlite:///:memory:",
        "postgresql://",
        "postgresql://user:password/tokens",
        "postgresql://u:p@h:port/tokens",
        "postgresql://u:p@h:99999/tokens",
        "postgresql://u:p@[::1/tokens",
    ],
)
def test_database_url_that_names_no_database_is_refused(load, url):
    """Before a library gets to quote it."""
    assert [problem.split()[0] for problem in load.problems(DATABASE_URL=url)] == ["DATABASE_URL"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@ss@h/t",
        "postgresql://u:@p@h/t",
        "postgresql://u@x:p@h:5432/t",
        "postgresql://u:12/p@h/t",
        "postgresql://u:12?p@h/t",
        "postgresql://u:/p@h/t",
        "postgresql://h:5432/t?password=p@ss",
        "postgresql://h/t?password=p@ss",
    ],
)
def test_a_password_with_a_sign_that_makes_a_part_of_it_look_like_the_host_is_refused(load, url):
    (problem,) = load.problems(DATABASE_URL=url)
    assert problem.startswith("DATABASE_URL has no host and port that can be read. ")
    assert "@ as %40, / as %2F" in problem


def address(rest: str) -> URL | None:
    """What a library reads in an address that is taken."""
    try:
        return make_url(settings.parse_database_url(f"postgresql://{rest}", Path("/")))
    except SettingsError:
        return None


@given(password=st.text("ab1%:/?#@[]&=; +", max_size=12), tail=st.sampled_from(["", "/t", "/t?sslmode=require"]))
def test_whatever_a_password_holds_it_is_read_whole_or_refused(password, tail):
    """And nobody else is asked for: the host is the one that was written last."""
    read = address(f"user:{password}@db.example:5432{tail}")
    if read is not None:
        assert (read.username, read.host, read.port) == ("user", "db.example", 5432)
        assert read.password == unquote(password)


@given(rest=st.text("ab1%:/?#@[]&=.", max_size=24))
def test_of_an_address_that_is_taken_no_part_of_user_and_password_is_the_host(rest):
    read = address(rest)
    assert read is None or rest.rpartition("@")[2].removeprefix("[").startswith(read.host or "")


@pytest.mark.parametrize("name", ["HTTPS_PROXY_URL", "PING_URL"])
@pytest.mark.parametrize(
    "url", ["http://u:p@ss@h:1", "http://u:12/p@h:1", "http://u:12?p@h:1", "http://u:12#p@h:1", "http://h/@x"]
)
def test_a_password_of_a_proxy_is_taken_for_no_host_either(load, name, url):
    (problem,) = load.problems(**{name: url})
    assert problem.startswith(f"{name} cannot be used. ")


def test_the_parts_of_an_address_that_are_secret_are_masked_like_the_whole(load):
    loaded = load(
        DATABASE_URL="postgresql://u:pass%40word@h/t?sslpassword=another+one&sslmode=verify-full",
        HTTPS_PROXY_URL="http://u:proxy%20pass@h:1",
    )
    parts = set(loaded.secrets())
    assert {"pass@word", "pass%40word", "another one", "proxy pass", "proxy%20pass"} <= parts
    assert not {"u", "h", "t", "verify-full"} & parts


def test_two_stores_need_a_choice(load):
    """With both set nobody guesses; TOKEN_STORE decides, and the other is not looked at."""
    both = {**AIRTABLE, "DATABASE_URL": "sqlite:////x/tokens.db"}
    assert load.problems(**both) == ["Both Airtable and DATABASE_URL are set. Set TOKEN_STORE to airtable or database."]
    airtable, database = load(**both, TOKEN_STORE="airtable"), load(**both, TOKEN_STORE="Database")
    assert (airtable.store, airtable.database_url) == ("airtable", None)
    assert (database.store, database.airtable) == ("database", None)
    assert database.seal_access_tokens
    assert not airtable.seal_access_tokens


def test_undecided_store_hides_no_other_mistake(load):
    """The choice is missing or mistyped, and both stores have a mistake: all three are told at once."""
    wrong = {"AIRTABLE_BASE_ID": "base", "DATABASE_URL": "mysql://h/t"}
    for choice in ({}, {"TOKEN_STORE": "both"}):
        problems = load.problems(**wrong, **choice)
        named = ["AIRTABLE_API_KEY", "AIRTABLE_BASE_ID", "DATABASE_URL", "TOKEN_STORE"]
        assert len(problems) == 4
        assert all(any(name in problem for problem in problems) for name in named)


@pytest.mark.parametrize("choice", ["airtable", "database"])
def test_store_may_be_named_where_it_is_the_only_one(load, choice):
    """It is needed only where both are set, and harmless elsewhere."""
    assert load(**(AIRTABLE if choice == "airtable" else {}), TOKEN_STORE=choice).store == choice


def test_airtable_half_configured_is_not_taken_for_sqlite(load):
    """One of the two settings is enough to mean Airtable; the other is then missing."""
    assert load.problems(AIRTABLE_BASE_ID="appAbc123")[0].startswith("AIRTABLE_API_KEY is not set")
    assert load.problems(AIRTABLE_API_KEY="pat.x")[0].startswith("AIRTABLE_BASE_ID is not set")
    assert len(load.problems(TOKEN_STORE="airtable")) == 2


def test_airtable_key_from_a_file_counts_for_the_choice(load, tmp_path):
    """As every other source of it."""
    (tmp_path / "key").write_text("pat.file\n")
    (tmp_path / "key").chmod(0o600)
    loaded = load(AIRTABLE_API_KEY_FILE=str(tmp_path / "key"), AIRTABLE_BASE_ID="appAbc123")
    assert loaded.airtable is not None
    assert revealed(loaded.airtable.api_key) == "pat.file"


# Mistakes

WEBHOOK_SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
WRONG = {
    "ENCRYPTION_KEY": CANARY,
    "OAUTH_ENCRYPTION_KEY": CANARY,
    "ENCRYPTION_KEY_FALLBACKS": f"{OLD_KEY},{CANARY}",
    "LEGACY_CIPHERTEXT": CANARY,
    "AIRTABLE_API_KEY": f"{CANARY}\nx",
    "AIRTABLE_BASE_ID": CANARY,
    "AIRTABLE_ENDPOINT_URL": f"https://user:{CANARY}@h.example",
    "AIRTABLE_REQUESTS_PER_SECOND": CANARY,
    "AIRTABLE_PLAN": CANARY,
    "DATABASE_URL": f"postgresql://user:{CANARY}",
    "TOKEN_STORE": CANARY,
    "STATE_DIR": f"~{CANARY}/x",
    "STATE_DIR_SPARE": f"~{CANARY}/x",
    "DEFAULT_PROVIDER": f"{CANARY}!",
    "REFRESH_INTERVAL": CANARY,
    "TOKEN_EXPIRY_BUFFER": CANARY,
    "PROVIDERS_FILE": CANARY,
    "CONCURRENCY": CANARY,
    "HTTPS_PROXY_URL": f"user:{CANARY}@proxy.example:3128",
    "CA_BUNDLE": CANARY,
    "ALLOWED_PRIVATE_HOSTS": f"good.example,{CANARY}/",
    "SEAL_ACCESS_TOKENS": CANARY,
    "LOG_LEVEL": CANARY,
    "LOG_FORMAT": CANARY,
    "NOTIFY_URLS": f"slack:{CANARY}",
    "NOTIFY_COMMAND": f"echo '{CANARY}",
    "WEBHOOK_URL": f"http://h.example/{CANARY}",
    "WEBHOOK_EVENTS": f"token.failed,{CANARY}",
    "PING_URL": f"ftp://h.example/{CANARY}",
    "METRICS_FILE": f"~{CANARY}/x",
    "SECURITY_LOG": f"~{CANARY}/x",
    "HOST": f"{CANARY}/x",
    "PORT": CANARY,
    "PUBLIC_URL": f"https://h.example/{CANARY}",
    "ALLOWED_HOSTS": f"h.example,{CANARY}/",
    "ALLOWED_TOKEN_HOSTS": f"h.example,{CANARY}/",
    "TRUSTED_PROXIES": f"10.0.0.1,{CANARY}",
    "TLS_CERT_FILE": f"~{CANARY}/x",
    "TLS_KEY_FILE": f"~{CANARY}/x",
    "ALLOW_PLAIN_HTTP": CANARY,
    "MICROSOFT_TOKEN_URL": f"https://h.example/?secret={CANARY}",
    "MICROSOFT_AUTH_URL": f"http://h.example/{CANARY}",
    "CREDENTIALS_DIRECTORY": f"~{CANARY}",
    "ENCRYPTION_KEY_FILE": CANARY,
    "ENCRYPTION_KEY_FALLBACKS_FILE": f"~{CANARY}",
    "AIRTABLE_API_KEY_FILE": CANARY,
    "DATABASE_URL_FILE": CANARY * 50,
    "HTTPS_PROXY_URL_FILE": CANARY,
    "WEBHOOK_SECRET_FILE": CANARY,
    "PING_URL_FILE": CANARY,
    "NOTIFY_URLS_FILE": CANARY,
    "MICROSOFT_CLIENT_SECRET_FILE": CANARY,
    "IMPORT_KEY": CANARY,
    "IMPORT_KEY_FILE": CANARY,
    "ENCRYPTION_KEY_COMMAND": f"/nowhere/{CANARY}",
    "ENCRYPTION_KEY_FALLBACKS_COMMAND": f"echo '{CANARY}",
    "AIRTABLE_API_KEY_COMMAND": f"echo {CANARY}\nx\\",
    "DATABASE_URL_COMMAND": f"printf 'postgresql://{CANARY}\\nx'",
    "HTTPS_PROXY_URL_COMMAND": f"sh -c 'echo {CANARY}; exit 1'",
    "WEBHOOK_SECRET_COMMAND": f"true {CANARY}",
    "PING_URL_COMMAND": f"yes {CANARY}",
    "NOTIFY_URLS_COMMAND": f"sh -c 'echo {CANARY}; kill -9 $$'",
    "MICROSOFT_CLIENT_SECRET_COMMAND": f"printf '{CANARY}\\0'",
    "IMPORT_KEY_COMMAND": f"{CANARY} x",
}
OTHER_SOURCE = re.compile("_(FILE|COMMAND)$")
ANYTHING_GOES = {
    "AIRTABLE_TABLE_NAME",
    "AIRTABLE_ID_FIELD",
    "WEBHOOK_SECRET",
    "MICROSOFT_SCOPE",
    "MICROSOFT_CLIENT_ID",
    "MICROSOFT_CLIENT_SECRET",
    "TENANT_ID",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "GRAPH_REDIRECT_URI",
}


def environment_for(name: str, text: str) -> dict[str, str]:
    """An environment in order, but for `name`."""
    environ = {"ENCRYPTION_KEY": KEY}
    if name.startswith("AIRTABLE"):
        environ |= AIRTABLE
    for other in (name, OTHER_SOURCE.sub("", name)):
        environ.pop(other, None)
    if name == "OAUTH_ENCRYPTION_KEY":
        environ.pop("ENCRYPTION_KEY")
    if name == "WEBHOOK_URL":
        environ["WEBHOOK_SECRET"] = WEBHOOK_SECRET
    return environ | {name: text}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_setting_is_named_with_its_fix_and_without_its_content(load, name):
    """One mistake, one report: what is wrong, then what to do. The content may be a secret in the wrong line."""
    (problem,) = load.problems_exactly(environment_for(name, WRONG[name]))
    said = name.replace("OAUTH_ENCRYPTION_KEY", "ENCRYPTION_KEY")
    assert re.fullmatch(rf"{said}\b.+?\. [A-Z`].+\.", problem)
    assert CANARY not in problem


@pytest.mark.parametrize("name", WRONG)
def test_wrong_setting_in_dotenv_is_not_quoted_either(load, name):
    """Also where it was read from the file, quoted, with an odd character in it."""
    environ = environment_for(name, WRONG[name])
    text = environ.pop(name).replace("\n", "\\n")
    load.dotenv(f'{name}="{text}\0"\n')
    for problem in load.problems_exactly(environ):
        assert CANARY not in problem


def test_public_url_that_nobody_can_read_is_named(load):
    assert load.problems(PUBLIC_URL="https://[::1")[0].startswith("PUBLIC_URL ")


def test_all_mistakes_are_reported_at_once(load):
    """Nobody starts the program fifteen times to find fifteen mistakes."""
    load.dotenv("broken line here\n", mode=0o644)
    exclusive = {"OAUTH_ENCRYPTION_KEY", "CREDENTIALS_DIRECTORY"}
    wrong = {
        name: text
        for name, text in WRONG.items()
        if name not in exclusive and OTHER_SOURCE.sub("", name) not in exclusive
    }
    others = {name for name in wrong if OTHER_SOURCE.sub("", name) in wrong.keys() - {name}}
    others |= {"WEBHOOK_SECRET_COMMAND", "MICROSOFT_CLIENT_SECRET_COMMAND"}  # beside a file's, they are set twice
    problems = load.problems_exactly({name: text for name, text in wrong.items() if name not in others})
    for name in wrong.keys() - others:
        assert any(problem.startswith(name) for problem in problems), name
    assert sum(".env" in problem for problem in problems) == 2
    assert len(problems) == len(wrong.keys() - others) + 2
    assert not any(CANARY in problem for problem in problems)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("REFRESH_INTERVAL", "0"),
        ("REFRESH_INTERVAL", "-1"),
        ("REFRESH_INTERVAL", "1.5"),
        ("REFRESH_INTERVAL", "604801"),
        ("REFRESH_INTERVAL", "٣٦٠٠"),
        ("REFRESH_INTERVAL", "9" * 5000),
        ("TOKEN_EXPIRY_BUFFER", "1h"),
        ("TOKEN_EXPIRY_BUFFER", "86401"),
        ("CONCURRENCY", "0"),
        ("CONCURRENCY", "257"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("SEAL_ACCESS_TOKENS", "maybe"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("LEGACY_CIPHERTEXT", "warn"),
        ("ALLOWED_PRIVATE_HOSTS", "https://idp.internal"),
        ("ALLOWED_PRIVATE_HOSTS", "idp.internal:65536"),
        ("ALLOWED_PRIVATE_HOSTS", "idp.internal:0"),
        ("ALLOWED_PRIVATE_HOSTS", "idp.internal:443"),
        ("ALLOWED_PRIVATE_HOSTS", "*"),
        ("HTTPS_PROXY_URL", "proxy.example:3128"),
        ("HTTPS_PROXY_URL", "http://"),
        ("HTTPS_PROXY_URL", "http://proxy.example:port"),
        ("CA_BUNDLE", "x" * 300),
        ("CA_BUNDLE", "/"),
        ("PROVIDERS_FILE", "a\0b"),
        ("STATE_DIR", "~nobody-of-this-name\0/x"),
        ("PING_URL", "https:// hc.example/x"),
        ("PING_URL", "https://[hc.example/x"),
        ("NOTIFY_URLS", "mailto"),
        ("DEFAULT_PROVIDER", "go/high/level"),
        ("HOST", "https://127.0.0.1"),
        ("PUBLIC_URL", "tokens.example"),
        ("PUBLIC_URL", "http://tokens.example"),
        ("PUBLIC_URL", "https://tokens.example/behind/a/path"),
        ("PUBLIC_URL", "https://{tenant}.example"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "https://tokens.example"),
        ("ALLOWED_HOSTS", "tokens.example:8002"),
        ("ALLOWED_TOKEN_HOSTS", "login.example:443"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "proxy.internal"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ],
)
def test_value_out_of_bounds_is_refused(load, name, text):
    """And only that one setting is complained about."""
    (problem,) = load.problems(**{name: text})
    assert problem.startswith(name)
    assert text not in problem.partition(". ")[0]


@pytest.mark.parametrize("text", ["0", "51", "nan", "inf", "-inf", "4,5", "1e999"])
def test_request_rate_out_of_bounds_is_refused(load, text):
    """Nor does a value that is no number slip through a comparison."""
    (problem,) = load.problems(**AIRTABLE, AIRTABLE_REQUESTS_PER_SECOND=text)
    assert problem == "AIRTABLE_REQUESTS_PER_SECOND cannot be used. Use a number from 0.1 to 50."


@pytest.mark.parametrize(
    "url",
    [
        "login.example/token",
        "//login.example/token",
        "http://login.example/token",
        "http://127.0.0.1.evil.example/token",
        "http://{instance}/token",
        "ftp://login.example/token",
        "https:///token",
        "https://user@login.example/token",
        "https://@login.example/token",
        "https://user:pass@login.example/token",
        "https://login.example/token?x=1",
        "https://login.example/token?",
        "https://login.example/token#x",
        "https://login.example/token#",
        "https://login.example:port/token",
        "https://login.example:65536/token",
        "https://[login.example/token",
        "https://login.example\\@evil.example/token",
        "https://login.example\\token",
        "https://login.example/to ken",
        "https://login.example/to\nken",
        "https://log\tin.example/token",
        "https://lögin.example/token",
        "https://{Tenant}.example/token",
        "https://{tenant.example/token",
    ],
)
def test_token_url_that_two_programs_may_read_differently_is_refused(load, url):
    """A secret is sent there: it is a plain https address or none."""
    (problem,) = load.problems(ACME_TOKEN_URL=url)
    assert problem.startswith("ACME_TOKEN_URL cannot be used. Use https://HOST/PATH")


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example",
        "https://login.example:8443/a/b@c/token",
        "https://{instance}/oauth/{tenant}/token",
        "https://{instance}.example:8443/token",
        "http://localhost:8080/token",
        "http://127.0.0.1/token",
        "http://[::1]:8080/token",
        "HTTPS://Login.Example/Token",
    ],
)
def test_token_url_that_is_plain_is_taken_as_it_is(load, url):
    """https, or http on loopback; placeholders may stand in it."""
    assert load(ACME_TOKEN_URL=url).providers["ACME"].token_url == url


@pytest.mark.parametrize("end", ["/v0", "/v0/", "/", ""])
def test_the_endpoint_of_airtable_is_taken_with_its_version_as_well(load, end):
    loaded = load(**AIRTABLE, AIRTABLE_ENDPOINT_URL=f"https://proxy.example{end}")
    assert loaded.airtable is not None
    assert loaded.airtable.endpoint_url == "https://proxy.example"


# Names that are nearly ours


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("REFRESH_INTERVALL", "REFRESH_INTERVAL"),
        ("REFRESH_INTERVALS", "REFRESH_INTERVAL"),
        ("TOKEN_EXPIRE_BUFFER", "TOKEN_EXPIRY_BUFFER"),
        ("ENCRYTPION_KEY_FALLBACKS", "ENCRYPTION_KEY_FALLBACKS"),
        ("ENCRYPTION_KEY_FALLBACK", "ENCRYPTION_KEY_FALLBACKS"),
        ("AIRTABLE_APIKEY", "AIRTABLE_API_KEY"),
        ("AIRTABLE_APIKEY_FILE", "AIRTABLE_API_KEY"),
        ("STATEDIR", "STATE_DIR"),
        ("HTTP_PROXY_URL", "HTTPS_PROXY_URL"),
        ("MICROSOFT_CLIENT_SECERT", "MICROSOFT_CLIENT_SECRET"),
        ("MICROSOFT_TOKENURL", "MICROSOFT_TOKEN_URL"),
        ("MICROSOFT_AUTHORIZE_URL", "MICROSOFT_AUTH_URL"),
    ],
)
@pytest.mark.parametrize("is_in_dotenv", [True, False])
def test_a_misspelt_setting_is_warned_of_with_the_one_that_was_meant(load, name, meant, is_in_dotenv):
    known = {"MICROSOFT_CLIENT_ID": "app"}
    if is_in_dotenv:
        load.dotenv(f"{name}={CANARY}\n")
        loaded = load(**known)
    else:
        loaded = load(**known, **{name: CANARY})
    assert loaded.warnings == (f"there is no setting {name}, and it has no effect. Did you mean {meant}?",)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("refresh_interval", "REFRESH_INTERVAL"),
        ("Refresh_Interval", "REFRESH_INTERVAL"),
        ("refresh_intervall", "REFRESH_INTERVAL"),
        ("state_dir", "STATE_DIR"),
        ("database_url_file", "DATABASE_URL_FILE"),
        ("google_client_id", "GOOGLE_CLIENT_ID"),
    ],
)
def test_a_setting_in_small_letters_is_warned_of_in_our_file_alone(load, name, meant):
    path = load.dotenv(f"{name}={CANARY}\n")
    assert load().warnings == (f"there is no setting {name}, and it has no effect. Did you mean {meant}?",)
    path.unlink()
    assert load(**{name: CANARY}).warnings == ()


def test_other_programs_settings_are_nobody_s_business(load):
    others = re.findall(
        r"\w+",
        "PATH HOME USER LANG LC_ALL TERM SHELL HOSTNAME PWD PYTHONPATH VIRTUAL_ENV TZ HTTP_PROXY HTTPS_PROXY NO_PROXY "
        "REQUESTS_CA_BUNDLE SSL_CERT_FILE PGPASSFILE PGHOST PGPORT MAIL_CLIENT_ID MAIL_HOST DB_HOST POSTGRES_PASSWORD "
        "SECRET_KEY API_KEY DEBUG ENVIRONMENT INVOCATION_ID JOURNAL_STREAM STATE_DIRECTORY LOGNAME MICROSOFT_TEAMS",
    )
    assert load(**dict.fromkeys(others, "x"), MICROSOFT_CLIENT_ID="app").warnings == ()


PROVIDERS = re.findall(  # as a catalogue of more than a hundred has them
    r"[a-z0-9-]+",
    "adobe airtable amazon asana atlassian auth0 aweber basecamp bitbucket box calendly canva clickup close constant "
    "deezer dialpad discord docusign dropbox dynamics ebay etsy eventbrite exact-online facebook figma fitbit "
    "freshbooks front garmin github-app gitlab gohighlevel google gotomeeting gusto harvest hubspot instagram "
    "intercom jobber keap keycloak lightspeed linear linkedin mailchimp meta microsoft miro monday netsuite notion "
    "okta outreach paypal pinterest pipedrive podio procore quickbooks ramp reddit ringcentral sage salesforce shopify "
    "slack smartsheet snapchat spotify square strava stripe surveymonkey tiktok todoist toggl trello twitch twitter "
    "typeform vimeo webex webflow whoop wix wordpress wrike xero yahoo yandex zendesk zoho zoom",
)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GOGLE_CLIENT_ID", "GOOGLE_CLIENT_ID"),
        ("GOHIGHLEVL_TOKEN_URL", "GOHIGHLEVEL_TOKEN_URL"),
        ("GO_HIGH_LEVL_SCOPE", "GOHIGHLEVEL_SCOPE"),
        ("QUICKBOOK_CLIENT_SECRET", "QUICKBOOKS_CLIENT_SECRET"),
        ("EXACT_ONLIN_AUTH_URL", "EXACT_ONLINE_AUTH_URL"),
    ],
)
def test_a_setting_of_a_misspelt_provider_is_warned_of_with_the_one_that_was_meant(load, name, meant):
    loaded = load(**{name: "https://id.example"}, MAIL_CLIENT_ID="app")
    expected = [f"there is no setting {name}, and it has no effect. Did you mean {meant}?"]
    assert loaded.warnings == ()  # which providers there are is known later
    assert settings.misspelt_providers(loaded.providers, PROVIDERS) == expected


def test_no_short_name_of_a_provider_is_taken_for_what_another_program_calls_its_own(load):
    others = re.findall(
        r"\w+",
        "MAIL API APP WEB AUTH OAUTH OAUTH2 OIDC SSO SAML LDAP DB AWS AZURE GCP GMAIL COGNITO JIRA SMTP IMAP NEXTAUTH "
        "BOXES BOT EBAY2 BAY KEEP LEAP HEAP BETA METAL DATA MIRROR WIFI ZERO HERO ZOO ROOM ROHO HOME OTTO SLICK STACK "
        "FLACK CLOSER FRONTEND BACKEND ADMIN PORTAL GITHUB TEST DEV PROD STAGING MY_GOOGLE GOOGLE_SSO RAMPS SQARE",
    )
    loaded = load(**{f"{name}_CLIENT_ID": "app" for name in others})
    named = {text.split()[4] for text in settings.misspelt_providers(loaded.providers, PROVIDERS)}
    assert named == {"SQARE_CLIENT_ID,"}  # which is meant to be `square`


def test_every_setting_that_is_described_is_known_by_its_name(load):
    named = set(re.findall(r"^#? ?([A-Z_]+)=", ENV_EXAMPLE.read_text(), re.MULTILINE))
    providers = {name for name in named if name.startswith("MICROSOFT_")}
    assert named - providers <= settings._NAMES
    assert settings._misspelt(named) == []


# Quotes


@pytest.mark.parametrize("quote", ['"', "'", "`"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENCRYPTION_KEY", KEY), ("AIRTABLE_API_KEY", "pat.token"), ("AIRTABLE_BASE_ID", "appAbc123"), ("PORT", "81"),
        ("AIRTABLE_TABLE_NAME", "Clients"), ("MICROSOFT_CLIENT_SECRET", CANARY),
    ],
    ids=["key", "token", "base", "port", "table", "secret"],  # the key is another one in each process
)  # fmt: skip
def test_quotes_that_docker_keeps_are_named(load, name, value, quote):
    """`--env-file` takes the line as it stands; the value would be refused far away, or be another table's name."""
    problems = load.problems(**{**AIRTABLE, name: f"{quote}{value}{quote}"})
    assert problems == [f"{name} stands in quotes, which count as a part of it here. Leave the quotes out."]


def test_missing_key_is_the_only_required_setting(load):
    """The action says how to make one; the problem, which folder has no `.env` either."""
    (problem,) = load.problems_exactly({})
    assert problem.startswith(f"ENCRYPTION_KEY is not set, and {load.folder} has no .env")
    assert "generate-key" in problem


def test_names_of_one_key_that_differ_are_refused(load):
    """Which of them was meant cannot be known."""
    (problem,) = load.problems(OAUTH_ENCRYPTION_KEY=OLD_KEY)
    assert problem.startswith("ENCRYPTION_KEY and OAUTH_ENCRYPTION_KEY differ.")


def test_wrong_fallback_is_reported_by_its_place(load):
    """The second of three, not `one of them`."""
    (problem,) = load.problems(ENCRYPTION_KEY_FALLBACKS=f"{OLD_KEY},{OLD_KEY[:-5]},{OLDER_KEY}")
    assert problem.startswith("ENCRYPTION_KEY_FALLBACKS, key 2, ")


def test_a_pipe_in_the_place_of_a_secret_s_file_is_not_waited_for(load, tmp_path):
    os.mkfifo(tmp_path / "key")
    (problem,) = load.problems(WEBHOOK_SECRET_FILE=str(tmp_path / "key"))
    assert problem.startswith("WEBHOOK_SECRET_FILE: the file cannot be read (it is no plain file). ")


def test_of_a_very_large_secret_s_file_no_more_is_read_than_a_secret_can_be(load, tmp_path):
    (tmp_path / "key").touch()
    os.truncate(tmp_path / "key", 1 << 30)  # a hole: nothing is on the disk
    (problem,) = load.problems(WEBHOOK_SECRET_FILE=str(tmp_path / "key"))
    assert problem.startswith("WEBHOOK_SECRET_FILE: the file cannot be read (it is larger than 64 KiB). ")
    os.truncate(tmp_path / "key", 0)
    (tmp_path / "key").write_text("s" * 64 * 1024)
    (tmp_path / "key").chmod(0o600)
    assert revealed(load(WEBHOOK_SECRET_FILE=str(tmp_path / "key")).webhook_secret) == "s" * 64 * 1024


# Sources of secrets

SECRETS = {
    "ENCRYPTION_KEY": ("encryption_key", KEY),
    "OAUTH_ENCRYPTION_KEY": ("encryption_key", KEY),
    "ENCRYPTION_KEY_FALLBACKS": ("encryption_key_fallbacks", OLD_KEY),
    "AIRTABLE_API_KEY": ("airtable.api_key", "pat.x"),
    "DATABASE_URL": ("database_url", "postgresql+psycopg://u:p@h/t"),
    "HTTPS_PROXY_URL": ("https_proxy_url", "http://u:p@h:1"),
    "NOTIFY_URLS": ("notify_urls", "slack://T/B/C"),
    "WEBHOOK_SECRET": ("webhook_secret", CANARY),
    "PING_URL": ("ping_url", "https://h.example/x"),
    "MICROSOFT_CLIENT_SECRET": ("microsoft.client_secret", CANARY),
}


def secret_in(loaded: Settings, where: str) -> str | None:
    room, _, name = where.rpartition(".")
    holder: Any = {"": loaded, "airtable": loaded.airtable, "microsoft": loaded.providers.get("MICROSOFT")}[room]
    value = getattr(holder, name)
    return revealed(value[0] if isinstance(value, tuple) else value)


def surroundings(name: str) -> dict[str, str]:
    environ = {} if name in ("ENCRYPTION_KEY", "OAUTH_ENCRYPTION_KEY") else {"ENCRYPTION_KEY": KEY}
    return environ | ({"AIRTABLE_BASE_ID": "appAbc123"} if name == "AIRTABLE_API_KEY" else {})


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """What systemd hands to a service."""
    (tmp_path / "credentials").mkdir()
    return tmp_path / "credentials"


@pytest.mark.parametrize("content", ["{}", "{}\n", "{}\r\n", "  {}  \n\n", "\ufeff{}\n"])
@pytest.mark.parametrize("name", SECRETS)
def test_secret_comes_from_any_of_its_sources(load, credentials, tmp_path, name, content):
    """By name, from a named file, from a credential; the newline of an editor does not count."""
    where, text = SECRETS[name]
    file = tmp_path / "secret"
    file.write_text(content.format(text), encoding="utf-8", newline="")
    file.chmod(0o600)
    environ = surroundings(name)
    assert secret_in(load.exactly(environ | {name: text}), where) == text
    loaded = load.exactly(environ | {f"{name}_FILE": str(file)})
    assert secret_in(loaded, where) == text
    assert loaded.warnings == ()
    file.rename(credentials / name)
    assert secret_in(load.exactly(environ | {"CREDENTIALS_DIRECTORY": str(credentials)}), where) == text


@pytest.mark.parametrize("name", SECRETS)
def test_secret_from_two_sources_is_refused(load, credentials, tmp_path, name):
    """Even where they agree: the next change would be made in one of them only."""
    text = SECRETS[name][1]
    for file in (credentials / name, tmp_path / "secret"):
        file.write_text(text)
        file.chmod(0o600)
    sources = {
        name: text,
        f"{name}_FILE": str(tmp_path / "secret"),
        "CREDENTIALS_DIRECTORY": str(credentials),
        f"{name}_COMMAND": f"touch {tmp_path}/was-run",
    }
    for pair in itertools.combinations(sources, 2):
        (problem,) = load.problems_exactly(surroundings(name) | {source: sources[source] for source in pair})
        assert problem.startswith(f"{name} is set twice: by ")
        assert all(source in problem for source in pair)
        assert text not in problem
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("content", ["{}", "{}\n", "{}\r\n", "  {}  \n", "\ufeff{}\n"])
@pytest.mark.parametrize("name", SECRETS)
def test_secret_comes_from_the_one_line_that_a_command_writes(load, tmp_path, name, content):
    where, text = SECRETS[name]
    (tmp_path / "a secret").write_bytes(content.format(text).encode())
    loaded = load.exactly(surroundings(name) | {f"{name}_COMMAND": f"cat '{tmp_path}/a secret'"})
    assert (secret_in(loaded, where), loaded.warnings) == (text, ())


def test_a_command_is_run_in_the_program_s_folder_without_the_other_secrets(load, folder):
    """It inherits what it needs to find its own way, and none of ours; `.env` is not its environment."""
    load.dotenv(f"ENCRYPTION_KEY={KEY}\nFROM_DOTENV=1\n")
    script = folder / "show"
    script.write_text("#!/bin/sh\nenv | sort | tr '\\n' ' '; pwd")
    script.chmod(0o700)
    environ = {"WEBHOOK_SECRET_COMMAND": "./show", "PING_URL": "https://h.example/x", "VAULT_ADDR": "https://v.example"}
    shown = revealed(load.exactly(environ).webhook_secret)
    assert shown is not None
    assert "VAULT_ADDR=https://v.example" in shown
    assert shown.endswith(f" {folder}")
    assert not any(word in shown for word in (KEY, "h.example", "FROM_DOTENV", "_COMMAND"))


def test_what_a_command_inherits_is_kept_for_commands_to_come(load):
    loaded = load.exactly({"ENCRYPTION_KEY": KEY, "PING_URL": "https://h.example/x", "HOME": "/home/of/theirs"})
    assert loaded.child_environment == {"HOME": "/home/of/theirs"}
    assert "/home/of/theirs" not in repr(loaded)


def test_quotes_around_what_a_command_writes_are_named(load):
    """`aws … --query SecretString` writes JSON, unless `--output text` is added."""
    (problem,) = load.problems(WEBHOOK_SECRET_COMMAND=f"echo '\"{CANARY}\"'")
    assert problem.startswith("WEBHOOK_SECRET_COMMAND stands in quotes, ")
    assert CANARY not in problem


def test_readable_secret_file_is_warned_about(load, tmp_path):
    """Container secrets are often 0444 and nobody can change that, so it is no error."""
    file = tmp_path / "a key"
    file.write_text(KEY)
    file.chmod(0o444)
    (warning,) = load.exactly({"ENCRYPTION_KEY_FILE": str(file)}).warnings
    assert warning == f"ENCRYPTION_KEY_FILE: other users can read {file}. Run: chmod 600 '{file}'"


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "blank", "binary", "name too long"])
def test_secret_file_that_gives_nothing_is_an_error(load, tmp_path, kind):
    """It does not count as unset, and is complained about once."""
    path = tmp_path / ("x" * 300 if kind == "name too long" else "secret")
    if kind == "directory":
        path.mkdir()
    elif kind not in ("missing", "name too long"):
        path.write_bytes({"empty": b"", "blank": b" \n", "binary": b"\xff\xfe\x00"}[kind])
        path.chmod(0o600)
    (problem,) = load.problems_exactly({"ENCRYPTION_KEY_FILE": str(path)})
    assert problem.startswith("ENCRYPTION_KEY_FILE: the file ")
    (problem,) = load.problems(AIRTABLE_BASE_ID="appAbc123", AIRTABLE_API_KEY_FILE=str(path))
    assert problem.startswith("AIRTABLE_API_KEY_FILE: the file ")


def test_credentials_directory_that_is_gone_is_overlooked(load, tmp_path):
    """A shell may have inherited the variable from a service that has ended."""
    assert load(CREDENTIALS_DIRECTORY=str(tmp_path / "gone")).webhook_secret is None


def test_credentials_directory_that_cannot_be_listed_is_an_error(load, tmp_path):
    """A secret may be in it."""
    (tmp_path / "file").touch()
    (problem,) = load.problems(CREDENTIALS_DIRECTORY=str(tmp_path / "file"))
    assert problem.startswith("CREDENTIALS_DIRECTORY cannot be read (")


def test_only_secrets_come_from_credentials(load, credentials):
    """A file that merely has a setting's name changes nothing, and a folder is no secret."""
    (credentials / "TOKEN_STORE").write_text("airtable")
    (credentials / "PORT").write_text("1")
    (credentials / "WEBHOOK_SECRET").mkdir()
    loaded = load(CREDENTIALS_DIRECTORY=str(credentials))
    assert (loaded.store, loaded.service.port, loaded.webhook_secret) == ("database", 8002, None)


# Masks


def test_settings_show_no_secret(load):
    """Not in repr, str or format, and they cannot be pickled; a copy shows none either."""
    loaded = load(
        ENCRYPTION_KEY_FALLBACKS=OLD_KEY,
        DATABASE_URL=f"postgresql://u:{CANARY}@h/t",
        HTTPS_PROXY_URL=f"http://u:{CANARY}@h:1",
        NOTIFY_URLS=f"slack://{CANARY}",
        PING_URL=f"https://h.example/{CANARY}",
        WEBHOOK_SECRET=CANARY,
        ACME_CLIENT_SECRET=CANARY,
    )
    on_airtable = load(AIRTABLE_API_KEY=CANARY, AIRTABLE_BASE_ID="appAbc123")
    for whole in (loaded, on_airtable, copy.copy(loaded), copy.deepcopy(loaded)):
        shown = f"{whole!r} {whole!s} {whole} {vars(whole)} {dataclasses.asdict(whole)}"
        assert not [secret for secret in (CANARY, KEY, OLD_KEY) if secret in shown]
        assert "Secret(****)" in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret_is_not_pickled(load, protocol):
    """A pickle on disk or on its way to another process would hold it in plain text."""
    for thing in (load(), Secret(CANARY)):
        with pytest.raises(TypeError, match="not pickled") as caught:
            pickle.dumps(thing, protocol)
        assert CANARY not in str(caught.value)


def test_secrets_compare_and_hash_by_content():
    """They can be looked for in lists and sets."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert f"{Secret(CANARY)} {Secret(CANARY)!s} %s" % Secret(CANARY) == " ".join(["Secret(****)"] * 3)


def test_settings_are_frozen(load):
    """Nothing changes them under a running program."""
    with pytest.raises(AttributeError):
        load().service.port = 1


# The file .env


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666, 0o610, 0o601, 0o777])
def test_dotenv_that_others_can_read_is_refused(load, mode):
    """The command that corrects it is in the sentence."""
    path = load.dotenv(f"ENCRYPTION_KEY={KEY}\n", mode)
    (problem,) = load.problems_exactly({})
    assert problem == f"Other users can read {path}. Run: chmod 600 {path}"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_private_dotenv_is_read(load, mode):
    """Also where it cannot be written."""
    load.dotenv(f"ENCRYPTION_KEY={KEY}\n", mode)
    assert revealed(load.exactly({}).encryption_key) == KEY


@AS_ROOT
def test_dotenv_of_another_user_is_refused(load):
    """Whoever owns it could change where secrets are sent."""
    path = load.dotenv(f"ENCRYPTION_KEY={KEY}\n")
    os.chown(path, 12345, -1)
    (problem,) = load.problems_exactly({})
    assert problem.startswith(f"{path} belongs to another user. ")


@pytest.mark.parametrize(
    ("steps", "state", "said"),
    [
        ([], GOOD, "private"),
        (["git init -q"], DOUBTFUL, "not ignored by git"),
        (["git init -q", "echo .env >.gitignore"], GOOD, "private"),
        (["git init -q", "git add .env"], BAD, "in version control, with its secrets"),
    ],
)
def test_dotenv_that_is_in_version_control_or_nearly_is_named(load, steps, state, said):
    load.dotenv(f"ENCRYPTION_KEY={KEY}\n")
    for step in steps:
        subprocess.run(step, shell=True, cwd=load.folder, check=True)
    check = settings.check_dotenv(load.folder)
    assert (check.state, said in check.message) == (state, True)


def test_dotenv_is_private_where_there_is_no_git(load, monkeypatch, tmp_path):
    load.dotenv(f"ENCRYPTION_KEY={KEY}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert settings.check_dotenv(load.folder).state == GOOD


def test_environment_wins_over_dotenv(load):
    """A run can be tried with another value without touching the file."""
    load.dotenv(f"ENCRYPTION_KEY={OLD_KEY}\nPORT=1\nHOST=::1\n")
    loaded = load(PORT="2")
    assert (revealed(loaded.encryption_key), loaded.service.port, loaded.service.host) == (KEY, 2, "::1")


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("WEBHOOK_SECRET=plain", "plain"),
        ("export WEBHOOK_SECRET=exported", "exported"),
        ("  WEBHOOK_SECRET = spaced  ", "spaced"),
        ("WEBHOOK_SECRET='single $quoted #1'", "single $quoted #1"),
        ('WEBHOOK_SECRET="double $quoted #1"', "double $quoted #1"),
        ("WEBHOOK_SECRET=a$HOME${HOME}$(id)`id`", "a$HOME${HOME}$(id)`id`"),
        ("WEBHOOK_SECRET=a#b # a comment", "a#b"),
        ("WEBHOOK_SECRET=a=b==", "a=b=="),
        ("WEBHOOK_SECRET=one\nWEBHOOK_SECRET=one", "one"),
        ("WEBHOOK_SECRET=one\nWEBHOOK_SECRET=", "one"),
        ("WEBHOOK_SECRET=\nWEBHOOK_SECRET=one\nWEBHOOK_SECRET=''", "one"),
        ("# WEBHOOK_SECRET=no", None),
        ("WEBHOOK_SECRET=", None),
        ("WEBHOOK_SECRET=''", None),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n# a comment\n"])
def test_dotenv_line_is_read_as_shells_and_editors_write_it(load, start, newline, line, secret):
    """Quotes, `export`, byte order marks and line ends of any system; nothing is expanded."""
    load.dotenv(f"{start}{line}\nPORT=81\n".replace("\n", newline))
    loaded = load()
    assert revealed(loaded.webhook_secret) == secret
    assert loaded.service.port == 81


@pytest.mark.parametrize(
    "line",
    [f"WEBHOOK_SECRET {CANARY}", f'WEBHOOK_SECRET="{CANARY}', f"WEBHOOK_SECRET='{CANARY}' x", CANARY, f"= {CANARY}"],
)
@pytest.mark.parametrize("before", ["", "PORT=81\n", "PORT=81\n\n\n# a comment\n\n"])
def test_broken_dotenv_line_is_reported_by_its_number(load, before, line):
    """The number is that of an editor, blank lines counted; the line itself is not shown."""
    path = load.dotenv(f"{before}{line}\nHOST=::1\n")
    (problem,) = load.problems()
    assert problem == f"{path}, line {before.count(chr(10)) + 1}: cannot be read. Write NAME=value."


def test_a_name_with_two_values_in_dotenv_is_refused_with_both_lines(load):
    """Which of them was meant cannot be known; neither is shown."""
    path = load.dotenv(f"WEBHOOK_SECRET={CANARY}\n\n# a comment\nPORT=81\nexport WEBHOOK_SECRET='{CANARY}2'\n")
    assert load.problems() == [f"{path} sets WEBHOOK_SECRET twice, in lines 1 and 5. Keep one of them."]


VALUES = st.sampled_from(["", "''", " ", "one", "'one'", "two", "a=b", "x#y"])


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.tuples(st.sampled_from(["WEBHOOK_SECRET", "AIRTABLE_PLAN", "#"]), VALUES), max_size=6))
def test_of_several_lines_of_one_name_the_one_value_counts_or_all_are_refused(load, lines):
    path = load.dotenv("".join(f"{name}={value}\n" for name, value in lines))
    values = {value.strip(" '") for name, value in lines if name == "WEBHOOK_SECRET"} - {""}
    problems = [one for one in problems_of(load) if "WEBHOOK_SECRET" in one]
    assert bool(problems) == (len(values) > 1)
    assert all(one.startswith(f"{path} sets WEBHOOK_SECRET twice, in lines ") for one in problems)
    if not problems_of(load):
        assert revealed(load().webhook_secret) == next(iter(values), None)


def problems_of(load: Loader) -> list[str]:
    try:
        load()
    except SettingsError as error:
        return list(error.problems)
    return []


def test_a_pipe_or_a_very_large_file_in_the_place_of_dotenv_is_refused(load):
    path = load.folder / ".env"
    os.mkfifo(path, 0o600)
    assert load.problems() == [f"{path} is no plain file. Move it away and put a file in its place."]
    path.unlink()
    load.dotenv("#" * (1024 * 1024 + 1))
    assert load.problems() == [
        f"{path} cannot be read (it is larger than 1024 KiB). Correct its permissions or its encoding."
    ]


@pytest.mark.parametrize("content", ["WEBHOOK_SECRET=x".encode("utf-16"), b"WEBHOOK_SECRET=\xe9\n"])
def test_dotenv_that_is_not_utf8_is_refused(load, content):
    """It is said in words instead of raised as a decoding error."""
    path = load.dotenv(content)
    assert load.problems() == [
        f"{path} cannot be read (it is not UTF-8 text). Correct its permissions or its encoding."
    ]


def test_directory_named_dotenv_is_refused(load):
    """Container tools create one where a file to mount is missing."""
    path = load.folder / ".env"
    path.mkdir()
    assert load.problems() == [f"{path} is a directory. Move it away and put a file in its place."]


def test_dangling_link_named_dotenv_is_refused(load):
    """Without this the program would silently go on with defaults, on another store."""
    path = load.folder / ".env"
    path.symlink_to("gone")
    (problem,) = load.problems()
    assert problem.startswith(f"{path} is a link to a file that is not there. ")


def test_link_named_dotenv_is_followed(load, tmp_path):
    """Deployment tools link it; the mode of the file behind it counts."""
    target = tmp_path / "shared.env"
    target.write_text("PORT=81\n")
    target.chmod(0o600)
    (load.folder / ".env").symlink_to(target)
    assert load().service.port == 81
    target.chmod(0o644)
    assert load.problems()[0].startswith("Other users can read ")


def test_link_named_dotenv_that_leads_in_circles_is_refused(load):
    """It is reported like any other file that cannot be read."""
    path = load.folder / ".env"
    path.symlink_to(path)
    (problem,) = load.problems()
    assert problem.startswith(f"{path} cannot be read (")


def test_mistakes_of_the_file_do_not_hide_those_in_it(load):
    """Mode and content are complained about together."""
    load.dotenv("PORT=x\n", 0o644)
    assert len(load.problems()) == 2


# The example


class Recorder(dict[str, str]):
    """Values that note which names are looked up."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def names_that_are_read(folder: Path) -> set[str]:
    """Every setting that is looked up, found by watching; on either store, with one provider."""
    asked: set[str] = set()
    for store in ("airtable", "database"):
        values = Recorder({"TOKEN_STORE": store, "MICROSOFT_CLIENT_ID": "x"})
        settings._settings(settings._Reader(values, folder, []), lambda text: None)
        asked |= values.asked
    return {name for name in asked if OTHER_SOURCE.sub("", name) not in asked - {name}} - {"CREDENTIALS_DIRECTORY"}


def names_in_the_example() -> list[str]:
    return re.findall(r"^([A-Z0-9_]+)=", ENV_EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)


def test_example_names_exactly_the_settings_that_are_read(folder):
    """A setting that is added, renamed or dropped must be so in `.env.example` too."""
    named = names_in_the_example()
    assert len(named) == len(set(named))
    assert set(named) == names_that_are_read(folder)


def test_every_setting_has_a_test_of_what_is_wrong_with_it(folder):
    """The list of mistakes above is complete: only where any text is right is there none."""
    others = {name for name in WRONG if OTHER_SOURCE.search(name) and name not in names_that_are_read(folder)}
    assert set(WRONG) - others - {"CREDENTIALS_DIRECTORY"} == names_that_are_read(folder) - ANYTHING_GOES


def test_example_as_it_is_lacks_only_what_is_required(load):
    """Copied unchanged, it is complained about for the key alone."""
    load.dotenv(ENV_EXAMPLE.read_bytes())
    (problem,) = load.problems_exactly({})
    assert problem.startswith("ENCRYPTION_KEY is not set.")


def test_example_holds_the_defaults(load):
    """What it says of a setting is what holds without it."""
    bare = load()
    on_airtable = load(**AIRTABLE)
    load.dotenv(ENV_EXAMPLE.read_bytes())
    assert load() == bare
    assert load(**AIRTABLE) == on_airtable


HOOK = "https://h.example/hook?key=1"


@pytest.mark.parametrize("url", [HOOK, "http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]:80/"])
def test_a_webhook_goes_by_https_or_stays_on_this_machine(load, url):
    assert revealed(load(WEBHOOK_URL=url, WEBHOOK_SECRET=WEBHOOK_SECRET).webhook_url) == url


@pytest.mark.parametrize(
    "url",
    ["http://h.example/", "http://127.0.0.1.h.example/", "https://user:word@h.example/", "https:///x", "ftp://[::1]/"],
)
def test_no_other_address_is_a_webhooks(load, url):
    (problem,) = load.problems(WEBHOOK_URL=url, WEBHOOK_SECRET=WEBHOOK_SECRET)
    assert problem == "WEBHOOK_URL cannot be used. Use https://HOST/PATH (http only on loopback)."


def test_a_webhook_is_signed(load):
    (problem,) = load.problems(WEBHOOK_URL=HOOK)
    assert problem.startswith("WEBHOOK_URL is set without WEBHOOK_SECRET, which signs what is sent. Write whsec_ and ")


@pytest.mark.parametrize(
    "secret", [b"x" * 23, b"x" * 65, b"", "no prefix", "whsec_not base64!", "whsec_" + "A" * 33], ids=repr
)
def test_a_webhooks_secret_is_what_the_standard_wants(load, secret):
    """24 to 64 bytes; of several, the wrong one is named by its number."""
    text = secret if isinstance(secret, str) else "whsec_" + base64.b64encode(secret).decode()
    text = text.replace(" ", "")
    (problem,) = load.problems(WEBHOOK_URL=HOOK, WEBHOOK_SECRET=f"{WEBHOOK_SECRET} {text}")
    assert problem.startswith("WEBHOOK_SECRET, secret 2, cannot be used. ")


def test_several_secrets_of_a_webhook_are_masked_one_by_one(load):
    longest = "whsec_" + base64.b64encode(bytes(64)).decode()
    loaded = load(WEBHOOK_URL=HOOK, WEBHOOK_SECRET=f"{WEBHOOK_SECRET}  {longest}")
    assert {WEBHOOK_SECRET, longest} <= set(loaded.secrets())


@pytest.mark.parametrize(
    ("named", "events"),
    [
        ("", {"token.failed", "token.login_needed", "token.recovered", "token.ending", "run.finished"}),
        ("token.refreshed", {"token.refreshed"}),
        ("token.ending, run.finished,", {"token.ending", "run.finished"}),
        (
            "all",
            {
                "token.failed",
                "token.login_needed",
                "token.recovered",
                "token.ending",
                "run.finished",
                "token.refreshed",
            },
        ),
    ],
)
def test_events_of_a_webhook(load, named, events):
    assert load(WEBHOOK_EVENTS=named).webhook_events == events


def test_a_command_for_news_is_split_as_a_shell_does(load):
    assert load(NOTIFY_COMMAND="'/a b/c' -x \"d e\"").notify_command == ("/a b/c", "-x", "d e")
