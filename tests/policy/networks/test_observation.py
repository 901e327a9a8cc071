"""Parts of observations come in their order, images through their own or a shared encoder, cut at random in
training alone."""

import pytest
import torch

from unveil.policy.networks.observation import ObservationEncoder, Part


def encoder(*numbers: int) -> ObservationEncoder:
    torch.manual_seed(0)
    images = [Part(f"camera{i}", (3, 40, 44), number, (36, 36)) for i, number in enumerate(numbers)]
    return ObservationEncoder((images[0], Part("state", (2,)), *images[1:]), keypoints=4, width=16)


def seen(count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {f"camera{i}": torch.randn(2, 3, 3, 40, 44) for i in range(count)} | {
        "state": torch.randn(2, 3, 2)
    }


@pytest.mark.parametrize("numbers", [(0, 0), (0, 1)])
def test_parts_come_in_order_and_encoders_are_shared_by_number(numbers):
    network, observations = encoder(*numbers), seen(2)
    y = network(observations)
    assert y.shape == (2, 3, network.size) and network.size == 8 + 2 + 8
    assert len(network.encoders) == len(set(numbers))
    assert torch.equal(y[..., 8:10], observations["state"])
    for number, camera, place in (
        (numbers[0], "camera0", slice(0, 8)),
        (numbers[1], "camera1", slice(10, 18)),
    ):
        alone = network.encoders[number](observations[camera][1, 2:3, :, 2:38, 4:40])
        torch.testing.assert_close(y[1, 2:3, place], alone, rtol=1e-4, atol=1e-5)


def test_a_generator_cuts_at_random():
    network, observations = encoder(0), seen(1)
    one, two = (network(observations, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, network(observations))


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match=r"state must be \(B, n, 2\), got nothing"):
        encoder(0)({"camera0": torch.zeros(1, 1, 3, 40, 44)})
    with pytest.raises(ValueError, match=r"camera0 must be \(B, n, 3, 40, 44\), got \(1, 1, 3, 44, 40\)"):
        encoder(0)({"camera0": torch.zeros(1, 1, 3, 44, 40), "state": torch.zeros(1, 1, 2)})
    with pytest.raises(ValueError, match="has another size than the other images"):
        ObservationEncoder((Part("a", (3, 40, 40), 0), Part("b", (3, 40, 41), 0)))
    with pytest.raises(ValueError, match="numbered from 0"):
        encoder(1)
