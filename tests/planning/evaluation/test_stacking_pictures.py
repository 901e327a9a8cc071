"""Pictures of block stacking without OpenGL."""

import numpy as np

from unveil.planning.data.stacking_states import PLACES
from unveil.planning.evaluation.stacking_pictures import FRONT, View, picture
from unveil.planning.worlds.stacking.env import StackingEnv
from unveil.planning.worlds.stacking.scene import SIDE


def test_a_cube_is_drawn_where_perspective_puts_it():
    env = StackingEnv()
    state, _ = env.reset(seed=3)
    image, view = picture(state), View(FRONT, 480, 360)
    for k, name in enumerate(("red", "green", "blue")):
        (x, y) = view.flat(state[PLACES[k]][None] + [0, 0, 0.3 * SIDE])[0]
        colour = image[round(y), round(x)].astype(int)
        assert int(colour.argmax()) == k, (name, colour)
    (x, y), (higher_x, higher_y) = view.flat(np.array([[0.3, 0, 0], [0.3, 0, 0.2]]))
    assert higher_y < y and abs(higher_x - x) < 5
    (left, _), (right, _) = view.flat(np.array([[0.0, -0.3, 0], [0.0, 0.3, 0]]))
    assert left < right  # the camera looks from the front right
