"""Unconditional debug output: what counts as such, what a fix makes of it, and that nothing is lost on the way."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import stat
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher import cli
from launcher.debug_prints import scan, store
from launcher.debug_prints.scan import Finding, find
from launcher.documents import schema

STORE = store.FOLDER


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def found_in(folder: Path, source: str, name: str = "module.py") -> list[Finding]:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(source), encoding="utf-8")
    return find(folder)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below `folder` with its bytes and mode."""
    return {
        file.relative_to(folder).as_posix(): (file.read_bytes(), stat.S_IMODE(file.stat().st_mode))
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# --- tags -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        'print("[DEBUG] x")',
        'print("[DEBUG_BC_GPU] inflow_L: %s" % (x,))',
        'print(f"[DEBUG_BC_DISPATCHER] {x}")',
        'print("[DEBUG] {}".format(x))',
        'print("[DEBUG]", x, sep="", end="", flush=True)',
        'print("[DEBUG] a" +\n      str(x))',
        'print("[DEBUG] a"\n      "b", x)',
        "print('''\n[debug] x''')",
        'print("DEBUG: x")',
        'print("Debug: x")',
        'print("DEBUG", x)',
        'print("DEBUG set_traffic_signal_state: Using", x)',
        'print("DEBUG_BC: x")',
        'print("dbg> x")',
        'print("<debug> x")',
        'print("[GPU DEBUG] x")',
        'print("[solver.debug] x")',
        'print("  ### [DEBUG] x")',
        'print("\\x1b[33m[DEBUG]\\x1b[0m x")',
        'print(f"{x:8.3f} [DEBUG] y")',
        'print(x, "[DEBUG]", x)',
        "print(TAG, x)",
        'print(f"{TAG} {x}")',
        'print(colored("[DEBUG] x", "red"))',
        'print("[TRACE] x")',
        'print("[DEBUG] x", file=sys.stderr)',
        'builtins.print("[DEBUG] x")',
    ],
)
def test_a_tagged_print_is_found_wherever_it_stands(tmp_path: Path, call: str) -> None:
    source = f'import builtins, sys\nTAG = "[DEBUG_BC]"\ndef once(x, colored=str):\n    if x > 1:\n        {call}\n'
    (finding,) = found_in(tmp_path, source)
    assert (finding.rule, finding.line, finding.path.name) == ("tagged", 5, "module.py")


@pytest.mark.parametrize(
    "call",
    [
        'print("finished")',
        'print("Debugging is described in debug.md")',
        'print("debug mode is on")',
        'print("pip install tool[debug]")',
        'print("trace: 3.0")',
        'print("see [docs] for DEBUG")',
        'print("undebugged: x")',
        'log("[DEBUG] x")',
        'x.print("[DEBUG] x")',
        'print("[DEBUG] x", file=stream)',
        "text = 'print(\"[DEBUG] x\")'",
    ],
)
def test_text_that_only_contains_the_word_and_output_elsewhere_are_not_found(tmp_path: Path, call: str) -> None:
    assert found_in(tmp_path, f"def once(x, log, stream):\n    {call}\n") == []


# --- guards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "if verbose: P",
        "if self.verbose >= 2: P",
        "if self.cfg.debug_bc: P",
        "if opts['debug']: P",
        "if os.environ.get('SOLVER_DEBUG'): P",
        "if logger.isEnabledFor(logging.DEBUG): P",
        "if t > 3 and DEBUG: P",
        "if not quiet: P",
        "if quiet: pass\nelse: P",
        "if verbose == 0: pass\nelse: P",
        "if verbose is not None: P",
        "if debug:\n    for i in range(3):\n        P",
        "if not debug: return\nP",
        "if self.quiet: return\nP",
        "if step % 1000 == 0: P",
        "if not step % self.log_every: P",
        "if step % 100 != 0: return\nP",
        "if step % 100: return\nP",
        "if step == 0: P",
        "if done: P",
        "if terminated or truncated: P",
        "if now - self.last_log > 5: P",
        "if not self._warned: P",
        "P if verbose else None",
        "verbose and P",
        "quiet or P",
        "[P for x in xs if debug]",
        "if debugLevel: P",
    ],
)
def test_a_print_that_verbosity_holds_back_or_a_pace_thins_out_is_not_found(tmp_path: Path, body: str) -> None:
    source = "def step(self, step, xs):\n" + textwrap.indent(body.replace("P", 'print("[DEBUG] x", step)'), "    ")
    assert found_in(tmp_path, source) == []


@pytest.mark.parametrize(
    "body",
    [
        "if x > 0: P",
        "if not verbose: P",
        "if verbose: pass\nelse: P",
        "if quiet: P",
        "if debug or x: P",
        "if verbose == 0: P",
        "if step % 1000: P",
        "if step % 1000 != 0: P",
        "if step % 2 == 0: P",
        "if step % 100 == 0: return\nP",
        "if debug: return\nP",
        "if __debug__: P",
        "if True: P",
        "if state == 1: P",
        "with lock: P",
        "verbose or P",
    ],
)
def test_other_conditions_hold_nothing_back(tmp_path: Path, body: str) -> None:
    source = "def step(self, step, x):\n" + textwrap.indent(body.replace("P", 'print("x", x)'), "    ")
    (finding,) = found_in(tmp_path, source)
    assert finding.rule == "per-step"


# --- per-step code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["step", "_step", "apply", "update", "forward", "flux_kernel", "kernel", "train_step"])
def test_a_print_in_a_function_of_a_per_step_name_is_found(tmp_path: Path, name: str) -> None:
    (finding,) = found_in(tmp_path, f"def {name}(x):\n    print('x', x)\n")
    assert (finding.rule, finding.lines_per_timestep, finding.at_least) == ("per-step", 1, False)


@pytest.mark.parametrize(
    ("source", "per"),
    [
        ("class Road(gym.Env):\n    def step(self, action):\n        print(action)\n", "timestep"),
        ("class Road(gym.Env[int, int]):\n    def reset(self, seed=None):\n        print(seed)\n", "episode"),
        ("class TrafficEnv:\n    def reset(self):\n        print('reset')\n", "episode"),
        (
            "class Saver(BaseCallback):\n    def _on_step(self):\n        print('step')\n        return True\n",
            "timestep",
        ),
        ("class Net(nn.Module):\n    def forward(self, x):\n        print(x)\n", "timestep"),
        ("def step(x):\n    helper(x)\ndef helper(x):\n    deeper(x)\ndef deeper(x):\n    print(x)\n", "timestep"),
        ("class S:\n    def step(self):\n        self._bc()\n    def _bc(self):\n        print('bc')\n", "timestep"),
        (
            "def train(total_timesteps):\n    for _ in range(total_timesteps):\n        a()\ndef a():\n    print(1)\n",
            "timestep",
        ),
    ],
)
def test_environments_callbacks_and_what_per_step_code_calls_are_per_step(
    tmp_path: Path, source: str, per: str
) -> None:
    (finding,) = found_in(tmp_path, source)
    assert (finding.rule, finding.per) == ("per-step", per)


@pytest.mark.parametrize(
    "source",
    [
        "def apply(state, steps):\n    for n in range(steps):\n        state += 1\n    print('finished', steps)\n",
        "def step():\n    if verbose:\n        helper()\ndef helper():\n    print('x')\n",
        "def helper():\n    print('x')\n",
        "class Saver(BaseCallback):\n    def _on_training_end(self):\n        print('done')\n",
        "class Parser:\n    def reset(self):\n        print('x')\n",
    ],
)
def test_a_driver_and_what_is_called_only_on_request_are_not_per_step(tmp_path: Path, source: str) -> None:
    assert found_in(tmp_path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "from numba import njit\n@njit\ndef f(x):\n    print(x)\n",
        "from numba import njit\n@njit(cache=True)\ndef f(x):\n    print(x)\n",
        "import numba\n@numba.jit(nopython=True)\ndef f(x):\n    print(x)\n",
        "import numba as nb\n@nb.vectorize(['f8(f8)'])\ndef f(x):\n    print(x)\n",
        "from numba import cuda\n@cuda.jit\ndef f(x):\n    print(x)\n",
        "import numba.cuda as gpu\n@gpu.jit(device=True)\ndef f(x):\n    print(x)\n",
        "from numba import njit as fast\n@fast\ndef f(x):\n    print(x)\n",
        "from compat import maybe_njit\n@maybe_njit\ndef f(x):\n    print(x)\n",
        "from numba import njit\ncompiled = njit(cache=True)\n@compiled\ndef f(x):\n    print(x)\n",
        "import functools, numba\nc = functools.partial(numba.njit, cache=True)\n@c\ndef f(x):\n    print(x)\n",
        "from numba import njit\ndef f(x):\n    print(x)\ng = njit(f)\n",
        "from numba import cuda\ndef f(x):\n    print(x)\ng = cuda.jit(device=True)(f)\n",
        "from numba import njit\ndef speed(f):\n    return njit(f)\n@speed\ndef f(x):\n    print(x)\n",
        "from numba import njit\n@njit\ndef f(x):\n    def inner(y):\n        print(y)\n    inner(x)\n",
        "from numba.experimental import jitclass\n@jitclass\nclass C:\n    def f(self, x):\n        print(x)\n",
    ],
)
def test_a_print_in_jitted_code_is_found_however_the_compiler_is_spelled(tmp_path: Path, source: str) -> None:
    (finding,) = found_in(tmp_path, source)
    assert (finding.rule, finding.compiled) == ("jitted", True)


def test_a_function_compiled_by_another_module_is_jitted(tmp_path: Path) -> None:
    (tmp_path / "gpu.py").write_text(
        "from numba import cuda\nfrom physics import flux\nf = cuda.jit(device=True)(flux)\n"
    )
    (finding,) = found_in(tmp_path, "def flux(x):\n    print(x)\n", "physics.py")
    assert finding.compiled


def test_what_jax_only_traces_is_not_jitted(tmp_path: Path) -> None:
    assert found_in(tmp_path, "import jax\n@jax.jit\ndef f(x):\n    print(x)\n") == []


# --- loops and estimates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "estimate"),
    [
        ("for a in xs:\n    print(a)", "at least 1 line per iteration"),
        ("while x:\n    print(x)", "at least 1 line per iteration"),
        ("[print(a) for a in xs]", "at least 1 line per iteration"),
        ("for i in range(4):\n    print(i)", "4 lines per call"),
        ("for i in range(2, 10, 2):\n    for j in (1, 2):\n        print(i, j)", "8 lines per call"),
        ("for a in xs:\n    for i in range(N):\n        print(i)", "at least 3 lines per iteration"),
        ("for step in range(total_timesteps):\n    print(step)", "1 line per timestep"),
        ("while t < t_end:\n    for i in range(3):\n        print(i)", "3 lines per timestep"),
        ("while True:\n    env.step(0)\n    print(1)", "1 line per timestep"),
        ("for n in range(n_steps):\n    if n > x:\n        print(n)", "at most 1 line per timestep"),
        ("for n in range(n_steps):\n    for a in xs:\n        print(n)", "at least 1 line per timestep"),
    ],
)
def test_a_print_in_a_loop_is_found_with_the_lines_that_the_source_proves(
    tmp_path: Path, body: str, estimate: str
) -> None:
    source = "N = 3\ndef run(x, xs, total_timesteps, n_steps, t, t_end, env):\n" + textwrap.indent(body, "    ")
    (finding,) = found_in(tmp_path, source)
    assert (finding.rule, finding.estimate) == ("loop", estimate)


def test_an_estimate_multiplies_through_calls_of_the_module(tmp_path: Path) -> None:
    source = (
        "def step():\n    for i in range(3):\n        cell()\ndef cell():\n    for j in range(5):\n        print(j)\n"
    )
    (finding,) = found_in(tmp_path, source)
    assert finding.lines_per_timestep == 15


@pytest.mark.parametrize(
    "source",
    [
        "for x in xs:\n    if x == y:\n        print('found')\n        break\n",
        "def f(xs):\n    for x in xs:\n        if x:\n            print('found')\n            return x\n",
        "for x in xs:\n    try:\n        x()\n    except OSError as error:\n        print('cannot', error)\n",
        "def step(x):\n    if x < 0:\n        print('negative', x)\n        raise ValueError(x)\n",
        "def step(x):\n    if np.isnan(x).any():\n        print('NaN', x)\n",
        "def step(x):\n    if x < 0:\n        print('WARNING: negative', x)\n",
        "def step(x):\n    if x < 0:\n        print('negative')\n        sys.exit(1)\n",
    ],
)
def test_what_is_said_once_or_on_failure_is_not_found(tmp_path: Path, source: str) -> None:
    assert found_in(tmp_path, source) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cli.py", "def usage():\n\tprint('usage: tool FILE')\n"),
        ("cli.py", "for line in lines:\n    print(line)\n"),
        ("commands/list.py", "def update(rows):\n    for row in rows:\n        print(row)\n"),
        ("pkg/__main__.py", "for line in lines:\n    print(line)\n"),
        ("tool.py", "def main():\n    for line in lines:\n        print(line)\n"),
        ("tool.py", "@click.command()\ndef go():\n    for line in lines:\n        print(line)\n"),
        ("tool.py", "@app.command('x')\ndef go():\n    for line in lines:\n        print(line)\n"),
        ("tool.py", "if __name__ == '__main__':\n    for line in lines:\n        print(line)\n"),
        ("tool.py", "def print_table(rows):\n    for row in rows:\n        print(row)\n"),
    ],
)
def test_output_to_a_person_is_not_found(tmp_path: Path, name: str, source: str) -> None:
    assert found_in(tmp_path, source, name) == []


@pytest.mark.parametrize(
    "source",
    [
        "if __name__ == '__main__':\n    print('[DEBUG] x')\n",
        "def main():\n    print('[DEBUG] x')\n",
        "def main(total_timesteps):\n    for t in range(total_timesteps):\n        print(t)\n",
    ],
)
def test_a_tag_and_a_loop_over_timesteps_count_in_main_too(tmp_path: Path, source: str) -> None:
    assert len(found_in(tmp_path, source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from rich import print\ndef step():\n    print('[DEBUG] x')\n",
        "def print(*a): ...\ndef step():\n    print('[DEBUG] x')\n",
        "try:\n    import x as print\nexcept ImportError:\n    pass\ndef step():\n    print('[DEBUG] x')\n",
        "def step(print):\n    print('[DEBUG] x')\n",
        "def step():\n    print = log\n    print('[DEBUG] x')\n",
        "def outer(print):\n    def step():\n        print('[DEBUG] x')\n",
        "def swap():\n    global print\n    print = log\ndef step():\n    print('[DEBUG] x')\n",
    ],
)
def test_a_print_that_is_not_the_builtin_is_not_found(tmp_path: Path, source: str) -> None:
    assert found_in(tmp_path, source) == []


def test_a_shadow_in_one_function_leaves_the_builtin_in_another(tmp_path: Path) -> None:
    source = (
        "def f(print):\n    print('[DEBUG] x')\ndef g():\n    print('[DEBUG] y')\nclass C:\n    def print(self): ...\n"
    )
    (finding,) = found_in(tmp_path, source)
    assert finding.line == 4


# --- trees ------------------------------------------------------------------------------------------------------------

TAGGED = "def f():\n    print('[DEBUG] x')\n"


def test_vendored_and_hidden_folders_and_links_are_not_looked_into(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text(TAGGED)
    tree = tmp_path / "tree"
    for name in (".git", ".venv", "node_modules", "__pycache__", "site-packages", "build", "x.egg-info", "own"):
        (tree / name).mkdir(parents=True)
        (tree / name / "a.py").write_text(TAGGED)
    (tree / "own" / "pyvenv.cfg").touch()
    (tree / "link.py").symlink_to(outside)
    (tree / "loop").symlink_to(tree)
    assert find(tree) == []
    (tree / "mine.py").write_text(TAGGED)
    assert [finding.path for finding in find(tree)] == [tree / "mine.py"]
    assert len(find(tree / ".git" / "a.py")) == 1


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"print 'x'\nprint('[DEBUG]')", "not Python of this version"),
        (b"\n\n\nprint('\xff[DEBUG]')", "not utf-8"),
        (b"# coding: klingon\nprint('[DEBUG]')", "not Python of this version"),
        (b"print('[DEBUG]')\0", "not Python of this version"),
        (b"print(" + b"(" * 5_000 + b")" * 5_000 + b")", ""),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_done(
    home: Path, capsys: pytest.CaptureFixture[str], raw: bytes, reason: str
) -> None:
    (home / "bad.py").write_bytes(raw)
    (home / "good.py").write_text(TAGGED)
    assert cli.main(["debug-prints", str(home), "--fix"]) == 0
    out, err = capsys.readouterr()
    assert "bad.py: skipped" in err
    assert reason in err
    assert "1 print in 1 file rewritten" in out
    assert (home / "bad.py").read_bytes() == raw


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TAGGED)
    (tmp_path / "a.py").chmod(0)
    assert "cannot be read" in scan.scan(tmp_path).skipped[0].reason


# --- what a fix makes of them -----------------------------------------------------------------------------------------


def run(text: bytes, name: str = "fixed_module") -> tuple[list[str], list[str], dict[str, Any]]:
    """Execute a module: its prints to the console, its debug messages, its names."""
    printed: list[str] = []
    messages: list[str] = []

    def record(*args: Any, sep: str | None = None, end: str = "\n", file: Any = None, flush: bool = False) -> None:
        said = (" " if sep is None else sep).join(map(str, args))
        if file in (None, sys.stdout, sys.stderr):
            printed.append(said)
        else:
            file.write(said)

    handler = logging.Handler()
    handler.emit = lambda entry: messages.append(entry.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    names: dict[str, Any] = {"__name__": name, "print": record}
    exec(compile(text, name, "exec"), names)
    return printed, messages, names


def fixed(folder: Path, raw: bytes) -> bytes:
    """What `fix` makes of a file of these bytes."""
    folder.mkdir(exist_ok=True)
    (folder / "module.py").write_bytes(raw)
    store.fix(folder)
    return (folder / "module.py").read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("print()", 'logger.debug("")'),
        ("print('text')", "logger.debug('text')"),
        ("print('100 %')", "logger.debug('100 %')"),
        ("print(f'{x:3} %')", "logger.debug(f'{x:3} %')"),
        ("print('%s %%' % x)", "logger.debug('%s %%' % x)"),
        ("print('=' * 60)", "logger.debug('=' * 60)"),
        ("print(x)", 'logger.debug("%s", x)'),
        ("print(i for i in x)", 'logger.debug("%s", (i for i in x))'),
        ("print('5 %', x, 'b')", "logger.debug('5 %% %s %s', x, 'b')"),
        ("print('a', x, sep=', %\\t\\'')", "logger.debug('a, %%\\t\\'%s', x)"),
        ("print('a', x, sep=None, end='')", "logger.debug('a %s', x)"),
        ("print(r'\\d', x)", "logger.debug(\"%s %s\", r'\\d', x)"),
        ("print('\\x25', x)", "logger.debug(\"%s %s\", '\\x25', x)"),
        ("print('\\1', x, sep='2')", "logger.debug(\"%s2%s\", '\\1', x)"),
        ("print('a', x, sep=SEP)", "logger.debug(\"%s%s%s\", 'a', SEP, x)"),
        ("print(*x)", 'logger.debug(" ".join(map(str, x)))'),
        ("print('a', *x, 3, sep='%')", "logger.debug(\"%\".join(map(str, ('a', *x, 3))))"),
        ("print('a', file=sys.stderr, flush=True)", "logger.debug('a')"),
        ("print(  'a' ,\n          x  )   # why", "logger.debug(  'a %s' ,\n          x  )   # why"),
        ("print('a',\n          flush=True)  # why", "logger.debug('a')  # why"),
        (
            "print(\n        'a',  # one\n        x,  # two\n        flush=True,  # three\n    )",
            "logger.debug(\n        'a %s',  # one\n        x,  # two\n        # three\n    )",
        ),
        ("print('a'); y = 1", "logger.debug('a'); y = 1"),
        ("if x: print('a')", "if x: logger.debug('a')"),
        ("x and print('a')", "x and logger.debug('a')"),
        ("print('a', end=x.pop())", "print('a', end=x.pop())"),
        ("print('a', **x)", "print('a', **x)"),
        ("print('a', file=x)", "print('a', file=x)"),
    ],
)
def test_each_form_becomes_a_debug_call_with_its_layout_kept(tmp_path: Path, before: str, after: str) -> None:
    head = "import logging\nimport sys\nlogger = logging.getLogger(__name__)\nSEP = ''\ndef step(x):\n    "
    assert fixed(tmp_path, (head + before + "\n").encode()).decode() == head + after + "\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("P", "import logging\n\nlogger = logging.getLogger(__name__)\n\nP"),
        ('"""Doc."""\nP', '"""Doc."""\n\nimport logging\n\nlogger = logging.getLogger(__name__)\n\nP'),
        (
            '#!/usr/bin/env python\n# coding: utf-8\n"""Doc."""\nfrom __future__ import annotations\nimport os\n\nP',
            '#!/usr/bin/env python\n# coding: utf-8\n"""Doc."""\nfrom __future__ import annotations\n'
            "import logging\nimport os\n\nlogger = logging.getLogger(__name__)\n\nP",
        ),
        ("import logging as l\nP", "import logging as l\n\nlogger = l.getLogger(__name__)\n\nP"),
        ("logger = 3\nP", "import logging\n\n_logger = logging.getLogger(__name__)\n\nlogger = 3\nP"),
        ("from a import logging\nP", None),
        ("import logging\nLOG = logging.getLogger('x')\nP", "import logging\nLOG = logging.getLogger('x')\nP"),
        ("from logging import getLogger\nlog = getLogger()\nP", "from logging import getLogger\nlog = getLogger()\nP"),
        (
            "# coding: latin-1\nx = 1\nP",
            "# coding: latin-1\nimport logging\n\nlogger = logging.getLogger(__name__)\n\nx = 1\nP",
        ),
    ],
)
def test_the_logger_is_added_once_behind_docstring_and_future_imports_or_the_modules_own_is_taken(
    tmp_path: Path, before: str, after: str | None
) -> None:
    body = "def step(x):\n    print('a')\n    print('b')\n"
    text = fixed(tmp_path, before.replace("P", body).encode()).decode()
    compile(text, "fixed", "exec")
    if after is None:
        assert "import logging as _logging" in text
        assert "_logging.getLogger(__name__)" in text
        return
    name = next(
        name for name in ("_logger", "LOG", "log", "logger") if f"{name} = " in after and f"{name}.debug" in text
    )
    assert text == after.replace("P", body.replace("print", f"{name}.debug"))


def test_a_logger_that_comes_too_late_or_is_hidden_in_the_function_is_not_taken(tmp_path: Path) -> None:
    late = b"import logging\nfor i in range(2):\n    print(i)\nlog = logging.getLogger('x')\n"
    assert b"logger.debug" in fixed(tmp_path / "late", late)
    hidden = b"import logging\nlog = logging.getLogger('x')\ndef step(log):\n    print(log)\n"
    _, messages, _ = run(fixed(tmp_path / "hidden", hidden) + b"step(3)\n")
    assert messages == ["3"]


def test_str_of_the_module_itself_is_not_used(tmp_path: Path) -> None:
    raw = b"str = None\ndef step(*x):\n    print(*x, sep='-')\nstep(1, 2)\n"
    assert run(fixed(tmp_path, raw))[1] == run(raw)[0] == ["1-2"]


EXPRESSIONS = [
    "1",
    "x",
    "d",
    "t",
    "'a'",
    '"%d 5 %"',
    "f'{x} %'",
    "'%s%%' % x",
    "'{}'.format(x)",
    "b'y'",
    "None",
    "(1, 2)",
]
EXPRESSIONS += [
    "x if x else 'n'",
    "[i for i in t]",
    "'é'",
    "'''a\n  b'''",
    "'a' 'b'",
    "count()",
    "(z := x)",
    "'\\\\'",
    "{}",
]


@st.composite
def calls(draw: st.DrawFn) -> str:
    """A print with any arguments and keywords, laid out anyhow."""
    parts = draw(st.lists(st.sampled_from([*EXPRESSIONS, "*t", "*[count(), 'u']"]), max_size=4))
    keywords = draw(
        st.lists(
            st.sampled_from(
                [
                    *("sep=''", "sep=', '", "sep='%'", "sep=None", 'sep="\'"', "sep='\\n'", "sep=SEP"),
                    *("end=''", "end='\\n\\n'", "end=SEP", "flush=True", "file=sys.stderr", "file=out"),
                ]
            ),
            max_size=3,
            unique_by=lambda keyword: keyword.partition("=")[0],
        )
    )
    comma = draw(st.sampled_from([", ", ",", ",\n          ", " ,  # why\n          ", ", \\\n  "]))
    tail = draw(st.sampled_from(["", ",", "  # last\n    ", ",\n    "])) if parts or keywords else ""
    return f"print({comma.join([*parts, *keywords])}{tail})"


@st.composite
def modules(draw: st.DrawFn) -> tuple[bytes, str]:
    """A module with prints in a per-step function, in any newlines, indentation and encoding."""
    statements = draw(st.lists(calls(), min_size=1, max_size=4))
    wraps = [
        draw(st.sampled_from(["C", "if x: C", "x = x or C", "C; x = x", "C  # tail", "for _ in t: C"]))
        for _ in statements
    ]
    body = [wrap.replace("C", statement) for wrap, statement in zip(wraps, statements, strict=True)]
    head = draw(st.sampled_from(["", '"""Doc."""\n', "# é\n\n", "from __future__ import annotations\n"]))
    text = (
        f"{head}import io, sys\nSEP = '|'\nout = io.StringIO()\ncalls = []\n\n\ndef count():\n    calls.append(0)\n"
        "    return len(calls)\n\n\ndef step(x, d, t):\n    "
        + "\n    # between\n    ".join(body)
        + "\n    return x\n\n\n"
        "result = [step(3, {'k': 1}, (1, '%s')), step(0, {}, ()), out.getvalue(), calls]\nprint('finished')"
    )
    text = text.replace("\n    ", "\n\t") if draw(st.booleans()) else text
    text += draw(st.sampled_from(["", "\n", "\n\n# end"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1"]))
    text = f"# coding: {encoding}\n{text}" if encoding == "latin-1" else text
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return text.replace("\n", newline).encode(encoding), newline


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(modules())
def test_a_fixed_module_does_the_same_and_says_the_same_to_the_logger_and_is_restored(case: tuple[bytes, str]) -> None:
    raw, newline = case
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        changed = fixed(folder, raw)
        printed, none, before = run(raw)
        still_printed, messages, after = run(changed)
        assert none == []
        assert after["result"] == before["result"]
        assert sorted([*still_printed, *messages]) == sorted(printed)
        assert "finished" in still_printed
        assert all(line.endswith(newline.encode()) for line in changed.splitlines(keepends=True)[:-1])
        assert changed.startswith(b"\xef\xbb\xbf") == raw.startswith(b"\xef\xbb\xbf")
        assert changed.endswith(b"\n") == raw.endswith(b"\n")
        assert changed.count(b"# ") == raw.count(b"# ")
        store.restore(folder)
        assert {file.name: file.read_bytes() for file in folder.rglob("*")} == {"module.py": raw}


JITTED = """\
from numba import njit


@njit
def step(x):
    print("in", x)
    total = 0
    for i in range(x):
        print(i)
    if x > 100:
        print("large")  # tail
    total += x; print(total)
    print(act(x))
    return total


@njit
def act(x):
    return x + 1
"""


def test_prints_go_from_jitted_code_and_it_still_compiles(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(JITTED)
    done = store.fix(tmp_path)
    assert {outcome.done for outcome in done.outcomes} == {"removed"}
    text = (tmp_path / "module.py").read_text()
    expected = (
        JITTED.replace('    print("in", x)\n', "").replace('print("large")', "pass").replace("print(total)", "pass")
    )
    expected = expected.replace("        print(i)\n", "        pass\n").replace("print(act(x))", "(act(x))")
    assert text == expected
    names: dict[str, Any] = {"__name__": "jitted"}
    exec(compile(text, "jitted", "exec"), names)
    assert names["step"](3) == 3


def test_a_print_within_an_expression_of_jitted_code_stays_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import numba\n@numba.njit\ndef f(x):\n    y = print(x)\n    return y\n")
    done = store.fix(tmp_path)
    assert done.written == []
    assert "compiled code" in done.outcomes[0].left


def test_a_file_that_cannot_be_kept_line_by_line_is_left(tmp_path: Path) -> None:
    raw = b"x = 1\r\ndef step():\r    print('a')\r"
    assert fixed(tmp_path, raw) == raw
    assert not (tmp_path / STORE).exists()


# --- keeping and putting back -----------------------------------------------------------------------------------------

PREDECESSOR = {
    "arz/bc.py": b'"""R\xc3\xa9gion."""\r\n\r\nimport numpy as np\r\n\r\n\r\ndef apply(state, n):\r\n'
    b"\tfor cell in range(n):\r\n\t\tprint('[DEBUG_BC_GPU]', cell)\r\n"
    b"\t\tprint(f'[DEBUG_BC_DISPATCHER] {state}',\r\n\t\t\tflush=True)\r\n\treturn state",
    "arz/env.py": b"\xef\xbb\xbfclass ArzEnv:\n    def step(self, action):\n        print('step', action)\n",
    "arz/old.py": b"# coding: latin-1\ndef update():\n    print('\xe9t\xe9')\n\n\n",
    "arz/quiet.py": b"def f():\n    return 1\n",
    "train.py": b"for step in range(5):\n    print(step)\n",
    "README.md": b"print('[DEBUG]')\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    for name, raw in PREDECESSOR.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)
    (folder / "train.py").chmod(0o755)
    (folder / "arz" / "env.py").chmod(0o440)
    return folder


def test_a_tree_is_fixed_with_modes_kept_and_restored_byte_for_byte(tree: Path) -> None:
    before = snapshot(tree)
    done = store.fix(tree)
    assert [outcome.done for outcome in done.outcomes] == ["rewritten"] * 5
    assert find(tree) == []
    after = snapshot(tree)
    assert {name: mode for name, (_, mode) in after.items() if name in before} == {
        name: mode for name, (_, mode) in before.items()
    }
    assert b"\t\tlogger.debug('[DEBUG_BC_GPU] %s', cell)\r\n\t\tlogger.debug(f'[DEBUG_BC" in after["arz/bc.py"][0]
    assert after["README.md"] == before["README.md"]
    store.restore(tree)
    assert snapshot(tree) == before
    assert not (tree / ".kaglaunch").exists()


def test_a_second_fix_keeps_the_first_original(tree: Path) -> None:
    before = snapshot(tree)
    store.fix(tree)
    kept = snapshot(tree / STORE)
    assert store.fix(tree).written == []
    train = tree / "train.py"
    train.write_bytes(train.read_bytes() + b"def step():\n    print(1)\n")
    again = store.fix(tree)
    assert again.written == []
    assert "changed after an earlier fix" in again.outcomes[0].left
    (tree / "new.py").write_text(TAGGED)
    store.fix(tree)
    assert kept.items() - snapshot(tree / STORE).items() == {("manifest.json", kept["manifest.json"])}
    assert store.restore(tree).refused[0].path == train
    assert {**snapshot(tree), "train.py": before["train.py"]}.items() >= before.items()


def test_a_file_changed_after_the_fix_is_refused_by_name_and_both_versions_stay(
    tree: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.fix(tree)
    edited = (tree / "train.py").read_bytes() + b"# edited\n"
    (tree / "train.py").write_bytes(edited)
    assert cli.main(["debug-prints", str(tree), "--restore"]) == 3
    out, err = capsys.readouterr()
    assert "3 files restored" in out
    assert f"{tree / 'train.py'}: it was changed after the fix" in err
    assert (tree / "train.py").read_bytes() == edited
    assert (tree / "arz" / "bc.py").read_bytes() == PREDECESSOR["arz/bc.py"]
    originals = [file.read_bytes() for file in (tree / STORE / "originals").iterdir()]
    assert originals == [PREDECESSOR["train.py"]]
    (tree / "train.py").write_bytes(PREDECESSOR["train.py"])
    assert cli.main(["debug-prints", str(tree), "--restore"]) == 0
    assert not (tree / ".kaglaunch").exists()


def test_one_file_is_fixed_and_restored_in_the_store_of_its_tree(tree: Path) -> None:
    before = snapshot(tree)
    store.fix(tree)
    store.restore(tree / "arz" / "bc.py")
    assert (tree / "arz" / "bc.py").read_bytes() == PREDECESSOR["arz/bc.py"]
    assert (tree / "train.py").read_bytes() != PREDECESSOR["train.py"]
    store.fix(tree / "arz" / "bc.py")
    assert not (tree / "arz" / ".kaglaunch").exists()
    store.restore(tree)
    assert snapshot(tree) == before


def test_a_link_in_the_place_of_a_fixed_file_is_not_written_through(tree: Path) -> None:
    store.fix(tree)
    outside = tree.parent / "outside.py"
    (tree / "train.py").rename(outside)
    fixed_bytes = outside.read_bytes()
    (tree / "train.py").symlink_to(outside)
    (refused,) = store.restore(tree).refused
    assert "symbolic link" in refused.reason
    assert outside.read_bytes() == fixed_bytes


def test_bytecode_of_the_fixed_file_goes_with_it_and_other_bytecode_stays(tree: Path) -> None:
    import py_compile

    store.fix(tree)
    py_compile.compile(str(tree / "train.py"))
    other = py_compile.compile(str(tree / "arz" / "quiet.py"))
    py_compile.compile(str(tree / "arz" / "env.py"), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    store.restore(tree)
    assert not (tree / "__pycache__").exists()
    assert [str(file) for file in (tree / "arz" / "__pycache__").iterdir()] == [other]


@pytest.mark.parametrize("content", ["{", "[]", '{"files": {"../x.py": {"before": "0", "after": "1", "mode": 420}}}'])
def test_a_damaged_manifest_is_refused_and_nothing_is_changed(
    tree: Path, home: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    store.fix(tree)
    (tree / STORE / "manifest.json").write_text(content)
    before = snapshot(tree)
    assert cli.main(["debug-prints", str(tree), "--restore"]) == 1
    assert "manifest.json is damaged" in capsys.readouterr().err
    assert snapshot(tree) == before


def killed(act: Callable[[Path], object], tree: Path, at: int) -> bool:
    """Run `act` in a process that is killed at its `at`-th rename, removal or fsync; False where it ends before."""
    child = os.fork()
    if child == 0:
        left = iter(range(at - 1))

        def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        for name in ("replace", "unlink", "rmdir", "fsync"):
            setattr(os, name, deadly(getattr(os, name)))
        with contextlib.suppress(BaseException):
            act(tree)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fix_killed_anywhere_is_taken_back_by_a_restore(tree: Path) -> None:
    before = snapshot(tree)
    at = half_done = 0
    while killed(store.fix, tree, at := at + 1):
        now = snapshot(tree)
        changed = [name for name in before if now[name] != before[name]]
        assert all(b"logger.debug" in now[name][0] and now[name][1] == before[name][1] for name in changed)
        half_done += 0 < len(changed) < 4
        store.restore(tree)
        assert snapshot(tree) == before
        assert not (tree / ".kaglaunch").exists()
    assert at > 30
    assert half_done > 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_restore_killed_anywhere_is_finished_by_the_next(tree: Path) -> None:
    before = snapshot(tree)
    at, cut = 0, True
    while cut:
        store.fix(tree)
        cut = killed(store.restore, tree, at := at + 1)
        store.restore(tree)
        assert snapshot(tree) == before
    assert at > 20


def test_every_file_is_synchronised_before_it_is_renamed_and_originals_come_first(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(Path(b).name), replace(a, b)))
    store.fix(tree)
    names = [event for event in events if event != "fsync"]
    assert events == [event for name in names for event in ("fsync", name, "fsync")]
    assert names[-5:] == ["manifest.json", "train.py", "bc.py", "env.py", "old.py"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_listing_exits_with_0_and_says_what_to_type_and_check_exits_with_3(
    tree: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["debug-prints", str(tree)]) == 0
    out = capsys.readouterr().out
    assert f"{tree / 'arz' / 'bc.py'}:8: tagged: print('[DEBUG_BC_GPU]', cell) | at least 1 line per timestep" in out
    assert out.splitlines()[-1].startswith("5 prints in 4 of 5 files (")
    assert "--fix" in out.splitlines()[-1]
    assert cli.main(["debug-prints", str(tree), "--check"]) == 3
    assert "--fix" in capsys.readouterr().err
    assert cli.main(["debug-prints", str(tree), "--fix"]) == 0
    assert cli.main(["debug-prints", str(tree), "--check"]) == 0
    assert cli.main(["debug-prints", str(tree), "--restore"]) == 0
    assert "4 files restored" in capsys.readouterr().out


def test_json_lists_each_finding_with_its_estimate(tree: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(name: str, *arguments: str) -> Any:
        assert cli.main(["debug-prints", *arguments, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        jsonschema.validate(found, schema.json_schema(name))
        return found

    (finding,) = said("debug-prints", str(tree / "arz" / "env.py"))["findings"]
    assert finding["rule"] == "per-step"
    assert (finding["line"], finding["lines_per_timestep"]) == (3, 1)
    assert {entry["done"] for entry in said("debug-prints-fix", str(tree), "--fix")["findings"]} == {"rewritten"}
    assert len(said("debug-prints-restore", str(tree), "--restore")["restored"]) == 4


def test_a_missing_path_and_contradicting_options_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--fix"], ["--restore"]):
        assert cli.main(["debug-prints", "nowhere", *options]) == 2
        assert "nowhere is no file and no folder" in capsys.readouterr().err
    assert cli.main(["debug-prints", ".", "--fix", "--restore"]) == 2


def test_nothing_found_and_nothing_to_restore_exit_with_0(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--fix"], ["--restore"], ["--check"]):
        assert cli.main(["debug-prints", str(home), *options]) == 0
    assert "Nothing to restore" in capsys.readouterr().out
    assert list(home.iterdir()) == []
