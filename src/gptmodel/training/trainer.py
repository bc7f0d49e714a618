"""The training loop. It yields an `Evaluation` at step 0, every `evaluate_every` steps and at the end.

Batch and dropout of a step are pure functions of (seed, step), and `state` holds everything else that the next step
depends on: a training that goes on from a state ends in the same bytes as one that was never stopped. Several
processes slice the same global batch. The loop knows no disk, no MLflow, no tokenizer: whoever iterates decides what
to keep, and a `Watcher` is asked at every step boundary.

Source of the shape of the loop: karpathy/nanoGPT `train.py`.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gptmodel.arrays import Ids, Ints
from gptmodel.errors import UserError
from gptmodel.model import networks
from gptmodel.model.loss import total_nats
from gptmodel.model.networks import LanguageModel
from gptmodel.params import Training
from gptmodel.results.corpus import SplitName
from gptmodel.training import schedule
from gptmodel.training.batches import Windows
from gptmodel.training.distributed import World
from gptmodel.training.precision import Numerics
from gptmodel.training.step import DoesNotFit, MicroBatch, Step

ALONE = World(rank=0, size=1, local_rank=0)
LOOK_EVERY = 10  # steps: asking a GPU how it goes means waiting for it


@dataclass(frozen=True)
class Evaluation:
    """How training stands after `step` optimizer steps; losses are nats per token."""

    step: int
    tokens: int
    train_loss_nats: float  # mean over the batches since the last evaluation, dropout included
    validation_nats: float  # of the whole validation split
    learning_rate: float  # of AdamW, at the last step
    tokens_per_second: float  # training only, evaluations excluded
    is_best: bool  # the lowest validation loss so far


class Watcher(Protocol):
    """Who is asked while a training runs; what it raises ends the training, whose `state` is then whole."""

    def stepped(self, trainer: "Trainer", note: str) -> None:
        """A step boundary; `note` says how it goes, at times."""

    def waiting(self, trainer: "Trainer") -> None:
        """A pause inside an evaluation."""


class Unwatched:
    """A watcher that lets the training run."""

    def stepped(self, trainer: "Trainer", note: str) -> None:
        """Go on."""

    def waiting(self, trainer: "Trainer") -> None:
        """Go on."""


class Trainer:
    """One training: a network, its optimizer, and where it stands."""

    def __init__(
        self,
        network: LanguageModel,
        splits: Mapping[SplitName, Ids],
        config: Training,
        seed: int,
        numerics: Numerics,
        skip_nonfinite: bool = False,
        world: World = ALONE,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Train `network` in place, on its device, on `splits["train"]`.

        A step whose gradient is not finite ends the training, or is left out with `skip_nonfinite`. `say` prints what
        is unusual.
        """
        self.network = network
        self.config = config
        self.numerics = numerics
        self.world = world
        self.device = next(network.parameters()).device
        self._validation = splits["validation"]
        self._windows = Windows(len(splits["train"]), network.context, config.batch_size, seed, config.windows)
        self._rows = world.rows(config.batch_size)
        self._seed = seed
        self._skip_nonfinite = skip_nonfinite
        self._say = say
        self._stepper = Step(network, torch.from_numpy(splits["train"].astype(np.int32)), config, numerics, world)
        self.step = 0
        self.micro_batch = config.batch_size  # windows per forward pass, at most
        self.best_nats = math.inf
        self._steps_timed = 0  # since the last evaluation
        self._seconds = 0.0  # that they took

    @property
    def tokens_per_step(self) -> int:
        """Tokens of the global batch."""
        return self.config.batch_size * self.network.context

    def run(self, watcher: Watcher | None = None) -> Iterator[Evaluation]:
        """Train to the last step. `UserError` if a loss or gradient stops being finite."""
        watcher = watcher or Unwatched()
        self.network.train()
        while True:
            if self.step % self.config.evaluate_every == 0 or self.step == self.config.steps:
                yield self._evaluate(watcher)
            if self.step == self.config.steps:
                return
            started = time.perf_counter()
            self._advance()
            note = self._look() if self._is_time_to_look() else ""
            self._seconds += time.perf_counter() - started
            watcher.stepped(self, note)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a training needs to go on from here: tensors by name, and JSON-able facts."""
        tensors = {f"network/{name}": tensor for name, tensor in networks.weights(self.network).items()}
        tensors |= {f"optimizer/{name}": tensor for name, tensor in self._stepper.optimizer.state().items()}
        tensors |= self._stepper.numbers()
        facts = {
            "step": self.step,
            "steps_timed": self._steps_timed,
            "seconds": self._seconds,
            "best_nats": self.best_nats,
            "micro_batch": self.micro_batch,
        }
        return tensors, facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a `state` of the same training."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        networks.load_weights(self.network, under("network/"))
        self._stepper.optimizer.load(under("optimizer/"))
        for name, number in self._stepper.numbers().items():
            number.copy_(tensors[name])
        self.step = facts["step"]
        self.micro_batch = facts["micro_batch"]
        self.best_nats = facts["best_nats"]
        self._steps_timed = facts["steps_timed"]
        self._seconds = facts["seconds"]

    def _advance(self) -> None:
        """Take one optimizer step; out of memory means smaller pieces of the same batch."""
        starts = self._windows.starts(self.step)[self._rows]
        rate = schedule.rate(self.step, self.config)
        while True:
            try:
                self._stepper.take(self.step, self._micro_batches(starts), rate)
                break
            except DoesNotFit:
                self._halve()
        self.step += 1
        self._steps_timed += 1

    def _micro_batches(self, starts: Ints) -> list[MicroBatch]:
        """Return this process's windows, cut; the seed of each dropout is a function of (step, row)."""
        batches = []
        for first in range(0, len(starts), self.micro_batch):
            row = self._rows.start + first
            seed = np.random.SeedSequence([self._seed, self.step, row]).generate_state(1)[0]
            batches.append(MicroBatch(starts[first : first + self.micro_batch], int(seed)))
        return batches

    def _halve(self) -> None:
        """Go on with half the windows per forward pass, the same ones per step."""
        windows = min(self.micro_batch, self._rows.stop - self._rows.start)
        if windows == 1:
            raise UserError("out of memory with a single window: lower context, n_embd or n_layer in params.yaml")
        self.micro_batch = (windows + 1) // 2
        self._stepper.free()
        self._say(f"out of memory: {self.micro_batch} windows at a time from step {self.step} on, same batch per step")

    def _is_time_to_look(self) -> bool:
        return self.device.type == "cpu" or self.step % LOOK_EVERY == 0 or self.step == self.config.steps

    def _look(self) -> str:
        """Read loss and gradient of the last step: refuse or count what is not finite, and say how it goes."""
        bad_step = self._stepper.pop_bad_step()
        if bad_step is not None and not self._skip_nonfinite:
            raise UserError(
                f"step {bad_step}: the gradient is not finite; the weights were not touched: lower learning_rate, or "
                "engine.nonfinite: skip in params.yaml"
            )
        if bad_step is not None:
            self._say(f"step {bad_step} skipped: its gradient is not finite")
        return f"loss {self._stepper.last_loss():.3f}"

    def _evaluate(self, watcher: Watcher) -> Evaluation:
        """Score the whole validation split; on return, sums begin anew."""
        share = (self.world.rank, self.world.size)
        own = total_nats(self.network, self._validation, self.device, share, lambda: watcher.waiting(self))
        validation_nats = float(self.world.total(torch.tensor(own, dtype=torch.float64)))
        if not math.isfinite(validation_nats):
            raise UserError(
                f"training diverged at or before step {self.step} (loss is not finite): lower learning_rate"
            )
        evaluation = Evaluation(
            step=self.step,
            tokens=self.step * self.tokens_per_step,
            train_loss_nats=self._stepper.pop_loss(),
            validation_nats=validation_nats,
            learning_rate=schedule.rate(max(self.step - 1, 0), self.config) * self.config.learning_rate,
            tokens_per_second=self._steps_timed * self.tokens_per_step / self._seconds if self._seconds else math.nan,
            is_best=validation_nats < self.best_nats,
        )
        self.best_nats = min(self.best_nats, validation_nats)
        self._steps_timed = 0
        self._seconds = 0.0
        return evaluation
