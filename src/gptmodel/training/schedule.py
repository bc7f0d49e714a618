"""The learning rate as a pure function of the step."""

import math

from gptmodel.params import Training


def rate(step: int, config: Training) -> float:
    """Return the learning rate of step 0 <= step < steps as a share of the peak.

    Linear warm-up, flat, then a fall over the last `warmdown` of the steps to `final_rate`, which would be reached at
    step `steps`: linear, or half a cosine (SGDR, Loshchilov & Hutter 2017, equation 5, without restarts).
    """
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    begin = max(config.warmup_steps, round(config.steps * (1 - config.warmdown)))
    fallen = max(step - begin, 0) / max(config.steps - begin, 1)
    left = (1 + math.cos(math.pi * fallen)) / 2 if config.schedule == "cosine" else 1 - fallen
    return config.final_rate + (1 - config.final_rate) * left
