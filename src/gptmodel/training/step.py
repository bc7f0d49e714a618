"""One optimizer step: windows -> loss -> gradients -> weights, eager, compiled, or as one CUDA graph.

Nothing in it waits for the device: learning rate, step number and the verdict on the gradient live there as tensors, so
that the same code can be captured as a CUDA graph. A gradient that is not finite changes neither weights nor moments.

Sources: https://docs.pytorch.org/docs/stable/notes/cuda.html (whole-network capture); `torch.amp.GradScaler` for how an
optimizer is told on the device to skip a step.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptmodel.arrays import Ints
from gptmodel.model.networks import LanguageModel
from gptmodel.params import Training
from gptmodel.training.batches import gather
from gptmodel.training.distributed import World
from gptmodel.training.optim import Optimizer
from gptmodel.training.precision import Numerics

EAGER_BEFORE_CAPTURE = 3  # steps in which kernels are loaded and the optimizers' state is made
NONE = -1  # no step


def window_loss(network: LanguageModel, x_BT: Tensor, y_BT: Tensor, numerics: Numerics, tokens: int) -> Tensor:
    """Return the cost of `y_BT`, in nats, divided by the `tokens` of the global batch (0-d)."""
    with numerics.autocast():
        logits_BTV, _ = network(x_BT)
    logits_BTV = logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))
    return F.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten(), reduction="sum") / tokens


class MicroBatch(NamedTuple):
    """The windows of one forward pass."""

    starts: Ints  # the first token of each
    seed: int  # of the dropout


class DoesNotFit(Exception):
    """Out of memory in a forward or backward pass; weights and moments are as before the step."""


class Step:
    """What a step needs on the device: corpus, weights, optimizer, and a few numbers that live there."""

    def __init__(self, network: LanguageModel, ids: Tensor, config: Training, numerics: Numerics, world: World) -> None:
        """`ids` is the training text, 1-D; it is copied to the network's device."""
        weight = next(network.parameters())
        device, dtype = weight.device, weight.dtype
        self._network = network
        self._config = config
        self._numerics = numerics
        self._world = world
        self._ids = ids.to(device)
        self._tokens = config.batch_size * network.context
        self.optimizer = Optimizer(network, config, dtype if dtype == torch.float64 else numerics.dtype)
        self._loss_sum = torch.zeros((), device=device, dtype=dtype)  # of the steps since the last `pop_loss`
        self._loss_count = torch.zeros((), device=device, dtype=torch.int64)  # how many these are, without skipped ones
        self._loss = torch.zeros((), device=device, dtype=dtype)  # of the last step, of all processes after `update`
        self._rate = torch.zeros((), device=device, dtype=dtype)
        self._number = torch.zeros((), device=device, dtype=torch.int64)
        self._bad_step = torch.full((), NONE, device=device, dtype=torch.int64)
        self._forward = window_loss
        if numerics.execution == "compile":
            # on a CPU the pattern matcher would put the slower fused attention back
            self._forward = torch.compile(window_loss, dynamic=False, options={"pattern_matcher": device.type != "cpu"})
        self._taken = 0
        self._graph: _Graph | None = None

    def take(self, number: int, batches: list[MicroBatch], rate: float) -> None:
        """Take step `number` on the windows of `batches` at `rate` of the peak learning rate.

        Their gradients are summed: that is the gradient of one large batch, however it is cut.
        `DoesNotFit` if smaller micro-batches are needed.
        """
        self._rate.fill_(rate)
        self._number.fill_(number)
        device = self._ids.device
        starts = [torch.from_numpy(batch.starts).to(device, non_blocking=True) for batch in batches]
        if self._is_capturable(batches):
            self._graph = self._graph or _Graph(self, starts[0])
            self._graph.replay(starts[0], batches[0].seed)
        else:
            self._network.zero_grad()
            self._loss.zero_()
            try:
                for batch, batch_starts in zip(batches, starts, strict=True):
                    torch.manual_seed(batch.seed)
                    self.backward(batch_starts)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                raise DoesNotFit from error
            self.update()
        self._taken += 1

    def backward(self, starts: Tensor) -> None:
        """Add the loss and the gradient of these windows."""
        x_BT, y_BT = gather(self._ids, starts, self._network.context)
        loss = self._forward(self._network, x_BT, y_BT, self._numerics, self._tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        self._loss += loss.detach()

    def update(self) -> None:
        """Clip the gradient of all processes and move the weights, unless it is not finite."""
        self._world.sum_gradients(self._network.parameters())
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), self._config.gradient_clip)
        self._loss.copy_(self._world.total(self._loss))
        bad = ~torch.isfinite(norm)
        self.optimizer.step(self._rate, bad.float())
        self._loss_sum += torch.where(bad, 0, self._loss)
        self._loss_count += ~bad
        self._bad_step.copy_(torch.where(bad & (self._bad_step == NONE), self._number, self._bad_step))

    def numbers(self) -> dict[str, Tensor]:
        """Return, by name, what the next evaluation and the next look read; themselves, no copies."""
        return {"loss_sum": self._loss_sum, "loss_count": self._loss_count, "bad_step": self._bad_step}

    def pop_loss(self) -> float:
        """Return the mean loss of the steps since the last call, in nats per token. Waits for the device.

        Skipped steps do not count; NaN without any step.
        """
        total = float(self._loss_sum)
        count = int(self._loss_count)
        self._loss_sum.zero_()
        self._loss_count.zero_()
        return total / count if count else math.nan

    def pop_bad_step(self) -> int | None:
        """Return the first step whose gradient was not finite since the last call. Waits for the device."""
        step = int(self._bad_step)
        self._bad_step.fill_(NONE)
        return None if step == NONE else step

    def last_loss(self) -> float:
        """Return the loss of the last step, in nats per token. Waits for the device."""
        loss: float = self._loss.item()
        return loss

    def free(self) -> None:
        """Give back what a failed attempt holds."""
        self._network.zero_grad()
        if self._ids.is_cuda:
            torch.cuda.empty_cache()

    def _is_capturable(self, batches: list[MicroBatch]) -> bool:
        """A graph holds one whole batch in one process; capturing begins when everything is warm."""
        whole = len(batches) == 1 and self._world.size == 1
        return self._numerics.execution == "graph" and whole and self._taken >= EAGER_BEFORE_CAPTURE


class _Graph:
    """A step captured once and replayed: a thousand kernel launches become one."""

    def __init__(self, step: Step, starts: Tensor) -> None:
        self._starts = starts.clone()
        self._graph = torch.cuda.CUDAGraph()
        step._network.zero_grad()
        with torch.cuda.graph(self._graph):
            step._network.zero_grad()
            step._loss.zero_()
            step.backward(self._starts)
            step.update()

    def replay(self, starts: Tensor, seed: int) -> None:
        """Take one step; the seed of the dropout is read by the graph from torch's generator."""
        self._starts.copy_(starts)
        torch.manual_seed(seed)
        self._graph.replay()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell it from other errors; a CPU's has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
