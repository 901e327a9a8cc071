"""The text side of Karlo's decoder: CLIP's encoder, its tokens mapped and normed."""

from jaxtyping import Bool, Int
from torch import Tensor, nn

from unveil.image.networks.clip import ClipText
from unveil.image.networks.text_encoder import EncodedText


class ProjectedText(nn.Module):
    """`ClipText` whose tokens (B, N, W) become LN(A tokens + b) (B, N, context), with the padding masked.

    `pooled` is CLIP's text embedding.

    Args:
        context: width of the tokens of the decoder's attention; 0: the tokens stay as they are, for a prior.
    """

    def __init__(self, clip: ClipText, context: int = 0) -> None:
        super().__init__()
        self.clip = clip
        self.project = nn.Linear(clip.shape.width, context) if context else nn.Identity()
        self.norm = nn.LayerNorm(context) if context else nn.Identity()

    def forward(self, ids: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]) -> EncodedText:
        encoded = self.clip(ids, valid)
        return EncodedText(self.norm(self.project(encoded.tokens)), valid, encoded.pooled)
