"""Hands the rows of a replay buffer to the writer while they are still in it: a little at a time, never all at once."""

from __future__ import annotations

from kernel.training.learner import Learner, Rows
from kernel.training.replay_store import ReplayStore
from kernel.training.row_packing import row_bytes
from kernel.training.writer import CheckpointWriter

PORTION_BYTES = 4 << 20
"""Copied at once: a millisecond or two of the trainer's time."""
PORTIONS_AT_ONCE = 4
"""Copied for a checkpoint without waiting for the writer."""


class RowFeed:
    """Knows which rows the writer has, and copies those that it has not."""

    def __init__(self, learner: Learner, store: ReplayStore, writer: CheckpointWriter) -> None:
        self._learner, self._store, self._writer = learner, store, writer
        self._handed_out = self._at_checkpoint = store.rows
        self._portion = max(1, PORTION_BYTES // max(1, row_bytes(learner.copy_rows(0, 0))))

    @property
    def fills_up(self) -> bool:
        """Whether half the buffer is new since the last checkpoint: more could be written over, or fill the disk."""
        new = self._learner.rows_done - self._at_checkpoint
        return new > 1 and 2 * new >= self._learner.buffer_size

    def offer(self) -> None:
        """Hand over a portion if there is one and the writer has nothing to do; never waits."""
        if self._learner.rows_done - self._handed_out >= self._portion and self._writer.is_idle:
            self._writer.put_rows(self._next(self._portion))

    def rest(self) -> Rows:
        """All that the writer has not got, for a checkpoint; more than some portions go ahead, and are waited for."""
        for first, last in self._store.missing:
            if first >= self._learner.rows_done - self._learner.buffer_size:
                self._writer.put_rows(self._learner.copy_rows(first, last), again_from=first)
        while self._learner.rows_done - self._handed_out > PORTIONS_AT_ONCE * self._portion:
            self._writer.put_rows(self._next(self._portion))
        self._at_checkpoint = self._learner.rows_done
        return self._next(PORTIONS_AT_ONCE * self._portion)

    def _next(self, most: int) -> Rows:
        first = self._handed_out
        self._handed_out = min(first + most, self._learner.rows_done)
        return self._learner.copy_rows(first, self._handed_out)
