"""The verbs of `kaglaunch`: declared here, done in `launcher.commands`; errors are caught once, in `main`."""

# Annotations are not postponed here: typer would have to compile each of them again at every start.

import contextlib
import errno
import gc
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, Exit, TyperException

from launcher import __version__, completion, streams, suggestions
from launcher.errors import Interrupted, LauncherError, Refused, UsageError
from launcher.light_start import LightGroup
from launcher.options import (
    Accelerator,
    Agent,
    CheckpointFreq,
    Controllers,
    Demand,
    DeviceOption,
    Env,
    Fault,
    Include,
    Json,
    MaxHours,
    Quick,
    ReportJson,
    RunArgument,
    Scenario,
    Seed,
    Tag,
    Target,
    Timesteps,
    Waive,
    Yes,
    run_flags,
    session_flags,
    target_of,
)
from launcher.reasons import reason
from launcher.streams import ReaderGone

# Rich help would cost more to import than everything else that `--help` needs.
_PLAIN = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "no_args_is_help": True,
    "cls": LightGroup,
    "context_settings": {"help_option_names": ["--help", "-h"]},
}
START, TRAIN, LOOK, RESULTS, MACHINE = (
    "Before a run",
    "Start, go on, end",
    "Look on",
    "What came of it",
    "This machine",
)
app = typer.Typer(
    name="kaglaunch",
    help="Long RL training on Kaggle's free accelerators, with nothing ever lost.",
    epilog="A first run: `kaglaunch push --quick`, then `kaglaunch watch`. Where no run is named, the newest of this "
    "folder is meant. Exit codes: 0 done, 1 environment or unexpected, 2 usage, 3 refused before anything was spent, "
    "4 stopped by an alert, 5 the kernel failed, 6 cancelled or timed out, 130 Ctrl-C.",
    **_PLAIN,  # type: ignore[arg-type]
)
local_app = typer.Typer(**_PLAIN | {"no_args_is_help": False})  # type: ignore[arg-type]
app.add_typer(local_app, name="local", rich_help_panel=MACHINE)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def _kaglaunch(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what is done; a traceback with errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


@app.command(rich_help_panel=START)
def init(force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False) -> None:
    """Write a kaglaunch.toml that says what every key means.

    Example: kaglaunch init
    """
    from launcher.commands.init import init as command

    command(force=force)


@app.command(rich_help_panel=TRAIN)
def push(
    quick: Quick = False,
    timesteps: Timesteps = None,
    checkpoint_freq: CheckpointFreq = None,
    device: DeviceOption = None,
    accelerator: Accelerator = None,
    max_hours: MaxHours = None,
    seed: Seed = None,
    env: Env = None,
    include: Include = None,
    waive: Waive = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the session to its end.")] = False,
    relay: Annotated[
        bool, typer.Option("--relay", help="Chain sessions until all timesteps are done, as `kaglaunch relay` does.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and show exactly what would be pushed; push nothing.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="How the run's name begins, in place of `run`.")
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="What to remember of it.")] = "",
    tag: Tag = None,
    target: Target = None,
    json: Json = False,
) -> None:
    """Start a new run: check, pack, push.

    Example: kaglaunch push --quick
    """
    flags = run_flags(timesteps, checkpoint_freq, seed, env, include, device, accelerator, max_hours)
    forced = target_of(target)
    from launcher.commands.push import push as command

    command(
        quick=quick,
        forced=forced,
        flags=flags,
        waive=waive or (),
        dry_run=dry_run,
        watch_it=watch,
        relay_it=relay,
        as_json=json,
        name=name,
        note=note,
        tags=tag or (),
    )


@app.command(rich_help_panel=START)
def preflight(
    quick: Quick = False,
    timesteps: Timesteps = None,
    checkpoint_freq: CheckpointFreq = None,
    device: DeviceOption = None,
    accelerator: Accelerator = None,
    max_hours: MaxHours = None,
    seed: Seed = None,
    env: Env = None,
    include: Include = None,
    waive: Waive = None,
    again: Annotated[bool, typer.Option("--again", help="Repeat a trial that passed before.")] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Kill the trial's training five times, and compare each resume.")
    ] = False,
    target: Target = None,
    json: Json = False,
) -> None:
    """Check everything that a push checks, and push nothing: PASS, WARN or FAIL with evidence and fix.

    Example: kaglaunch preflight --timesteps 200000
    """
    flags = run_flags(timesteps, checkpoint_freq, seed, env, include, device, accelerator, max_hours)
    forced = target_of(target)
    from launcher.commands.preflight import run as command

    command(quick=quick, forced=forced, flags=flags, waive=waive or (), again=again, thorough=thorough, as_json=json)


@app.command(rich_help_panel=LOOK)
def watch(run: RunArgument = None, json: Json = False) -> None:
    """Follow the newest session of a run to its end, its log kept; Ctrl-C leaves it running.

    Example: kaglaunch watch
    """
    from launcher.commands.watch import watch as command

    command(_meant(run, json), json_lines=json)


@app.command(rich_help_panel=RESULTS)
def fetch_checkpoints(
    run: RunArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Every checkpoint, not only the newest.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="The newest that verifies (the default).")] = False,
    step: Annotated[
        int | None,
        typer.Option(metavar="N", help="The checkpoint at this timestep.", min=0, autocompletion=completion.steps),
    ] = None,
    json: Json = False,
) -> None:
    """Bring checkpoints back from dataset versions and kernel outputs, each verified.

    Example: kaglaunch fetch-checkpoints --all
    """
    from launcher.commands.fetch_checkpoints import fetch_checkpoints as command

    if everything + latest + (step is not None) > 1:
        raise UsageError("--all, --latest and --step exclude each other: give one of them.")
    command(_meant(run, json), everything=everything, step=step, as_json=json)


@app.command(rich_help_panel=TRAIN)
def resume(
    run: RunArgument = None,
    device: DeviceOption = None,
    accelerator: Accelerator = None,
    max_hours: MaxHours = None,
    here: Annotated[
        bool, typer.Option("--here", help="On this machine; Ctrl-C writes a last checkpoint and ends it.")
    ] = False,
    require_exact: Annotated[
        bool, typer.Option("--require-exact", help="Refuse where the continuation cannot be bit-identical.")
    ] = False,
    allow_changed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Accept that this differs from the checkpoint, as code; again for more.",
            autocompletion=completion.changeable,
        ),
    ] = None,
    watch: Annotated[bool, typer.Option(help="Follow the session to its end.")] = True,
    json: ReportJson = False,
) -> None:
    """Go on from the newest verified checkpoint in a new session, and follow it.

    Example: kaglaunch resume --device cpu
    """
    from launcher.commands.resume import resume as command

    more = {"require_exact": require_exact or None, "allow_changed": allow_changed or None}
    flags = session_flags(device, accelerator, max_hours, **more)
    name = _meant(run, json)
    with _reported(name, json):
        command(name, flags=flags, watch_it=watch, here=here)


@app.command(rich_help_panel=TRAIN)
def relay(
    run: RunArgument = None,
    device: DeviceOption = None,
    accelerator: Accelerator = None,
    max_hours: MaxHours = None,
    json: ReportJson = False,
) -> None:
    """Chain sessions over session limits and weekly quotas until the run is done; a killed relay goes on.

    Example: kaglaunch relay --max-hours 11.5
    """
    from launcher.commands.relay import relay as command

    flags = session_flags(device, accelerator, max_hours)
    name = _meant(run, json)
    with _reported(name, json):
        command(name, flags=flags)


@app.command(rich_help_panel=RESULTS)
def evaluate(
    controllers: Controllers = None,
    agent: Agent = None,
    scenario: Scenario = None,
    demand: Demand = None,
    decision_interval_s: Annotated[
        int | None,
        typer.Option(metavar="S", help="Decision interval of agents and of controllers that take any.", min=1),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Number of held-out episodes, the same for all.", min=2)] = 50,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="SVG file for the mean delays.", autocompletion=completion.paths),
    ] = None,
    json: Json = False,
) -> None:
    """Compare controllers and trained agents on the same held-out traffic.

    Example: kaglaunch evaluate webster actuated max-pressure --scenario crossing --demand peak
    """
    from launcher.commands.evaluate import evaluate as command

    named = {"scenario": scenario, "demand": demand, "decision-interval-s": decision_interval_s, "plot": plot}
    command(controllers or [], agent or [], {"seeds": seeds, **named}, as_json=json)


@app.command(rich_help_panel=LOOK)
def report(run: RunArgument = None, json: Json = False) -> None:
    """Show what a run has done, what is safe, and what a kill has cost.

    Example: kaglaunch report
    """
    from launcher.commands.report import report as command

    command(_meant(run, json), as_json=json)


@app.command(rich_help_panel=TRAIN)
def cancel(
    run: RunArgument = None,
    yes: Yes = False,
    json: ReportJson = False,
) -> None:
    """End the newest session of a run for certain, after a question; what is published is kept.

    Example: kaglaunch cancel run-a2b3c4
    """
    from launcher.commands import cancel as verb

    if run is None:
        verb.require_only_one_alive()
    name = _meant(run, json)
    with _reported(name, json):
        verb.cancel(name, agreed=lambda question: yes or _agreed(question, f"kaglaunch cancel {name} --yes"))


@app.command(rich_help_panel=LOOK)
def runs(
    remote: Annotated[
        bool, typer.Option("--remote", help="List runs on the target that this machine does not know.")
    ] = False,
    tag: Annotated[
        str | None, typer.Option(metavar="WORD", help="Only those with this tag.", autocompletion=completion.tags)
    ] = None,
    target: Target = None,
    json: Json = False,
) -> None:
    """List the runs that were pushed from this machine.

    Example: kaglaunch runs --json
    """
    from launcher.commands.runs import runs as command

    command(as_json=json, remote=remote, forced=target_of(target), tag=tag)


@app.command(rich_help_panel=LOOK)
def note(
    run: RunArgument = None,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="Note in place of the one before.")] = None,
    tag: Tag = None,
    untag: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Tag to take off; again for more.", autocompletion=completion.tags),
    ] = None,
) -> None:
    """Show or change what you wrote down about a run: its note and its tags.

    Example: kaglaunch note run-a2b3c4 --text "larger network" --tag thesis
    """
    from launcher.commands.note import note as command

    command(_meant(run, False), text=text, tags=tag or (), untag=untag or ())


@app.command(rich_help_panel=TRAIN)
def adopt(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Run that another machine pushed.", autocompletion=completion.unknown_runs),
    ],
    target: Target = None,
    json: ReportJson = False,
) -> None:
    """Take over a run of this account that another machine pushed: watch, fetch and resume it here.

    Example: kaglaunch adopt run-a2b3c4
    """
    from launcher.commands.adopt import adopt as command

    forced = target_of(target)
    with _reported(run, json, is_new=True):
        command(run, forced)


@app.command(rich_help_panel=LOOK)
def status(run: RunArgument = None, json: Json = False) -> None:
    """Ask the target where the newest session of a run stands.

    Example: kaglaunch status
    """
    from launcher.commands.status import status as command

    command(_meant(run, json), as_json=json)


@app.command(rich_help_panel=LOOK)
def logs(
    run: RunArgument = None,
    session: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Session number; the newest by default.", min=1, autocompletion=completion.sessions
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as the session does; Ctrl-C leaves it running.")
    ] = False,
    tail: Annotated[int | None, typer.Option(metavar="N", help="Only the last N lines.", min=0)] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Every line as the session wrote it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print the log of a session, as it was kept or as the target has it; its events as sentences.

    Example: kaglaunch logs --tail 20 --follow
    """
    from launcher.commands.logs import logs as command

    if raw and json:
        raise UsageError("--raw and --json exclude each other: give one of them.")
    command(_meant(run, True), session=session, follow=follow, tail=tail, raw=raw, as_json=json)


@app.command(rich_help_panel=LOOK)
def quota(target: Target = None, json: Json = False) -> None:
    """Show the GPU hours that are used, reserved and left this week.

    Example: kaglaunch quota
    """
    from launcher.commands.quota import quota as command

    command(target_of(target), as_json=json)


@app.command(rich_help_panel=START)
def doctor(target: Target = None, json: Json = False) -> None:
    """Look at this machine, its credentials and its target; each finding with its fix.

    Example: kaglaunch doctor
    """
    from launcher.commands.doctor import doctor as command

    command(target_of(target), as_json=json)


@app.command(rich_help_panel=MACHINE)
def debug_prints(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="Folder or file to look into.", autocompletion=completion.paths),
    ] = Path(),
    fix: Annotated[
        bool, typer.Option("--fix", help="Rewrite them to logger.debug; the originals are kept for --restore.")
    ] = False,
    restore: Annotated[bool, typer.Option("--restore", help="Put the originals back, byte for byte.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 where any is found.")] = False,
    json: Json = False,
) -> None:
    """Find debug output that nobody asked for: tagged prints, prints per timestep, in jitted code, in loops.

    Example: kaglaunch debug-prints src --fix
    """
    from launcher.commands.debug_prints import debug_prints as command

    if fix + restore + check > 1:
        raise UsageError("--fix, --restore and --check exclude each other: give one of them.")
    command(path, fix=fix, restore=restore, fail=check, as_json=json)


@app.command(rich_help_panel=MACHINE)
def demo() -> None:
    """Show the whole promise on the embedded Kaggle: a session is killed, and nothing published is lost.

    Example: kaglaunch demo
    """
    from launcher.commands.demo import demo as command

    command()


@local_app.callback(invoke_without_command=True)
def local(context: typer.Context) -> None:
    """Show or run the embedded Kaggle of this machine; the bare command is `local status`."""
    if context.invoked_subcommand is None:
        local_status()


@local_app.command("start")
def local_start(
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Port to listen on; any free one by default.", min=1, max=65_535),
    ] = None,
) -> None:
    """Start it where it does not run (a push does so by itself)."""
    from launcher.commands import local

    local.start(port)


@local_app.command("status")
def local_status(json: Json = False) -> None:
    """Show where it runs and what runs in it."""
    from launcher.commands import local

    local.status(as_json=json)


@local_app.command("stop")
def local_stop(yes: Yes = False) -> None:
    """Stop it; sessions that are alive in it are killed, after a question that names them.

    Example: kaglaunch local stop --yes
    """
    from launcher.commands import local

    local.stop(agreed=lambda question: yes or _agreed(question, "kaglaunch local stop --yes", "Stop it?"))


@local_app.command("fault")
def local_fault(
    assignment: Fault = None,
    clear: Annotated[bool, typer.Option("--clear", help="Clear all faults.")] = False,
) -> None:
    """Make it fail in a chosen way; docs/embedded-kaggle.md lists the faults.

    Example: kaglaunch local fault session_limit_s=5
    """
    from launcher.commands import local

    local.fault(assignment, clear=clear)


@app.command("help", rich_help_panel=MACHINE)
def show_help(
    verb: Annotated[
        list[str] | None,
        typer.Argument(metavar="VERB", help="Verb to explain; all by default.", autocompletion=completion.verbs),
    ] = None,
) -> None:
    """Say what a verb does, as `kaglaunch VERB --help` does.

    Example: kaglaunch help push
    """
    words = verb or []
    known = _known_words(words)
    if len(known) < len(words) and known and not _verbs_below(known):
        raise UsageError(
            f"`{' '.join(known)}` has no verb {words[len(known)]!r} below it.\n"
            f"`kaglaunch help {' '.join(known)}` says what it does."
        )
    raise typer.Exit(main([*words, "--help"]))


@app.command(rich_help_panel=MACHINE)
def version() -> None:
    """Show the version."""
    typer.echo(__version__)


def main(argv: list[str] | None = None) -> int:
    """Run one command; the only place where an error becomes an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    verbose = "--verbose" in arguments or "-v" in arguments
    try:
        result = app(args=arguments, prog_name="kaglaunch", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except Interrupted as error:
        sys.stderr.write(f"\n{error}\n")
        return error.exit_code
    except LauncherError as error:
        return _failed(str(error), error.exit_code, verbose)
    except TyperException as error:
        return _misused(error, arguments)
    except (Exit, Abort, KeyboardInterrupt) as error:
        # typer turns Ctrl-C into an exit code of its own.
        code = error.exit_code if isinstance(error, Exit) else 130
        if code == 130:
            sys.stderr.write("\nInterrupted. What was pushed goes on; follow it with `kaglaunch watch`.\n")
        return code
    except ReaderGone:
        return 0
    except OSError as error:
        return _failed(_hindered(error), 1, verbose)
    except Exception as error:  # noqa: BLE001 - the process ends here
        return _failed(
            f"Unexpected {type(error).__name__}: {error}\nThis is a defect; `kaglaunch --verbose …` shows where.",
            1,
            verbose,
        )


def _failed(message: str, code: int, verbose: bool) -> int:
    if verbose:
        import traceback

        sys.stderr.write(traceback.format_exc())
    from launcher import tables

    sys.stderr.write(tables.paragraphs(f"error: {message}", tables.width(sys.stderr)) + "\n")
    return code


def _misused(error: TyperException, arguments: Sequence[str]) -> int:
    """Say what could not be parsed; a command that is given nothing shows its help."""
    context, message = getattr(error, "ctx", None), error.format_message()
    if context is not None and message == context.get_help():
        sys.stderr.write(f"{message}\n")
        return error.exit_code
    words = _known_words(arguments)
    if hasattr(error, "possibilities") and (option := str(getattr(error, "option_name", ""))):
        options = [name for one in _command(words).params for name in one.opts if name.startswith("--")]
        message = f"No such option: {option}.{suggestions.did_you_mean(option, options)}"
    hint = f"`{' '.join(['kaglaunch', *words])} --help` says what is valid."
    return _failed(f"{message.rstrip('.?')}{'?' if message.endswith('?') else '.'}\n{hint}", error.exit_code, False)


def _hindered(error: OSError) -> str:
    """What the system does not let us do, and what to do about it."""
    try:
        Path.cwd()
    except OSError:
        return "The folder that you are in is not there any more.\nGo to one that is, with `cd`, and type it again."
    way = "Free it" if error.errno in _FULL else "See to it"
    return f"{reason(error)}.\nNothing half-written is left behind. {way}, and type it again."


_FULL = (errno.ENOSPC, errno.EDQUOT)


def _command(words: Sequence[str]) -> Any:
    """The command that `words` name, group by group."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return command


def _verbs_below(words: Sequence[str]) -> list[str]:
    return list(getattr(_command(words), "commands", {}))


def _known_words(arguments: Sequence[str]) -> list[str]:
    """The verbs that `arguments` begin with, options before them left out."""
    found: list[str] = []
    for word in arguments:
        if word in _verbs_below(found):
            found.append(word)
        elif not word.startswith("-"):
            break
    return found


def _meant(run: str | None, aside: bool) -> str:
    """The whole name of the run that is meant, said before anything is done; on standard error with `aside`."""
    from launcher.runs.ledger import Ledger

    name = Ledger().run(run).run_id
    if name != run:
        typer.echo(f"Run {name}{' (the newest of this folder)' if run is None else ''}.", err=aside)
    return name


def _agreed(question: str, without_asking: str, prompt: str = "End it?") -> bool:
    """Whether the person at the terminal says yes.

    Raises
    ------
    Refused
        Nobody can be asked.
    """
    from launcher.commands.say import can_ask, say

    if not can_ask():
        raise Refused(
            f"{question}\nNobody can be asked: standard input or standard error is no terminal. Nothing was done.\n"
            f"`{without_asking}` does it without asking."
        )
    say(question, err=True)
    return typer.confirm(prompt, err=True)


@contextlib.contextmanager
def _reported(run: str, as_json: bool, *, is_new: bool = False) -> Iterator[None]:
    """With `as_json` what is said goes to standard error, and the run's report follows, however the command ends."""
    if not as_json:
        yield
        return
    from launcher.commands.report import report

    known = not is_new
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        known = True
    finally:
        if known:
            report(run, as_json=True)


_OBJECTS_UNTIL_COLLECTED = 100_000
"""What a start makes stays: going through it again and again would take a twentieth of a short command's time."""


def run() -> None:
    """Entry point of the console script."""
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTED)
    streams.prepare()
    code = main()
    streams.finish()
    sys.exit(code)
