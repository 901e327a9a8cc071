"""Behaviour cloning of recorded behaviour, which `unveil eval planner` has too."""

from unveil.planning.cloning import Clone as Clone
from unveil.planning.cloning import Pairs as Pairs
from unveil.planning.cloning import best_episodes as best_episodes
from unveil.planning.cloning import cloning_loss as cloning_loss
from unveil.planning.cloning import pairs as pairs
