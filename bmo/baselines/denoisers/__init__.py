from bmo.baselines.denoisers.base import Denoiser
from bmo.baselines.denoisers.ffdnet import FFDNet
from bmo.baselines.denoisers.ircnn import IRCNNGray
from bmo.baselines.denoisers.schedules import DPIR, IRCNN, Schedule, Scheduled
from bmo.baselines.denoisers.stationary import Setting, Stationary
