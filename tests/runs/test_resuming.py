"""A run's folder may hold anything but files of a run's names that no run made."""

import pytest

from unveil.errors import UnveilError
from unveil.runs.resuming import check_folder, write_config


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
