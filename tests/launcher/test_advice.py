"""What a message, a help text or a page tells to type can be typed: verbs, options, targets, modules, packages.

Messages are the string constants of launcher/ and kernel/, their placeholders filled in; pages are README and docs/.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from launcher.cli import app

ROOT = Path(__file__).resolve().parents[2]
GROUP = typer.main.get_command(app)
VERBS = GROUP.commands  # type: ignore[attr-defined]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = {
    re.split(r"[\[<>=;]", requirement)[0].lower()
    for requirement in [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
}
PAGES = [
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
    if path.name != "CHANGELOG.md"
]
FILLED = "quick-abcdef"
"""What a placeholder stands for where nothing says what it is: the name of a run."""
VALUES = {
    **{"--timesteps": "100", "--checkpoint-freq": "10", "--max-hours": "1", "--seed": "1", "--port": "8000"},
    **{"--device": "cpu", "--target": "local", "--waive": "plan", "--scenario": "light", "--n-envs": "1"},
    **{"--timestep": "10", "--max-timesteps-at-risk": "100", "--accelerator": "NvidiaTeslaT4"},
}
COMMAND = r"(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:kaglaunch|pip install|make|python -m)(?: |$)"
"""How something to type begins; variables and a folder may stand before it."""
COMPLETION = {name for parameter in GROUP.params for name in parameter.opts if "completion" in name}
OWN_NAME = re.compile(r"kaglaunch(\[\w+\])?([<>=].*)?$", re.IGNORECASE)


def messages(source: str) -> Iterator[str]:
    """Every string constant; the placeholders of f-strings are `FILLED`."""
    parts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def told(text: str) -> Iterator[str]:
    """What `text` tells to type: between backticks, or after `Next:` and `Example:`, or a whole string or line."""
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"(?m)^```\w*$", "", text)):
        first = span.split()[0] if span.split() else ""
        if re.match(COMMAND, span) or (first in VERBS and " " in span) or first.startswith("--"):
            yield span
    for line in re.sub(r"`[^`\n]+`", "", text).splitlines():
        found = re.match(rf"\s*(?:.*(?:Next|Example): |\$ )?({COMMAND}.*)", line)
        if found and (found[0].lstrip().startswith(("pip", "make ")) or "kaglaunch " in found[1]):
            # A remark stands behind two spaces, other commands behind a comma or an "or".
            typed = re.split(r"\s{2,}|,?(?: or)? (?=kaglaunch )", found[1].strip())
            yield from (part for part in typed if re.match(COMMAND, part) and " = " not in part)


def refused(command: str) -> str:
    """Why `command` cannot be typed; empty where it can."""
    words = [word for word in shlex.split(command) if word not in ("…", "...", "\\")]
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    program = words[0].rpartition("/")[2]
    if program == "kaglaunch":
        return _refused_verb(words[1:])
    if program == "make":
        wrong = [word for word in words[1:] if "=" not in word and not word.startswith("-") and word not in TARGETS]
        return f"no target {wrong}" if wrong else ""
    if words[:2] == ["pip", "install"]:
        return _refused_packages(words[2:])
    if words[1:3] == ["-m", "pip"]:
        return _refused_packages(words[4:])
    if program == "python":
        return "" if _is_module(words[2]) else f"no module {words[2]}"
    if words[0].startswith("--"):
        name = words[0].partition("=")[0]
        known = {option for verb in _verbs(VERBS) for parameter in verb.params for option in _options(parameter)}
        return "" if name in known | {"--help", "--config"} else f"no verb has {name}"
    return _refused_verb(words)


def _verbs(commands: dict[str, typer.core.TyperCommand]) -> Iterator[typer.core.TyperCommand]:
    yield GROUP  # type: ignore[misc]
    for command in commands.values():
        yield command
        yield from getattr(command, "commands", {}).values()


def _options(parameter: object) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]  # type: ignore[attr-defined]


def _refused_verb(words: list[str]) -> str:
    filled = []
    for before, word in zip(["", *words], words, strict=False):
        named = re.fullmatch(r"[A-Z]+|<.*>", word) or word == FILLED
        filled.append(VALUES.get(before, FILLED) if named else word)
    if filled and filled[0] in COMPLETION:
        return ""  # parsing it would install it
    group, context = GROUP, None
    rest = [word for word in filled if word not in ("-v", "--verbose")]
    try:
        while rest and hasattr(group, "commands"):
            context = group.make_context("kaglaunch", list(rest), parent=context)
            name, *rest = [*context._protected_args, *context.args]
            if name == FILLED:
                return ""  # a verb that is not known before
            if name not in group.commands:
                return f"no verb {name}"
            group = group.commands[name]
        if group is not GROUP and len(filled) > 1:  # a verb alone is named, not typed
            group.make_context("kaglaunch", rest, parent=context)
        return ""
    except typer._click.exceptions.ClickException as error:  # type: ignore[attr-defined]
        return error.format_message()
    except typer.Exit:
        return ""  # --help


def _refused_packages(words: list[str]) -> str:
    options = {"--upgrade", "-U", "-e", "--editable", "--no-deps", "--no-build-isolation"}
    names = [word for word in words if word not in options]
    if "-r" in names:
        file = names[names.index("-r") + 1]
        return "" if (ROOT / file).is_file() else f"no file {file}"
    for name in names:
        plain = re.split(r"[\[<>=;]", name)[0].lower()
        if OWN_NAME.match(name) or not (plain.startswith((".", "/")) or name == FILLED or plain in PACKAGES | {FILLED}):
            return f"{name} is not this project's own, and none that it declares"
    return ""


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _of_messages() -> set[tuple[str, str]]:
    files = [path for package in ("launcher", "kernel", "arz_model") for path in (ROOT / package).rglob("*.py")]
    return {
        (path.relative_to(ROOT).as_posix(), command)
        for path in files
        for message in messages(path.read_text("utf-8"))
        for command in told(message)
    }


def _of_pages() -> set[tuple[str, str]]:
    return {(path.relative_to(ROOT).as_posix(), command) for path in PAGES for command in told(path.read_text("utf-8"))}


def test_every_command_of_a_message_can_be_typed() -> None:
    found = _of_messages()
    assert len(found) > 60
    assert [(place, command, why) for place, command in sorted(found) if (why := refused(command))] == []


def test_every_command_of_a_page_can_be_typed() -> None:
    found = _of_pages()
    assert len(found) > 60
    assert [(place, command, why) for place, command in sorted(found) if (why := refused(command))] == []


@pytest.mark.parametrize(
    "command",
    [
        "kaglaunch wach",
        "kaglaunch push --timestep 5",
        "kaglaunch push --timesteps",
        "kaglaunch local begin",
        "resume --there",
        "--wave",
        "make everything",
        "python -m launcher.nothing",
        'pip install "kaglaunch[train]"',
        "pip install kaglaunch>=1",
        "pip install somebody-elses",
        "pip install -r requirements/nothing.txt",
    ],
)
def test_advice_that_does_not_work_is_found(command: str) -> None:
    (found,) = set(told(f"Do `{command}` now."))
    assert refused(found)


def test_advice_is_found_wherever_a_string_is_put_together() -> None:
    source = 'x = f"Go on: `kaglaunch "\\\n    f"resume {run.run_id}`"\ny = (f"Next: kaglaunch watch {run}")\n'
    assert [command for message in messages(source) for command in told(message)] == [
        f"kaglaunch resume {FILLED}",
        f"kaglaunch watch {FILLED}",
    ]
