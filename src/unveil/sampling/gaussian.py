"""The solvers of Gaussian diffusion, by one import; each step goes from t to a cleaner s."""

from unveil.sampling.ancestral import Ancestral as Ancestral
from unveil.sampling.consistency import LCM as LCM
from unveil.sampling.consistency import Consistency as Consistency
from unveil.sampling.ddim import DDIM as DDIM
from unveil.sampling.dpmpp import DPMpp2M as DPMpp2M
from unveil.sampling.dpmpp import DPMpp2MSDE as DPMpp2MSDE
from unveil.sampling.dpmpp import DPMppSDE as DPMppSDE
from unveil.sampling.dpmpp import PastBelief as PastBelief
from unveil.sampling.euler import Euler as Euler
from unveil.sampling.euler import EulerAncestral as EulerAncestral
from unveil.sampling.heun import Heun as Heun
from unveil.sampling.pndm import PNDM as PNDM
from unveil.sampling.renoise import Renoise as Renoise
from unveil.sampling.unipc import UniPC as UniPC
