"""How text is written: the settings that the command line, chats and Python share. Free of torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields

WritingOrder = Literal[
    "confidence", "margin", "entropy", "random", "left-to-right", "ancestral", "first-hitting"
]
Cache = Literal["auto", "none", "prefix", "dual"]
LENGTH = 128  # new tokens by default, where the context has room for them
Probability = Annotated[float | None, Bounds(0, 1, above=True)]


@dataclass(frozen=True)
class TextSettings:
    """How text is written.

    Raises:
        ValueError: a value of another type or out of range, by name; or `remask` with
            `order='first-hitting'`.
    """

    length: Annotated[int | None, Bounds(0)] = LENGTH
    """number of new tokens after the prompt, or per answer of a chat; default: 128, at most what the context
    has room for (in a chat, half of the context). 0, only in `unveil sample text`: no fixed length; the text
    is written in blocks of `block` tokens (32 if `block` is 0), each in `steps` network calls, until it ends
    or the context is full"""
    steps: Annotated[int, Bounds(0)] = 64
    """number of network calls, divided among the blocks in proportion to their tokens; 0: one call per token.
    Not used with `order=first-hitting` (the default of `unveil sample text`), which always makes one call per
    token"""
    block: Annotated[int, Bounds(0)] = 0
    """number of tokens per block; blocks are written from left to right. 0: a single block, or the blocks
    that the model was trained with"""
    order: WritingOrder = "confidence"
    """which masked tokens are revealed first: the most confident ones (by probability, margin or entropy),
    random ones or the leftmost. ancestral and first-hitting sample the model's own reverse process,
    first-hitting without discretization error"""
    temperature: Annotated[float, Bounds(0, below=True)] = 0.0
    """sampling temperature; 0 takes the most probable token"""
    scale: Annotated[float, Bounds(above=True, below=True)] = 1.0
    """scale of classifier-free guidance against the masked prompt; 1 disables it; w + 1 for LLaDA's cfg_scale
    w"""
    threshold: Probability = None
    """probability from which on every token is revealed in a call, with `order=confidence`; it saves calls
    (parallel decoding of Fast-dLLM, 0.9 there); default: not used"""
    factor: Annotated[float | None, Bounds(0, above=True, below=True)] = None
    """another rule for parallel decoding (Fast-dLLM), with `order=confidence`: also reveal the r most
    confident tokens as long as the r-th has a probability of at least 1 - F / (r + 1), where F is this
    number; default: not used"""
    remask: Annotated[float, Bounds(0, 1)] = 0.0
    """strength of remasking (ReMDM), which corrects early mistakes: the probability, relative to its largest
    value, that a revealed token is masked again in a step; 0 disables it"""
    stop: bool = True
    """end each text at its first end-of-text token, and stop when all have ended"""
    may_end: bool = True
    """allow end-of-text to be written; always off for gaps"""
    cache: Cache = "auto"
    """attention keys and values that are reused between calls. auto: those that never change (of earlier
    blocks, in block diffusion), so that the text stays the same. prefix and dual, for masked models: those of
    the tokens before the block, or of all tokens outside it, computed when the block begins; faster, with
    slightly different text"""
    edit: Probability = None
    """replace a written token by another one with at least this probability (LLaDA 2.1's token editing), in
    at most `edit_steps` more calls per block; default: no editing"""
    edit_steps: Annotated[int, Bounds(0)] = 16
    """largest number of additional network calls per block, with `edit`"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.remask and self.order == "first-hitting":
            raise ValueError(
                "`remask` needs another `order`: first-hitting sampling never masks a token again"
            )

    def tokens(self, room: int) -> int:
        """The number of new tokens: `length`, or by default 128, or `room` (at least 1) if that is less."""
        return max(1, min(LENGTH, room)) if self.length is None else self.length
