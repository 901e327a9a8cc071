"""benchmarks/metrics/picture_text.py: the loss of a small CLIP by hand, moved pictures, ranks of names."""

from math import log

import numpy as np
import pytest
import torch

from metrics.picture_text import (
    CANDIDATES,
    SHIFT,
    PairBatch,
    PictureText,
    name_ranks,
    pair_batches,
    pair_loss,
)
from unveil.image.data.caption_sampler import Drawing
from unveil.image.data.tokenizer import train_words


class Given(PictureText):
    """With vectors that are given."""

    def __init__(self, seen, read, scale=10.0):
        torch.nn.Module.__init__(self)
        self.vectors = (torch.tensor(seen), torch.tensor(read))
        self.log_scale = torch.nn.Parameter(torch.tensor(log(scale)))

    def pictures(self, pixels):
        return self.vectors[0][: len(pixels)]

    def texts(self, texts):
        return self.vectors[1][: len(texts)]


def batch(*concepts: int) -> PairBatch:
    return PairBatch(torch.zeros(len(concepts), 1), ["a"] * len(concepts), torch.tensor(concepts))


def test_the_loss_of_equal_vectors_is_a_guess_and_of_right_ones_nothing():
    one = [[1.0, 0.0], [1.0, 0.0]]
    apart = [[1.0, 0.0], [0.0, 1.0]]
    loss, _ = pair_loss(Given(one, one), batch(0, 1))
    assert float(loss.detach()) == pytest.approx(log(2.0))
    loss, said = pair_loss(Given(apart, apart), batch(0, 1))
    assert (
        float(loss.detach()) == pytest.approx(log(1.0 + np.exp(-10.0)), rel=1e-2) and said["accuracy"] == 1.0
    )
    loss, said = pair_loss(Given(apart, apart[::-1]), batch(0, 1))
    assert float(loss.detach()) == pytest.approx(10.0, abs=1e-3) and said["accuracy"] == 0.0


def test_drawings_of_one_concept_are_positives_alike():
    seen = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    loss, said = pair_loss(Given(seen, seen, scale=100.0), batch(4, 4, 7))
    assert float(loss.detach()) == pytest.approx(2 / 3 * log(2.0), abs=1e-4) and said["accuracy"] == 1.0
    above, _ = pair_loss(Given(seen, seen, scale=1e6), batch(4, 5, 7))  # the scale is at most 100
    assert float(above.detach()) == pytest.approx(2 / 3 * log(2.0), abs=1e-4)


def test_pictures_are_moved_and_neither_turned_nor_mirrored():
    pixels = np.full((2, 3, 24, 24), 255, np.uint8)
    pixels[0, :, 6, 17], pixels[1, :, 15, 8] = 0, 0
    drawings = [Drawing("s", "one", code="a"), Drawing("s", "two", code="b")]
    made = pair_batches(pixels, drawings, 64)(torch.Generator().manual_seed(0))
    assert made.pixels.shape == (64, 3, 24, 24) and set(made.texts) == {"emoji of one", "emoji of two"}
    moves = set()
    for picture, text, concept in zip(made.pixels, made.texts, made.concepts.tolist(), strict=True):
        ((y, x),) = (picture[0] == 0).nonzero().tolist()
        row = ("emoji of one", "emoji of two").index(text)
        assert concept == row
        moves.add((y - (6, 15)[row], x - (17, 8)[row]))
    assert max(max(map(abs, move)) for move in moves) == SHIFT and len(moves) > 20


def test_ranks_count_the_names_that_fit_better():
    pool = [f"name {k}" for k in range(150)]
    texts = np.zeros((151, 2), np.float32)
    texts[:, 0] = np.linspace(-1.0, 1.0, 151)  # the later a name the better it fits

    class Ordered(Given):
        def texts(self, texts):
            numbers = [150 if t.endswith("own") else int(t.rsplit(" ", 1)[1]) for t in texts]
            return self.vectors[1][numbers]

    judge = Ordered([[1.0, 0.0]] * 3, texts)
    ranks = name_ranks(judge, np.zeros((3, 3, 4, 4), np.uint8), ["name 0", "own", "name 149"], pool)
    assert ranks.tolist() == [CANDIDATES - 1, 0, 0]
    with pytest.raises(ValueError, match="100 different names are needed, got 3"):
        name_ranks(judge, np.zeros((1, 3, 4, 4), np.uint8), ["own"], pool[:3])


def test_vectors_have_length_one_and_a_step_down_the_gradient_lowers_the_loss():
    torch.manual_seed(0)
    model = PictureText(train_words(["emoji of one", "emoji of two"], 8), size=16, width=16, embedding=32)
    pixels = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    found = PairBatch(pixels, ["emoji of one", "emoji of two"], torch.tensor([0, 1]))
    for vectors in (model.pictures(pixels), model.texts(found.texts)):
        assert vectors.shape == (2, 32)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
    before, _ = pair_loss(model, found)
    before.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    torch.optim.SGD(model.parameters(), 1e-4).step()
    assert float(pair_loss(model, found)[0].detach()) < float(before.detach())
