"""Everything the trainer printed, compressed, in pieces: the first and the newest stay, the middle of a flood goes.

    trainer.log        the newest part, plain
    trainer.log.1.gz   the first piece, trainer.log.2.gz the second, …

Standard library only.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
from pathlib import Path

from kernel.contract.names import TRAINER_LOG

logger = logging.getLogger(__name__)

PIECE_BYTES = 8_000_000
MAX_BYTES = 50_000_000
"""Compressed pieces together."""
FIRST_PIECES = 2
"""What happened before a flood is what is looked for after it."""


class FullLog:
    """Append bytes; rotate and compress by size; never raise for a full disk."""

    def __init__(self, folder: Path, piece_bytes: int = PIECE_BYTES, max_bytes: int = MAX_BYTES) -> None:
        self._path = folder / TRAINER_LOG
        self._piece_bytes = piece_bytes
        self._max_bytes = max_bytes
        self._failed = False
        self._file = self._path.open("ab")
        self._size = self._file.tell()

    def write(self, data: bytes) -> None:
        """Append `data`."""
        try:
            self._file.write(data)
            self._size += len(data)
            if self._size >= self._piece_bytes:
                self._rotate()
        except OSError as error:
            if not self._failed:
                self._failed = True
                logger.warning("The full log cannot be written any more: %s", error)

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        with contextlib.suppress(OSError):
            self._file.flush()

    def close(self) -> None:
        """End the file."""
        with contextlib.suppress(OSError):
            self._file.close()

    def pieces(self) -> list[Path]:
        """Compressed pieces, oldest first."""
        found = self._path.parent.glob(f"{TRAINER_LOG}.*.gz")
        numbered = [(int(part), path) for path in found if (part := path.name.split(".")[-2]).isdigit()]
        return [path for _, path in sorted(numbered)]

    def _rotate(self) -> None:
        self._file.close()
        pieces = self.pieces()
        number = int(pieces[-1].name.split(".")[-2]) + 1 if pieces else 1
        data = self._path.read_bytes()
        self._path.with_name(f"{TRAINER_LOG}.{number}.gz").write_bytes(gzip.compress(data, 1))
        self._file = self._path.open("wb")
        self._size = 0
        self._drop_middle()

    def _drop_middle(self) -> None:
        pieces = self.pieces()
        total = sum(path.stat().st_size for path in pieces)
        for path in pieces[FIRST_PIECES:-1]:
            if total <= self._max_bytes:
                return
            total -= path.stat().st_size
            path.unlink()
