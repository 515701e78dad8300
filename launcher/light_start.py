"""What lets a command start at once: its values are converted here, and refused in the words of this project.

typer converts every value with pydantic, whose import costs as much as everything else that a command needs, even
where an option was not given or is a plain string. What is none of the types below is converted by typer as ever.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from launcher.errors import UsageError

_CONVERSIONS: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    list[str]: (str, "text"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    Path: (Path, "a path"),
}


class LightGroup(TyperGroup):
    """A group of commands whose values are converted here, and whose help lists them under headings."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _lightened(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _lightened(command.get_params(ctx))
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands, each heading's together, with the whole first sentence of each."""
        headings: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                heading = getattr(command, "rich_help_panel", None)
                row = name, command.get_short_help_str(_WHOLE)
                headings.setdefault(heading if isinstance(heading, str) else "Commands", []).append(row)
        widest = max(len(name) for rows in headings.values() for name, _ in rows)
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(widest), said) for name, said in rows])


_WHOLE = 1_000


class _Conversion:
    """Stands in for typer's conversion of one parameter, and is replaced by it when it is needed."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        parameter = self._parameter
        several = parameter.multiple or parameter.nargs != 1
        if value is None or (several and not value):
            return () if several else None
        known = _CONVERSIONS.get(parameter.type_descriptor.annotation)
        if known is None:
            parameter._runtime_param = None
            return parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)
        convert, wanted = known
        if several:
            return [convert(one) for one in value]
        if not isinstance(value, str):
            return value
        name = max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.metavar
        try:
            converted = convert(value)
        except ValueError:
            raise UsageError(f"{name} must be {wanted}; got {value!r}.") from None
        least, most = parameter.min, parameter.max
        if (least is not None and converted < least) or (most is not None and converted > most):
            wanted = f"{least} or more" if most is None else f"{least} to {most}"
            raise UsageError(f"{name} must be {wanted}; got {value}.")
        return converted


def _range(least: int | float | None, most: int | float | None) -> str:
    """What help says of the numbers that an option takes; nothing where any count is one."""
    if most is not None:
        return f"{least} to {most}"
    return f"at least {least}" if least is not None and least > 1 else ""


def _lightened(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "_runtime_param", parameter) is None:
            parameter._runtime_param = _Conversion(parameter)
            parameter._get_number_range_help_str = functools.partial(_range, parameter.min, parameter.max)
            if parameter.param_type_name == "argument" and parameter.metavar:
                parameter.display_type = lambda ctx: ""  # the name says it
    return parameters
