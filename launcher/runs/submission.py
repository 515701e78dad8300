"""Start one session of a run: the same steps for the first and for every later one."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kernel.contract.config import Configuration
from kernel.contract.files import write_aside
from launcher import training_extra
from launcher.checks import quota
from launcher.checks.trial import Found
from launcher.config import Settings
from launcher.errors import Refused, SubmissionUnknown
from launcher.packing import bundle
from launcher.packing.bundle import Bundle
from launcher.packing.project import Project
from launcher.runs.bound_run import BoundRun
from launcher.runs.endings import Submission
from launcher.runs.records import Run
from launcher.targets.base import Kernel, Status
from launcher.targets.target import Target, TargetName

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A session that could be pushed: nothing was sent or written yet."""

    configuration: Configuration
    bundle: Bundle
    kernel: Kernel
    record: Mapping[str, Any] = field(default_factory=dict)
    """What is kept beside the script: the effective configuration, the checks, the plan."""

    def keep(self, run: Run) -> None:
        """Write script, record and the researcher's own files into the run's folder."""
        number = self.configuration.session.session
        write_aside(run.script(number), self.kernel.script)
        if self.record:
            write_aside(run.record(number), (json.dumps(self.record, indent=2) + "\n").encode())
        Project({name: self.bundle.members[name] for name in self.bundle.project}).save(run.project)


def require_training(target: Target) -> None:
    """Raise TrainingMissing when sessions of `target` run on this machine and it cannot train."""
    if target.name is not TargetName.local:
        return
    training_extra.require(
        "The embedded Kaggle trains on this machine", "give Kaggle credentials and use `--target kaggle`"
    )


def prepare(
    bound: BoundRun,
    number: int,
    settings: Settings,
    *,
    resumes: bool,
    project: Project | None = None,
    waived: tuple[str, ...] = (),
    found: Found | None = None,
) -> Prepared:
    """Everything that a push of session `number` would send; without `project`, what earlier sessions packed.

    `found` is what a trial has found out for the session's configuration.

    Raises
    ------
    Refused
        The bundle is too large or holds a secret.
    """
    run, credentials = bound.run, bound.target.credentials
    session = dataclasses.replace(settings.session_config(number, run.dataset, waived), **vars(found or Found()))
    configuration = Configuration(run.config, session)
    secrets = (*settings.secrets, *(credentials.secrets if credentials else ()))
    own = Project.saved(run.project) if project is None else project
    built = bundle.build(configuration, own, own_secrets=secrets)
    kernel = Kernel(
        slug=run.slug(number),
        script=built.script,
        accelerator=settings.accelerator,
        timeout_s=max(1, round(settings.session.max_hours * 3600)),
        dataset_sources=(run.dataset,) if resumes else (),
    )
    return Prepared(configuration, built, kernel)


def start(bound: BoundRun, prepared: Prepared, settings: Settings, *, after: int) -> str:
    """Check the quota, write the session into the ledger, push it; returns its page's address.

    Raises
    ------
    Refused
        The target or a check said no: nothing was spent, and a first session leaves no trace in the ledger.
    SubmissionUnknown
        The answer was lost; the ledger says so, and `watch` settles it.
    """
    run, ledger, backend = bound.run, bound.ledger, bound.backend
    session = prepared.configuration.session
    if quota.NAME not in session.waived:
        quota.check(backend, prepared.kernel.accelerator, settings.session.max_hours)
    if after == 0:
        ledger.add_run(run)
    number = ledger.begin_session(
        run,
        device=session.device,
        accelerator=prepared.kernel.accelerator,
        max_seconds=session.max_seconds,
        max_timesteps_at_risk=session.max_timesteps_at_risk,
        publish_interval_seconds=session.publish_interval_seconds,
        after=after,
        script_sha256=prepared.bundle.digest,
        code_digest=prepared.bundle.code_digest,
        config_digest=prepared.configuration.run.digest,
    )
    try:
        prepared.keep(run)
        address = backend.push(prepared.kernel)
    except Refused:
        ledger.forget_session(run.run_id, number)
        raise
    except (SubmissionUnknown, KeyboardInterrupt):
        ledger.update_session(run.run_id, number, submission=Submission.unknown)
        raise
    except Exception:
        # Nothing was taken: the target answered with an error, or could not be reached.
        ledger.forget_session(run.run_id, number)
        raise
    ledger.update_session(run.run_id, number, submission=Submission.pushed, status=Status.QUEUED.value)
    return address
