"""`kaglaunch debug-prints`: list unconditional debug output, rewrite it, put it back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import typer

from kernel.contract import typed
from launcher.commands.say import say
from launcher.debug_prints import scan
from launcher.debug_prints.scan import Finding, Scan, Skipped
from launcher.documents import printed
from launcher.documents.debug_prints import (
    DebugPrint,
    DebugPrints,
    FixedDebugPrints,
    RestoredFiles,
    SkippedFile,
    TreatedPrint,
)
from launcher.errors import Refused


def debug_prints(path: Path, *, fix: bool, restore: bool, fail: bool, as_json: bool) -> None:
    """List the findings below `path`, or with `fix` rewrite them, or with `restore` put the originals back.

    Raises
    ------
    ConfigError
        `path` does not exist, or what the store says cannot be read.
    Refused
        With `fail`, something was found; with `restore`, a file was changed after the fix.
    """
    if fix:
        _fix(path, as_json)
    elif restore:
        _restore(path, as_json)
    else:
        _list(path, fail, as_json)


def _list(path: Path, fail: bool, as_json: bool) -> None:
    found = scan.scan(path)
    if as_json:
        findings = tuple(DebugPrint(**_told(finding)) for finding in found.findings)
        typer.echo(printed.text(DebugPrints(files=found.files, findings=findings, skipped=_skipped(found.skipped))))
    else:
        for finding in found.findings:
            say(str(finding))
        _tell(found.skipped)
        say(summary(path, found))
    if fail and found.findings:
        raise Refused(
            f"{path} was to hold no unconditional debug output; it holds {_count(len(found.findings), 'such print')}.\n"
            f"`kaglaunch debug-prints {path} --fix` turns them into logger.debug; `--restore` takes that back."
        )


def summary(path: Path, found: Scan) -> str:
    """The last line of a listing."""
    skipped = f" {_count(len(found.skipped), 'file')} skipped." if found.skipped else ""
    if not found.findings:
        return f"No unconditional debug output in {_count(found.files, 'file')}.{skipped}"
    rules = ", ".join(f"{count} {rule}" for rule, count in Counter(f.rule for f in found.findings).most_common())
    floor = sum(f.lines for f in found.findings if f.per == "timestep" and not f.at_most)
    steady = f", {_count(floor, 'line')} or more per timestep" if floor else ""
    files = len({finding.path for finding in found.findings})
    return (
        f"{_count(len(found.findings), 'print')} in {files} of {_count(found.files, 'file')} "
        f"({rules}){steady}.{skipped} `kaglaunch debug-prints {path} --fix` turns them into logger.debug."
    )


def _fix(path: Path, as_json: bool) -> None:
    from launcher.debug_prints import store

    done = store.fix(path)
    if as_json:
        treated = tuple(TreatedPrint(**_told(o.finding), done=o.done or "left", reason=o.left) for o in done.outcomes)
        written = tuple(str(file) for file in done.written)
        typer.echo(printed.text(FixedDebugPrints(findings=treated, skipped=_skipped(done.skipped), written=written)))
        return
    for outcome in done.outcomes:
        what = outcome.done or f"left as it is, {outcome.left}"
        if outcome.done == "removed":
            what = "removed, compiled code has no logger"
        say(f"{outcome.finding.path}:{outcome.finding.line}: {what}: {outcome.finding.text}")
    _tell(done.skipped)
    counts = Counter(outcome.done for outcome in done.outcomes)
    if not done.written:
        left = f" {_count(counts[''], 'print')} left as said above." if counts[""] else ""
        say(f"Nothing to rewrite in {path}.{left}")
        return
    removed = f", {counts['removed']} removed from compiled code" if counts["removed"] else ""
    left = f", {counts['']} left as said above" if counts[""] else ""
    say(
        f"{_count(counts['rewritten'], 'print')} in {_count(len(done.written), 'file')} rewritten to logger.debug"
        f"{removed}{left}. Originals are in {done.store}; `kaglaunch debug-prints {path} --restore` puts them back."
    )


def _restore(path: Path, as_json: bool) -> None:
    from launcher.debug_prints import store

    done = store.restore(path)
    if as_json:
        restored = tuple(str(file) for file in done.restored)
        typer.echo(printed.text(RestoredFiles(restored=restored, refused=_skipped(done.refused))))
    elif done.restored:
        say(f"{_count(len(done.restored), 'file')} restored byte for byte.")
    elif not done.refused:
        say(f"Nothing to restore: no file below {path} is in {done.store}.")
    if done.refused:
        named = "\n".join(f"  {entry.path}: {entry.reason}" for entry in done.refused)
        raise Refused(
            f"{_count(len(done.refused), 'file')} of those to restore cannot be without losing something:\n{named}\n"
            f"They were left alone, and their originals stay in {done.store}.\n"
            "Copy the original over a file by hand and type `--restore` again, or keep the file and remove that folder."
        )


def _tell(skipped: list[Skipped]) -> None:
    for entry in skipped:
        say(str(entry), err=True)


def _told(finding: Finding) -> dict[str, Any]:
    """The fields of its document."""
    return {name: getattr(finding, name) for name in typed.hints_of(DebugPrint)} | {"path": str(finding.path)}


def _skipped(skipped: list[Skipped]) -> tuple[SkippedFile, ...]:
    return tuple(SkippedFile(path=str(entry.path), reason=entry.reason) for entry in skipped)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
