"""What PEFT's `adapter_config.json` says of a LoRA adapter. Imports no torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import cast

from unveil.checks import Bounds, flag, whole, within
from unveil.errors import UnveilError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PLAIN: dict[str, object] = {
    "bias": "none",
    "use_dora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
}
"""Settings that change what an adapter is, and their only known values."""
_NAME = re.compile(r"\^?[A-Za-z0-9_]+((\\?\.)[A-Za-z0-9_]+)*\$?")


@dataclass(frozen=True)
class PeftLora:
    """Rank and scale of an adapter.

    Args:
        rank: `r`.
        alpha: `lora_alpha`.
        rank_stabilized: `use_rslora`: the scale is alpha / sqrt(rank), not alpha / rank.
        ranks: `rank_pattern`, ranks of modules whose paths end in these names.
        alphas: `alpha_pattern`, the same for alpha.
    """

    rank: int = 8
    alpha: float = 8.0
    rank_stabilized: bool = False
    ranks: tuple[tuple[str, int], ...] = ()
    alphas: tuple[tuple[str, float], ...] = ()

    def plain_alpha(self, module: str, rank: int) -> float:
        """The alpha of a module, such that the scale is alpha / rank.

        Args:
            module: its path.
            rank: its rank.
        """
        alpha = next((value for name, value in self.alphas if _ends(module, name)), self.alpha)
        return alpha * sqrt(rank) if self.rank_stabilized else alpha


def read_config(folder: Path) -> PeftLora:
    """The LoRA settings of a folder of PEFT.

    Raises:
        UnveilError: there is no config, it is damaged, or another kind of adapter.
    """
    file = folder / CONFIG
    try:
        loaded: object = json.loads(file.read_text(encoding="utf-8-sig"))
        return lora_of(cast(dict[str, object], loaded) if isinstance(loaded, dict) else {})
    except OSError as error:
        raise UnveilError(f"{folder}: no adapter here; needed are {CONFIG} and {WEIGHTS}") from error
    except (ValueError, RecursionError) as error:
        raise UnveilError(f"{file}: an adapter that cannot be used: {error}") from error


def lora_of(config: Mapping[str, object]) -> PeftLora:
    """The LoRA settings of a config of PEFT.

    Raises:
        ValueError: another kind of adapter (biases, DoRA), or a value that makes no sense.
    """
    if config.get("peft_type") != "LORA":
        raise ValueError("its peft_type is not LORA")
    for name, value in PLAIN.items():
        if (config.get(name) or value) != value:
            raise ValueError(f"{name} is {str(config[name])[:40]}; {value} is known")
    return PeftLora(
        whole("r", config.get("r"), 1, 10_000),
        _alpha("lora_alpha", config.get("lora_alpha")),
        flag("use_rslora", config.get("use_rslora") or False),
        tuple((name, whole("rank_pattern", value, 1, 10_000)) for name, value in _pattern(config, "rank")),
        tuple((name, _alpha("alpha_pattern", value)) for name, value in _pattern(config, "alpha")),
    )


def _alpha(name: str, value: object) -> float:
    return within(name, value, Bounds(0, 1e6, above=True))


def _pattern(config: Mapping[str, object], kind: str) -> list[tuple[str, object]]:
    """The entries of `rank_pattern` or `alpha_pattern`, whose keys must be names, not regular expressions."""
    value = config.get(f"{kind}_pattern") or {}
    if not isinstance(value, dict):
        raise ValueError(f"{kind}_pattern is no object")
    entries = list(cast(dict[str, object], value).items())
    if odd := [name for name, _ in entries if not _NAME.fullmatch(name)]:
        raise ValueError(f"{kind}_pattern has {odd[0][:60]!r}; names of modules are known")
    return entries


def _ends(module: str, name: str) -> bool:
    """Whether a path is a name, or ends in it after a dot; a name that begins with ^ is a whole path."""
    plain = name.removeprefix("^").removesuffix("$").replace("\\.", ".")
    return module == plain or (not name.startswith("^") and module.endswith(f".{plain}"))
