"""The solvers of Gaussian diffusion, by one import; each step goes from t to a cleaner s."""

from unveil.sampling.ancestral import Ancestral as Ancestral
from unveil.sampling.consistency import Consistency as Consistency
from unveil.sampling.ddim import DDIM as DDIM
from unveil.sampling.dpmpp import DPMpp2M as DPMpp2M
from unveil.sampling.dpmpp import PastBelief as PastBelief
from unveil.sampling.heun import Heun as Heun
from unveil.sampling.renoise import Renoise as Renoise
