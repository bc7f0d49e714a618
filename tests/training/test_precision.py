"""How a machine computes is chosen by what it can do, and what it lacks is said."""

import json
import shutil
import time
from typing import Any

import pytest
import torch

from gptmodel.errors import UserError
from gptmodel.params import Engine
from gptmodel.training import precision as choice
from gptmodel.training.precision import Numerics, choose, matrix_rate
from tests.support.training import EAGER, MUON, SPLITS, trainer

CPU = torch.device("cpu")


def chosen(monkeypatch: pytest.MonkeyPatch, faster: float = 1.0, **engine: Any) -> tuple[Numerics, float, list[str]]:
    """Choose on a machine whose bfloat16 products are so many times `faster`."""
    rates = {torch.float32: 1e9, torch.bfloat16: faster * 1e9}
    monkeypatch.setattr(choice, "matrix_rate", lambda device, dtype, size: rates[dtype])
    said: list[str] = []
    values = {"precision": "auto", "execution": "eager", "nonfinite": "stop", **engine}
    return *choose(Engine(**values), CPU, said.append), said


@pytest.mark.parametrize(("faster", "precision"), [(0.4, "float32"), (1.2, "float32"), (2.5, "bfloat16")])
def test_auto_takes_bfloat16_where_it_is_clearly_faster(
    faster: float, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, rate, said = chosen(monkeypatch, faster)
    assert (found.precision, found.device, found.execution) == (precision, "cpu", "eager")
    assert rate == (faster * 1e9 if precision == "bfloat16" else 1e9)
    assert said == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_the_parameters_say_counts_whatever_the_machine_is_good_at(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for faster in (0.1, 10.0):
        assert chosen(monkeypatch, faster, precision=precision)[0].precision == precision


def test_a_cuda_graph_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"engine.execution: graph needs a CUDA device: set eager or compile"):
        chosen(monkeypatch, execution="graph")


def test_compile_without_a_compiler_is_said_and_goes_on_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found, _, (line,) = chosen(monkeypatch, execution="compile")
    assert found.execution == "eager"
    assert "C++ compiler" in line
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found, _, said = chosen(monkeypatch, execution="compile")
    assert (found.execution, said) == ("compile", [])


def test_what_was_chosen_survives_json() -> None:
    found = Numerics("cpu", "bfloat16", "eager", threads=3)
    assert Numerics(**json.loads(json.dumps(found.as_dict()))) == found


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_matrix_products_are_computed_in_the_chosen_precision(precision: Any, dtype: torch.dtype) -> None:
    a = torch.ones(2, 2)
    found = Numerics("cpu", precision, "eager", threads=1)
    with found.autocast():
        assert (a @ a).dtype == found.dtype == dtype


def test_the_rate_is_that_of_a_product_of_two_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e6 < matrix_rate(CPU, torch.float32, 64) < 1e15
    seconds = iter([0, 100, 0, 2, 0, 4, 0, 2, 0, 9, 0, 1])  # a slow first product and five others, median 2
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))
    assert matrix_rate(CPU, torch.float32, 10) == 2 * 10**3 / 2


@pytest.mark.parametrize("muon", [0.0, MUON])
def test_a_bfloat16_training_lands_near_the_float32_one(muon: float) -> None:
    values: dict[str, Any] = {"learning_rate": 1e-2, "dropout": 0.0, "muon_learning_rate": muon}
    plain = list(trainer(**values).run())
    short = trainer(**values, numerics=Numerics("cpu", "bfloat16", "eager", threads=1))
    found = list(short.run())
    assert all(parameter.dtype == torch.float32 for parameter in short.network.parameters())
    tokens = len(SPLITS["validation"])
    assert found[-1].validation_nats / tokens == pytest.approx(plain[-1].validation_nats / tokens, abs=0.05)
    assert found[-1].validation_nats != plain[-1].validation_nats
    assert EAGER.precision == "float32"
