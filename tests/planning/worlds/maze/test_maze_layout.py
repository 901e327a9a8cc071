"""Maps: where walls stand (0.2 off), which cells are free, and what a return is worth."""

from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.planning.worlds.maze.layout import BALL_RADIUS, LAYOUTS, Layout, named_layout, parse_layout

UMAZE, LARGE = LAYOUTS["umaze"], LAYOUTS["large"]

# planning.md, 5.2, and the goals of D4RL's maps
PUBLISHED = [
    ("umaze", 300, 23.85, 161.86, (1, 1)),
    ("medium", 600, 13.13, 277.39, (6, 6)),
    ("large", 800, 6.7, 273.99, (7, 9)),
    ("eval-umaze", 300, 36.63, 141.4, (1, 3)),
    ("eval-medium", 600, 13.07, 204.93, (1, 6)),
    ("eval-large", 800, 16.4, 302.22, (1, 9)),
]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ((1.0, 1.0), 0.3),  # the wall below begins at 1.3
        ((0.8, 0.8), 0.5),  # the true centre of cell (1, 1)
        ((1.2, 1.0), 0.1),  # the ball touches the wall below
        ((0.4, 0.8), 0.1),  # ... above
        ((0.8, 0.4), 0.1),  # ... on the left
        ((2.0, 3.0), 0.3),  # corridor: the wall on the right begins at 3.3
        ((2.0, 2.4), 0.1),  # ... on the left it ends at 2.3
        ((0.9, 2.6), 0.5),  # nearest is the corner (1.3, 2.3): a 3-4-5 triangle
        ((1.5, 1.0), -0.2),  # inside the box from 1.3 to 2.3
        ((2.2, 1.0), -0.1),
        ((1.3, 0.9), 0.0),
        ((4.2, 1.0), -0.1),  # inside the border, which ends at 4.3
        ((4.31, 1.0), -1.0),  # beyond the map
        ((-0.71, 1.0), -1.0),
        ((1.0, 4.31), -1.0),
        ((1.0, -0.71), -1.0),
    ],
)
def test_clearance_closed_form(position, expected):
    assert UMAZE.clearance(np.array(position)) == pytest.approx(expected, abs=1e-12)


def test_clearance_is_row_then_column():
    assert LARGE.clearance(np.array([1.0, 10.0])) == pytest.approx(0.3)
    assert LARGE.clearance(np.array([10.0, 1.0])) == -1.0
    turned = Layout("turned", tuple("".join(column) for column in zip(*LARGE.rows, strict=True)), 800)
    points = np.random.default_rng(0).uniform(-1, 12, (500, 2))
    np.testing.assert_allclose(LARGE.clearance(points), turned.clearance(points[:, ::-1]), atol=1e-12)


@given(st.sampled_from(list(LAYOUTS)), st.floats(-2, 12), st.floats(-2, 14))
def test_clearance_sign_is_the_maps(name, x, y):
    layout = LAYOUTS[name]
    i, j = floor(x + 0.7), floor(y + 0.7)
    free = 0 <= i < len(layout.rows) and 0 <= j < len(layout.rows[0]) and layout.rows[i][j] != "#"
    clearance = layout.clearance(np.array([x, y]))
    assert abs(clearance) < 1e-9 or (clearance > 0) == free


def test_clearance_of_a_batch_is_that_of_its_points():
    points = np.random.default_rng(1).uniform(0, 8, (3, 5, 2))
    single = [[LARGE.clearance(point) for point in row] for row in points]
    np.testing.assert_array_equal(LARGE.clearance(points), single)


def test_free_cells_row_by_row_goal_last():
    assert UMAZE.cells.tolist() == [[1, 2], [1, 3], [2, 3], [3, 1], [3, 2], [3, 3], [1, 1]]
    assert LAYOUTS["eval-umaze"].cells.tolist() == [[1, 1], [1, 2], [2, 1], [3, 1], [3, 2], [3, 3], [1, 3]]
    assert (
        LARGE.cells[0].tolist() == [1, 1]
        and LARGE.cells[10].tolist() == [2, 4]
        and LARGE.cells[-2].tolist() == [7, 10]
    )


@pytest.mark.parametrize(("name", "steps", "low", "high", "goal"), PUBLISHED)
def test_published_constants(name, steps, low, high, goal):
    layout = named_layout(name)
    assert layout.name == name and layout.steps == steps
    assert layout.score_range == (low, high)
    assert tuple(layout.goal) == goal and tuple(layout.cells[-1]) == goal
    np.testing.assert_allclose(
        layout.score(np.array([low, high, (low + high) / 2, 0.0])), [0, 100, 50, -100 * low / (high - low)]
    )


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_ball_fits_everywhere_and_everything_is_connected(layout):
    corners = layout.cells[:, None] + np.array(
        [[-0.1, -0.1], [-0.1, 0.1], [0.1, -0.1], [0.1, 0.1]]
    )  # D4RL's starts
    assert layout.clearance(corners).min() >= BALL_RADIUS
    cells = {(int(i), int(j)) for i, j in layout.cells}
    assert len(cells) == sum(tile != "#" for row in layout.rows for tile in row)
    seen, border = set(), [next(iter(cells))]
    while border:
        i, j = border.pop()
        seen.add((i, j))
        border += [c for c in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if c in cells - seen]
    assert seen == cells


def test_eval_umaze_is_umaze_mirrored():
    assert LAYOUTS["eval-umaze"].rows == tuple(row[::-1] for row in UMAZE.rows)


def test_no_constants_no_score():
    with pytest.raises(ValueError, match=r"'mine' has no published score constants"):
        parse_layout("####\n#OG#\n####", "mine").score(np.array([1.0]))


@pytest.mark.parametrize(
    "text",
    [
        "#####\\#GOO#\\###O#\\#OOO#\\#####",  # D4RL's own spelling
        "\n#####\n#G00#\n###0#  \n#0O0#\n#####\n\n",
        "#####\r\n#G  #\r\n### #\r\n#   #\r\n#####\r\n",
    ],
)
def test_parse_layout_spellings(text):
    layout = parse_layout(text, "copy", 123)
    assert layout.rows == UMAZE.rows and layout.steps == 123 and tuple(layout.goal) == (1, 1)


def test_without_a_goal_the_first_free_cell_is_it():
    assert tuple(parse_layout("#####\n##OO#\n#OOO#\n#####").goal) == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("####\n#O#\n####", r"rows of one length are needed, got lengths \[4, 3, 4\]"),
        ("####\n#x?#\n####", r"unknown tiles \['\?', 'x'\]"),
        ("#####\n#GOG#\n#####", "at most one goal"),
        ("###\n###\n###", "no free cell"),
        ("####\n#OO#\n#O##", "border must be walls"),
        ("#O##\n#OO#\n####", "border must be walls"),
        ("####\nOOO#\n####", "border must be walls"),
        ("####\n#OOO\n####", "border must be walls"),
        ("", r"no free cell|rows of one length"),
    ],
)
def test_parse_layout_errors(text, message):
    with pytest.raises(ValueError, match=message):
        parse_layout(text, "broken")


def test_unknown_names_get_a_hint():
    with pytest.raises(
        ValueError, match=r"unknown maze 'lagre' \(did you mean large\?\); known: umaze, medium, large"
    ):
        named_layout("lagre")
    with pytest.raises(ValueError, match=r"unknown maze 'xyz'; known"):
        named_layout("xyz")
