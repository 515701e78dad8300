"""Output that would flood a log: where it stands, and what became of it."""

from __future__ import annotations

from kernel.contract.record import Record


class DebugPrint(Record):
    """One print that runs without being asked to."""

    path: str
    """The file."""
    line: int
    """Where the call begins."""
    rule: str
    """Why it is one: see debug-prints.md."""
    text: str
    """The first line of the call."""
    lines: int
    """Lines of output for each `per`."""
    per: str
    """timestep, episode, iteration, call, thread or import."""
    at_least: bool
    """Whether more may come."""
    at_most: bool
    """Whether a condition on data may hold it back."""
    lines_per_timestep: int | None
    """The estimate; null where nothing ties it to timesteps."""
    basis: str
    """What the estimate rests on."""
    compiled: bool
    """Whether it stands in jitted code."""


class TreatedPrint(DebugPrint):
    """One such print, and what became of it."""

    done: str
    """rewritten, removed or left."""
    reason: str
    """Why it was left; empty otherwise."""


class SkippedFile(Record):
    """A file that nothing could be done with."""

    path: str
    """The file."""
    reason: str
    """Why."""


class DebugPrints(Record):
    """The debug output of a tree."""

    files: int
    """How many were looked into."""
    findings: tuple[DebugPrint, ...]
    """Unconditional debug output."""
    skipped: tuple[SkippedFile, ...]
    """Files that cannot be read as Python."""


class FixedDebugPrints(Record):
    """The debug output of a tree, turned into logging."""

    findings: tuple[TreatedPrint, ...]
    """What was found, and what became of each."""
    skipped: tuple[SkippedFile, ...]
    """Files that cannot be read as Python."""
    written: tuple[str, ...]
    """Files that were rewritten."""


class RestoredFiles(Record):
    """A tree whose debug output was put back."""

    restored: tuple[str, ...]
    """Files that are as before, byte for byte."""
    refused: tuple[SkippedFile, ...]
    """Files that are not."""
