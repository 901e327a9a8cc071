"""A loss, gradient or weight that is not finite stops a training before anything of it is kept, and the message is true."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from unveil.errors import UnveilError
from unveil.training.checkpoint import checkpoints, read_tensors
from unveil.training.divergence import stop_unless_weights_finite
from unveil.training.trainer import Training, train


class Batch(NamedTuple):
    x: torch.Tensor
    t: torch.Tensor


def draw(generator: torch.Generator) -> Batch:
    return Batch(torch.randn((8, 3), generator=generator), 0.25 + 0.5 * torch.rand(8, generator=generator))


def diverging(at: int, what: str, seen: list[Batch]):
    """A loss whose value, or gradient alone, is NaN at call `at` and from then on."""

    def loss(model, batch):
        seen.append(batch)
        value = (model(batch.x)[:, 0] - batch.x.sum(1)).square().mean()
        if len(seen) >= at:
            zero = model.weight - model.weight.detach()
            value = value * float("nan") if what == "loss" else value + zero.abs().sqrt().sum()  # sqrt has no slope at 0
        return value, {}

    return loss


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{f.stem} {name}": value for f in folder.glob("*.safetensors") for name, value in read_tensors(f).items()}


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize(("at", "good"), [(10, 5), (11, 10), (3, None)])
def test_what_is_not_finite_is_never_saved_and_the_good_checkpoint_and_times_are_named(tmp_path, what, at, good):
    """At step 10, which saves, and after a save."""
    seen = []
    with pytest.raises(UnveilError) as caught:
        train(nn.Linear(3, 1), draw, diverging(at, what, seen), Training(steps=20, save_every=5, log_every=5, keep=0), tmp_path)
    said = str(caught.value)
    assert said.startswith("the loss is nan" if what == "loss" else "the gradient's norm is nan") and f" at step {at}, " in said
    t = seen[at - 1].t
    assert f"t {float(t.min()):.4g} .. {float(t.max()):.4g};" in said
    named = re.search(r"last good checkpoint: (\S+);", said)
    assert named is not None and named[1] == ("none" if good is None else str(tmp_path / f"checkpoint-{good}"))
    assert [folder.name for folder in checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in range(5, at, 5)]
    for folder in checkpoints(tmp_path):
        found = tensors_of(folder)
        assert len(found) == 10 and all(bool(value.isfinite().all()) for value in found.values())


def test_of_accumulated_batches_the_bad_ones_times_are_named(tmp_path):
    seen = []
    with pytest.raises(UnveilError) as caught:
        train(nn.Linear(3, 1), draw, diverging(6, "loss", seen), Training(steps=20, accumulate=3), tmp_path)
    t = seen[5].t
    assert f"at step 2, t {float(t.min()):.4g} .. {float(t.max()):.4g};" in str(caught.value)


def test_a_gradient_whose_norm_overflows_stops_without_clipping_too(tmp_path):
    def loss(model, batch):
        return (model(batch.x) * 1e30).sum(), {}

    with pytest.raises(UnveilError, match=r"gradient's norm is inf, of a loss of -?\d\.\d+e\+\d+, at step 1, t 0\."):
        train(nn.Linear(3, 1), draw, loss, Training(steps=2, clip=float("inf")), tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """However they came to be: here what is called with the record of step 10 spoils one."""
    model = nn.Linear(3, 1)

    def spoil(record):
        if record["step"] == 10:
            with torch.no_grad():
                model.weight[0, 1] = torch.inf

    with pytest.raises(UnveilError, match=r"the weight weight is not finite after step 10.*last good checkpoint: \S*checkpoint-5;"):
        train(model, draw, diverging(100, "loss", []), Training(steps=20, save_every=5, log_every=5), tmp_path, on_record=spoil)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-5"]
    averaged = {"a": torch.ones(2), "b": torch.tensor([0.0, torch.nan]), "statistics": torch.tensor(torch.inf)}
    with pytest.raises(UnveilError, match="the averaged weight b is not finite after step 7"):
        stop_unless_weights_finite({"a": torch.ones(2), "b": torch.zeros(2)}, averaged, 7, tmp_path)


def test_the_batches_of_every_application_say_their_times():
    from unveil.apps.image_training import ImageBatch
    from unveil.apps.path_training import PathBatch
    from unveil.apps.policy_distillation import StudentBatch
    from unveil.apps.policy_training import PolicyBatch
    from unveil.apps.text_training import TextBatch, text_batches
    from unveil.apps.text_tuning import TuningBatch
    from unveil.apps.trajectory_training import TrajectoryBatch
    from unveil.data.text import Pieces, pack
    from unveil.data.tokens import ByteTokens

    for kind in (ImageBatch, PathBatch, StudentBatch, PolicyBatch, TextBatch, TuningBatch, TrajectoryBatch):
        assert "t" in kind._fields, kind
    pieces = Pieces(pack(["many words " * 20], ByteTokens()), 12)
    for block in (0, 5):  # of 5, 5 and 2 tokens
        batch = text_batches(pieces, 4, "l", block=block)(torch.Generator(device="cpu").manual_seed(0))
        assert batch.masks is not None
        lengths = torch.tensor([5, 5, 2]) if block else torch.tensor(12)
        torch.testing.assert_close(batch.t * lengths, batch.masks.float())
