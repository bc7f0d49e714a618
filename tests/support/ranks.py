"""What the ranks of test_distributed.py run, and the toy training they share with the test.

python -m tests.support.ranks FOLDER SCENE...
"""

import json
import os
import sys
import time
from pathlib import Path
from signal import SIGTERM, signal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from gptmodel.errors import Stopped, UserError, one_line_errors
from gptmodel.training import distributed
from gptmodel.training.distributed import World

ROWS, STEPS = 7, 20  # 7 rows: uneven shares for 2 and for 4 ranks


def trained(world: World) -> npt.NDArray[np.float64]:
    """Return the weights, one after another, and the last loss of a float64 network after 20 AdamW steps."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(30, 16), nn.GELU(), nn.Linear(16, 11)).double()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.03)
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        x_BT = torch.randint(11, (ROWS, 5), generator=generator)
        y_B = x_BT[:, 0]  # something to learn
        mine = world.rows(ROWS)
        loss = F.cross_entropy(network(x_BT[mine]), y_B[mine], reduction="sum") / ROWS
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        world.sum_gradients(network.parameters())
        optimizer.step()
    weights = [parameter.detach().flatten() for parameter in network.parameters()]
    return np.asarray(torch.cat([*weights, world.total(loss)[None]]))


def gradients(world: World) -> list[list[float]]:
    """Return sums of gradients: in two dtypes, of one that only rank 0 has, and of one that nobody wants."""
    both, half, rare = (nn.Parameter(torch.zeros(2, dtype=t)) for t in (torch.float64, torch.bfloat16, torch.float32))
    frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
    both.grad = torch.tensor([1.0, world.rank], dtype=torch.float64)
    half.grad = torch.tensor([0.5, world.rank], dtype=torch.bfloat16)
    if world.is_main:
        rare.grad = torch.tensor([3.0, 4.0])
    kept = both.grad
    world.sum_gradients([both, half, rare, frozen])
    assert both.grad is kept
    assert frozen.grad is None
    return [p.grad.tolist() for p in (both, half, rare)]  # type: ignore[union-attr]


def facts(world: World) -> dict[str, object]:
    """Return what this rank sees of the others."""
    value = torch.tensor([1.0, world.rank])
    received = world.broadcast((torch.arange(3.0), 7) if world.is_main else None)
    assert received is not None
    return {
        "world": [world.rank, world.size, world.local_rank],
        "gradients": gradients(world),
        "total": world.total(value).tolist(),
        "unchanged": value.tolist(),
        "nobody": world.any(False),
        "last rank": world.any(world.rank == world.size - 1),
        "received": [received[0].tolist(), received[1]],
        "device": str(world.device(torch.device("cuda"))),
        "threads": os.environ["OMP_NUM_THREADS"],
    }


def wait_for_a_stop(world: World, folder: Path) -> None:
    """Take steps until any rank is told to stop, and note the step."""
    asked: list[int] = []
    signal(SIGTERM, lambda number, frame: asked.append(number))
    (folder / f"{world.rank}.pid").write_text(str(os.getpid()), encoding="utf-8")
    step = 0
    while not world.any(bool(asked) or world.is_orphan):
        step += 1
        time.sleep(0.02)
    (folder / f"{world.rank}.step").write_text(str(step), encoding="utf-8")
    raise Stopped(SIGTERM, "stopped: run the same command again")


def main() -> None:
    """Run scenes in as many processes as GPTMODEL_PROCESSES says."""
    with one_line_errors():
        distributed.relaunch("tests.support.ranks")
        folder, scenes = Path(sys.argv[1]), sys.argv[2:]
        with distributed.join("cpu") as world:
            if "work" in scenes:
                (folder / f"{world.rank}.json").write_text(json.dumps(facts(world)), encoding="utf-8")
                np.save(folder / f"{world.rank}.npy", trained(world))
            if "stop" in scenes:
                wait_for_a_stop(world, folder)
            if "too few rows" in scenes:
                world.rows(world.size - 1)
            if "rank 1 fails" in scenes and world.rank == 1:
                raise UserError("a value is wrong: mend it")
            if "rank 1 is killed" in scenes and world.rank == 1:
                os.kill(os.getpid(), 9)
            world.total(torch.ones(1))  # breaks where a peer is gone


if __name__ == "__main__":
    main()
