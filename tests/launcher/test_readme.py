"""README tells what there is: every verb, commands that exist with their options, links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from launcher.cli import app, main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split() for line in re.findall(r"^kaglaunch ([a-z][^#\n]*?) *#", README, re.MULTILINE)]
OWN_PAGES = (
    "any-training",
    "cli",
    "debug-prints",
    "embedded-kaggle",
    "faults",
    "going-on",
    "json",
    "notebook",
    "preflight",
)
PAGES = ("README.md", *(f"docs/{name}.md" for name in OWN_PAGES))
GROUP = typer.main.get_command(app)


def test_every_verb_is_in_the_table_and_every_verb_of_the_table_exists() -> None:
    table = README.partition("## Every verb")[2].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)}
    assert named == set(GROUP.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_understood_with_its_options(command: list[str]) -> None:
    verb, *options = command
    context = GROUP.make_context("kaglaunch", [verb, *options], resilient_parsing=False)
    found = GROUP.get_command(context, verb)  # type: ignore[attr-defined]
    assert found is not None
    found.make_context(verb, options, parent=context)


def test_the_commands_that_push_nothing_do_what_they_say(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ["init"] in COMMANDS
    assert ["doctor"] in COMMANDS
    assert main(["init"]) == 0
    assert (home / "kaglaunch.toml").is_file()
    assert main(["doctor"]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_the_exit_codes_are_those_of_the_help() -> None:
    told = re.search(r"## Exit codes\n\n(.*?)\.\n", README, re.DOTALL)
    assert told is not None
    codes = re.findall(r"(\d+) ([a-zA-Z-]+)", told[1])
    assert codes == re.findall(r"(\d+) ([a-zA-Z-]+)", str(GROUP.epilog))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_to_a_file(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" in link or (page.parent / link).exists(), link
