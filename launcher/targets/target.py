"""Where kernels run: kaggle.com, or the embedded Kaggle on this machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from kernel.contract.record import Record
from launcher import paths, suggestions, system
from launcher.errors import BackendUnavailable, ConfigError, CredentialsError
from launcher.targets import credentials
from launcher.targets.credentials import Credentials

if TYPE_CHECKING:
    from launcher.local_kaggle.service import Endpoint, LocalKaggle
    from launcher.runs.records import Run, Session
    from launcher.targets.base import Backend, Compute
    from launcher.targets.quick_look import QuickLook

logger = logging.getLogger(__name__)

KAGGLE_URL = "https://api.kaggle.com"
PERSON_S = 8.0
"""Patience of whoever waits at a prompt for a target that does not answer."""


class TargetName(StrEnum):
    """The two targets."""

    kaggle = "kaggle"
    local = "local"


def named(text: str, what: str) -> TargetName:
    """The target that is called `text`; `what` is how the caller names the value.

    Raises
    ------
    ConfigError
        There is none.
    """
    names = [name.value for name in TargetName]
    if text not in names:
        meant = suggestions.did_you_mean(text, names, {"kaggle.com": "kaggle", "embedded": "local", "here": "local"})
        raise ConfigError(f"{what} must be {' or '.join(names)}; got {text!r}.{meant}")
    return TargetName(text)


class Target(Record):
    """A chosen target and why it was chosen."""

    name: TargetName
    reason: str
    credentials: Credentials | None = None

    def __str__(self) -> str:
        place = "kaggle.com" if self.name is TargetName.kaggle else "the embedded Kaggle on this machine"
        return f"Target {self.name.value}: {place} ({self.reason})."

    @property
    def place(self) -> str:
        """Who answers, in words."""
        return "kaggle.com" if self.name is TargetName.kaggle else "the embedded Kaggle"

    def connect(self, *, patience_s: float | None = None, sign_in_s: float | None = None) -> Backend:
        """A backend that talks to this target; the embedded Kaggle is started when it does not run.

        `patience_s` bounds how long each question is repeated without an answer; a relay has more than a person. With
        `sign_in_s` the target has answered once, within that time, when this returns.

        Raises
        ------
        BackendUnavailable
            It has not.
        CredentialsError
            It does not accept the token.
        """
        from launcher.targets.kaggle import KaggleBackend

        if self.name is TargetName.kaggle:
            assert self.credentials is not None
            url, known = KAGGLE_URL, self.credentials
        else:
            endpoint = self._endpoint()
            url, known = endpoint.url, _local_credentials(endpoint)
        given = {"patience_s": patience_s, "sign_in_s": sign_in_s}
        return KaggleBackend(url, known, **{name: value for name, value in given.items() if value is not None})

    def quick_look(self, deadline: float, clock: Callable[[], float] = time.monotonic) -> QuickLook:
        """Short questions to this target, all of them answered before `deadline` [s of `clock`] or not at all.

        The embedded Kaggle is started when it does not run.
        """
        from launcher.targets.quick_look import QuickLook

        if self.credentials is not None:
            return QuickLook(KAGGLE_URL, self.credentials, deadline, clock)
        endpoint = self._endpoint()
        return QuickLook(endpoint.url, _local_credentials(endpoint), deadline, clock)

    def _endpoint(self) -> Endpoint:
        from launcher.local_kaggle.service import ServiceError

        try:
            return local_kaggle().ensure_running()
        except ServiceError as error:
            raise BackendUnavailable(str(error)) from error

    def revive(self) -> None:
        """Start the embedded Kaggle again where it has died; its address stays the same. Nothing for kaggle.com."""
        from launcher.local_kaggle.service import ServiceError

        if self.name is TargetName.local:
            try:
                local_kaggle().ensure_running()
            except ServiceError as error:
                logger.warning("%s", error)


def choose(forced: TargetName | None) -> Target:
    """The target that `forced` names; without it `kaggle` when credentials are found, else `local`.

    Raises
    ------
    CredentialsError
        `kaggle` is forced and no credentials are found, or none are on a system that has no embedded Kaggle.
    TrainingMissing
        `local` is forced on such a system.
    """
    if forced is TargetName.local:
        system.require_posix(
            "The embedded Kaggle (`--target local`)", f"Use kaggle.com: `--target kaggle`. {credentials.WAYS_ONLINE}"
        )
        return Target(TargetName.local, "as asked by --target")
    found = credentials.find()
    if found is not None:
        reason = "as asked by --target" if forced else f"credentials found in {found.source}"
        return Target(TargetName.kaggle, reason, found)
    if forced is TargetName.kaggle:
        raise CredentialsError(f"The target kaggle needs credentials, and none were found.\n{credentials.WAYS}")
    if not system.has_posix():
        raise CredentialsError(
            "No Kaggle credentials were found, and the embedded Kaggle needs Linux or macOS.\n"
            f"{credentials.WAYS_ONLINE}"
        )
    return Target(TargetName.local, "no Kaggle credentials found")


def local_kaggle_dir() -> Path:
    """State folder of the embedded Kaggle."""
    return paths.state_dir() / "local-kaggle"


def local_kaggle() -> LocalKaggle:
    """The embedded Kaggle of this user."""
    from launcher.local_kaggle.service import LocalKaggle

    return LocalKaggle(local_kaggle_dir())


def _local_credentials(endpoint: Endpoint) -> Credentials:
    return Credentials("the embedded Kaggle", endpoint.token, endpoint.username)


def of_run(run: Run) -> Target:
    """The target that a run was pushed to: its later commands go nowhere else.

    Raises
    ------
    CredentialsError
        It was pushed to kaggle.com and no credentials are found any more.
    """
    reason = f"where run {run.run_id} was pushed"
    if run.target == TargetName.local:
        return Target(TargetName.local, reason)
    return replace(choose(TargetName.kaggle), reason=reason)


def of_session(run: Run, session: Session) -> Compute:
    """Where a session runs: this machine, or the target of its run."""
    if session.here:
        from launcher.targets.here import HereBackend

        return HereBackend(run)
    return of_run(run).connect(sign_in_s=PERSON_S)
