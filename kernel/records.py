"""State digests of every checkpoint that a run wrote, newest last; they outlive the checkpoints themselves.

Standard library only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

DIGESTS = "digests.jsonl"


def append_digest(folder: Path, num_timesteps: int, digest: str) -> None:
    """Record one more."""
    with (folder / DIGESTS).open("a", encoding="utf-8") as file:
        file.write(_line(num_timesteps, digest))
        file.flush()
        os.fsync(file.fileno())


def read_digests(folder: Path) -> dict[int, str]:
    """State digests by timestep that `folder` recorded; a torn line is left out."""
    try:
        lines = (folder / DIGESTS).read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found: dict[int, str] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[int(entry["num_timesteps"])] = str(entry["state_digest"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def add_published(folder: Path, index: Path) -> None:
    """Take over the digests that a published `index.json` lists, without replacing ours."""
    try:
        published = json.loads(index.read_text("utf-8")).get("digests", {})
        entries = {int(t): str(digest) for t, digest in published.items()}
    except (OSError, ValueError, AttributeError):
        return
    ours = read_digests(folder)
    text = "".join(_line(t, digest) for t, digest in sorted({**entries, **ours}.items()))
    aside = folder / f".{DIGESTS}.tmp"
    aside.write_text(text, "utf-8")
    os.replace(aside, folder / DIGESTS)


def _line(num_timesteps: int, digest: str) -> str:
    return json.dumps({"num_timesteps": num_timesteps, "state_digest": digest}) + "\n"
