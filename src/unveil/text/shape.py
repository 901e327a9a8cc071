"""The shape of a text model: what fixes its tensors. Free of torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields

Form = Literal["l", "t"]
"""Forms of the bound on the likelihood: `counted_loss` (l) or `masked_loss` (t)."""
Times = Literal["stratified", "antithetic", "independent"]
"""How the times, or the numbers of masks, of a batch are sampled."""


@dataclass(frozen=True)
class TextShape:
    """Shape of the network and length of its sequences.

    Raises:
        ValueError: a value of another type or out of range, by name; `width`, `heads` and `kv_heads` that do
            not divide; or `block` with `causal`.
    """

    vocabulary: Annotated[int, Bounds(3, 2**24 - 1)] = 258
    """number of tokens V, end-of-text and [MASK] included; a training takes it from the tokenizer and refuses
    another number: choose it by `unveil data text --vocabulary`"""
    context: Annotated[int, Bounds(1, 10**6)] = 256
    """number of tokens of the longest sequence that the model is trained on"""
    width: Annotated[int, Bounds(2, 10**5)] = 192
    """width of the transformer, a multiple of twice `heads`"""
    depth: Annotated[int, Bounds(1, 10**4)] = 6
    """number of transformer blocks"""
    heads: Annotated[int, Bounds(1, 10**4)] = 6
    """number of attention heads"""
    kv_heads: Annotated[int, Bounds(0, 10**4)] = 0
    """number of heads of keys and values (grouped-query attention); 0: as many as `heads`"""
    hidden: Annotated[int, Bounds(0, 10**7)] = 0
    """hidden width of the feed-forward part (SwiGLU); 0: 8/3 of `width`"""
    theta: Annotated[float, Bounds(0, above=True, below=True)] = 10_000.0
    """base of the rotary position embedding"""
    tied: bool = False
    """share the weights of the token embedding with the output layer"""
    epsilon: Annotated[float, Bounds(0, 1, above=True, below=True)] = 1e-5
    """number that RMSNorm adds to the mean square"""
    schedule: Literal["linear", "cosine"] = "linear"
    """noise schedule: the fraction of unmasked tokens at time t, 1 - t or a cosine"""
    forbid_mask: bool = True
    """set the probability of [MASK] to 0; LLaDA's published weights leave it in the softmax"""
    block: Annotated[int, Bounds(0, 10**6)] = 0
    """number of tokens per block of block diffusion (BD3): each block is masked diffusion conditioned on the
    blocks before it. 0: masked diffusion of the whole sequence"""
    causal: bool = False
    """train an autoregressive model with the same transformer, for comparison; `form` and `times` are then
    not used"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width % (2 * self.heads) or self.heads % (self.kv_heads or self.heads):
            raise ValueError(
                "`width` must be a multiple of twice `heads`, and `heads` of `kv_heads`, got "
                f"{self.width}, {self.heads} and {self.kv_heads}"
            )
        if self.causal and self.block:
            raise ValueError(f"a `causal` model has no blocks, but `block` is {self.block}")
