"""Every command of the README and the docs is run, as a new user would: in a fresh copy, with an empty home."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

import crypto
from docs.generate import LIST, PAGE, anchor_of, generated
from providers import Catalog
from providers.authorization import scope_of
from providers.base import Credential, ErrorCodes, RawAnswer, Verdict
from providers.entries import KEYS, make_provider
from providers.revocation import revocation_requests
from tests.conftest import World
from tests.providers.answers import read
from tests.transfer import sources
from tests.world.airtable import AirtableServer
from tests.world.apis import BUSINESS, GITLAB, GRAPH, ApiServer
from tests.world.clock import START, FakeClock
from tests.world.oauth import OAuthServer
from tests.world.postgres import PostgresServer, plain
from tests.world.program import Program
from tests.world.terminal import CTRL_C
from token_refresh.base.errors import Kind, exit_code
from token_refresh.settings import _read_dotenv, load

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]
SERVICE = ROOT / "docs/service.md"
CRON_PATH = "/usr/bin:/bin"  # all that cron gives a job
NO_TERMINAL = 2  # what a prompt answers where nobody can be asked


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(*pages: Path) -> list[str]:
    """Every command line of the pages."""
    return [line for page in pages for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]


FIRST = "first.csv"  # a client for the prompt, which needs a person


@dataclass
class Clone:
    """A fresh copy of the project, its user, and what the user's commands do."""

    folder: Path
    home: Path
    addresses: dict[str, str] = field(default_factory=dict)  # of the examples' APIs

    def sh(self, command: str, path: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a command line under plain `sh`."""
        basics = {"HOME": str(self.home), "PATH": path or os.environ["PATH"], "LANG": "C.UTF-8"}
        environment = basics | self.addresses | extra
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """What `git clone` would give: the project's files and nothing else, on a disk: other folders may be in memory."""
    with tempfile.TemporaryDirectory(prefix="clone-") as name:
        made = _cloned(Path(name), tmp_path_factory.mktemp("home"))
        yield made
        # The service of a page's commands, where one of them failed: it would keep its port from the next test.
        made.sh("grep -qs token_refresh.service /proc/$(cat service.pid)/cmdline && kill $(cat service.pid)")


def _cloned(folder: Path, home: Path) -> Clone:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    made = Clone(folder, home)
    assert made.sh("git init -q . && git add -A").returncode == 0
    return made


@pytest.fixture(scope="module")
def oauth() -> Iterator[OAuthServer]:
    """A provider to call."""
    with OAuthServer() as server:
        yield server


@pytest.fixture
def apis(clone: Clone, oauth: OAuthServer) -> Iterator[ApiServer]:
    """What the examples call."""
    with ApiServer(oauth) as server:
        clone.addresses |= {
            "GRAPH_URL": server.url(GRAPH),
            "BUSINESS_PROFILE_URL": server.url(BUSINESS),
            "GITLAB_URL": server.url(GITLAB).removesuffix("/api/v4"),
        }
        yield server


def _fill_in(clone: Clone, key: str, oauth: OAuthServer) -> None:
    """What the README asks the user to type into `.env`, and a client in a file."""
    env = clone.folder / ".env"
    text = env.read_text().replace("\nENCRYPTION_KEY=\n", f"\nENCRYPTION_KEY={key}\n")
    env.write_text(text + f"GOHIGHLEVEL_TOKEN_URL={oauth.token_url('gohighlevel')}\n")
    oauth.add_client("gohighlevel", "app", "for the docs")
    token = oauth.grant("gohighlevel", "app", location_id="loc1")
    agency = oauth.grant("gohighlevel", "app", location_id="comp1", user_type="Company", company_id="comp1")
    oauth.agencies.install("comp1", "loc5", "loc6", "loc7")
    header = "location_id,provider,client_id,client_secret,refresh_token,provider_params"
    lines = [
        header,
        f"loc1,gohighlevel,app,for the docs,{token},",
        f'comp1,gohighlevel,app,for the docs,{agency},"{{""user_type"": ""Company""}}"',
    ]
    (clone.folder / "clients.csv").write_text("\n".join(lines) + "\n")
    first = f"loc0,gohighlevel,app,for the docs,{oauth.grant('gohighlevel', 'app', location_id='loc0')},"
    (clone.folder / FIRST).write_text(f"{header}\n{first}\n")
    (clone.folder / "client.json").write_text(blocks(SERVICE, "json")[0])
    with env.open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in _earlier_programs(clone, oauth).items())


def _earlier_programs(clone: Clone, oauth: OAuthServer) -> Mapping[str, str]:
    """Databases to migrate from, each named like its layout; what their programs' settings were."""
    program = Program(clone.folder, {"GOOGLE_TOKEN_URL": oauth.token_url("google")})
    usual = dict(program.settings)
    world = World(FakeClock(), oauth, program)
    for make in (sources.user_tokens, sources.git_connections, sources.clients_and_tokens, sources.workspace_tokens):
        make(world)
    return {name: value for name, value in program.settings.items() if name not in usual or "TOKEN_URL" in name}


@pytest.fixture(scope="module")
def airtable() -> Iterator[AirtableServer]:
    """A base without a table, for the page that begins there."""
    with AirtableServer(requests_per_second=None) as server:
        yield server


def _needs_person(command: str) -> bool:
    return "onboard_client.py" in command and not any(flag in command for flag in ("--from-csv", "--locations"))


@pytest.mark.long
def test_every_command_of_readme_and_docs_does_what_it_says(
    clone: Clone, oauth: OAuthServer, apis: ApiServer, postgres: PostgresServer, airtable: AirtableServer
) -> None:
    """In the order of the pages; the prompt is the one command that needs a person."""
    done = 0
    base = {"AIRTABLE_API_KEY": airtable.token, "AIRTABLE_BASE_ID": airtable.base_id}
    own = {
        ROOT / "docs/postgres.md": {"DATABASE_URL": plain(postgres.database("template0"))},
        ROOT / "docs/airtable-start.md": {**base, "AIRTABLE_ENDPOINT_URL": airtable.url},
        SERVICE: dict(line.split("=", 1) for line in blocks(SERVICE, "ini")[0].splitlines()),
    }
    for page, command in [(one, command) for one in PAGES for command in commands(one)]:
        # What somebody reads who comes without having read this page.
        if "DATABASE_URL" in own.get(page, ()) and "pip install" in command:
            early = clone.sh(".venv/bin/python token_manager.py setup", **own[page])
            assert (early.returncode, command.partition(" -m ")[2] in early.stderr) == (2, True), early.stderr
        result = clone.sh(command, **own.get(page, {}))
        expected = NO_TERMINAL if _needs_person(command) else 0
        assert result.returncode == expected, f"{command}\n{result.stdout}\n{result.stderr}"
        assert ("this is no terminal" in result.stderr) == _needs_person(command)
        if command.endswith("generate-key") and not done:
            _fill_in(clone, result.stdout.strip(), oauth)
        if _needs_person(command) and (clone.folder / FIRST).exists():  # what the person enters there
            added = clone.sh(f".venv/bin/python onboard_client.py --from-csv {FIRST}", **own.get(page, {}))
            assert added.returncode == 0, added.stderr
            (clone.folder / FIRST).unlink()
        done += command.endswith("generate-key")
        if command == "make demo":
            assert "nothing due" in result.stderr
            assert clone.sh("git status --porcelain | grep -v '^A  '").stdout == ""
    status = clone.sh(".venv/bin/python token_manager.py status")
    assert "valid" in status.stdout
    assert {request.path.split("/")[1] for request in apis.requests} == {"graph", "business", "git"}
    assert oauth.replayed() == []


@pytest.mark.long
def test_the_cron_line_runs_under_crons_own_shell(clone: Clone, postgres: PostgresServer) -> None:
    """Without secrets in it, from anywhere, with cron's bare environment, and its log is for its user alone.

    It runs what the test before it has installed; asking for the same fixtures keeps their order.
    """
    [block] = blocks(ROOT / "README.md", "cron")
    schedule = re.compile(r"(\S+\s+){5}")
    line = schedule.sub("", block.strip(), count=1)
    assert not re.search(r"KEY|SECRET|TOKEN", line)
    result = clone.sh("cd / && " + line.replace("/opt/token-refresh", str(clone.folder)), path=CRON_PATH)
    log = clone.folder / "token_manager.log"
    assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), log.read_text()
    assert "nothing due" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.long
@pytest.mark.by_turns("command")
@pytest.mark.parametrize("command", [one for one in commands(ROOT / "docs/onboarding.md") if _needs_person(one)])
def test_every_onboarding_of_the_docs_asks_its_first_question(world: World, command: str) -> None:
    """What comes after it is tested with a person and a provider in tests/clients and tests/commands."""
    _, script, *argv = shlex.split(command)
    with world.program.at_terminal(*argv, script=script) as terminal:
        terminal.expect(" id")
        terminal.type(CTRL_C)
        assert terminal.end() == exit_code([Kind.STOPPED])


def settings_blocks() -> Iterator[tuple[str, str]]:
    """Each block of the pages that is for `.env`, with its page; of alternatives each line."""
    for page in PAGES:
        for block in re.findall(r"^```(?:ini)?\n((?:[A-Z_]+=.*\n)+)```", page.read_text(), re.MULTILINE):
            whole = page.name != "keys.md"  # "any one of these"
            yield from ((page.name, one) for one in ([block] if whole else block.splitlines()))


def test_no_block_of_settings_sets_a_name_that_the_example_sets_otherwise(tmp_path: Path) -> None:
    """Each can be put behind a copy of `.env.example`."""
    example, found = (ROOT / ".env.example").read_text(), list(settings_blocks())
    problems: list[str] = []
    for page, block in found:
        file = tmp_path / page
        file.write_text(f"{example}\n{block}\n")
        file.chmod(0o600)
        _read_dotenv(file, problems)
    assert problems == []
    assert {"service.md", "test-server.md", "alerts.md", "metrics.md", "keys.md"} <= {page for page, _ in found}


def test_each_command_that_brings_a_secret_is_one_that_the_settings_take(tmp_path: Path) -> None:
    """The programs are not here: what stands for them answers to these words alone."""
    secrets = {
        "ENCRYPTION_KEY": crypto.generate_key(),
        "AIRTABLE_API_KEY": "pat.x",
        "DATABASE_URL": "postgresql://u:p@h/t",
        "WEBHOOK_SECRET": f"whsec_{crypto.generate_key()}",
    }
    others = {"ENCRYPTION_KEY": secrets["ENCRYPTION_KEY"], "AIRTABLE_BASE_ID": "appX"}
    programs = set()
    for line in "".join(blocks(ROOT / "docs/keys.md", "ini")).splitlines():
        setting, _, command = line.partition("=")
        name, (program, *words) = setting.removesuffix("_COMMAND"), shlex.split(command)
        stub = tmp_path / program
        stub.write_text(f'#!/bin/sh\n[ "$*" = {shlex.quote(" ".join(words))} ] && echo {secrets[name]}\n')
        stub.chmod(0o700)
        environ = {"AIRTABLE_API_KEY": "pat.x", **others, "TOKEN_STORE": _store_of(name), "PATH": str(tmp_path)}
        direct = load(environ | {name: secrets[name]}, crypto.parse_key, tmp_path)
        environ.pop(name, None)
        assert load(environ | {setting: command}, crypto.parse_key, tmp_path) == direct
        programs.add(program)
    assert programs == {"vault", "op", "aws", "keyring", "pass"}


def _store_of(setting: str) -> str:
    return "database" if setting == "DATABASE_URL" else "airtable"


def test_every_schedule_that_the_readme_names_is_one_that_cron_knows() -> None:
    schedules = re.findall(r"`((?:[\d*/,-]+ ){4}[\d*/,-]+)`", (ROOT / "README.md").read_text())
    assert set(schedules) == {"*/15 * * * *", "0 */4 * * *"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_that_is_named_is_there_to_be_made(page: Path) -> None:
    """`make bench` and its like run for minutes, so the tests do not run them."""
    named = set(re.findall(r"`make (\w+)", page.read_text()))
    assert named <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_provider_of_the_docs_can_be_used(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(blocks(ROOT / "docs/providers.md", "toml")[0])
    provider = Catalog(own).get("acme")
    assert provider.endpoint({}).url == "https://acme.example/oauth/token"


def test_the_two_files_of_the_page_on_adding_a_provider_fit_each_other() -> None:
    data, told = blocks(ROOT / "docs/add-a-provider.md", "toml")
    provider, answers = make_provider("example-crm", tomllib.loads(data)), read(told)
    assert provider.endpoint(answers.row).url == answers.url
    assert (provider.auth, provider.rotates, provider.replay) == (answers.auth, answers.rotates, answers.replay)
    assert provider.filled(provider.params, answers.row) == answers.sends
    ends = {"reauthorize": Verdict.DEAD_GRANT, "client": Verdict.CLIENT_REFUSED}
    for one in answers.refused:
        raw = RawAnswer(one.status, {}, one.body.encode(), START)
        assert provider.read_answer(raw).verdict is ends[one.end]
    assert (login := answers.login) is not None
    assert provider.authorize_url is not None
    assert provider.endpoint_at(provider.authorize_url, answers.row).url == login.authorize_url
    assert (provider.login.pkce, scope_of(provider, ["one", "two"])) == (login.pkce, login.scope)
    assert provider.filled(provider.login.authorize_params, answers.row) == login.asks
    assert provider.login.account_in(json.loads(login.body), {}) == login.account
    assert {login.redirect_uri} == {
        word.rstrip(".") for word in " ".join(provider.login.app_steps).split() if "8765" in word
    }
    [request] = revocation_requests(provider, Credential("app", "secret", "refresh-1", answers.row), "access-1")
    assert (revocation := answers.revocation) is not None
    assert (request.url, dict(parse_qsl(request.body.decode()))) == (revocation.url, revocation.sends)
    assert provider.revocation.ends == (revocation.says == "revoked")


def test_what_is_made_of_the_catalogue_is_as_new_as_the_catalogue() -> None:
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"run make docs: {path.name} is older than the catalogue"


def test_every_name_in_the_table_of_providers_leads_to_its_section() -> None:
    sections = [anchor_of(heading) for heading in re.findall(r"^## (.+)$", LIST.read_text(), re.MULTILINE)]
    linked = re.findall(r"\(provider-list\.md#([^)]+)\)", PAGE.read_text())
    assert sorted(linked) == sorted(sections)
    assert len(set(sections)) == len(Catalog().summaries)


def test_every_key_of_the_catalogue_is_explained_once() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(), re.MULTILINE)
    kinds = {entry.name for entry in dataclasses.fields(ErrorCodes)}
    assert sorted(set(rows) - kinds) == sorted(KEYS)
    assert len(rows) == len(set(rows))


def test_every_rule_of_the_security_page_names_tests_that_exist() -> None:
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    there = {name for source in sources for name in re.findall(r"^ *def (test_\w+)", source, re.MULTILINE)}
    rows = re.findall(r"^\| ([^|*]+) \| (.+) \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
    rules = {rule: re.findall(r"`(test_\w+)`", tests) for rule, tests in rows if rule != "rule"}
    assert len(rules) > 20
    assert all(rules.values())
    assert sorted({name for names in rules.values() for name in names} - there) == []


# --- the pages

STAND_INS = (  # what is not on every machine that runs the tests, or would change it
    *("sudo", "sudoedit", "docker", "kubectl", "systemctl", "journalctl", "crontab", "pipx", "uv"),
    *("token-refresh", "token-refresh-onboard", "vi"),
)
STAND_IN = """#!/bin/sh
for word do
    case $word in deploy/secrets/* | deploy/kubernetes/secrets/*) ;;
        deploy/* | requirements/*) [ -e "$word" ] || { echo "there is no $word" >&2; exit 9; } ;;
    esac
done
[ -p /dev/stdin ] && cat >/dev/null
echo "$*" | grep -q generate-key && echo KEY
exit 0
"""


def _elsewhere() -> list[tuple[Path, str]]:
    """Each block of commands for a machine of another kind: with systemd, a container engine, a cluster."""
    return [(page, block) for page in PAGES for block in blocks(page, "bash")]


@pytest.mark.parametrize(("page", "block"), _elsewhere(), ids=lambda one: one.name if isinstance(one, Path) else "")
def test_commands_for_another_machine_name_files_that_are_there(page: Path, block: str, tmp_path: Path) -> None:
    """Under `sh`, with stand-ins for what changes a machine: they look at the files they are given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in STAND_INS:
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    clone = tmp_path / "clone"
    for folder in ("deploy", "requirements"):
        shutil.copytree(ROOT / folder, clone / folder)
    for folder in (".venv/bin", "deploy/secrets", "deploy/kubernetes/secrets"):
        (clone / folder).mkdir(parents=True)
    (tmp_path / ".zfunc").mkdir()
    (clone / ".venv/bin/python").symlink_to(programs / "vi")
    ended = subprocess.run(
        ["/bin/sh", "-euc", block],
        cwd=clone,
        env={"HOME": str(tmp_path), "PATH": f"{programs}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def _links(page: Path) -> set[Path]:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    return {(page.parent / target).resolve() for target in targets if not target.startswith("https://")}


def test_every_page_is_found_in_two_clicks() -> None:
    """From the page that the README and the repository's folder `docs` begin with."""
    index = ROOT / "docs/index.md"
    assert index in _links(ROOT / "README.md")
    first = _links(index)
    second = {found for page in first if page.suffix == ".md" for found in _links(page)}
    folders = {page for page in first if page.is_dir()}
    lost = [page for page in PAGES if page not in first | second | {index} and page.parent not in folders]
    assert [page.name for page in lost] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_into_a_page_leads_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        path = (page.parent / target).resolve() if target else page
        if path.suffix == ".md":
            assert anchor in {anchor_of(one) for one in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}, (
                anchor
            )


def test_the_page_on_cron_has_the_line_of_the_readme() -> None:
    assert blocks(ROOT / "docs/cron.md", "cron") == blocks(ROOT / "README.md", "cron")


@pytest.mark.parametrize(("name", "client"), [("terminal", "gohighlevel"), ("airtable", "loc1")])
def test_a_picture_shows_the_commands_and_asks_no_other_host(name: str, client: str) -> None:
    svg = (ROOT / f"docs/images/{name}.svg").read_text()
    assert {"onboard_client.py", "status", client} <= set(re.findall(r"[\w.]+", svg))
    assert re.findall(r"url\((?!#)|href=", svg) == []
