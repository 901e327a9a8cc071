"""Check that a config.json describes a planner that can be built, before anything is built."""

from __future__ import annotations

from unveil.files.json_objects import JsonObject
from unveil.runs.config import check_whole_numbers


def check_maze(config: JsonObject) -> None:
    """Refuse a config.json of which no maze planner can be built."""
    check_whole_numbers(config, ("stride", "patch", "width", "depth", "heads", "longest", "episode_steps"))
    if config["preset"] not in ("tiny", "default", "paper") or (
        config["preset"] == "paper" and not int(config["diffusion_steps"]) > 0
    ):
        raise ValueError(f"preset is {config['preset']!r}, or diffusion_steps are missing")
    if config["preset"] == "paper" and "multiples" in config:
        check_network(config)
    if config["width"] % (2 * config["heads"]) or not all(isinstance(row, str) for row in config["rows"]):
        raise ValueError("its width, heads or rows do not fit")


def check_trajectories(config: JsonObject) -> None:
    """Refuse a config.json of which no diffusion of trajectories, or value, can be built."""
    from unveil.planning.data.interface import interface_of

    check_whole_numbers(config, ("horizon", "diffusion_steps", "actions", "observations", "width"))
    check_network(config)
    if max(interface_of(config).goal, default=0) >= config["observations"]:
        raise ValueError("the goal of its interface lies outside observations")
    if config.get("model", "unet") == "transformer":
        check_whole_numbers(config, ("depth", "heads", "patch"))
        if config["width"] % (2 * config["heads"]):
            raise ValueError("its width and heads do not fit")
    if "value" in config:
        check_trajectories(config["value"])


def check_network(config: JsonObject) -> None:
    """Refuse a config.json of which no temporal U-Net can be built."""
    if config["predicts"] not in ("x0", "eps") or not isinstance(config["attention"], bool):
        raise ValueError("predicts must be x0 or eps, and attention true or false")
    multiples = config["multiples"]
    if not multiples or not all(isinstance(m, int) and 0 < m <= 64 for m in multiples) or len(multiples) > 8:
        raise ValueError(f"multiples are {multiples!r}")
    if config["width"] % 8 or config["width"] > 4096:
        raise ValueError(f"width is {config['width']}")
