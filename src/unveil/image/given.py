"""What `generate` is given besides classes and settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from unveil.image.classifier import ImageClassifier
from unveil.image.clip_model import ClipModel
from unveil.sampling.edit import LogPotential


@dataclass(frozen=True, eq=False)
class Given:
    """Inputs besides classes; tensors have one row per image, in -1 .. 1 or as codes of a latent model.

    Args:
        classifier: guides towards the classes; the model itself may be unconditional.
        clip: a CLIP of noisy images, which guides towards `texts`; the model itself may read none.
        texts: N texts, for `clip`.
        begin: (N, C, S, S) images to change, as `ImageModel.clean` gives them: noised to t = strength, and
            denoised from there.
        known: (N, 1, S, S) bool mask of the known pixels of `value` (N, C, S, S); the others are generated
            (RePaint).
        exact: the predicted x_0 has the known pixels in each step (GLIDE), where RePaint noises them; for
            models that see which pixels are known.
        cost: from rows (a slice) to a cost of their clean images, in nats, such as that of a measurement; see
            `steered`.
        low: (N, C, s, s) low-resolution images for an upsampler.
        prompts: N texts, for a model of captions.
        beside: (N, K, S, S) map that a model with `concat` K sees: of inpainting, the mask (1: generate) and
            the masked image; depth; of semantic maps, their channels (`ImageModel.mapped`); or, of Stable
            Diffusion's upscaler, the noised small image.
        level: (N,) int64, how noisy `low` or the small image of `beside` is, for models that know this; None:
            `low` has no noise.
        embeddings: (N, E) image embeddings of norm 1, for a decoder of unCLIP; None: its learned embedding of
            no image.
        last: number of steps that `begin` goes through, the last ones of the settings'; 0: `strength` says
            how many.
        earlier: steps of a first pass, for prompts that change: their steps count on from these, and their
            fractions lie in 1 .. 2.
    """

    classifier: ImageClassifier | None = None
    begin: Tensor | None = None
    known: Tensor | None = None
    value: Tensor | None = None
    exact: bool = False
    cost: Callable[[slice], LogPotential] | None = None
    low: Tensor | None = None
    prompts: Sequence[str] | None = None
    beside: Tensor | None = None
    level: Tensor | None = None
    embeddings: Tensor | None = None
    clip: ClipModel | None = None
    texts: Sequence[str] | None = None
    last: int = 0
    earlier: int = 0


NOTHING = Given()
