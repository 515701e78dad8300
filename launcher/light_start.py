"""What lets a command start at once: values that need no conversion get none.

typer converts every value with pydantic, whose import costs as much as typer's own, even where an option was not given
or is a plain string. Numbers, choices and paths that are given are converted by typer as ever.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class LightGroup(TyperGroup):
    """A group of commands that convert only what needs it."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _lightened(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _lightened(command.get_params(ctx))
        return command


class _Conversion:
    """Stands in for typer's conversion of one parameter, and is replaced by it when it is needed."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        parameter = self._parameter
        single = not parameter.multiple and parameter.nargs == 1
        if value is None:
            return None if single else ()
        if single and parameter.type_descriptor.annotation is str and isinstance(value, str):
            return value
        parameter._runtime_param = None
        return parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _lightened(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "_runtime_param", parameter) is None:
            parameter._runtime_param = _Conversion(parameter)
    return parameters
