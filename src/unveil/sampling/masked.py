"""Solvers of masked diffusion: each step from t to s selects masked positions and reveals their tokens.

Without `remask` and `edit` a revealed token never changes. The solvers apply SUBS (Sahoo et al. 2024, section
3.2.3): [MASK] has zero probability, and revealed tokens are carried over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unveil.process.denoised import Denoise, MaskedDenoised
from unveil.process.masking import time_of, without_mask
from unveil.process.schedule import Schedule
from unveil.sampling.noise import Noise, uniform_like

Belief = Denoise[MaskedDenoised]
Changeable = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Tokens x (B, L) to two masks (B, L): where [MASK] may be revealed, and where a token may change."""
Order = Literal["confidence", "margin", "entropy", "random", "left-to-right"]
ORDERS = ("confidence", "margin", "entropy", "random", "left-to-right")


@dataclass(frozen=True, eq=False)
class AncestralUnmask:
    """Ancestral sampling of masked diffusion. Sahoo et al. 2024 (MDLM), eq. 7.

        p(masked again) = w = remask * min(1, (1 - alpha_s) / alpha_t)
        p(revealed) = (alpha_s - (1 - w) alpha_t) / (1 - alpha_t)

    Each masked token is revealed independently, as a sample of the belief; this is exact in the limit of a
    fine grid. With `remask` > 0 each revealed token may be masked again, and the marginals are preserved
    (Wang et al. 2025, ReMDM, eq. 6, rescaled schedule).

    Args:
        mask_id: the id of [MASK].
        temperature: sampling temperature of the tokens; 0 is greedy.
        forbid_mask: give [MASK] zero probability.
        remask: in [0, 1]; 0 never masks a revealed token again.
        among: bool, broadcastable to x (B, L): the positions that may change; None is all. Or a function
            of x (`Changeable`), where they depend on it.
    """

    schedule: Schedule
    mask_id: int
    temperature: float = 1.0
    forbid_mask: bool = True
    remask: float = 0.0
    among: Tensor | Changeable | None = None

    def __post_init__(self) -> None:
        _check(self.temperature, self.remask)

    def step(
        self, denoise: Belief, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        hidden, revealed = _changeable(x_t, self.mask_id, self.among)
        again, reveal = _chances(self.schedule, t, s, self.remask)
        x_s = x_t
        if bool(hidden.any()):
            belief = denoise(x_t, t.expand(len(x_t)))
            logits, positions = _logits(belief, x_t, self.mask_id, self.forbid_mask)  # (B, P, V), (B, P)
            open_ = hidden.gather(1, positions)  # (B, P)
            tokens, _ = draw_tokens(logits, self.temperature, generator, open_)  # (B, P)
            now = x_t.gather(1, positions)
            chosen = open_ & (uniform_like(now, generator, where=open_) < reveal)
            x_s = x_t.scatter(1, positions, torch.where(chosen, tokens, now))
        return _masked_again(x_s, again, self.mask_id, revealed, generator), None


@dataclass(frozen=True, eq=False)
class FirstHittingUnmask:
    """Exact ancestral sampling in continuous time: one token at a time, at the sampled time of its unmasking.

    With n masked positions left, the masked share m = 1 - alpha decreases to m u^(1/n), u uniform, and one
    uniformly random masked position is revealed. Every row has its own clock, so rows with different numbers
    of masks may share a batch. Zheng et al. 2025, section 4.

    A step from t to s calls the denoiser as often as the row with the most events needs; a whole run needs
    about as many calls as there are masks.

    Args:
        mask_id, temperature, forbid_mask, among: as in `AncestralUnmask`.
    """

    schedule: Schedule
    mask_id: int
    temperature: float = 1.0
    forbid_mask: bool = True
    among: Tensor | Changeable | None = None

    def __post_init__(self) -> None:
        _check(self.temperature)

    def step(
        self, denoise: Belief, x_t: Tensor, t: Tensor, s: Tensor, carry: Tensor | None, generator: Noise
    ) -> tuple[Tensor, Tensor]:
        hidden, _ = _changeable(x_t, self.mask_id, self.among)
        first = (1.0 - self.schedule.alpha(t)).expand(len(x_t))
        clock = _fallen(first, hidden, generator, hidden.any(1)) if carry is None else carry
        last = 1.0 - self.schedule.alpha(s)  # masked share at s
        while bool((due := (clock > last) & hidden.any(1).cpu()).any()):
            belief = denoise(x_t, time_of(self.schedule, clock))
            logits, positions = _logits(belief, x_t, self.mask_id, self.forbid_mask)  # (B, P, V), (B, P)
            moved = due.to(x_t.device)[:, None]  # (B, 1)
            open_ = hidden.gather(1, positions) & moved  # (B, P)
            lottery = uniform_like(positions, generator, where=open_).masked_fill(~open_, -1.0)
            pick = lottery.argmax(1, keepdim=True)  # (B, 1)
            token, _ = draw_tokens(
                logits.gather(1, pick[..., None].expand(-1, 1, logits.shape[-1])),
                self.temperature,
                generator,
                moved,
            )
            position = positions.gather(1, pick)
            x_t = x_t.scatter(1, position, torch.where(moved, token, x_t.gather(1, position)))
            hidden, _ = _changeable(x_t, self.mask_id, self.among)
            clock = torch.where(due, _fallen(clock, hidden, generator, due), clock)
        return x_t, clock


@dataclass(frozen=True, eq=False)
class ConfidentUnmask:
    """Confidence-based unmasking: the ceil(n (alpha_s - alpha_t) / (1 - alpha_t)) best of n masked tokens.

    A step reveals the masked tokens with the highest scores. This is LLaDA's low-confidence remasking (Nie et
    al. 2025, Alg. 5; Chang et al. 2022). On the linear schedule with a uniform grid it reveals n / steps
    tokens per step, rounded up in the first steps. The result is not a sample of the model's distribution:
    positions are chosen greedily, and at temperature 0 tokens too.

    Args:
        order: the score of a masked position. "confidence": the probability of the chosen token. "margin":
            the difference between the two largest probabilities. "entropy": the negative entropy. "random": a
            random order. "left-to-right": the order of positions.
        mask_id, forbid_mask: as in `AncestralUnmask`.
        temperature: sampling temperature of the tokens; 0 is greedy, else Gumbel noise is added in float64,
            since lower precision lowers the effective temperature (Zheng et al. 2025). Scores use
            probabilities without this noise.
        threshold: also reveal all tokens of at least this probability (Wu et al. 2025, Fast-dLLM, Alg. 1).
        factor: also reveal the r most confident tokens, r the largest number such that the i-th of them has
            confidence >= 1 - factor / (i + 1) for i = 2 .. r (ibid., section 3.3).
        remask: as in `AncestralUnmask`, in addition to the revealed tokens.
        edit: replace a revealed token by another one whose probability is at least this (token editing, LLaDA
            2.1); the edit of the sampling loop restores known tokens. Only networks trained for it predict
            well at positions that are not masked.
        among: as in `AncestralUnmask`; n counts masked positions among these.
    Raises:
        ValueError: an unknown order, a number out of range, or threshold or factor without confidence.
    """

    schedule: Schedule
    mask_id: int
    order: Order = "confidence"
    temperature: float = 0.0
    forbid_mask: bool = True
    remask: float = 0.0
    threshold: float | None = None
    factor: float | None = None
    among: Tensor | Changeable | None = None
    edit: float | None = None

    def __post_init__(self) -> None:
        _check(self.temperature, self.remask)
        if not all(value is None or value >= 0.0 for value in (self.threshold, self.factor, self.edit)):
            got = f"{self.threshold}, {self.factor} and {self.edit}"
            raise ValueError(
                f"ConfidentUnmask: threshold, factor and edit must be numbers of at least 0, got {got}"
            )
        if self.order not in ORDERS:
            raise ValueError(f"ConfidentUnmask: order must be one of {', '.join(ORDERS)}, got {self.order!r}")
        if self.order != "confidence" and (self.threshold is not None or self.factor is not None):
            raise ValueError(
                "ConfidentUnmask: threshold and factor are of the order 'confidence', "
                f"got order {self.order!r}"
            )

    def step(
        self, denoise: Belief, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        hidden, revealed = _changeable(x_t, self.mask_id, self.among)
        again, reveal = _chances(self.schedule, t, s, self.remask)
        x_s = x_t
        if bool(hidden.any()) or self.edit is not None:
            belief = denoise(x_t, t.expand(len(x_t)))
            logits, positions = _logits(belief, x_t, self.mask_id, self.forbid_mask)  # (B, P, V), (B, P)
            open_ = changing = hidden.gather(1, positions)  # (B, P)
            if self.edit is not None:
                changing = open_ | revealed.gather(1, positions)
            tokens, chance = draw_tokens(logits, self.temperature, generator, changing)
            score = self._score(logits, chance, positions, open_, generator).masked_fill(
                ~open_, float("-inf")
            )
            best = score.argsort(dim=1, descending=True, stable=True)
            rank = best.argsort(dim=1)  # (B, P), 0 is the highest score
            count = (hidden.sum(1) * reveal - 1e-6).ceil().long().clamp(min=0)  # (B,)
            count = torch.maximum(count, self._parallel(chance.masked_fill(~open_, -1.0).gather(1, best)))
            chosen = open_ & (rank < count[:, None])
            if self.edit is not None:
                chosen = chosen | (changing & ~open_ & (chance >= self.edit))
            x_s = x_t.scatter(1, positions, torch.where(chosen, tokens, x_t.gather(1, positions)))
        return _masked_again(x_s, again, self.mask_id, revealed, generator), None

    def _score(
        self, logits: Tensor, chance: Tensor, positions: Tensor, open_: Tensor, generator: Noise
    ) -> Tensor:
        if self.order == "confidence":
            return chance
        if self.order == "random":
            return uniform_like(positions, generator, where=open_)
        if self.order == "left-to-right":
            return -positions.double()
        if self.order == "margin":
            first, second = logits.softmax(-1).topk(2, dim=-1).values.unbind(-1)
            return first - second
        log_p = logits.log_softmax(-1)
        return torch.where(log_p.isfinite(), log_p.exp() * log_p, torch.zeros_like(log_p)).sum(-1)

    def _parallel(self, chance: Tensor) -> Tensor:
        """How many tokens of each row `threshold` and `factor` reveal.

        Args:
            chance: (B, P), probabilities in decreasing order; -1 marks positions that are not masked.
        Returns:
            (B,)
        """
        count = torch.zeros(len(chance), dtype=torch.long, device=chance.device)
        if self.threshold is not None:
            count = torch.maximum(count, (chance >= self.threshold).sum(1))
        if self.factor is not None:
            needed = 1.0 - self.factor / (
                torch.arange(chance.shape[1], device=chance.device, dtype=chance.dtype) + 2.0
            )
            confident = (chance >= needed) & (chance >= 0.0)
            confident[:, 0] = chance[:, 0] >= 0.0
            count = torch.maximum(count, confident.long().cumprod(1).sum(1))
        return count


def _check(temperature: float, remask: float = 0.0) -> None:
    if not 0.0 <= temperature < float("inf") or not 0.0 <= remask <= 1.0:
        raise ValueError(
            "unmasking needs a finite temperature of at least 0, and remask in 0 .. 1, "
            f"got {temperature} and {remask}"
        )


def reused(denoise: Belief) -> Belief:
    """Cache the last belief: if the tokens are those of the last call, the network is not called again.

    Exact for networks without time input, which tokens do not need (Ou et al. 2025, RADD, section 3.3).
    """
    last: list[tuple[Tensor, MaskedDenoised]] = []

    def belief(x_t: Tensor, t: Tensor) -> MaskedDenoised:
        if not (last and last[0][0].shape == x_t.shape and torch.equal(last[0][0], x_t)):
            last[:] = [(x_t, denoise(x_t, t))]
        return last[0][1]

    return belief


def draw_tokens(
    logits: Tensor, temperature: float, generator: Noise, where: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sample tokens from softmax(logits / temperature), in float64.

    A sample is argmax(logits / temperature + Gumbel noise).

    Args:
        logits: (..., P, V).
        temperature: 0 takes the most probable token.
        where: bool, (...) or (..., P), the tokens that are needed, as in `uniform_like`; None is all.
    Returns:
        Tokens (..., P), and their probabilities (..., P) in softmax(logits), without temperature.
    """
    probabilities = logits.softmax(-1)
    if temperature == 0.0:
        token = logits.argmax(-1)
    else:
        gumbel = -(-uniform_like(logits, generator, positive=True, where=where).log()).log()
        token = (logits.double() / temperature + gumbel).argmax(-1)
    return token, probabilities.gather(-1, token[..., None])[..., 0]


def _changeable(x: Tensor, mask_id: int, among: Tensor | Changeable | None) -> tuple[Tensor, Tensor]:
    """Where [MASK] may be revealed, and where a token may change: each (B, L) bool."""
    if among is not None and not isinstance(among, Tensor):
        return among(x)
    hidden = x == mask_id
    return (hidden, ~hidden) if among is None else (hidden & among, ~hidden & among)


def _logits(belief: MaskedDenoised, x: Tensor, mask_id: int, forbid: bool) -> tuple[Tensor, Tensor]:
    """Logits (B, P, V) of at least float32, with SUBS, and their positions (B, P)."""
    logits = (
        belief.logits.float() if belief.logits.dtype in (torch.bfloat16, torch.float16) else belief.logits
    )
    positions = belief.positions
    if positions is None:
        positions = torch.arange(x.shape[1], device=x.device).expand(x.shape)
    return (without_mask(logits, mask_id) if forbid else logits), positions


def _chances(schedule: Schedule, t: Tensor, s: Tensor, remask: float) -> tuple[float, float]:
    """The probabilities of masking a revealed token again and of revealing a masked one, from t to s."""
    now, then = float(schedule.alpha(t)), float(schedule.alpha(s))
    again = remask * min(1.0, (1.0 - then) / now) if now > 0.0 else 0.0
    return again, (then - (1.0 - again) * now) / (1.0 - now) if now < 1.0 else 1.0


def _masked_again(x_s: Tensor, chance: float, mask_id: int, revealed: Tensor, generator: Noise) -> Tensor:
    """Mask tokens again that were revealed before this step; the edit of the loop restores known tokens."""
    if chance == 0.0:
        return x_s
    return x_s.masked_fill(revealed & (uniform_like(x_s, generator, where=revealed) < chance), mask_id)


def _fallen(share: Tensor, hidden: Tensor, generator: Noise, where: Tensor) -> Tensor:
    """The masked share (B,) at which the next of a row's n masked tokens is revealed: share * u^(1/n)."""
    count = hidden.sum(1).cpu().double().clamp(min=1.0)
    u = 1.0 - uniform_like(share, generator, where=where)
    return share * u ** (1.0 / count)
