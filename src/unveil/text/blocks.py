"""A canvas in blocks: which tokens belong to each, how many steps it gets, and the state of the one that is
being written."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.text.block_cache import blocks_by_position
from unveil.text.model import TextModel
from unveil.text.settings import TextSettings


class Block:
    """One block while it is written: which of its tokens are [MASK], which may change, and which rows are
    finished.

    The solver, the belief and the stopping rule all read it, so that x is compared with [MASK] once per
    state.

    Args:
        among: the positions that belong to the block, within the columns that the network sees.
        mask_id, eos_id: of the vocabulary.
        settings: `edit` and `remask` decide when a row is finished, `stop` and `may_end` whether end-of-text
            finishes it.
    """

    def __init__(self, among: Bool[Tensor, "B W"], mask_id: int, eos_id: int, settings: TextSettings) -> None:
        self.among, self.mask_id, self.eos_id = among, mask_id, eos_id
        self.edits, self.remasks = settings.edit is not None, settings.remask > 0.0
        self.ends = settings.stop and settings.may_end
        self._active = torch.ones(len(among), dtype=torch.bool, device=among.device)
        self._last: tuple[Tensor, Tensor] | None = None

    @property
    def final(self) -> bool:
        """Whether tokens stay as they are revealed."""
        return not (self.edits or self.remasks)

    def masked(self, x: Int[Tensor, "B W"]) -> Bool[Tensor, "B W"]:
        """The block's positions with [MASK], also in finished rows."""
        if self._last is None or self._last[0] is not x:
            self._last = (x, (x == self.mask_id) & self.among)
        return self._last[1]

    def changeable(self, x: Int[Tensor, "B W"]) -> tuple[Tensor, Tensor]:
        """[MASK] that may be revealed, and tokens that may change, each (B, W) bool, in the rows that are not
        finished."""
        masked, active = self.masked(x), self._active[:, None]
        return masked & active, self.among & ~masked & active

    def positions(self, x: Int[Tensor, "B W"]) -> Int[Tensor, "B P"]:
        """The positions where a belief is needed; rows that need fewer than P are filled up with others."""
        needed = self.among if self.edits else self.masked(x)
        count = max(1, int(needed.sum(1).max()))
        return (~needed).long().argsort(dim=1, stable=True)[:, :count]

    def ended(self, x: Int[Tensor, "B W"]) -> Bool[Tensor, " B"]:
        """Rows that have ended in this block; none if end-of-text does not end them."""
        if not self.ends:
            return torch.zeros_like(self._active)
        return ended(x, self.among, self.masked(x), self.eos_id)

    def finish(self, before: Int[Tensor, "B W"], x: Int[Tensor, "B W"]) -> bool:
        """Finish the rows of x that need no further step after `before`; returns whether all are finished."""
        full = ~self.masked(x).any(1) & (not self.remasks)
        finished = full & (before == x).all(1) if self.edits else full
        if self.final:  # otherwise a revealed end may be masked or replaced again
            finished = finished | self.ended(x)
        self._active = self._active & ~finished
        return not bool(self._active.any())


def blocks_of(hidden: Bool[Tensor, "B L"], size: int) -> list[Tensor]:
    """The hidden positions, which are to be written, in blocks (B, L) bool of `size` from the left of a row;
    size 0: all in one block."""
    rank = hidden.long().cumsum(1) - 1
    longest = int(rank.max()) + 1
    count = -(-longest // size) if size else 1
    return [hidden & (rank // (size or longest) == i) for i in range(count)]


def blocks_for(model: TextModel, hidden: Tensor, valid: Tensor, settings: TextSettings) -> list[Tensor]:
    """The blocks (B, L) in which a model writes: its own if it was trained with blocks, else those of the
    settings."""
    if model.window:
        return blocks_by_position(hidden, valid, model.window)
    return blocks_of(hidden, settings.block)


def shares(steps: int, counts: Sequence[int]) -> list[int]:
    """Steps of each block, at least 1, in proportion to its masks.

    Whole numbers whose sum is `steps`, or the number of blocks if that is more. What remains after rounding
    down goes to the largest fractions, the first of equal ones.
    """
    total = max(1, sum(counts))
    ideal = [steps * count / total for count in counts]
    rounded = [max(1, int(share)) for share in ideal]
    while sum(rounded) < steps and rounded:
        rounded[max(range(len(rounded)), key=lambda i: ideal[i] - rounded[i])] += 1
    while sum(rounded) > max(steps, len(rounded)):
        larger = (i for i in range(len(rounded)) if rounded[i] > 1)
        rounded[max(larger, key=lambda i: rounded[i] - ideal[i])] -= 1
    return rounded


def ended(x: Tensor, among: Tensor, masked: Tensor, eos_id: int) -> Bool[Tensor, " B"]:
    """Rows of x (B, L) with an end-of-text at one of the positions `among`, and no masked one before it."""
    after_mask = masked.long().cumsum(1) > 0
    end = (x == eos_id) & among
    return (end & ~after_mask).any(1)


def check_settings(model: TextModel, settings: TextSettings, blocks: int) -> None:
    """Refuse settings that this model cannot follow.

    Raises:
        ValueError: fewer steps than blocks; blocks or a cache of another kind of model; guidance of a model
            that never saw a masked prompt; or editing, or a threshold or factor, with an order that does not
            use confidence.
    """
    own_process = settings.order in ("ancestral", "first-hitting")
    if 0 < settings.steps < blocks and not (model.window and settings.order == "first-hitting"):
        raise ValueError(
            f"{settings.steps} steps are fewer than the {blocks} blocks; give more `steps` or a larger "
            "`block`"
        )
    if model.window and settings.block not in (0, model.window):
        raise ValueError(
            f"this model's own blocks have {model.window} tokens, but `block` is {settings.block}; leave it "
            "out"
        )
    if model.window and settings.cache in ("prefix", "dual"):
        raise ValueError(
            f"`cache={settings.cache}` is for masked models; this one reuses its earlier blocks exactly: "
            "give `cache=auto`"
        )
    if model.window and settings.scale != 1.0:
        raise ValueError(
            "guidance masks the prompt, which a causal model, or one of blocks, has never seen masked; leave "
            "`scale` at 1"
        )
    if settings.edit is not None and own_process:
        raise ValueError(f"`edit` needs an order by confidence, got `order={settings.order}`")
    if (settings.threshold is not None or settings.factor is not None) and own_process:
        raise ValueError(
            f"`threshold` and `factor` reveal by confidence, which `order={settings.order}` does not use; "
            "give `order=confidence`"
        )
