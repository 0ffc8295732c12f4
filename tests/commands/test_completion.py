"""Completion and manual pages: made of the parser, so that no verb and no flag is missing in them."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.manual import write
from tests.conftest import World
from token_refresh.base.program import install_extra
from token_refresh.commands import VERBS, onboard, whole_parser

COMMANDS = ("token-refresh", "token-refresh-onboard")
# A zsh at a terminal of its own: Tab after each text, and what the command was then given.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($1 \$fpath); autoload -U compinit; compinit -u -D; bindkey '^I' complete-word"
zpty -w shell 'token-refresh() { print -r -- run:"[$*]" }'
for words in "${@:2}"; do
  zpty -w shell "$words"$'\t'
  zpty -r shell seen '*run:\[*\]*'
  print -r -- "${${seen##*run:\[}%%\]*}"
done
"""


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What packages carry."""
    folder = tmp_path_factory.mktemp("share")
    write(folder)
    return folder


def completed(share: Path, *words: str) -> set[str]:
    """What bash offers for the last of these words."""
    assert shutil.which("bash")
    function = "_shtab_" + words[0].replace("-", "_")
    lines = [
        f"source {share / 'bash-completion/completions' / words[0]}",
        f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}",
        f"{function} >/dev/null",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    ended = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=30, cwd=share)
    assert ended.stderr == ""
    return set(ended.stdout.split())


def flags_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every flag of a command and of its verbs."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from flags_of(verb)


def test_bash_completes_verbs_flags_choices_providers_and_files(share: Path) -> None:
    assert completed(share, "token-refresh", "") >= set(VERBS)
    assert completed(share, "token-refresh", "re") == {verb for verb in VERBS if verb.startswith("re")}
    assert {"--all", "--every", "--takeover"} <= completed(share, "token-refresh", "refresh", "--")
    assert completed(share, "token-refresh", "export", "--format", "") == {"csv", "json"}
    assert completed(share, "token-refresh", "refresh", "--provider", "goh") == {"gohighlevel"}
    assert completed(share, "token-refresh", "providers", "gitl") == {"gitlab"}
    assert "bash-completion" in completed(share, "token-refresh", "export", "--output", "bash-")
    assert {"--from-csv", "--authorize"} <= completed(share, "token-refresh-onboard", "--")


@pytest.mark.parametrize("name", COMMANDS)
def test_zsh_can_read_what_is_made_for_it(share: Path, name: str) -> None:
    script = share / "zsh/site-functions" / f"_{name}"
    parser = whole_parser() if name == "token-refresh" else onboard.parser_as()
    assert [flag for flag in flags_of(parser) if flag not in script.read_text()] == []
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh here")
    assert subprocess.run(["zsh", "-n", str(script)], capture_output=True, check=False).stderr == b""


def test_zsh_completes_verbs_flags_and_providers(share: Path, tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh here")
    begun = {
        "gen": "generate-key",
        "export --for": "export --format",
        "refresh --provider goh": "refresh --provider gohighlevel",
    }
    words = [
        "zsh",
        "-f",
        "-c",
        ZSH,
        "zsh",
        str(share / "zsh/site-functions"),
        *(f"token-refresh {one}" for one in begun),
    ]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=30, cwd=tmp_path, check=False)
    assert ended.stdout.splitlines() == list(begun.values()), ended.stderr


def test_the_command_prints_the_same_completion(share: Path, world: World) -> None:
    for shell, file in (
        ("bash", "bash-completion/completions/token-refresh"),
        ("zsh", "zsh/site-functions/_token-refresh"),
    ):
        for words in (["--print-completion", shell], [f"--print-completion={shell}"]):
            result = world.program.run(*words)
            assert (result.code, result.err, result.out) == (0, "", (share / file).read_text())


def test_where_shtab_is_missing_the_command_that_installs_it_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    result = world.program.run("--print-completion", "bash")
    assert (result.code, result.out) == (2, "")
    assert "completion needs shtab" in result.err
    assert install_extra("completion") in result.err


def test_completion_for_a_shell_that_nobody_knows_is_refused(world: World) -> None:
    result = world.program.run("--print-completion", "tcsh")
    assert result.code == 2
    assert "invalid choice" in result.err


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_page_is_shown_without_a_warning(share: Path, name: str) -> None:
    """By groff where it is installed, as `man` calls it."""
    if shutil.which("groff") is None:
        pytest.skip("there is no groff here")
    page = share / f"man/man1/{name}.1"
    ended = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-c", str(page)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    shown = re.sub(r".\x08", "", ended.stdout)
    for heading in ("NAME", "SYNOPSIS", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"):
        assert f"\n{heading}\n" in f"\n{shown}"
    assert "TOKEN_REFRESH_HOME" in shown
    assert "75" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_page_names_each_verb_and_flag(share: Path, name: str) -> None:
    text = (share / f"man/man1/{name}.1").read_text().replace(r"\-", "-")
    parser = whole_parser() if name == "token-refresh" else onboard.parser_as()
    assert [flag for flag in flags_of(parser) if flag not in text] == []
    assert [verb for verb in VERBS if name == "token-refresh" and f'.SS "{verb}' not in text] == []
    assert not re.search(r"^(?!\.([A-Z]{1,2}|nh|ad)\b)[.']", text, re.MULTILINE), "a line of text is read as a request"
