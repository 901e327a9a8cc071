"""docs/coming-from-diffuser.md maps the whole original: it misses no key, and each flag that it names
exists."""

import re
from pathlib import Path

import pytest

from unveil.cli import VERBS
from unveil.commands.results import Results
from unveil.planning.recipes.locomotion.config import DIFFUSER, EvalLocomotion, TrainLocomotion, TrainValue
from unveil.planning.recipes.maze.config import EvalMaze, SampleMaze, TrainMaze
from unveil.runs.flags import flat, names_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coming-from-diffuser.md"
LISTED = Path(__file__).resolve().parent / "weights" / "original" / "files.txt"

TRAINED = """model diffusion horizon n_diffusion_steps {} dim_mults {} renderer loader {} normalizer
preprocess_fns {} use_padding
max_path_length logbase prefix exp_name n_steps_per_epoch loss_type n_train_steps batch_size
learning_rate gradient_accumulate_every
ema_decay save_freq sample_freq n_saves save_parallel n_reference {} bucket device {}"""

# github.com/jannerm/diffuser: config/locomotion.py at 34d0e93296c6d8649187e6790ee41cf0c59e3631 (main),
# config/maze2d.py at
# 8b2df9696cc00ce24bec969443b7b653794abbb1 (branch maze2d): the keys of `base`
KEYS = {
    "config/locomotion.py, diffusion": TRAINED.format(
        "action_weight loss_weights loss_discount predict_epsilon",
        "attention",
        "",
        "clip_denoised",
        "",
        "seed",
    ),
    "config/locomotion.py, values": TRAINED.format(
        "", "", "discount termination_penalty normed", "", "", "seed"
    ),
    "config/locomotion.py, plan": """guide policy max_episode_length batch_size preprocess_fns device
    seed n_guide_steps scale t_stopgrad
        scale_grad_by_std loadbase logbase prefix exp_name vis_freq max_render horizon n_diffusion_steps
        discount diffusion_loadpath
        value_loadpath diffusion_epoch value_epoch verbose suffix""",
    "config/maze2d.py, diffusion": TRAINED.format(
        "action_weight loss_weights loss_discount predict_epsilon",
        "",
        "termination_penalty",
        "clip_denoised",
        "n_samples",
        "",
    ),
    "config/maze2d.py, plan": """batch_size device horizon n_diffusion_steps normalizer vis_freq logbase
    prefix exp_name suffix conditional
        diffusion_loadpath diffusion_epoch""",
}
OURS = dict(zip(KEYS, (TrainLocomotion, TrainValue, EvalLocomotion, TrainMaze, EvalMaze), strict=True))
SPELLED = {name.removeprefix("--").replace("-", "_") for name in DIFFUSER}
DIFFUSERS = dict(
    zip(KEYS, (SPELLED, SPELLED, SPELLED, set(), set()), strict=True)
)  # its spellings, as aliases
# Of the programs that other lines show: docker, sbatch, torchrun, the original's scripts and unveil --help
FOREIGN = {"--rm", "--wrap", "--build-arg", "--help", "--conditional", "--config", "--debug"}
NAMED = (  # what the original has besides configs; the tables name each
    "train.py train_values.py plan_guided.py plan_maze2d.py read_results.py convert_checkpoints.py "
    "download_pretrained.sh "
    "diffuser_sample.ipynb release-run.sh table.py locomotion_scores.py kuka.py "
    "unconditional_kuka_planning_eval.py "
    "conditional_kuka_planning_eval.py rearrangment_kuka_planning_eval.py reward_classifier.py "
    "gen_d4rl_dataset.py state_<epoch>.pt "
    "dataset_config.pkl render_config.pkl model_config.pkl diffusion_config.pkl trainer_config.pkl "
    "rollout.json environment.yml setup.py "
    "Dockerfile azure/Dockerfile Singularity.def azure/launch.py azure/config.py azure/sync.sh "
    "gcp/train.sh gcp/plan.sh gcp/run.sh "
    "slurm/train.sh slurm/plan.sh slurm/sbatch.sh docker-interactive.sh diffuser/environments/ "
    ".vscode/launch.json registration.py gym_stacking/env.py denoising_diffusion_pytorch/"
)


def rows(section: str) -> dict[str, str]:
    """The last cell of each row of a section's first table, by key."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0].split("\nOverrides of")[0]
    found = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", text, re.MULTILINE)
    assert len(found) == len(dict(found)), "a key stands twice"
    return dict(found)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@pytest.mark.parametrize("section", KEYS)
def test_every_key_is_a_field_or_has_its_reason(section):
    table, ours = rows(section), set(names_of(OURS[section]())) | DIFFUSERS[section]
    assert set(table) == set(KEYS[section].split())
    for key, cell in table.items():
        if key in ours:
            assert f"`{flag(key)}" in cell.split(";")[0], f"{key} is a field, but its line does not say so"
        else:
            assert re.match(r"not there: |renamed: |a setting of planning", cell), f"{key} needs a reason"
            assert not re.search(rf"`{flag(key)}\b[^`]*`(?! of `unveil)", cell), f"{key} is no field"


def test_every_flag_of_the_page_exists():
    every = {flag(name) for c in (*OURS.values(), SampleMaze, Results) for name in names_of(c())}
    every |= {"--samples", *DIFFUSER}
    every |= {"--no-" + name.removeprefix("--") for name in every}
    text = PAGE.read_text()
    ours = "\n".join(line for line in text.splitlines() if not line.startswith("python scripts/"))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\w", ours)) - FOREIGN <= every
    for section, config in OURS.items():
        mine = {flag(name) for name in names_of(config())} | {
            "--no-normed",
            "--no-samples",
            "--samples",
            "--clip-denoised",
            "--out",
            *DIFFUSER,
        }
        cells = " ".join(rows(section).values())
        assert set(re.findall(r"`(--[a-z][a-z-]*\w)", cells)) <= mine


def test_every_script_and_file_is_named_and_every_verb_exists():
    text = PAGE.read_text()
    assert [name for name in NAMED.split() if name not in text] == []
    assert set(re.findall(r"unveil (?:\(`--multi`\) )?([a-z]+)\b", re.sub(r"(?m)^- .*$", "", text))) <= set(
        VERBS
    )


def named() -> tuple[set[str], set[str]]:
    """Files and folders in the first cells of the tables; a bare name is in the folder named before it, "
    "or in the root."""
    files, folders = set(), set()
    for cell in re.findall(r"^\| ([^|]*) \|", PAGE.read_text(), re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([^`]+)`", cell):
            if name.endswith("/"):
                folders.add(name)
            elif "/" in name:
                folder = name.rsplit("/", 1)[0] + "/"
                files.add(name)
            else:
                files |= {name, folder + name}
    return files, folders


def test_every_file_of_its_branches_has_a_line():
    listed = [line.split()[0] for line in LISTED.read_text().splitlines() if not line.startswith("#")]
    files, folders = named()
    assert len(set(listed)) == len(listed) > 120
    assert "__init__.py" in files
    missing = [path for path in listed if path not in files and not path.endswith("/__init__.py")]
    assert [path for path in missing if not path.startswith(tuple(folders))] == []
    assert {"config/locomotion.py", "config/maze2d.py", "scripts/kuka.py"} <= files & set(listed), (
        "a whole folder is no mapping of these"
    )
    assert not {"scripts/", "config/", "diffuser/"} & folders


def test_the_three_commands_parse():
    from unveil.commands.parsing import configured, parse
    from unveil.verbs import RECIPES

    section = PAGE.read_text().split("\n## Three commands\n")[1].split("\n## ")[0]
    commands = [line.split("#")[0].split() for line in section.splitlines() if line.startswith("unveil ")]
    assert [command[1:3] for command in commands] == [
        ["train", "locomotion"],
        ["train", "value"],
        ["eval", "locomotion"],
        ["results", "logs"],
    ]
    for _, verb, recipe, *flags in commands[:3]:
        config = configured(RECIPES[verb][recipe], flags, verb)
        chosen = flat(config)
        assert (chosen["preset"], chosen["dataset"], str(chosen["logbase"])) == (
            "paper",
            "hopper-medium-expert-v2",
            "logs",
        )
    assert parse(Results, commands[3][2:], "results", Results()).latex == "table.tex"
