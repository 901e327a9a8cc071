"""LeRobot's present defaults: ImageNet's BatchNorm, ResNet-34, images that are resized, no type in the config."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import unveil
from foreign_policies import filled, golden
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.policy.networks.resnet18 import RecordedBatchNorm
from unveil.policy.weights.description import model_of
from unveil.policy.weights.lerobot import read_policy_folder

SIZE, CROP = (72, 80), (64, 64)
PREFIX = "diffusion.rgb_encoder."


class Basic(nn.Module):
    """A residual block as torchvision names its parts."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        changes = stride > 1 or inputs != outputs
        down = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = nn.Sequential(*down) if changes else None

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Theirs(nn.Module):
    """LeRobot's encoder of one camera, in evaluation: resize, central crop, ResNet, spatial softmax."""

    def __init__(self, blocks):
        super().__init__()
        layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for level, count in enumerate(blocks):
            outputs = 64 * 2**level
            strides = [1 + (level > 0), *[1] * (count - 1)]
            layers.append(
                nn.Sequential(
                    *(Basic(inputs if not i else outputs, outputs, s) for i, s in enumerate(strides))
                )
            )
            inputs = outputs
        self.backbone, self.pool = nn.Sequential(*layers), nn.ModuleDict({"nets": nn.Conv2d(512, 32, 1)})
        self.out = nn.Linear(64, 64)

    def forward(self, x):
        x = F.interpolate(x, SIZE, mode="bilinear", antialias=True, align_corners=False)
        top, left = (SIZE[0] - CROP[0]) // 2, (SIZE[1] - CROP[1]) // 2
        h = self.pool["nets"](self.backbone(x[:, :, top : top + CROP[0], left : left + CROP[1]]))
        weight = h.flatten(2).softmax(-1).unflatten(2, h.shape[2:])
        places = [torch.linspace(-1, 1, n) for n in h.shape[:1:-1]]
        points = torch.stack([weight.sum(2) @ places[0], weight.sum(3) @ places[1]], dim=-1)
        return F.relu(self.out(points.flatten(1)))


def written(folder, blocks, backbone, **more):
    """A policy of one camera whose encoder is `Theirs`; its U-Net is that of the golden policy."""
    it, theirs = golden("lerobot_image"), Theirs(blocks).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
    kept = {name: value for name, value in filled(it["shapes"]).items() if not name.startswith(PREFIX)}
    own = {f"{PREFIX}{name}": value.detach().clone() for name, value in theirs.state_dict().items()}
    save_file(kept | own, folder / "model.safetensors")
    config = it["config"] | {
        "vision_backbone": backbone,
        "use_group_norm": False,
        "pretrained_backbone_weights": "ResNet18_Weights.IMAGENET1K_V1",
        "resize_shape": list(SIZE),
        "crop_shape": list(CROP),
        "gradient_checkpointing": False,
    }
    (folder / "config.json").write_text(json.dumps(config | more))
    return theirs


@pytest.mark.parametrize(
    ("backbone", "blocks"), [("resnet18", (2, 2, 2, 2)), ("resnet34", (3, 4, 6, 3))], ids=["18", "34"]
)
def test_the_encoder_is_theirs_and_converts(tmp_path, backbone, blocks, capsys):
    """Features of two random pictures; the run that it converts to acts alike, and says what it is."""
    theirs = written(tmp_path, blocks, backbone)
    read = read_policy_folder(tmp_path)
    model = model_of(read.described).eval()
    model.load_state_dict(read.raw)
    generator = torch.Generator().manual_seed(1)
    images, state = torch.rand((1, 2, 3, 96, 96), generator=generator), torch.zeros(1, 2, 2)
    with torch.no_grad():
        got = model["observation"]({"observation.state": state, "observation.image": images})[0, :, 2:]
        torch.testing.assert_close(got, theirs(images[0]), rtol=1e-4, atol=1e-5)
    assert got.std() > 0.01
    config = json.loads((tmp_path / "config.json").read_text())
    del config["type"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    run, seen = tmp_path / "run", np.random.default_rng(0).uniform(0, 255, (1, 2 + 3 * 96 * 96))
    assert main(["weights", "convert", str(tmp_path), str(run)]) == 0
    actions = [unveil.load(place, "cpu", sampling_steps=1).act(seen) for place in (tmp_path, run)]
    np.testing.assert_allclose(actions[0], actions[1], rtol=1e-5, atol=1e-4)
    capsys.readouterr()
    assert main(["weights", "inspect", str(tmp_path)]) == 0
    assert f"ResNet-{sum(blocks) * 2 + 2} with BatchNorm" in capsys.readouterr().out


def test_a_ratio_crops_what_was_resized(tmp_path):
    written(tmp_path, (2, 2, 2, 2), "resnet18", crop_shape=None, crop_ratio=0.9)
    part = read_policy_folder(tmp_path).described.parts[1]
    assert (part.resize, part.crop) == (SIZE, (64, 72))


def test_batch_statistics_stay_those_of_the_training():
    """In training mode, too: the output of a row does not depend on the batch, and nothing recorded moves."""
    norm = RecordedBatchNorm(2).train()
    norm.running_mean.copy_(torch.tensor([1.0, -1.0]))
    norm.running_var.copy_(torch.tensor([4.0, 0.25]))
    x = torch.tensor([[[[3.0]], [[0.0]]], [[[9.0]], [[7.0]]]])
    y = norm(x)
    torch.testing.assert_close(y[0].flatten(), torch.tensor([1.0, 2.0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm(x[:1]), y[:1])
    assert norm.running_mean.tolist() == [1.0, -1.0]


@pytest.mark.parametrize("kind", ["act", "smolvla", "pi05"])
def test_other_types_of_lerobot_are_named(tmp_path, kind):
    """Also where a config lists no features."""
    config = {"type": kind, "n_obs_steps": 1, "input_features": None, "normalization_mapping": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UnveilError, match=f"a policy of LeRobot .*it is of type {kind}; diffusion is supported"
    ):
        unveil.load(tmp_path, device="cpu")
