"""Models of all four applications by the name of a repository: `unveil.load`, `--checkpoint` of every recipe,
`weights inspect`, `convert`, `pull`, and `push` there and back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("huggingface_hub")

import unveil
from foreign_images import milestone, pipeline, trained
from foreign_policies import keypoints, lerobot, unpacked
from hub_server import serving
from lladas import save_llada
from originals import ATTENTION, DATASET
from originals import unpacked as diffuser_logs
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.runs.checkpoints import ZOO, lasting_name

EXTRA = {"README.md": b"# hi", "flax_model.msgpack": b"no", "onnx/model.onnx": b"no", "optimizer.pt": b"no"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with serving(tmp_path / "home", monkeypatch) as hub:
        yield hub


def tensors(model) -> dict[str, torch.Tensor]:
    """All weights of a model, a policy or a planner."""
    if isinstance(model, torch.nn.Module):
        return model.state_dict()
    parts = [it for it in vars(model).values() if isinstance(it, torch.nn.Module)]
    assert parts
    return {f"{k}.{name}": value for k, part in enumerate(parts) for name, value in part.state_dict().items()}


def same(name: str, folder: Path | str, **settings) -> None:
    """A repository is loaded with the same weights as its files from a local folder."""
    theirs, ours = unveil.load(name, "cpu", **settings), unveil.load(folder, "cpu", **settings)
    assert type(theirs) is type(ours)
    theirs, ours = tensors(theirs), tensors(ours)
    assert theirs.keys() == ours.keys() and len(ours) > 4
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())


@pytest.mark.parametrize("kind", ["pipeline", "network", "training", "milestone", "lerobot", "ckpt", "llada"])
def test_every_foreign_layout_loads_and_is_inspected(hub, tmp_path, kind, capsys):
    local, settings, flags = tmp_path / "local", {}, []
    if kind == "pipeline":
        pipeline("ddpm", local)
    elif kind == "network":
        pipeline("ddpm", local)
        for file in (local / "unet").iterdir():
            file.rename(local / file.name)
        shutil.move(local / "scheduler" / "scheduler_config.json", local / "scheduler_config.json")
        (local / "model_index.json").unlink()
    elif kind == "training":
        local = trained(tmp_path)
        settings = {"raw": True}
    elif kind == "milestone":
        local.mkdir()
        torch.save(milestone("milestone"), local / "model-7.pt")
        settings, flags = {"size": 8}, ["--size", "8"]
    elif kind == "lerobot":
        lerobot(local)
    elif kind == "ckpt":
        local.mkdir()
        unpacked("cnn", local)
    else:
        save_llada(local)
        settings = {"dtype": "float32"}
    repo = hub.put_folder("org/theirs", local)
    repo.branches["main"] |= EXTRA
    place = next(local.glob("*.pt"), local) if kind == "milestone" else local
    same("org/theirs", place, **settings)
    sent = hub.downloads()
    assert not EXTRA.keys() & set(sent) and "checkpoint-500" not in str(sent)
    assert main(["weights", "inspect", "org/theirs", *flags]) == 0
    shown = capsys.readouterr().out
    assert main(["weights", "inspect", str(place), *flags]) == 0

    def plain(text):
        return [line for line in text.splitlines() if "/" not in line]

    assert plain(shown) == plain(capsys.readouterr().out)
    if kind != "llada":
        assert main(["weights", "convert", "org/theirs", "out", *flags]) == 0
        assert unveil.load("out", "cpu")
    else:
        assert main(["weights", "convert", "org/theirs", "out"]) == 2


def test_experiments_of_diffuser(hub, tmp_path, capsys):
    logs = diffuser_logs(tmp_path / "logs")
    shutil.rmtree(logs / DATASET / ATTENTION)
    hub.put_folder("org/logs", logs)
    rng, ends = np.random.default_rng(0), np.zeros(60, bool)
    ends[19::20] = True
    rows = {"observations": rng.standard_normal((60, 3)), "actions": rng.uniform(-1, 1, (60, 2))}
    np.savez("own.npz", **rows, rewards=rng.random(60), terminals=np.zeros(60, bool), timeouts=ends)
    same("org/logs", logs / DATASET, dataset="own.npz")
    same(f"org/logs@main/{DATASET}", logs / DATASET, dataset="own.npz")
    assert main(["weights", "inspect", "org/logs"]) == 0
    assert "value" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["hopper-medium", "maze-umaze", "pusht-keypoints", "text-shakespeare", "fashion-mnist"]
)
def test_our_own_models_load(hub, name):
    hub.put_folder("org/ours", ZOO / name)
    hub.repositories["org/ours"].branches["main"] |= EXTRA
    same("org/ours", name)
    assert not EXTRA.keys() & set(hub.downloads())


COMMANDS = [
    ("maze-umaze", "sample maze --checkpoint org/it --start 1,1 --goal 1,2 --candidates 2 --steps 2"),
    ("maze-umaze", "eval maze --maze umaze --checkpoint org/it --episodes 1 --plan-pairs 1 --no-reference"),
    ("fashion-mnist", "sample image --checkpoint org/it -n 1 --steps 1 --out out"),
    ("text-shakespeare", "sample text --checkpoint org/it --length 4 --steps 2"),
    ("text-shakespeare", "eval text --checkpoint org/it --data words.txt --draws 1"),
    ("llada", "sample text --checkpoint org/it --length 4 --steps 2"),
    ("llada", "chat --checkpoint org/it --prompt a --length 4 --steps 2"),
    ("pusht-keypoints", "eval pusht --checkpoint org/it --episodes 1 --max-steps 2"),
    ("lerobot", "eval pusht --checkpoint org/it --episodes 1 --max-steps 2"),
    ("hopper-medium", "eval locomotion --checkpoint org/it --episodes 1 --max-episode-length 2"),
]


@pytest.mark.parametrize(("model", "command"), COMMANDS, ids=[command[:28] + it for it, command in COMMANDS])
def test_checkpoints_of_every_recipe(hub, tmp_path, model, command, capsys):
    if model == "llada":
        save_llada(tmp_path / "llada")
    elif model == "lerobot":
        keypoints(tmp_path / "lerobot")
    hub.put_folder("org/it", ZOO / model if (ZOO / model).is_dir() else tmp_path / model)
    Path("words.txt").write_text("to be or not to be " * 9)
    assert main([*command.split(), "--device", "cpu", "--threads", "1"]) == 0, capsys.readouterr().err
    assert hub.downloads()


def test_images_of_others_are_converted_first(hub, tmp_path, capsys):
    hub.put_folder("org/theirs", pipeline("ddpm", tmp_path / "local"))
    assert main(["sample", "image", "--checkpoint", "org/theirs"]) == 2
    said = capsys.readouterr().err
    assert "unveil weights convert org/theirs OUT" in said and said.count("\n") == 1 and not hub.sent


def test_a_run_that_began_with_a_repository_remembers_its_name(hub, tmp_path, capsys):
    save_llada(tmp_path / "llada")
    hub.put_folder("org/base", tmp_path / "llada")
    Path("words.txt").write_text("to be or not to be " * 99)
    flags = "--lora-rank 1 --steps 1 --batch-size 2 --device cpu --threads 1 --out lora"
    train = ["train", "text", "--checkpoint", "org/base", "--data", "words.txt", *flags.split()]
    assert main(train) == 0, capsys.readouterr().err
    assert json.loads(Path("lora/config.json").read_text())["checkpoint"] == "org/base"
    hub.put_folder("org/adapter", Path("lora/adapter"))
    adapted = tensors(unveil.load("org/base", "cpu", adapter="org/adapter"))
    for name, value in tensors(unveil.load("lora", "cpu")).items():
        assert torch.equal(adapted[name], value)
    assert lasting_name("text-shakespeare") == "text-shakespeare"
    assert lasting_name("lora") == str(Path("lora").resolve())


def test_pull_fills_the_cache_for_later(hub, capsys, monkeypatch):
    from huggingface_hub import constants

    hub.put_folder("org/ours", ZOO / "maze-umaze")
    assert main(["weights", "pull", "org/ours"]) == 0
    said = capsys.readouterr()
    assert "unveil weights inspect org/ours" in said.out and "bytes of org/ours: " in said.err
    assert main(["weights", "pull", "org/ours", "--out", "there"]) == 2
    assert "stays in its cache" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    same("org/ours", "maze-umaze")


def test_a_run_that_was_uploaded_by_hand(hub, tmp_path):
    """Its newest checkpoint, without the optimizer's state, which only resuming needs."""
    from unveil.training.checkpoint import save_checkpoint

    model, run = unveil.load("text-shakespeare", "cpu"), tmp_path / "run"
    for step in (2, 10):
        save_checkpoint(
            run / f"checkpoint-{step}",
            {"ema": model.state_dict(), "optimizer": {"0.step": torch.ones(1)}},
            {},
        )
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(ZOO / "text-shakespeare" / name, run)
    hub.put_folder("org/run", run)
    same("org/run", run)
    assert "checkpoint-10/ema.safetensors" in hub.downloads()
    assert not any("optimizer" in name or "checkpoint-2" in name for name in hub.downloads())


def test_what_is_neither_here_nor_there_is_one_line(hub, tmp_path, capsys):
    for command in (["sample", "image", "--checkpoint", "org/none"], ["weights", "inspect", "org/none"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(
            "unveil: org/none: no such file or folder; as a repository of the Hugging Face Hub: no"
        )
        assert said.count("\n") == 1
    hub.asked.clear()
    for local in ("runs/none", str(tmp_path / "none"), "none", "./org/none"):
        with pytest.raises(UnveilError, match="neither a folder nor a packaged model"):
            unveil.load(local)
    assert not hub.asked
