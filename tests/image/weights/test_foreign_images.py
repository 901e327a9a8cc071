"""Image models of diffusers, openai and lucidrains compute under our names what they compute there; what is
no such file is refused.

How the numbers were made: `images/README.md`.
"""

import io
import json
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from foreign_images import (
    DIFFUSERS,
    EVERY,
    LABELS,
    MILESTONES,
    OPENAI,
    drawn,
    filled,
    golden,
    milestone,
    pipeline,
    times,
    trained,
    written,
)
from tolerance import golden_close
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.image.weights.description import ImageWeights, network_of
from unveil.image.weights.diffusers import read_images_folder
from unveil.image.weights.diffusers_config import betas_of
from unveil.image.weights.openai import RELEASED, read_flags
from unveil.image.weights.releases import read_images_file
from unveil.loading import load
from unveil.network.condition import Condition


def read(path, **said) -> ImageWeights:
    return read_images_folder(path, **said) if path.is_dir() else read_images_file(path, **said)


def output(name: str, found: ImageWeights) -> torch.Tensor:
    network = network_of(found.described.network).eval()
    network.load_state_dict(found.raw)
    told = torch.tensor(times(name), dtype=torch.float64) * found.described.time_scale
    with torch.no_grad():
        return network(drawn(name), told.float(), Condition(label=LABELS[name]) if name in LABELS else None)


@pytest.mark.parametrize("name", EVERY)
def test_a_network_computes_what_it_computes_there(tmp_path, name):
    path, said = written(name, tmp_path)
    wanted = golden(name)["y"]
    golden_close(output(name, read(path, **said)), wanted)


def test_the_older_names_of_attention_and_a_flat_folder_with_a_bin_file(tmp_path):
    """As google/ddpm-cifar10-32 is: query, key, value and proj_attn, no subfolders, `torch.save`, zipped or
    as before torch 1.6."""
    it = golden("ddpm")
    new = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    older = {}
    for key, value in filled(it["shapes"]).items():
        for a, b in new.items():
            key = key.replace(a, b)
        older[key] = value
    assert any(".proj_attn." in key for key in older)
    (tmp_path / "config.json").write_text(json.dumps(it["config"]))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(it["scheduler"]))
    for zipped in (True, False):
        torch.save(older, tmp_path / "diffusion_pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        wanted = it["y"]
        golden_close(output("ddpm", read(tmp_path)), wanted)


def test_a_checkpoint_of_training_has_its_average_beside_it(tmp_path):
    folder = pipeline("plain", tmp_path / "run")
    (folder / "unet_ema").mkdir()
    for file in (folder / "unet").iterdir():
        (folder / "unet_ema" / file.name).write_bytes(file.read_bytes())
    found = read(folder)
    assert found.averaged is not None and torch.equal(
        found.averaged["enter.weight"], found.raw["enter.weight"]
    )


@pytest.mark.parametrize("name", MILESTONES)
def test_a_milestone_tells_its_average_and_what_it_predicts(tmp_path, name):
    path, said = written(name, tmp_path)
    found = read(path, **said)
    assert found.averaged is not None and found.notes == {"step": 7}
    torch.testing.assert_close(found.averaged["enter.weight"], 1.1 * found.raw["enter.weight"])
    assert found.described.predicts == {"milestone": "v", "milestone_full": "eps"}[name]
    kept = (1 - golden(name)["betas"].double()).cumprod(0)
    tree = milestone(name)
    tree["model"]["loss_weight"] = kept / (1 - kept)
    torch.save(tree, path)
    assert read(path, **said).described.predicts == "x0"
    tree["model"]["loss_weight"] = torch.full_like(kept, 0.3)
    torch.save(tree, path)
    with pytest.raises(UnveilError, match="does not say whether it predicts"):
        read(path, **said)


def test_the_older_order_of_attention_is_not_the_newer(tmp_path):
    path, said = written("adm", tmp_path)
    other = read(path, flags=said["flags"].replace("order=True", "order=False"))
    assert (output("adm", other) - golden("adm")["y"]).abs().max() > 1e-2


def test_the_released_files_of_openai_need_no_flags(tmp_path):
    for stem in RELEASED:
        if "upsampler" in stem:
            small, large, _ = stem.split("_")
            assert (read_flags("", stem)["small_size"], read_flags("", stem)["large_size"]) == (small, large)
            continue
        size = (
            256
            if "lsun" in stem
            else 32
            if "cifar10" in stem
            else 64
            if "64" in stem
            else int(stem.partition("x")[0])
        )
        assert read_flags("", stem)["image_size"] == str(size)
    path, _ = written("adm", tmp_path)
    with pytest.raises(UnveilError, match="give the flags of its training"):
        read(path)
    renamed = path.rename(tmp_path / "64x64_diffusion.pt")
    with pytest.raises(UnveilError, match="its tensors say num_channels 64, the flags 192"):
        read(renamed)


def test_tables_of_schedulers_are_those_of_the_paper():
    """Betas from their ends, and what sigmoid means there: GeoDiff's, from -6 to 6."""
    assert betas_of({"beta_start": 0.1, "beta_end": 0.3, "num_train_timesteps": 3}) == pytest.approx(
        (0.1, 0.2, 0.3)
    )
    rooted = betas_of(
        {"beta_schedule": "scaled_linear", "beta_start": 0.01, "beta_end": 0.09, "num_train_timesteps": 3}
    )
    assert rooted == pytest.approx((0.01, 0.04, 0.09))
    bent = betas_of(
        {"beta_schedule": "sigmoid", "beta_start": 0.1, "beta_end": 0.3, "num_train_timesteps": 3}
    )
    assert bent[1] == pytest.approx(0.2) and bent[0] == pytest.approx(0.1 + 0.2 / (1 + 2.718281828**6))
    assert betas_of({"beta_schedule": "linear", "trained_betas": [0.1, 0.5]}) == (0.1, 0.5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DModel can be read"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type is fourier"),
        ({"down_block_types": ["SkipDownBlock2D"] * 3}, "blocks are SkipDownBlock2D"),
        (
            {"up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"]},
            "not at the levels of that going up",
        ),
        ({"class_embed_type": "timestep"}, "class_embed_type is timestep"),
        ({"mid_block_scale_factor": 2}, "mid_block_scale_factor is 2"),
        ({"sample_size": None}, "give `size`"),
        ({"sample_size": [8, 16]}, "is not one side"),
        ({"sample_size": 10}, "cannot halve 2 times"),
        ({"out_channels": 6}, "says variance_type fixed_small"),
        ({"in_channels": 4, "out_channels": 4}, "4 channels, not the 1 or 3"),
        ({"block_out_channels": [16, 32, 32]}, "needed is"),
        ({"norm_num_groups": 3}, "multiple of 3 groups"),
        ({"layers_per_block": 2}, "tensors are missing"),
        ({"layers_per_block": 10**9}, "make no sense"),
        ({"block_out_channels": [8, "a", 16]}, "make no sense"),
    ],
)
def test_what_diffusers_has_and_ours_not_is_one_line(tmp_path, changes, told):
    with pytest.raises(UnveilError, match=told):
        read(pipeline("ddpm", tmp_path / "p", **changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prediction_type": "flow"}, "prediction_type flow"),
        ({"rescale_betas_zero_snr": True}, "zero terminal SNR"),
        ({"beta_schedule": "laplace"}, "table is laplace"),
        ({"beta_end": 1.5}, "make no sense"),
        ({"trained_betas": [0.1, 0.0]}, "between 0 and 1"),
    ],
)
def test_a_diffusion_that_ours_cannot_be_is_one_line(tmp_path, changes, told):
    folder = pipeline("ddpm", tmp_path / "p")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(UnveilError, match=told):
        read(folder)
    file.write_text(json.dumps({"_class_name": "ScoreSdeVeScheduler"}))
    with pytest.raises(UnveilError, match="no table of betas"):
        read(folder)
    file.unlink()
    with pytest.raises(UnveilError, match="does not say its diffusion"):
        read(folder)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("image_size=8 num_heads=4 diffusion_steps=4000", "rescale_timesteps is needed"),
        ("image_size=7", "cannot halve 1 times"),
        ("image_size=8 num_heads=3", "not a multiple of 32 groups and 3 heads|rows, which 3 heads"),
        ("image_size=8 num_heads_upsample=2", "other heads going up"),
        ("image_size=8 noise_schedule=sigmoid", "linear and cosine are known"),
        ("image_size=8 colour=red", "no flag colour"),
        ("image_size=eight", "not a whole number"),
        ("image_size 8 num_heads", "not pairs"),
        ("image_size=8 learn_sigma=True", "its tensors say learn_sigma False"),
        ("image_size=8 predict_xstart=maybe", "neither True nor False"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(tmp_path, flags, told):
    path, _ = written("improved", tmp_path)
    with pytest.raises(UnveilError, match=told):
        read(path, flags=flags)


def test_other_networks_of_openai_and_lucidrains_are_told(tmp_path):
    file = tmp_path / "x.pt"
    tensors = filled(golden("improved")["shapes"])

    def refused(tree, told, **said):
        torch.save(tree, file)
        with pytest.raises(UnveilError, match=told):
            read(file, **said)

    refused(
        {k: v for k, v in tensors.items() if not k.startswith("output_blocks.")},
        "neither a U-Net's output blocks nor",
        flags="image_size=8",
    )
    wide = tensors["input_blocks.0.0.weight"].repeat(1, 2, 1, 1)
    refused(
        tensors | {"input_blocks.0.0.weight": wide},
        "have image_size, but it is an upsampler",
        flags="image_size=8",
    )
    refused({"weight": torch.ones(3)}, "neither a state dict of openai's")
    refused([torch.ones(3)], "no dict of tensors")
    refused({"model": {"weight": torch.ones(3)}}, "no GaussianDiffusion")
    tree = milestone("milestone")
    refused(tree, "give `size`")
    model = tree["model"]
    refused(
        tree | {"model": {k: v for k, v in model.items() if "mem_kv" not in k}},
        "older ones and others are not read",
        size=8,
    )
    refused(
        tree | {"model": model | {"model.time_mlp.0.weights": torch.ones(8)}},
        "random or learned frequencies",
        size=8,
    )
    self_told = model["model.init_conv.weight"].repeat(1, 2, 1, 1)
    refused(tree | {"model": model | {"model.init_conv.weight": self_told}}, "self_condition", size=8)
    refused(
        tree | {"model": model | {"model.final_conv.weight": torch.full((3, 6, 1, 1), float("nan"))}},
        "not finite",
        size=8,
    )
    refused(
        tree | {"model": model | {"betas": torch.zeros(100)}}, "does not say whether|between 0 and 1", size=8
    )


class Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("where", ["whole", "within"])
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, where):
    """A pickle that calls os.system, plain and as a part of a milestone that would not even be looked at."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "harm.pt"
    torch.save(Harm() if where == "whole" else milestone("milestone") | {"opt": Harm()}, file)
    with pytest.raises(UnveilError, match=r"refused, no code in it was run: it names posix\.system"):
        read(file, size=8)
    file.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(UnveilError, match="no code in it was run"):
        read(file, size=8)
    folder = pipeline("ddpm", tmp_path / "p")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(Harm(), folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UnveilError, match="no code in it was run"):
        read(folder)
    assert not (tmp_path / "harmed").exists()


def test_damaged_files_are_one_line(tmp_path):
    path, said = written("milestone", tmp_path)
    whole = path.read_bytes()
    for part in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(UnveilError):
            read(path, **said)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 10**6)
    path.write_bytes(bomb.getvalue())
    with pytest.raises(UnveilError, match="compressed"):
        read(path, **said)
    folder = pipeline("ddpm", tmp_path / "p")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(UnveilError):
        read(folder)
    weights.unlink()
    with pytest.raises(UnveilError, match=r"has no diffusion_pytorch_model\.safetensors or"):
        read(folder)
    (folder / "unet" / "config.json").write_text("[" * 5000)
    with pytest.raises(UnveilError, match="damaged"):
        read(folder)


def test_every_golden_model_is_small_and_tried():
    assert {*DIFFUSERS, *OPENAI, *MILESTONES} == set(EVERY)


def test_checkpoints_of_a_training_hold_weights_and_average(tmp_path, capsys):
    out = trained(tmp_path)
    for path in (out / "checkpoint-500", out):  # of a folder of checkpoints the newest
        found = read(path)
        assert found.averaged is not None
        torch.testing.assert_close(found.averaged["enter.weight"], 1.1 * found.raw["enter.weight"])
        assert found.notes == {"step": 500 if path != out else 1500}
    assert main(["weights", "inspect", str(out / "checkpoint-500")]) == 0
    assert "raw and averaged (EMA); step 500" in capsys.readouterr().out
    one, other = (
        load(out / "checkpoint-500", "cpu", raw=raw).denoiser.network.enter.weight for raw in (False, True)
    )
    torch.testing.assert_close(one, 1.1 * other)
    assert read(out / "checkpoint-500" / "unet").averaged is None  # its scheduler stands two folders above
    (out / "scheduler").rename(out / "away")
    with pytest.raises(
        UnveilError,
        match=r"checkpoint-500: .* no scheduler_config\.json in it, in a folder scheduler/ or beside it",
    ):
        read(out / "checkpoint-500")


@pytest.mark.parametrize("end", ["safetensors", "bin"])
@pytest.mark.parametrize("kind", ["several", "variant", "several of a variant"])
def test_weights_in_several_files_and_variants(tmp_path, end, kind):
    place = pipeline("plain", tmp_path / "x") / "unet"
    (place / "diffusion_pytorch_model.safetensors").unlink()
    weights = filled(golden("plain")["shapes"])
    variant = ".fp16" if "variant" in kind else ""
    parts = [weights] if kind == "variant" else [dict(list(weights.items())[k::2]) for k in (0, 1)]
    files = [
        f"diffusion_pytorch_model{variant}{f'-0000{k + 1}-of-00002' if len(parts) > 1 else ''}.{end}"
        for k in range(len(parts))
    ]
    for name, part in zip(files, parts, strict=True):
        halves = {key: value.half() if variant else value for key, value in part.items()}
        save_file(halves, place / name) if end == "safetensors" else torch.save(halves, place / name)
    if len(parts) > 1:
        index = place / f"diffusion_pytorch_model.{end}.index{variant}.json"
        index.write_text(
            json.dumps({"weight_map": {key: files[k] for k, part in enumerate(parts) for key in part}})
        )
    found = read(tmp_path / "x").raw
    for name, value in read(pipeline("plain", tmp_path / "y")).raw.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3 if variant else 0, atol=1e-3 if variant else 0
        )
    if len(parts) > 1:
        index.write_text(json.dumps({"weight_map": dict.fromkeys(weights, files[0])}))
        with pytest.raises(UnveilError, match="do not agree on"):
            read(tmp_path / "x")
        index.write_text(json.dumps({"weight_map": dict.fromkeys(weights, "../secret.bin")}))
        with pytest.raises(UnveilError, match="which is no file of its weights"):
            read(tmp_path / "x")
        index.write_text(
            json.dumps({"weight_map": {key: files[k] for k, part in enumerate(parts) for key in part}})
        )
        (place / files[1]).unlink()
        with pytest.raises(UnveilError, match="1 of 2 files of its weights are missing"):
            read(tmp_path / "x")
