"""Data-parallel training in several processes (one per GPU, or per group of CPU cores), started by torchrun.

Every rank knows the whole global batch (a pure function of seed and step) and takes its `rows` of it. Its loss is the
SUM over its tokens divided by the GLOBAL number of tokens, so one all-reduce(SUM) over one flat buffer gives the
gradient of the global batch: 1, 2 or 4 processes take the same steps up to rounding. Slices may be uneven, so any
batch_size >= the number of processes will do.

Left out on purpose: `DistributedDataParallel`. Its gain, communication during the backward pass, does not matter below
about 100M parameters, and its mean over ranks is wrong for uneven slices. Sharded weights likewise.

Source: the PyTorch documentation of `torch.distributed` and `torchrun`.
"""

import logging
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from gptmodel.errors import Stopped, UserError

PROCESSES = "GPTMODEL_PROCESSES"  # environment variable: how many processes `relaunch` starts
TIMEOUT = timedelta(hours=1)  # of a collective: rank 0 may write samples while the others wait
GRACE_SECONDS = 2.0  # torchrun notices a dead rank within 0.1 s and then ends the others

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among the `size` processes of a training; alone (size 1) it communicates with nobody.

    >>> [World(rank, 3, rank).rows(8) for rank in range(3)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """

    rank: int
    size: int
    local_rank: int  # the rank on this machine, and the number of its GPU
    control: dist.ProcessGroup | None = field(default=None, repr=False)  # for CPU tensors; None: the default group
    launcher: int = field(default_factory=os.getppid, repr=False)  # process id of torchrun

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes and tracks."""
        return self.rank == 0

    @property
    def is_orphan(self) -> bool:
        """Whether torchrun, which started this rank, is gone; a process that is alone never is."""
        return self.size > 1 and os.getppid() != self.launcher

    def device(self, device: torch.device) -> torch.device:
        """Return this rank's own device of the kind of `device`."""
        return torch.device("cuda", self.local_rank) if self.size > 1 and device.type == "cuda" else device

    def rows(self, total: int) -> slice:
        """Return this rank's share of `total` rows; in the order of the ranks the shares are exactly all rows.

        Their sizes differ by one at most. `UserError` if there are fewer rows than processes.
        """
        if total < self.size:
            raise UserError(
                f"batch_size {total} is smaller than the number of processes, {self.size}: "
                f"raise batch_size in params.yaml or start at most {total} processes"
            )
        return slice(total * self.rank // self.size, total * (self.rank + 1) // self.size)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace, in place, each gradient by its sum over the ranks: the same bytes on every rank.

        The order must be the same on every rank. A parameter without gradient counts as zero, and has one afterwards.
        """
        if self.size == 1:
            return
        by_dtype: defaultdict[torch.dtype, list[torch.Tensor]] = defaultdict(list)
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                by_dtype[parameter.dtype].append(parameter.grad)
        for gradients in by_dtype.values():
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            self._all_reduce(flat)
            pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
            for gradient, piece in zip(gradients, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of `value` over the ranks, on every rank; without its gradient."""
        if self.size == 1:
            return value.detach()
        summed = value.detach().clone()
        self._all_reduce(summed)
        return summed

    def any(self, flag: bool) -> bool:
        """Return, on every rank, whether `flag` is true on one. On the CPU: it does not wait for the GPU."""
        if self.size == 1:
            return flag
        votes = torch.tensor(int(flag))
        self._all_reduce(votes)
        return bool(votes)

    def broadcast(self, value: T) -> T:
        """Return rank 0's `value` on every rank: anything that pickles, its tensors on the CPU."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def _all_reduce(self, tensor: torch.Tensor) -> None:
        dist.all_reduce(tensor, group=self.control if tensor.is_cpu else None)


@contextmanager
def join(device_type: str) -> Iterator[World]:
    """Join the other ranks if torchrun started several (RANK, WORLD_SIZE, LOCAL_RANK... are set), else be alone.

    `Stopped`, on which all ranks agree, is left to rank 0 to tell. A failure is told once as well: rank 0 tells a
    `UserError` at once; the other ranks, and one whose collective broke because a peer is gone, first leave torchrun
    the time to end them. After a failure only the gloo group is destroyed: the end of an nccl group waits for ranks
    that may never come (pytorch/torchtitan#1342).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(0, 1, 0)
        return
    rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    control = None
    try:
        control = _connect(device_type, local_rank)
        yield World(rank, size, local_rank, control)
    except Stopped as stopped:
        if dist.is_initialized():
            dist.destroy_process_group()
        if rank > 0:
            raise SystemExit(128 + stopped.signum) from None
        raise
    except BaseException as error:
        if isinstance(error, RuntimeError) or (isinstance(error, UserError) and rank > 0):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(GRACE_SECONDS)
        if dist.is_initialized():
            dist.destroy_process_group(control)  # without this, gloo aborts many a process at its exit
        raise
    dist.destroy_process_group()


def _connect(device_type: str, local_rank: int) -> dist.ProcessGroup | None:
    """Initialise the default group, gloo or (for CUDA) nccl; return a gloo group for CPU tensors if that is another."""
    if device_type not in ("cpu", "cuda"):
        raise UserError(f"device: {device_type} trains in one process only: unset {PROCESSES} or set device: cpu")
    if device_type == "cpu":
        dist.init_process_group("gloo", timeout=TIMEOUT)
        return None
    wanted, visible = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if wanted > visible:
        raise UserError(f"{wanted} processes on a machine with {visible} visible GPUs: start at most {visible}")
    torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl", timeout=TIMEOUT)
    control: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=TIMEOUT)
    return control


def relaunch(module: str) -> None:
    """If GPTMODEL_PROCESSES is N > 1: run `python -m MODULE ARGS...` in N processes, then exit as they did.

    This process becomes torchrun, without the long report that torchrun prints after an error which the rank itself has
    told. It forwards SIGTERM and SIGINT to the ranks and kills those that still run after 30 seconds. Exit code: that
    of the first rank to fail, or 128 + the signal. Returns if N is 1, or in a process that torchrun started.
    """
    if "RANK" in os.environ:
        return
    count = os.environ.get(PROCESSES, "1")
    if not count.isdecimal() or int(count) < 1:
        raise UserError(f"{PROCESSES}={count} is no whole number >= 1: set the number of processes, or unset it")
    if int(count) == 1:
        return
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // int(count))))
    logging.disable(logging.CRITICAL)  # torchrun's own log; the ranks are other processes
    try:
        run.main(["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={count}", "-m", module, *sys.argv[1:]])
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            raise SystemExit(failure.exitcode) from None
        raise UserError(
            f"process {rank} was ended by {failure.signal_name()} (SIGKILL often means: out of memory): "
            "run the same command again"
        ) from None
    raise SystemExit(0)
