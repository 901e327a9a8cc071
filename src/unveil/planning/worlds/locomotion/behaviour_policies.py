"""Trained policies of the three bodies, read from `.npz` and run in numpy: snapshots of a TRPO training, and
actors of SAC and TQC."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from unveil.errors import UnveilError
from unveil.files.npz import npz_arrays
from unveil.planning.worlds.locomotion.body import Body

TRPO_ARRAYS = ("obs_mean", "obs_std", "W0", "b0", "W1", "b1", "W2", "b2", "log_std")
ACTOR_LAYERS = ("latent_pi.0", "latent_pi.2", "mu", "log_std")
LAYER = ("weight", "bias")
Layer = tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, " _"]]  # weight (inputs, outputs), bias


@runtime_checkable
class Policy(Protocol):
    """A policy: `act(observations, noise)` -> actions in [-1, 1], with standard normal noise, or without
    noise deterministic ones.

    The action of a row does not depend on the other rows, bit for bit.
    """

    @property
    def name(self) -> str:
        """The name on cards."""
        ...

    def act(
        self, observations: Float[np.ndarray, "B D"], noise: Float[np.ndarray, "B A"] | None = None
    ) -> Float[np.ndarray, "B A"]:
        """Actions, float32."""
        ...


@dataclass(frozen=True)
class GaussianPolicy:
    """TRPO: h = (o - mean) / (std + 1e-6), two tanh layers, a linear layer, plus exp(log_std) * noise,
    clipped to [-1, 1]."""

    name: str
    mean: Float[np.ndarray, " D"]
    std: Float[np.ndarray, " D"]
    layers: tuple[Layer, ...]
    log_std: Float[np.ndarray, " A"]

    def act(
        self, observations: Float[np.ndarray, "B D"], noise: Float[np.ndarray, "B A"] | None = None
    ) -> Float[np.ndarray, "B A"]:
        """Actions, float32."""
        hidden = (observations.astype(np.float32) - self.mean) / (self.std + np.float32(1e-6))
        for layer in self.layers[:-1]:
            hidden = np.tanh(_affine(hidden, layer))
        action = _affine(hidden, self.layers[-1])
        if noise is not None:
            action = action + np.exp(self.log_std) * noise.astype(np.float32)
        return np.clip(action, -1.0, 1.0)


@dataclass(frozen=True)
class SquashedPolicy:
    """SAC and TQC: two ReLU layers, then tanh(mu + exp(clip(log_std, -20, 2)) * noise), with mu and log_std
    from linear layers."""

    name: str
    layers: tuple[Layer, ...]
    mu: Layer
    log_std: Layer

    def act(
        self, observations: Float[np.ndarray, "B D"], noise: Float[np.ndarray, "B A"] | None = None
    ) -> Float[np.ndarray, "B A"]:
        """Actions, float32."""
        hidden = observations.astype(np.float32)
        for layer in self.layers:
            hidden = np.maximum(_affine(hidden, layer), 0)
        action = _affine(hidden, self.mu)
        if noise is not None:
            action = action + np.exp(np.clip(_affine(hidden, self.log_std), -20.0, 2.0)) * noise.astype(
                np.float32
            )
        return np.tanh(action)


def load_snapshots(path: Path | str, body: Body, iterations: range) -> list[GaussianPolicy]:
    """The snapshots of `trpo_<Title>.npz` in a range of iterations, in order.

    Raises:
        UnveilError: missing, damaged or of another body, or no such snapshot.
    """
    arrays = npz_arrays(path, wanted=None)
    stored = {name.partition("/")[0] for name in arrays if name.startswith("iter") and "/" in name}
    present = sorted(int(name[4:]) for name in stored if name[4:].isdigit())
    chosen = [iteration for iteration in present if iteration in iterations]
    if not chosen:
        raise UnveilError(
            f"{path}: no snapshot of iterations {iterations.start} .. {iterations.stop - 1}; the file has "
            f"{present}"
        )
    return [_snapshot(arrays, iteration, body, path) for iteration in chosen]


def load_actor(path: Path | str, body: Body) -> SquashedPolicy:
    """The actor of `sac_<Title>.npz` or `tqc_<Title>.npz`.

    Raises:
        UnveilError: missing, damaged or of another body.
    """
    arrays = npz_arrays(path, [f"{layer}.{part}" for layer in ACTOR_LAYERS for part in LAYER])
    layers = [(arrays[f"{layer}.weight"].T, arrays[f"{layer}.bias"]) for layer in ACTOR_LAYERS]
    one, two, mu, log_std = (_checked(layer, path) for layer in layers)
    _fits([one, two, mu], body, path)
    _fits([one, two, log_std], body, path)
    return SquashedPolicy(Path(path).stem.partition("_")[0], (one, two), mu, log_std)


def _snapshot(
    arrays: Mapping[str, np.ndarray], iteration: int, body: Body, path: Path | str
) -> GaussianPolicy:
    found = {name: arrays.get(f"iter{iteration:03}/{name}") for name in TRPO_ARRAYS}
    if missing := [name for name, values in found.items() if values is None]:
        raise UnveilError(f"{path}: 'iter{iteration:03}/{missing[0]}' is missing")
    mean, std, *weights, log_std = (_finite(values, path) for values in found.values() if values is not None)
    layers = [_checked((weights[i], weights[i + 1]), path) for i in (0, 2, 4)]
    _fits(layers, body, path)
    if mean.shape != (body.observations,) or std.shape != mean.shape or log_std.shape != (body.actions,):
        raise UnveilError(
            f"{path}: obs_mean, obs_std or log_std of iteration {iteration} do not fit a {body.name}"
        )
    return GaussianPolicy(f"trpo-{iteration:03}", mean, std, tuple(layers), log_std)


def _finite(values: np.ndarray, path: Path | str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise UnveilError(f"{path}: a weight is not a finite number")
    return values.astype(np.float32)


def _checked(layer: tuple[np.ndarray, np.ndarray], path: Path | str) -> Layer:
    weight, bias = (_finite(values, path) for values in layer)
    if weight.ndim != 2 or bias.shape != weight.shape[1:]:
        raise UnveilError(
            f"{path}: a layer with weight {weight.shape} and bias {bias.shape} does not fit together"
        )
    return np.ascontiguousarray(weight), bias


def _fits(layers: list[Layer], body: Body, path: Path | str) -> None:
    sizes = [(weight.shape[0], weight.shape[1]) for weight, _ in layers]
    ends = [body.observations, *(size[1] for size in sizes)]
    if [size[0] for size in sizes] != ends[:-1] or ends[-1] != body.actions:
        raise UnveilError(
            f"{path}: layers {sizes} are not a policy of a {body.name}: {body.observations} numbers in, "
            f"{body.actions} out"
        )


def _affine(rows: np.ndarray, layer: Layer) -> np.ndarray:
    """rows @ weight + bias, one row at a time, since the rounding of one product would depend on the number
    of rows."""
    return np.matmul(rows[:, None, :], layer[0])[:, 0] + layer[1]
