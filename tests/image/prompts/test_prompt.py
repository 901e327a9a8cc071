"""A1111's prompt language: the examples of its documentation, closed forms of weights and schedules, and that
nothing is refused."""

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.image.prompts.prompt import LoraTag, Piece, Prompt, Timeline, parse, timeline, weighted

PLAIN = st.text(st.characters(exclude_characters="\\()[]:|<>"), max_size=40).filter(
    lambda text: "AND" not in text and "BREAK" not in text
)
BRACKETS = st.text(st.sampled_from("ab ()[]:|\\.,3<>-+e\n"), max_size=60)
MARKS = "( ) [ ] : | :1.2) :0.5] :3] [a:b: <lora: > \\ x é 🙂 1e999 :1e999] :-1e999] :.) :1.2.3)"
PIECES = st.lists(st.sampled_from([*MARKS.split(" "), " ", " AND ", " BREAK "]), max_size=30).map("".join)


def flat(text: str) -> list[tuple[str, float]]:
    """The pieces of a prompt of one passage."""
    (passage,) = weighted(text)
    return [(piece.text, piece.weight) for piece in passage]


def spoken(text: str, steps: int = 10, earlier: int = 0) -> list[tuple[int, str]]:
    """As the documentation shows schedules: the last step of each text, and the text; weights are dropped."""
    (part,) = parse(text).parts
    texts = [
        "".join(piece.text for passage in part.at_step(step, steps, earlier) for piece in passage)
        for step in range(1, steps + 1)
    ]
    ends = [step for step in range(1, steps + 1) if step == steps or texts[step] != texts[step - 1]]
    return [(step, texts[step - 1]) for step in ends]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.5730000000000004),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641000000000006),
                (".", 1.1),
            ],
        ),
    ],
)
def test_weights_are_those_of_the_documentation(text, pieces):
    assert flat(text) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("[x]", [("x", 1 / 1.1)]),
        ("([x:2)", [("x", 2 / 1.1)]),  # kinds of brackets are counted apart
        ("(x: 1.5 )", [("x", 1.5)]),
        ("(x:-.5)y", [("x", -0.5), ("y", 1.0)]),
        ("(a:2:3)", [("a:2", 3.0)]),
        ("x:1.5)", [("x:1.5)", 1.0)]),  # nothing was opened
        ("(x:1.2.3)y", [("x:1.2.3", 1.1), ("y", 1.0)]),  # no number
        ("a) b] c", [("a) b] c", 1.0)]),
        (r"a\\b \c", [(r"a\b c", 1.0)]),
        ("()[]", []),
    ],
)
def test_weights_at_their_edges(text, pieces):
    assert [text for text, _ in flat(text)] == [text for text, _ in pieces]
    assert [weight for _, weight in flat(text)] == pytest.approx([weight for _, weight in pieces], rel=1e-15)


@given(st.integers(0, 8), st.integers(0, 8), st.sampled_from([0.25, 1.5, 2.0]))
def test_nested_weights_multiply(rounds, squares, factor):
    text = "(" * rounds + "[" * squares + f"(x:{factor})" + "]" * squares + ")" * rounds
    assert flat(text) == [("x", pytest.approx(factor * 1.1**rounds / 1.1**squares, rel=1e-14))]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a b")]),
        ("[(a:2):3]", [(3, ""), (10, "a")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("((a][:b:c [d:3]", [(3, "a]:b:c "), (10, "a]:b:c d")]),
        ("[a|(b:1.1)]", [(i, "ba"[i % 2]) for i in range(1, 11)]),
        ("[fe|]male", [(i, ("male", "female")[i % 2]) for i in range(1, 11)]),
        (
            "[fe|||]male",
            [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
        ),
        ("[a::3]b", [(3, "ab"), (10, "b")]),
        ("[a:b:25]", [(10, "a")]),
        ("[a:b:1.5]", [(10, "a")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-3]", [(10, "b")]),
        ("[a:b:1e999]", [(10, "a")]),
        ("[a:b:c:3]", [(10, "a:b:c:3")]),  # not a schedule
        ("[a:b]", [(10, "a:b")]),
        ("[a|b:3]", [(10, "a|b:3")]),
        ("a | b: c", [(10, "a | b: c")]),
        (r"[a\:b:3]", [(3, ""), (10, "a:b")]),
        ("[(a:b:3]", [(10, "a:b:3")]),  # the bracket inside is never closed
    ],
)
def test_schedules_are_those_of_the_documentation(text, steps):
    assert spoken(text) == steps


def test_the_documented_prompt_of_two_hundred_characters():
    text = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]"
    )
    assert spoken(text, 100) == [
        (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
        (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
        (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
        (75, "fantasy landscape with a lake and an oak in background masterful"),
        (100, "fantasy landscape with a lake and a christmas tree in background masterful"),
    ]


def test_a_second_pass_counts_on():
    assert spoken("a [b:.5] c", 10, earlier=10) == [(10, "a b c")]
    assert spoken("a [b:1.5] c", 10, earlier=10) == [(5, "a  c"), (10, "a b c")]
    assert spoken("a [b:24] c", 10, earlier=20) == [(4, "a  c"), (10, "a b c")]


def test_weights_and_schedules_nest_both_ways():
    (part,) = parse("([a:(b:2):1] c:1.5)").parts
    assert part.at_step(1, 2) == ((Piece("a c", 1.5),),)
    assert part.at_step(2, 2) == ((Piece("b", 3.0), Piece(" c", 1.5)),)


def test_and_joins_prompts_with_weights():
    def parts(text: str, composed: bool = True) -> list[tuple[tuple[object, ...], float]]:
        return [(part.nodes, part.weight) for part in parse(text, composed).parts]

    assert parts("a cat AND a dog:0.5") == [(("a cat ",), 1.0), ((" a dog",), 0.5)]
    assert parts("a : -1.5 AND b AND c") == [(("a ",), -1.5), ((" b ",), 1.0), ((" c",), 1.0)]
    assert parts("SAND ANDes AND_ at 16:9") == [(("SAND ANDes AND_ at 16:9",), 1.0)]
    assert parts("(a:1.2) AND b: c") == [(("(a:1.2) ",), 1.0), ((" b: c",), 1.0)]
    assert parts("a AND b:0.5", composed=False) == [(("a AND b:0.5",), 1.0)]


def test_break_divides_and_strips():
    assert weighted("a BREAK b") == ((Piece("a", 1.0),), (Piece("b", 1.0),))
    assert weighted("(a BREAK b:2)c") == ((Piece("a", 2.0),), (Piece("b", 2.0), Piece("c", 1.0)))
    assert weighted("BREAK a BREAKS BREAK BREAK") == ((), (Piece("a BREAKS", 1.0),), (), ())


@pytest.mark.parametrize(
    ("tag", "read"),
    [
        ("<lora:name:0.8>", LoraTag("name", 0.8, 0.8)),
        ("<lora:name>", LoraTag("name", 1.0, 1.0)),
        ("<lyco:a b.c:-1:0.5>", LoraTag("a b.c", -1.0, 0.5)),
        ("<lora:name:te=0.3>", LoraTag("name", 0.3, 0.3)),
        ("<lora:name:unet=0.3>", LoraTag("name", 1.0, 0.3)),
        ("<lora:name:0.2:unet=0.3>", LoraTag("name", 0.2, 0.3)),
        *((tag, None) for tag in ("<lora:name:x>", "<lora:name:1e999>", "<lora:n:1:2:3>", "<lora:n:dyn=3>")),
        *((tag, None) for tag in ("<lora:>", "<lora: :1>", "<hypernet:name:1>", "<lora:name", "<b>")),
    ],
)
def test_tags_of_lora_files_leave_the_text(tag, read):
    prompt = parse(f"a {tag}[b:3] AND c")
    assert prompt.loras == (() if read is None else (read,))
    assert prompt.parts[0].nodes[0] == ("a " if read is not None else f"a {tag}")
    assert len(prompt.parts) == 2


def test_each_text_is_encoded_once():
    line = timeline(parse("[a|b] [c:d:2] AND a c:0.5"), 5)
    assert line == Timeline(
        tuple(((Piece(text, 1.0),),) for text in ("a c ", " a c", "b c ", "a d ", "b d ")),
        ((0, 1), (2, 1), (3, 1), (4, 1), (3, 1)),
        (1.0, 0.5),
    )
    assert timeline(parse("plain"), 50).texts == (((Piece("plain", 1.0),),),)


@given(PLAIN)
def test_plain_text_is_itself(text):
    assert parse(text) == Prompt(parse(text).parts) and len(parse(text).parts) == 1
    assert "".join(piece.text for piece in parse(text).parts[0].at_step(1, 1)[0]) == text
    assert all(piece.weight == 1.0 for piece in parse(text).parts[0].at_step(1, 1)[0])


@given(PLAIN.filter(bool), PLAIN.filter(bool), st.integers(1, 12), st.integers(1, 12))
def test_a_schedule_changes_after_its_step(first, second, when, step):
    (part,) = parse(f"[{first}:{second}:{when}]").parts
    assert "".join(p.text for p in part.at_step(step, 12)[0]) == (first if step <= when else second)


@given(st.one_of(BRACKETS, PIECES, st.text()), st.integers(1, 4))
def test_nothing_is_refused(text, steps):
    prompt = parse(text)
    line = timeline(prompt, steps)
    assert len(line.steps) == steps and len(line.weights) == len(prompt.parts)
    assert sorted({i for step in line.steps for i in step}) == list(range(len(line.texts)))
    for passage in itertools.chain(*line.texts):
        assert all(piece.text for piece in passage)
        assert all(a.weight != b.weight for a, b in itertools.pairwise(passage))


@given(BRACKETS)
def test_escaped_text_is_literal(text):
    escaped = "".join(f"\\{letter}" if letter in "\\()[]:|" else letter for letter in text)
    (part,) = parse(escaped.replace("<", "-"), composed=False).parts
    assert "".join(piece.text for piece in part.at_step(1, 1)[0]) == text.replace("<", "-")


@pytest.mark.parametrize(
    "text", ["(", "[", "[(", "[a:", "[a|", "(a:", ")", "]", "<lora:", " AND ", "[x:1]", " "]
)
def test_a_thousand_brackets(text):
    nested = text * 1_500
    assert len(timeline(parse(nested), 1).steps) == 1
    closed = "[" * 1_500 + "x" + ":1]" * 1_500
    assert parse(closed).parts[0].at_step(1, 1) == weighted(closed)
    assert sys.getrecursionlimit() < 1_500
    assert flat("(" * 1_500 + "x") == [("x", pytest.approx(1.1**100))]


def test_steps_are_checked():
    (part,) = parse("a").parts
    for step, steps in ((0, 5), (6, 5), (1, 0)):
        with pytest.raises(ValueError, match=r"step.* must be a whole number"):
            part.at_step(step, steps)
