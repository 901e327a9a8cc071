"""The models that a server offers: described from their config.json, loaded when needed, unloaded by age."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.serve.adapters import NONE, Adapters, Tagged, add_adapters
from unveil.serve.refusal import Refused

if TYPE_CHECKING:
    from torch.nn import Module

    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.load import Opened
    from unveil.planning.path_model import PathModel
    from unveil.planning.recipes.locomotion.pair import Pair
    from unveil.policy.model import PolicyModel
    from unveil.text.model import TextModel

Kind = Literal["image", "text", "planner", "policy"]
TUNED = ("lora", "inversion")  # recipes whose config.json names their base
TAEF2_FACTOR = 8  # pixels per code
Network = TypeVar("Network", bound="Module")


@dataclass(frozen=True)
class Described:
    """A model in words, without loading it.

    Args:
        id: its name in requests.
        place: name or path, as at the start of the server.
        classes: names of its classes.
        prompts: it reads prompts.
        masks: it sees what it fills in.
        free_size: it makes other sizes than that of its training.
        width, height: pixels of its training; 0: not known before it is loaded.
        context: number of tokens that a text model can see.
        window: tokens of its blocks: 1 of a causal model, 0 of a masked model, which alone fills gaps.
        chats: it was fine-tuned on instructions, or has LLaDA's chat template.
        maze: rows of the map that a planner of paths was trained on.
        body: the body that a planner of trajectories moves.
        methods: what a policy can do while its next chunk is computed (`--asynchronous`).
        most_delay: largest delay of a policy in control steps, but for `prefix`, which has `prefix`.
    """

    id: str
    place: str
    kind: Kind
    classes: tuple[str, ...] = ()
    prompts: bool = False
    latent: bool = False
    masks: bool = False
    free_size: bool = True
    width: int = 0
    height: int = 0
    channels: int = 3
    context: int = 0
    window: int = 0
    chats: bool = False
    maze: tuple[str, ...] = ()
    body: str = ""
    methods: tuple[str, ...] = ()
    most_delay: int = 0
    prefix: int = 0


def describe(place: str, name: str) -> Described | None:
    """Describe a model by its config.json; None if it is of a kind that is not served.

    Raises:
        UnveilError: no such model.
    """
    from unveil.runs.checkpoints import local_name

    path = Path(local_name(place))
    if path.is_file() or (path / "unet").is_dir() or (path / "model_index.json").is_file():
        return _published(path, place, name)
    config = _config(place, path)
    if str(config.get("model_type", "")).startswith("llada"):
        from unveil.text.recipes.recognise import described

        context, chats = described(path)
        return Described(name, place, "text", context=context, chats=chats)
    if config.get("recipe") in TUNED and (base := describe(str(config.get("base", "")), name)) is not None:
        return replace(base, place=place)
    if config.get("recipe") == "text":
        window = 1 if config.get("causal") else int(config.get("block", 0))
        context, chats = int(config.get("context", 0)), bool(config.get("sft"))
        return Described(name, place, "text", context=context, window=window, chats=chats)
    if config.get("recipe") in ("maze", "locomotion"):
        return _planner(config, place, name)
    if config.get("recipe") == "pusht":
        return _policy(config, place, name)
    if config.get("recipe") != "image" or config.get("upsample", 1) != 1 or config.get("embedding"):
        return None
    beside = config.get("beside", "")
    if (config.get("concat") or beside) and beside not in ("inpaint", "known"):
        return None
    side = int(config["size"]) * _factor(config)
    return Described(
        name,
        place,
        "image",
        tuple(config["names"]),
        bool(config.get("captions")),
        "autoencoder" in config,
        bool(beside),
        config.get("trunk", "unet") != "dit",
        side,
        side,
        3 if "autoencoder" in config else int(config["channels"]),
    )


def _planner(config: JsonObject, place: str, name: str) -> Described | None:
    """A planner of paths in a maze, or of the trajectories of a body that has a simulator."""
    from unveil.planning.recipes.locomotion.clip import body_name

    if config["recipe"] == "maze":
        paper = config.get("preset") == "paper"
        return None if paper else Described(name, place, "planner", maze=tuple(config["rows"]))
    body = body_name(str(config.get("dataset", "")))
    return Described(name, place, "planner", body=body) if body else None


def _policy(config: JsonObject, place: str, name: str) -> Described:
    """A policy on PushT, with the delays that its chunks can bridge."""
    prefix, free = int(config.get("prefix", 0)), int(config["horizon"]) - int(config["n_obs"]) + 1
    methods = (*(["prefix"] if prefix else []), "soft", "hard", "naive", "wait")
    most = min(int(config["n_action"]), free // 2)
    return Described(name, place, "policy", methods=methods, most_delay=most, prefix=min(prefix, most))


def _config(place: str, path: Path) -> JsonObject:
    """config.json of a packaged model, a run or a checkpoint; torch is not imported for it."""
    from unveil.runs.checkpoints import ZOO, find_checkpoint, zoo_names

    folder = ZOO / place if place in zoo_names() else path
    files = [it for it in (folder / "config.json", folder.parent / "config.json") if it.is_file()]
    if not files or not folder.is_dir():
        find_checkpoint(place)  # which says what is missing
        raise UnveilError(f"{place}: no config.json of unveil here")
    try:
        return json.loads(files[0].read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UnveilError(f"{files[0]}: not a config of unveil ({error})") from error


def _factor(config: JsonObject) -> int:
    """Pixels per code, along a side."""
    coder = config.get("autoencoder")
    if not coder:
        return 1
    if coder.get("kind") != "kl":
        return TAEF2_FACTOR
    return int(coder.get("stem", 1)) * 2 ** (len(coder["multiples"]) - 1)


def _published(path: Path, place: str, name: str) -> Described:
    """Files of Stable Diffusion; their maps are known when they are loaded."""
    try:
        side = 8 * int(json.loads((path / "unet" / "config.json").read_text())["sample_size"])
    except (OSError, ValueError, LookupError, TypeError):
        side = 512
    return Described(name, place, "image", (), True, True, False, True, side, side)


class Models:
    """The models by id, with those that are loaded.

    Args:
        checkpoints: names and paths besides the packaged models.
        memory: bytes of weights that may be loaded.
        adapters: LoRA files and learned words that prompts may name.
    """

    def __init__(
        self, checkpoints: Sequence[str], memory: int, device: str = "auto", adapters: Adapters = NONE
    ) -> None:
        self.memory, self.device, self.adapters = memory, device, adapters
        self.described: dict[str, Described] = {}
        self._loaded: OrderedDict[str, Module] = OrderedDict()
        self._opened: dict[str, Opened] = {}
        self._digests: dict[str, str] = {}
        self._lock, self._opening = threading.Lock(), threading.Lock()
        for place in checkpoints:
            self._add(place, asked=True)
        from unveil.runs.checkpoints import zoo_names

        for place in zoo_names():
            self._add(place, asked=False)

    def _add(self, place: str, asked: bool) -> None:
        if place in [one.place for one in self.described.values()]:
            return
        first = name = Path(place).stem if Path(place).is_file() else Path(place).resolve().name
        count = 1
        while name in self.described:
            count += 1
            name = f"{first}-{count}"
        found = describe(place, name)
        if found is not None:
            self.described = self.described | {name: found}  # another thread may be going through them
        elif asked:
            raise UnveilError(
                f"{place}: the server offers models of images and text, planners of mazes and of known "
                "bodies, and policies of PushT; this is none of them"
            )

    def add(self, place: str) -> Described:
        """Offer a run that was trained since the start; one that is offered already is loaded anew when it is
        used.

        Raises:
            UnveilError: there is no checkpoint, or it is of a kind that is not served.
        """
        self._add(place, asked=True)
        model = next(one for one in self.described.values() if one.place == place)
        with self._lock, self._opening:
            for kept in (self._loaded, self._opened, self._digests):
                kept.pop(model.id, None)
        return model

    def of_kind(self, kind: Kind) -> list[Described]:
        """The models of a kind, those of the command line first; of images those that read prompts first."""
        return sorted((m for m in self.described.values() if m.kind == kind), key=self._order)

    def _order(self, model: Described) -> tuple[bool, bool]:
        return model.id == model.place, not model.prompts

    def find(self, name: str, kind: Kind) -> Described:
        """The model of an id; "": the first of its kind.

        Raises:
            Refused: there is none.
        """
        known = self.of_kind(kind)
        if not name and known:
            return known[0]
        found = self.described.get(name)
        if found is None or found.kind != kind:
            ids = ", ".join(one.id for one in known)
            raise Refused(404, f"there is no model of {kind} named {name[:80]!r}; there are {ids}")
        return found

    def opened(self, model: Described) -> Opened:
        """The checkpoint of an image model, with its config."""
        from unveil.image.recipes.load import open_image

        with self._opening:
            if model.id not in self._opened:
                self._opened[model.id] = open_image(model.place)
            return self._opened[model.id]

    def digest(self, model: Described) -> str:
        """SHA-256 of the weights."""
        from unveil.image.recipes.reproduce import digests

        if model.id not in self._digests:
            self._digests[model.id] = digests(self.opened(model).folders, [])
        return self._digests[model.id]

    def known_digest(self, model: Described) -> str:
        """The digest if it is known without reading the weights: of packaged and of loaded models; or ""."""
        from unveil.image.recipes.reproduce import weights_digest
        from unveil.runs.checkpoints import ZOO

        packaged = ZOO / model.place
        if model.id == model.place and model.id not in self._digests and packaged.is_dir():
            self._digests[model.id] = weights_digest(packaged)
        return self._digests.get(model.id, "")

    def image(self, model: Described) -> ImageModel:
        """The image model, loaded.

        Raises:
            UnveilError: damaged weights.
        """
        from unveil.image.model import ImageModel
        from unveil.image.recipes.load import load_models

        return self._kept(model.id, ImageModel, lambda: load_models(self.opened(model), None, self.device)[0])

    def tuned(self, model: Described, config: SampleImage, files: Tagged) -> ImageModel:
        """The image model with LoRA files and the words of a config; raises also as `add_adapters`."""
        from unveil.image.model import ImageModel
        from unveil.image.recipes.load import load_models

        if not files and not config.embedding:
            return self.image(model)

        def load() -> Module:
            return add_adapters(load_models(self.opened(model), None, self.device)[0], files, config)

        name = f"{model.id} with {[(str(path), tag) for path, tag in files]} {config.embedding}"
        return self._kept(name, ImageModel, load)

    def text(self, model: Described) -> TextModel:
        """The text model, loaded."""
        from unveil.text.model import TextModel
        from unveil.text.recipes.load import load_text_model

        return self._kept(model.id, TextModel, lambda: load_text_model(model.place, self.device))

    def paths(self, model: Described) -> PathModel:
        """The network of a planner of paths, loaded."""
        from unveil.planning.path_model import PathModel
        from unveil.planning.recipes.maze.load import path_model, read_maze_config
        from unveil.runs.checkpoints import find_checkpoint, load_weights

        def load() -> Module:
            folder = find_checkpoint(model.place)
            network = path_model(read_maze_config(folder))
            load_weights(network, folder, self.device)
            return network

        return self._kept(model.id, PathModel, load)

    def trajectories(self, model: Described) -> Pair:
        """The diffusion of trajectories, and its value if there is one, loaded."""
        from torch.nn import ModuleList

        from unveil.planning.recipes.locomotion.pair import Pair, pair_at
        from unveil.planning.trajectory_model import TrajectoryModel, ValueModel
        from unveil.runs.device import find_device

        def load() -> Module:
            pair = pair_at(model.place, find_device(self.device))
            return ModuleList(part for part in (pair.model, pair.value) if part is not None)

        it = self._kept(model.id, ModuleList, load)
        trajectories, value = it[0], it[1] if len(it) > 1 else None
        assert isinstance(trajectories, TrajectoryModel)
        assert value is None or isinstance(value, ValueModel)
        return Pair(trajectories, value, _config(model.place, Path(model.place)))

    def policy(self, model: Described) -> PolicyModel:
        """The network of a policy, loaded."""
        from unveil.policy.model import PolicyModel, fast_policy
        from unveil.policy.recipes.load import load_policy_model
        from unveil.runs.checkpoints import find_checkpoint
        from unveil.runs.device import find_device

        def load() -> Module:
            return fast_policy(load_policy_model(find_checkpoint(model.place), find_device(self.device)))

        return self._kept(model.id, PolicyModel, load)

    @property
    def loaded(self) -> list[str]:
        """The ids of loaded models, the one that was used last at the end."""
        return list(self._loaded)

    def unload(self) -> None:
        """Unload all models."""
        with self._lock:
            self._loaded.clear()

    def _kept(self, name: str, kind: type[Network], load: Callable[[], Module]) -> Network:
        """The model of a name, loaded if it is not there. It becomes the last one, and the first ones are
        unloaded until the others fit into the memory."""
        with self._lock:
            it = self._loaded.get(name)
            if it is None:
                it = load()
            self._loaded[name] = it
            self._loaded.move_to_end(name)
            while len(self._loaded) > 1 and sum(map(size_of, self._loaded.values())) > self.memory:
                self._loaded.popitem(last=False)
        assert isinstance(it, kind)
        return it


def size_of(model: Module) -> int:
    """Bytes of the weights of a model."""
    return sum(it.numel() * it.element_size() for it in (*model.parameters(), *model.buffers()))
