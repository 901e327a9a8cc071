"""Help of the command line: sentences in one piece, flags as they are typed, common flags first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds
from unveil.commands.parsing import parse


@dataclass(frozen=True)
class Sampling:
    """Samples of a training."""

    sample_every: int = 0
    """steps between samples from the averaged weights, written to samples/ of the run folder; a
    multiple of `save_every`; 0: at each checkpoint"""


@dataclass(frozen=True)
class Train:
    """Train a model."""

    save_every: int = 1
    """steps between checkpoints"""
    out: str = "runs"
    """run folder"""
    sampling: OmitArgPrefixes[Sampling] = Sampling()


def shown(capsys: pytest.CaptureFixture[str], word: str, common: tuple[str, ...] = ()) -> str:
    with pytest.raises(SystemExit):
        parse(Train, [word], "train x", Train(), common)
    return capsys.readouterr().out


@pytest.mark.parametrize("word", ["-h", "--help", "--help-all"])
def test_lines_of_a_sentence_are_joined_and_settings_are_flags(word, capsys):
    lines = [line.strip("│ ") for line in shown(capsys, word).splitlines()]
    first = next(i for i, line in enumerate(lines) if "steps between samples" in line)
    text = lines[first : first + next(i for i, line in enumerate(lines[first:]) if "(default" in line) + 1]
    assert " ".join(text).endswith("; a multiple of --save-every; 0: at each checkpoint (default: 0)")
    assert not any(line.endswith("; a") for line in text), (
        "a line of the help ends where one of the docstring does"
    )


def test_help_shows_the_common_flags_of_embedded_settings_and_counts_the_others(capsys):
    common = shown(capsys, "--help", ("sample_every",))
    assert "--sample-every" in common and "--out" not in common
    assert "2 more flags: unveil train x --help-all" in common
    assert "--out" in shown(capsys, "--help-all", ("sample_every",))


@dataclass(frozen=True)
class Sample:
    """Sample a model."""

    preset: Literal["tiny", "default"] = "default"
    """size"""
    count: Annotated[int, Bounds(1)] | Literal["auto"] | None = None
    """number of samples; by default all"""
    json: Path | None = None
    """file for the result"""
    solver: Literal["", "ddim", "ddpm"] = ""
    """sampler; by default that of the model"""
    fast: bool | None = None
    """use the faster layout; by default where it is measured to be faster"""
    given: tuple[str, ...] = ()
    """images to start from"""
    clip: bool = True
    """clip pixels"""


def test_help_prints_no_default_that_says_nothing_and_no_empty_choice(capsys):
    """`(default: None)`, `{None}|INT` and `{,ddim}` are how the code says it; parsing is as before."""
    aliases = {"--from": "--given", "-n": "--count", "--raw": "--no-clip", "--few": "--count 2"}
    with pytest.raises(SystemExit):
        parse(
            Sample, ["--help"], "sample x", Sample(), ("preset", "count", "json", "solver", "fast"), aliases
        )
    short = capsys.readouterr().out
    assert "None" not in short and "default: )" not in short and "{," not in short
    for shown_values in ("--count INT|{auto}", "--json PATH", "--solver {ddim,ddpm}", "--fast {True,False}"):
        assert shown_values in short
    assert "-n INT|{auto}, --count" in short and "--from" not in short
    assert "You can also write: --few for --count 2\n" in short
    assert "Defaults are those of --preset default" in short
    with pytest.raises(SystemExit):
        parse(Sample, ["--help-all"], "sample x", Sample(), ("preset",), aliases)
    whole = capsys.readouterr().out
    assert "--from [STR [STR ...]], --given" in whole and "--clip, --no-clip" in whole
    assert "You can also write: --few for --count 2\n" in whole
    assert parse(Sample, ["--count", "None", "--fast", "True"], "sample x", Sample()) == Sample(fast=True)
