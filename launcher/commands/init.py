"""`kaglaunch init`: write a kaglaunch.toml that says what every key means."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernel.contract.files import write_aside
from launcher import config
from launcher.commands.say import say
from launcher.errors import Refused


def init(*, force: bool) -> None:
    """Write the file into this folder.

    Raises
    ------
    Refused
        One is there already and `force` is not given.
    """
    path = Path.cwd() / config.FILE
    if path.exists() and not force:
        raise Refused(f"{path} is there already. Edit it, or write a fresh one over it with `kaglaunch init --force`.")
    write_aside(path, template().encode())
    say(f"Wrote {path}: every key with its default, commented out. `kaglaunch push --dry-run` shows what it makes.")


def template() -> str:
    """The commented file: every section, key, meaning and default, from the configuration's own definition."""
    lines = [
        "# Configuration of kaglaunch. Flags win over environment (KAGLAUNCH_RUN_TIMESTEPS=...) over this file.",
        "# What is commented out has its default.",
    ]
    for section in dataclasses.fields(config.Settings):
        assert section.default_factory is not dataclasses.MISSING
        values = section.default_factory()
        lines += ["", f"[{section.name}]"]
        for key, meaning in _meanings(type(values)).items():
            lines += [f"# {line}" for line in meaning.splitlines()]
            lines.append(f"# {key} = {_toml(getattr(values, key))}")
    return "\n".join(lines) + "\n"


def _meanings(cls: type) -> dict[str, str]:
    """Field -> the string under it in the source."""
    (body,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
