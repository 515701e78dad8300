"""How sessions end: each word with its meaning, the exit code that it makes, and what to do then.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from kernel.contract.record import Record

FINISHED, STOPPED_BY_ALERT, KERNEL_FAILED, CUT = 0, 4, 5, 6
"""Exit codes of a command that followed a session to its end."""


class About(Record):
    """What an ending means."""

    meaning: str
    exit_code: int
    """Of a command that followed the session to it."""
    remedy: str
    """What to type then; `{run}` stands for the run's name."""
    by_kernel: bool = True
    """Whether the kernel says it itself: its last checkpoint is published then, if it could be."""


class Ending(StrEnum):
    """How a session ended: the kernel's own word in its `result`, or what the platform says where there is none."""

    finished = "finished"
    deadline = "deadline"
    stopped = "stopped"
    flood = "flood"
    unhealthy = "unhealthy"
    crashed = "crashed"
    cut = "cut"
    cancelled = "cancelled"
    failed = "failed"
    silent = "silent"
    deleted = "deleted"
    never_ran = "never_ran"

    @property
    def about(self) -> About:
        """Its meaning, exit code and remedy."""
        return _ABOUT[self]

    def remedy_for(self, run_id: str) -> str:
        """What to type after it."""
        return self.about.remedy.format(run=run_id)


_GO_ON = "Nothing published is lost: go on with `kaglaunch resume {run}`."
_READ = "Read `kaglaunch logs {run}`. Nothing published is lost: go on with `kaglaunch resume {run}`."
_ABOUT: Mapping[Ending, About] = {
    Ending.finished: About("All timesteps are done.", FINISHED, "Bring it here: `kaglaunch fetch-checkpoints {run}`."),
    Ending.deadline: About(
        "The session limit came near: it wrote a last checkpoint, published it and ended.", CUT, _GO_ON
    ),
    Ending.stopped: About("It was asked to end, and did so after a last checkpoint.", CUT, _GO_ON),
    Ending.flood: About(
        "The trainer printed more than a log may take; it was stopped after a last checkpoint.",
        STOPPED_BY_ALERT,
        "Find the output with `kaglaunch debug-prints`, then go on with `kaglaunch resume {run}`.",
    ),
    Ending.unhealthy: About(
        "The training is worthless as it is: its health rules say why.",
        STOPPED_BY_ALERT,
        "Read `kaglaunch logs {run}`, and start a mended run with `kaglaunch push`.",
    ),
    Ending.crashed: About("The trainer crashed for good, or cannot train this.", KERNEL_FAILED, _READ),
    Ending.cut: About("It was cut off by the platform: its outputs and its log are gone there.", CUT, _GO_ON, False),
    Ending.cancelled: About("It was cancelled: its outputs and its log are gone there.", CUT, _GO_ON, False),
    Ending.failed: About("The platform says that it failed, and it left no result.", KERNEL_FAILED, _READ, False),
    Ending.silent: About("The kernel ended in order, and nothing that it left says how.", KERNEL_FAILED, _READ, False),
    Ending.deleted: About("Its kernel is not on the platform any more.", CUT, _GO_ON, False),
    Ending.never_ran: About("The platform took the kernel and never ran it.", KERNEL_FAILED, _GO_ON, False),
}

BY_KERNEL = tuple(ending for ending in Ending if ending.about.by_kernel)
"""The words that a `result` has."""


def ending_of(word: str) -> Ending | None:
    """The ending that a kernel's word means; None for an empty one, and for one of a newer kernel."""
    return Ending(word) if word in BY_KERNEL else None


def table() -> Iterator[str]:
    """Lines of the table of endings in docs/events.md."""
    yield "| ending | who says it | meaning | exit code | then |"
    yield "|---|---|---|---|---|"
    for one in Ending:
        about = one.about
        who = "kernel" if about.by_kernel else "launcher"
        yield f"| `{one}` | {who} | {about.meaning} | {about.exit_code} | {one.remedy_for('RUN')} |"
