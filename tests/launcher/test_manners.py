"""How the command line answers: typing errors at once and by name, help and version, tables that fit, words kept."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kaglaunch
import launcher
from kernel.contract import events
from kernel.contract.config import RunConfig
from launcher import Kaglaunch, catalogue, screen, tables
from launcher.cli import app, main
from launcher.commands import local
from launcher.errors import LauncherError
from launcher.runs.ledger import Ledger
from launcher.runs.records import new_run
from launcher.sentences import sentence
from launcher.suggestions import closest

from .stage import FINISHED, Stage
from .terminal import at_a_terminal

RUN_ID = "quick-abcdef"
# Without the extra nothing of gymnasium is known, and nothing is refused or offered for it.
knows_gymnasium = pytest.mark.trains
INSIDES = (
    "Traceback",
    "<class",
    "Value error",
    "pydantic",
    "validation error",
    "Enum",
    "NoneType",
    "codec",
    "Errno",
    "ConnectionPool",
)


@pytest.fixture
def known(home: Path) -> Ledger:
    book = Ledger()
    book.add_run(new_run(RUN_ID, "local", "local", RunConfig(RUN_ID, 100, 10), home))
    (home / "balance.py").write_text("def make(): ...\nclass Balance: ...\n")
    (home / "other.py").touch()
    return book


TYPED = [
    ("push --timesteps -5", "--timesteps must be more than 0; got -5."),
    ("push --timesteps many", "--timesteps must be a whole number; got 'many'."),
    ("push --checkpoint-freq 0", "--checkpoint-freq must be more than 0; got 0."),
    ("push --seed -1", "--seed must be 0 or more; got -1."),
    ("push --accelerator A100", "Did you mean NvidiaTeslaA100?"),
    ("push --accelerator NvidiaTeslaP100", "'NvidiaTeslaP100', which is retired. Did you mean NvidiaTeslaT4?"),
    ("push --device gpu", "--device must be one of auto, cpu, cuda; got 'gpu'. Did you mean cuda?"),
    ("push --device A100", "got 'A100'. NvidiaTeslaA100 is a value of accelerator: did you mean that?"),
    ("push --device T4", "NvidiaTeslaT4 is a value of accelerator"),
    ("push --accelerator cpu", "cpu is a value of device: did you mean that?"),
    ("push --max-hours 12.5", "--max-hours must be more than 0 and at most 12; got 12.5."),
    ("push --max-hours -1", "--max-hours must be more than 0 and at most 12; got -1."),
    ("resume --here --max-hours -0.5", "--max-hours must be more than 0 and at most 12; got -0.5."),
    ("push --max-hours nan", "--max-hours must be a finite number"),
    ("push --max-hours long", "--max-hours must be a number; got 'long'."),
    ("push --env CartPole", "--env must be an id that gymnasium registers, or MODULE:FACTORY; got 'CartPole'."),
    ("push --env CartPole", "Did you mean CartPole-v1?"),
    ("push --env cartpole-v0.5", "Did you mean CartPole-v1?"),
    ("push --env nosuch:make", "--env names the module 'nosuch', which is neither in"),
    ("push --env nosuch:", "got 'nosuch:'"),
    ("push --env balance:mak", "--env names the factory 'mak', which balance.py does not define; got 'balance:mak'."),
    ("push --env balance:mak", "Did you mean make? It defines make, Balance."),
    ("push --include nosuch.py", "--include names 'nosuch.py', and there is no such file or folder in"),
    ("push --include balnce.py", "Did you mean balance.py?"),
    ("push --include ../secret", "--include names '../secret', which lies outside"),
    ("push --env balance:make --include other.py", "Add balance.py to it (`--include balance.py`)."),
    ("push --waive sped", "--waive sped: there is no such check. Did you mean speed?"),
    ("push --waive secrets", "--waive secrets: this check cannot be waived."),
    ("push --target kagle", "--target must be kaggle or local; got 'kagle'. Did you mean kaggle?"),
    ("push --name 9lives", "--name must be letters, digits and '-', a letter first, at most 33 in all; got '9lives'."),
    ("push --tag a,b", "A tag must be one word of letters, digits and . _ : / + = @ -, at most 40 of them; got 'a,b'."),
    ("note --tag=", "A tag must be one word of letters, digits and . _ : / + = @ -, at most 40 of them; got ''."),
    ("push --no-such-flag", "--no-such-flag"),
    ("push --timestep 5", "No such option: --timestep. Did you mean --timesteps?"),
    ("push --env", "`kaglaunch push --help` says what is valid."),
    ("local start --port", "`kaglaunch local start --help` says what is valid."),
    ("help push local", "`push` has no verb 'local' below it."),
    ("evaluate webster:foo=1", "has no parameter 'foo'; it takes n_periods, max_cycle_s, offset_s."),
    ("preflight --timesteps 0", "--timesteps must be more than 0; got 0."),
    ("resume --device quantum", "--device must be one of auto, cpu, cuda; got 'quantum'."),
    ("resume --allow-changed cod", "--allow-changed names 'cod'; what may have changed is one of code,"),
    ("resume --allow-changed cod", "Did you mean code?"),
    ("relay --accelerator T4", "Did you mean NvidiaTeslaT4?"),
    ("evaluate actuatd", "There is no controller 'actuatd'. Did you mean actuated?"),
    ("evaluate webster --scenario crosing", "There is no scenario 'crosing'. Did you mean crossing?"),
    ("evaluate webster --scenario no.toml", "There is no scenario file no.toml."),
    ("evaluate webster --demand paek", "The scenario crossing has no demand 'paek'. Did you mean peak?"),
    ("evaluate --agent missing.zip", "There is no checkpoint missing.zip."),
    ("evaluate --agent quik-abcdef", "Did you mean quick-abcdef?"),
    ("evaluate --seeds 1", "--seeds must be 2 or more; got 1."),
    ("status quik-abcdef", "No run 'quik-abcdef' is known. Did you mean quick-abcdef?"),
    ("logs --session 7", "has no session 7"),
    ("logs --raw --json", "--raw and --json exclude each other"),
    ("logs --tail -1", "--tail must be 0 or more; got -1."),
    ("fetch-checkpoints --all --step 3", "--all, --latest and --step exclude each other"),
    ("fetch-checkpoints --step x", "--step must be a whole number; got 'x'."),
    ("debug-prints --fix --check", "--fix, --restore and --check exclude each other"),
    ("debug-prints nowhere", "nowhere is no file and no folder"),
    ("local fault sesion_limit_s=5", "There is no fault 'sesion_limit_s'. Did you mean session_limit_s?"),
    ("local start --port x", "--port must be a whole number; got 'x'."),
    ("local start --port 99999", "--port must be 1 to 65535; got 99999."),
    ("local start --port 0", "--port must be 1 to 65535; got 0."),
    ("local strat", "No such command 'strat'. Did you mean 'start'"),
    ("wach", "No such command 'wach'. Did you mean 'watch'?"),
    ("help wach", "No such command 'wach'. Did you mean 'watch'?"),
    ("adopt", "Missing argument 'RUN'"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "says"), TYPED, ids=[typed for typed, _ in TYPED])
def test_a_typing_error_is_usage_and_names_what_was_typed(
    known: Ledger, capsys: pytest.CaptureFixture[str], typed: str, says: str
) -> None:
    if typed.startswith("logs --session"):
        known.begin_session(
            known.run(RUN_ID), device="cpu", accelerator=None, max_seconds=1, max_timesteps_at_risk=0,
            publish_interval_seconds=1, after=0,
        )  # fmt: skip
    assert main(typed.split()) == 2
    seen = capsys.readouterr()
    assert says in seen.err
    assert "error: " in seen.err
    assert not [inside for inside in INSIDES if inside in seen.err + seen.out]


def test_a_folder_that_is_gone_and_a_state_that_cannot_be_kept_are_said_with_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "gone").mkdir()
    monkeypatch.chdir(home / "gone")
    (home / "gone").rmdir()
    for typed in (["report"], ["push", "--quick"]):
        assert main(typed) == 1
        assert "The folder that you are in is not there any more.\nGo to one that is" in capsys.readouterr().err
    monkeypatch.chdir(home)
    monkeypatch.setenv("XDG_STATE_HOME", os.devnull)
    assert main(["runs"]) == 1
    said = capsys.readouterr().err
    assert f"lies in {os.devnull}/kaglaunch, which cannot be made" in said
    assert "Set XDG_STATE_HOME" in said
    assert not [inside for inside in INSIDES if inside in said]


def test_a_note_moves_no_cursor_and_makes_no_table_wide(known: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["note", RUN_ID, "--text", "a \x1b[31mred\x07 " + "x" * 5_000]) == 0
    assert main(["runs"]) == 0
    said = capsys.readouterr().out
    assert "a red x" in said
    assert not re.search(r"[\x1b\x07]", said)
    assert max(map(len, tables.columns(["note"], [["x" * 5_000]], 80))) <= 80
    (listed,) = [line for line in said.splitlines() if line.startswith(RUN_ID)]
    assert len(listed) <= 80


def test_the_status_of_the_embedded_kaggle_fits_eighty_columns() -> None:
    session = {
        "kernel": f"local/{'r' * 40}-s1", "version": 1, "session_id": 1, "machine": "gpu", "limit_s": 900.0,
        "state": "CANCEL_ACKNOWLEDGED", "running_s": 5.0, "failure_message": "Its machine ran out of memory, and died.",
    }  # fmt: skip
    gpu = {"total_h": 30.0, "used_h": 0.0, "reserved_h": 0.0, "refresh_at": "2026-12-05T00:00:00"}
    told = {
        "running": True, "url": "http://127.0.0.1:38615", "pid": 1, "username": "local", "quota": {"gpu": gpu},
        "state_dir": "/home/somebody/.local/state/kaglaunch/local-kaggle", "datasets": [],
        "clock": {"now": "2026-12-05T00:00:00", "offset_s": 0.0},
        "settings": {"queue_s": 99.0, "heartbeat_s": 9.0, "ready_s": 7.0, "commit_s": 8.0, "answer_s": 9.0},
        "faults": {name: [] for name in ("session_limit_s", "http_error", "stream_silence", "dataset_denied")},
        "sessions": [session],
    }  # fmt: skip
    assert max(map(len, local.shown(local.running(told)).splitlines())) <= 80


CONFIGURED = [
    ({"KAGLAUNCH_RUN_TIMESTEPS": "abc"}, "", "KAGLAUNCH_RUN_TIMESTEPS must be a whole number; got 'abc'."),
    ({"KAGLAUNCH_RUN_TIMESTEPS": "-5"}, "", "KAGLAUNCH_RUN_TIMESTEPS must be more than 0; got -5."),
    ({"KAGLAUNCH_RUN_TIMESTEP": "5"}, "", "Did you mean KAGLAUNCH_RUN_TIMESTEPS?"),
    ({"KAGLAUNCH_RUN_INCLUDE": "signals"}, "", "KAGLAUNCH_RUN_INCLUDE must be a list; got 'signals'."),
    ({"KAGLAUNCH_SESSION_DEVICE": "gpu"}, "", "KAGLAUNCH_SESSION_DEVICE must be one of auto, cpu, cuda; got 'gpu'."),
    (
        {"KAGLAUNCH_SESSION_MAX_HOURS": "-1"},
        "",
        "KAGLAUNCH_SESSION_MAX_HOURS must be more than 0 and at most 12; got -1",
    ),
    ({}, "run = 5\n", "In {folder}/kaglaunch.toml: run = 5 gives the section [run] a value of its own."),
    (
        {},
        "timesteps = 5\n",
        "timesteps stands in no section.\nIt belongs below a line [run].",
    ),
    ({}, "device = 'cpu'\n", "It belongs below a line [session]."),
    ({}, "timestep = 5\n", "none has such a key. Did you mean timesteps?"),
    ({}, "\ufeff[run]\ntimesteps = -5\n", "[run] timesteps in {folder}/kaglaunch.toml must be more than 0; got -5."),
    ({}, "[run]\ntimesteps = -5\n", "[run] timesteps in {folder}/kaglaunch.toml must be more than 0; got -5."),
    ({}, "[run]\ntimesteps = true\n", "[run] timesteps in {folder}/kaglaunch.toml must be a whole number; got True."),
    ({}, "[run]\nalgorithm = 'ppo'\n", "Did you mean PPO?"),
    pytest.param(
        {},
        "[run]\nenv = 'CartPole'\n",
        "[run] env in {folder}/kaglaunch.toml must be an id",
        marks=knows_gymnasium,
    ),
    ({}, "[run]\nalgorithm = 'SACK'\n", "got 'SACK'."),
    (
        {},
        "[run]\nhyperparameters = {{n_step = 1}}\n",
        "[run] hyperparameters in {folder}/kaglaunch.toml: PPO takes no 'n_step'; it takes batch_size",
    ),
    ({}, "[run]\nhyperparameters = {{n_step = 1}}\n", "Did you mean n_steps?"),
    (
        {},
        "[run]\ninclude = ['no.py']\n",
        "[run] include in {folder}/kaglaunch.toml names 'no.py', and there is no such",
    ),
    ({"KAGLAUNCH_RUN_INCLUDE": "['no.py']"}, "", "KAGLAUNCH_RUN_INCLUDE names 'no.py', and there is no such"),
    (
        {},
        "[run]\nhyperparameters = {{learning_rate = 'cos_1'}}\n",
        "or a function of what remains as my_schedules:warm_up; got 'cos_1'.",
    ),
    ({"KAGLAUNCH_RUN_HYPERPARAMETERS": "{{n_steps = '1'}}"}, "", "KAGLAUNCH_RUN_HYPERPARAMETERS: n_steps must be a"),
    ({}, "[run]\ntimestep = 5\n", "Unknown key 'timestep'. Did you mean timesteps?"),
    ({}, "[runs]\n", "unknown section [runs]. Did you mean run?"),
    (
        {},
        "[session]\nmax_hours = 13\n",
        "[session] max_hours in {folder}/kaglaunch.toml must be more than 0 and at most",
    ),
    ({}, "[watch]\nsilence_s = -1\n", "[watch] silence_s in {folder}/kaglaunch.toml must not be negative; got -1."),
    ({}, "[run\n", "kaglaunch.toml cannot be read"),
    ({}, "[run]\nenv = '\udcff'\n", "kaglaunch.toml cannot be read: it is not text in UTF-8 (byte 14 is none)."),
]


@pytest.mark.parametrize(("environ", "toml", "says"), CONFIGURED)
def test_a_bad_value_is_named_by_its_variable_or_by_key_section_and_file(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    toml: str,
    says: str,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("{{", "{").replace("}}", "}"))
    written = toml.replace("{{", "{").replace("}}", "}")
    (home / "kaglaunch.toml").write_bytes(written.encode("utf-8", "surrogateescape"))
    assert main(["push", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert says.format(folder=home) in said
    assert not [inside for inside in INSIDES if inside in said]


def test_what_quick_lies_over_is_still_named_where_it_stands(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "kaglaunch.toml").write_text("[run]\nhyperparameters = {n_step = 1}\n")
    assert main(["push", "--quick", "--dry-run"]) == 2
    assert f"[run] hyperparameters in {home}/kaglaunch.toml: PPO takes no 'n_step'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed",
    [
        "evaluate nosuch",
        "evaluate webster --scenario nosuch",
        "push --env CartPole",
        "push --env nosuch:make",
        "push --env balance:nosuch",
        "push --device gpu",
        "push --waive nosuch",
        "cancel nosuch",
    ],
)
def test_a_typing_error_is_found_before_anything_heavy_is_loaded_or_a_server_started(
    known: Ledger, home: Path, typed: str
) -> None:
    code = (
        "import sys\nfrom launcher.cli import main\n"
        f"code = main({typed.split()!r})\n"
        "print('LOADED', *{name.split('.')[0] for name in sys.modules})\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    loaded = set(done.stdout.rsplit("LOADED", 1)[1].split())
    assert done.returncode == 2, done.stderr
    assert not loaded & {"torch", "numba", "numpy", "gymnasium", "starlette", "kaggle", "kagglesdk", "pydantic"}
    assert not (home / "state" / "kaglaunch" / "local-kaggle").exists()


def test_what_is_read_from_the_files_of_other_packages_is_what_they_have(home: Path) -> None:
    import gymnasium  # here, so that every other test of this module runs without the training extra

    from arz_model.control import controllers, scenarios

    assert set(catalogue.controllers()) == set(controllers.CONTROLLERS)
    assert catalogue.scenarios() == scenarios.available()
    assert set(catalogue.environments()) >= {"CartPole-v1", "Pendulum-v1", "LunarLander-v3"}
    assert set(catalogue.environments()) <= set(gymnasium.registry)
    for name in catalogue.scenarios():
        assert set(catalogue.demands(name)) == set(scenarios.load(name).profiles)


@pytest.mark.parametrize("typed", [["--version"], ["version"]])
def test_the_version_has_one_source(home: Path, capsys: pytest.CaptureFixture[str], typed: list[str]) -> None:
    import importlib.metadata

    assert main(typed) == 0
    assert capsys.readouterr().out.strip() == launcher.__version__ == kaglaunch.__version__
    assert importlib.metadata.version("kaglaunch") == launcher.__version__


HELPED = [[], *([name] for name in ("push", "cancel", "evaluate", "logs")), ["local", "start"], ["local", "fault"]]


@pytest.mark.parametrize("verb", HELPED)
def test_help_is_given_in_three_ways(home: Path, capsys: pytest.CaptureFixture[str], verb: list[str]) -> None:
    said = set()
    for typed in ([*verb, "--help"], [*verb, "-h"], ["help", *verb]):
        assert main(typed) == 0
        said.add(capsys.readouterr().out)
    (text,) = said
    assert text.startswith("Usage: ")
    assert "[[" not in text
    assert not re.search(r"<int>|<float>|<str>|<path>|list\[|x[<>]=", text)


def test_help_says_in_words_which_numbers_an_option_takes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    assert "[default: 50; at least 2]" in capsys.readouterr().out
    assert main(["local", "start", "--help"]) == 0
    assert "[1 to 65535]" in capsys.readouterr().out


def test_help_lists_every_verb_once_under_a_heading(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    headings = re.findall(r"^(\w[\w ,]+):$", text, re.MULTILINE)
    assert headings[1:] == ["Before a run", "Start, go on, end", "Look on", "What came of it", "This machine"]
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")  # type: ignore[union-attr]
        assert len(re.findall(rf"^  {name} ", text, re.MULTILINE)) == 1, name
    assert "..." not in text.split("Before a run")[1].split("Exit codes")[0]


def test_the_public_package_loads_the_verbs_only_when_they_are_asked_for() -> None:
    loaded = "print('launcher.api' in sys.modules)"
    code = f"import sys, kaglaunch; {loaded}; kaglaunch.Kaglaunch; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert kaglaunch.Kaglaunch is Kaglaunch
    done = subprocess.run([sys.executable, "-m", "kaglaunch", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kaglaunch.__version__


def test_every_installed_package_says_that_it_is_typed() -> None:
    root = Path(launcher.__file__).parents[1]
    assert all((root / name / "py.typed").exists() for name in ("kaglaunch", "launcher", "kernel", "arz_model"))


def test_python_gets_a_launcher_error_that_names_the_keyword(home: Path) -> None:
    with pytest.raises(LauncherError, match=r"target must be kaggle or local; got 'foo'"):
        Kaglaunch(target="foo")
    with pytest.raises(LauncherError, match=r"^timesteps must be more than 0; got -5"):
        Kaglaunch(target="local").push(timesteps=-5)
    with pytest.raises(LauncherError, match=r"no setting 'timestep'. Did you mean timesteps\?"):
        Kaglaunch(target="local").push(timestep=5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Kaglaunch(target=5), "target must be a string; got 5."),  # type: ignore[arg-type]
        (lambda: Kaglaunch().evaluate(["nosuch"]), "controllers[0] must be a string; got ['nosuch']."),  # type: ignore[arg-type]
        (lambda: Kaglaunch().evaluate("webster", agents="short"), "agents must be a list; got 'short'."),
        (lambda: Kaglaunch().evaluate("webster", seeds=1), "seeds must be 2 or more; got 1."),
        (lambda: Kaglaunch().report(5), "run must be a string; got 5."),  # type: ignore[arg-type]
        (lambda: Kaglaunch().note(RUN_ID, tags="thesis"), "tags must be a list; got 'thesis'."),
        (lambda: Kaglaunch().note(RUN_ID, text=5), "text must be a string; got 5."),  # type: ignore[arg-type]
        (lambda: Kaglaunch().push(waive="speed"), "waive must be a list; got 'speed'."),
        (lambda: Kaglaunch().push(quick="yes"), "quick must be true or false; got 'yes'."),  # type: ignore[arg-type]
        (lambda: Kaglaunch().resume(RUN_ID, max_hours="2"), "max_hours must be a number; got '2'."),  # type: ignore[arg-type]
        (lambda: Kaglaunch().logs(RUN_ID, session="1"), "session must be a whole number; got '1'."),  # type: ignore[arg-type]
        (lambda: Kaglaunch().fetch_checkpoints(RUN_ID, step=True), "step must be a whole number; got True."),
    ],
)  # fmt: skip
def test_python_is_told_which_argument_has_another_type(known: Ledger, call: Callable[[], object], says: str) -> None:
    with pytest.raises(LauncherError) as raised:
        call()
    assert str(raised.value) == says
    assert raised.value.exit_code == 2


@pytest.mark.trains
def test_python_may_give_paths_and_numbers_as_it_has_them(known: Ledger) -> None:
    import numpy as np  # here, so that every other test of this module runs without the training extra

    with pytest.raises(LauncherError, match=r"There is no checkpoint missing\.zip"):
        Kaglaunch().evaluate("webster", agents=(Path("missing.zip"),), seeds=np.int64(3))
    assert Kaglaunch().note(RUN_ID, tags=("thesis",))["tags"] == ["thesis"]


@pytest.mark.parametrize("tag", ["", "a b", "a,b", "a\n", "x" * 41, "\x1b[1m"])
def test_a_tag_is_a_word_however_it_is_given(known: Ledger, tag: str) -> None:
    for given in (lambda: Kaglaunch(target="local").push(tags=[tag]), lambda: Kaglaunch().note(RUN_ID, tags=[tag])):
        with pytest.raises(LauncherError, match=r"^A tag must be one word of letters, digits and .*; got "):
            given()
    assert Kaglaunch().note(RUN_ID, tags=["thesis", "été-2", "v1.0"])["tags"] == ["thesis", "été-2", "v1.0"]
    assert not (Path.cwd() / "state" / "kaglaunch" / "local-kaggle").exists()


@pytest.mark.parametrize(
    ("word", "names", "meant"),
    [
        ("CartPole", ["CartPole-v0", "CartPole-v1", "Pendulum-v1"], ["CartPole-v0", "CartPole-v1"]),
        ("T4", ["NvidiaL4", "NvidiaTeslaT4"], ["NvidiaTeslaT4"]),
        ("actuatd", ["fixed", "actuated"], ["actuated"]),
        ("zzz", ["fixed", "actuated"], []),
        ("SAC", ["PPO", "A2C", "DQN"], []),
        ("ppo", ["PPO", "A2C", "DQN"], ["PPO"]),
        ("stp", ["start", "stop"], ["stop"]),
        ("paek", ["near", "peak"], ["peak"]),
        ("", ["fixed"], []),
    ],
)
def test_what_is_most_alike_is_proposed(word: str, names: list[str], meant: list[str]) -> None:
    assert closest(word, names) == meant


@pytest.mark.parametrize(
    "typed", [["push", "--accelerator", "A100"], ["push", "--waive", "sped"], ["status", "nosuch"], ["runs"], ["note"]]
)
def test_lines_on_a_terminal_break_between_words(known: Ledger, home: Path, typed: list[str]) -> None:
    known.describe_run(RUN_ID, note="a note that is longer than what is left of a line of eighty columns " * 2)
    lines = at_a_terminal(typed, home)[1].splitlines()
    assert len(lines) > 1
    for line in lines:
        assert len(line) <= 80 or " " not in line.strip()


def test_a_table_wraps_its_cells_between_words_and_loses_none() -> None:
    header, body = ["run", "what is said of it"], [["run-abcdef", "one two three four five six seven"], ["r", "eight"]]
    wide, narrow = tables.columns(header, body, 200), tables.columns(header, body, 30)
    assert len(wide) == 4
    assert max(map(len, narrow)) <= 30
    words = " ".join(narrow).split()
    assert [word for word in words if not word.startswith("-")].count("seven") == 1
    assert {"one", "two", "three", "four", "five", "six", "seven", "eight"} <= set(words)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"event": "published", "num_timesteps": 1500, "version": 3, "bytes": 2_000_000, "seconds": 9},
         "Published t1,500 as version 3, 2.0 MB, in 9 s: it is safe."),
        ({"event": "training", "num_timesteps": 30, "total_timesteps": 100, "algorithm": "PPO", "device": "cpu"},
         "Training begins from t30 of 100: PPO on cpu."),
        ({"event": "gate", "checks": [{"name": "speed", "verdict": "WARN", "evidence": "slow"},
                                      {"name": "plan", "verdict": "PASS", "evidence": "fits"}]},
         "The trial before the training: WARN speed."),
        ({"event": "calibration", "num_timesteps": 20, "steps_per_s": 50.0, "seconds_needed": 90.0, "fits": True},
         "Measured 50 timesteps/s: the rest takes 1 min 30 s and fits into this session."),
        ({"event": "calibration", "num_timesteps": 20, "steps_per_s": 50.0, "seconds_needed": 90.0},
         "Measured 50 timesteps/s: the rest takes 1 min 30 s."),
        ({"event": "publish_failed", "reason": "403: denied"}, "Publishing t? failed: 403: denied."),
        ({"event": "flood", "lines_per_s": 21920.0, "reason": "too many lines", "sample": "cell 7"},
         "A flood of 21,920 log lines/s, stop: too many lines. One of them: cell 7."),
        ({"event": "flood", "lines_per_s": 120.5}, "A flood of 120.5 log lines/s, stop."),
        ({"event": "a_newer_thing", "speed": 5, "inner": {"x": 1}}, "A newer thing: speed 5."),
        ({"event": "checkpoint", "num_timesteps": "many"},
         "Checkpoint, which cannot be read: num_timesteps must be a whole number; got 'many'."),
        ({"event": "result", "status": "finished", "num_timesteps": 100, "total_timesteps": 100,
          "published_timesteps": 90},
         "The session ended, finished: t100 of 100, 90 published."),
        ({"event": "progress", "num_timesteps": 20, "total_timesteps": 100, "steps_per_s": None, "reward": 0.5},
         "At t20 of 100, reward a step 0.5."),
    ],
)  # fmt: skip
def test_an_event_is_said_in_a_sentence(event: dict[str, object], said: str) -> None:
    assert sentence(events.from_plain(event)) == said


@pytest.mark.parametrize("name", events.EVENTS)
def test_every_kind_of_event_has_a_sentence_with_no_more_than_it_must_have(name: str) -> None:
    cls = events.EVENTS[name]
    needed = [one for one in dataclasses.fields(cls) if one.default is one.default_factory is dataclasses.MISSING]
    least = {"int": 1, "float": 1.0, "str": "word"}
    bare = cls(**{one.name: least[str(one.type)] for one in needed})
    for event in (bare, events.from_plain({"event": name, "num_timesteps": [], "file": 0, "rule": 0, "status": 0})):
        said = sentence(event)
        assert said.endswith(".")
        assert said[0].isupper()
        assert "None" not in said
        assert not re.match(r"[a-z_ ]+: [a-z_ ]+ \d", screen.describe(event)), "no list of keys"


COMPLETIONS = [
    ("fetch", {"fetch-checkpoints"}),
    ("cancel quick-", {RUN_ID}),
    ("evaluate --agent quick-", {RUN_ID}),
    ("runs --tag th", {"thesis"}),
    ("push --device c", {"cpu", "cuda"}),
    ("push --target l", {"local"}),
    ("push --accelerator NvidiaTesla", {"NvidiaTeslaT4", "NvidiaTeslaA100"}),
    pytest.param("push --env CartP", {"CartPole-v0", "CartPole-v1"}, marks=knows_gymnasium),
    ("push --waive sp", {"speed"}),
    ("evaluate act", {"actuated"}),
    ("evaluate webster --scenario cros", {"crossing", "crossing_four_phases"}),
    ("evaluate webster --scenario crossing --demand pe", {"peak"}),
    ("local fault session_limit_s", {"session_limit_s="}),
    ("local fa", {"fault"}),
    ("help pu", {"push"}),
    ("help local st", {"start", "status", "stop"}),
    ("help push ", set()),
    ("resume --allow-changed re", {"reward"}),
    ("logs --session ", {"1", "2"}),
    ("logs quick-abcdef --session ", {"1", "2"}),
    ("logs other-abcdef --session ", set()),
    ("fetch-checkpoints --step ", {"70", "60", "50"}),
    ("fetch-checkpoints quick-abcdef --step 7", {"70"}),
    ("push --env bal", {"balance:make", "balance:Balance"}),
    ("push --env arz", {"arz_model:TrafficSignal-v0"}),
    ("push --include ", {"balance.py", "other.py", "signals/", "runs/", "state/"}),
    ("push --include signals/", {"signals/env.py"}),
    ("push --include signals/no", set()),
    ("debug-prints bal", {"balance.py"}),
    ("adopt ", set()),
]


@pytest.mark.parametrize(("typed", "offered"), COMPLETIONS, ids=lambda one: one if isinstance(one, str) else "")
def test_a_shell_completes_verbs_and_values(known: Ledger, home: Path, typed: str, offered: set[str]) -> None:
    known.describe_run(RUN_ID, tags=["thesis"])
    run = known.run(RUN_ID)
    for after in (0, 1):
        known.begin_session(
            run, device="cpu", accelerator=None, max_seconds=1, max_timesteps_at_risk=0, publish_interval_seconds=1,
            after=after,
        )  # fmt: skip
    known.update_session(RUN_ID, 1, published_timesteps=50)
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "checkpoint_t60.zip").touch()
    told = '@kaglaunch {"event": "published", "num_timesteps": 70}'
    run.log(2).write_text(f"1.000 stdout {told}\n2.000 stdout a line of the recipe\n")
    (home / "signals").mkdir()
    (home / "signals" / "env.py").touch()
    assert _offered(typed) == offered
    assert not (home / "state" / "kaglaunch" / "local-kaggle").exists(), "a key that is pressed starts no server"


def test_a_shell_completes_runs_that_only_the_target_knows(stage: Stage) -> None:
    here, elsewhere = stage.begins(FINISHED), stage.begins(FINISHED)
    stage.book.forget_session(elsewhere.run_id, 1)
    assert _offered("adopt staged-") == {elsewhere.run_id}
    assert _offered(f"adopt {here.run_id}") == set()


def _offered(typed: str) -> set[str]:
    """What bash is offered at the end of these words."""
    words = ["kaglaunch", *typed.split(), *([""] if typed.endswith(" ") else [])]
    environ = {"_KAGLAUNCH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-m", "kaglaunch"]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, check=False)
    assert not done.stderr
    return set(done.stdout.split())
