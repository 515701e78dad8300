"""The machine of one session: runs the script, keeps its log as events, writes down how it ended.

A process of its own, so that a session outlives a restart of the server. `python -m launcher.local_kaggle.runner
SESSION_FOLDER` reads `runner.json` ({"environ", "python"}) there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from launcher.local_kaggle.paths import write_aside

LONGEST_LINE = 1 << 20


def main(folder: Path) -> int:
    """Run the session in `folder` to its end."""
    plan = json.loads((folder / "runner.json").read_text(encoding="utf-8"))
    began = time.monotonic()
    lock = threading.Lock()
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:

        def copy(stream: IO[bytes], name: str) -> None:
            while raw := stream.readline(LONGEST_LINE):
                event = {"stream_name": name, "time": round(time.monotonic() - began, 6)}
                line = json.dumps({**event, "data": raw.decode("utf-8", "replace")})
                with lock:
                    log.write(line + "\n")
                    log.flush()

        child = subprocess.Popen(
            [plan["python"], str(folder / "kaggle" / "src" / "script.py")],
            cwd=folder / "kaggle" / "working",
            env=plan["environ"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        write_aside(folder / "group.json", json.dumps({"pid": child.pid}).encode())
        assert child.stdout is not None
        assert child.stderr is not None
        readers = [
            threading.Thread(target=copy, args=(child.stdout, "stdout"), daemon=True),
            threading.Thread(target=copy, args=(child.stderr, "stderr"), daemon=True),
        ]
        for reader in readers:
            reader.start()
        returncode = child.wait()
        # A process that left the group may hold the pipe open for ever; the session is over all the same.
        for reader in readers:
            reader.join(timeout=2.0)
        with lock:
            log.flush()
            os.fsync(log.fileno())
        write_aside(folder / "exit.json", json.dumps({"returncode": returncode}).encode())
    # A reader that still waits on a pipe must not keep this process.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
