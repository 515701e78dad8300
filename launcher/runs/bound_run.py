"""A run with what its verbs need at hand: the ledger, its target, a connection on demand, and somebody to tell."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from launcher.runs import records
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run, Session
from launcher.targets import target as targets
from launcher.targets.base import Backend, Compute
from launcher.targets.here import HereBackend
from launcher.targets.target import PERSON_S, Target
from launcher.transfers import PlainTransfers, Transfers

logger = logging.getLogger(__name__)


class BoundRun:
    """`run`, bound; without `transfers` what it does is logged, without `target` it is where the run was pushed.

    Nothing is asked and nobody is connected before it is needed: a report needs the ledger alone.
    """

    def __init__(
        self,
        run: Run,
        ledger: Ledger,
        transfers: Transfers | None = None,
        *,
        target: Target | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.run, self.ledger = run, ledger
        self.transfers: Transfers = transfers or PlainTransfers(logger.info)
        if target is not None:
            self.target = target
        if backend is not None:
            self.backend = backend

    @property
    def run_id(self) -> str:
        """The name of the run."""
        return self.run.run_id

    @cached_property
    def target(self) -> Target:
        """Where the run was pushed.

        Raises
        ------
        CredentialsError
            That is kaggle.com, and no credentials are found any more.
        """
        return targets.of_run(self.run)

    @cached_property
    def backend(self) -> Backend:
        """A connection to `target`."""
        return self.target.connect()

    def connect(self) -> Backend:
        """Connect now, for a person who waits: a target that does not answer is given up soon.

        Raises
        ------
        BackendUnavailable, CredentialsError
            See `Target.connect`.
        """
        self.backend = self.target.connect(sign_in_s=PERSON_S)
        return self.backend

    def compute(self, session: Session) -> Compute:
        """What runs `session`: this machine, or the target."""
        return HereBackend(self.run) if session.here else self.backend

    @property
    def sessions(self) -> list[Session]:
        """All sessions, first to last, as the ledger has them now."""
        return self.ledger.sessions(self.run_id)

    @property
    def total_timesteps(self) -> int:
        """Timesteps that the run really trains, as far as a session told."""
        return records.total_timesteps(self.run, self.sessions)

    @property
    def newest(self) -> Session:
        """The session that was begun last."""
        return self.sessions[-1]

    def session(self, number: int) -> Session:
        """Session `number` as the ledger has it now."""
        return next(session for session in self.sessions if session.number == number)

    def update(self, number: int, **values: Any) -> None:
        """Write into the ledger what became known of session `number`."""
        self.ledger.update_session(self.run_id, number, **values)

    def say(self, text: str) -> None:
        """Tell whoever looks on."""
        self.transfers.note(text)
