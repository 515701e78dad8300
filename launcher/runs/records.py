"""What the ledger holds: runs, their sessions and relays, and where everything of a run lies.

The only module that joins those paths.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from kernel.contract import names
from kernel.contract.config import RunConfig, canonical_json, from_mapping
from kernel.contract.record import Record
from launcher.errors import ConfigError

HERE = "here"
"""Target of a session that runs on this machine, outside of any Kaggle."""
TAG = re.compile(r"[\w.:/+=@-]{1,40}")
ENDED = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED", "NEW_SCRIPT", "DELETED")
"""States after which a session does nothing more."""


class Run(Record):
    """One training, on one target, with everything of it in one folder."""

    run_id: str
    target: str
    username: str
    created: float
    folder: Path
    config_json: str
    note: str = ""
    """What its owner wrote down about it."""
    tags: tuple[str, ...] = ()
    """Words that its owner finds it by."""

    @property
    def config(self) -> RunConfig:
        """What the run trains."""
        return from_mapping(RunConfig, json.loads(self.config_json))

    @property
    def dataset(self) -> str:
        """`owner/slug` of the dataset that takes the run's checkpoints."""
        return f"{self.username}/{names.dataset_slug(self.run_id)}"

    @property
    def pushed_from(self) -> Path:
        """The folder whose run it is: a command without a name acts on the newest of the folder it is typed in."""
        return self.folder.parent.parent

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints that were brought back."""
        return self.folder / names.CHECKPOINTS

    @property
    def project(self) -> Path:
        """Folder of the researcher's own files, as the first session packed them."""
        return self.folder / "project"

    def slug(self, session: int) -> str:
        """The kernel of one session; never pushed twice."""
        return names.kernel_slug(self.run_id, session)

    def log(self, session: int) -> Path:
        """The whole log of one session, as far as it was seen."""
        return self.folder / f"session-{session}.log"

    def script(self, session: int) -> Path:
        """The kernel script of one session, as it was pushed."""
        return self.folder / f"session-{session}.py"

    def output(self, session: int) -> Path:
        """What a session on this machine prints, as it prints it."""
        return self.folder / f"session-{session}.output"

    @property
    def result(self) -> Path:
        """How the last session on this machine says that it ended."""
        return self.folder / names.RESULT

    @property
    def here_lock(self) -> Path:
        """Held by the session that runs on this machine."""
        return self.folder / "here.lock"

    @property
    def relay_lock(self) -> Path:
        """Held by the relay that is at work."""
        return self.folder / "relay.lock"

    @property
    def logs_lock(self) -> Path:
        """Held for the instant in which a kept log is replaced."""
        return self.folder / "logs.lock"

    @property
    def fetch_lock(self) -> Path:
        """Held by whoever fetches a checkpoint of the run."""
        return self.folder / "fetch.lock"

    @property
    def temporary(self) -> Path:
        """Where a session on this machine unpacks itself."""
        return self.folder / "here-temporary"

    def record(self, session: int) -> Path:
        """The configuration that one session was pushed with, its checks and its plan."""
        return self.folder / f"session-{session}.json"


class Session(Record):
    """One kernel execution of a run, and what is known of it."""

    run_id: str
    number: int
    device: str
    accelerator: str
    max_seconds: float
    max_timesteps_at_risk: int
    publish_interval_seconds: float
    pushed: float
    script_sha256: str
    submission: str
    """`pushing`, `pushed`, `unknown` (the answer was lost) or `absent` (looked for in vain: it was not taken)."""
    status: str
    """The platform's last known state; empty while it was never asked."""
    message: str
    session_id: int | None
    resumed_timesteps: int | None
    seen_timesteps: int | None
    """Furthest timestep that the log told."""
    published_timesteps: int | None
    """Furthest timestep known to be in a dataset version."""
    result: str
    """The kernel's own word: finished, deadline, flood, unhealthy, crashed, stopped; empty without one."""
    alert_rule: str
    """Rule of the alert that it was ended for, by its kernel or from here; empty without one."""
    alert_message: str
    """What that alert found."""
    target: str
    """Where it runs: the run's target, or HERE."""
    code_digest: str
    """sha256 of what it runs, its configuration apart; empty where nobody here knows."""
    config_digest: str
    """`RunConfig.digest` that it was pushed with; empty where nobody here knows."""
    trains_on: str
    """Device that its log told; empty before that."""
    seen_at: float
    """When its state and its published timesteps were last seen [s since the epoch]; 0 before that."""
    log_complete: bool
    """Whether its log was followed to its end: only then is known what its end has cost."""
    total_timesteps: int | None
    """What its log told that it trains, whole rollouts; None before that."""
    exactness: str
    """`Exactness` as JSON, as its log told it last; empty before that."""
    most_at_risk: int | None
    """The most timesteps that were at risk at once, as its log told; None before that."""
    most_at_risk_s: float | None
    """The most seconds of work that were."""
    risk_message: str
    """What its kernel said of work at risk far beyond what was asked for; empty where it was published since."""
    publish_bytes: int | None
    """Bytes of its largest publish, as its log told; None before one."""
    publish_s: float | None
    """What that one took [s]."""

    @property
    def over(self) -> bool:
        """Whether it has ended, as far as anybody has seen."""
        return self.submission == "absent" or self.status in ENDED

    @property
    def alert(self) -> str:
        """The alert that it was ended for, in words; empty without one."""
        return f"{self.alert_rule}: {self.alert_message}" if self.alert_rule else ""

    @property
    def here(self) -> bool:
        """Whether it runs on this machine, on no target."""
        return self.target == HERE


class Relay(Record):
    """What a relay of a run was asked for; what it does next is told by the run's sessions."""

    run_id: str
    device: str
    accelerator: str
    max_hours: float
    """Session limit that its sessions ask for, where the quota has as much."""
    state: str
    """`on` until it has ended; an `on` that no process holds was interrupted."""
    note: str
    """What it was about, or why it ended, in words."""
    since: int
    """Sessions after this one are its own."""


def require_tags(tags: Sequence[str]) -> None:
    """Raise ConfigError where one of `tags` is no word that a command could be given."""
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise ConfigError(
                f"A tag must be one word of letters, digits and . _ : / + = @ -, at most 40 of them; got {tag!r}.\n"
                "Several are given one by one; a note takes any text."
            )


def total_timesteps(run: Run, sessions: Sequence[Session]) -> int:
    """Timesteps that `run` really trains, as a session of it told; what was asked for before one has."""
    told = [session.total_timesteps for session in sessions if session.total_timesteps]
    return told[-1] if told else run.config.total_timesteps


def new_run(
    run_id: str,
    target: str,
    username: str,
    config: RunConfig,
    folder: Path,
    *,
    note: str = "",
    tags: Sequence[str] = (),
) -> Run:
    """A run that begins now, its folder below `folder`."""
    config_json = canonical_json(dataclasses.asdict(config))
    return Run(
        run_id, target, username, time.time(), folder / "runs" / run_id, config_json, note, tuple(dict.fromkeys(tags))
    )
