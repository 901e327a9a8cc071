"""`unveil weights push`: upload the weights of a run to the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from unveil.errors import UnveilError

MARK = "<!-- written by unveil weights push; without this line a later push leaves this page as it is -->"
BESIDE = (
    "tokenizer.json",
    "autoencoder.safetensors",
    "clip.safetensors",
    "clip.json",
    "clip-tokenizer.json",
)  # files of a run, beside its checkpoints, that a model needs
COMMANDS = {  # recipe -> a command that uses the model
    "maze": "sample maze --checkpoint {name} --start 1,1 --goal 7,9",
    "locomotion": "eval locomotion --checkpoint {name}",
    "pusht": "eval pusht --checkpoint {name}",
    "text": "sample text --checkpoint {name}",
    "image": "sample image --checkpoint {name} -n 16",
    "clip": "eval clip --checkpoint {name}",
}
TASKS = {  # recipe -> the Hub's name of what its models do
    "maze": "reinforcement-learning",
    "locomotion": "reinforcement-learning",
    "value": "reinforcement-learning",
    "pusht": "robotics",
    "policy": "robotics",
    "text": "text-generation",
    "image": "unconditional-image-generation",
    "classifier": "image-classification",
    "clip": "zero-shot-image-classification",
    "prior": "text-to-image",
}


@dataclass(frozen=True)
class Push:
    """Upload the averaged weights of a run's newest checkpoint, config and card to the Hugging Face Hub.

    The repository is created if there is none. It needs pip install 'unveil[hub]' and a token that may write:
    set HF_TOKEN, or run hf auth login. Afterwards unveil.load and --checkpoint accept the repository's name.
    The card is README.md or card.md of the run folder if there is one, otherwise what the config says.

    Example: unveil weights push runs/image my-name/my-images --private
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """run folder, one of its checkpoint folders, or name of a packaged model"""
    repository: Annotated[Positional[str], arg(metavar="ORG/NAME")]
    """name of the repository: your account or organization, and a name"""
    private: bool = False
    """make a new repository visible to its owner alone"""
    revision: str | None = None
    """branch to upload to, which is created if there is none; by default main"""


def push(config: Push) -> str:
    """Upload a model; returns its address.

    Raises:
        UnveilError: no run or no undamaged checkpoint, LoRA weights for a folder of this machine, no valid
            name, a repository that holds something else, no permission, or no network.
    """
    from unveil.files.hub import EXPLICIT, hub_name, upload
    from unveil.runs.checkpoints import find_checkpoint

    name = hub_name(f"{EXPLICIT}/{config.repository}")
    if name is None or name.repo != config.repository:
        raise UnveilError(
            f"{config.repository}: no name of a repository; give ORG/NAME, such as my-name/my-model"
            + (", and the branch as `revision`" if "@" in config.repository else "")
        )
    if hub_name(str(config.run)) is not None:
        raise UnveilError(f"{config.run}: no such run folder")
    checkpoint = find_checkpoint(str(config.run))
    described = _described(checkpoint)
    files = _files(checkpoint, described)
    files["README.md"] = _card(checkpoint, described, config.repository).encode()

    def keep(there: set[str], read: Callable[[str], str]) -> list[str]:
        strange = sorted(there - {".gitattributes", "README.md", "LICENSE"})
        if strange and not {"config.json", "manifest.json", "weights.safetensors"} <= there:
            raise UnveilError(
                f"{config.repository} holds something else ({', '.join(strange[:3])}), which is not "
                "overwritten; give another name"
            )
        return ["README.md"] if "README.md" in there and MARK not in read("README.md") else []

    address = upload(
        config.repository,
        files,
        private=config.private,
        revision=config.revision,
        message=f"{described['recipe']} model of {checkpoint.name}",
        keep=keep,
    )
    loaded = config.repository + (f"@{config.revision}" if config.revision else "")
    return f'{address}\nnext: in Python, unveil.load("{loaded}")'


def _described(checkpoint: Path) -> dict[str, object]:
    """The config.json of a checkpoint, without what concerns only this machine.

    Raises:
        UnveilError: none that can be read, or the weights are a change of a model that only this machine has.
    """
    from unveil.files.hub import hub_name
    from unveil.files.reading import reading
    from unveil.runs.card import PRIVATE
    from unveil.runs.checkpoints import zoo_names

    file = next(
        (it for it in (checkpoint / "config.json", checkpoint.parent / "config.json") if it.is_file()), None
    )
    if file is None:
        raise UnveilError(
            f"{checkpoint}: no config.json beside these weights; only runs of unveil can be pushed"
        )
    with reading(file, "not a config of unveil"):
        whole = json.loads(file.read_text(encoding="utf-8-sig"))
        recipe = whole["recipe"]
        if not isinstance(recipe, str):
            raise ValueError("its recipe is no word")
    described = {name: value for name, value in whole.items() if name not in PRIVATE}
    key = "base" if "base_digest" in whole else "checkpoint" if whole.get("lora_rank") else ""
    if key:
        base, what = str(whole.get(key)), "a learned word" if recipe == "inversion" else "LoRA weights"
        if base not in zoo_names() and hub_name(base) is None:
            raise UnveilError(
                f"{checkpoint.parent} holds {what} for {base}, a folder of this machine; push that "
                "first, and train on the repository's name"
            )
        described[key] = base
    return described


def _files(checkpoint: Path, described: Mapping[str, object]) -> dict[str, Path | bytes]:
    """What is uploaded except the card, in the layout of packaged models.

    Raises:
        UnveilError: damaged weights.
    """
    from unveil.files.digest import digest
    from unveil.runs.checkpoints import weights_file
    from unveil.training.checkpoint import read_manifest

    manifest, known = dict[str, dict[str, int | str]](), read_manifest(checkpoint)
    files: dict[str, Path | bytes] = {
        "weights.safetensors": weights_file(checkpoint),
        "config.json": (json.dumps(described, indent=1) + "\n").encode(),
    }
    if (value := checkpoint / "value.safetensors").is_file():
        files[value.name] = value
    for name in BESIDE:
        for place in (checkpoint, checkpoint.parent):
            if (file := place / name).is_file() and name not in files:
                files[name] = file
    for name, content in files.items():
        if isinstance(content, bytes):
            manifest[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            continue
        sha256 = digest(content)
        if content.name in known and known[content.name][1] != sha256:
            raise UnveilError(
                f"{content}: damaged (its checksum differs from the manifest); nothing was uploaded"
            )
        manifest[name] = {"bytes": content.stat().st_size, "sha256": sha256}
    return files | {"manifest.json": (json.dumps(manifest, indent=1) + "\n").encode()}


def _card(checkpoint: Path, described: Mapping[str, object], repository: str) -> str:
    """The page of a repository: the run's own card, or one that says what the config says."""
    for file in (checkpoint.parent / "README.md", checkpoint / "card.md", checkpoint.parent / "card.md"):
        if file.is_file():
            text = file.read_text(encoding="utf-8-sig")
            return text if text.startswith("---\n") else f"{_front(described)}{text.rstrip()}\n\n{MARK}\n"
    recipe = str(described["recipe"])
    use = ["```python", "import unveil", "", f'model = unveil.load("{repository}")', "```"]
    if recipe in COMMANDS:
        use += ["", "```", f"unveil {COMMANDS[recipe].format(name=repository)}", "```"]
    origin = described.get("origin", "unveil")
    made = (
        f"converted from {origin}, whose licence and authors it has"
        if origin != "unveil"
        else f"trained by `unveil train {recipe}`{_training(checkpoint)}"
    )
    lines = [
        f"# {repository.partition('/')[2]}",
        "",
        f"A diffusion model of the recipe `{recipe}`, {made}. The weights are the moving average (EMA) of "
        "the training.",
        "",
        "pip install 'unveil[hub]', then",
        "",
        *use,
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(described, indent=1),
        "```",
        "",
        MARK,
        "",
    ]
    return _front(described) + "\n".join(lines)


def _front(described: Mapping[str, object]) -> str:
    """The metadata that the Hub shows and searches."""
    recipe = str(described["recipe"])
    task = [f"pipeline_tag: {TASKS[recipe]}"] if recipe in TASKS else []
    return "\n".join(
        ["---", "library_name: unveil", *task, "tags:", "- unveil", "- diffusion", "---", "", ""]
    )


def _training(checkpoint: Path) -> str:
    """Steps, minutes and loss of a training, as far as the run says them."""
    from unveil.runs.card import spent

    step = checkpoint.name.removeprefix("checkpoint-")
    if not step.isdecimal():
        return ""
    try:
        minutes, loss = spent(checkpoint)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
        return f": {int(step):,} steps"
    return f": {int(step):,} steps in {minutes:.0f} minutes, final loss {loss:.4f}"
