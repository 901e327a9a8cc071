"""Geometry and timing of planned paths."""

import numpy as np
from jaxtyping import Float


def resampled(path: Float[np.ndarray, "H D"], spacing: float) -> Float[np.ndarray, "M D"]:
    """Points evenly spaced along the polyline, at most `spacing` apart, with both of its ends; at least two
    points."""
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    return at_pace(path, max(1, int(np.ceil(lengths.sum() / spacing))) + 1)


def arc_lengths(path: Float[np.ndarray, "M D"]) -> Float[np.ndarray, " M"]:
    """The distance along the polyline from its first point to each of its points."""
    return np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])


def at_pace(path: Float[np.ndarray, "M D"], positions: int) -> Float[np.ndarray, "H D"]:
    """`positions` points evenly spaced along the polyline."""
    along = arc_lengths(path)
    wanted = np.linspace(0.0, along[-1], positions)
    return np.stack([np.interp(wanted, along, path[:, d]) for d in range(path.shape[1])], axis=1)


def travel_time(
    path: Float[np.ndarray, "*B H D"], speed_limit: Float[np.ndarray, " D"]
) -> Float[np.ndarray, "*B"]:
    """Environment steps that a path takes at the speed limit, without limits of acceleration.

    A segment takes max over axes of |change of position| / speed_limit.

    Args:
        path: positions.
        speed_limit: largest change of position per step, on each axis.
    """
    return np.asarray((np.abs(np.diff(path, axis=-2)) / speed_limit).max(-1).sum(-1))


def retimed(
    path: Float[np.ndarray, "M D"],
    speed_limit: Float[np.ndarray, " D"],
    acceleration_limit: Float[np.ndarray, " D"],
    initial_speed: float = 0.0,
) -> Float[np.ndarray, " M"]:
    """Environment steps after which each point is reached, as fast as the limits on each axis allow. The end
    may be passed at any speed.

    With unit tangent u and curvature k the speed obeys v <= min(speed_limit / |u|) and k v^2 <=
    min(acceleration_limit), and changes by dv^2 <= 2 min(acceleration_limit / |u|) ds: one pass backwards,
    one forwards (Bobrow et al. 1985, with box limits).

    Args:
        path: points along the path.
        speed_limit, acceleration_limit: largest change of position, and of that change, per step on each
            axis.
        initial_speed: speed at the first point, along the path.
    """
    segments = np.diff(path, axis=0)
    lengths = np.maximum(np.linalg.norm(segments, axis=1), 1e-9)
    tangent = segments / lengths[:, None]
    steep = np.maximum(np.abs(tangent), 1e-6)
    cap = (speed_limit / steep).min(1)
    turn = np.linalg.norm(np.diff(tangent, axis=0), axis=1) / np.maximum(
        0.5 * (lengths[1:] + lengths[:-1]), 1e-9
    )
    corner = np.sqrt(float(acceleration_limit.min()) / np.maximum(turn, 1e-9))
    square = (
        np.concatenate([[initial_speed], np.minimum(np.minimum(cap[1:], cap[:-1]), corner), [cap[-1]]]) ** 2
    )
    gained = np.concatenate([[0.0], (2.0 * (acceleration_limit / steep).min(1) * lengths).cumsum()])
    square[1:] = (
        np.minimum.accumulate((square + gained)[:0:-1])[::-1] - gained[1:]
    )  # backwards: slow enough that every later limit can be met
    speed = np.sqrt(np.minimum.accumulate(square - gained) + gained)
    return np.concatenate([[0.0], (2.0 * lengths / np.maximum(speed[1:] + speed[:-1], 1e-6)).cumsum()])


def polyline_distance(
    point: Float[np.ndarray, "*B D"], path: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "*B"]:
    """Distance from points to the nearest point of a polyline."""
    a, step = path[:-1], np.diff(path, axis=0)
    square = np.maximum((step**2).sum(1), 1e-12)
    fraction = np.clip(((point[..., None, :] - a) * step).sum(-1) / square, 0.0, 1.0)
    return np.asarray(np.linalg.norm(point[..., None, :] - (a + fraction[..., None] * step), axis=-1).min(-1))


def first_within(path: Float[np.ndarray, "M D"], goal: Float[np.ndarray, " D"], radius: float) -> int:
    """Index of the first point within `radius` of the goal; the last index if none is."""
    near = np.linalg.norm(path - goal, axis=1) <= radius
    return int(near.argmax()) if near.any() else len(path) - 1
