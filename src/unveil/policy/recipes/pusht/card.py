"""The card of packaged PushT policies: command, data with licence and attribution, training time, metrics."""

from __future__ import annotations

import json
from pathlib import Path

from unveil.files.json_objects import JsonObject
from unveil.policy.recipes.pusht.config import TRAIN_PRESETS, for_network
from unveil.runs.card import flag, flags_of, spent


def pusht_card(name: str, checkpoint: Path, described: JsonObject, results: tuple[Path, ...]) -> str:
    """The card of a policy: command, data with licence and attribution, training time, metrics."""
    d = described
    minutes, loss = spent(checkpoint)
    presets = {d["preset"]: for_network(TRAIN_PRESETS[d["preset"]], d["network"])}
    changed = "".join(flag(k, v) for k, v in flags_of(d, presets).items())
    data = (
        "the 206 human demonstrations `pusht_cchi_v7_replay` by Chi et al. (Columbia University), which "
        "github.com/real-stanford/diffusion_policy publishes; that repository is under the MIT licence, and "
        "none is stated for the data apart."
        if d["data"] == "pusht"
        else f"`{Path(d['data']).name}`; origin and licence are its own."
    )
    size = (
        f"widths {', '.join(map(str, d['widths']))}"
        if d["network"] == "cnn"
        else f"{d['width']} wide, {d['depth']} deep"
    )
    lines = [
        f"# {name}",
        "",
        f"A diffusion policy for PushT (Chi et al. 2023): the {d['network']}, {size}, conditioned on "
        f"{d['n_obs']} observations of {d['observations']} numbers ({d['observation']}); it predicts "
        f"{d['horizon']} actions and executes {d['n_action']}.",
        "",
        f"- Trained by `unveil train pusht --preset {d['preset']}{changed} --seed {d['seed']}`: "
        f"{int(checkpoint.name.split('-')[1]):,} of {d['steps']:,} steps in {minutes:.0f} minutes (--device "
        f"{d['device']} --threads {d['threads']}); final loss {loss:.5f}; the weights are the EMA, in half "
        "precision.",
        f"- Data: {d['demonstrations']} episodes ({d['windows']:,} windows) of {data}",
        "- Licence of the weights: MIT, unveil contributors.",
        "- Steps, solver and settings were chosen on episodes with seeds below 100000; those below are the "
        "published ones.",
    ]
    for file in results:
        result = json.loads(file.read_text())
        c = result["config"]
        lines += [
            "",
            f"## {result['protocol']}",
            "",
            f"`unveil eval pusht --checkpoint {name} --episodes {c['episodes']} --seed {c['seed']}"
            + "".join(flag(key, c[key]) for key in ("solver", "sampling_steps") if c[key] is not None)
            + "`",
            "",
            f"{result['device']}, {result['threads']} thread{'s' if result['threads'] > 1 else ''}, "
            f"gym-pusht {result['gym-pusht']}, pymunk {result['pymunk']}, commit {str(result['commit'])[:9]}",
            "",
            "| metric | unveil |",
            "|---|---|",
            *(f"| {key} | {value:.4g} |" for key, value in result["metrics"].items() if value is not None),
        ]
    return "\n".join(lines) + "\n"
