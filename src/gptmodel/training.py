"""The training loop. It yields an `Evaluation` at step 0, every `evaluate_every` steps and at the end.

Batch and dropout of a step are pure functions of (seed, step). The loop knows no disk, no MLflow, no tokenizer:
whoever iterates decides what to keep.

Source of the shape of the loop: karpathy/nanoGPT `train.py`.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from gptmodel import optim
from gptmodel.batches import Ids, batch
from gptmodel.errors import UserError
from gptmodel.evaluation import total_nats
from gptmodel.networks import LanguageModel
from gptmodel.params import Training

LOSS_SHOWN_EVERY = 10  # steps: reading the loss waits for the GPU


@dataclass(frozen=True)
class Evaluation:
    """How training stands after `step` optimizer steps; losses are nats per token."""

    step: int
    tokens: int
    train_loss_nats: float  # mean over the batches since the last evaluation, dropout included
    validation_nats: float  # of the whole validation split
    learning_rate: float
    tokens_per_second: float  # training only, evaluations excluded
    is_best: bool  # the lowest validation cost so far


def train(
    network: LanguageModel,
    splits: Mapping[str, Ids],
    config: Training,
    seed: int,
    device: torch.device,
    on_step: Callable[[int, str], None] = lambda step, note: None,
) -> Iterator[Evaluation]:
    """Train `network` in place on `splits["train"]`; between two yields lie `evaluate_every` steps.

    `on_step(steps_done, note)` reports progress. `UserError` if the loss stops being finite.
    """
    optimizer = optim.adamw(network, config)
    best = math.inf
    loss_sum, steps_summed, seconds = torch.zeros((), device=device), 0, 0.0
    network.train()
    for step in range(config.steps + 1):
        if step % config.evaluate_every == 0 or step == config.steps:
            validation_nats = total_nats(network, splits["validation"], device)
            if not math.isfinite(validation_nats):
                raise UserError(f"training diverged at or before step {step} (loss is not finite): lower learning_rate")
            per_step = config.batch_size * network.context
            yield Evaluation(
                step=step,
                tokens=step * per_step,
                train_loss_nats=float(loss_sum) / steps_summed if steps_summed else math.nan,
                validation_nats=validation_nats,
                learning_rate=optim.learning_rate(max(step - 1, 0), config),
                tokens_per_second=steps_summed * per_step / seconds if seconds else math.nan,
                is_best=validation_nats < best,
            )
            best = min(best, validation_nats)
            loss_sum, steps_summed, seconds = torch.zeros((), device=device), 0, 0.0
        if step == config.steps:
            return
        started = time.perf_counter()
        loss = _step(network, optimizer, splits["train"], config, seed, step, device)
        loss_sum += loss
        steps_summed += 1
        if step % LOSS_SHOWN_EVERY == 0 or (step + 1) % config.evaluate_every == 0:
            on_step(step + 1, f"loss {float(loss):.3f}")
        seconds += time.perf_counter() - started


def _step(
    network: LanguageModel,
    optimizer: torch.optim.Optimizer,
    ids: Ids,
    config: Training,
    seed: int,
    step: int,
    device: torch.device,
) -> torch.Tensor:
    """Take one optimizer step and return its loss, detached, on the device."""
    x_BT, y_BT = batch(ids, seed, step, config.batch_size, network.context)
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))  # dropout
    logits_BTV, _ = network(torch.from_numpy(x_BT).to(device))
    loss = F.cross_entropy(logits_BTV.flatten(0, 1).float(), torch.from_numpy(y_BT).to(device).flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
    for group in optimizer.param_groups:
        group["lr"] = optim.learning_rate(step, config)
    optimizer.step()
    return loss.detach()
