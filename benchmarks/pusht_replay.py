"""Do recorded actions reach recorded states? `python benchmarks/pusht_replay.py` -> results/pusht-replay.json, a few minutes of one core.

Every demonstration is replayed open loop from its first recorded state: the agent's and the block's position and the block's angle, all at
rest, since velocities are not recorded. `rows` are every tenth demonstration: errors are the largest of the four positions' at a step, in
pixels of 512. `touching`: the recording's own count of contacts in its first row. The summary is over all 206, apart for those that begin
touching the block and those that do not. `reward` is the largest of an episode: the human reference of the score, not a limit.
"""

import json
from pathlib import Path

import numpy as np

from metrics.replay import replayed
from unveil.policy.recipes.pusht.data import pusht_demonstrations
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    demonstrations = pusht_demonstrations("pusht")
    contacts = demonstrations.observed("n_contacts")[:, 0]
    rows = []
    for episode in range(len(demonstrations.episode_ends)):
        replay = replayed(demonstrations, episode)
        rows.append(
            {
                "episode": episode,
                "steps": len(replay.errors),
                "touching": int(contacts[demonstrations.starts[episode]]),
                "error_median_px": float(np.median(replay.errors)),
                "error_max_px": float(replay.errors.max()),
                "reward": replay.reward,
                "coverage_max": replay.coverage,
            }
        )
        if episode % 10 == 0:
            print(rows[-1], flush=True)
    metrics: dict[str, float] = {"n": len(rows)}
    metrics["reward_mean"], metrics["reward_ci95"] = mean_ci95(np.array([row["reward"] for row in rows]))
    metrics["reward_min"] = min(row["reward"] for row in rows)
    metrics["success_rate"] = float(np.mean([row["coverage_max"] > 0.95 for row in rows]))
    for name, touching in (("touching", True), ("apart", False)):
        errors = [row["error_median_px"] for row in rows if (row["touching"] > 0) == touching]
        metrics[f"{name}_n"] = len(errors)
        metrics[f"{name}_within_half_px_n"] = sum(error < 0.5 for error in errors)
        metrics[f"{name}_median_px_max"] = max(errors)
    result = {
        "recipe": "pusht",
        "protocol": "recorded actions, open loop, from the first recorded state at rest",
        "metrics": metrics,
        "rows": rows[::10],
        "worst": sorted(rows, key=lambda row: -row["error_median_px"])[:5],
        "seeds": [],
        "commit": commit(),
    }
    (RESULTS / "pusht-replay.json").write_text(json.dumps(result | machine(), indent=1) + "\n")
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
