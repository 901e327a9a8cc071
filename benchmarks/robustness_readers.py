"""Every reader of files, with small valid sources of every layout that it reads; `robustness.py` damages these.

Sources of other people's programs are those of the tests (`tests/originals.py` and its neighbours), made here in a scratch folder.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustness_bytes import (
    Damage,
    Tree,
    bytes_damage,
    fallen_back,
    gzip_damage,
    json_damage,
    lines_damage,
    npy_damage,
    pickle_damage,
    safetensors_damage,
    tar_damage,
    text_damage,
    zip_damage,
)
from robustness_formats import chunk_damage, hdf5_damage, jpeg_damage, parquet_damage, png_damage

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "tests") not in sys.path:
    sys.path.append(str(ROOT / "tests"))

Read = Callable[[Path], Any]
BY_END: dict[str, Damage] = {
    ".json": json_damage,
    ".zarray": json_damage,
    ".zgroup": json_damage,
    ".zattrs": json_damage,
    ".jsonl": lines_damage,
    ".txt": text_damage,
    ".npy": npy_damage,
    ".npz": zip_damage(lambda _: npy_damage),
    ".pkl": pickle_damage,
    ".safetensors": safetensors_damage,
    ".png": png_damage,
    ".jpg": jpeg_damage,
    ".hdf5": hdf5_damage,
    ".parquet": parquet_damage,
    ".tar": tar_damage,
    ".tgz": tar_damage,
    ".pt": lambda data, rng: (zip_damage(kind_of) if data[:2] == b"PK" else pickle_damage)(data, rng),
}


def kind_of(name: str) -> Damage:
    """How a file of that name is damaged by its kind."""
    last = name.rpartition("/")[2]
    end = "." + last.rpartition(".")[2]
    if "zarr" in name and end != ".zip":
        return fallen_back(json_damage if end in (".json", ".zarray", ".zgroup", ".zattrs") else chunk_damage)
    if end == ".gz":
        return fallen_back(gzip_damage(kind_of(name[:-3])))
    if end == ".zip":
        return fallen_back(zip_damage(kind_of))
    return fallen_back(BY_END.get({".ckpt": ".pt", ".jpeg": ".jpg"}.get(end, end), bytes_damage))


@dataclass(frozen=True)
class Source:
    """A valid file or folder by its files, and how it is read where these lie."""

    files: Tree
    read: Read


@dataclass(frozen=True)
class Reader:
    """What is tried.

    Args:
        sources: makes the valid ones in an empty folder.
        signed: files have a manifest with checksums, which half of the malformed ones get right.
        columns: of parquet files, whose large malformed ones are made once, before the processes that are watched.
    """

    sources: Callable[[Path], list[Source]]
    signed: bool = False
    columns: tuple[str, ...] = ()


def tree_of(place: Path) -> Tree:
    """The files below a folder, or the one file."""
    if place.is_file():
        return {place.name: place.read_bytes()}
    return {str(p.relative_to(place)): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def signed(tree: Tree) -> Tree:
    """The same with manifests that fit."""
    out = dict(tree)
    for name in [n for n in tree if n.rpartition("/")[2] == "manifest.json"]:
        folder = name.removesuffix("manifest.json")
        beside = {
            n: v
            for n, v in tree.items()
            if n.startswith(folder) and "/" not in n[len(folder) :] and n != name
        }
        sums = {
            n[len(folder) :]: {"bytes": len(v), "sha256": hashlib.sha256(v).hexdigest()}
            for n, v in beside.items()
        }
        out[name] = json.dumps(sums).encode()
    return out


def one(place: Path, read: Read) -> Source:
    """A source of one file, which is read by its path."""
    return Source(tree_of(place), lambda root, name=place.name: read(root / name))


def demonstrations() -> Any:
    from unveil.policy.data.demonstrations import Demonstrations

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    seen = {"state": rng.normal(size=(12, 3)).astype(np.float32), "image": pictures}
    return Demonstrations(seen, rng.normal(size=(12, 2)).astype(np.float32), np.array([5, 12]))


def episodes() -> Any:
    from unveil.planning.data.episodes import Episodes

    rng = np.random.default_rng(0)
    numbers = [
        rng.normal(size=shape).astype(np.float32) for shape in ((20, 3), (20, 2), (20,), (3, 3), (20, 2))
    ]
    ends = np.zeros((2, 20), bool)
    ends[0, 6], ends[1, 13] = True, True
    return Episodes(*numbers[:3], *ends, numbers[3], {"goal": numbers[4]})


def episode_arrays(folder: Path) -> list[Source]:
    from unveil.planning.data.d4rl import read_npz

    it = episodes()
    arrays = {
        name: getattr(it, name) for name in ("observations", "actions", "rewards", "terminals", "timeouts")
    }
    np.savez(folder / "plain.npz", **arrays)
    np.savez_compressed(folder / "packed.npz", **{n: v.astype(np.float64) for n, v in arrays.items()})
    return [one(folder / f"{name}.npz", read_npz) for name in ("plain", "packed")]


def demonstration_arrays(folder: Path) -> list[Source]:
    from unveil.policy.data.demonstrations import write_demonstrations
    from unveil.policy.data.source import read_demonstrations

    write_demonstrations(folder / "d.npz", demonstrations())
    return [one(folder / "d.npz", lambda path: read_demonstrations(str(path), True))]


def image_arrays(folder: Path) -> list[Source]:
    from unveil.image.data.reading import Reading
    from unveil.image.data.source import read_images

    pixels = demonstrations().observations["image"]
    np.savez(folder / "named.npz", images=pixels, labels=np.arange(12) % 3)
    np.savez_compressed(folder / "plain.npz", arr_0=pixels[..., 0])
    np.save(folder / "bare.npy", pixels.transpose(0, 3, 1, 2))
    records = [{"group": f"g{i % 2}", "code": f"c{i}", "style": "a"} for i in range(12)]
    both = tree_of(folder / "named.npz") | {
        "named.json.gz": gzip.compress(json.dumps(records).encode(), mtime=0)
    }
    read = lambda path: read_images(str(path), Reading())  # noqa: E731
    sources = [one(folder / name, read) for name in ("named.npz", "plain.npz", "bare.npy")]
    return [*sources, Source(both, lambda root: read(root / "named.npz"))]


def hdf5_episodes(folder: Path) -> list[Source]:
    from unveil.planning.data.d4rl import write_d4rl
    from unveil.planning.data.minari import write_minari
    from unveil.planning.data.source import read_episodes

    write_d4rl(folder / "d4rl.hdf5", episodes())
    write_minari(folder / "minari.hdf5", episodes())
    whole = [
        one(folder / f"{name}.hdf5", lambda path: read_episodes(str(path))) for name in ("d4rl", "minari")
    ]
    inside = {
        "m/data/main_data.hdf5": (folder / "minari.hdf5").read_bytes(),
        "m/data/metadata.json": b'{"total_episodes": 3}',
    }
    return [*whole, Source(inside, lambda root: read_episodes(str(root / "m")))]


def hdf5_demonstrations(folder: Path) -> list[Source]:
    from replay_buffers import write_robomimic
    from unveil.policy.data.source import read_demonstrations

    write_robomimic(folder / "d.hdf5", demonstrations())
    return [one(folder / "d.hdf5", lambda path: read_demonstrations(str(path), True))]


def timeless(data: bytes) -> bytes:
    """A gzip stream without the time when it was packed."""
    return data[:4] + bytes(4) + data[8:] if data[:2] == b"\x1f\x8b" else data


def zarr_folders(version: int) -> Callable[[Path], list[Source]]:
    def sources(folder: Path) -> list[Source]:
        import zarr

        from replay_buffers import write_zarr
        from unveil.policy.data.zarr import read_zarr

        it = demonstrations()
        write_zarr(folder / "a.zarr", it, version)
        packers = {2: "Blosc GZip Zlib LZ4 Zstd BZ2 LZMA", 3: "BloscCodec GzipCodec ZstdCodec BytesCodec"}[
            version
        ]
        found = [
            Source(
                {f"zarr/{n}": v for n, v in tree_of(folder / "a.zarr").items()},
                lambda root: read_zarr(root / "zarr", True),
            )
        ]
        import numcodecs

        for packer in packers.split():
            root = zarr.open_group(str(folder / packer), mode="w", zarr_format=version)
            codec = (
                getattr(numcodecs, packer)()
                if version == 2
                else getattr(zarr.codecs, packer)()
                if packer != "BytesCodec"
                else None
            )
            for name, values in {
                "data/action": it.actions,
                "data/state": it.observations["state"],
                "meta/episode_ends": it.episode_ends,
            }.items():
                root.create_array(name, data=values, chunks=(5, *values.shape[1:]), compressors=codec)
            files = {f"zarr/{n}": timeless(v) for n, v in tree_of(folder / packer).items()}
            found.append(Source(files, lambda root: read_zarr(root / "zarr", True)))
        return found

    return sources


def zarr_zips(folder: Path) -> list[Source]:
    from replay_buffers import write_zarr
    from unveil.policy.data.zarr import read_zarr

    found = []
    for version in (2, 3):
        tree = tree_of(write_zarr(folder / f"{version}.zarr", demonstrations(), version))
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name, data in {
                "readme.txt": b"x",
                **{f"replay.zarr/{n}": v for n, v in tree.items()},
            }.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        found.append(
            Source(
                {f"{version}.zip": stream.getvalue()},
                lambda root, v=version: read_zarr(root / f"{v}.zip", True),
            )
        )
    return found


def lerobot_folders(video: bool) -> Callable[[Path], list[Source]]:
    def sources(folder: Path) -> list[Source]:
        from replay_buffers import write_lerobot
        from unveil.policy.data.lerobot import read_lerobot

        it = demonstrations()
        if video:
            it = replace(
                it,
                observations=it.observations | {"image": it.observations["image"].repeat(2, 1).repeat(2, 2)},
            )
        versions = ("v2.1", "v3.0")
        return [
            Source(
                tree_of(write_lerobot(folder / version, it, version, video)),
                lambda root: read_lerobot(root, True),
            )
            for version in versions
        ]

    return sources


def pictures(kinds: str) -> Callable[[Path], list[Source]]:
    def sources(folder: Path) -> list[Source]:
        from PIL import Image

        from unveil.image.data.folders import read_folder
        from unveil.image.data.reading import Reading

        colours = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
        full = Image.fromarray(colours)
        found = []
        modes = {"png": ("L", "RGB", "RGBA", "P", "1", "LA", "I;16"), "jpg": ("L", "RGB", "CMYK")}
        for end in kinds.split():
            for mode in modes.get(end, ("L", "RGB")):
                picture = (
                    Image.fromarray(colours[..., 0].astype(np.uint16) * 257)
                    if mode == "I;16"
                    else full.convert(mode)
                )
                more = {
                    "jpg": {"progressive": mode == "RGB", "quality": 90},
                    "tif": {"compression": "tiff_deflate"},
                }.get(end, {})
                stream = io.BytesIO()
                picture.save(stream, {"jpg": "jpeg", "tif": "tiff"}.get(end, end), **more)
                reading = Reading(8, "crop", "white")
                found.append(
                    Source(
                        {f"cat/{mode}.{end}": stream.getvalue()}, lambda root, r=reading: read_folder(root, r)
                    )
                )
        return found

    return sources


def image_sets(folder: Path) -> list[Source]:
    from unveil.image.data.reading import Reading
    from unveil.image.data.source import read_images

    rng = np.random.default_rng(0)
    idx = {
        "train-images-idx3-ubyte": b"\0\0\x08\3\0\0\0\4\0\0\0\x08\0\0\0\x08" + rng.bytes(256),
        "train-labels-idx1-ubyte": b"\0\0\x08\1\0\0\0\4\0\1\2\3",
    }
    rows = rng.integers(0, 256, (3, 3073), dtype=np.uint8)
    rows[:, 0] = 1, 9, 0
    batches = {f"cifar-10-batches-bin/data_batch_{k}.bin": rows.tobytes() for k in range(1, 6)}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in batches.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    packed = gzip.compress(stream.getvalue(), mtime=0)
    read = lambda path: read_images(str(path), Reading())  # noqa: E731
    return [
        Source(idx, read),
        Source({f"{n}.gz": gzip.compress(v, mtime=0) for n, v in idx.items()}, read),
        Source({"cifar.tgz": packed}, lambda root: read(root / "cifar.tgz")),
        Source({n.rpartition("/")[2]: v for n, v in batches.items()}, read),
    ]


def texts(folder: Path) -> list[Source]:
    from unveil.text.data.documents import read_documents

    text = "To be, or not to be.\nThat is the question: ¿qué?\n" * 4
    lines = "".join(
        json.dumps({"text": f"line {i}", "n": i, "more": {"a": [1, None]}}) + "\n" for i in range(6)
    )
    files = {
        "a.txt": text.encode(),
        "b.jsonl": lines.encode(),
        "c.txt.gz": gzip.compress(text.encode(), mtime=0),
    }
    files |= {"d.jsonl.gz": gzip.compress(lines.encode(), mtime=0)}
    whole = [
        Source({name: data}, lambda root, name=name: read_documents(root / name))
        for name, data in files.items()
    ]
    return [*whole, Source(files, read_documents)]


def chats(folder: Path) -> list[Source]:
    from unveil.text.data.instructions import read_chats

    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    lines = [
        {"messages": turns},
        {"prompt": "a", "response": "b"},
        {"prompt": "c", "response": "d", "n": 1.5},
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    files = {"a.jsonl": data, "b.jsonl.gz": gzip.compress(data, mtime=0)}
    return [
        Source({name: data}, lambda root, name=name: read_chats(root / name)) for name, data in files.items()
    ]


def prepared_text(folder: Path) -> list[Source]:
    from unveil.text.data.documents import Prepared, pack, read_prepared, write_prepared
    from unveil.text.data.tokens import ByteTokens, read_tokens

    tokens = read_tokens(ROOT / "src" / "unveil" / "zoo" / "text-shakespeare" / "tokenizer.json")
    found = []
    for k, vocabulary in enumerate((ByteTokens(), tokens)):
        stream = pack(["to be or not to be"], vocabulary)
        write_prepared(Prepared(vocabulary, stream, stream), folder / str(k))
        found.append(Source(tree_of(folder / str(k)), read_prepared))
    return found


def tokenizers(folder: Path) -> list[Source]:
    from lladas import tiny_tokenizer
    from unveil.text.data.tokens import LibraryTokens, read_tokens, train_bpe, write_tokens

    small = train_bpe(["to be or not to be, that is the question"] * 4, 270)
    tiny = tiny_tokenizer()
    write_tokens(small, folder / "small.json")
    ids = [tiny.token_to_id(name) for name in ("<|mdm_mask|>", "<|endoftext|>")]
    write_tokens(LibraryTokens(tiny.to_str(), tiny.get_vocab_size(), *ids), folder / "other.json")

    def used(path: Path) -> Any:
        tokens = read_tokens(path)
        return tokens.size, tokens.mask_id, tokens.eos_id, tokens.decode(tokens.encode("to be ¿? <|mask|>"))

    return [one(folder / f"{name}.json", used) for name in ("small", "other")]


def safetensors(folder: Path) -> list[Source]:
    from safetensors.torch import save_file

    from unveil.files.safetensors import read_tensors

    tensors = {
        "a.weight": torch.arange(12.0).reshape(3, 4),
        "a.bias": torch.ones(3).half(),
        "n": torch.tensor(3),
        "e": torch.empty(0, 2),
    }
    save_file(tensors, folder / "t.safetensors", {"format": "pt"})
    expected = lambda path: read_tensors(path, tensors, halves=True)  # noqa: E731
    return [one(folder / "t.safetensors", read_tensors), one(folder / "t.safetensors", expected)]


def shards(folder: Path) -> list[Source]:
    from lladas import save_llada
    from unveil.text.recipes.convert import load_llada

    small = {"d_model": 8, "mlp_hidden_size": 8, "n_heads": 2, "n_kv_heads": 1, "n_layers": 1}
    for count in (1, 2):
        save_llada(folder / str(count), torch.bfloat16, count, **small)
    return [Source(tree_of(folder / str(count)), lambda root: load_llada(root, "cpu")) for count in (1, 2)]


def adapters(folder: Path) -> list[Source]:
    from unveil.network.lora import LoRA
    from unveil.text.weights.peft import read_adapter, write_adapter

    tensors = {
        f"blocks.0.q_proj.lora_{side}.weight": torch.ones(shape)
        for side, shape in (("A", (2, 4)), ("B", (4, 2)))
    }
    write_adapter(folder / "a", LoRA(2, 4.0, ("q_proj",)), tensors, "base")
    return [Source(tree_of(folder / "a"), read_adapter)]


def older(data: bytes) -> bytes:
    """A file of torch.save in the format before 1.6, whose storages are named by addresses: here by numbers, always the same."""
    known: dict[int, int] = {}
    address: Any = torch._C.StorageBase._cdata
    storage: Any = torch.UntypedStorage
    storage._cdata = property(lambda self: known.setdefault(address.__get__(self), 10**12 + len(known)))
    try:
        stream = io.BytesIO()
        torch.save(
            torch.load(io.BytesIO(data), weights_only=True), stream, _use_new_zipfile_serialization=False
        )
    finally:
        del storage._cdata
    return stream.getvalue()


def diffuser_files(folder: Path) -> list[Source]:
    from originals import forge
    from unveil.planning.weights.diffuser import Original
    from unveil.planning.weights.diffuser_folder import read_checkpoint

    shape = Original(
        "diffusion",
        8,
        6,
        2,
        3,
        8,
        (1, 2),
        False,
        "x0",
        "GaussianNormalizer",
        "hopper-medium-v2",
        "SequenceDataset",
        True,
    )
    forge(folder / "zip", shape)
    forge(folder / "maze", replace(shape, loader="GoalDataset", normalizer="LimitsNormalizer"))
    old = tree_of(folder / "zip")
    trees = [old, tree_of(folder / "maze"), old | {"state_0.pt": older(old["state_0.pt"])}]
    return [Source(tree, read_checkpoint) for tree in trees]


def policy_files(folder: Path) -> list[Source]:
    from foreign_policies import unpacked
    from unveil.policy.weights.diffusion_policy import read_policy

    names = ("cnn", "transformer")
    return [one(unpacked(name, folder), read_policy) for name in names]


def policy_folders(folder: Path) -> list[Source]:
    from foreign_policies import lerobot
    from unveil.policy.weights.lerobot import read_policy_folder

    return [Source(tree_of(lerobot(folder / "state", "lerobot_state")), read_policy_folder)]


def image_files(folder: Path) -> list[Source]:
    from foreign_images import MILESTONES, written
    from unveil.image.weights.releases import read_images

    found = []
    for name in ("adm", *MILESTONES):
        file, more = written(name, folder)
        found.append(one(file, lambda path, more=more: read_images(path, **more)))
        old = Source(
            {file.name: older(file.read_bytes())},
            lambda root, file=file, more=more: read_images(root / file.name, **more),
        )
        found.append(old)
    return found


def image_folders(folder: Path) -> list[Source]:
    from foreign_images import DIFFUSERS, pipeline
    from unveil.image.weights.releases import read_images

    return [Source(tree_of(pipeline(name, folder / name)), read_images) for name in DIFFUSERS]


def archives(folder: Path) -> list[Source]:
    from unveil.files.archives import extract

    inside = {"logs/hopper/a.txt": b"hello" * 40, "logs/hopper/b.bin": bytes(range(256)), "logs/c.txt": b""}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in inside.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, data in inside.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    files = {
        "a.zip": stream.getvalue(),
        "a.tar": tar.getvalue(),
        "a.tgz": gzip.compress(tar.getvalue(), mtime=0),
    }
    return [
        Source({name: data}, lambda root, name=name: extract(root / name, root / "out"))
        for name, data in files.items()
    ]


SMALL: dict[str, dict[str, Any]] = {  # packaged configs, made small
    "fashion-mnist": {
        "width": 8,
        "multiples": [1, 2],
        "groups": 4,
        "size": 8,
        "stem": 1,
        "attention": [4],
        "diffusion_steps": 30,
    },
    "text-shakespeare": {"width": 8, "depth": 1, "heads": 2, "context": 16},
    "maze-umaze": {"width": 8, "depth": 1, "heads": 2},
    "pusht-keypoints": {"widths": [8, 16], "step_width": 8, "width": 8, "diffusion_steps": 10},
    "hopper-medium": {"width": 8, "depth": 1, "heads": 2, "multiples": [1, 2]},
}


def run_config(name: str) -> dict[str, Any]:
    """A packaged model's config with a small network."""
    config = json.loads((ROOT / "src" / "unveil" / "zoo" / name / "config.json").read_text()) | SMALL[name]
    config.pop("value", None)
    return config


def models() -> dict[str, tuple[dict[str, Any], torch.nn.Module, Tree]]:
    """A model of every recipe with its config, and what lies beside that."""
    from unveil.image.recipes.load import classifier_model, image_model
    from unveil.planning.recipes.locomotion.models import trajectory_model
    from unveil.planning.recipes.maze.load import path_model, published_model
    from unveil.policy.recipes.load import policy_model
    from unveil.text.data.tokens import ByteTokens, digest
    from unveil.text.model import TextModel
    from unveil.text.recipes.load import shape_of

    tokens = ByteTokens()
    text = run_config("text-shakespeare") | {"vocabulary": tokens.size, "tokenizer": digest(tokens)}
    image, maze, policy, body = (
        run_config(name) for name in ("fashion-mnist", "maze-umaze", "pusht-keypoints", "hopper-medium")
    )
    unet = body | {"model": "unet"}
    classifier = image | {"recipe": "classifier", "clean": False}
    paper = maze | {"preset": "paper", "diffusion_steps": 8, "longest": 16}
    return {
        "text": (text, TextModel(shape_of(text), tokens), {"tokenizer.json": tokens.written().encode()}),
        "image": (image, image_model(image), {}),
        "classifier": (classifier, classifier_model(classifier), {}),
        "maze": (maze, path_model(maze), {}),
        "paper": (paper, published_model(paper), {}),
        "policy": (policy, policy_model(policy), {}),
        "locomotion": (body, trajectory_model(body), {}),
        "unet": (unet, trajectory_model(unet), {}),
    }


def runs(folder: Path) -> list[Source]:
    import unveil
    from unveil.training.checkpoint import save_checkpoint

    found = []
    for name, (config, model, beside) in models().items():
        save_checkpoint(folder / name / "checkpoint-3", {"ema": model.state_dict()}, {"step": 3})
        tree = {**tree_of(folder / name), "config.json": json.dumps(config).encode(), **beside}
        found.append(
            Source(
                {f"{name}/{n}": v for n, v in tree.items()},
                lambda root, name=name: unveil.load(root / name, "cpu"),
            )
        )
    return found


def resumed(folder: Path) -> list[Source]:
    from unveil.training.trainer import Training, train

    def net() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Linear(2, 1)

    def going(run: Path, steps: int) -> Any:
        draw = lambda generator: torch.randn((4, 2), generator=generator)  # noqa: E731
        loss = lambda model, x: ((model(x) - 1.0).square().mean(), {})  # noqa: E731
        training = Training(steps, save_every=steps, log_every=1, keep=0)
        return train(net(), draw, loss, training, run, resume=True)

    going(folder / "run", 2)
    records = [
        {"step": k, "loss": 1.5, "gradient_norm": 0.5, "learning_rate": 1e-3, "steps_per_second": 90.0}
        for k in (1, 2)
    ]
    (folder / "run" / "metrics.jsonl").write_text(
        "".join(json.dumps(record) + "\n" for record in records)
    )  # rates are of the moment
    return [Source(tree_of(folder / "run"), lambda root: going(root, 3))]


def results(folder: Path) -> list[Source]:
    from unveil.commands.results import Results, read_results

    ours = {
        "recipe": "locomotion",
        "metrics": {"n": 3},
        "returns": [1.0, 2.0, 3.5],
        "config": {"dataset": "hopper-medium-v2"},
        "protocol": "p",
    }
    theirs = {"score": 0.5, "step": 9, "return": 100.0, "term": False, "epoch_diffusion": 1}
    files = {
        "hopper-medium-v2/plans/a/0/b.json": json.dumps(ours).encode(),
        "hopper-medium-v2/plans/c/0/rollout.json": json.dumps(theirs).encode(),
    }
    record = "".join(json.dumps({"step": i, "loss": 0.5, "steps_per_second": 3.0}) + "\n" for i in range(3))
    files["run/metrics.jsonl"] = record.encode()
    return [Source(files, lambda root: read_results(Results(root, csv="-")))]


def picture_parameters(folder: Path) -> list[Source]:
    from unveil.files.pictures import write_picture
    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.reproduce import HERE, repeated, weights_digest
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.flags import flat

    config = SampleImage(checkpoint="fashion-mnist")
    said = {name: value for name, value in flat(config).items() if name not in HERE} | {
        "weights": weights_digest(find_checkpoint(config.checkpoint)),
        "device": "cpu",
    }
    write_picture(folder / "a.png", np.zeros((8, 8, 3), np.uint8), json.dumps(said, default=str))

    def parameters(data: bytes, rng: random.Random) -> bytes:
        from PIL import Image, PngImagePlugin

        info, stream = PngImagePlugin.PngInfo(), io.BytesIO()
        text = json_damage(json.dumps(said, default=str).encode(), rng).decode(errors="replace")
        rng.choice((info.add_text, info.add_itxt))(
            "unveil", text.encode("latin-1", errors="replace").decode("latin-1")
        )
        Image.new("L", (4, 4)).save(stream, "png", pnginfo=info)
        return stream.getvalue()

    BY_END[".parameters"] = lambda data, rng: (
        parameters(data, rng) if rng.random() < 0.6 else png_damage(data, rng)
    )
    return [
        Source(
            {"a.parameters": (folder / "a.png").read_bytes()},
            lambda root: repeated(SampleImage(from_png=root / "a.parameters")),
        )
    ]


def maps(folder: Path) -> list[Source]:
    from unveil.planning.recipes.maze.load import find_layout

    text = (ROOT / "benchmarks" / "maps" / "spiral.txt").read_bytes()
    return [Source({"m.txt": text}, lambda root: find_layout(str(root / "m.txt")))]


def recorded_policies(folder: Path) -> list[Source]:
    from policies import write_actor, write_snapshots
    from unveil.planning.worlds.locomotion.behaviour_policies import load_actor, load_snapshots
    from unveil.planning.worlds.locomotion.body import BODIES

    body = BODIES["hopper"]
    made = one(write_snapshots(folder, body, [1, 2]), lambda path: load_snapshots(path, body, range(10)))
    return [made, one(write_actor(folder, body), lambda path: load_actor(path, body))]


COLUMNS = ("action", "observation.state", "episode_index", "index")
READERS: dict[str, Reader] = {
    "npz: episodes": Reader(episode_arrays),
    "npz: demonstrations": Reader(demonstration_arrays),
    "npz, npy: images": Reader(image_arrays),
    "npz: policies of bodies": Reader(recorded_policies),
    "hdf5: D4RL, Minari": Reader(hdf5_episodes),
    "hdf5: robomimic": Reader(hdf5_demonstrations),
    "zarr 2": Reader(zarr_folders(2)),
    "zarr 3": Reader(zarr_folders(3)),
    "zarr, zipped": Reader(zarr_zips),
    "parquet: LeRobot": Reader(
        lerobot_folders(video=False), columns=(*COLUMNS[:2], "observation.image", *COLUMNS[2:])
    ),
    "video: LeRobot": Reader(lerobot_folders(video=True), columns=COLUMNS),
    "png": Reader(pictures("png")),
    "jpeg": Reader(pictures("jpg")),
    "gif, webp, bmp, tiff": Reader(pictures("gif webp bmp tif")),
    "idx, CIFAR-10": Reader(image_sets),
    "txt, jsonl, gzip": Reader(texts),
    "jsonl: chats": Reader(chats),
    "prepared text": Reader(prepared_text),
    "tokenizer.json": Reader(tokenizers),
    "safetensors": Reader(safetensors),
    "safetensors by index: LLaDA": Reader(shards),
    "LoRA adapters": Reader(adapters),
    "torch.save, pickle: Diffuser": Reader(diffuser_files),
    "torch.save: Diffusion Policy": Reader(policy_files),
    "LeRobot policies": Reader(policy_folders),
    "torch.save: image models": Reader(image_files),
    "diffusers folders": Reader(image_folders),
    "zip, tar, tar.gz": Reader(archives),
    "run folders": Reader(runs, signed=True),
    "resumed runs": Reader(resumed, signed=True),
    "results": Reader(results),
    "parameters in PNG": Reader(picture_parameters),
    "maps": Reader(maps),
}
