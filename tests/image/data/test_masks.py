"""Random masks: each kind as often as it is said, of every size, never empty."""

import torch

from unveil.image.data.masks import random_masks


def test_a_quarter_are_whole_and_no_mask_is_empty():
    masks = random_masks(2000, 16, 24, torch.Generator().manual_seed(0))
    assert masks.shape == (2000, 1, 16, 24) and masks.dtype == torch.bool
    share = masks.float().mean((1, 2, 3))
    assert bool((share > 0).all())
    assert 0.21 < float((share == 1).float().mean()) < 0.30
    some = share[share < 1]
    assert float(some.min()) < 0.1 and float(some.max()) > 0.9
    assert (
        abs(float(masks.float().mean((0, 1))[0].mean()) - float(masks.float().mean((0, 1))[-1].mean())) < 0.05
    )


def test_a_quarter_keep_a_rectangle():
    """What is kept fills its own bounding box; of the other kinds hardly any does."""
    masks = random_masks(400, 32, 32, torch.Generator().manual_seed(1))[:, 0]
    outer = 0
    for kept in ~masks:
        rows, columns = kept.any(1).nonzero(), kept.any(0).nonzero()
        if not len(rows):
            continue
        box = kept[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
        outer += bool(box.all()) and len(rows) * len(columns) < 32 * 32
    assert 70 < outer < 150


def test_the_same_generator_draws_the_same_masks_and_one_pixel_is_enough():
    one, two = (random_masks(8, 5, 7, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert bool(random_masks(8, 1, 1, torch.Generator().manual_seed(0)).all())
