"""A loss, gradient or weight that is not finite stops a training before anything of it is kept, and the
message is true."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from unveil.errors import UnveilError
from unveil.files.safetensors import read_tensors
from unveil.training.checkpoint import checkpoints
from unveil.training.divergence import not_finite, stop_unless_weights_finite
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
            value = (
                value * float("nan") if what == "loss" else value + zero.abs().sqrt().sum()
            )  # sqrt has no slope at 0
        return value, {}

    return loss


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{f.stem} {name}": value
        for f in folder.glob("*.safetensors")
        for name, value in read_tensors(f).items()
    }


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize(("at", "good"), [(10, 5), (11, 10), (3, None)])
def test_what_is_not_finite_is_never_saved_and_the_good_checkpoint_and_times_are_named(
    tmp_path, what, at, good
):
    """At step 10, which saves, and after a save."""
    seen = []
    with pytest.raises(UnveilError) as caught:
        train(
            nn.Linear(3, 1),
            draw,
            diverging(at, what, seen),
            Training(steps=20, save_every=5, log_every=5, keep=0),
            tmp_path,
        )
    said = str(caught.value)
    assert (
        said.startswith("the loss is nan" if what == "loss" else "the gradient's norm is nan")
        and f" at step {at}, " in said
    )
    t = seen[at - 1].t
    assert f"t {float(t.min()):.4g} .. {float(t.max()):.4g};" in said
    named = re.search(r"last good checkpoint: (\S+);", said)
    assert named is not None and named[1] == (
        "none" if good is None else str(tmp_path / f"checkpoint-{good}")
    )
    assert [folder.name for folder in checkpoints(tmp_path)] == [
        f"checkpoint-{step}" for step in range(5, at, 5)
    ]
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

    with pytest.raises(
        UnveilError, match=r"gradient's norm is inf, of a loss of -?\d\.\d+e\+\d+, at step 1, t 0\."
    ):
        train(nn.Linear(3, 1), draw, loss, Training(steps=2, clip=float("inf")), tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """However they came to be: here what is called with the record of step 10 spoils one."""
    model = nn.Linear(3, 1)

    def spoil(record):
        if record["step"] == 10:
            with torch.no_grad():
                model.weight[0, 1] = torch.inf

    with pytest.raises(
        UnveilError,
        match=r"the weight weight is not finite after step 10.*last good checkpoint: \S*checkpoint-5;",
    ):
        train(
            model,
            draw,
            diverging(100, "loss", []),
            Training(steps=20, save_every=5, log_every=5),
            tmp_path,
            on_record=spoil,
        )
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-5"]
    averaged = {
        "a": torch.ones(2),
        "b": torch.tensor([0.0, torch.nan]),
        "statistics": torch.tensor(torch.inf),
    }
    with pytest.raises(UnveilError, match="the averaged weight b is not finite after step 7"):
        stop_unless_weights_finite({"a": torch.ones(2), "b": torch.zeros(2)}, averaged, 7, tmp_path)


def test_the_batches_of_every_application_say_their_times():
    from unveil.image.training import ImageBatch
    from unveil.planning.path_training import PathBatch
    from unveil.planning.trajectory_training import TrajectoryBatch
    from unveil.policy.distillation import StudentBatch
    from unveil.policy.training import PolicyBatch
    from unveil.text.data.documents import Pieces, pack
    from unveil.text.data.tokens import ByteTokens
    from unveil.text.training import TextBatch, text_batches

    for kind in (ImageBatch, PathBatch, StudentBatch, PolicyBatch, TextBatch, TrajectoryBatch):
        assert "t" in kind._fields, kind
    pieces = Pieces(pack(["many words " * 20], ByteTokens()), 12)
    for block in (0, 5):  # of 5, 5 and 2 tokens
        batch = text_batches(pieces, 4, "l", block=block)(torch.Generator(device="cpu").manual_seed(0))
        assert batch.masks is not None
        lengths = torch.tensor([5, 5, 2]) if block else torch.tensor(12)
        torch.testing.assert_close(batch.t * lengths, batch.masks.float())


def spoiled(at: int, value: float):
    """Batches whose data hold a bad number in row 6 from call `at` on."""
    calls = []

    def drawn(generator):
        calls.append(0)
        batch = draw(generator)
        if len(calls) >= at:
            batch.x[6, 1] = value
        return batch

    return drawn


def test_of_data_that_are_not_finite_the_data_are_blamed(tmp_path):
    for value, says in ((float("nan"), "the loss is nan"), (float("inf"), "the loss is (nan|inf)")):
        folder = tmp_path / str(value)
        with pytest.raises(UnveilError) as caught:
            train(
                nn.Linear(3, 1),
                spoiled(3, value),
                diverging(100, "loss", []),
                Training(steps=9, save_every=2),
                folder,
            )
        said = str(caught.value)
        assert re.match(says, said)
        assert (
            "at step 3, t 0." in said
            and "because 1 of 24 numbers of x, in rows 6 of 8 are NaN or infinite: check the data; last"
            in said
        )
        assert "learning" not in said and str(folder / "checkpoint-2") in said


def test_before_any_step_the_learning_rate_is_not_blamed(tmp_path):
    with pytest.raises(
        UnveilError, match=r"at step 1, t .*, before any update of the weights: check the range of"
    ) as caught:
        train(nn.Linear(3, 1), draw, diverging(1, "loss", []), Training(steps=9), tmp_path)
    assert "learning" not in str(caught.value)


def test_what_is_not_finite_is_found_wherever_it_is():
    class Around(NamedTuple):
        windows: Batch
        seed: int

    good, bad = (
        torch.ones(3, 2),
        torch.tensor([[1.0, 2.0], [float("-inf"), float("nan")], [0.0, float("nan")]]),
    )
    said = "3 of 6 numbers of {}, in rows 1, 2 of 3"
    assert not_finite(bad) == said.format("batch")
    assert not_finite(Around(Batch(good, bad), 3)) == said.format("t")
    assert not_finite({"a": good, "b": [good, bad]}) == said.format("b 1")
    assert not_finite(torch.tensor(float("nan"))) == "1 of 1 numbers of batch"
    for fine in (
        good,
        Around(Batch(good, good), 3),
        torch.ones(2, dtype=torch.int64),
        None,
        "words",
        [1, 2],
        {},
    ):
        assert not_finite(fine) == ""


def test_records_are_json_and_the_sums_go_on_over_a_resumed_one(tmp_path):
    """A number beside the loss is NaN at step 2, which is saved in the middle of a record; the next one is
    whole."""
    calls = []

    def loss(model, batch):
        calls.append(0)
        value = model(batch.x).square().mean()
        return value, {"share": float("nan") if len(calls) == 2 else 1.0}

    def kill(step, weights):
        if len(calls) == 2:
            raise InterruptedError

    training = Training(steps=6, save_every=1, log_every=3, keep=0)
    with pytest.raises(InterruptedError):
        train(nn.Linear(3, 1), draw, loss, training, tmp_path, on_save=kill)
    train(nn.Linear(3, 1), draw, loss, training, tmp_path, resume=True)
    assert len(calls) == 6

    def never(word):
        raise AssertionError(word)

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    shown = [json.loads(line, parse_constant=never)["share"] for line in lines]
    assert shown == [None, 1.0]
    json.loads((tmp_path / "checkpoint-2" / "state.json").read_text(), parse_constant=never)


def test_a_loss_that_cannot_be_trained_is_a_clear_error(tmp_path):
    def wrong(model, batch):
        return model(batch.x)[:, 0], {}

    def constant(model, batch):
        return torch.ones(()), {}

    for loss, shape in ((wrong, r"\(8,\)"), (constant, r"\(\)")):
        with pytest.raises(
            ValueError, match=f"loss must return a scalar with a gradient, got one of shape {shape}"
        ):
            train(nn.Linear(3, 1), draw, loss, Training(steps=1), tmp_path / shape[1:3])
    with pytest.raises(ValueError, match="no parameters to train"):
        train(nn.Linear(3, 1).requires_grad_(False), draw, wrong, Training(steps=1), tmp_path / "none")
