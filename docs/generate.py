"""Write the generated pages of docs/, or with --check fail when one is stale.

Run as `python -m docs.generate`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
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


PAGES: dict[str, Callable[[], str]] = {"cli.md": cli_page}


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
