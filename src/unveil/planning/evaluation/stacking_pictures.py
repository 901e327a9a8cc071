"""Pictures of states without OpenGL: faces and cylinders in perspective, the farthest drawn first."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from unveil.planning.data.stacking_states import PLACES, TURNS
from unveil.planning.worlds.stacking.kinematics import TIP, chain
from unveil.planning.worlds.stacking.scene import COLOURS, CUBES, LINKS, SIDE, TOOL

LIGHT = np.array([0.35, -0.45, 0.82])
ARM, TOOL_COLOUR, BASE = (238, 146, 60), (70, 75, 84), (104, 110, 118)
TABLE, BACKGROUND, LINE = (226, 228, 233), (244, 246, 250), (206, 210, 218)
ROUND = 3
"""Sub-pixels of a pixel along a side; the picture is shrunk, so that its edges are smooth."""


class Camera(NamedTuple):
    """Where a picture is taken from: position and point in the middle in m, angle of view in degrees."""

    position: tuple[float, float, float]
    middle: tuple[float, float, float] = (0.12, 0.0, 0.28)
    angle: float = 42.0


FRONT, SIDE_VIEW = Camera((1.75, -1.25, 1.15)), Camera((-0.35, -2.1, 0.95))


class Shape(NamedTuple):
    """A polygon in pixels, with its distance from the camera."""

    distance: float
    points: list[tuple[float, float]]
    colour: tuple[int, ...]
    outline: tuple[int, ...] | None = None


def picture(
    state: Float[np.ndarray, "39"], camera: Camera = FRONT, width: int = 480, height: int = 360
) -> UInt8[np.ndarray, "H W 3"]:
    """A state as a picture (height, width, 3)."""
    view = View(camera, width * ROUND, height * ROUND)
    image = Image.new("RGB", (width * ROUND, height * ROUND), BACKGROUND)
    pen = ImageDraw.Draw(image)
    pen.polygon(view.flat(disc((0.0, 0.0, 0.0), 0.95)), fill=TABLE)
    pen.line(view.flat(disc((0.0, 0.0, 0.0), 0.6)), fill=LINE, width=ROUND)
    shapes = [*cubes(state, view), *arm(state[:7], view)]
    for centre, radius in shadows(state):
        pen.polygon(view.flat(disc((*centre, 0.001), radius)), fill=(205, 208, 214))
    for shape in sorted(shapes, key=lambda it: -it.distance):
        pen.polygon(shape.points, fill=shape.colour, outline=shape.outline)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


class View:
    """Perspective of a camera."""

    def __init__(self, camera: Camera, width: int, height: int) -> None:
        self.position = np.array(camera.position)
        forward = np.array(camera.middle) - self.position
        self.forward = forward / np.linalg.norm(forward)
        right = np.cross(self.forward, [0.0, 0.0, 1.0])
        self.right = right / np.linalg.norm(right)
        self.up = np.cross(self.right, self.forward)
        self.focus = height / 2 / np.tan(np.radians(camera.angle) / 2)
        self.width, self.height = width, height

    def flat(self, points: Float[np.ndarray, "N 3"]) -> list[tuple[float, float]]:
        """Points as pixels."""
        apart = np.asarray(points, np.float64) - self.position
        depth = np.maximum(apart @ self.forward, 1e-3)
        x = self.width / 2 + self.focus * (apart @ self.right) / depth
        y = self.height / 2 - self.focus * (apart @ self.up) / depth
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def distance(self, point: Float[np.ndarray, "3"]) -> float:
        """From the camera, along its axis."""
        return float((point - self.position) @ self.forward)


def disc(centre: tuple[float, ...], radius: float, count: int = 72) -> Float[np.ndarray, "N 3"]:
    """A horizontal circle."""
    angles = np.linspace(0.0, 2 * np.pi, count)
    return np.stack(
        [centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles), np.full(count, centre[2])],
        1,
    )


def shadows(state: Float[np.ndarray, "39"]) -> list[tuple[tuple[float, float], float]]:
    """Centres and radii of the cubes' shadows, smaller the higher the cube is."""
    return [
        ((float(x), float(y)), float(0.72 * SIDE * max(0.35, 1.0 - 0.9 * (z - SIDE / 2))))
        for x, y, z in state[PLACES]
    ]


def rotation_of(quaternion: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3 3"]:
    """The rotation of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def shaded(colour: tuple[int, ...], normal: Float[np.ndarray, "3"]) -> tuple[int, ...]:
    """A colour in the light that falls on a face."""
    light = 0.62 + 0.38 * max(0.0, float(normal @ LIGHT / np.linalg.norm(LIGHT)))
    return tuple(min(255, round(light * one)) for one in colour)


def cubes(state: Float[np.ndarray, "39"], view: View) -> list[Shape]:
    """The faces of the cubes that are seen."""
    found: list[Shape] = []
    for k in range(CUBES):
        centre, turn = state[PLACES[k]], rotation_of(state[TURNS[k]])
        colour = tuple(round(255 * float(part)) for part in COLOURS[k].split())
        for axis in range(3):
            for sign in (-1.0, 1.0):
                normal = sign * turn[:, axis]
                middle = centre + normal * SIDE / 2
                if normal @ (view.position - middle) <= 0:
                    continue
                a, b = turn[:, (axis + 1) % 3] * SIDE / 2, turn[:, (axis + 2) % 3] * SIDE / 2
                corners = np.array([middle + a + b, middle + a - b, middle - a - b, middle - a + b])
                edge = tuple(round(0.55 * part) for part in colour)
                near = view.distance(centre) - 0.01
                found.append(Shape(near, view.flat(corners), shaded(colour, normal), edge))
    return found


def arm(joints: Float[np.ndarray, "7"], view: View) -> list[Shape]:
    """The links as tapered tubes with round joints, the base and the tool."""
    pose, origins, _ = chain(joints)
    out = pose.rotation[:, 2]
    flange = origins[6] + out * (TIP - TOOL)
    places = [np.array([0.0, 0.0, 0.0]), *origins, flange]
    radii = [0.085, *(link.radius for link in LINKS), LINKS[6].radius]
    colours = [BASE, *[ARM] * 7]
    found = [
        part
        for k in range(len(places) - 1)
        for part in tube(places[k], places[k + 1], radii[k], radii[k + 1], colours[k], view)
    ]
    found += tube(flange, pose.position - out * 0.012, 0.014, 0.014, TOOL_COLOUR, view)
    return found + tube(pose.position - out * 0.012, pose.position, 0.022, 0.022, (28, 30, 34), view)


def tube(
    begin: Float[np.ndarray, "3"],
    end: Float[np.ndarray, "3"],
    first: float,
    last: float,
    colour: tuple[int, ...],
    view: View,
    parts: int = 5,
) -> list[Shape]:
    """A tube with round ends, in strips that are lighter on the side of the light."""
    towards = view.position - (begin + end) / 2
    across = np.cross(end - begin, towards)
    length = np.linalg.norm(across)
    if length < 1e-9:
        return []
    across = across / length
    if across @ LIGHT < 0:
        across = -across
    near = view.distance((begin + end) / 2)
    facing = towards / np.linalg.norm(towards)
    found = [
        Shape(view.distance(centre) + 0.002, _ball(centre, radius, view, facing), shaded(colour, facing))
        for centre, radius in ((begin, first), (end, last))
    ]
    edges = np.linspace(-1.0, 1.0, parts + 1)
    for left, right in pairwise(edges):
        middle = (left + right) / 2
        normal = across * middle + facing * np.sqrt(1.0 - middle**2)
        corners = np.array(
            [
                begin + across * first * left,
                begin + across * first * right,
                end + across * last * right,
                end + across * last * left,
            ]
        )
        found.append(Shape(near, view.flat(corners), shaded(colour, normal)))
    return found


def _ball(
    centre: Float[np.ndarray, "3"], radius: float, view: View, facing: Float[np.ndarray, "3"]
) -> list[tuple[float, float]]:
    side = np.cross(facing, [0.0, 0.0, 1.0])
    side = side / np.linalg.norm(side)
    up = np.cross(side, facing)
    angles = np.linspace(0.0, 2 * np.pi, 24)
    return view.flat(centre + radius * (np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * up))
