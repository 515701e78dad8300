"""`kaglaunch local …`: the embedded Kaggle of this machine."""

from __future__ import annotations

import json
from typing import Any

import typer

from launcher import documents
from launcher.errors import BackendUnavailable, ConfigError
from launcher.local_kaggle.service import ServiceError
from launcher.targets import target


def start(port: int | None) -> None:
    """Start it where it does not run."""
    try:
        endpoint = target.local_kaggle().ensure_running(port=port)
    except ServiceError as error:
        raise BackendUnavailable(str(error)) from error
    typer.echo(f"The embedded Kaggle runs at {endpoint.url} (process {endpoint.pid}).")


def status(*, as_json: bool) -> None:
    """Show where it runs and what runs in it."""
    service = target.local_kaggle()
    endpoint = service.find()
    if endpoint is None:
        stopped = "The embedded Kaggle does not run; the next push starts it."
        typer.echo(documents.text({"running": False}) if as_json else stopped)
        return
    values = {"running": True, **service.status()}
    typer.echo(documents.text(values) if as_json else "\n".join(_lines(values)))


def stop() -> None:
    """Stop it, its sessions with it."""
    stopped = target.local_kaggle().stop()
    typer.echo("The embedded Kaggle was stopped." if stopped else "The embedded Kaggle did not run.")


def fault(assignment: str | None, *, clear: bool) -> None:
    """Set a fault, clear all, or list those that are set."""
    service = target.local_kaggle()
    try:
        service.ensure_running()
        if clear:
            service.clear_faults()
        elif assignment is not None:
            name, _, text = assignment.partition("=")
            service.set_fault(name, _value(text))
        typer.echo(json.dumps(service.faults(), indent=2))
    except ServiceError as error:
        raise ConfigError(str(error)) from error


def _value(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _lines(values: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list):
            lines += [f"{indent}{key}: {len(value)}", *(f"{indent}  {item}" for item in value)]
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines
