"""What is written is what others read: diffusers loads the folder and the single file; a round trip changes
nothing."""

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("unveil.image.networks.clip")
pytest.importorskip("unveil.image.networks.autoencoder")

from safetensors.torch import load_file, save_file

from stable_diffusion_pipelines import components, compvis, save, tokenizer
from unveil.errors import UnveilError
from unveil.image.weights.stable_diffusion import find_stable_diffusion, read_latents, read_text, read_unet
from unveil.image.weights.stable_diffusion_writing import (
    Networks,
    schedule_buffers,
    scheduler_config,
    write_folder,
    write_single,
)


def read(path, **options):
    found = find_stable_diffusion(path, **options)
    return found, Networks(read_unet(found), read_latents(found), read_text(found))


def same(one, other) -> None:
    one, other = dict(one), dict(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype and torch.equal(value, other[name]), name


def without_ids(tensors):
    """CLIP's parameters by the names without `text_model.`."""
    return {k.removeprefix("text_model."): v for k, v in tensors.items() if "position_ids" not in k}


@pytest.mark.parametrize(
    ("version", "use"), [("1", "text to image"), ("2", "inpainting"), ("2", "x4 upscaler")]
)
def test_diffusers_loads_the_folder_and_a_round_trip_changes_nothing(version, use, tmp_path):
    import diffusers

    parts = components(version, use)
    save(tmp_path / "theirs", parts, version)
    found, networks = read(tmp_path / "theirs")
    write_folder(tmp_path / "ours", found.described, networks, tokenizer())
    kind = json.loads((tmp_path / "ours" / "model_index.json").read_text())["_class_name"]
    loaded = getattr(diffusers, kind).from_pretrained(tmp_path / "ours")
    for name in ("unet", "vae"):
        same(getattr(loaded, name).state_dict(), parts[name].state_dict())
    same(without_ids(loaded.text_encoder.state_dict()), without_ids(parts["text_encoder"].state_dict()))
    assert loaded.scheduler.config.prediction_type == ("epsilon" if version == "1" else "v_prediction")
    assert loaded.scheduler.config.steps_offset == 1 and loaded.scheduler.config.set_alpha_to_one is False
    wanted = torch.tensor(found.described.betas, dtype=torch.float32)
    torch.testing.assert_close(loaded.scheduler.betas, wanted, rtol=1e-5, atol=1e-8)
    again, _ = read(tmp_path / "ours")
    assert again.described == found.described
    write_folder(tmp_path / "again", again.described, networks, tokenizer(), again.scheduler)
    for file in (tmp_path / "ours").rglob("*"):
        if file.is_file():
            other = tmp_path / "again" / file.relative_to(tmp_path / "ours")
            assert file.read_bytes() == other.read_bytes(), file


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_file_is_written_as_it_was_and_diffusers_loads_it(version, tmp_path):
    """The tensors are those of the file that was read, but for tables and for what Stable Diffusion does not
    use."""
    from diffusers import StableDiffusionPipeline

    parts = components(version)
    tensors = compvis(parts, version)
    save_file(tensors, tmp_path / "theirs.safetensors")
    found, networks = read(tmp_path / "theirs.safetensors")
    write_single(tmp_path / "ours.safetensors", found.described, networks)
    written = load_file(tmp_path / "ours.safetensors")
    tables = schedule_buffers(found.described.betas)
    unused = ("text_projection", "logit_scale", "position_ids")
    wanted = {name: value for name, value in tensors.items() if not name.endswith(unused)}
    same(written, wanted | tables)
    again, _ = read(tmp_path / "ours.safetensors")
    meaning = "the file's modelspec.prediction_type"
    assert (again.described.predicts, again.described.reason) == (found.described.predicts, meaning)
    save(tmp_path / "config", parts, version)
    write_folder(tmp_path / "folder", found.described, networks, tokenizer())
    loaded = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "ours.safetensors"), config=str(tmp_path / "folder"), local_files_only=True
    )
    for name in ("unet", "vae"):
        same(getattr(loaded, name).state_dict(), parts[name].state_dict())
    same(without_ids(loaded.text_encoder.state_dict()), without_ids(parts["text_encoder"].state_dict()))


def test_a_folder_becomes_a_file_and_a_folder_again(tmp_path):
    """All tensors of the three networks come back; half precision stays half precision."""
    parts = {name: network.half() for name, network in components("2").items()}
    save(tmp_path / "theirs", parts, "2")
    found, networks = read(tmp_path / "theirs")
    write_single(tmp_path / "model.safetensors", found.described, networks)
    middle, networks = read(tmp_path / "model.safetensors")
    assert middle.described.predicts == "v"
    write_folder(tmp_path / "ours", found.described, networks, tokenizer())
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        one, other = (load_file(tmp_path / place / f"{part}.safetensors") for place in ("theirs", "ours"))
        same(without_ids(one), without_ids(other))


def test_other_tables_are_kept_and_what_is_in_the_way_is_not_replaced(tmp_path):
    from dataclasses import replace

    save(tmp_path / "theirs", components("1"), "1")
    found, networks = read(tmp_path / "theirs")
    betas = tuple(torch.linspace(1e-4, 0.02, 100, dtype=torch.float64).tolist())
    config = scheduler_config(replace(found.described, betas=betas))
    assert config["trained_betas"] == list(betas) and config["num_train_timesteps"] == 100
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "mine").write_text("")
    with pytest.raises(UnveilError, match="is in the way"):
        write_folder(tmp_path / "ours", found.described, networks, tokenizer())
    with pytest.raises(UnveilError, match=r"written as \.safetensors"):
        write_single(tmp_path / "model.ckpt", found.described, networks)
    with pytest.raises(UnveilError, match="image variations cannot be written"):
        write_folder(tmp_path / "x", replace(found.described, use="image variations"), networks, tokenizer())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours", "theirs"]
