"""Dynamic evaluation: the network learns from a text while it reads it, as a reader gets used to an author.

A window is scored first and learned afterwards, in one gradient step, so that no token is ever predicted by weights
that saw it; what adapting saves says how much of the text's own style training has missed. Source: Krause et al. 2018,
"Dynamic evaluation of neural sequence models" (arXiv:1709.07432), for transformers Krause et al. 2019
(arXiv:1904.08378).

The step is that of LARS (You et al. 2017, arXiv:1708.03888, section 4): it moves each tensor by a share of that
tensor's own size, so that one rate serves networks of every kind. Then every weight is pulled back a little, as in the
source, which keeps a long text from carrying the network away. Krause's RMS statistics of gradients are left out: they
need the training text.
"""

import copy
import math

import torch
import torch.nn.functional as F

from gptmodel.arrays import Ids
from gptmodel.model.loss import window_nats
from gptmodel.model.networks import LanguageModel

PULL = 0.02  # share of the way back to the trained weights after each window


def dynamic_nats(network: LanguageModel, ids: Ids, device: torch.device, rate: float) -> float:
    """Return -ln p of all of `ids` (1-D, at least one token), in nats, by a copy of `network` that learns as it goes.

    The windows are those of `model.loss.total_nats`, which this equals at `rate` 0. `rate` is the length of each step:
    how far a tensor moves, as a share of the length (2-norm) of the trained tensor. No dropout is drawn.
    """
    learner = copy.deepcopy(network).eval()
    parameters = list(learner.parameters())
    trained = [tensor.detach().clone() for tensor in parameters]
    lengths = [rate * float(tensor.norm()) for tensor in trained]
    nats = math.log(network.vocab_size)  # the first token: nothing precedes it
    for start in range(0, len(ids) - 1, network.context):
        nats_BT = window_nats(learner, ids[None, start : start + network.context + 1], device)
        nats += float(nats_BT.detach().cpu().double().sum())  # MPS has no float64
        gradients = torch.autograd.grad(nats_BT.mean(), parameters)
        with torch.no_grad():
            for tensor, gradient, length, before in zip(parameters, gradients, lengths, trained, strict=True):
                tensor.sub_(F.normalize(gradient.flatten(), dim=0).view_as(gradient), alpha=length)
                tensor.lerp_(before, PULL)
    return nats
