"""How much training is at risk at most: what is done until the next publish ends, by what publishes really took.

taken up ── publish ──│── interval ──│── publish ──│    all of that, and what the next checkpoint lies behind
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kernel.contract.checks import Check, passed, warned
from launcher.runs.records import Session
from launcher.tables import duration

NAME = "at-risk"
CHECKPOINT_S = 60.0
"""Between two checkpoints, as a session is told where nobody asks for another time."""
RECENT = 5
"""Sessions that are looked at: a network does not stay as it was."""
MUCH_S = 1_800.0


@dataclass(frozen=True)
class Publish:
    """The largest publish of a session, as it was measured."""

    bytes: int
    seconds: float
    """From its staging to being ready [s]."""
    run_id: str

    def seconds_of(self, size: int) -> float:
        """What one of `size` bytes takes at the most [s]: all of its time is taken for sending."""
        return self.seconds * max(1.0, size / max(1, self.bytes))


def measured(sessions: Iterable[Session]) -> Publish | None:
    """The largest of the publishes of the last sessions that have one; `sessions` newest first."""
    known = [
        Publish(session.publish_bytes, session.publish_s, session.run_id)
        for session in sessions
        if session.publish_bytes and session.publish_s
    ]
    return max(known[:RECENT], key=lambda one: one.bytes, default=None)


def most_s(publish_s: float, interval_s: float, checkpoint_s: float = CHECKPOINT_S) -> float:
    """Work that a kill can cost [s], where publishes take `publish_s` and begin `interval_s` after the one before."""
    return 2 * publish_s + max(interval_s, 2 * publish_s) + checkpoint_s


def judge(publish: Publish | None, size: int, row_bytes_per_s: float, interval_s: float, timesteps: int) -> Check:
    """How many minutes are at risk at most, for checkpoints of `size` bytes and so many new bytes of a replay buffer.

    `timesteps` is `max_timesteps_at_risk`.
    """
    if timesteps:
        return passed(NAME, f"At most {timesteps:,} timesteps: then the training waits for a publish.")
    if publish is None or not size:
        what = "no publish of this account was seen here yet" if publish is None else "no checkpoint was measured here"
        bound = f"{duration(interval_s)}, two publishes and one checkpoint interval"
        return passed(NAME, f"At most {bound}; how long that is is not known: {what}.")
    sent = size + int(row_bytes_per_s * interval_s)
    seconds = publish.seconds_of(sent)
    most = most_s(seconds, interval_s)
    said = (
        f"At most {duration(most)} of training: {sent / 1e6:,.1f} MB take {duration(seconds)} to publish, as "
        f"{publish.bytes / 1e6:,.1f} MB of run {publish.run_id} took {duration(publish.seconds)}."
    )
    if most <= max(MUCH_S, 3 * interval_s):
        return passed(NAME, said)
    return warned(
        NAME, said, "A smaller policy or buffer_size has less to send; `max_timesteps_at_risk` waits instead."
    )
