"""What Kaggle's answers mean: its errors as ours, its refusals, its log as lines."""

from __future__ import annotations

import contextlib
import email.utils
from collections.abc import Iterator
from datetime import UTC, datetime

import requests
import tenacity

from launcher.errors import (
    BackendError,
    BackendUnavailable,
    CredentialsError,
    Forbidden,
    NoFreeSession,
    NotFound,
    PushRefused,
    QuotaError,
)
from launcher.targets.base import Kernel
from launcher.targets.credentials import WAYS


class Unavailable(BackendUnavailable):
    """No answer, or one that says to come back; `rate_limited` where the request was not even looked at."""

    def __init__(self, message: str, *, rate_limited: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.rate_limited = rate_limited


class Unreadable(BackendError):
    """The request was carried out, perhaps; the answer makes no sense."""


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the client's exceptions into ours, where they enter."""
    try:
        yield
    except requests.HTTPError as error:
        raise _from_status(url, error) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise Unavailable(f"No answer from {url} ({type(error).__name__}). Is the network up?") from error
    except requests.RequestException as error:
        raise Unavailable(f"The answer of {url} cannot be read ({type(error).__name__}).") from error
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        # The client's own parsing breaks in these ways on an answer that it does not expect.
        raise Unreadable(
            f"{url} answered what the Kaggle client cannot read ({type(error).__name__}: {error})."
        ) from error


def _from_status(url: str, error: requests.HTTPError) -> Exception:
    response = error.response
    status = response.status_code if response is not None else 0
    if response is not None and status == 200:
        # The client raises on a body that says `{"code": 4xx}`, whatever the status line says.
        status = int(response.json()["code"])
    message = str(error).split(" for url:")[0]
    if status == 401:
        return CredentialsError(f"{url} does not accept these credentials (401: {message}).\n{WAYS}")
    if status == 403:
        return Forbidden(f"{url} answered {status}: {message}")
    if status == 404:
        return NotFound(f"{url} answered {status}: {message}")
    if status == 429 or status >= 500:
        header = response.headers.get("Retry-After", "") if response is not None else ""
        wait_s = retry_after_s(header, now=datetime.now(UTC))
        return Unavailable(
            f"{url} answered {status} ({message}). Try again in a while.",
            rate_limited=status == 429,
            retry_after_s=wait_s,
        )
    return BackendError(f"{url} answered {status}: {message}")


def retry_after_s(header: str, *, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number of them, or a date; None for anything else."""
    if header.isdigit():
        return float(header)
    try:
        until = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, ((utc(until) or now) - now).total_seconds())


def wait_s_of(state: tenacity.RetryCallState) -> float:
    """Seconds before the next try: what the target asks for, else more with each try."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, BackendUnavailable) else None
    return asked if asked is not None else tenacity.wait_random_exponential(multiplier=0.5, max=30)(state)


def refused_credentials(source: str) -> CredentialsError:
    """The token of `source` does not work."""
    return CredentialsError(f"The target does not accept the token from {source}.\n{WAYS}")


def is_empty_shell(words: str | None) -> bool:
    """Whether a push was refused because a kernel of its name exists that has no version."""
    return "notebook not found" in (words or "").lower()


def refusal(words: str, kernel: Kernel) -> Exception:
    """The error for a push that was refused in these words."""
    said = f"The target refused the kernel {kernel.slug}: {words}"
    if "quota" in words.lower():
        return QuotaError(
            f"{said}\nA CPU session costs no GPU quota: add `--device cpu`. `kaglaunch quota` shows the reset."
        )
    if "session count" in words.lower():
        return NoFreeSession(f"{said}\nEnd one with `kaglaunch cancel RUN`, or wait until one ends (`kaglaunch runs`).")
    return PushRefused(f"{said}\nNothing was started and nothing was spent.")


def utc(moment: datetime | None) -> datetime | None:
    """`moment`, which the client leaves without a zone."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
