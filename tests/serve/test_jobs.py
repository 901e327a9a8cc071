"""The queue: order, cancelling, failures, limits, and what is kept. Worker and clock are the test's."""

import threading

import pytest

from unveil.errors import UnveilError
from unveil.serve.jobs import Full, Jobs


@pytest.fixture
def jobs():
    jobs = Jobs(waiting=3, seconds=10.0, kept=100, clock=lambda: 0.0)
    jobs.start()
    yield jobs
    jobs.close()


def wait(job):
    """Until it has ended."""
    ended = threading.Event()
    job.listen(lambda: job.ended and ended.set())
    if not job.ended:
        assert ended.wait(20)
    return job


def held(jobs):
    """A job that runs until `release`, and the events of both."""
    running, release = threading.Event(), threading.Event()

    def work(job):
        running.set()
        assert release.wait(20)
        job.report(1, 2)
        return "held"

    job = jobs.submit("image", work)
    assert running.wait(20)
    return job, release


def test_jobs_are_done_in_order_and_their_results_are_their_own(jobs):
    first, release = held(jobs)
    done = []
    others = [jobs.submit("image", lambda _, k=k: done.append(k) or k) for k in range(3)]
    assert jobs.open_jobs == 4
    release.set()
    assert [wait(job).result for job in (first, *others)] == ["held", 0, 1, 2]
    assert done == [0, 1, 2]
    assert first.progress == 1.0


def test_a_full_queue_refuses_and_serves_on(jobs):
    first, release = held(jobs)
    waiting = [jobs.submit("image", lambda _: 1) for _ in range(3)]
    with pytest.raises(Full):
        jobs.submit("image", lambda _: 2)
    release.set()
    assert [wait(job).state for job in (first, *waiting)] == ["done"] * 4
    assert wait(jobs.submit("image", lambda _: 3)).result == 3


def test_cancelling_takes_a_job_out_or_ends_it_at_its_next_step(jobs):
    first, release = held(jobs)
    waits, stays = jobs.submit("image", lambda _: 1), jobs.submit("image", lambda _: 2)
    jobs.cancel(waits)
    assert waits.state == "cancelled"
    jobs.cancel(first)
    release.set()
    assert wait(first).state == "cancelled"
    assert first.result is None
    assert wait(stays).result == 2


def test_failures_are_one_line_and_say_whose_they_are(jobs):
    def refuse(_):
        raise UnveilError("no such\nfile")

    def wrong(_):
        raise ZeroDivisionError("oh")

    def full(_):
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    own, internal, memory = (wait(jobs.submit("image", it)) for it in (refuse, wrong, full))
    assert (own.state, own.error, own.internal) == ("failed", "no such file", False)
    assert (internal.error, internal.internal) == ("internal error, ZeroDivisionError: oh", True)
    assert memory.error.startswith("out of memory") and not memory.internal
    assert wait(jobs.submit("image", lambda _: 1)).state == "done"


def test_a_job_that_takes_too_long_ends():
    now = [0.0]
    jobs = Jobs(waiting=3, seconds=10.0, kept=100, clock=lambda: now[0])
    jobs.start()

    def slow(job):
        job.report(1, 3)
        now[0] = 10.5
        job.report(2, 3)

    job = wait(jobs.submit("image", slow))
    jobs.close()
    assert job.state == "failed"
    assert "longer than this server allows" in job.error


def test_the_oldest_results_are_dropped(jobs):
    kept = [wait(jobs.submit("image", lambda _: "x" * 40, len)) for _ in range(4)]
    wait(jobs.submit("image", lambda _: "", len))  # after the dropping of the last one
    assert list(jobs.jobs)[:2] == [kept[2].id, kept[3].id]


def test_closing_cancels_everything():
    jobs = Jobs(waiting=3, seconds=10.0, kept=100)
    jobs.start()
    first, release = held(jobs)
    second = jobs.submit("image", lambda _: 1)
    threading.Timer(0.05, release.set).start()
    jobs.close()
    assert (first.state, second.state) == ("cancelled", "cancelled")
    with pytest.raises(Full):
        jobs.submit("image", lambda _: 1)
