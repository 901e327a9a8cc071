"""Which files of a repository are needed to read the checkpoint in it: one set of weights and its configs.

Only names are looked at, so that the choice is made before anything is downloaded. The layouts are those of
our own runs, jannerm/diffuser, diffusers (whole pipelines, one network, checkpoints of training), LeRobot,
LLaDA and text encoders of transformers, LoRA weights of PEFT, and single files.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from unveil.errors import UnveilError

COMPONENTS = (  # folders of a pipeline of diffusers that are read; not the safety checker, for example
    "unet",
    "unet_ema",
    "transformer",
    "vae",
    "vqvae",
    "text_encoder",
    "bert",
    "tokenizer",
    "scheduler",
    "low_res_scheduler",
)
NETWORKS = ("unet", "transformer", "vae", "vqvae", "text_encoder", "bert")  # components that need weights
CONFIGS = ("*.json", "vocab.txt", "merges.txt", "*.model", "*.jinja", "policy_*.safetensors")
NOT_CONFIGS = ("*.index*.json", "trainer_state.json", "adapter_config.json")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # names of files of weights
ENDS = ("safetensors", "bin")  # the first that there is
FILES = ("safetensors", "ckpt", "pt", "pth")  # suffixes of checkpoints of one file, the first that there is
STATES = ("optimizer", "scheduler", "rng_state", "random_states", "scaler", "training_args")  # of trainings
OTHER_VARIANTS = ("non_ema",)  # never chosen unless asked for

_STEM = f"({'|'.join(STEMS)})"
_WEIGHTS = re.compile(rf"{_STEM}(?:\.(\w+))?(-\d+-of-\d+)?(?:\.(\w+))?\.({'|'.join(ENDS)})")
_INDEX = re.compile(rf"{_STEM}\.({'|'.join(ENDS)})\.index(?:\.(\w+))?\.json")


class Needed(NamedTuple):
    """What is needed of a repository.

    Args:
        layout: what the repository is, in words.
        files: names of the files in the repository.
        place: the folder in the repository that is the checkpoint, "" for the whole, or the single file.
    """

    layout: str
    files: tuple[str, ...]
    place: str = ""


OURS, STABLE_DIFFUSION, SINGLE = "a run of unveil", "a pipeline of Stable Diffusion", "a single file"


def needed(names: Iterable[str], variant: str = "", inside: str = "") -> Needed:
    """Choose the files that are needed to read a checkpoint.

    Weights are those of one format (safetensors before .bin) and one precision. States of trainings, weights
    of other frameworks and second copies are left out.

    Args:
        names: names of all files of the repository, with "/" between folders.
        variant: precision to prefer, such as "fp16"; "" prefers files without a variant.
        inside: a folder of the repository, or a file, to read instead of the whole.
    Raises:
        UnveilError: no known layout, several checkpoints, or no weights that can be read; the message goes on
            after the name of the repository.
    """
    safe = sorted(name for name in names if _is_plain(name))
    if inside in safe:
        return Needed(SINGLE, (inside, *_beside(safe, inside)), inside)
    start = f"{inside}/" if inside else ""
    within = [name.removeprefix(start) for name in safe if name.startswith(start)]
    if not within:
        raise UnveilError(f"there is no {inside} in it" if inside else "it is empty")
    for layout, choose in _LAYOUTS:
        if chosen := choose(within, variant):
            return Needed(layout, tuple(start + name for name in chosen), inside)
    for suffix in FILES:
        files = [
            name
            for name in within
            if name.endswith(f".{suffix}")
            and "/" not in name.removeprefix("checkpoints/")
            and not name.rpartition("/")[2].startswith(STATES)
        ]
        if variant:
            files = [name for name in files if variant in name] or files
        if len(files) == 1:
            one = start + files[0]
            return Needed(SINGLE, (one, *_beside(safe, one)), one)
        if files:
            some = ", ".join(files[:4]) + (" and others" if len(files) > 4 else "")
            raise UnveilError(
                f"it holds {len(files)} checkpoints ({some}); add the name of one, as in ORG/NAME/"
                f"{start}{files[0]}"
            )
    raise UnveilError(
        "it is in no layout that unveil reads (runs of unveil, jannerm/diffuser, diffusers, LeRobot, LLaDA, "
        "one .safetensors, .ckpt or .pt)"
    )


def _is_plain(name: str) -> bool:
    """Whether a name stays inside the repository's folder."""
    return "\\" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def _beside(names: Sequence[str], file: str) -> list[str]:
    """The description of a single file: a .yaml of the same name."""
    yaml = f"{file.rpartition('.')[0]}.yaml"
    return [yaml] if yaml in names else []


def _below(names: Iterable[str], folder: str) -> list[str]:
    """The files directly in a folder, by their names in it; "" is the folder at the top."""
    start = f"{folder}/" if folder else ""
    rest = (name.removeprefix(start) for name in names if name.startswith(start))
    return [name for name in rest if "/" not in name]


def _folders(names: Iterable[str], pattern: str) -> list[str]:
    """The folders in which a file of this name or pattern lies; "" is the one at the top."""
    split = (name.rpartition("/") for name in names)
    return sorted({folder for folder, _, file in split if fnmatchcase(file, pattern)})


def _at(folder: str, names: Iterable[str]) -> list[str]:
    return [f"{folder}/{name}" if folder else name for name in names]


def _configs(names: Iterable[str]) -> list[str]:
    """Configs, and the files of tokenizers."""
    return [
        name
        for name in names
        if any(fnmatchcase(name, known) for known in CONFIGS)
        and not any(fnmatchcase(name, other) for other in NOT_CONFIGS)
    ]


def _newest(folders: Iterable[str], pattern: str) -> str | None:
    """The folder whose number is the largest; the number is the first group of a pattern."""
    numbered = [(int(match[1]), folder) for folder in folders if (match := re.fullmatch(pattern, folder))]
    return max(numbered)[1] if numbered else None


def weights(names: Sequence[str], variant: str = "") -> list[str]:
    """One set of weights among the files of a folder: a file, or shards with their index.

    The precision that is asked for comes first, then files without a variant, then other variants; of one
    precision safetensors before .bin, and one file before shards.
    """
    sets: dict[tuple[str, str, str, bool], list[str]] = {}
    for name in names:
        if match := _WEIGHTS.fullmatch(name):
            stem, before, shard, after, end = match.groups()
            sets.setdefault((before or after or "", end, stem, shard is not None), []).append(name)
    preferred = [variant, "", *sorted({it[0] for it in sets} - {variant, "", *OTHER_VARIANTS})]
    order = sorted(
        (it for it in sets if it[0] in preferred),
        key=lambda it: (preferred.index(it[0]), ENDS.index(it[1]), it[3], STEMS.index(it[2])),
    )
    if not order:
        return []
    chosen, end, stem, sharded = order[0]
    found = [
        match for name in names if (match := _INDEX.fullmatch(name)) and match.group(1, 2) == (stem, end)
    ]
    indexes = {match[3] or "": match[0] for match in found}
    index = indexes.get(chosen, indexes.get("")) if sharded else None
    return [*sets[order[0]], *([] if index is None else [index])]


def _runs(names: Sequence[str], variant: str) -> list[str]:
    """Our own: packaged weights, or runs, each with its newest checkpoint without the optimizer's state."""
    top = _below(names, "")
    if {"config.json", "manifest.json"} <= {*top} and {"weights.safetensors", "ema.safetensors"} & {*top}:
        return [name for name in top if name.endswith((".json", ".safetensors")) or name == "card.md"]
    chosen: list[str] = []
    for run in _folders(names, "config.json"):
        inside = [n for n in names if n.startswith(f"{run}/")] if run else names
        places = [
            folder.removeprefix(f"{run}/") for folder in _folders(inside, "manifest.json") if folder != run
        ]
        newest = _newest(places, r"checkpoint-(\d{1,12})")
        if newest is not None:
            (place,) = _at(run, [newest])
            files = [name for name in _below(names, place) if not name.startswith(STATES)]
            chosen += [*_at(run, _configs(_below(names, run))), *_at(place, files)]
    return chosen


def _diffuser(names: Sequence[str], variant: str) -> list[str]:
    """jannerm/diffuser: of each experiment the configs and the last epoch."""
    chosen: list[str] = []
    for folder in _folders(names, "*_config.pkl"):
        inside = _below(names, folder)
        newest = _newest(inside, r"state_(\d{1,12})\.pt")
        if newest is not None:
            chosen += _at(folder, [newest, *(n for n in inside if n.endswith("_config.pkl"))])
    return chosen


def _pipeline(names: Sequence[str], variant: str) -> list[str]:
    """diffusers: the components of a pipeline, or of the newest checkpoint of a training."""
    top = _below(names, "")
    if "model_index.json" not in top and "unet/config.json" not in names:
        networks = [folder for folder in _folders(names, "config.json") if folder.endswith("/unet")]
        newest = _newest((it.removesuffix("/unet") for it in networks), r"checkpoint-(\d{1,12})")
        if newest is None:
            return []
        inside = [n.removeprefix(f"{newest}/") for n in names if n.startswith(f"{newest}/")]
        around = [n for n in names if n in ("model_index.json", "scheduler/scheduler_config.json")]
        return [*around, *_at(newest, _pipeline(inside, variant))]
    chosen = [name for name in top if name in ("model_index.json", "scheduler_config.json")]
    for component in COMPONENTS:
        inside = _below(names, component)
        tensors = weights(inside, variant)
        if "config.json" in inside and component in NETWORKS and not tensors:
            raise UnveilError(
                f"its {component} has no weights as .safetensors or .bin (of PyTorch), which alone are read"
            )
        chosen += _at(component, [*_configs(inside), *tensors])
    return chosen


def _text_to_image(names: Sequence[str], variant: str) -> list[str]:
    """A pipeline with a text encoder."""
    return _pipeline(names, variant) if any(name.startswith("text_encoder/") for name in names) else []


def _model(names: Sequence[str], variant: str) -> list[str]:
    """One model with its config: a network of diffusers, a policy of LeRobot, LLaDA, an encoder."""
    top = _below(names, "")
    tensors = weights(top, variant)
    if "config.json" in top and tensors:
        beside = [name for name in names if name == "scheduler/scheduler_config.json"]
        return [*_configs(top), *tensors, *beside]
    steps = _newest(_folders(names, "config.json"), r"checkpoints/(\d{1,12})/pretrained_model")
    for folder in filter(None, ("pretrained_model", steps)):
        inside = _below(names, folder)
        if "config.json" in inside and (tensors := weights(inside, variant)):
            return _at(folder, [*_configs(inside), *tensors])
    return []


def _adapter(names: Sequence[str], variant: str) -> list[str]:
    """PEFT: LoRA weights and their config."""
    files = ["adapter_config.json", "adapter_model.safetensors"]
    return files if {*files} <= {*names} else []


_LAYOUTS = (
    (OURS, _runs),
    ("experiments of jannerm/diffuser", _diffuser),
    (STABLE_DIFFUSION, _text_to_image),
    ("a pipeline of diffusers", _pipeline),
    ("LoRA weights of PEFT", _adapter),
    ("a model of diffusers, LeRobot or transformers", _model),
)
