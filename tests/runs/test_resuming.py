"""A run's folder may hold anything but files of a run's names that no run made."""

import json

import pytest

from unveil.errors import UnveilError
from unveil.policy.recipes.pusht.config import TrainPushT
from unveil.runs.flags import changed, flat
from unveil.runs.resuming import check_folder, write_config
from unveil.runs.training import as_json
from unveil.training.checkpoint import save_checkpoint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"mine": 1}'),
        ("config.json", "no JSON"),
        ("metrics.jsonl", "mine"),
        ("config.json", "[]"),
    ],
)
def test_other_peoples_files_are_not_replaced(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UnveilError, match=rf"{name} exists and was not made by unveil"):
        check_folder(tmp_path, False)
    assert [file.name for file in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == content


def test_a_run_that_began_and_a_folder_with_other_files_go_on(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        check_folder(tmp_path, False)
        write_config(tmp_path, {"recipe": "maze"}, None, False)
        (tmp_path / "metrics.jsonl").write_text("{}")
    assert (tmp_path / "notes.txt").read_text() == "mine" and '"maze"' in (
        tmp_path / "config.json"
    ).read_text()


def test_a_run_of_before_resumes_under_the_old_names_and_without_the_newer_flags(tmp_path):
    """Older versions decided AdamW's betas, clipping and warm-up by network and preset; what they did write
    still counts."""
    config = changed(TrainPushT(), adam_betas=(0.9, 0.95), warmup=0)
    described = as_json(flat(config) | {"recipe": "pusht"})
    newer = ("adam_betas", "clip", "final_fraction", "accumulate", "compile", "sample_every")
    before = {name: value for name, value in described.items() if name not in newer}
    before["save_freq"] = before.pop("save_every")
    (tmp_path / "config.json").write_text(json.dumps(before))
    save_checkpoint(tmp_path / "checkpoint-1", {}, {})
    with pytest.raises(UnveilError, match="`warmup` 0, not 5"):
        write_config(tmp_path, described | {"warmup": 5}, TrainPushT(), resume=True)
    write_config(tmp_path, described, TrainPushT(), resume=True)
    with pytest.raises(UnveilError, match=r"`adam_betas` 0\.9 0\.95, not 0\.5 0\.5"):
        write_config(tmp_path, described | {"adam_betas": [0.5, 0.5]}, TrainPushT(), resume=True)
