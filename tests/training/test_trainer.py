"""Nothing is lost: resume equals the uninterrupted run bit for bit, damage is noticed, and a killed run goes on."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from unveil.errors import UnveilError
from unveil.training.checkpoint import latest_checkpoint, read_tensors, save_checkpoint
from unveil.training.distributed import Group
from unveil.training.trainer import Training, train

HERE = Path(__file__).resolve().parent


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 1))


def draw(generator: torch.Generator) -> torch.Tensor:
    return torch.randn((16, 3), generator=generator)


def loss(model: nn.Module, x: torch.Tensor):
    value = (model(x)[:, 0] - x.sum(1)).square().mean()
    return value, {"double": 2 * float(value.detach())}


def run(folder: Path, steps: int, total: int = 40, log_every: int = 4, **options) -> dict[str, torch.Tensor]:
    """Train up to `steps` of a run that is planned for `total`."""

    class Stop(Exception):
        pass

    def stop(record):
        if record["step"] >= steps:
            raise Stop

    training = Training(steps=total, learning_rate=1e-2, warmup=5, save_every=10, log_every=log_every, keep=2)
    model = network()
    try:
        return train(model, draw, loss, training, folder, on_record=stop if steps < total else None, **options)
    except Stop:
        return {}


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_resume_equals_the_uninterrupted_run_bit_for_bit(tmp_path):
    whole = run(tmp_path / "whole", 40)
    run(tmp_path / "parts", 16)  # stopped after step 16; the last checkpoint is 10, in the middle of a record
    parts = run(tmp_path / "parts", 40, resume=True)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    for file in ("network", "ema", "optimizer"):
        a, b = (read_tensors(tmp_path / part / "checkpoint-40" / f"{file}.safetensors") for part in ("whole", "parts"))
        assert all(torch.equal(a[k], b[k]) for k in a)
    shown = [[(r["step"], r["loss"], r["double"], r["learning_rate"]) for r in records(tmp_path / part)] for part in ("whole", "parts")]
    assert shown[0] == shown[1]
    assert [r[0] for r in shown[1]] == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]


def test_the_loss_falls_and_old_checkpoints_go(tmp_path):
    run(tmp_path, 40)
    losses = [r["loss"] for r in records(tmp_path)]
    assert losses[-1] < losses[0]
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-30", "checkpoint-40"]


def test_every_checkpoint_shows_its_averaged_weights(tmp_path):
    seen = {}
    run(tmp_path, 40, on_save=lambda step, weights: seen.update({step: {k: v.clone() for k, v in weights.items()}}))
    assert sorted(seen) == [10, 20, 30, 40]
    for step in (30, 40):  # the two that are kept
        stored = read_tensors(tmp_path / f"checkpoint-{step}" / "ema.safetensors")
        assert all(torch.equal(stored[name], value) for name, value in seen[step].items())


def test_warm_up_then_cosine():
    training = Training(steps=100, learning_rate=1.0, warmup=10, final_fraction=0.1)
    assert training.rate(0) == pytest.approx(0.1)
    assert training.rate(9) == pytest.approx(1.0)
    assert training.rate(55) == pytest.approx(0.55)
    assert training.rate(100) == pytest.approx(0.1)


def test_a_run_is_not_overwritten(tmp_path):
    run(tmp_path, 15)
    with pytest.raises(UnveilError, match="--resume"):
        run(tmp_path, 40)


def test_an_unfinished_checkpoint_is_never_seen(tmp_path):
    run(tmp_path, 15)
    (tmp_path / "checkpoint-99.tmp-1").mkdir()
    (tmp_path / "checkpoint-98").mkdir()
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-10"


def test_foreign_weights_are_named(tmp_path):
    save_checkpoint(tmp_path / "c", {"network": {"w": torch.ones(2), "x": torch.ones(1)}}, {})
    file = tmp_path / "c" / "network.safetensors"
    assert torch.equal(read_tensors(file, {"w": torch.zeros(2), "x": torch.zeros(1)})["w"], torch.ones(2))
    with pytest.raises(UnveilError, match=r"w has shape \(2,\), needed is \(3,\)"):
        read_tensors(file, {"w": torch.zeros(3), "x": torch.zeros(1)})
    with pytest.raises(UnveilError, match=r"1 tensors are missing \['y'\], 1 are foreign \['x'\]"):
        read_tensors(file, {"w": torch.zeros(2), "y": torch.zeros(1)})
    twice = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    file.write_bytes(len(twice).to_bytes(8, "little") + twice + b"\0" * 4)
    with pytest.raises(UnveilError, match="a name stands twice"):
        read_tensors(file)
    file.write_bytes(b"not weights at all")
    with pytest.raises(UnveilError, match="not the weights"):
        read_tensors(file)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads(1)
import test_trainer
from unveil.training.trainer import Training, train
training = Training(steps=600, learning_rate=1e-2, warmup=5, save_every=5, log_every=5, keep=2)
train(test_trainer.network(), test_trainer.draw, test_trainer.loss, training, Path(sys.argv[1]), resume=True)
"""


def start(folder: Path, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(here=str(HERE)), str(folder)]
    return subprocess.Popen(command, env=environment, **options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_save_and_say_how_to_resume(tmp_path, number):
    process = start(tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("checkpoint-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode != 0
    assert "go on with the same command and --resume" in said
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert f"saved at step {found.name.split('-')[1]} " in said


def test_two_writers_are_refused(tmp_path):
    process = start(tmp_path)
    while not list(tmp_path.glob("checkpoint-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(UnveilError, match="another process trains"):
        run(tmp_path, 40, resume=True)
    process.kill()
    process.wait()
    run(tmp_path / "other", 40)


NURSERY = """
import os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads(1)
import test_trainer
from unveil.training.trainer import Training, train
training = Training(steps=600, learning_rate=1e-2, warmup=5, save_every=5, log_every=5, keep=2)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        train(test_trainer.network(), test_trainer.draw, test_trainer.loss, training, Path(line.strip()), resume=True)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Nursery:
    """A process that has imported torch and forks a training for each folder it is told: 10 ms a start instead of seconds."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", "-c", NURSERY.format(here=str(HERE))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, folder: Path) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_loses_nothing(tmp_path, kills):
    """Killed again and again at random moments and resumed, a run equals one that was left alone, bit for bit."""
    import random

    chance, nursery, hit = random.Random(kills), Nursery(), 0
    try:
        nursery.start(tmp_path / "whole")
        assert nursery.wait() == 0
        for _ in range(kills):
            child = nursery.start(tmp_path / "killed")
            time.sleep(chance.uniform(0.005, 4.0 / kills + 0.05))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            hit += nursery.wait() != 0
        nursery.start(tmp_path / "killed")
        assert nursery.wait() == 0
    finally:
        nursery.close()
    assert hit >= kills // 3  # the others had finished before
    for file in ("network", "ema", "optimizer"):
        a, b = (read_tensors(tmp_path / part / "checkpoint-600" / f"{file}.safetensors") for part in ("whole", "killed"))
        assert all(torch.equal(a[k], b[k]) for k in a), file
    shown = [[(r["step"], r["loss"]) for r in records(tmp_path / part)] for part in ("whole", "killed")]
    assert shown[0] == shown[1]


TOGETHER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads(1)
import test_trainer
from unveil.training.trainer import Training, train
training = Training(steps=30, learning_rate=1e-2, warmup=5, save_every=30, log_every=10, accumulate=int(sys.argv[2]))
train(test_trainer.network(), test_trainer.draw, test_trainer.loss, training, Path(sys.argv[1]))
"""


def test_two_processes_equal_one_on_the_doubled_batch(tmp_path):
    """torchrun with gloo on this machine: same parameters to float tolerance, same records, one writer."""
    script = tmp_path / "together.py"
    script.write_text(TOGETHER.format(here=str(HERE)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    both = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for attempt in range(2):  # on a busy machine the launcher's port may be taken, or its processes may miss each other
        done = subprocess.run([*both, str(script), str(tmp_path / "two"), "1"], env=environment, capture_output=True, text=True)
        lost = any(word in done.stderr for word in ("EADDRINUSE", "Connection", "connect", "imed out", "endezvous"))
        if done.returncode == 0 or attempt or not lost:
            break
        shutil.rmtree(tmp_path / "two", ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    subprocess.run([sys.executable, str(script), str(tmp_path / "one"), "2"], check=True, env=environment)
    a, b = (read_tensors(tmp_path / part / "checkpoint-30" / "network.safetensors") for part in ("one", "two"))
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-4, atol=1e-6)
    first, second = records(tmp_path / "one"), records(tmp_path / "two")
    assert [r["step"] for r in second] == [10, 20, 30]
    for x, y in zip(first, second, strict=True):
        assert y["loss"] == pytest.approx(x["loss"], rel=1e-4)


def test_accumulated_gradients_are_their_mean(tmp_path):
    """Two batches accumulated equal one batch that holds both."""

    def both(generator):
        return torch.cat([draw(generator), draw(generator)])

    options = {"learning_rate": 1e-2, "warmup": 5}
    a = train(network(), draw, loss, Training(steps=20, accumulate=2, **options), tmp_path / "a")
    b = train(network(), both, loss, Training(steps=20, **options), tmp_path / "b")
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-4, atol=1e-6)


def test_what_draw_and_loss_remember_is_resumed_bit_for_bit(tmp_path):
    """Each batch is scaled by the sum of losses so far: forgetting would change every weight."""

    def train_to(folder, steps, seen, resume=False):
        remembered = {"sum": torch.zeros(())}

        def noted(model, x):
            value, extra = loss(model, x * (1.0 + 0.1 * remembered["sum"].sin()))
            remembered["sum"].add_(value.detach())
            seen.append(float(value.detach()))
            return value, extra

        training = Training(steps=steps, learning_rate=1e-2, warmup=5, final_fraction=1.0, save_every=10, keep=2)
        return train(network(), draw, noted, training, folder, resume=resume, memory=remembered)

    whole, parts = [], []
    weights = train_to(tmp_path / "whole", 20, whole)
    train_to(tmp_path / "parts", 10, parts)
    again = train_to(tmp_path / "parts", 20, parts, resume=True)
    assert whole == parts
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    with pytest.raises(UnveilError, match="cannot share"):
        train(network(), draw, loss, Training(steps=1), tmp_path / "two", group=Group(0, 2), memory={"sum": torch.zeros(())})
