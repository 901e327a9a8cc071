"""Nothing is lost: resume equals the uninterrupted run bit for bit, damage is noticed, and a killed run goes
on."""

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from forked import Child, say
from torch import nn

from unveil.errors import UnveilError
from unveil.files.safetensors import read_tensors
from unveil.training.checkpoint import latest_checkpoint, save_checkpoint
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
        return train(
            model, draw, loss, training, folder, on_record=stop if steps < total else None, **options
        )
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
        a, b = (
            read_tensors(tmp_path / part / "checkpoint-40" / f"{file}.safetensors")
            for part in ("whole", "parts")
        )
        assert all(torch.equal(a[k], b[k]) for k in a)
    shown = [
        [(r["step"], r["loss"], r["double"], r["learning_rate"]) for r in records(tmp_path / part)]
        for part in ("whole", "parts")
    ]
    assert shown[0] == shown[1]
    assert [r[0] for r in shown[1]] == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]


def test_the_loss_falls_and_old_checkpoints_go(tmp_path):
    run(tmp_path, 40)
    losses = [r["loss"] for r in records(tmp_path)]
    assert losses[-1] < losses[0]
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-30", "checkpoint-40"]


def test_every_checkpoint_shows_its_averaged_weights(tmp_path):
    seen = {}
    run(
        tmp_path,
        40,
        on_save=lambda step, weights: seen.update({step: {k: v.clone() for k, v in weights.items()}}),
    )
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
    with pytest.raises(UnveilError, match="give `resume` to go on, or another `out`"):
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
    with pytest.raises(UnveilError, match="a name occurs twice"):
        read_tensors(file)
    file.write_bytes(b"not weights at all")
    with pytest.raises(UnveilError, match="not the weights"):
        read_tensors(file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of 60 steps that was left alone. What it imports is there before children are forked."""
    folder = tmp_path_factory.mktemp("whole")
    train(network(), draw, loss, LONG, folder)
    return folder


LONG = Training(steps=60, learning_rate=1e-2, warmup=5, save_every=5, log_every=5, keep=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("whole")
def test_ctrl_c_and_sigterm_save_and_say_how_to_resume(tmp_path, number):
    def work():
        train(
            network(),
            draw,
            loss,
            Training(steps=10**6, save_every=5),
            tmp_path,
            on_save=lambda step, weights: say("saved"),
        )

    child = Child(work)
    child.wait_for("saved")
    child.send(number)
    status, said = child.end()
    assert status == 1  # of the exception that the command line makes one line of
    assert "KeyboardInterrupt: " in said and "go on with the same command and --resume" in said
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert f"saved at step {found.name.split('-')[1]} " in said


@pytest.mark.usefixtures("whole")
def test_two_writers_are_refused(tmp_path):
    def work():
        train(
            network(),
            draw,
            loss,
            LONG,
            tmp_path,
            on_save=lambda step, weights: (say("saved"), signal.pause()),
        )

    child = Child(work)
    child.wait_for("saved")
    with pytest.raises(UnveilError, match="another process trains"):
        run(tmp_path, 40, resume=True)
    child.send(signal.SIGKILL)
    assert child.end()[0] == -signal.SIGKILL
    run(tmp_path, 40, total=60, resume=True)  # its lock went with it


def counted(work, last: int = 2**63) -> int:
    """Calls and returns of functions in `work`: torch's, the trainer's, those of saving; dies by SIGKILL
    after the last."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += 1
        if calls > last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    work()
    sys.setprofile(None)
    return calls


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_loses_nothing(tmp_path, whole, kills):
    """Killed again and again at random places of the program and resumed, a run equals one that was left
    alone, bit for bit."""
    import random

    chance, folders = random.Random(kills), [tmp_path / "0"]

    def work():
        train(network(), draw, loss, LONG, folders[-1], resume=True)

    calls = counted(partial(train, network(), draw, loss, LONG, tmp_path / "counted"))
    hit = reached = 0
    for _ in range(kills):  # a twelfth of all calls comes to a save
        if Child(partial(counted, work, chance.randrange(calls // 4))).end()[0] == 0:
            folders.append(tmp_path / str(len(folders)))
        else:
            hit += 1
            reached = max(reached, len(list(folders[-1].glob("checkpoint-*"))))
    work()
    assert hit > kills // 2 and reached >= 2
    for folder in folders:
        for file in ("network", "ema", "optimizer"):
            a, b = (read_tensors(f / "checkpoint-60" / f"{file}.safetensors") for f in (whole, folder))
            assert all(torch.equal(a[k], b[k]) for k in a), file
        assert [(r["step"], r["loss"]) for r in records(whole)] == [
            (r["step"], r["loss"]) for r in records(folder)
        ]


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


def alike(one: Path, two: Path) -> None:
    """Same parameters to float tolerance, same records, one writer."""
    a, b = (read_tensors(folder / "checkpoint-30" / "network.safetensors") for folder in (one, two))
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-4, atol=1e-6)
    first, second = records(one), records(two)
    assert [r["step"] for r in second] == [10, 20, 30]
    for x, y in zip(first, second, strict=True):
        assert y["loss"] == pytest.approx(x["loss"], rel=1e-4)


@pytest.mark.usefixtures("whole")
def test_two_processes_equal_one_on_the_doubled_batch(tmp_path):
    """gloo on this machine, the processes started as `torchrun` does: who they are is in the environment."""
    options = {"steps": 30, "learning_rate": 1e-2, "warmup": 5, "save_every": 30, "log_every": 10}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def work(rank):
        os.environ |= {
            "WORLD_SIZE": "2",
            "RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "GLOO_SOCKET_IFNAME": "lo",
        }
        train(network(), draw, loss, Training(**options), tmp_path / "two")

    for child in [Child(partial(work, rank)) for rank in range(2)]:
        status, said = child.end()
        assert status == 0, said
    train(network(), draw, loss, Training(**options, accumulate=2), tmp_path / "one")
    alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_torchrun_starts_them(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER.format(here=str(HERE)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    both = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*both, str(script), str(tmp_path / "two"), "1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "one"), "2"], check=True, env=environment, timeout=300
    )
    alike(tmp_path / "one", tmp_path / "two")


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

        training = Training(
            steps=steps, learning_rate=1e-2, warmup=5, final_fraction=1.0, save_every=10, keep=2
        )
        return train(network(), draw, noted, training, folder, resume=resume, memory=remembered)

    whole, parts = [], []
    weights = train_to(tmp_path / "whole", 20, whole)
    train_to(tmp_path / "parts", 10, parts)
    again = train_to(tmp_path / "parts", 20, parts, resume=True)
    assert whole == parts
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    with pytest.raises(UnveilError, match="cannot share"):
        train(
            network(),
            draw,
            loss,
            Training(steps=1),
            tmp_path / "two",
            group=Group(0, 2),
            memory={"sum": torch.zeros(())},
        )
