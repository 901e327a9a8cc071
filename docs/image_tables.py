"""Write the tables of docs/applications/images.md from `benchmarks/results/images.json`, for `make docs`."""

import json
from pathlib import Path

from result_tables import Rows, cell, replaced, table

ROOT = Path(__file__).resolve().parent.parent
STEPS, CALLS = (10, 20, 50, 100, 1000), (5, 10, 15, 20)
CELLS = [f"{schedule}-{loss}" for schedule in ("linear", "cosine") for loss in ("simple", "hybrid", "vlb")]
SCALES = {"classifier": ("0", "0.5", "1", "2", "4", "10"), "free": ("0", "1", "1.5", "2", "3", "4", "8")}
WHO = {
    "ours": "**unveil**",
    "lucidrains": "denoising-diffusion-pytorch 2.3.4",
    "diffusers": "a training loop of diffusers 0.42.1",
}
TASKS = {
    "denoise": "denoise",
    "inpaint": "inpaint the middle quarter",
    "deblur": "deblur, 1.5 pixels",
    "superres": "superres, 2 x",
}


def bounds(rows: Rows, row: str) -> str:
    """What a distance is compared to."""
    found = rows.get(row)
    if found is None:
        return ""
    numbers = ", ".join(f"{label} {found[name]:.1f}" for name, label in BOUNDS.items())
    return f"For comparison, n {found['n']}: {numbers}."


BOUNDS = {"floor": "other training images", "held_out": "test images", "gaussian": "Gaussian pixels"}


def picture(name: str, description: str) -> list[str]:
    """One that `benchmarks/images_figure.py` has drawn."""
    return [f"![{description}](../{name})", ""] if (ROOT / "docs" / name).is_file() else []


def solvers(rows: Rows) -> list[str]:
    kinds = {"ddim": "DDIM", "ddpm": "DDPM, small variance", "ddpm-large": "DDPM, large variance"}
    body = [
        [str(steps), *(cell(rows, f"solvers-{kind}-{steps}", "frechet_distance") for kind in kinds)]
        for steps in STEPS
    ]
    packaged = [
        [
            str(steps),
            *(cell(rows, f"packaged-{kind}-{steps}", "frechet_distance", seeds=("",)) for kind in kinds),
        ]
        for steps in STEPS[:-1]
    ]
    return [
        "### 1. DDIM and DDPM against the number of steps",
        "The paper: with few steps DDIM is far better than ancestral sampling, which is worst with the",
        "large variance; with 1000 steps they are equal. Here: Fréchet distances of one model.",
        bounds(rows, "solvers-ddim-10"),
        "",
        *table(["steps", *kinds.values()], body),
        "The same for the packaged model, with one seed and the same references:",
        "",
        *table(["steps", *kinds.values()], packaged),
    ]


def objectives(rows: Rows) -> list[str]:
    body: list[list[str]] = []
    for name in CELLS:
        row = f"objective-{name}"
        numbers = [cell(rows, row, "bits_per_dim", 3), cell(rows, row, "bits_minus_linear_simple_mean", 3)]
        body.append(
            [
                name.replace("-", ", "),
                *numbers,
                cell(rows, row, "frechet_distance"),
                cell(rows, row, "kernel_distance", 2),
            ]
        )
    return [
        "### 2. Schedules and losses",
        "The paper: a learned variance and the cosine schedule lower the bits per dimension; training on",
        "the bound alone (vlb) lowers them most, with the worst images. Here: all bits are of the same 128",
        "test images, so differences from `linear, simple` are paired. Images are sampled with 100",
        "ancestral steps.",
        bounds(rows, "objective-linear-simple"),
        "",
        *table(
            [
                "schedule, loss",
                "bits per dimension",
                "minus linear, simple",
                "Fréchet distance",
                "kernel distance",
            ],
            body,
        ),
    ]


def variances(rows: Rows) -> list[str]:
    kinds = ("learned", "small", "large")
    body = [
        [
            f"{schedule}, {steps}",
            *(cell(rows, f"variance-{schedule}-{kind}-{steps}", "frechet_distance") for kind in kinds),
        ]
        for schedule in ("linear", "cosine")
        for steps in (25, 50)
    ]
    return [
        "### 3. Learned and fixed variance in few steps",
        "The paper: respaced to 25 and 50 steps, the learned variance is better than either fixed one.",
        "Here: Fréchet distances of the models with the hybrid loss.",
        bounds(rows, "variance-linear-learned-25"),
        "",
        *table(["schedule, steps", *kinds], body),
    ]


def guidance(rows: Rows) -> list[str]:
    lines = [
        "### 4. Guidance",
        "The papers: stronger guidance raises class accuracy and precision and lowers recall; the distance",
        "is best in between. Here: DDIM in 25 steps, classes as frequent as in the data. Classifier guidance",
        "leads an unconditional model, so its scale 0 is no guidance.",
        bounds(rows, "guide-free-1"),
        "",
        *picture(
            "images-guidance.png",
            "Distance, class accuracy, precision and recall against the scale of both kinds of guidance",
        ),
    ]
    for kind, head in (
        ("classifier", "classifier guidance, scale"),
        ("free", "classifier-free guidance, scale (1: none)"),
    ):
        body = [
            [
                scale,
                cell(rows, f"guide-{kind}-{scale}", "class_hit_rate", 3),
                cell(rows, f"guide-{kind}-{scale}", "precision", 3),
                cell(rows, f"guide-{kind}-{scale}", "recall", 3),
                cell(rows, f"guide-{kind}-{scale}", "frechet_distance"),
            ]
            for scale in SCALES[kind]
        ]
        lines += table([head, "class accuracy", "precision", "recall", "Fréchet distance"], body)
    return lines


def orders(rows: Rows) -> list[str]:
    kinds = {"ddim": "DDIM", "dpmpp": "DPM-Solver++", "heun": "Heun"}
    errors = [[cell(rows, f"order-{kind}-{calls}", "error", 2) for kind in kinds] for calls in CALLS]
    distances = [
        [cell(rows, f"order-{kind}-{calls}", "frechet_distance") for kind in kinds] for calls in CALLS
    ]
    body = [[str(calls), *a, *b] for calls, a, b in zip(CALLS, errors, distances, strict=True)]
    heads = [
        *(f"{name}, error" for name in kinds.values()),
        *(f"{name}, distance" for name in kinds.values()),
    ]
    return [
        "### 5. Orders of solvers",
        "The error is the root mean square difference between 64 images and those that the exact flow",
        "(Heun, 199 calls) makes of the same noise, in levels of 0 .. 255; the distance is Fréchet's.",
        bounds(rows, "order-ddim-5"),
        "",
        *picture("images-steps.png", "Distance against network calls"),
        *table(["calls", *heads], body),
    ]


def duel_bounds(rows: Rows) -> str:
    """What the distances with own defaults, of fewer images, are compared to."""
    found = rows["duel-ours-s0"]
    numbers = ", ".join(f"{label} {found[f'default_{name}']:.1f}" for name, label in BOUNDS.items())
    return f"n {found['default_n']}: {numbers}. For n {found['n']} see table 4."


def duel(rows: Rows) -> list[str]:
    seeds = ("-s0", "-s1")
    names = {
        "steps": ("steps", 0),
        "training_images_per_second": ("images/s in training", 0),
        "frechet_distance": ("distance: DDIM 50, n 1024", 1),
        "default_frechet_distance": ("distance: own default, n 256", 1),
        "default_nfe": ("calls of own default", 0),
    }
    body = [
        [
            f"{said}, {rows[f'duel-{who}-s0']['parameters'] / 1e6:.2f} M parameters"
            if f"duel-{who}-s0" in rows
            else said,
            *(cell(rows, f"duel-{who}", name, digits, seeds) for name, (_, digits) in names.items()),
        ]
        for who, said in WHO.items()
    ]
    lines = [
        "### 6. Equal training time",
        "Each program trains for twenty minutes on the same **two** cores with the same batches of 64, with a",
        "network of its own of about the same size, its recommended learning rate and averaged weights. Then",
        "it makes images with equal settings (DDIM in 50 steps) and with its own default settings. Two seeds.",
        "The network of unveil works on 14 x 14 patches of 2 x 2 pixels, the others at first on all 28 x 28 pixels,",
        "so a step of unveil takes less time. After so short a training the DDIM images of both other programs are",
        "still farther from the data than Gaussian pixels. The rules by which weights are averaged differ as well: a",
        "decay of 0.999 for unveil and 0.9999 for diffusers, both less at first (power 0.75), and 0.995 in every",
        "tenth step for denoising-diffusion-pytorch.",
        *(
            [f"For the images with own defaults, {duel_bounds(rows)}"]
            if "default_floor" in rows.get("duel-ours-s0", {})
            else []
        ),
        "",
        *table(["", *(head for head, _ in names.values())], body),
    ]
    rates = rows.get("duel-rates")
    if rates is None:
        return [*lines, "Speeds, measured alternately in one process: not run.", ""]
    heads = {"training": "training", "equal": "sampling, equal steps", "default": "sampling, defaults"}
    ratios = [
        [WHO[who], *(f"{rates[f'ours_by_{who}_{kind}']:.2f}" for kind in heads)]
        for who in WHO
        if f"ours_by_{who}_training" in rates
    ]
    return [
        *lines,
        "Our images per second divided by theirs, medians of rounds in one process in which the programs",
        "alternate:",
        "",
        *table(["", *heads.values()], ratios),
    ]


def restoration(rows: Rows) -> list[str]:
    body: list[list[str]] = []
    for task, said in TASKS.items():
        best = rows.get(f"restore-{task}", {}).get("best_other", "")
        numbers = [cell(rows, f"restore-{task}", name, 1) for name in ("psnr_mean", "psnr_of_means_mean")]
        other = (
            f"{cell(rows, f'restore-{task}', f'{best}_psnr_mean', 1)} ({best.replace('_', ' ')})"
            if best
            else "not run"
        )
        body.append(
            [said, *numbers, other, cell(rows, f"restore-{task}", "psnr_of_means_minus_best_other_mean", 1)]
        )
    return [
        "### 7. Restoration",
        "PSNR in dB over 64 damaged test images with noise of 10 levels of 255, beside the best of bicubic",
        "interpolation, median filter and the damaged image itself (*as given*). In theory the squared error",
        "of a posterior sample is twice that of the posterior mean, which is 3 dB worse; the mean of four",
        "samples is closer to the posterior mean. Differences are paired.",
        "",
        *table(["damage", "one sample", "mean of four", "best other", "mean of four minus that"], body),
    ]


INTRODUCTION = """`python benchmarks/images.py` makes every row and lists what each costs. All models learn
Fashion-MNIST, 28 x 28 grey images:

| model | parameters | training | time |
|---|---|---|---|
| tables 1 to 5 and 7 | 1.19 M (`--width 32`, see `benchmarks/images.py`) | 2,400 steps of 64 images | 5 to 9 minutes of one core |
| table 6 | 1.10 to 1.19 M | as many steps as fit | 20 minutes of two cores |
| packaged, `fashion-mnist` (second part of table 1) | 2.7 M, conditioned on the class | 8,000 steps of 64 images | 33 minutes of one core |

Distances use features of a classifier trained on the same data, so they do not compare with those of
the packaged models' cards, which use SqueezeNet. Two numbers in a cell are two seeds (trainings), each with a
95 % interval over samples; *n* is the number of images. *Other training images* and *Gaussian pixels*
are the references of the section above. The papers' numbers are for CIFAR-10 and ImageNet,
networks thirty times as large and Inception's features, so compare signs, not sizes."""


def section(rows: Rows) -> str:
    """All tables."""
    parts = (solvers, objectives, variances, guidance, orders, duel, restoration)
    return "\n".join([INTRODUCTION, "", *(line for part in parts for line in part(rows))]).rstrip()


def main() -> None:
    file, page = ROOT / "benchmarks" / "results" / "images.json", ROOT / "docs" / "applications" / "images.md"
    rows: Rows = json.loads(file.read_text())["metrics"] if file.is_file() else {}
    page.write_text(replaced(page.read_text(), "images", section(rows)))


if __name__ == "__main__":
    main()
