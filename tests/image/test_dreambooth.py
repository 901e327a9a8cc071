"""DreamBooth's loss: the mean of the instance's losses plus the weighted mean of the class's, by hand."""

import torch

from prompted_models import batch, small
from unveil.image.dreambooth import dreambooth_batches
from unveil.image.training import image_loss


def halves(first: int, second: int):
    """Batches of other sizes with other numbers in them."""
    whole = batch(small(), first + second)

    def part(some: slice):
        fields = {name: getattr(whole, name)[some] for name in ("pixels", "dropped", "t", "noise", "prompts")}
        return whole._replace(**fields)

    return part(slice(first)), part(slice(first, None))


def test_the_loss_is_that_of_both_halves():
    model, generator = small(), torch.Generator()
    for sizes in ((2, 2), (3, 1)):
        one, two = halves(*sizes)
        joined = dreambooth_batches(lambda _, it=one: it, lambda _, it=two: it, 0.25)(generator)
        with torch.no_grad():
            loss, first, second = (image_loss(model, it)[0] for it in (joined, one, two))
        torch.testing.assert_close(loss, first + 0.25 * second)
        assert abs(float(first - second)) > 1e-3  # so that the halves could not be exchanged
    assert joined.prompts == (*one.prompts, *two.prompts)


def test_both_halves_have_numbers_of_their_own():
    def draw(generator):
        return batch(small(), 2)._replace(noise=torch.randn(2, 1, 8, 8, generator=generator))

    joined = dreambooth_batches(draw, draw)(torch.Generator().manual_seed(0))
    assert joined.noise.shape == (4, 1, 8, 8) and not torch.equal(joined.noise[:2], joined.noise[2:])
    assert joined.weights is not None and joined.weights.tolist() == [2.0] * 4
