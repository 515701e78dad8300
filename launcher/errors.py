"""Every error that a user can meet, with the exit code that it ends in.

    LauncherError                    1
    ├── UsageError                   2   what was typed or configured cannot be
    │   ├── ConfigError              2   a file, a variable or a flag holds what cannot be
    │   ├── UnknownRun               2   no run of that name is known, or none of this folder
    │   │   └── AmbiguousRun         2   several runs may be meant
    │   └── NotCompared              2   no such controller, agent, scenario or demand
    ├── SessionTaken                 1   another command has just begun that session
    ├── Unhealthy                    1   a check of this machine failed
    ├── DemoFailed                   1   a step of the demo ended in another way than promised
    ├── CredentialsError             1   no credentials, or ones that the target refuses
    ├── TrainingMissing              1   the training extra is not installed where it is needed
    ├── NotPlotted                   1   a comparison was printed, and its plot could not be written
    ├── BackendError                 1   the target answered with an error
    │   ├── BackendUnavailable       1   no answer, or one that says to come back later
    │   │   ├── Unavailable          1   the same, of Kaggle's protocol, with what it said
    │   │   └── Withheld             1   refused to tell of what it lists all the same
    │   ├── Unreadable               1   an answer that is none of Kaggle's protocol
    │   ├── HereBusy                 1   a session of the run is alive on this machine
    │   ├── NotFound                 1   missing, or not ours: the platform does not tell which
    │   │   └── Forbidden            1   the same, and it may be there all the same: 403
    │   └── SubmissionUnknown        1   the answer to a push was lost: it may or may not run
    ├── CheckpointError              1   no checkpoint that verifies
    ├── Refused                      3   refused before anything was spent
    │   ├── PreflightFailed          3   a check failed that was not waived
    │   ├── SessionRuns              3   the newest session of the run is not over
    │   ├── RelayRuns                3   a relay of the run is at work
    │   ├── NotAgreed                3   nobody said yes to ending what is alive
    │   ├── PushRefused              3   the target did not take the kernel
    │   ├── QuotaError               3   not enough accelerator hours
    │   │   └── NoFreeSession        3   as many sessions run as may run at once
    │   ├── PlanError                3   the plan cannot fit
    │   ├── BundleError              3   the bundle is too large or cannot be made
    │   └── SecretFound              3   the bundle would carry a credential
    ├── AlertStop                    4   an alert ended the session
    ├── KernelFailed                 5   the kernel ended in an error
    │   └── RelayGaveUp              5   session after session brought no new timestep
    ├── SessionCut                   6   cancelled, or ended by a limit before the run was done
    └── Interrupted                130   Ctrl-C here; what was pushed goes on there

A message says what was asked, what was found, and what to type next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


class LauncherError(Exception):
    """What a user can do something about; ends the command with `exit_code` and no traceback."""

    exit_code = 1


class UsageError(LauncherError):
    """Raised when what was typed or configured cannot be, whatever this machine and the target are like."""

    exit_code = 2


class ConfigError(UsageError):
    """Raised when a configuration file, variable or flag holds an unknown key or an impossible value."""


class CredentialsError(LauncherError):
    """Raised when the target needs credentials and none work."""


class UnknownRun(UsageError):
    """Raised when no run of the given name is in the ledger, or none of the folder that stands for it."""


class AmbiguousRun(UnknownRun):
    """Raised when several runs may be meant."""


class NotCompared(UsageError):
    """Raised when a comparison names a controller, an agent or a scenario that is not there."""


class TrainingMissing(LauncherError):
    """Raised when a command would train on a machine without the training extra."""


class BackendError(LauncherError):
    """Raised when the target answers with an error that is not one of the cases below."""


class BackendUnavailable(BackendError):
    """Raised when the target gives no answer, or one that says to come back later (429, 5xx)."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotFound(BackendError):
    """Raised for 403 and 404: the platform answers alike for what is missing and what is another's."""


class Forbidden(NotFound):
    """Raised for 403: what the account's own list has is there all the same, see `Withheld`."""


class Withheld(BackendUnavailable):
    """Raised when the target does not tell of what its own list has: that is no word of its being gone."""


def withheld(what: str, refusal: Forbidden, listed: Callable[[], Iterable[str]]) -> NotFound | Withheld:
    """What the `refusal` to tell of `what` means, by the list of all that the account has.

    Returns
    -------
    NotFound or Withheld
        The refusal where `what` is not listed, and else, or where the list is refused too, that nobody knows.
    """
    try:
        if what not in listed():
            return refusal
    except Forbidden:
        return Withheld(f"{refusal}\nNor does the target tell what it has: whether {what} is there is not known.")
    return Withheld(f"{refusal}\nIts list has {what} all the same: it is not taken for gone. Try again in a while.")


class SubmissionUnknown(BackendError):
    """Raised when the answer to a push was lost and looking did not settle whether the kernel runs."""


class CheckpointError(LauncherError):
    """Raised when no checkpoint that verifies can be had."""


class Refused(LauncherError):
    """Refused before anything was spent."""

    exit_code = 3


class NotAgreed(Refused):
    """Raised when the question whether to end what is alive was answered with no."""


class PushRefused(Refused):
    """Raised when the target does not take the kernel."""


class QuotaError(Refused):
    """Raised when accelerator hours do not suffice."""


class NoFreeSession(QuotaError):
    """Raised when as many sessions run already as the account may have at once."""


class PlanError(Refused):
    """Raised when the planned training cannot fit the time it may take."""


class BundleError(Refused):
    """Raised when no bundle can be made, or it is larger than the platform accepts."""


class SecretFound(Refused):
    """Raised when a file of the bundle holds anything like a credential."""


class AlertStop(LauncherError):
    """Raised when an alert ended the session."""

    exit_code = 4


class KernelFailed(LauncherError):
    """Raised when the kernel ended in an error."""

    exit_code = 5


class SessionCut(LauncherError):
    """Raised when the session was cancelled or reached a limit before the run was done."""

    exit_code = 6


class Interrupted(LauncherError):
    """Raised when Ctrl-C ended a command that only looked on."""

    exit_code = 130
