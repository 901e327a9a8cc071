"""Solvers of masked tokens: which positions are revealed from t to s, and what stands there. Revealed tokens never change without `remask`.

SUBS (Sahoo et al. 2024, section 3.2.3) is applied here, last: [MASK] has no probability, and what is revealed is carried over.
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
    """Each masked token is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t), independently, as a sample of its belief.

    The reverse process itself; exact as the grid gets fine. Sahoo et al. 2024 (MDLM), eq. 7. With `remask` r > 0 a revealed token is masked
    again with probability w = r min(1, (1 - alpha_s) / alpha_t), and revealing has (alpha_s - (1 - w) alpha_t) / (1 - alpha_t), which keeps
    the marginals. Wang et al. 2025 (ReMDM), eq. 6, rescaled schedule.

    Args:
        temperature: sampling temperature of the belief; 0 takes the most probable token.
        among: bool, broadcastable to x (B, L): the positions that may change, by default all; or a function (`Changeable`), where they
            depend on x.
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
            logits, places = _logits(belief, x_t, self.mask_id, self.forbid_mask)
            open_ = hidden.gather(1, places)
            tokens, _ = draw_tokens(logits, self.temperature, generator, open_)
            now = x_t.gather(1, places)
            chosen = open_ & (uniform_like(now, generator, where=open_) < reveal)
            x_s = x_t.scatter(1, places, torch.where(chosen, tokens, now))
        return _masked_again(x_s, again, self.mask_id, revealed, generator), None


@dataclass(frozen=True, eq=False)
class FirstHittingUnmask:
    """Ancestral sampling in continuous time, without a grid's error: one token at a time, at the very time its mask falls.

    With n masks left, the masked share m = 1 - alpha falls to m u^(1/n), u uniform, and one uniformly random masked position is revealed.
    Every row has a clock of its own, so that batches of rows with different numbers of masks are exact too. Zheng et al. 2025, section 4.

    A step from t to s calls the denoiser once for every event of the row that has most; in all, about as often as there are masks.

    Args:
        temperature, among: as in `AncestralUnmask`.
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
        last = 1.0 - self.schedule.alpha(s)
        while bool((due := (clock > last) & hidden.any(1).cpu()).any()):
            belief = denoise(x_t, time_of(self.schedule, clock))
            logits, places = _logits(belief, x_t, self.mask_id, self.forbid_mask)
            moved = due.to(x_t.device)[:, None]
            open_ = hidden.gather(1, places) & moved
            lottery = uniform_like(places, generator, where=open_).masked_fill(~open_, -1.0)
            pick = lottery.argmax(1, keepdim=True)
            token, _ = draw_tokens(
                logits.gather(1, pick[..., None].expand(-1, 1, logits.shape[-1])),
                self.temperature,
                generator,
                moved,
            )
            place = places.gather(1, pick)
            x_t = x_t.scatter(1, place, torch.where(moved, token, x_t.gather(1, place)))
            hidden, _ = _changeable(x_t, self.mask_id, self.among)
            clock = torch.where(due, _fallen(clock, hidden, generator, due), clock)
        return x_t, clock


@dataclass(frozen=True, eq=False)
class ConfidentUnmask:
    """The best ceil(n (alpha_s - alpha_t) / (1 - alpha_t)) of n masked tokens are committed: LLaDA's low-confidence remasking.

    On the linear schedule and a uniform grid these are n / steps tokens a step, the larger numbers first. Nie et al. 2025, Alg. 5; Chang
    et al. 2022. Not a sample of the model's distribution: greedy about where, and at temperature 0 about what.

    Args:
        order: which tokens are revealed first: confidence, the highest probability; margin, the largest difference between the two highest
            probabilities; entropy, the lowest entropy; random; left-to-right.
        temperature: 0 takes the best token; else Gumbel noise in float64 (in lower precision it lowers the temperature: Zheng et al. 2025).
            The order looks at probabilities without the noise.
        threshold: also commit every token at least this probable (Wu et al. 2025, Fast-dLLM, Alg. 1).
        factor: also commit the r most confident tokens while the r-th, r > 1, has confidence >= 1 - factor / (r + 1) (ibid., section 3.3).
        remask: as in `AncestralUnmask`, in addition to the reveals.
        edit: a revealed token is replaced by another one with at least this probability (token editing, LLaDA 2.1). Beliefs at revealed
            tokens are used, which only a network trained for it predicts well.
        among: as in `AncestralUnmask`; n counts these positions.
    Raises:
        ValueError: an unknown order, or threshold or factor with an order other than confidence.
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
        if not all(it is None or it >= 0.0 for it in (self.threshold, self.factor, self.edit)):
            got = f"{self.threshold}, {self.factor} and {self.edit}"
            raise ValueError(
                f"ConfidentUnmask: threshold, factor and edit must be numbers, at least 0, got {got}"
            )
        if self.order not in ORDERS:
            raise ValueError(f"ConfidentUnmask: order must be one of {', '.join(ORDERS)}, got {self.order!r}")
        if self.order != "confidence" and (self.threshold is not None or self.factor is not None):
            raise ValueError(
                f"ConfidentUnmask: threshold and factor are of the order 'confidence', got order {self.order!r}"
            )

    def step(
        self, denoise: Belief, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        hidden, revealed = _changeable(x_t, self.mask_id, self.among)
        again, reveal = _chances(self.schedule, t, s, self.remask)
        x_s = x_t
        if bool(hidden.any()) or self.edit is not None:
            belief = denoise(x_t, t.expand(len(x_t)))
            logits, places = _logits(belief, x_t, self.mask_id, self.forbid_mask)
            open_ = changing = hidden.gather(1, places)
            if self.edit is not None:
                changing = open_ | revealed.gather(1, places)
            tokens, chance = draw_tokens(logits, self.temperature, generator, changing)
            score = self._score(logits, chance, places, open_, generator).masked_fill(~open_, float("-inf"))
            best = score.argsort(dim=1, descending=True, stable=True)
            rank = best.argsort(dim=1)
            count = (hidden.sum(1) * reveal - 1e-6).ceil().long().clamp(min=0)
            count = torch.maximum(count, self._parallel(chance.masked_fill(~open_, -1.0).gather(1, best)))
            chosen = open_ & (rank < count[:, None])
            if self.edit is not None:
                chosen = chosen | (changing & ~open_ & (chance >= self.edit))
            x_s = x_t.scatter(1, places, torch.where(chosen, tokens, x_t.gather(1, places)))
        return _masked_again(x_s, again, self.mask_id, revealed, generator), None

    def _score(
        self, logits: Tensor, chance: Tensor, places: Tensor, open_: Tensor, generator: Noise
    ) -> Tensor:
        if self.order == "confidence":
            return chance
        if self.order == "random":
            return uniform_like(places, generator, where=open_)
        if self.order == "left-to-right":
            return -places.double()
        if self.order == "margin":
            first, second = logits.softmax(-1).topk(2, dim=-1).values.unbind(-1)
            return first - second
        log_p = logits.log_softmax(-1)
        return torch.where(log_p.isfinite(), log_p.exp() * log_p, torch.zeros_like(log_p)).sum(-1)

    def _parallel(self, chance: Tensor) -> Tensor:
        """How many of each row are sure enough to be committed at once, from their falling probabilities (-1: not to be committed)."""
        count = torch.zeros(len(chance), dtype=torch.long, device=chance.device)
        if self.threshold is not None:
            count = torch.maximum(count, (chance >= self.threshold).sum(1))
        if self.factor is not None:
            needed = 1.0 - self.factor / (
                torch.arange(chance.shape[1], device=chance.device, dtype=chance.dtype) + 2.0
            )
            sure = (chance >= needed) & (chance >= 0.0)
            sure[:, 0] = chance[:, 0] >= 0.0
            count = torch.maximum(count, sure.long().cumprod(1).sum(1))
        return count


def _check(temperature: float, remask: float = 0.0) -> None:
    if not 0.0 <= temperature < float("inf") or not 0.0 <= remask <= 1.0:
        raise ValueError(
            f"unmasking needs a finite temperature, at least 0, and remask in 0 .. 1, got {temperature} and {remask}"
        )


def reused(denoise: Belief) -> Belief:
    """The same beliefs; that of the last call is reused while the tokens stay the same, so that steps without a change cost nothing.

    Exact for beliefs that do not depend on the time, as those of masked tokens need not (Ou et al. 2025, RADD, section 3.3).
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
    """A token (..., P) for each row of logits (..., P, V), and its probability in softmax(logits), which the temperature does not change.

    argmax(logits / temperature + Gumbel noise), in float64, is a sample of softmax(logits / temperature). `where` (...): tokens that are
    wanted, see `uniform_like`; what stands elsewhere has no meaning.
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
    """Logits with SUBS, and the positions (B, P) that they belong to."""
    logits = (
        belief.logits.float() if belief.logits.dtype in (torch.bfloat16, torch.float16) else belief.logits
    )
    places = belief.positions
    if places is None:
        places = torch.arange(x.shape[1], device=x.device).expand(x.shape)
    return (without_mask(logits, mask_id) if forbid else logits), places


def _chances(schedule: Schedule, t: Tensor, s: Tensor, remask: float) -> tuple[float, float]:
    """The probabilities of masking again and of revealing, from t to s."""
    now, then = float(schedule.alpha(t)), float(schedule.alpha(s))
    again = remask * min(1.0, (1.0 - then) / now) if now > 0.0 else 0.0
    return again, (then - (1.0 - again) * now) / (1.0 - now) if now < 1.0 else 1.0


def _masked_again(x_s: Tensor, chance: float, mask_id: int, revealed: Tensor, generator: Noise) -> Tensor:
    """Mask tokens that were revealed before this step again; known ones are put back by the edit that follows."""
    if chance == 0.0:
        return x_s
    return x_s.masked_fill(revealed & (uniform_like(x_s, generator, where=revealed) < chance), mask_id)


def _fallen(share: Tensor, hidden: Tensor, generator: Noise, where: Tensor) -> Tensor:
    """The masked share at which the next of a row's n masks falls: share * u^(1/n)."""
    count = hidden.sum(1).cpu().double().clamp(min=1.0)
    u = 1.0 - uniform_like(share, generator, where=where)
    return share * u ** (1.0 / count)
