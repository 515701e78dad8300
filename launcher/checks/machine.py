"""What `doctor` looks at: each check says what it found, and what to do where that is not well."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from kernel.contract.checks import Check, Verdict
from launcher import paths, system, training_extra
from launcher.documents.machine import Finding, Health
from launcher.errors import CredentialsError, LauncherError, TrainingMissing
from launcher.targets import target
from launcher.targets.target import KAGGLE_URL, PERSON_S, Target, TargetName

PACKAGES = {"kaggle": (2, 2, 4), "kagglesdk": (0, 1, 37), "typer": (0, 29), "rich": (13,), "six": (1, 16)}
"""What must be there to launch, and from which version on."""
ENOUGH_BYTES, LITTLE_BYTES = 2 * 1024**3, 200 * 1024**2
SKEW_S = 60.0
"""Signed links and quotas of a week stand a clock that is off by less."""
TIMEOUT_S = 15.0


def examine(forced: TargetName | None, note: Callable[[str], object] = lambda text: None) -> Iterator[Check]:
    """All checks, each as soon as it is done; `note` is told of those that may take their time, as they begin."""
    yield _python()
    yield system_fit(platform.system(), has_posix=system.has_posix(), trains_here=forced is TargetName.local)
    yield from _packages()
    yield _training(forced)
    yield _state_folder()
    yield _disk()
    yield _ledger()
    try:
        chosen = target.choose(forced)
    except CredentialsError as error:
        said, _, ways = str(error).partition("\n")
        yield Check("credentials", Verdict.FAIL, said, ways)
        return
    except TrainingMissing:
        return  # the system's line has said so
    yield from _target(chosen, note)


def _python() -> Check:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    if (3, 11) <= sys.version_info < (3, 14):
        return Check("python", Verdict.PASS, found)
    return Check("python", Verdict.FAIL, found, "Use Python 3.11, 3.12 or 3.13.")


def system_fit(name: str, *, has_posix: bool, trains_here: bool) -> Check:
    """What the system `name` (Linux, Darwin, Windows) can do, and how that is known."""
    if name == "Linux" and has_posix:
        return Check("system", Verdict.PASS, "Linux: launching, and sessions on this machine")
    if has_posix:
        return Check(
            "system",
            Verdict.WARN,
            f"{'macOS' if name == 'Darwin' else name}: launching, and sessions on this machine, but tests ran on Linux "
            "only: of what it alone has, its files without a name were taken away there, and nothing else",
            "`kaglaunch demo` tries everything without an account.",
        )
    return Check(
        "system",
        Verdict.FAIL if trains_here else Verdict.WARN,
        f"{name}: launching, watching and fetching on kaggle.com; tested on Linux with POSIX taken away, not more",
        f"The embedded Kaggle, `resume --here` and the trial before a push need POSIX ({system.WHY}): "
        "use Linux or macOS for them, or WSL on Windows.",
    )


def _packages() -> Iterator[Check]:
    for name, least in PACKAGES.items():
        wanted = ".".join(map(str, least))
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(f"package {name}", Verdict.FAIL, "not installed", f'pip install "{name}>={wanted}"')
            continue
        old = _numbers(version) < least
        fix = f'pip install --upgrade "{name}>={wanted}"' if old else ""
        yield Check(f"package {name}", Verdict.FAIL if old else Verdict.PASS, version, fix)


def _training(forced: TargetName | None) -> Check:
    trains = system.has_posix()  # else the system's own line has said what cannot be
    missing = training_extra.missing(training_extra.PACKAGES if trains else training_extra.COMPARING)
    if not missing:
        serves = "the embedded Kaggle and `resume --here` can train" if trains else "`evaluate` can simulate, no more"
        return Check("training extra", Verdict.PASS, f"installed: {serves}")
    verdict = Verdict.FAIL if forced is TargetName.local and trains else Verdict.WARN
    return Check(
        "training extra",
        verdict,
        f"not installed: {', '.join(missing)} missing; kaggle.com does not need it",
        f"To {'train' if trains else 'use `evaluate`'} on this machine, install it {training_extra.how()}.",
    )


def _state_folder() -> Check:
    folder = paths.state_dir()
    probe = folder / f".doctor-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        return Check(
            "state folder", Verdict.FAIL, f"{folder}: {error.strerror}", "Set XDG_STATE_HOME to a writable folder."
        )
    return Check("state folder", Verdict.PASS, f"{folder} can be written")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 1024**3:.1f} GiB free in {Path.cwd()}"
    if free >= ENOUGH_BYTES:
        return Check("disk", Verdict.PASS, found)
    verdict = Verdict.WARN if free >= LITTLE_BYTES else Verdict.FAIL
    return Check("disk", verdict, found, "Free some: checkpoints are fetched into this folder, and logs kept in it.")


def _ledger() -> Check:
    path = paths.state_dir() / "ledger.sqlite"
    if not path.exists():
        return Check("ledger", Verdict.PASS, "none yet: the first push begins it")
    try:
        # Looking must not begin, migrate or mend anything.
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            said = db.execute("PRAGMA quick_check").fetchone()[0]
            runs = db.execute("SELECT COUNT(*) FROM runs").fetchone()[0] if said == "ok" else 0
    except sqlite3.Error as error:
        said, runs = str(error), 0
    if said == "ok":
        return Check("ledger", Verdict.PASS, f"{path}: {runs} runs, whole")
    return Check(
        "ledger",
        Verdict.FAIL,
        f"{path}: {said}",
        "Move the file away. What was pushed is not touched by that: sessions and datasets are on the target.",
    )


def _target(chosen: Target, note: Callable[[str], object]) -> Iterator[Check]:
    if chosen.name is TargetName.kaggle:
        assert chosen.credentials is not None
        yield Check("credentials", Verdict.PASS, f"found in {chosen.credentials.source}")
        url = KAGGLE_URL
    else:
        yield Check("credentials", Verdict.PASS, "none needed by the embedded Kaggle")
        running = target.local_kaggle().find()
        if running is None:
            yield Check("target", Verdict.PASS, "the embedded Kaggle does not run; the next push starts it")
            return
        url = running.url
    note(f"Asking {url} for an answer")
    try:
        with requests.get(url, timeout=TIMEOUT_S, stream=True) as answer:
            date = answer.headers.get("Date", "")
    except requests.RequestException as error:
        yield Check(
            "target",
            Verdict.FAIL,
            f"{url} cannot be reached ({type(error).__name__})",
            "Look at the network, and at HTTPS_PROXY where a proxy is needed.",
        )
        return
    yield Check("target", Verdict.PASS, f"{url} answers")
    yield clock_skew(date, time.time())
    note(f"Asking {url} who we are")
    yield _identity(chosen)


def clock_skew(date: str, now: float) -> Check:
    """This machine's clock against the `Date` header of the target; `now` is seconds since the epoch."""
    try:
        skew_s = now - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return Check("clock", Verdict.WARN, "the target tells no date", "Compare this machine's clock by hand.")
    found = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the target"
    if abs(skew_s) <= SKEW_S:
        return Check("clock", Verdict.PASS, found)
    return Check("clock", Verdict.WARN, found, "Let the system set its clock (NTP): ages and deadlines are off.")


def _identity(chosen: Target) -> Check:
    try:
        backend = chosen.connect(patience_s=PERSON_S)
        backend.kernels()
    except CredentialsError as error:
        said, _, ways = str(error).partition("\n")
        return Check("identity", Verdict.FAIL, said, ways)
    except LauncherError as error:
        said = str(error).partition("\n")[0]
        return Check("identity", Verdict.FAIL, said, "Try again; `kaglaunch --verbose doctor` shows more.")
    return Check("identity", Verdict.PASS, f"the target knows this user as {backend.username}")


def _numbers(version: str) -> tuple[int, ...]:
    digits = []
    for part in version.split("."):
        head = "".join(char for char in part if char.isdigit())
        if not head or not part[0].isdigit():
            break
        digits.append(int(head))
    return tuple(digits)


def document(checks: list[Check]) -> Health:
    """What `doctor --json` has."""
    found = tuple(
        Finding(name=c.name, verdict=c.verdict, found=c.evidence, evidence=c.evidence, fix=c.fix) for c in checks
    )
    return Health(healthy=all(check.verdict is not Verdict.FAIL for check in checks), checks=found)
