"""Write the generated pages of docs/, or with --check fail when one is stale.

Run as `python -m docs.generate`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def cli_page() -> str:
    """docs/cli.md: the help of every command, as `kaglaunch … --help` prints it."""
    import typer
    from typer.testing import CliRunner

    from launcher.cli import app

    runner = CliRunner(env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})
    parts = ["# Command line\n", "Written by `make docs` from `--help`; `make check` fails when it is stale.\n"]

    def add(path: list[str]) -> None:
        text = runner.invoke(app, [*path, "--help"], prog_name="kaglaunch", terminal_width=100).output
        parts.append(f"## {' '.join(['kaglaunch', *path])}\n\n```text\n{text.strip()}\n```\n")

    def walk(command: object, path: list[str]) -> None:
        add(path)
        for name, child in sorted(getattr(command, "commands", {}).items()):
            walk(child, [*path, name])

    walk(typer.main.get_command(app), [])
    return "\n".join(parts)


def embedded_kaggle_page() -> str:
    """docs/embedded-kaggle.md with its tables of faults and settings as the code has them."""
    from launcher.local_kaggle.faults import KINDS
    from launcher.local_kaggle.settings import Settings

    faults = ["| fault | what it does | fields and defaults | example |", "|---|---|---|---|"]
    for kind in KINDS:
        defaults = ", ".join(
            f"{name} = {json.dumps(value)}" for name, value in {**kind.fields, "times": kind.times}.items()
        )
        faults.append(f"| `{kind.name}` | {kind.does} | {defaults} | `{json.dumps(kind.example)}` |")
    settings = ["| setting | default |", "|---|---|"]
    settings += [f"| `{field.name}` | {json.dumps(getattr(Settings(), field.name))} |" for field in fields(Settings)]
    text = (FOLDER / "embedded-kaggle.md").read_text(encoding="utf-8")
    return _between(_between(text, "faults", faults), "settings", settings)


def json_page() -> str:
    """docs/json.md with the documents that `--json` prints, as the code has them."""
    from launcher.documents import schema

    text = (FOLDER / "json.md").read_text(encoding="utf-8")
    return _between(text, "documents", [*schema.page()][:-1])


def events_page() -> str:
    """docs/events.md with every event and ending, as the contract has them."""
    from kernel.contract import endings, events

    text = (FOLDER / "events.md").read_text(encoding="utf-8")
    return _between(_between(text, "endings", [*endings.table()]), "events", [*events.page()][:-1])


def faults_page() -> str:
    """docs/faults.md: what goes wrong and what then happens, as the tests try it."""
    from tests.launcher import faults

    return "\n".join(faults.page()) + "\n"


def _between(text: str, name: str, rows: list[str]) -> str:
    """`text` with `rows` between the marks of `name`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, _, rest = text.partition(begin)
    return head + begin + "\n".join(rows) + "\n" + end + rest.partition(end)[2]


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "embedded-kaggle.md": embedded_kaggle_page,
    "events.md": events_page,
    "faults.md": faults_page,
    "json.md": json_page,
}


def main(argv: list[str]) -> int:
    """Write or check every page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(argv).check
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
        elif not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run `make docs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
