"""A new run that could be pushed: packed and checked, and nothing of it sent or written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.contract import typed
from launcher import config, environment
from launcher.checks import preflight
from launcher.checks.preflight import Report
from launcher.checks.trial import Found
from launcher.config import Effective
from launcher.documents import pushes
from launcher.documents.pushes import Proposed
from launcher.packing import project
from launcher.packing.project import Project
from launcher.runs import exposure, records, submission
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run
from launcher.runs.run import Pushed, RunHandle
from launcher.runs.submission import Prepared
from launcher.targets.target import PERSON_S, Target
from launcher.transfers import Transfers


@dataclass(frozen=True)
class Proposal:
    """A new run, with everything that a push of it needs."""

    handle: RunHandle
    effective: Effective
    project: Project
    prepared: Prepared
    waived: tuple[str, ...]

    @property
    def run(self) -> Run:
        """The run, under the name that it would have."""
        return self.handle.run

    def examine(
        self, note: Callable[[str], None], *, relay: bool = False, again: bool = False, kills: int = 0
    ) -> Report:
        """Its checklist; `note` is told of each part as it begins.

        With `relay` the plan may take several sessions; with `again` what was tried before is tried again, and with
        `kills` it is gone on from at so many instants more.
        """
        return preflight.run(
            self.prepared,
            self.project,
            self.effective.settings,
            self.handle.target,
            self.handle.backend,
            waived=self.waived,
            note=note,
            relay=relay,
            again=again,
            kills=kills,
            publish=exposure.measured(self.handle.ledger.sessions_of(self.run.target, self.run.username)),
        )

    def sent(self, report: Report) -> Prepared:
        """What a push sends once `report` was made: what the trial found out goes along."""
        if report.found == Found():
            return self.prepared
        settings, waived = self.effective.settings, self.waived
        return submission.prepare(
            self.handle, 1, settings, resumes=False, project=self.project, waived=waived, found=report.found
        )

    def start(self, report: Report) -> Pushed:
        """Push its first session.

        Raises
        ------
        PreflightFailed
            A check failed that was not waived; nothing was spent.
        Refused, SubmissionUnknown
            See `submission.start`.
        """
        report.refuse()
        prepared = dataclasses.replace(self.sent(report), record=typed.plain(document(self, report)))
        address = submission.start(self.handle, prepared, self.effective.settings, after=0)
        return Pushed(1, prepared, address)


def propose(
    effective: Effective,
    target: Target,
    *,
    quick: bool,
    waive: Sequence[str],
    name: str | None = None,
    note: str = "",
    tags: Sequence[str] = (),
    transfers: Transfers | None = None,
) -> Proposal:
    """A run of this folder under a new name, which begins with `name`.

    Raises
    ------
    ConfigError
        No check is called as in `waive`, no run can be called `name`, one of `tags` is no word, there is no such
        environment, or it does not take its arguments.
    SecretFound, BundleError
        It cannot be packed.
    """
    waived = preflight.require_names(waive)
    records.require_tags(tags)
    settings = effective.settings
    prefix = config.run_prefix(name) if name is not None else "quick" if quick else "run"
    own = project.collect(settings.run, Path.cwd(), effective.called("include"))
    environment.require(settings.run, effective.called, own.files, Path.cwd())
    backend = target.connect(sign_in_s=PERSON_S)
    run_id = config.new_run_id(prefix)
    run_config = settings.run_config(run_id)
    run = records.new_run(run_id, target.name.value, backend.username, run_config, Path.cwd(), note=note, tags=tags)
    handle = RunHandle(run, Ledger(), transfers, target=target, backend=backend)
    prepared = submission.prepare(handle, 1, settings, resumes=False, project=own, waived=waived)
    return Proposal(handle, effective, own, prepared, waived)


def document(proposal: Proposal, report: Report) -> Proposed:
    """Exactly what a push sends, where each value came from and what was checked: for JSON and the run's folder."""
    prepared, run = proposal.sent(report), proposal.run
    kernel, built = prepared.kernel, prepared.bundle
    return Proposed(
        target=proposal.handle.target.name.value,
        kernel=pushes.Kernel(
            id=f"{run.username}/{kernel.slug}",
            title=kernel.slug,
            is_private=True,
            enable_internet=True,
            accelerator=kernel.accelerator,
            session_timeout_s=kernel.timeout_s,
            dataset_sources=kernel.dataset_sources,
        ),
        dataset=run.dataset,
        script_bytes=len(kernel.script),
        script_sha256=built.digest,
        code_sha256=built.code_digest,
        files=built.files,
        left_out=tuple(proposal.project.left_out),
        configuration=proposal.effective.plain(),
        sent=json.loads(prepared.configuration.to_json()),
        preflight=report.document(),
    )
