"""Output that would flood the log: what stands in the sources, and what the trial really printed."""

from __future__ import annotations

from pathlib import Path

from kernel.contract.checks import Check, failed, passed, warned

NAME = "debug-prints"
MAX_LINES_PER_S = 100.0
EVERY_TIMESTEP = 0.5
"""Lines a timestep from which on each timestep is taken to print, whatever this machine makes of it in a second: the
session's is another, and this one may be busy. A trial plays hundreds of timesteps, so what it prints once is less."""
_SHOWN = 3


def check(folder: Path, lines_per_timestep: float | None, steps_per_s: float | None) -> Check:
    """Judge the sources below `folder`, and the trial's output where there was one."""
    from launcher.debug_prints import scan

    found = scan.scan(folder)
    steady = [finding for finding in found.findings if finding.rule != "loop"]
    shown = "; ".join(
        f"{finding.path.relative_to(folder)}:{finding.line} {finding.text} ({finding.estimate})"
        for finding in (steady or found.findings)[:_SHOWN]
    )
    more = f"; and {len(found.findings) - _SHOWN} more" if len(found.findings) > _SHOWN else ""
    fix = "`kaglaunch debug-prints --fix` turns them into logger.debug, and --restore puts them back."
    rate = (lines_per_timestep or 0.0) * (steps_per_s or 0.0)
    if rate > MAX_LINES_PER_S or (lines_per_timestep or 0.0) >= EVERY_TIMESTEP:
        return failed(
            NAME,
            f"The trial printed {lines_per_timestep:.3g} lines a timestep, {rate:,.0f} lines/s"
            + (f": {shown}{more}." if shown else "."),
            fix,
        )
    if steady:
        return failed(NAME, f"{shown}{more}.", fix)
    if found.findings:
        return warned(NAME, f"Prints in loops: {shown}{more}.", fix)
    printed = "" if lines_per_timestep is None else f", and the trial printed {lines_per_timestep:.2g} lines a timestep"
    return passed(NAME, f"None in {found.files} files{printed}.")
