"""What a training needs is known exactly before it begins; what cannot run is refused at once, nothing else is."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gptmodel import memory, params
from gptmodel.errors import UserError
from gptmodel.model import networks
from gptmodel.params import BigramModel, Engine, GPTModel, Model
from gptmodel.training import demand
from tests.support.closure import ROOT
from tests.support.networks import CONFIGS, VOCAB_SIZE
from tests.support.training import CONFIG, MUON, trainer

EAGER = Engine(precision="float32", execution="eager", nonfinite="stop")
CPU = torch.device("cpu")
GB = 10**9


def model(kind: str, **changes: Any) -> Model:
    values = {**CONFIGS[kind].model_dump(), **CONFIG.model_dump(), "tokenizer": "char", **changes}
    return (BigramModel if kind == "bigram" else GPTModel).model_validate(values)


@pytest.fixture
def present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 24 GB."""
    monkeypatch.setattr(memory, "FACTS", tmp_path / "meminfo")
    memory.FACTS.write_text(f"MemTotal: {24 * GB // 1024} kB\n")


@pytest.mark.parametrize("muon", [0.0, MUON])
@pytest.mark.parametrize("layers", [1, 5])
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_demand_is_what_a_training_holds(kind: str, layers: int, muon: float) -> None:
    changes: dict[str, Any] = {} if kind == "bigram" else {"n_layer": layers}
    trained = trainer(kind, muon_learning_rate=muon, steps=1, **changes)
    list(trained.run())
    asked = demand.of(model(kind, muon_learning_rate=muon, **changes), VOCAB_SIZE)
    weights = networks.weights(trained.network)
    moments = {name: tensor for name, tensor in trained.state()[0].items() if name.startswith("optimizer/")}
    held = 2 * [*weights.values()] + [tensor for name, tensor in moments.items() if not name.endswith("/step")]
    assert asked.parameters == networks.count_parameters(trained.network)
    assert asked.bytes == sum(tensor.nbytes for tensor in held)  # weights, gradients; moments
    assert asked.flops_per_token == networks.flops_per_token(trained.network)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_window_holds_at_least_what_is_said(kind: str) -> None:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    trained = trainer(kind, batch_size=1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trained._stepper.backward(torch.zeros(1, dtype=torch.int64))
    weights = {weight.untyped_storage().data_ptr() for weight in trained.network.parameters()}
    found = sum(size for place, size in kept.items() if place not in weights)
    gradient = 4 * VOCAB_SIZE * trained.network.context  # of the logits: made later
    assert 0 < demand.window_bytes(model(kind), VOCAB_SIZE, on_cpu=True) - gradient <= found


@pytest.mark.parametrize(
    ("kind", "changes", "vocab_size", "words"),
    [
        ("modern", {"n_embd": 100_000, "n_head": 50}, 90, ["n_embd 100000", "80,047,308,000 parameters"]),
        ("modern", {"n_embd": 10**6, "n_head": 62_500, "n_layer": 10_000}, 90, ["n_layer 10000"]),
        ("classic", {"n_hidden": 10**6, "n_layer": 1000}, 90, ["n_hidden 1000000"]),
        ("modern", {"context": 200_000}, 90, ["context 200000"]),
        ("bigram", {}, 10**6, ["1,000,000 tokens"]),
    ],
)
def test_what_cannot_fit_is_refused_within_a_second(
    present: None, kind: str, changes: dict[str, int], vocab_size: int, words: list[str]
) -> None:
    demand.check_memory("mine", model(kind), EAGER, VOCAB_SIZE, CPU, 1)  # whatever torch loads at first
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        demand.check_memory("mine", model(kind, **changes), EAGER, vocab_size, CPU, 1)
    assert time.process_time() - started < 1
    for word in ["params.yaml: models.mine: ", *words, "GB of memory", "24 GB"]:
        assert word in str(caught.value)


def test_every_process_needs_memory_of_its_own(present: None) -> None:
    large = model("modern", n_embd=4096, n_hidden=10_000, n_layer=5, muon_learning_rate=MUON)  # 15.2 GB
    demand.check_memory("mine", large, EAGER, VOCAB_SIZE, CPU, 1)
    with pytest.raises(UserError, match="27 GB of memory"):
        demand.check_memory("mine", large, EAGER, VOCAB_SIZE, CPU, 2)


def test_nothing_is_refused_where_memory_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FACTS", tmp_path / "none")
    demand.check_memory("mine", model("modern", n_embd=10**6, n_head=62_500), EAGER, VOCAB_SIZE, CPU, 1)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_far_from_being_refused(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FACTS", tmp_path / "meminfo")
    memory.FACTS.write_text(f"MemTotal: {2 * GB // 1024} kB\n")
    recipe = params.load(path)
    rate = 1e13 if "gpu" in path.stem or "sprint" in path.stem else 1e10
    said: list[str] = []
    for name, each in recipe.models.items():
        demand.check_memory(name, each, recipe.engine, 5000, CPU, 1)
        demand.check_time(name, each, 5000, rate, said.append)
    assert not said


def test_a_training_of_days_is_said_and_one_of_years_refused() -> None:
    said: list[str] = []
    flops = demand.of(model("modern"), VOCAB_SIZE).flops_per_token
    tokens = CONFIG.steps * CONFIG.batch_size * CONFIGS["modern"].context
    for days in (0.9, 3.0):
        demand.check_time("mine", model("modern"), VOCAB_SIZE, flops * tokens / 86_400 / days, said.append)
    assert said == ["mine: 40 steps of 8 windows take at least 3 days on this machine"]
    with pytest.raises(UserError, match=r"models\.mine: 1,000,000,000 steps .* days on this machine: lower steps"):
        demand.check_time("mine", model("modern", steps=10**9), VOCAB_SIZE, 1e6, said.append)
    demand.check_time("mine", model("bigram", steps=10**9), VOCAB_SIZE, math.inf, said.append)
