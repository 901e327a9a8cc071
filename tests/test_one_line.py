"""What is said of a mistake is one printable line, whatever a file or a library put into it."""

import pytest

from unveil import cli
from unveil.cli import main
from unveil.errors import LONGEST_LINE, UnveilError, one_line
from unveil.runs.checkpoints import find_checkpoint


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("a.npz: cut short", "a.npz: cut short"),
        ("a  b, é, 迷路,\u3000x", "a  b, é, 迷路,\u3000x"),
        ("one\n  two\r\n\tthree", "one two three"),
        ("\x1b[2J\x07gone\x9b", "?[2J?gone?"),
        ("half \ud800, back\u202ewards, \ufeff\u2028end", "half ?, back?wards, ??end"),
    ],
)
def test_lines_keep_words_and_lose_what_steers(said, line):
    assert str(UnveilError(said)) == one_line(said) == line
    line.encode()


def test_long_lines_are_cut():
    assert str(UnveilError("x" * 900)) == "x" * 900
    assert len(str(UnveilError("x" * 10**6))) == LONGEST_LINE and str(UnveilError("x" * 2000)).endswith(
        "x..."
    )


def test_the_command_line_says_it_of_every_exception(monkeypatch, capsys):
    def wrong(rest):
        raise ValueError(f"\x1b[31m{rest}\n" + "y" * 5000)

    monkeypatch.setitem(cli.VERBS, "doctor", wrong)
    assert main(["doctor", "\x1b"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("unveil: ?[31m['\\x1b'] yyy")
        and said.count("\n") == 1
        and len(said) < 1100
        and "\x1b" not in said
    )


def test_names_too_long_for_a_file_are_named_so(monkeypatch, capsys):
    with pytest.raises(
        UnveilError, match=r"checkpoint 'x{40}'\.\.\.: no name of a file or folder, it has 5,000 characters"
    ):
        find_checkpoint("x" * 5000)

    def wrong(rest):
        raise OSError(36, "File name too long", "x" * 5000)

    monkeypatch.setitem(cli.VERBS, "doctor", wrong)
    assert main(["doctor"]) == 2
    assert len(capsys.readouterr().err) < 1100
