"""Which Kaggle credentials this machine has, found without importing a client or sending anything.

The order is the client's own: token in the environment, token file, user and key in the environment, `kaggle.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field
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

    @property
    def secrets(self) -> tuple[str, ...]:
        """The literal values that must never leave in a bundle, a dataset or a log."""
        return tuple(value for value in (self.token, self.key) if value)


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
    return None


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
