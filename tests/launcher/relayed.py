"""A run whose sessions take an instant: each leaves one checkpoint, 25 timesteps on, and says that its time was up.

python relayed.py    relays it, as `kaglaunch relay` does, in a process that a test can kill
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from kernel.contract.config import Configuration, RunConfig
from kernel.contract.manifest import MANIFEST, Manifest, Member
from launcher.packing import bundle
from launcher.packing.bundle import Bundle
from launcher.runs import continuation

RUN_ID = "quick-relays"
CONFIG = RunConfig(RUN_ID, 100, 25)
STEP = 25

SCRIPT = """
import base64, json, os, pathlib, time
def say(event, **fields):
    print("@kaglaunch " + json.dumps({{"event": event, "schema": 1, "time": 0.1, **fields}}), flush=True)
number = {number}
say("session", session_id=int(os.environ["KAGGLE_CONTAINER_NAME"].split("-")[-2]), session=number)
path = pathlib.Path("checkpoints")
path.mkdir()
for name, data in json.loads({files!r}).items():
    (path / name).write_bytes(base64.b85decode(data))
time.sleep({seconds})
say("result", status={status!r})
"""


def checkpoint(num_timesteps: int) -> bytes:
    """A whole checkpoint of the run."""
    data = f"state at {num_timesteps}".encode()
    digest = hashlib.sha256(data).hexdigest()
    members = {"kaglaunch/state.bin": Member(len(data), digest)}
    manifest = Manifest(RUN_ID, 1, num_timesteps, CONFIG.total_timesteps, CONFIG.digest, members, state_digest=digest)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("kaglaunch/state.bin", data)
        archive.writestr(MANIFEST, manifest.to_json())
    return buffer.getvalue()


class Sessions:
    """What the sessions of the run do; put in the place of `bundle.build` and of the upload."""

    def __init__(self, folder: Path, *, seconds: float = 0.0, status: str = "deadline", gain: int = STEP) -> None:
        self.folder, self.seconds, self.status, self.gain = folder, seconds, status, gain

    def build(self, config: Configuration, project: Any = None, **_: Any) -> Bundle:
        """The script of one session, which goes on from the newest checkpoint that was fetched."""
        here = [int(path.stem.split("_t")[1]) for path in self.folder.rglob("checkpoint_t*.zip")]
        reached = max(here, default=0) + self.gain
        files = {f"checkpoint_t{reached}.zip": base64.b85encode(checkpoint(reached)).decode()} if self.gain else {}
        status = "finished" if reached >= CONFIG.total_timesteps else self.status
        values = {"number": config.session.session, "files": json.dumps(files), "seconds": self.seconds}
        return Bundle(SCRIPT.format(**values, status=status).encode(), {})

    def put_in_place(self, monkeypatch: Any) -> None:
        """Replace what packs and what uploads."""
        monkeypatch.setattr(bundle, "build", self.build)
        monkeypatch.setattr(continuation.hand_over, "hand_over", lambda *_, **__: None)


class _Replaced:
    def setattr(self, module: Any, name: str, value: Any) -> None:
        setattr(module, name, value)


def main(folder: Path) -> int:
    """Relay the newest run; its sessions last long enough to be killed in."""
    from launcher.cli import main as command

    Sessions(folder, seconds=0.3).put_in_place(_Replaced())
    return command(["relay"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
