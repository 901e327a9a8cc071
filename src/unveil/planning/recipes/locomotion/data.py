"""Generate D4RL-style locomotion data: `unveil data locomotion`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.locomotion.data_config import DataLocomotion

if TYPE_CHECKING:
    import numpy as np

    from unveil.planning.data.episodes import Episodes
    from unveil.planning.worlds.locomotion.body import Body
    from unveil.planning.worlds.locomotion.collect import Part
    from unveil.runs.progress import Progress

SOURCES = {
    "trpo": "TRPO snapshots of github.com/openai/imitation (Ho & Ermon 2016), MIT licence",
    "tqc": "TQC agents of github.com/DLR-RM/rl-trained-agents, MIT licence",
}


def make_locomotion_data(config: DataLocomotion, progress: Progress) -> dict[str, object]:
    """Generate the data, write the file and its card, and return what is in them."""
    import json
    import time

    from unveil.files.atomic import check_output, output
    from unveil.files.places import found, home
    from unveil.planning.data.d4rl import write_d4rl
    from unveil.planning.worlds.locomotion.body import named_body
    from unveil.planning.worlds.locomotion.collect import collect, mixture

    body = named_body(config.body)
    out = config.out or home() / "locomotion" / f"{body.name}-{config.mix}.hdf5"
    if out.is_dir():
        raise ValueError(
            f"{out} is a folder; `out` needs a file name such as {out / f'{body.name}-{config.mix}.hdf5'}"
        )
    card_file = out.with_name(f"{out.stem}.card.json")
    for file in (out, card_file):
        check_output(file)
    parts = mixture(config.policies or found(Path("mujoco_policies")), body, config.mix, config.steps)
    began = time.perf_counter()
    title = f"generating {body.name}-{config.mix}"
    total = config.steps
    episodes = collect(
        body,
        parts,
        config.job.seed,
        config.version,
        progress=lambda done: progress(title, min(done, total), total, {}),
    )
    seconds = time.perf_counter() - began
    card = card_of(config, body, parts, episodes)
    write_d4rl(out, episodes)
    with output(card_file) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n")
    metrics = _metrics(body, episodes) | {"steps_per_second": len(episodes) / seconds}
    behaviour = f"return {metrics['return_mean']:,.0f}, score {metrics['score_mean']:.1f}"
    behaviour += f" ± {metrics['score_ci95']:.1f}" if metrics["score_ci95"] is not None else ""
    speed = f"{metrics['steps_per_second']:,.0f} steps/s"
    return {
        "path": str(out),
        "protocol": "D4RL-style",
        "card": card,
        "metrics": metrics,
        "summary": f"{out}: D4RL-style, {len(episodes):,} steps in {metrics['n']:,} episodes at {speed}; "
        f"behaviour's {behaviour}",
    }


def card_of(config: DataLocomotion, body: Body, parts: list[Part], episodes: Episodes) -> dict[str, object]:
    """The card of a data set: its policies and their returns. It has no time and no path, so that the same
    data have the same card."""
    from unveil.planning.worlds.locomotion.collect import action_noise
    from unveil.runs.machine import commit, versions

    returns = episodes.returns
    owner = episodes.infos["policy"][episodes.starts]
    lengths = episodes.ends - episodes.starts
    policies = [
        {
            "name": part.policy.name,
            "steps": int(lengths[owner == i].sum()),
            "action_noise_rms": action_noise(part.policy, episodes, i),
        }
        | _numbers(body, returns[owner == i])
        for i, part in enumerate(parts)
    ]
    installed = versions()
    return {
        "name": f"{body.name}-{config.mix}",
        "kind": "D4RL-style: made by unveil, not by D4RL; its scores stand beside D4RL's, not among them",
        "body": body.name,
        "world": f"gymnasium {body.title}-{config.version}",
        "mix": config.mix,
        "steps": len(episodes),
        "seed": config.job.seed,
        "metrics": _metrics(body, episodes),
        "policies": policies,
        "sources": [
            text for name, text in SOURCES.items() if any(part.policy.name.startswith(name) for part in parts)
        ],
        "command": f"unveil data locomotion --body {body.name} --mix {config.mix} --policies DIR "
        f"--steps {config.steps} --seed {config.job.seed} --version {config.version}",
        "versions": {name: installed[name] for name in ("mujoco", "gymnasium", "numpy")},
        "commit": commit(),
    }


def _metrics(body: Body, episodes: Episodes) -> dict[str, float | None]:
    """Returns, scores, lengths and ends over all episodes."""
    return _numbers(body, episodes.returns) | {
        "length_mean": float((episodes.ends - episodes.starts).mean()),
        "terminal_rate": float(episodes.terminals[episodes.ends - 1].mean()),
    }


def _numbers(body: Body, returns: np.ndarray) -> dict[str, float | None]:
    """Returns and scores over episodes."""
    from unveil.planning.worlds.locomotion.body import normalized_score
    from unveil.runs.statistics import mean_ci95

    (mean, half), (score, score_half) = mean_ci95(returns), mean_ci95(normalized_score(body, returns))
    best = float(returns.max())
    known = len(returns) > 1
    return {
        "return_mean": mean,
        "return_ci95": half if known else None,
        "score_mean": score,
        "score_ci95": score_half if known else None,
        "return_best": best,
        "score_best": float(normalized_score(body, returns).max()),
        "n": len(returns),
    }
