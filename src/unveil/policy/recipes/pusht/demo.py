"""An animation of the packaged policy with its predicted chunks: `unveil demo pusht`."""

from __future__ import annotations

from time import perf_counter

from unveil.errors import UnveilError
from unveil.files.atomic import check_output
from unveil.policy.recipes.pusht.config import DemoPushT, EvalPushT
from unveil.policy.recipes.pusht.evaluate import scored
from unveil.runs.flags import changed, flat
from unveil.runs.machine import command_name
from unveil.runs.progress import Progress


def run_demo_pusht(config: DemoPushT, progress: Progress) -> str:
    """Make the animation and the score; returns the text to print.

    Raises:
        UnveilError: no such weights, or a file at the path of the folder.
    """
    program = command_name()
    if config.out.exists() and not config.out.is_dir():
        raise UnveilError(f"{config.out} is a file, but `out` needs a folder")
    began = perf_counter()
    video = config.out / "pusht.gif"
    check_output(video)
    shared = {name: value for name, value in flat(config).items() if name != "out"}
    m, protocol, _ = scored(changed(EvalPushT(), **shared, decisions=10, video=video), progress)
    speed = f"a decision takes {m['decision_ms_p50']:.0f} ms on one thread"
    interval = f" ± {m['score_ci95']:.3f}" if config.episodes > 1 else ""
    return f"""
{protocol}
score {m["score_mean"]:.3f}{interval} over {m["n"]} episodes, solved {m["success_rate"]:.0%}; {speed}

{video}: four episodes; the line is the predicted chunk, the warm dots are its executed actions
({perf_counter() - began:.0f} s; ten episodes give a rough score: the published one is over 50)

next:
  {program} eval pusht --checkpoint {config.checkpoint} --episodes 50 --seed 100000 --json -
  {program} sample pusht --checkpoint {config.checkpoint} --start 100003 --out chunks.png
  {program} train pusht --preset tiny"""
