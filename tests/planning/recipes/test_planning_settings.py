"""Settings of planners from Python are refused by their own names, from the command line by their flags,
before anything is planned."""

import pytest

from unveil.cli import main
from unveil.loading import load

WRONG = {
    "batch_size": (0, -1, 2.0, True, "3", None),
    "sampling_steps": (0, True, float("nan")),
    "temperature": (-1.0, float("nan"), float("inf"), "warm", True),
    "sharpness": (float("nan"), "much"),
    "ask_scale": (float("inf"), None),
    "warm_steps": (0, 5, True),
    "plan_horizon": (0, -4, 2.5, "short"),
    "scale": ("big", float("nan"), None, True),
    "n_guide_steps": (-1, 1.0),
    "t_stopgrad": (-1,),
    "solver": ("euler", None),
    "guidance": ("strong",),
    "select": ("best",),
    "fast": ("yes", True),
    "clip_denoised": (1, "no"),
    "anchored": (True, "yes"),
}


NEW = {
    "batch_size": "candidates",
    "sampling_steps": "steps",
    "clip_denoised": "clip",
}  # Diffuser's and older names


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_bodys_planner_names_the_argument(name, value, unchecked):
    with pytest.raises(ValueError, match=f"`{NEW.get(name, name)}`") as caught:
        load("hopper-medium", "cpu", **({"sampling_steps": 3} | {name: value}))
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("candidates", 0), ("steps", True), ("temperature", float("nan")), ("pace", 0.8), ("gains", 3)],
)
def test_a_mazes_planner_names_the_argument(name, value, unchecked):
    with pytest.raises(ValueError, match=f"`{name}` must"):
        load("maze-large", "cpu", **{name: value})
    with pytest.raises(TypeError, match="tempo"):
        load("maze-large", "cpu", tempo=1)
    for seed in (-1, 1.5, "0"):
        with pytest.raises(ValueError, match="seed must be a whole number"):
            load("maze-large", "cpu", seed=seed)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["locomotion", "--temperature", "nan"],
            "--temperature must be a finite number of at least 0, got nan",
        ),
        (["locomotion", "--ask", "2"], "--ask must be a number of at least 0 and at most 1 or None, got 2"),
        (["locomotion", "--sharpness", "inf"], "--sharpness must be a finite number"),
        (["locomotion", "--warm-steps", "9"], "--warm-steps must be a whole number in 1 .. 3"),
        (["locomotion", "--plan-horizon", "0"], "--plan-horizon must be a whole number"),
        (["locomotion", "--seed", "-1"], "--seed must be a whole number of at least 0"),
        (["locomotion", "--anchored"], "--anchored needs --sharpness"),
        (["maze", "--temperature", "-1"], "--temperature must be a finite number of at least 0"),
        (["maze", "--candidates", "0"], "--candidates must be a whole number of at least 1"),
        (["maze", "--seed", "-1"], "--seed must be a whole number"),
    ],
)
def test_the_command_line_names_the_flag(flags, message, capsys):
    checkpoint = ["--checkpoint", "hopper-medium"] if flags[0] == "locomotion" else []
    preset = ["--preset", "default"] if flags[0] == "locomotion" else []
    assert main(["eval", *flags, *checkpoint, *preset]) == 2
    assert message in capsys.readouterr().err
