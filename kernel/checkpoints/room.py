"""Whether a disk has room for a run: judged before it is trained.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.contract.checks import Check, failed, passed, warned

NAME = "disk"
REPLAY_BUFFERS = 2.2
"""What chunks take at the most, in those of one full buffer: two checkpoints' of half a buffer apart, the one that is
being written, and the chunks that each of them begins and ends in."""
OTHERS = 6
"""Checkpoints without their buffer that there are at the least: the newest three, the best, the published, the next."""


@dataclass(frozen=True)
class Takes:
    """What a run takes of a disk."""

    checkpoint_bytes: int
    """A checkpoint without its replay buffer [B]."""
    replay_bytes: int = 0
    """A full replay buffer in memory [B]; 0 without one."""
    stored_share: float = 1.0
    """What part of it its chunks are, as measured: what repeats is stored once."""

    @property
    def likely_bytes(self) -> int:
        """What it comes to where the rest is as what was measured [B]."""
        return OTHERS * self.checkpoint_bytes + int(REPLAY_BUFFERS * self.replay_bytes * self.stored_share)

    @property
    def most_bytes(self) -> int:
        """What it comes to where nothing repeats [B]."""
        return OTHERS * self.checkpoint_bytes + int(REPLAY_BUFFERS * self.replay_bytes)


def judge(takes: Takes, budget_bytes: int, buffer_size: int) -> Check:
    """Whether `budget_bytes` are enough, for a replay buffer of `buffer_size`; if not, which one fits."""
    there = f"{gigabytes(budget_bytes)} are there for them"
    if not takes.replay_bytes:
        each = f"Checkpoints of {gigabytes(takes.checkpoint_bytes)} each, without a replay buffer"
        if takes.most_bytes <= budget_bytes:
            return passed(NAME, f"{each}; {there}.")
        fix = "A smaller policy has smaller checkpoints; disk_gb is what they may take."
        return failed(NAME, f"{each}; {there}, and the newest ones alone are more.", fix)
    buffers = f"A replay buffer of {gigabytes(takes.replay_bytes)} and its checkpoints take"
    likely, most = gigabytes(takes.likely_bytes), gigabytes(takes.most_bytes)
    if takes.most_bytes <= budget_bytes:
        return passed(NAME, f"{buffers} up to {most} of the disk; {there}.")
    sure = _fits(buffer_size, takes.most_bytes, budget_bytes)
    if takes.likely_bytes <= budget_bytes:
        return warned(
            NAME,
            f"{buffers} about {likely} of the disk, {most} where nothing repeats; {there}.",
            f"buffer_size = {sure} fits in any case. On a full disk older checkpoints go, and it is tried again.",
        )
    fits = _fits(buffer_size, takes.likely_bytes, budget_bytes)
    return failed(NAME, f"{buffers} about {likely} of the disk; {there}.", f"buffer_size = {fits} fits.")


def _fits(buffer_size: int, taken: int, budget_bytes: int) -> int:
    """To two digits."""
    fit = buffer_size * max(0, budget_bytes) // max(1, taken)
    digits = max(0, len(str(fit)) - 2)
    return max(1, fit // 10**digits * 10**digits)


def gigabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
