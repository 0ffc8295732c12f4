"""Environment and `.env` in, one frozen `Settings` out. Nothing else reads the environment.

A setting is looked up in the environment, else in `.env` beside the program; an empty one counts as not set.
Each secret may also come from a file that `NAME_FILE` names, from the output of the command in `NAME_COMMAND`, or from
a file of that name in `$CREDENTIALS_DIRECTORY` (systemd). All mistakes are reported together, each with its fix. What a
wrong setting holds is never quoted: it may be a secret that was pasted into the wrong line.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from token_refresh.base.checks import BAD, DOUBTFUL, GOOD, Check
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.files import read_plain_file
from token_refresh.base.program import TOKEN_MANAGER

if TYPE_CHECKING:
    from dotenv.parser import Original

_CODE_FOLDER = Path(__file__).resolve().parents[1]

StoreKind = Literal["airtable", "database"]
_Choice = TypeVar("_Choice", bound=str)

_GIT_SECONDS = 10
_LONGEST_SECRET_FILE, _LONGEST_DOTENV = 64 * 1024, 1024 * 1024  # bytes
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
# In the order of the fields of `ProviderSettings`.
_PROVIDER_SUFFIXES = ("TOKEN_URL", "AUTH_URL", "SCOPE", "CLIENT_ID", "CLIENT_SECRET")
_PROVIDER_SETTING = re.compile(rf"([A-Z0-9_]+)_({'|'.join(_PROVIDER_SUFFIXES)})(?:_FILE|_COMMAND)?")
_AUTHORIZE_URL = re.compile(r"_AUTHORI[SZ](?:E|ATION)_URL\Z")  # what it is called in PROVIDERS_FILE, and elsewhere
# The settings that `_Reader.secret` reads; .env.example marks them too. Commands that bring them may name a password.
_SECRET_SETTING = re.compile(
    r"(?:(?:OAUTH_)?ENCRYPTION_KEY|ENCRYPTION_KEY_FALLBACKS|AIRTABLE_API_KEY|DATABASE_URL|HTTPS_PROXY_URL|NOTIFY_URLS"
    r"|WEBHOOK_URL|WEBHOOK_SECRET|PING_URL|IMPORT_KEY|CLIENT_SECRET"
    r"|[A-Z0-9_]+_CLIENT_SECRET)(?:_COMMAND)?"
)
# Every setting but those of providers, also ones that only later versions read: what is nearly one of them is misspelt.
_NAMES = frozenset(
    re.findall(
        r"\w+",
        """
    ENCRYPTION_KEY OAUTH_ENCRYPTION_KEY ENCRYPTION_KEY_FALLBACKS LEGACY_CIPHERTEXT SEAL_ACCESS_TOKENS TOKEN_STORE
    AIRTABLE_API_KEY AIRTABLE_BASE_ID AIRTABLE_TABLE_NAME AIRTABLE_ID_FIELD AIRTABLE_ENDPOINT_URL AIRTABLE_PLAN
    AIRTABLE_REQUESTS_PER_SECOND DATABASE_URL STATE_DIR STATE_DIR_SPARE TOKEN_REFRESH_HOME CREDENTIALS_DIRECTORY
    DEFAULT_PROVIDER PROVIDERS_FILE REFRESH_INTERVAL TOKEN_EXPIRY_BUFFER CONCURRENCY HTTPS_PROXY_URL CA_BUNDLE
    ALLOWED_PRIVATE_HOSTS LOG_LEVEL LOG_FORMAT NOTIFY_URLS NOTIFY_COMMAND WEBHOOK_URL WEBHOOK_SECRET WEBHOOK_EVENTS
    PING_URL METRICS_FILE SECURITY_LOG HOST PORT PUBLIC_URL ALLOWED_HOSTS ALLOWED_TOKEN_HOSTS TRUSTED_PROXIES
    TLS_CERT_FILE TLS_KEY_FILE ALLOW_PLAIN_HTTP IMPORT_KEY TENANT_ID CLIENT_ID CLIENT_SECRET GRAPH_REDIRECT_URI
    """,
    )
)
_LIKE_OURS = 0.88  # of difflib's ratio: one letter more, less, changed or moved
_LIKE_A_PROVIDER = 0.85  # the same in a name as short as `google`, but for changed
_SHORTEST_SLUG = 6  # letters; shorter ones (box, ebay, meta) are one letter away from too many others' names
_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
_PORT = r"(?::(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
_HOST_AND_PORT = re.compile(rf"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+){_PORT}")
_QUOTES = "\"'`"
_LISTEN_HOST = re.compile(r"[A-Za-z0-9.:-]+")
_ORIGIN = re.compile(r"https?://[^/{}]+")
_VISIBLE_ASCII = re.compile(r"[!-~]+")
_NOT_IN_URL = re.compile(r"[^!-~]|[?#\\{}]")
_NOTIFY_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.*")
_NEXT_NOTIFY_URL = re.compile(r",(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)")  # an address may hold commas itself
# An address that can be read in one way alone. With a second `@`, or `/` behind what may be a port, a part of the
# password could be taken for the host, be asked of DNS, and shown (github.com/sqlalchemy/sqlalchemy/issues/11262).
_USER = r"(?:[^:/?#@\s]+(?::(?![0-9]*[/?#])[^@]*)?@)?"
_DATABASE_ADDRESS = re.compile(rf"{_USER}(?:\[[0-9A-Fa-f:.]+\]|[^:/?#@\[\]\s]*){_PORT}(?:[/?][^@]*)?")
_ESCAPES = "escape signs in user and password: @ as %40, / as %2F, ? as %3F, # as %23, [ as %5B, ] as %5D, % as %25"
_SECRET_OPTION = re.compile(r"pass|secret|token|key", re.IGNORECASE)
_KEY_FIX = f"Copy the key you have, or make one with `{TOKEN_MANAGER} generate-key`"
_SQLITE_FIX = "Use sqlite:///FILE, for example sqlite:////var/lib/tokens.sqlite3"
_DATABASE_FIX = "Use sqlite:///FILE or postgresql://USER@HOST/NAME"
_HOSTS_FIX = "Write `host`, or `host:port` where the port is not 443, comma-separated"
_PROXY_FIX = f"Use http://HOST:PORT, with USER:PASSWORD@ before the host where the proxy wants it; {_ESCAPES}"
_WEBHOOK_SECRET_FIX = "Write whsec_ and the base64 of 24 to 64 random bytes; several separated by blanks"  # noqa: S105
_WEBHOOK_EVENTS = (
    *("token.failed", "token.login_needed", "token.recovered", "token.ending", "run.finished"),
    "token.refreshed",  # only where it is asked for: there are many
)
_URL_FIX = "Use https://HOST/PATH without user, query or fragment (http only on loopback)"
_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_DATABASE_SCHEMES = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql+psycopg2": "postgresql+psycopg",
}


class SettingsError(ActionableError):
    """The configuration cannot be used.

    Attributes:
        problems: every mistake found, each a sentence that ends with its fix.
    """

    kind = Kind.CONFIGURATION

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems), "")


class Secret:
    """A secret text whose `repr` and `str` are masked; `reveal()` is the only way to it. It is not pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(****)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled: it would be readable in the pickle")


class AirtableSettings(NamedTuple):
    """Where the table is and how gently to ask for it."""

    api_key: Secret
    base_id: str
    table_name: str
    id_field: str
    endpoint_url: str
    requests_per_second: float
    plan: str

    @property
    def identity(self) -> str:
        """Which base this is, however it is addressed."""
        return f"airtable {self.base_id}"


class ProviderSettings(NamedTuple):
    """What the environment says of one provider; None where it says nothing."""

    token_url: str | None = None
    authorize_url: str | None = None
    scope: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = None


@dataclass(frozen=True)
class ImportSettings:
    """What an earlier program's environment said, under its names; only `import` wants it. Empty where it is not set.

    Attributes:
        key: what it sealed with, in the form of `ENCRYPTION_KEY`.
        tenant_id, client_id, client_secret, redirect_uri: its one Microsoft app.
    """

    key: Secret | None = None
    tenant_id: str = ""
    client_id: str = ""
    client_secret: Secret | None = None
    redirect_uri: str = ""


class ServiceSettings(NamedTuple):
    """How the HTTP service is reached. Whether that is safe enough to start is its own question.

    Attributes:
        host, port: where it listens.
        public_url: what its users type, without a slash at the end; empty where nobody said.
        allowed_hosts: the names that a request may have in `Host`, lower case, IPv6 without brackets.
        allowed_token_hosts: `host` or `host:port` of token endpoints that a request may choose for a row.
        trusted_proxies: addresses and networks of proxies that say who the caller is.
        tls_cert_file, tls_key_file: both or neither.
        allow_plain_http: it may listen to others without encryption.
    """

    host: str
    port: int
    public_url: str
    allowed_hosts: frozenset[str]
    allowed_token_hosts: frozenset[str]
    trusted_proxies: tuple[str, ...]
    tls_cert_file: Path | None
    tls_key_file: Path | None
    allow_plain_http: bool

    def require_safe(self) -> None:
        """Return where keys and tokens are not sent in clear to other machines, or somebody said that they may.

        Raises:
            SettingsError: they would be. Not raised by `load`: cron, which reads the same settings, listens nowhere.
        """
        is_encrypted = self.tls_cert_file is not None or bool(self.trusted_proxies) or self.allow_plain_http
        if is_encrypted or self._is_local:
            return
        what = "HOST lets other machines reach the service without encryption."
        fix = (
            "Set TLS_CERT_FILE and TLS_KEY_FILE; or put a proxy with TLS in front of it and name it in TRUSTED_PROXIES;"
            " or, where nobody can listen in, set ALLOW_PLAIN_HTTP=yes."
        )
        raise SettingsError([f"{what} {fix}"])

    @property
    def address(self) -> str:
        """Where it listens, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls_cert_file is not None else ''}://{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What a browser types; empty where nobody said so, and others than this machine reach it."""
        return self.public_url or (self.address if self._is_local else "")

    @property
    def _is_local(self) -> bool:
        return self.host in LOOPBACK_HOSTS or self.host.startswith("127.")


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured. Durations are in seconds.

    `home` is where `.env` is. `providers` is keyed by the provider's name in upper case with `_` for `-`.
    `security_log` is None where it lies in the store's folder. `child_environment` is what a command that a setting
    names sees: the environment without our secrets.
    """

    home: Path
    encryption_key: Secret
    encryption_key_fallbacks: tuple[Secret, ...]
    accept_legacy_ciphertext: bool
    store: StoreKind
    airtable: AirtableSettings | None
    database_url: Secret | None
    state_dir: Path
    state_dir_is_explicit: bool
    state_dir_spare: Path
    default_provider: str
    refresh_interval: int
    token_expiry_buffer: int
    providers: Mapping[str, ProviderSettings]
    providers_file: Path | None
    concurrency: int
    https_proxy_url: Secret | None
    ca_bundle: Path | None
    allowed_private_hosts: frozenset[str]
    seal_access_tokens: bool
    log_level: str
    log_format: Literal["text", "json"]
    notify_urls: tuple[Secret, ...]
    notify_command: tuple[str, ...]
    webhook_url: Secret | None
    webhook_secret: Secret | None
    webhook_events: frozenset[str]
    ping_url: Secret | None
    metrics_file: Path | None
    security_log: Path | Literal["none"] | None
    service: ServiceSettings
    imports: ImportSettings = ImportSettings()
    warnings: tuple[str, ...] = field(default=())
    child_environment: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def secrets(self) -> list[str]:
        """Every secret that is configured, to be masked wherever it would be shown; of addresses also the parts."""
        texts = [secret.reveal() for secret in _secrets_in(self)]
        whole = [*texts, *(word for text in texts for word in text.split())]  # WEBHOOK_SECRET may be several
        return [*whole, *(part for text in whole for part in _secret_parts(text))]


def strip_secrets(environ: MutableMapping[str, str]) -> dict[str, str]:
    """A copy of the environment, from which secrets are then removed: no child process inherits them."""
    taken = dict(environ)
    for name in taken.keys() - _without_secrets(taken).keys():
        del environ[name]
    return taken


def _without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not _SECRET_SETTING.fullmatch(name)}


def home_folder(environ: Mapping[str, str]) -> Path:
    """Where `.env` and, by default, `state/` are: `TOKEN_REFRESH_HOME`, else the clone that runs, else the current one.

    A clone has its own folder, so that cron may start it from anywhere; an installed program has none.
    """
    named = environ.get("TOKEN_REFRESH_HOME", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    is_installed = any(_CODE_FOLDER.glob("token_refresh-*.dist-info"))
    return Path.cwd() if is_installed else _CODE_FOLDER


def log_format(environ: Mapping[str, str]) -> str:
    """`LOG_FORMAT` alone, `text` or `json`: for what goes wrong before the settings are read, or in them."""
    named = environ.get("LOG_FORMAT", "") or _read_dotenv(home_folder(environ) / ".env", []).get("LOG_FORMAT", "")
    return "json" if named.strip().lower() == "json" else "text"


def load(environ: Mapping[str, str], check_key: Callable[[str], object], folder: Path | None = None) -> Settings:
    """Read the environment and `folder/.env`.

    Args:
        environ: the environment; it wins over `.env`.
        check_key: raises `ValueError` with the reason where a text is not an encryption key.
        folder: where `.env` and, by default, `state/` are, by default `home_folder`; relative paths in settings start
            here.

    Raises:
        SettingsError: with all problems at once.
    """
    problems: list[str] = []
    folder = folder or home_folder(environ)
    values = _read_dotenv(folder / ".env", problems)
    in_file = frozenset(values)
    values.update({name: value for name, value in environ.items() if value.strip()})
    child_environment = _without_secrets(environ)
    reader = _Reader(values, folder, problems, child_environment)
    reader.warnings += _misspelt(values, in_file)
    settings = _settings(reader, check_key)
    if problems:
        raise SettingsError(problems)
    return settings


def check_dotenv(folder: Path) -> Check:
    """`folder/.env` must not be in version control, nor be one `git add` away from it."""
    if not (folder / ".env").exists():
        return Check(".env", GOOD, "there is none; the settings come from the environment")
    if _git(folder, "ls-files", "--error-unmatch", ".env"):
        return Check(
            ".env", BAD, ".env is in version control, with its secrets",
            "Run: git rm --cached .env; then change every secret in it.",
        )  # fmt: skip
    if _git(folder, "rev-parse") and not _git(folder, "check-ignore", "-q", ".env"):
        return Check(".env", DOUBTFUL, ".env is not ignored by git", "Add the line .env to .gitignore.")
    return Check(".env", GOOD, "private, and not in version control")


def _git(folder: Path, *arguments: str) -> bool:
    import subprocess  # a cron run asks nobody else

    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the user's own git
            cwd=folder,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _misspelt(names: Iterable[str], in_file: frozenset[str] = frozenset()) -> list[str]:
    """A warning for each name that no setting has and that is nearly one's. Others are other programs'.

    In the file of ours also where only small letters make the difference: `http_proxy` is there for nobody else.
    """
    matches = [match for match in map(_PROVIDER_SETTING.fullmatch, names) if match]
    providers, known = {match[1] for match in matches}, {match[0] for match in matches} | _NAMES
    found: list[str] = []
    for name in sorted(set(names) - known):
        meant = _meant(name.upper() if name in in_file else name, known, providers)
        found += [_no_such_setting(name, one) for one in meant if one != name]
    return found


def _meant(name: str, known: set[str], providers: set[str]) -> list[str]:
    """The setting that has this name, else one that nearly has it, if any."""
    base = _AUTHORIZE_URL.sub("_AUTH_URL", name.removesuffix("_FILE").removesuffix("_COMMAND"))
    if base in known or _PROVIDER_SETTING.fullmatch(name):
        return [name]
    prefixes = [provider for provider in providers if name.startswith(provider)]
    own = [f"{provider}_{suffix}" for provider in prefixes for suffix in _PROVIDER_SUFFIXES]
    candidates = [one for one in (*_NAMES, *own) if _may_be(base, one)]
    if not candidates:
        return []
    from difflib import get_close_matches  # a few milliseconds, which most starts need not spend

    return get_close_matches(base, candidates, 1, _LIKE_OURS)


def misspelt_providers(unknown: Mapping[str, ProviderSettings], slugs: Iterable[str]) -> list[str]:
    """A warning for each setting of a provider that nobody has and that is nearly one with a slug of these."""
    from difflib import get_close_matches

    found: list[str] = []
    known = [slug.replace("-", "_").upper() for slug in slugs if len(slug) >= _SHORTEST_SLUG]
    for name, own in sorted(unknown.items()):
        for meant in get_close_matches(name, known, 1, _LIKE_A_PROVIDER):
            suffixes = (suffix for suffix, value in zip(_PROVIDER_SUFFIXES, own, strict=True) if value is not None)
            found += [_no_such_setting(f"{name}_{suffix}", f"{meant}_{suffix}") for suffix in suffixes]
    return found


def _no_such_setting(name: str, meant: str) -> str:
    return f"there is no setting {name}, and it has no effect. Did you mean {meant}?"


def _may_be(name: str, meant: str) -> bool:
    """Whether it may be a misspelling at all: begin or end as well as the length are nearly right."""
    is_as_long = abs(len(name) - len(meant)) <= 1 + len(name) // 12
    return is_as_long and (name[:3] == meant[:3] or name[-3:] == meant[-3:])


def _secrets_in(value: object) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif is_dataclass(value):
        yield from _secrets_in([getattr(value, one.name) for one in fields(value)])
    elif isinstance(value, Mapping):
        yield from _secrets_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _secrets_in(one)


def _secret_parts(text: str) -> Iterator[str]:
    """The password of an address, and the options in it that are named for something secret: escaped and not."""
    _, separator, rest = text.partition("://")
    if not separator:
        return
    place, _, query = rest.partition("?")
    user, _, _ = place.rpartition("@")
    options = (option.partition("=") for option in query.split("&"))
    parts = [user.partition(":")[2], *(value for name, _, value in options if _SECRET_OPTION.search(name))]
    yield from {spelling for part in parts if part for spelling in (part, unquote(part), unquote_plus(part))}


def _settings(read: _Reader, check_key: Callable[[str], object]) -> Settings:
    key, fallbacks = _keys(read, check_key)
    stores = _stores(read)
    airtable = _airtable(read) if "airtable" in stores else None
    state_dir = read.path("STATE_DIR")
    return Settings(
        home=read.folder,
        encryption_key=key,
        encryption_key_fallbacks=fallbacks,
        accept_legacy_ciphertext=read.choice("LEGACY_CIPHERTEXT", ("accept", "refuse"), "accept") == "accept",
        store=stores[0],
        airtable=airtable,
        database_url=_database_url(read) if "database" in stores else None,
        state_dir=state_dir or read.folder / "state",
        state_dir_is_explicit=state_dir is not None,
        state_dir_spare=read.path("STATE_DIR_SPARE") or Path("/var/tmp"),  # noqa: S108 - files there are our own
        default_provider=read.matching(
            "DEFAULT_PROVIDER", "gohighlevel", _PROVIDER_NAME, "The page docs/providers.md lists the names"
        ),
        refresh_interval=read.integer("REFRESH_INTERVAL", 3600, 1, 604_800),
        token_expiry_buffer=read.integer("TOKEN_EXPIRY_BUFFER", 300, 0, 86_400),
        providers=_providers(read),
        providers_file=read.existing_file("PROVIDERS_FILE"),
        concurrency=read.integer("CONCURRENCY", 16, 1, 256),
        https_proxy_url=read.secret_url("HTTPS_PROXY_URL", _PROXY_FIX),
        ca_bundle=read.existing_file("CA_BUNDLE"),
        allowed_private_hosts=_hosts(read, "ALLOWED_PRIVATE_HOSTS"),
        seal_access_tokens=read.flag("SEAL_ACCESS_TOKENS", default=stores[0] != "airtable"),
        log_level=read.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"),
        log_format=read.choice("LOG_FORMAT", ("text", "json"), "text"),
        notify_urls=_notify_urls(read),
        notify_command=_notify_command(read),
        **_webhook(read),
        ping_url=read.secret_url("PING_URL", "Copy the address that your monitor shows: https://HOST/PATH"),
        metrics_file=read.path("METRICS_FILE"),
        security_log="none" if read.text("SECURITY_LOG").lower() == "none" else read.path("SECURITY_LOG"),
        service=_service(read),
        imports=_imports(read, check_key),
        warnings=tuple(read.warnings),
        child_environment=read.child_environment,
    )


def _keys(read: _Reader, check_key: Callable[[str], object]) -> tuple[Secret, tuple[Secret, ...]]:
    key = read.secret("ENCRYPTION_KEY")
    alias = read.secret("OAUTH_ENCRYPTION_KEY")
    if key and alias and key != alias:
        read.problem("ENCRYPTION_KEY and OAUTH_ENCRYPTION_KEY differ", "Keep one of them: they mean the same")
    key = key or alias
    if key is None and not (read.has("ENCRYPTION_KEY") or read.has("OAUTH_ENCRYPTION_KEY")):
        read.problem(f"ENCRYPTION_KEY is not set{_without_dotenv(read.folder)}", _KEY_FIX)
    fallbacks = read.secrets("ENCRYPTION_KEY_FALLBACKS")
    named = [("ENCRYPTION_KEY", key)] if key else []
    named += [(f"ENCRYPTION_KEY_FALLBACKS, key {number},", one) for number, one in enumerate(fallbacks, 1)]
    for name, secret in named:
        try:
            check_key(secret.reveal())
        except ValueError as error:
            read.problem(f"{name} {error}", _KEY_FIX)
    return key or Secret(""), fallbacks


def _without_dotenv(folder: Path) -> str:
    """That the settings may be elsewhere, where `folder` has none."""
    if (folder / ".env").exists():
        return ""
    return f", and {folder} has no .env (TOKEN_REFRESH_HOME may name the folder that has it)"


def _imports(read: _Reader, check_key: Callable[[str], object]) -> ImportSettings:
    key = read.secret("IMPORT_KEY")
    if key is not None:
        try:
            check_key(key.reveal())
        except ValueError as error:
            read.problem(f"IMPORT_KEY {error}", "Copy the key that the earlier program encrypted with, or unset it")
    return ImportSettings(
        key=key,
        tenant_id=read.text("TENANT_ID"),
        client_id=read.text("CLIENT_ID"),
        client_secret=read.secret("CLIENT_SECRET"),
        redirect_uri=read.text("GRAPH_REDIRECT_URI"),
    )


def _stores(read: _Reader) -> list[StoreKind]:
    """The store; both where it is not clear which is meant, so that mistakes in either are reported with that one."""
    named: Literal["", "airtable", "database"] = read.choice("TOKEN_STORE", ("", "airtable", "database"), "")
    if named:
        return [named]
    stores: list[StoreKind] = []
    if read.has("AIRTABLE_API_KEY") or read.text("AIRTABLE_BASE_ID"):
        stores.append("airtable")
    if read.has("DATABASE_URL") or not stores:
        stores.append("database")
    if len(stores) > 1 and not read.text("TOKEN_STORE"):
        read.problem("Both Airtable and DATABASE_URL are set", "Set TOKEN_STORE to airtable or database")
    return stores


def _airtable(read: _Reader) -> AirtableSettings:
    api_key = read.secret("AIRTABLE_API_KEY")
    base_id = read.text("AIRTABLE_BASE_ID")
    if api_key is None and not read.has("AIRTABLE_API_KEY"):
        read.problem("AIRTABLE_API_KEY is not set", "Create a personal access token in Airtable and put it there")
    if api_key is not None and not _VISIBLE_ASCII.fullmatch(api_key.reveal()):
        # It could not be sent in a header, and the library would quote it.
        read.problem("AIRTABLE_API_KEY holds characters that no token has", "Copy the token again")
    if not re.fullmatch(r"app[A-Za-z0-9]+", base_id):
        fault = "is not a base id" if base_id else "is not set"
        read.problem(f"AIRTABLE_BASE_ID {fault}", "Copy the part that starts with `app` from the base's address")
    return AirtableSettings(
        api_key=api_key or Secret(""),
        base_id=base_id,
        table_name=read.text("AIRTABLE_TABLE_NAME", "APISecrets"),
        id_field=read.text("AIRTABLE_ID_FIELD", "locationId"),
        endpoint_url=read.url("AIRTABLE_ENDPOINT_URL", "https://api.airtable.com").rstrip("/").removesuffix("/v0"),
        requests_per_second=read.number("AIRTABLE_REQUESTS_PER_SECOND", 4.0, 0.1, 50.0),
        plan=read.choice("AIRTABLE_PLAN", ("", "free", "team", "business", "enterprise"), ""),
    )


def parse_database_url(text: str, folder: Path) -> str:
    """A database's address in one spelling; the file of a relative one is below `folder`.

    Raises:
        SettingsError: it is none. It is not quoted, for it may hold a password.
    """
    problems: list[str] = []
    url = _database_url(_Reader({"DATABASE_URL": text}, folder, problems))
    if url is None:
        raise SettingsError(problem.replace("DATABASE_URL", "The source", 1) for problem in problems)
    return url.reveal()


def _database_url(read: _Reader) -> Secret | None:
    url = read.secret("DATABASE_URL")
    if url is None:
        return None
    scheme, separator, rest = url.reveal().partition("://")
    mapped = _DATABASE_SCHEMES.get(scheme.lower())
    if not separator or mapped is None:
        read.problem("DATABASE_URL is no address of a database", _DATABASE_FIX)
        return None
    if mapped == "sqlite":
        return _sqlite_url(read, rest)
    if not rest or not _DATABASE_ADDRESS.fullmatch(rest):
        read.problem("DATABASE_URL has no host and port that can be read", f"{_DATABASE_FIX}; {_ESCAPES}")
        return None
    if scheme.lower().endswith("+asyncpg"):
        rest = re.sub(r"([?&])ssl=", r"\1sslmode=", rest)  # asyncpg's name for libpq's parameter
    return Secret(f"{mapped}://{rest}")


def _sqlite_url(read: _Reader, rest: str) -> Secret | None:
    file, mark, query = rest.removeprefix("/").partition("?")
    if not rest.startswith("/") or not file or file.startswith(":memory:") or file.endswith(("/", ".")):
        read.problem("DATABASE_URL names no SQLite file", _SQLITE_FIX)
        return None
    return Secret(f"sqlite:///{Path(quote(str(read.folder))) / file}{mark}{query}")


def _providers(read: _Reader) -> dict[str, ProviderSettings]:
    matches = (_PROVIDER_SETTING.fullmatch(name) for name in read.names())
    names = {match[1] for match in matches if match}
    return {
        name: ProviderSettings(
            token_url=read.url(f"{name}_TOKEN_URL") or None,
            authorize_url=read.url(f"{name}_AUTH_URL") or None,
            scope=read.text(f"{name}_SCOPE") or None,
            client_id=read.text(f"{name}_CLIENT_ID") or None,
            client_secret=read.secret(f"{name}_CLIENT_SECRET"),
        )
        for name in sorted(names)
    }


def _hosts(read: _Reader, name: str) -> frozenset[str]:
    hosts = read.listed(name)
    for number, host in enumerate(hosts, 1):
        if not _HOST_AND_PORT.fullmatch(host) or host.endswith(":443"):
            read.problem(f"{name}, host {number}, cannot be used", _HOSTS_FIX)
    return frozenset(hosts)


def _service(read: _Reader) -> ServiceSettings:
    host = read.matching("HOST", "127.0.0.1", _LISTEN_HOST, "Use an address of this machine, such as 127.0.0.1")
    public_url = read.url("PUBLIC_URL").rstrip("/")
    if _is_safe_url(public_url) and not _ORIGIN.fullmatch(public_url):
        read.problem("PUBLIC_URL is more than a host", "Use https://HOST, or https://HOST:PORT, without a path")
    certificate, key = read.path("TLS_CERT_FILE"), read.path("TLS_KEY_FILE")
    if (certificate is None) is not (key is None):
        read.problem("Only one of TLS_CERT_FILE and TLS_KEY_FILE is set", "Set both, or neither")
    return ServiceSettings(
        host=host,
        port=read.integer("PORT", 8002, 1, 65_535),
        public_url=public_url,
        allowed_hosts=_allowed_hosts(read) or frozenset({*LOOPBACK_HOSTS, host.lower(), _host_in(public_url)} - {""}),
        allowed_token_hosts=_hosts(read, "ALLOWED_TOKEN_HOSTS"),
        trusted_proxies=_trusted_proxies(read),
        tls_cert_file=certificate,
        tls_key_file=key,
        allow_plain_http=read.flag("ALLOW_PLAIN_HTTP", default=False),
    )


def _allowed_hosts(read: _Reader) -> frozenset[str]:
    hosts = [host.removeprefix("[").removesuffix("]") for host in read.listed("ALLOWED_HOSTS")]
    for number, host in enumerate(hosts, 1):
        if not _LISTEN_HOST.fullmatch(host) or host.count(":") == 1:
            read.problem(f"ALLOWED_HOSTS, host {number}, cannot be used", "Write names without ports, comma-separated")
    return frozenset(hosts)


def _trusted_proxies(read: _Reader) -> tuple[str, ...]:
    listed = read.listed("TRUSTED_PROXIES")
    if listed:
        from ipaddress import ip_network  # most starts need none

        for number, proxy in enumerate(listed, 1):
            try:
                ip_network(proxy)
            except ValueError:
                fix = "Write addresses such as 10.0.0.5, or networks such as 10.0.0.0/24, comma-separated"
                read.problem(f"TRUSTED_PROXIES, entry {number}, is neither an address nor a network", fix)
    return tuple(listed)


def _host_in(url: str) -> str:
    """The host of an address, lower case, IPv6 without brackets; empty where there is none, or nobody can read it."""
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


def _notify_urls(read: _Reader) -> tuple[Secret, ...]:
    listed = read.secret("NOTIFY_URLS")
    texts = [text.strip() for text in _NEXT_NOTIFY_URL.split(listed.reveal())] if listed else []
    for number, text in enumerate(texts, 1):
        if not _NOTIFY_URL.fullmatch(text):
            read.problem(
                f"NOTIFY_URLS, address {number}, is none", "Write addresses such as mailto://…, comma-separated"
            )
    return tuple(Secret(text) for text in texts)


def _notify_command(read: _Reader) -> tuple[str, ...]:
    command = read.raw("NOTIFY_COMMAND")
    if not command:
        return ()
    from token_refresh.base.child import CommandError, split_words

    try:
        return tuple(split_words(command))
    except CommandError as error:
        read.problem(f"NOTIFY_COMMAND: {error}", error.action.rstrip("."))
        return ()


def _webhook(read: _Reader) -> dict[str, Any]:
    url, secret = read.secret("WEBHOOK_URL"), read.secret("WEBHOOK_SECRET")
    if url is not None and not _is_safe_webhook(url.reveal()):
        read.problem("WEBHOOK_URL cannot be used", "Use https://HOST/PATH (http only on loopback)")
    if url is not None and not read.has("WEBHOOK_SECRET"):
        read.problem("WEBHOOK_URL is set without WEBHOOK_SECRET, which signs what is sent", _WEBHOOK_SECRET_FIX)
    for number, text in enumerate(secret.reveal().split() if url is not None and secret is not None else (), 1):
        if not _is_webhook_secret(text):
            read.problem(f"WEBHOOK_SECRET, secret {number}, cannot be used", _WEBHOOK_SECRET_FIX)
    named = {name.strip() for name in read.text("WEBHOOK_EVENTS").split(",")} - {""}
    if named - {*_WEBHOOK_EVENTS, "all"}:
        listed = ", ".join([*_WEBHOOK_EVENTS, "or all"])
        read.problem("WEBHOOK_EVENTS names events that do not exist", f"Use these, comma-separated: {listed}")
    events = _WEBHOOK_EVENTS if "all" in named else named or set(_WEBHOOK_EVENTS) - {"token.refreshed"}
    return {"webhook_url": url, "webhook_secret": secret, "webhook_events": frozenset(events)}


def _is_webhook_secret(text: str) -> bool:
    """Whether it is what Standard Webhooks 1.0 wants: `whsec_` and canonical base64 of 24 to 64 bytes."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64


def _is_safe_webhook(url: str) -> bool:
    """Whether it goes by https, or stays on this machine; a query may hold a secret."""
    is_private = urlsplit(url).scheme == "https" or urlsplit(url).hostname in LOOPBACK_HOSTS
    return _is_web_url(url) and is_private and "@" not in url


def _is_safe_url(url: str) -> bool:
    """Whether it is https, or http to loopback, and has no user, query or fragment. Placeholders may stand in it."""
    url = re.sub(r"\{[a-z_]+\}", "placeholder", url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or _NOT_IN_URL.search(url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK_HOSTS)


def _is_web_url(url: str) -> bool:
    """Whether all readers see the same host in it: an `@` behind it would be a password with a sign not escaped."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    is_clear = url.count("@") == ("@" in parts.netloc) and _VISIBLE_ASCII.fullmatch(url) is not None
    return bool(host) and parts.scheme in ("http", "https") and is_clear


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no permission, or a name that is too long
        return False


class _Reader:
    """Looks settings up by name and kind, and collects what is wrong with them instead of raising."""

    def __init__(
        self,
        values: Mapping[str, str],
        folder: Path,
        problems: list[str],
        child_environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._values = values
        self.folder = folder
        self.problems = problems
        self.child_environment = child_environment
        self.warnings: list[str] = []
        self._credentials = self._list_credentials()

    def problem(self, what: str, fix: str) -> None:
        sentence = f"{what}. {fix}."
        if sentence not in self.problems:  # some settings are looked at twice
            self.problems.append(sentence)

    def names(self) -> set[str]:
        return {*self._values, *self._credentials}

    def has(self, name: str) -> bool:
        return name in self.names() or any(f"{name}_{source}" in self._values for source in ("FILE", "COMMAND"))

    def raw(self, name: str) -> str:
        """As it stands, but for outer space: what splits it understands quotes."""
        return self._values.get(name, "").strip()

    def text(self, name: str, default: str = "") -> str:
        return self._unquoted(name, self._values.get(name, "")) or default

    def _unquoted(self, source: str, text: str) -> str:
        """`text` without outer space; quotes around it are a mistake: docker's `--env-file` keeps them, for one."""
        text = text.strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
            self.problem(f"{source} stands in quotes, which count as a part of it here", "Leave the quotes out")
            return text[1:-1].strip()
        return text

    def listed(self, name: str) -> list[str]:
        """What commas separate, in lower case."""
        return [part.strip().lower() for part in self.text(name).split(",") if part.strip()]

    def choice(self, name: str, choices: tuple[_Choice, ...], default: _Choice) -> _Choice:
        wanted = self.text(name, default)
        for choice in choices:
            if wanted.lower() == choice.lower():
                return choice
        self.problem(f"{name} cannot be used", f"Use one of: {', '.join(choice for choice in choices if choice)}")
        return default

    def matching(self, name: str, default: str, pattern: re.Pattern[str], fix: str) -> str:
        text = self.text(name, default)
        if not pattern.fullmatch(text):
            self.problem(f"{name} cannot be used", fix)
        return text

    def flag(self, name: str, *, default: bool) -> bool:
        wanted = self.text(name).lower()
        if wanted and wanted not in _FLAGS:
            self.problem(f"{name} cannot be used", "Use on or off")
        return _FLAGS.get(wanted, default)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        wanted = self.text(name)
        try:
            number = float(wanted) if wanted else default
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            self.problem(f"{name} cannot be used", f"Use a number from {low:g} to {high:g}")
            return default
        return number

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        wanted = self.text(name)
        number = int(wanted) if re.fullmatch(r"[0-9]{1,9}", wanted) else (default if not wanted else low - 1)
        if not low <= number <= high:
            self.problem(f"{name} cannot be used", f"Use a whole number from {low} to {high}")
            return default
        return number

    def url(self, name: str, default: str = "") -> str:
        url = self.text(name, default)
        if url and not _is_safe_url(url):
            self.problem(f"{name} cannot be used", _URL_FIX)
        return url

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        if not text:
            return None
        with suppress(RuntimeError):  # `~name`, and there is no such user
            if "\0" not in text:
                return self.folder / Path(text).expanduser()
        self.problem(f"{name} is no path", "Write it in full, from / on")
        return None

    def existing_file(self, name: str) -> Path | None:
        path = self.path(name)
        if path is not None and not (_is_file(path) and os.access(path, os.R_OK)):
            self.problem(f"{name} names no file that can be read", "Correct the path, or unset it")
        return path

    def secret(self, name: str) -> Secret | None:
        sources = dict(self._sources(name))
        if len(sources) > 1:
            self.problem(f"{name} is set twice: by {' and '.join(sources)}", "Keep one of them")
            return None
        texts = [read() for read in sources.values()]
        return Secret(texts[0]) if texts and texts[0] else None

    def secret_url(self, name: str, fix: str) -> Secret | None:
        url = self.secret(name)
        if url is not None and not _is_web_url(url.reveal()):
            self.problem(f"{name} cannot be used", fix)
        return url

    def secrets(self, name: str) -> tuple[Secret, ...]:
        listed = self.secret(name)
        return tuple(Secret(part.strip()) for part in listed.reveal().split(",") if part.strip()) if listed else ()

    def _list_credentials(self) -> dict[str, Path]:
        directory = self.path("CREDENTIALS_DIRECTORY")
        try:
            entries = list(directory.iterdir()) if directory is not None else []
        except FileNotFoundError:  # inherited from a service that has ended
            return {}
        except OSError as error:
            self.problem(f"CREDENTIALS_DIRECTORY cannot be read ({error.strerror})", "Correct it, or unset it")
            return {}
        return {entry.name: entry for entry in entries if _is_file(entry)}

    def _sources(self, name: str) -> Iterator[tuple[str, Callable[[], str]]]:
        """Where a secret is to come from, each with what reads it; nothing is read, or run, before it is wanted."""
        if text := self.text(name):
            yield name, lambda: text
        file, command = self.path(f"{name}_FILE"), self._values.get(f"{name}_COMMAND", "")
        if file is not None:
            yield f"{name}_FILE", partial(self._read_secret_file, f"{name}_FILE", file)
        if name in self._credentials:
            source = f"{name} in CREDENTIALS_DIRECTORY"
            yield source, partial(self._read_secret_file, source, self._credentials[name])
        if command.strip():
            yield f"{name}_COMMAND", partial(self._read_secret_command, f"{name}_COMMAND", command)

    def _read_secret_command(self, source: str, command: str) -> str:
        from token_refresh.base.child import CommandError, line_in, run_child, split_words

        try:
            output = run_child(split_words(command), self.child_environment, cwd=self.folder)
            return self._unquoted(source, line_in(output))
        except CommandError as error:
            self.problem(f"{source}: {error}", error.action.rstrip("."))
            return ""

    def _read_secret_file(self, source: str, path: Path) -> str:
        try:
            content, status = read_plain_file(path, _LONGEST_SECRET_FILE)
            text = self._unquoted(source, content.decode("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            self.problem(f"{source}: the file cannot be read ({reason})", "Correct the path or its permissions")
            return ""
        if not text:
            self.problem(f"{source}: the file is empty", "Put the secret in it, or unset it")
        if source.endswith("_FILE") and stat.S_IMODE(status.st_mode) & 0o077:
            self.warnings.append(f"{source}: other users can read {path}. Run: chmod 600 {_quoted(path)}")
        return text


def _read_dotenv(path: Path, problems: list[str]) -> dict[str, str]:
    """The pairs of `.env`, values taken as they stand (no `$` expansion: secrets may hold one)."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            problems.append(f"{path} is a link to a file that is not there. Put the file there, or remove the link.")
        return {}
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror}). Correct its permissions.")
        return {}
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no plain file"
        problems.append(f"{path} is {what}. Move it away and put a file in its place.")
        return {}
    if stat.S_IMODE(status.st_mode) & 0o077:
        problems.append(f"Other users can read {path}. Run: chmod 600 {_quoted(path)}")
    if status.st_uid not in (os.geteuid(), 0):
        owner_fix = f"Run the program as its owner, or: chown $(id -un) {_quoted(path)}"
        problems.append(f"{path} belongs to another user. {owner_fix}")
    return _parse_dotenv(path, problems)


def _parse_dotenv(path: Path, problems: list[str]) -> dict[str, str]:
    from dotenv.parser import parse_stream  # brings much along, and many have no such file

    pairs: dict[str, tuple[str, int]] = {}
    try:
        text = read_plain_file(path, _LONGEST_DOTENV)[0].decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.append(f"{path} cannot be read ({reason}). Correct its permissions or its encoding.")
        return {}
    for binding in parse_stream(io.StringIO(text, newline=None)):
        line, value = _line_of(binding.original), (binding.value or "").strip()
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(f"{path}, line {line}: cannot be read. Write NAME=value.")
        elif binding.key is not None and value:  # an empty line takes no value away
            before, first = pairs.setdefault(binding.key, (value, line))
            if before != value:
                problems.append(f"{path} sets {binding.key} twice, in lines {first} and {line}. Keep one of them.")
    return {name: value for name, (value, _) in pairs.items()}


def _line_of(original: Original) -> int:
    """The parser counts from the blank lines before a pair."""
    blank = original.string[: len(original.string) - len(original.string.lstrip())]
    return original.line + blank.count("\n")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
