"""What every training asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unveil.text.recipes.config import TrainText
    from unveil.training.trainer import Training


def training_of(config: TrainText) -> Training:
    """How to train, as flags say it."""
    from unveil.training.trainer import Training

    return Training(
        steps=config.steps,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        final_fraction=config.final_fraction,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.95),
        ema=config.ema_decay,
        ema_power=config.ema_power,
        bfloat16=config.bfloat16,
        accumulate=config.accumulate,
        save_every=config.save_every,
        keep=config.keep,
        seed=config.seed,
        log_every=min(100, config.steps),
    )
