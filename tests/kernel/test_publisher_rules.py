"""The figures of publishing: how long is waited, for what, and when an alarm is due; time passes by waiting alone."""

from __future__ import annotations

import dataclasses
import json
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from kernel.checkpoints.retention import publishing_given_up
from kernel.session.listing import Remote, safe_timesteps, wrong_files
from kernel.session.publisher import Publisher
from kernel.session.upload import UploadFailed, _failure

from .test_publisher import Bench


class Answers:
    """A service that answers requests for the newest version in order, the last answer again and again."""

    def __init__(self, bench: Bench, *remotes: Remote) -> None:
        self.bench, self.remotes = bench, list(remotes)
        self.asked_at: list[float] = []
        self.timeouts: list[tuple[str, float]] = []
        self.notes: list[str] = []
        self.upload_s = 0.0

    def newest(self, handle: str, timeout: float) -> Remote:
        self.asked_at.append(round(self.bench.clock.now, 6))
        self.timeouts.append(("newest", timeout))
        return self.remotes.pop(0) if len(self.remotes) > 1 else self.remotes[0]

    def upload(self, folder: Path, handle: str, notes: str, timeout: float) -> None:
        self.timeouts.append(("upload", timeout))
        self.notes.append(notes)
        self.bench.clock.now += self.upload_s

    def download(self, handle: str, version: int, name: str, to: Path, timeout: float) -> None:
        to.write_text(json.dumps({"checkpoints": []}))


NONE_YET = Remote()
READY = {"run.json": 0, "index.json": 0}
NOTHING_PUBLISHED = {"num_timesteps": None, "given_up": False, "patience_seconds": 120.0}


def remote(version: int, *, ready: bool = True, session: int | None = 1) -> Remote:
    """The version that proves the write of `session`, or one that is not ready yet."""
    if not ready:
        return Remote(True, False, None, session)
    return Remote(True, True, version, session, dict(READY), {version: f"t=0 session={session}"})


def earlier(version: int, *, ready: bool = True, session: int | None = 1) -> Remote:
    """A version that holds a checkpoint of an earlier publish."""
    sizes = {**READY, f"checkpoint_t{version}.zip.bin": 7}
    return Remote(True, ready, version, session, sizes, {version: f"t={version} session={session}"})


def untold(version: int | None, session: int | None = 1, **sizes: int) -> Remote:
    """The first version of a dataset: its note is the service's own."""
    return Remote(True, True, version, session, {**READY, **sizes}, {version: "Initial release"} if version else {})


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """A publisher whose thread is not started: each try is asked for."""
    return lambda *args, **kwargs: Bench(tmp_path, *args, **kwargs)


def answered(b: Bench, *remotes: Remote) -> Answers:
    b.publisher._dataset.uploader = answers = Answers(b, *remotes)
    return answers


def end(publisher: Publisher) -> None:
    """What the thread does once the session ends."""
    publisher.close()
    publisher._run()


@pytest.mark.parametrize(
    ("failures", "status", "retry_after", "jitter", "wait_s"),
    [
        (1, None, None, 1.0, 2.0),
        (2, 500, None, 1.0, 4.0),
        (3, 404, None, 1.0, 8.0),
        (8, 500, None, 1.0, 256.0),
        (9, 500, None, 1.0, 300.0),
        (40, 500, None, 1.0, 300.0),
        (3, 500, None, 0.5, 4.0),
        (1, 500, None, 0.333, 0.7),
        (1, 500, None, 0.04, 0.1),
        (1, 500, None, 0.07, 0.1),
        (2, 403, None, 1.0, 4.0),
        (3, 403, None, 1.0, 5.0),
        (3, 409, None, 1.0, 5.0),
        (3, 402, None, 1.0, 8.0),
        (3, 408, None, 1.0, 8.0),
        (3, 410, None, 1.0, 8.0),
        (9, 409, 7.0, 1.0, 7.0),
        (9, 429, 0.0, 1.0, 0.1),
        (1, 429, 900.0, 1.0, 900.0),
    ],
)
def test_a_failed_publish_is_tried_again_after(
    failures: int, status: int | None, retry_after: float | None, jitter: float, wait_s: float, bench: Any
) -> None:
    b = bench([UploadFailed("no", status, retry_after)] * failures)
    b.publisher._jitter = lambda: jitter
    for _ in range(failures):
        assert not b.publisher._try()
    told = b.named("publish_failed")[-1]
    assert (told["retry_seconds"], told["status"], told["num_timesteps"]) == (wait_s, status, None)
    b.clock.now = wait_s - 0.06
    assert not b.publisher._is_due()
    b.clock.now = wait_s + 0.06
    assert b.publisher._is_due()


def test_a_retry_is_due_on_the_second(bench: Any) -> None:
    b = bench([UploadFailed("no", 429, 64.0)])
    b.publisher._try()
    b.clock.now = 63.5
    assert b.publisher._pause() == 0.002, "the bench looks every 2 ms"
    b.publisher._longest_pause = 1.0
    assert b.publisher._pause() == 0.5
    assert not b.publisher._is_due()
    b.clock.now = 64.0
    assert b.publisher._is_due()
    assert b.publisher._pause() == 0.002


class Wake(threading.Event):
    """Never waits; knows how long it was asked to, and whether it was set then."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[float | None, bool]] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append((timeout, self.is_set()))
        return True


def test_between_two_looks_a_pause_is_waited_and_a_checkpoint_ends_one_alone(bench: Any) -> None:
    publisher, looks = bench().publisher, 0

    def is_due() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            publisher.abandon()
            publisher._closing.set()
        return False

    publisher._is_due, publisher._next_at, publisher._longest_pause = is_due, 64.0, 1.0
    publisher._wake = wake = Wake()
    publisher.notify()
    publisher._run()
    assert wake.waits == [(1.0, True), (1.0, False), (1.0, False)]


class Ending(threading.Thread):
    """Lives until it was asked for three times."""

    asked = joined = 0

    def is_alive(self) -> bool:
        self.asked += 1
        return self.asked <= 3

    def join(self, timeout: float | None = None) -> None:
        self.joined += 1


def test_closing_wakes_the_publisher_and_sleeps_until_it_has_ended(bench: Any) -> None:
    publisher = bench().publisher
    publisher._thread = thread = Ending()
    publisher.close()
    assert publisher._wake.is_set()
    assert (thread.asked, thread.joined) == (4, 3)


def test_backoff_begins_anew_after_a_publish(bench: Any) -> None:
    b = bench([UploadFailed("no")] * 3 + [None] + [UploadFailed("no")])
    b.publisher._jitter = lambda: 1.0
    b.write(10)
    assert [b.publisher._try() for _ in range(4)] == [False, False, False, True]
    b.write(20)
    assert not b.publisher._try()
    assert [told["retry_seconds"] for told in b.named("publish_failed")] == [2.0, 4.0, 8.0, 2.0]
    assert b.named("publish_failed")[-1]["num_timesteps"] == 20


def test_the_third_failed_first_write_is_an_alarm_and_only_the_third(bench: Any) -> None:
    b = bench([UploadFailed("no")] * 5)
    given_up = []
    for _ in range(5):
        b.publisher._try()
        given_up.append((len(b.named("write_failed")), publishing_given_up(b.folder)))
    assert given_up == [(0, False), (0, False), (1, True), (1, True), (1, True)]
    assert b.named("write_failed")[0]["dataset"] == "alice/quick-run-ckpt"
    assert b.publisher._try()
    assert not publishing_given_up(b.folder)


def test_once_a_write_is_proved_no_failure_says_that_none_can_be_made_and_the_third_gives_up(bench: Any) -> None:
    b = bench([None, *[UploadFailed("no")] * 5])
    assert b.publisher._try()
    b.write(10)
    given_up = []
    for _ in range(5):
        assert not b.publisher._try()
        given_up.append(publishing_given_up(b.folder))
    assert given_up == [False, False, True, True, True], "nobody waits for a publish that fails again and again"
    assert b.named("write_failed") == []
    assert b.publisher._try()
    assert not publishing_given_up(b.folder)


@pytest.mark.parametrize(
    ("asked_s", "seconds", "size", "spacing_s", "told_s"),
    [
        (10.0, 0.0, 0, 10.0, None),
        (10.0, 5.0, 0, 10.0, None),
        (10.0, 6.0, 0, 12.0, 12),
        (10.0, 0.0, 5_000_000, 10.0, None),
        (10.0, 0.0, 5_500_000, 11.0, 11),
        (10.0, 7.0, 5_500_000, 14.0, 14),
        (0.0, 6.0, 0, 12.0, None),
        (0.0, 0.0, 500_000, 1.0, None),
    ],
)
def test_publishes_are_spaced_by_what_was_asked_twice_the_time_of_one_and_its_bytes(
    asked_s: float, seconds: float, size: int, spacing_s: float, told_s: int | None, bench: Any
) -> None:
    b = bench(publish_interval_seconds=asked_s)
    assert b.publisher._spacing(size, seconds) == spacing_s
    assert b.publisher._spacing(size, seconds) == spacing_s
    told = [(one["asked"], one["seconds_between"]) for one in b.named("cadence")]
    assert told == ([(f"a publish every {asked_s:.0f} s", told_s)] if told_s else []), "told once, if at all"


def test_a_trainer_that_waits_for_publishes_is_kept_waiting_by_no_interval(bench: Any) -> None:
    b = bench(max_timesteps_at_risk=50, publish_interval_seconds=10.0)
    assert b.publisher._spacing(10**9, 60.0) == 0.0
    assert b.named("cadence") == []


def test_the_interval_counts_from_the_end_of_a_publish(bench: Any) -> None:
    b = bench(publish_interval_seconds=100.0)
    answers = answered(b, NONE_YET, remote(1))
    answers.upload_s = 1.23456
    b.clock.now = 50.0
    assert b.publisher._try()
    b.write(10)
    b.clock.now = 151.0
    assert not b.publisher._is_due()
    b.clock.now = 151.25
    assert b.publisher._is_due()
    assert b.deadline.measured == [pytest.approx(1.23456)]


@pytest.mark.parametrize(("seconds_left", "is_due"), [(240.5, True), (240.0, False)])
def test_no_upload_begins_within_two_margins_of_the_limit(seconds_left: float, is_due: bool, bench: Any) -> None:
    b = bench(max_seconds=1000.0)
    b.clock.now = 1000.0 - seconds_left
    assert b.publisher._is_due() is is_due


@pytest.mark.parametrize(
    ("proved", "published", "newest", "fenced", "is_behind"),
    [
        (False, None, None, False, True),
        (True, None, None, False, False),
        (True, None, 0, False, True),
        (True, None, 10, False, True),
        (True, 10, 10, False, False),
        (True, 10, 20, False, True),
        (True, 20, 10, False, False),
        (False, None, 10, True, False),
    ],
)
def test_a_publish_is_wanted_while(
    proved: bool, published: int | None, newest: int | None, fenced: bool, is_behind: bool, bench: Any
) -> None:
    b = bench()
    b.publisher.proved, b.publisher._standing.published, b.publisher.fenced = proved, published, fenced
    if newest is not None:
        b.write(newest)
    assert b.publisher._is_behind() is is_behind


@pytest.mark.parametrize(
    ("max_seconds", "left_s"), [(40_000.0, 900.0), (930.5, 900.0), (930.0, 900.0), (929.0, 899.0), (100.0, 93.75)]
)
def test_the_last_publish_has_until_the_uploads_are_given_up_and_at_most_a_quarter_of_an_hour(
    max_seconds: float, left_s: float, bench: Any
) -> None:
    b = bench(max_seconds=max_seconds)
    b.publisher.close()
    assert b.publisher._timeout(1e9) == left_s
    b.clock.now += left_s - 0.5
    assert b.publisher._timeout(1e9) == 0.5
    b.clock.now += 0.5
    with pytest.raises(UploadFailed, match="no time is left for it"):
        b.publisher._timeout(1e9)


@pytest.mark.parametrize(
    ("status", "later"), [(None, [114.0 + 10 * k for k in range(89)]), (401, [])], ids=["no answer", "not accepted"]
)
def test_at_the_end_a_failing_publish_is_tried_every_ten_seconds_but_for_credentials_that_are_not_accepted(
    status: int | None, later: list[float], bench: Any
) -> None:
    b = bench([UploadFailed("no", status)] * 1000)
    b.publisher._jitter = lambda: 1.0
    tries: list[float] = []
    upload = b.service.upload
    b.service.upload = lambda *args: (tries.append(b.clock.now), upload(*args))
    b.clock.now = 100.0
    end(b.publisher)
    assert tries == [100.0, 102.0, 106.0, *later]
    assert b.clock.now == (1000.0 if later else 106.0)


@pytest.mark.parametrize(
    ("max_seconds", "margin_seconds", "tries"), [(1.25, 1.0, 0), (1.5, 2.0, 1)], ids=["1.0 s left", "1.125 s left"]
)
def test_no_last_publish_begins_with_a_second_left(
    max_seconds: float, margin_seconds: float, tries: int, bench: Any
) -> None:
    b = bench([UploadFailed("no")], max_seconds=max_seconds)
    b.deadline.margin_seconds = margin_seconds
    end(b.publisher)
    assert (len(b.named("publish_failed")), len(b.named("write_proved"))) == (tries, 0)


def test_a_publish_that_is_abandoned_or_fenced_is_not_tried_at_the_end(bench: Any) -> None:
    b = bench()
    b.publisher.abandon()
    end(b.publisher)
    assert b.service.versions == []
    b.publisher._abandoned, b.publisher.fenced = False, True
    end(b.publisher)
    assert b.service.versions == []


def test_the_new_version_is_asked_for_less_and_less_often(bench: Any) -> None:
    b = bench()
    answers = answered(b, NONE_YET, *[remote(1, ready=False)] * 7, remote(1))
    assert b.publisher._try()
    assert b.named("publish_slow") == []
    assert answers.asked_at == [0.0, 0.0, 0.2, 0.7, 1.7, 3.7, 8.7, 13.7, 18.7]


def test_a_version_that_is_never_ready_is_given_up_after_ten_minutes(bench: Any) -> None:
    b = bench()
    answers = answered(b, NONE_YET, remote(1, ready=False))
    assert not b.publisher._try()
    assert b.named("publish_failed")[0]["reason"] == "the new version was not ready within 604 s"
    assert answers.asked_at[-2:] == [598.7, 603.7]
    (slow,) = b.named("publish_slow")
    assert (slow["seconds"], slow["usual_seconds"]) == (123.7, None), "once, when it is longer than any first one"


def test_a_version_that_is_never_ready_is_not_asked_for_once_uploads_are_given_up(bench: Any) -> None:
    b = bench(max_seconds=640.0)
    answers = answered(b, NONE_YET, remote(1, ready=False))
    b.clock.now = 300.0
    assert not b.publisher._try()
    assert b.named("publish_failed")[0]["reason"] == "no time is left for it"
    assert answers.asked_at[-1] == 608.7, "the limit less 30 s is 610"


@pytest.mark.parametrize(
    ("before", "after", "succeeds"),
    [
        (NONE_YET, [remote(1)], True),
        (earlier(3), [earlier(3), remote(4)], True),
        (earlier(3), [remote(5)], True),
        (earlier(3), [remote(1)], True),  # deleted and made anew meanwhile
        (earlier(3), [earlier(3)], False),
        (earlier(3), [earlier(4)], False),
        (earlier(3, ready=False), [earlier(3), remote(4)], True),
        (earlier(3, session=None), [remote(4)], True),
        (NONE_YET, [untold(1)], True),
        (NONE_YET, [untold(1, session=None)], False),
        (NONE_YET, [untold(1, **{"checkpoint_t10.zip.bin": 7})], False),
        (NONE_YET, [untold(None), remote(1)], True),
        (NONE_YET, [untold(None)], False),
        (NONE_YET, [NONE_YET], False),
        (Remote(True, False, None, None, {}), [Remote(True, True, None, 1, {}), remote(1)], True),
    ],
)
def test_a_publish_has_succeeded_when_a_version_holds_what_was_sent(
    before: Remote, after: list[Remote], succeeds: bool, bench: Any
) -> None:
    b = bench()
    answers = answered(b, before, *after)
    assert b.publisher._try() is succeeds
    assert answers.notes == ["t=0 session=1"]
    assert len(answers.remotes) == 1, "every answer was asked for"
    if succeeds:
        assert b.named("write_proved")[0]["version"] == after[-1].version
        assert b.publisher.published is None
        assert b.named("published") == []
    else:
        assert not b.publisher.proved


def test_a_version_that_was_taken_while_its_answer_was_lost_is_not_sent_again(bench: Any) -> None:
    b = bench()
    answers = answered(b, remote(2))
    assert b.publisher._try()
    assert answers.notes == []
    assert b.named("write_proved")[0]["version"] == 2


def test_a_version_that_failed_in_processing_is_waited_for_no_longer_and_the_next_goes_after_it(bench: Any) -> None:
    b = bench()
    failed = dataclasses.replace(earlier(3), ready=False, failed=4)
    answers = answered(b, earlier(3), failed)
    assert not b.publisher._try()
    assert b.named("publish_failed")[0]["reason"] == "the new version failed in processing on the service"
    assert b.clock.now < 10.0
    answers.remotes = [failed, failed, remote(5)]
    assert b.publisher._try(), "what has failed is over"


def test_what_cannot_come_is_given_up_before_what_may(bench: Any) -> None:
    b = bench()
    answered(b, earlier(3))
    assert not b.publisher._try()
    assert b.named("publish_failed")[0]["reason"] == (
        "the new version is not listed, and the service processes nothing"
    )
    assert 120.0 <= b.clock.now < 130.0


def test_a_dataset_that_is_deleted_takes_back_what_was_published_and_the_newest_goes_again(bench: Any) -> None:
    """While an upload is under way: the version that is made anew is known by what it holds, not by its number."""
    b = bench(publish_interval_seconds=0.0)
    assert b.publisher._try()
    b.write(10)
    assert b.publisher._try()
    b.write(20)
    upload = b.service.upload

    def deleted_meanwhile(*args: Any) -> None:
        b.service.delete()
        upload(*args)

    b.service.upload = deleted_meanwhile
    began = b.clock.now
    assert b.publisher._try()
    assert (b.publisher.published, b.named("published")[-1]["version"]) == (20, 1)
    assert b.clock.now - began < 30.0, "nobody waits for a number"
    assert [one["num_timesteps"] for one in b.named("publish_lost")] == [10]
    b.service.upload = upload
    b.service.delete()
    b.publisher._look_again()
    assert b.publisher.published is None
    told = b.named("publish_lost")[-1]
    assert (told["num_timesteps"], told["published_timesteps"]) == (20, None)
    assert json.loads((b.folder / "published.json").read_text())["num_timesteps"] is None
    assert b.publisher._is_behind()
    assert b.publisher._try()
    assert b.publisher.published == 20


def test_a_version_that_is_deleted_leaves_the_one_before_it_published(bench: Any) -> None:
    b = bench(publish_interval_seconds=0.0)
    for t in (10, 20):
        b.write(t)
        assert b.publisher._try()
    b.service.versions.pop()
    b.publisher._look_again()
    assert (b.publisher.published, b.named("publish_lost")[0]["published_timesteps"]) == (10, 10)


@pytest.mark.parametrize("answer", [UploadFailed("denied", 403), Remote(refused=True)])
def test_what_is_refused_is_not_gone(answer: Any, bench: Any) -> None:
    b = bench()
    b.write(10)
    assert b.publisher._try()
    b.write(20)
    newest = b.service.newest

    def refused(*args: Any) -> Remote:
        if isinstance(answer, Exception):
            raise answer
        return answer

    b.service.newest = refused
    assert not b.publisher._try()
    b.publisher._look_again()
    assert (b.publisher.published, b.named("publish_lost"), b.service.timesteps()) == (10, [], [10])
    b.service.newest = newest
    assert b.publisher._try()


def test_what_an_earlier_session_published_is_published_from_the_first_look_on(bench: Any) -> None:
    b = bench(session=2)
    answered(b, earlier(40), remote(41, session=2))
    assert b.publisher._try()
    assert b.named("publish_lost")[0]["num_timesteps"] == 40, "the one that is listed now holds no checkpoint"
    b = bench(session=2)
    answered(b, earlier(40))
    b.publisher._look_again()
    assert json.loads((b.folder / "published.json").read_text())["num_timesteps"] == 40


@pytest.mark.parametrize(("theirs", "fenced"), [(None, False), (1, False), (2, False), (3, True)])
def test_only_a_later_session_fences(theirs: int | None, fenced: bool, bench: Any) -> None:
    b = bench(session=2)
    answers = answered(b, earlier(3, session=theirs), remote(4, session=2))
    assert b.publisher._try() is not fenced
    assert b.publisher.fenced is fenced
    assert answers.notes == ([] if fenced else ["t=0 session=2"])
    assert [one.get("fenced") for one in b.named("publish_failed")] == ([True] if fenced else [])


def test_each_request_has_its_time(bench: Any) -> None:
    b = bench()
    answers = answered(b, NONE_YET, remote(1))
    assert b.publisher._try()
    assert answers.timeouts == [("newest", 60.0), ("upload", 120.0), ("newest", 60.0)]
    short = bench(max_seconds=660.0)
    short.clock.now = 600.0
    answers = answered(short, NONE_YET, remote(1))
    assert short.publisher._try()
    assert answers.timeouts == [("newest", 30.0), ("upload", 30.0), ("newest", 30.0)]


@pytest.mark.parametrize(("size", "longest_s"), [(2_000_000, 120.0), (4_000_000, 200.0), (20_000_000, 600.0)])
def test_an_upload_has_time_by_its_bytes_within_limits(size: int, longest_s: float, bench: Any) -> None:
    b = bench()
    b.write(10, size)
    answers = answered(b, earlier(1))
    b.publisher._try()
    assert answers.timeouts[1] == ("upload", pytest.approx(longest_s, rel=0.01))


@pytest.mark.parametrize(
    ("sent", "listed", "wrong"),
    [
        ({"a.bin": 3, "run.json": 5}, {"a.bin": 3, "run.json": 5}, []),
        ({"a.bin": 3, "run.json": 5}, {"a.bin": 2, "run.json": 4}, ["a.bin"]),
        ({"b.bin": 3, "a.bin": 3, "run.json": 5}, {}, ["a.bin", "b.bin", "run.json"]),
        ({}, {"other.bin": 3}, []),
    ],
)
def test_a_version_must_list_every_file_and_checkpoints_at_their_size(
    sent: dict[str, int], listed: dict[str, int], wrong: list[str]
) -> None:
    assert wrong_files(sent, listed) == wrong


@pytest.mark.parametrize(
    ("version", "sizes", "notes", "safe"),
    [
        (None, {}, {}, None),
        (1, {"run.json": 1}, {1: "t=0 session=1"}, None),
        (2, {"checkpoint_t20.zip.bin": 9}, {1: "t=10 session=1", 2: "t=20 session=1"}, 20),
        (2, {"checkpoint_t20.zip.bin": 9}, {1: "t=10 session=1", 2: "Initial release"}, 20),
        (2, {"checkpoint_t20.manifest.json": 9}, {1: "t=10 session=1", 2: "t=20 session=1"}, 10),
        (3, {"run.json": 1}, {1: "Initial release", 2: "t=10 session=1", 3: "t=0 session=2"}, 10),
        (4, {"checkpoint_t40.zip.bin": 9}, {3: "t=30 session=1", 4: "t=40 session=1"}, 30),
    ],
)
def test_what_is_safe_is_the_newest_checkpoint_whose_state_is_there(
    version: int | None, sizes: dict[str, int], notes: dict[int, str], safe: int | None
) -> None:
    """A note or a manifest alone is none, and version 4 does not list what was sent."""
    assert safe_timesteps(Remote(True, True, version, 1, sizes, notes), {4}) == safe


def test_a_torn_version_counts_for_nothing_until_the_dataset_is_made_anew(bench: Any) -> None:
    b = bench([None, "torn"], publish_interval_seconds=0.0)
    assert b.publisher._try()
    b.write(10)
    assert not b.publisher._try()
    b.publisher._look_again()
    assert (b.publisher.published, b.publisher._dataset.spoilt) == (None, {2})
    b.service.delete()
    for t in (20, 30):
        b.write(t)
        assert b.publisher._try()
    b.publisher._look_again()
    assert (b.publisher.published, b.named("publish_lost")) == (30, [])


def test_a_version_without_a_sent_file_is_no_publish_and_says_which(bench: Any) -> None:
    b = bench()
    answered(b, NONE_YET, Remote(True, True, 1, 1, {"run.json": 0}, {1: "t=0 session=1"}))
    assert not b.publisher._try()
    assert b.named("publish_failed")[0]["reason"] == "the new version does not list index.json as it was sent"


def test_an_invalid_newest_checkpoint_is_named_once_and_the_one_before_goes(bench: Any) -> None:
    b = bench()
    assert b.publisher._try()
    b.write(10)
    newest = b.write(20)
    newest.write_bytes(newest.read_bytes()[:-7])
    assert b.publisher._newest_timesteps() == 20
    assert b.publisher._try(), "the next look says whether an older one is due"
    assert b.publisher._newest_timesteps() == 10
    assert b.service.timesteps() == [0]
    b.clock.now += 5.0
    assert b.publisher._try()
    assert (b.service.timesteps(), b.publisher.published) == ([0, 10], 10)


def test_no_staged_folder_is_left_whether_a_publish_succeeds_or_not(
    bench: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = tmp_path_factory.mktemp("staged")
    monkeypatch.setattr(tempfile, "tempdir", str(staged))
    b = bench([UploadFailed("no")])
    assert [b.publisher._try() for _ in range(2)] == [False, True]
    assert list(staged.iterdir()) == []


def test_what_is_published_is_written_down_before_the_first_publish_and_a_checkpoint_wakes_the_publisher(
    bench: Any,
) -> None:
    b = bench()
    (b.folder / "published.json").write_text('{"num_timesteps": 70, "given_up": true}')
    b.publisher.abandon()
    b.publisher._closing.set()
    b.publisher.start()
    assert json.loads((b.folder / "published.json").read_text()) == NOTHING_PUBLISHED
    assert not b.publisher._wake.is_set()
    b.publisher.notify()
    assert b.publisher._wake.is_set()


def test_what_a_publish_tells(bench: Any) -> None:
    b = bench()
    upload = b.service.upload

    def slow(*args: Any) -> None:
        b.clock.now += 1.23456
        upload(*args)

    b.service.upload = slow
    b.service.processing = 0.0
    path = b.write(10)
    assert b.publisher._try()
    (told,) = b.named("published")
    assert told["bytes"] >= path.stat().st_size
    figures = [told[name] for name in ("num_timesteps", "files", "seconds", "version")]
    assert figures == [10, 4, 1.235, 1]
    assert json.loads((b.folder / "published.json").read_text()) == {
        "num_timesteps": 10,
        "given_up": False,
        "patience_seconds": 10.0,
    }


def test_a_connection_that_failed_is_told_by_where_to_and_why() -> None:
    with socket.socket() as listens_not:
        listens_not.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listens_not.getsockname()[1]}/api"
        with pytest.raises(requests.ConnectionError) as caught:
            requests.get(address, timeout=5.0)
    assert _failure(caught.value)["error"] == "no answer from 127.0.0.1 (Connection refused)"
    assert _failure(ValueError("no such thing"))["error"] == "ValueError: no such thing"
