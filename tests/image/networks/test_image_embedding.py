"""Image embeddings in the U-Net: a shift of the time embedding, and tokens before those of the text."""

import pytest
import torch
from torch import Tensor, nn

from unveil.image.networks.blocks2d import Attention2d
from unveil.image.networks.image_embedding import ImageEmbedding
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.network.condition import Condition

SHAPE = UNet2dShape(2, 8, (1, 2), 1, (1,), groups=4, context=6, embedding=5, embedding_tokens=3)


def network(shape: UNet2dShape = SHAPE) -> UNet2d:
    torch.manual_seed(0)
    net = UNet2d(shape).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def seen(net: UNet2d, cond: Condition) -> tuple[Tensor, list[tuple[Tensor, Tensor | None]]]:
    """The output, and tokens and validity that the attentions got."""
    got: list[tuple[Tensor, Tensor | None]] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: got.append(inputs[1:]))
        for module in net.modules()
        if isinstance(module, Attention2d)
    ]
    with torch.no_grad():
        out = net(drawn(2, 2, 4, 4), torch.tensor([3.0, 7.0]), cond)
    for hook in hooks:
        hook.remove()
    return out, got


def test_tokens_of_the_image_stand_before_those_of_the_text_in_every_attention():
    net, text, z = network(), drawn(2, 4, 6), drawn(2, 5)
    valid = torch.tensor([[True, True, False, False]] * 2)
    _, got = seen(net, Condition(tokens=text, token_valid=valid, embedding=z))
    assert net.image is not None and net.image.tokens is not None and len(got) == 4
    with torch.no_grad():
        first = net.image.tokens(5**0.5 * z).reshape(2, 3, 6)
    for tokens, mask in got:
        torch.testing.assert_close(tokens[:, :3], first)
        torch.testing.assert_close(tokens[:, 3:], text)
        assert mask is not None and mask.tolist() == [[True] * 5 + [False] * 2] * 2


def test_without_text_the_image_alone_is_attended_to():
    _, got = seen(network(), Condition(embedding=drawn(2, 5)))
    assert [tuple(tokens.shape) for tokens, _ in got] == [(2, 3, 6)] * 4
    assert all(mask is None for _, mask in got)


def test_the_embedding_is_added_to_that_of_the_time():
    """With tokens of zero weights the embedding acts through the time alone, by sqrt(E) W z + b."""
    net, z = network(), drawn(2, 5)
    assert net.image is not None and net.image.tokens is not None
    nn.init.zeros_(net.image.tokens.weight)
    last = net.time[2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)  # so that the time has no influence: its embedding is a bias
    out, _ = seen(net, Condition(embedding=z))
    bias = last.bias.detach().clone()
    with torch.no_grad():
        for row in range(2):
            last.bias.copy_(bias + 5**0.5 * net.image.time.weight @ z[row])
            alone, _ = seen(net, Condition(embedding=torch.zeros(2, 5)))
            torch.testing.assert_close(alone[row], out[row])
            assert float((alone[1 - row] - out[1 - row]).abs().max()) > 1e-3


def test_embeddings_of_another_scale_are_taken_as_they_are():
    part = ImageEmbedding(5, 8, 6, 2)
    shift, tokens = part(drawn(3, 5))
    torch.testing.assert_close(shift, part.time(drawn(3, 5)))
    assert tokens is not None and tokens.shape == (3, 2, 6)


@pytest.mark.parametrize("z", [None, torch.zeros(2, 4), torch.zeros(1, 5)])
def test_a_missing_embedding_is_refused(z):
    with pytest.raises(ValueError, match=r"needs an image embedding of shape \(2, 5\), got"):
        network()(torch.zeros(2, 2, 4, 4), torch.zeros(2), Condition(embedding=z))
