"""Signals: the first waits for the end of a step, the second for nothing, not even for a call that runs for
minutes."""

import hashlib
import os
import signal
import threading

import pytest
from forked import Child, say
from test_trainer import draw, loss, network

from unveil.training.checkpoint import checkpoints, latest_checkpoint
from unveil.training.guard import Interrupts
from unveil.training.trainer import Training, train


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """What a first step imports is there before children are forked: they start in milliseconds."""
    train(network(), draw, loss, Training(steps=1), tmp_path_factory.mktemp("first"))


def training_of(folder, at, within, **options):
    """A training that says "at" and goes into `within` at its step number `at`."""
    calls = []

    def work():
        def stalled(model, x):
            calls.append(0)
            if len(calls) == at:
                say("at")
                within()
            return loss(model, x)

        train(network(), draw, stalled, Training(steps=10**6, save_every=2, **options), folder)

    return work


def for_minutes():
    """One call that lets other threads run, as torch's do, but comes to no bytecode for many minutes."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_in_the_middle_of_a_long_call(tmp_path, first, second):
    child = Child(training_of(tmp_path, 4, for_minutes))
    child.wait_for("at")
    child.send(first)
    child.wait_for("stopping after this step; again to stop at once\n")
    child.send(second)
    status, said = child.end()
    assert status == 128 + second
    assert (
        f"stopped at once; {tmp_path / 'checkpoint-2'} was saved last; go on with the same command and --resume"
        in said
    )
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-2"] and latest_checkpoint(
        tmp_path
    ) is not None


def test_the_first_signal_ends_the_step_saves_it_and_says_so_once(tmp_path):
    child = Child(training_of(tmp_path, 6, lambda: signal.raise_signal(signal.SIGTERM)))
    status, said = child.end()
    assert (
        status == 1
        and "KeyboardInterrupt: stopped and saved at step 6 " in said
        and said.count("stopping after this step") == 1
    )
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-6"]


def test_before_the_first_step_there_is_nothing_to_wait_for(tmp_path):
    """Here while bfloat16 is being measured, which is as long as steps."""

    def work():
        import unveil.training.trainer as trainer

        trainer.faster_in_bfloat16 = lambda *_: (say("measuring"), for_minutes())
        train(network(), draw, loss, Training(steps=5, bfloat16=None), tmp_path)

    child = Child(work)
    child.wait_for("measuring")
    child.send(signal.SIGINT)
    status, said = child.end()
    assert status == 130 and "stopped at once; nothing was saved yet" in said


def test_all_is_put_back_and_other_threads_leave_signals_alone(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with Interrupts(tmp_path) as interrupts:
        interrupts.stepping = True
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert signal.set_wakeup_fd(-1) == -1 and not [t for t in threading.enumerate() if t.name == "interrupts"]
    assert not descriptors or len(os.listdir("/proc/self/fd")) == descriptors

    def elsewhere():
        with Interrupts(tmp_path):
            found.append(signal.getsignal(signal.SIGTERM))

    found = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(60)
    assert found == [before[0]]
