"""The card of packaged locomotion planners, with the rows of the benchmark."""

from __future__ import annotations

import json
from pathlib import Path

from unveil.files.json_objects import JsonObject
from unveil.runs.card import flag, flags_of, spent


def locomotion_card(name: str, trained: list[tuple[Path, JsonObject]], results: tuple[Path, ...]) -> str:
    """The card of a planner, which is a diffusion and perhaps a value, with the rows of the benchmark."""
    from unveil.planning.recipes.locomotion.config import TRAIN_PRESETS, VALUE_PRESETS

    described = trained[0][1]
    more = [", conditional on the return that follows"] if described.get("returns") else []
    more += [", and a value that chooses among plans"] if len(trained) > 1 else []
    lines = [
        f"# {name}",
        "",
        f"A planner for {described['dataset']}: a diffusion transformer over {described['horizon']} rows of "
        "actions and observations, "
        f"{described['width']} wide, {described['depth']} deep{''.join(more)}.",
        "",
    ]
    for verb, presets, (folder, config) in zip(
        ("locomotion", "value"), (TRAIN_PRESETS, VALUE_PRESETS), trained, strict=False
    ):
        minutes, loss = spent(folder)
        changed = "".join(flag(k, v) for k, v in flags_of(config, presets).items())
        lines.append(
            f"- `unveil train {verb} --dataset {config['dataset']} --preset {config['preset']}{changed} "
            f"--seed {config['seed']}`: "
            f"{int(folder.name.split('-')[1]):,} steps in {minutes:.0f} minutes (--threads "
            f"{config['threads']}); final loss {loss:.5f}; "
            "the weights are the EMA, in half precision."
        )
    lines += [
        "- Data: D4RL-style, made by `unveil data locomotion`: roll-outs of TRPO snapshots of "
        "github.com/openai/imitation (Ho & Ermon "
        "2016) and TQC agents of github.com/DLR-RM/rl-trained-agents, both MIT. Scores stand beside D4RL's, "
        "not among them.",
        "- Licence of the weights: MIT, unveil contributors.",
        "- Settings of the planner were chosen on other seeds than those below (docs/protocol.md).",
    ]
    if described.get("returns") and len(trained) > 1:
        lines.append(
            "- `unveil.load` conditions on the best return, in one step and without the value, which serves "
            "guidance and selection "
            '(`preset="default"`, the row `unveil` below).'
        )
    for file in results:
        result = json.loads(file.read_text())
        lines += [
            "",
            f"## {result['protocol']}",
            "",
            "`python benchmarks/locomotion.py`",
            "",
            "| row | score | n | decisions/s |",
            "|---|---|---|---|",
        ]
        for row, metrics in result["metrics"].items():
            if "score_mean" not in metrics or not _is_of(
                row, bool(described.get("returns")), len(trained) > 1
            ):
                continue
            interval = f" ± {metrics['score_ci95']:.1f}" if "score_ci95" in metrics else ""
            rate = metrics.get("decisions_per_second")
            lines.append(
                f"| {row} | {metrics['score_mean']:.1f}{interval} | {metrics['n']} | "
                f"{'-' if rate is None else f'{rate:.3g}'} |"
            )
    return "\n".join(lines) + "\n"


def _is_of(row: str, conditional: bool, valued: bool) -> bool:
    """Whether a row of the benchmark belongs to a baseline or to such weights.

    The row `unveil` selects by a value, the row `unveil-ask` conditions on returns.
    """
    return {"unveil": valued, "unveil-ask": conditional}.get(row, row.split("-")[0] not in ("warm", "cold"))
