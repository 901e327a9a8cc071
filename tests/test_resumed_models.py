"""Models as they are used: a planner of paths and one of trajectories resume bit for bit, in float32 and
under bfloat16 autocast."""

import numpy as np
import pytest
import torch

from unveil.files.safetensors import read_tensors
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.trajectories import Trajectories
from unveil.planning.data.windows import PathWindows
from unveil.planning.networks.temporal_unet import TemporalUNet
from unveil.planning.path_model import PathModel, PathModelShape
from unveil.planning.path_training import path_batches, path_loss
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape
from unveil.planning.trajectory_training import trajectory_batches, trajectory_loss
from unveil.training.trainer import Training, train


def walk(steps: int = 400) -> Episodes:
    rng = np.random.default_rng(0)
    places = rng.normal(size=(steps, 2)).cumsum(0).astype(np.float32)
    marks = np.zeros(steps, bool)
    marks[99::100] = True
    return Episodes(
        places, np.zeros((steps, 1), np.float32), np.zeros(steps, np.float32), np.zeros(steps, bool), marks
    )


def paths():
    windows = PathWindows(walk(), 2, 2)
    torch.manual_seed(0)
    model = PathModel(PathModelShape(2, 2, 3, 16, 1, 2, windows.longest))
    model.learn_statistics(walk())
    return model, path_batches(windows, 8, 0.3), path_loss


def trajectories():
    shape = TrajectoryShape(8, 10, actions=1, observations=2)
    torch.manual_seed(0)
    model = TrajectoryModel(shape, TemporalUNet(3, 8, (1, 2)))
    model.normalization.learn(np.concatenate([walk().actions, walk().observations], axis=1), "gaussian")
    return model, trajectory_batches(Trajectories(walk()), shape, 8), trajectory_loss


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("made", [paths, trajectories])
def test_resumed_equals_uninterrupted(tmp_path, made, bfloat16):
    """Killed after the save of step 3, in the middle of a record."""
    training = Training(
        steps=6, learning_rate=1e-2, warmup=2, save_every=3, log_every=2, keep=0, bfloat16=bfloat16
    )
    whole = train(*made(), training, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(step, weights):
        raise Killed

    with pytest.raises(Killed):
        train(*made(), training, tmp_path / "parts", on_save=kill)
    parts = train(*made(), training, tmp_path / "parts", resume=True)
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    for file in ("network", "ema", "optimizer"):
        a, b = (
            read_tensors(tmp_path / part / "checkpoint-6" / f"{file}.safetensors")
            for part in ("whole", "parts")
        )
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
