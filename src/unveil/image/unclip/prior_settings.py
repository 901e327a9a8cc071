"""How embeddings are drawn from a prior, for Python and the command line; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unveil.checks import Bounds, check_fields


@dataclass(frozen=True)
class PriorSettings:
    """How image embeddings are drawn for texts.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    prior_steps: Annotated[int, Bounds(1)] = 25
    """number of steps of a diffusion prior, by DDPM's sampler; an autoregressive prior has one per
    dimension"""
    prior_scale: Annotated[float, Bounds(0, below=True)] = 2.0
    """scale of the prior's classifier-free guidance; 1 disables it, 0 ignores the prompt"""
    candidates: Annotated[int, Bounds(1, 1024)] = 2
    """number of embeddings that the prior draws for each image; that of the largest product with the text's
    embedding is used (2 in the paper)"""

    def __post_init__(self) -> None:
        check_fields(self)
