"""What the targets tell of runs right now: all asked at once, within one bound, and written into the ledger."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kernel.contract import names
from kernel.contract.record import Record
from launcher.errors import BackendUnavailable, LauncherError, NotFound
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run, Session
from launcher.targets import target
from launcher.targets.base import DatasetVersion, LogLine, Quota, SessionState
from launcher.targets.here import HereBackend
from launcher.targets.quick_look import QuickLook
from launcher.targets.target import TargetName

if TYPE_CHECKING:
    from launcher.runs.progress import Progress  # with every event's class, which a look without a log needs not

BOUND_S = 2.0
"""As long a person waits for a list without wondering."""
QUIET_S = 0.3
"""A log that says nothing for so long has told what it had."""
SETTLED_S = 86_400.0
"""A session and its dataset versions are settled a day after its push: no session lasts longer than twelve hours."""
WORKERS = 16
POLL_S = 0.01


class Look(Record):
    """What was told of one run beside what the ledger keeps."""

    progress: Mapping[int, Progress] = field(default_factory=dict)
    """Session -> what its log told, as far as it was read."""
    published: datetime | None = None
    """When the newest dataset version with a checkpoint was made."""
    quota: Quota | None = None
    """GPU hours of the week; None where it was not asked or not told."""
    missing: frozenset[int] = frozenset()
    """Sessions that the target does not have."""
    error: LauncherError | None = None
    """Why something was not answered."""


def look(
    runs: Sequence[Run],
    book: Ledger,
    *,
    with_quota: bool = False,
    bound_s: float = BOUND_S,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> dict[str, Look]:
    """Ask for every session of `runs` of which something may have changed; ends after `bound_s`, answered or not.

    States, published timesteps and what logs tell go into the ledger, with the time at which they were seen.
    """
    deadline = clock() + bound_s
    open_sessions = {run.run_id: [s for s in book.sessions(run.run_id) if not settled(s, now())] for run in runs}
    asked = {run.run_id: _Asked(run, open_sessions[run.run_id], clock, with_quota) for run in runs}
    questions = [question for one in asked.values() for question in one.questions]
    _ask(questions, deadline, clock)
    for run in runs:
        for session in filter(lambda session: session.here, open_sessions[run.run_id]):
            _look_here(run, session, book, now())
    return {run_id: one.told(book, now()) for run_id, one in asked.items()}


def settled(session: Session, now: float) -> bool:
    """Whether nothing can change any more in what the ledger has of `session` at `now` [s since the epoch]."""
    if session.submission == "absent":
        return True
    if not session.over:
        return False
    return session.here or session.result != "" or session.seen_at - session.pushed > SETTLED_S


def published_by_session(versions: Iterable[DatasetVersion]) -> dict[int, int]:
    """Session -> furthest timestep that it published, from the notes of the dataset's versions."""
    furthest: dict[int, int] = {}
    for version in versions:
        if told := names.told_by_version(version.notes):
            timesteps, session = told
            furthest[session] = max(timesteps, furthest.get(session, 0))
    return furthest


def listed(quick: QuickLook, dataset: str, session: int) -> list[DatasetVersion]:
    """Versions of `dataset`, newest first; what the newest one says of itself is held to its files.

    A note without the checkpoint that it tells counts for nothing. The first version of a dataset has a note of the
    service's own: where it holds a checkpoint, `session` is taken to have written it.
    """
    versions = quick.versions(dataset)
    if not versions:
        return versions
    newest, *before = versions
    files = quick.dataset_files(dataset, newest.number)
    held = max((t for t in map(names.num_timesteps_of, files) if t is not None), default=0)
    told = names.told_by_version(newest.notes)
    if held and told is None:
        newest = replace(newest, notes=names.version_note(held, session))
    elif told is not None and told[0] != held:
        newest = replace(newest, notes="")
    return [newest, *before]


class _Question:
    """One thing that is asked in a thread of its own; the thread is left behind when the bound has passed."""

    def __init__(self, run: Run, ask: Callable[[QuickLook], Any]) -> None:
        self.run, self.ask = run, ask
        self.answer: Any = None
        self.error: LauncherError | None = None
        self.done = False

    @property
    def place(self) -> str:
        """Who is asked, in words."""
        return "kaggle.com" if self.run.target == TargetName.kaggle else "the embedded Kaggle"

    def hear(self, refusal: LauncherError) -> None:
        """Keep what is said meanwhile: where the bound passes, it is what there is to tell."""
        self.error = refusal

    def over(self, now: float) -> bool:
        """Whether nothing more is waited for."""
        return self.done


class _LogQuestion(_Question):
    """A log is read as far as it comes at once: that of a running session has no end."""

    def __init__(self, run: Run, session: int, clock: Callable[[], float]) -> None:
        super().__init__(run, lambda quick: quick.log(run.username, run.slug(session), self._hear))
        self.lines: list[LogLine] = []
        self._clock, self._heard = clock, 0.0

    def over(self, now: float) -> bool:
        return self.done or (bool(self.lines) and now - self._heard >= QUIET_S)

    def progress(self) -> Progress | None:
        """What the lines that came tell; None without any."""
        lines = self.lines[:]
        from launcher.runs.progress import Progress

        progress = Progress(total_timesteps=self.run.config.total_timesteps)
        for line in lines:
            progress.observe(line)
        return progress if lines else None

    def _hear(self, line: LogLine) -> None:
        self.lines.append(line)
        self._heard = self._clock()


class _Asked:
    """Everything that is asked of one run."""

    def __init__(self, run: Run, sessions: Sequence[Session], clock: Callable[[], float], with_quota: bool) -> None:
        remote = [session for session in sessions if not session.here]
        self._run = run
        self._sessions = {session.number: session for session in remote}
        self._states = {n: _Question(run, _state_of(run, n)) for n in self._sessions}
        self._logs = {n: _LogQuestion(run, n, clock) for n in self._sessions}
        newest = max(self._sessions, default=0)
        self._versions = _Question(run, lambda quick: listed(quick, run.dataset, newest)) if remote else None
        on_gpu = any(session.accelerator for session in remote)
        self._quota = _Question(run, lambda quick: quick.quota()) if with_quota and on_gpu else None
        single = [question for question in (self._versions, self._quota) if question]
        self.questions: list[_Question] = [*self._states.values(), *single, *self._logs.values()]

    def told(self, book: Ledger, now: float) -> Look:
        """What was answered, once it is in the ledger."""
        versions: list[DatasetVersion] | None = self._versions.answer if self._versions else []
        furthest = published_by_session(versions or [])
        progress: dict[int, Progress] = {}
        for number, session in self._sessions.items():
            state: SessionState | None = self._states[number].answer
            log = self._logs[number]
            values: dict[str, Any] = {}
            if (told := log.progress()) is not None:
                progress[number] = told
                values |= told.known()
            # While a session lives its kernel says itself what was taken back, and may have published since.
            over = versions is not None and state is not None and state.status.final
            if number in furthest or over:
                values |= {"published_timesteps": furthest.get(number, 0)}
            if state is not None:
                values |= {"status": state.status.value, "message": state.message, "submission": "pushed"}
                if state.status.final and log.answer:
                    values |= {"log_complete": True}
                if state.status.final and told is not None and told.result is not None:
                    values |= {"result": told.result.status}
                if versions is not None:
                    values |= {"seen_at": now}
            if values:
                taken_back = over or (told is not None and told.lost_publish)
                book.update_session(self._run.run_id, session.number, taken_back=taken_back, **values)
        missing = frozenset(n for n, question in self._states.items() if isinstance(question.error, NotFound))
        needed = [*self._states.values(), *([self._versions] if self._versions else [])]
        errors = (q.error for q in needed if q.error is not None and not isinstance(q.error, NotFound))
        newest = next((version.created for version in versions or [] if names.holds_checkpoint(version.notes)), None)
        return Look(progress, newest, self._quota.answer if self._quota else None, missing, next(errors, None))


def _state_of(run: Run, number: int) -> Callable[[QuickLook], SessionState]:
    return lambda quick: quick.state(run.username, run.slug(number))


def _ask(questions: Sequence[_Question], deadline: float, clock: Callable[[], float]) -> None:
    """Ask them side by side until all are answered or the deadline has passed."""
    waiting: queue.SimpleQueue[_Question] = queue.SimpleQueue()
    for question in questions:
        waiting.put(question)
    places = _Places(deadline, clock)

    def work() -> None:
        while clock() < deadline:
            try:
                question = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                quick = replace(places.of(question.run), on_refusal=question.hear)
                question.answer, question.error = question.ask(quick), None
            except LauncherError as error:
                question.error = error
            except Exception as error:  # noqa: BLE001 - the thread ends here, and whoever waits must hear of it
                question.error = LauncherError(f"Asking failed: {type(error).__name__}: {error}")
            question.done = True
            answered.set()

    answered = threading.Event()
    for _ in range(min(WORKERS, len(questions))):
        threading.Thread(target=work, name="look", daemon=True).start()
    import launcher.runs.progress  # noqa: F401 - while the targets think: what their answers are read with

    while clock() < deadline and not all(question.over(clock()) for question in questions):
        answered.wait(POLL_S)
        answered.clear()
    for question in questions:
        if not question.done and question.error is None:
            question.error = BackendUnavailable(f"No answer from {question.place} in time. Is the network up?")


class _Places:
    """The targets that are asked, each found once: the embedded Kaggle may have to be started."""

    def __init__(self, deadline: float, clock: Callable[[], float]) -> None:
        self._deadline, self._clock = deadline, clock
        self._lock = threading.Lock()
        self._found: dict[str, QuickLook] = {}

    def of(self, run: Run) -> QuickLook:
        """Where `run` was pushed to."""
        with self._lock:
            if run.target not in self._found:
                self._found[run.target] = target.of_run(run).quick_look(self._deadline, self._clock)
            return self._found[run.target]


def _look_here(run: Run, session: Session, book: Ledger, now: float) -> None:
    """A session on this machine is known by its process, its result and its output."""
    here, number = HereBackend(run), session.number
    state = here.state(run.slug(number))
    values: dict[str, Any] = {"status": state.status.value, "message": state.message, "seen_at": now}
    from launcher.runs.progress import Progress

    progress = Progress(total_timesteps=run.config.total_timesteps)
    if run.output(number).exists():
        with run.output(number).open(encoding="utf-8", errors="replace", newline="\n") as output:
            for text in output:
                progress.observe(LogLine(progress.last_time, "stdout", text.rstrip("\n")))
    values |= progress.known()
    if progress.checkpoint_timesteps is not None:
        # What lies on the disk of this machine outlives the session as what is published does.
        values |= {"published_timesteps": progress.checkpoint_timesteps}
    if state.status.final:
        values |= {"log_complete": True}
        if result := here.result(number):
            values |= {"result": result}
    book.update_session(run.run_id, number, **values)
