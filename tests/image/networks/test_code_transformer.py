"""The network of the autoregressive prior: a code never sees those behind it."""

import pytest
import torch

from unveil.image.networks.code_transformer import CodesShape, CodeTransformer
from unveil.image.networks.prior import PriorShape
from unveil.network.condition import Condition

SHAPE = PriorShape(embedding=6, context=5, pooled=6, length=3, width=16, layers=2, heads=2)
COND = Condition(
    tokens=torch.randn((2, 3, 5), generator=torch.Generator().manual_seed(1)),
    token_valid=torch.tensor([[True, True, False]] * 2),
    vector=torch.randn((2, 6), generator=torch.Generator().manual_seed(2)),
)


def network() -> CodeTransformer:
    torch.manual_seed(0)
    return CodeTransformer(SHAPE, CodesShape(5, 7, 4)).eval()


def test_logits_depend_on_the_codes_before_alone():
    net, products = network(), torch.tensor([1, 3])
    codes = torch.tensor([[1, 2, 3, 4], [0, 6, 5, 1]])
    with torch.no_grad():
        one = net(codes, products, COND)
        assert one.shape == (2, 5, 7)
        for k in range(4):
            other = codes.clone()
            other[:, k] = (other[:, k] + 1) % 7
            changed = (net(other, products, COND) - one).abs().amax(dim=(0, 2)) > 1e-6
            assert changed.tolist() == [False] * (k + 1) + [True] * (4 - k)
            torch.testing.assert_close(net(codes[:, :k], products, COND), one[:, : k + 1])


def test_product_and_text_reach_all_logits():
    net, products, codes = network(), torch.tensor([1, 3]), torch.zeros((2, 4), dtype=torch.int64)
    with torch.no_grad():
        one = net(codes, products, COND)
        assert float((net(codes, products * 0 + 4, COND) - one).abs().amin(dim=(0, 2)).max()) > 0.0
        assert COND.tokens is not None

        moved = COND.tokens.clone()
        moved[:, 2] += 1.0  # padding
        same = net(codes, products, Condition(tokens=moved, token_valid=COND.token_valid, vector=COND.vector))
    torch.testing.assert_close(same, one)


def test_as_many_codes_as_dimensions_are_refused():
    with pytest.raises(ValueError, match="continues at most 4"):
        network()(torch.zeros((2, 5), dtype=torch.int64), torch.zeros(2, dtype=torch.int64), COND)
