"""Which Kaggle credentials this machine has, found without importing a client or sending anything.

The order is the client's own: token in the environment, token file, user and key in the environment, `kaggle.json`, and
what `kaggle auth login` leaves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kernel.contract.record import Record
from launcher.errors import CredentialsError
from launcher.reasons import reason

WAYS_ONLINE = """Three ways to give credentials:
  1. create a token on kaggle.com (Settings, API tokens) and save it as ~/.kaggle/access_token
  2. export KAGGLE_API_TOKEN=<that token>
  3. keep a legacy ~/.kaggle/kaggle.json, or export KAGGLE_USERNAME and KAGGLE_KEY"""
WAYS = f"{WAYS_ONLINE}\nOr try everything without an account: `kaglaunch push --quick --target local`."


class Credentials(Record):
    """A token, or a user name with a key; `source` says where they were found."""

    source: str
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    key: str | None = field(default=None, repr=False)
    renewal: str | None = field(default=None, repr=False)
    """What the official client gets its next token with; it is never sent from here."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The literal values that must never leave in a bundle, a dataset or a log."""
        return tuple(value for value in (self.token, self.key, self.renewal) if value)


def find(environ: Mapping[str, str] | None = None, home: Path | None = None) -> Credentials | None:
    """The first credentials found, or None.

    Raises
    ------
    CredentialsError
        A credentials file is there and cannot be read or is not what it should be.
    """
    environ = os.environ if environ is None else environ
    home = Path.home() if home is None else home
    if value := environ.get("KAGGLE_API_TOKEN", "").strip():
        named = Path(value).expanduser()
        if len(value) < 1024 and named.is_file():
            return Credentials(f"the file that KAGGLE_API_TOKEN names ({named})", token=_read(named).strip())
        return Credentials("the environment variable KAGGLE_API_TOKEN", token=value)
    for name in ("access_token", "access_token.txt"):
        path = home / ".kaggle" / name
        if path.is_file() and (text := _read(path).strip()):
            return Credentials(f"{path}", token=text)
    username, key = environ.get("KAGGLE_USERNAME", "").strip(), environ.get("KAGGLE_KEY", "").strip()
    if username and key:
        return Credentials("the environment variables KAGGLE_USERNAME and KAGGLE_KEY", username=username, key=key)
    folder = Path(environ["KAGGLE_CONFIG_DIR"]) if environ.get("KAGGLE_CONFIG_DIR") else home / ".kaggle"
    for path in dict.fromkeys((folder / "kaggle.json", home / ".config" / "kaggle" / "kaggle.json")):
        if path.is_file():
            return _from_kaggle_json(path)
    login = home / ".kaggle" / "credentials.json"
    return _from_login(login) if login.is_file() else None


LEAST_LEFT = timedelta(minutes=5)
"""A token that ends sooner would end in the midst of what is typed."""


def _from_login(path: Path) -> Credentials:
    """The token that `kaggle auth login` left, while it is valid: the official client renews it, in its own way."""
    try:
        values = json.loads(_read(path))
        token, renewal, ends = (str(values.get(key) or "") for key in _OF_LOGIN)
        until = datetime.fromisoformat(ends) if ends else None
    except (ValueError, AttributeError) as error:
        raise CredentialsError(
            f"{path} is not what `kaggle auth login` writes ({reason(error)}).\n"
            f"Log in again with `kaggle auth login`, or remove the file.\n{WAYS_ONLINE}"
        ) from error
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    if not token or until is None or until - datetime.now(UTC) < LEAST_LEFT:
        ended = (
            "holds no token that is valid"
            if not token or until is None
            else f"holds a token until {until:%Y-%m-%d %H:%M %Z}"
        )
        raise CredentialsError(
            f"{path} {ended}.\n`kaggle kernels list --mine` lets the official client renew it for twelve hours. "
            f"Something that lasts longer, as a relay does, needs a token of its own.\n{WAYS_ONLINE}"
        )
    return Credentials(f"{path}, from `kaggle auth login`", token=token, renewal=renewal or None)


_OF_LOGIN = ("access_token", "refresh_token", "access_token_expiration")


def _from_kaggle_json(path: Path) -> Credentials:
    try:
        values = json.loads(_read(path))
        return Credentials(f"{path}", username=str(values["username"]), key=str(values["key"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CredentialsError(
            f'{path} should be {{"username": ..., "key": ...}} and is not.\n'
            "Download it again from kaggle.com (Settings, API), or remove it."
        ) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(f"{path} cannot be read: {reason(error, named=False)}.") from error
