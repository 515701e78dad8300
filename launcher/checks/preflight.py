"""The checklist before a push: every check with its evidence and its fix; one FAIL that nobody waived blocks it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kernel.contract import typed
from kernel.contract.checks import Check, Verdict, failed, passed, warned
from launcher import suggestions
from launcher.checks import account, flood, plan, quota, trial
from launcher.config import RETIRED_ACCELERATORS, Settings
from launcher.documents import pushes
from launcher.errors import BundleError, ConfigError, Refused, SecretFound
from launcher.packing import wheels
from launcher.packing.project import Project
from launcher.runs import exposure
from launcher.runs.exposure import Publish
from launcher.runs.submission import Prepared
from launcher.targets.base import Backend
from launcher.targets.target import Target, TargetName

FIXED = ("credentials", "bundle", "secrets")
"""What no name waives: without them nothing can be pushed, or something would be given away."""
WAIVABLE = (flood.NAME, *trial.NAMES, plan.NAME, exposure.NAME, quota.NAME, "session-slot", "dataset", "accelerator")


class PreflightFailed(Refused):
    """Raised when a check failed that was not waived."""


@dataclass(frozen=True)
class Report:
    """All checks, in their order."""

    checks: tuple[Check, ...]
    waived: tuple[str, ...] = ()
    plan: plan.Plan | None = None
    measured: trial.Measured | None = None
    ends_training: bool = False
    """Whether the training itself would end as its trial did, so that no waiver helps."""
    found: trial.Found = field(default_factory=trial.Found)

    @property
    def blocking(self) -> list[Check]:
        """What keeps it from being pushed."""
        return [check for check in self.checks if check.verdict is Verdict.FAIL and check.name not in self.waived]

    def refuse(self) -> None:
        """Raise PreflightFailed, which names what blocks, and the waivers where they help, when anything does."""
        if not self.blocking:
            return
        names = ", ".join(check.name for check in self.blocking)
        waivers = " ".join(f"--waive {check.name}" for check in self.blocking)
        helps = not self.ends_training and all(check.name in WAIVABLE for check in self.blocking)
        then = f"To push all the same: `{waivers}`." if helps else "Mend what it found, and push again."
        raise PreflightFailed(f"Preflight refuses ({names}): nothing was pushed and nothing was spent.\n{then}")

    def lines(self, *, everything: bool) -> list[str]:
        """The table, or only what is not PASS, with one line of counts."""
        shown = [check for check in self.checks if everything or check.verdict is not Verdict.PASS]
        lines = [_told(check, waived=check.name in self.waived) for check in shown]
        count = {verdict: sum(check.verdict is verdict for check in self.checks) for verdict in Verdict}
        told = ", ".join(f"{number} {verdict.value}" for verdict, number in count.items() if number)
        return [*lines, f"Preflight: {told}."]

    def document(self) -> pushes.Preflight:
        """What `preflight --json` has."""
        plan = self.plan.plain() if self.plan else None
        measured = {} if self.measured is None else typed.plain(self.measured)
        return pushes.Preflight(
            blocked=bool(self.blocking), checks=self.checks, waived=self.waived, plan=plan, measured=measured
        )


def require_names(waived: Iterable[str]) -> tuple[str, ...]:
    """`waived`, each a check that can be.

    Raises
    ------
    ConfigError
        One is not; the message lists those that are.
    """
    names = tuple(dict.fromkeys(waived))
    for name in names:
        if name in FIXED:
            raise ConfigError(f"--waive {name}: this check cannot be waived. Those that can: {', '.join(WAIVABLE)}.")
        if name not in WAIVABLE:
            meant = suggestions.did_you_mean(name, WAIVABLE)
            raise ConfigError(f"--waive {name}: there is no such check.{meant} The valid names: {', '.join(WAIVABLE)}.")
    return names


def run(
    prepared: Prepared,
    project: Project,
    settings: Settings,
    target: Target,
    backend: Backend,
    *,
    waived: Sequence[str] = (),
    note: Callable[[str], None],
    relay: bool = False,
    again: bool = False,
    kills: int = 0,
    publish: Publish | None = None,
) -> Report:
    """Every check on what a push would send.

    With `relay` the plan may take more than one session; `again` repeats a trial that passed before, and with
    `kills` it goes on from so many instants more. `note` is told of
    each thing that may take its time, as it begins. `publish` is what one took before, where that is known.
    """
    kernel, built = prepared.kernel, prepared.bundle
    note(f"Asking {target.place} what the account may do")
    running, credentials = account.active(backend)
    left, unreadable = quota.read(backend) if kernel.accelerator else (None, "")
    with tempfile.TemporaryDirectory(prefix="kaglaunch-bundle-") as temporary:
        folder = Path(temporary).resolve()
        note("Unpacking what would be sent")
        built.unpack(folder / "bundle")
        tried = trial.run(
            prepared.configuration, built.code_digest, folder / "bundle", note=note, again=again, kills=kills
        )
        for name, content in built.members.items():
            if name.endswith(".py") and not name.startswith(wheels.LIBRARIES):
                path = folder / "sources" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        note("Reading the sources for output that floods the log")
        measured = tried.measured
        printed, pace = (measured.lines_per_timestep, measured.steps_per_s) if measured else (None, None)
        prints = flood.check(folder / "sources", printed, pace)
    planned = None
    if measured:
        speed = plan.Speed(
            measured.steps_per_s,
            measured.evaluation_s,
            measured.evaluation_over,
            measured.startup_s,
            f"this machine ({measured.device})",
            measured.longest_pause_s,
        )
        asked = settings.session
        planned = plan.make(
            prepared.configuration.run,
            speed,
            asked.max_hours,
            kernel.accelerator,
            asked.max_timesteps_at_risk,
            asked.silence_s,
        )
    note(f"Asking {target.place} for the dataset of the run")
    checks = (
        credentials,
        _accelerator(kernel.accelerator),
        quota.judge(left, unreadable, kernel.accelerator, settings.session.max_hours),
        account.free_slot(running, kernel.accelerator is not None),
        account.dataset(backend, prepared.configuration.session.dataset),
        passed("bundle", f"{len(kernel.script):,} bytes of script, {len(built.members)} files."),
        _secrets(project, len(built.members), target),
        prints,
        *tried.checks,
        plan.judge(planned, left, relay=relay),
        _at_risk(publish, measured, settings),
    )
    return Report(checks, tuple(waived), planned, measured, tried.ends_training, tried.found)


def not_packed(error: Refused) -> Check:
    """The check that a bundle fails which cannot be made."""
    evidence, _, fix = str(error).partition("\n")
    if isinstance(error, SecretFound):
        return failed("secrets", str(error).rpartition("\n")[0], fix.rpartition("\n")[2])
    assert isinstance(error, BundleError)
    return failed("bundle", evidence, fix)


def _at_risk(publish: Publish | None, measured: trial.Measured | None, settings: Settings) -> Check:
    size = measured.checkpoint_bytes if measured else 0
    rows = measured.replay_bytes_per_timestep * measured.steps_per_s if measured else 0.0
    asked = settings.session
    return exposure.judge(publish, size, rows, asked.publish_interval_s, asked.max_timesteps_at_risk)


def _accelerator(name: str | None) -> Check:
    if name is None:
        return passed("accelerator", "None: a CPU session.")
    assert name not in RETIRED_ACCELERATORS, "the configuration refuses those"
    return passed("accelerator", f"{name} is offered.")


def _secrets(project: Project, files: int, target: Target) -> Check:
    if project.left_out:
        return warned(
            "secrets",
            f"Left out because their names say credentials: {', '.join(project.left_out)}. "
            f"Nothing like one is in the {files} files that go.",
            "Name them in .kaglaunchignore to hear no more of them.",
        )
    own = ", nor this machine's own" if target.name is TargetName.kaggle else ""
    return passed("secrets", f"Nothing like a credential in {files} files{own}.")


LONG_EVIDENCE = 200


def _told(check: Check, *, waived: bool = False) -> str:
    mark = " (waived)" if waived and check.verdict is Verdict.FAIL else ""
    margin = "\n" + " " * 24
    fix = "".join(f"{margin}{line}" for line in check.fix.splitlines() if line.strip())
    # A long list of findings is read one a line.
    evidence = check.evidence.replace("; ", ";\n") if len(check.evidence) > LONG_EVIDENCE else check.evidence
    evidence = evidence.replace("\n", margin)
    return f"  {check.verdict.value}  {check.name:<15}{mark} {evidence}{fix}"
