"""The policies of other programs at a path: real-stanford/diffusion_policy's or LeRobot's."""

from pathlib import Path
from typing import NamedTuple

from unveil.files.json_objects import JsonObject
from unveil.policy.weights.description import PolicyWeights
from unveil.policy.weights.diffusion_policy import read_policy
from unveil.policy.weights.lerobot import lerobot_config, read_policy_folder


class Released(NamedTuple):
    """A `.ckpt` of real-stanford/diffusion_policy, or a folder of LeRobot with its parsed config.json."""

    path: Path
    config: JsonObject | None = None

    def read(self) -> PolicyWeights:
        """Read the policy.

        Raises:
            UnveilError: it cannot be read or used.
        """
        return read_policy(self.path) if self.config is None else read_policy_folder(self.path, self.config)


def released_policies(path: Path) -> list[Released]:
    """The policies at a path, none if there are none.

    The path is a `.ckpt`, a folder of some, or LeRobot's folder of a policy, its `pretrained_model`, or the
    folder of a training, with `checkpoints/<step>/pretrained_model` (`last` is a link to one of them).
    """
    if path.suffix == ".ckpt" and path.is_file():
        return [Released(path)]
    for folder in (path, path / "pretrained_model"):
        if config := lerobot_config(folder):
            return [Released(folder, config)]
    released = [Released(file) for file in (*path.glob("*.ckpt"), *path.glob("checkpoints/*.ckpt"))]
    for folder in path.glob("checkpoints/*/pretrained_model"):
        if not folder.parent.is_symlink() and (config := lerobot_config(folder)):
            released.append(Released(folder, config))
    return sorted(released, key=lambda it: it.path)
