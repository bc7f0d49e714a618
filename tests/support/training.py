"""A training of a second or less: its text, its configuration, its trainer.

Also what the ranks of test_distributed_training.py run: python -m tests.support.training FOLDER
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from gptmodel.arrays import Ids
from gptmodel.model import loss, networks
from gptmodel.params import BigramModel, Engine, GPTModel, Training
from gptmodel.results.corpus import SplitName, TextFacts
from gptmodel.results.training import Meta
from gptmodel.training import distributed
from gptmodel.training.distributed import World
from gptmodel.training.precision import Numerics
from gptmodel.training.saved_states import Store
from gptmodel.training.trainer import ALONE, Trainer, Watcher
from tests.support.networks import CONFIGS, CONTEXT, VOCAB_SIZE

CONFIG = Training(
    steps=40,
    batch_size=8,
    windows="shuffled",
    learning_rate=3e-3,
    muon_learning_rate=0.0,
    warmup_steps=4,
    warmdown=0.5,
    schedule="linear",
    final_rate=0.1,
    weight_decay=0.1,
    beta2=0.99,
    gradient_clip=1.0,
    evaluate_every=20,
)
MUON = 0.02  # a muon_learning_rate
IDS = (np.cumsum(np.random.default_rng(0).integers(1, 4, 3000)) % VOCAB_SIZE).astype(np.uint16)
SPLITS: dict[SplitName, Ids] = {"train": IDS[:2500], "validation": IDS[2500:]}
EAGER = Numerics("cpu", "float32", "eager", threads=1)


def meta(kind: str) -> Meta:
    """Return what stands beside the weights of a network of `CONFIGS` that was trained as in `CONFIG`."""
    section = {**CONFIGS[kind].model_dump(), **CONFIG.model_dump(), "tokenizer": "char"}
    section_kind = BigramModel if kind == "bigram" else GPTModel
    return Meta(
        name=kind,
        model=section_kind.model_validate(section),
        engine=Engine(precision="float32", execution="eager", nonfinite="stop"),
        seed=1,
        vocab_size=VOCAB_SIZE,
        tokenizer_sha256="0" * 64,
        text=TextFacts(name="roman", language="fr", typography="fr", splits={}),
        fingerprint="f" * 16,
        best_step=3,
        validation_loss_nats=1.5,
    )


def trainer(
    kind: str = "modern",
    dropout: float = 0.2,
    numerics: Numerics = EAGER,
    dtype: torch.dtype = torch.float32,
    world: World = ALONE,
    device: str = "cpu",
    skip: bool = False,
    said: list[str] | None = None,
    **changes: Any,
) -> Trainer:
    """Return a trainer at its first step, with values of the network and of `CONFIG` changed."""
    torch.manual_seed(5)
    own = {} if kind == "bigram" else {"dropout": dropout}
    own |= {key: changes.pop(key) for key in ("init", "n_layer") if key in changes}
    network = networks.build(CONFIGS[kind].model_copy(update=own), VOCAB_SIZE).to(device, dtype)
    say = (lambda line: None) if said is None else said.append
    return Trainer(network, SPLITS, CONFIG.model_copy(update=changes), 5, numerics, skip, world, say)


def give_gradients(parameters: Iterable[torch.nn.Parameter], seed: int) -> None:
    """Give each parameter a random gradient."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.device)


def contents(tensors: dict[str, Tensor]) -> bytes:
    """Return the bytes of all tensors, in the order of their names."""
    return b"".join(bytes(tensors[name].detach().cpu().flatten().view(torch.uint8).numpy()) for name in sorted(tensors))


def weights(trained: Trainer) -> bytes:
    """Return the bytes of the network's weights."""
    return contents(networks.weights(trained.network))


def saved(trained: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state as it comes back from a disk."""
    tensors, facts = trained.state()
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}, json.loads(json.dumps(facts))


class Stop(Exception):
    """What `Stopper` raises."""


class Stopper(Watcher):
    """A watcher that ends a training at a step boundary, or in the evaluation there."""

    def __init__(self, step: int, in_evaluation: bool = False) -> None:
        self._step, self._in_evaluation = step, in_evaluation

    def stepped(self, trainer: Trainer, note: str) -> None:
        if trainer.step == self._step and not self._in_evaluation:
            raise Stop

    def waiting(self, trainer: Trainer) -> None:
        if trainer.step == self._step and self._in_evaluation:
            raise Stop


SHARED_STEPS, SAVED_STEP = 20, 13  # an evaluation at 10: the training loss is summed over the stop


def shared(world: World, muon: float) -> Trainer:
    """Return a training that several processes can share evenly in no way: 7 windows per step."""
    loss.LOGITS_PER_BATCH = 3 * CONTEXT * VOCAB_SIZE  # many batches: each rank evaluates some
    values: dict[str, Any] = {"steps": SHARED_STEPS, "batch_size": 7, "evaluate_every": 10, "muon_learning_rate": muon}
    return trainer(dropout=0.0, dtype=torch.float64, world=world, init="zero", **values)


class Saver(Watcher):
    """A watcher of process 0 that saves one state."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(folder, 1, print)

    def stepped(self, trainer: Trainer, note: str) -> None:
        if trainer.step == SAVED_STEP and trainer.world.is_main:
            self._store.save(SAVED_STEP, *trainer.state())

    def waiting(self, trainer: Trainer) -> None:
        pass


def main() -> None:
    """Train with each optimizer; every rank writes what it ended with."""
    folder = Path(sys.argv[1])
    with distributed.join("cpu") as world:
        for muon in (0.0, MUON):
            trained = shared(world, muon)
            figures = [astuple(e) for e in trained.run(Saver(folder / f"{muon}-state"))]
            save_file(networks.weights(trained.network), folder / f"{muon}-{world.rank}.safetensors")
            (folder / f"{muon}-{world.rank}.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
