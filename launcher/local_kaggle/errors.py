"""The service's own refusals, quoted.

Two kinds, as on Kaggle: an HTTP error with the body `{"code": ..., "message": ...}` (`RpcError`), and a refusal
inside an HTTP 200 answer, in its field `error` (the strings below that no `RpcError` carries).
Words marked "own words" are ours: no public record of Kaggle's exists.
"""

from __future__ import annotations

TITLE_IN_USE = 'The requested title "{title}" is already in use by a dataset. Please choose another title.'
NOTEBOOK_NOT_FOUND = "Notebook not found"
WEEKLY_QUOTA_REACHED = "Maximum weekly {kind} quota of {hours:.2f} hours reached."
SESSION_COUNT_REACHED = "Maximum batch {kind} session count of {count} reached."
PRIVATE_NOTEBOOK = "[Private Notebook]"

TIME_LIMIT_REACHED = "Your notebook was stopped because it exceeded the max allowed execution duration."
CANCEL_REQUESTED = "The kernel was killed due to a requested cancel."
OUT_OF_MEMORY = "Your notebook tried to allocate more memory than is available. It has restarted."
DISK_FULL = "Your notebook used more than the allowed disk space of {limit} bytes in its working folder."  # own words
MACHINE_LOST = "The session's process is gone and left no exit status: its machine was lost."  # own words
SERVICE_STOPPED = "The session was killed because the embedded Kaggle was stopped while it ran."  # own words
START_FAILED = "The session could not be started: {reason}"  # own words

TOO_SHORT_TITLE = "Title must be between {least} and {most} characters."  # own words
TOO_SHORT_SLUG = "Slug must be between {least} and {most} characters."  # own words
SHAPE_NOT_ALLOWED = "Machine shape '{shape}' is not available to this account."  # own words
ONLY_PYTHON_SCRIPTS = "The embedded Kaggle runs python scripts only, not {language} {kind}."  # own words
NO_SUCH_SESSION = "Kernel session {session_id} not found"  # own words


class RpcError(Exception):
    """An answer with an HTTP error status.

    `code` is the status and the body's `code`; `message` the body's `message`; `headers` are added to the answer.
    """

    def __init__(self, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.headers = headers or {}


def unauthenticated() -> RpcError:
    return RpcError(401, "Unauthenticated")


def denied(permission: str) -> RpcError:
    """403, for what is missing as well as for what is forbidden: Kaggle does not tell them apart."""
    return RpcError(403, f"Permission '{permission}' was denied")


def not_found(what: str = "Not found") -> RpcError:
    return RpcError(404, what)


def bad_request(message: str = "Bad Request") -> RpcError:
    return RpcError(400, message)
