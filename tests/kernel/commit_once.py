"""Write one checkpoint beside an older one, for a tracer to kill at a chosen system call.

python commit_once.py FOLDER ours|aside|stable-baselines3 SOURCE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Do it; the marker lines let the tracer tell the commit from the rest."""
    folder, how, source = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    if how == "stable-baselines3":
        from stable_baselines3 import PPO

        model = PPO.load(source, device="cpu")
        os.write(2, b"begin\n")
        model.save(folder / "checkpoint_t20.zip")
    else:
        from kernel.checkpoints import checkpoint

        data = source.read_bytes()
        if how == "aside":
            del os.O_TMPFILE
        os.write(2, b"begin\n")
        checkpoint.write_new(folder / "checkpoint_t20.zip", data)
    os.write(2, b"end\n")


if __name__ == "__main__":
    main()
