"""Whose account it is, whether it has a session free, and whether the run's dataset can be its own."""

from __future__ import annotations

from kernel.contract.checks import Check, failed, passed, warned
from launcher.errors import BackendError, CredentialsError
from launcher.tables import counted
from launcher.targets.base import Account, ActiveSession, Backend

SESSIONS = {True: 2, False: 5}
"""Batch sessions that Kaggle runs at once, on a GPU and on the CPU."""


def active(backend: Account) -> tuple[list[ActiveSession] | None, Check]:
    """Sessions of the account that run now, and whether its credentials work; None where it cannot be asked."""
    try:
        found = backend.active_sessions()
    except CredentialsError as error:
        return None, failed("credentials", str(error).splitlines()[0], str(error).partition("\n")[2])
    except BackendError as error:
        return None, warned("credentials", f"The target cannot be asked: {str(error).splitlines()[0]}", "Try again.")
    return found, passed("credentials", f"The target answers to {backend.username}.")


def free_slot(found: list[ActiveSession] | None, on_gpu: bool) -> Check:
    """Whether one more session of this kind may start."""
    kind, limit = "GPU" if on_gpu else "CPU", SESSIONS[on_gpu]
    if found is None:
        return warned("session-slot", "Running sessions cannot be listed.", "The target refuses what is one too many.")
    running = [session.slug for session in found if session.on_gpu == on_gpu]
    if len(running) >= limit:
        return failed(
            "session-slot",
            f"{len(running)} of {limit} {kind} sessions run already: {', '.join(running)}.",
            "End one with `kaglaunch cancel RUN`, or wait until one ends.",
        )
    return passed("session-slot", f"{len(running)} of {limit} {kind} sessions run.")


def dataset(backend: Backend, name: str) -> Check:
    """Whether checkpoints can go to `name` (owner/slug)."""
    try:
        versions = backend.dataset_versions(name)
    except BackendError as error:
        said = str(error).splitlines()[0]
        return warned("dataset", f"{name} cannot be looked at: {said}", "The session proves the write when it starts.")
    owner = name.partition("/")[0]
    if owner != backend.username:
        return failed(
            "dataset", f"{name} would be {owner}'s, and you are {backend.username}.", "Use the run's own account."
        )
    if versions:
        return passed(
            "dataset", f"{name} is yours and has {counted(len(versions), 'version')}; the session adds to it."
        )
    return passed("dataset", f"The name {name} is free; the session writes its first version as it starts.")
