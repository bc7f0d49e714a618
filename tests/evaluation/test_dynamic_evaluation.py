import copy
import math

import numpy as np
import pytest
import torch

from gptmodel.evaluation.dynamic_evaluation import PULL, dynamic_nats
from gptmodel.model.loss import total_nats
from tests.support.networks import CONFIGS, CONTEXT, VOCAB_SIZE, build

CPU = torch.device("cpu")
IDS = np.random.default_rng(2).integers(VOCAB_SIZE, size=200).astype(np.uint16)
REPETITIVE = np.tile(np.arange(7, dtype=np.uint16), 60)
RATE = 0.02


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("length", [1, 2, CONTEXT, CONTEXT + 1, CONTEXT + 2, 200])
def test_a_network_that_does_not_learn_pays_what_it_pays(kind: str, length: int) -> None:
    network = build(kind)
    assert dynamic_nats(network, IDS[:length], CPU, rate=0) == pytest.approx(
        total_nats(network, IDS[:length], CPU), rel=1e-5
    )


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_the_first_window_is_scored_before_anything_is_learned(kind: str) -> None:
    network, window = build(kind), IDS[: CONTEXT + 1]
    assert dynamic_nats(network, window, CPU, rate=0.5) == pytest.approx(total_nats(network, window, CPU), rel=1e-5)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_each_window_is_scored_by_weights_that_learned_the_windows_before_it_only(kind: str) -> None:
    """Written out: a step along the gradient, `RATE` times as long as the trained tensor, then part of the way back."""
    network, by_hand = build(kind), math.log(VOCAB_SIZE)
    trained = copy.deepcopy(network)
    learner = copy.deepcopy(network)
    for start in range(0, 40, CONTEXT):
        window = torch.from_numpy(IDS[start : min(start + CONTEXT + 1, 41)].astype(np.int64))
        logits_1TV, _ = learner(window[None, :-1])
        mean = -logits_1TV[0].log_softmax(-1)[range(len(window) - 1), window[1:]].mean()
        by_hand += float(mean.detach()) * (len(window) - 1)
        learner.zero_grad()
        mean.backward()
        with torch.no_grad():
            for tensor, before in zip(learner.parameters(), trained.parameters(), strict=True):
                if tensor.grad is not None and tensor.grad.norm() > 0:
                    tensor.sub_(RATE * before.norm() * tensor.grad / tensor.grad.norm())
                tensor.add_(PULL * (before - tensor))
    assert dynamic_nats(network, IDS[:41], CPU, RATE) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_later_token_changes_no_earlier_cost(kind: str) -> None:
    """What a text costs more than its beginning is the cost of its last token, whichever that is: they sum to one."""
    network, length = build(kind), CONTEXT + 5
    before = dynamic_nats(network, IDS[:length], CPU, RATE)
    last = [
        dynamic_nats(network, np.append(IDS[:length], np.uint16(token)), CPU, RATE) - before
        for token in range(VOCAB_SIZE)
    ]
    assert np.exp(-np.array(last)).sum() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_what_repeats_itself_gets_cheaper(kind: str) -> None:
    network = build(kind)
    assert dynamic_nats(network, REPETITIVE, CPU, RATE) < 0.95 * total_nats(network, REPETITIVE, CPU)


def test_the_callers_network_stays_as_it_was_and_the_same_text_costs_the_same() -> None:
    network = build("classic").train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    before = copy.deepcopy(network.state_dict())
    assert dynamic_nats(network, IDS, CPU, RATE) == dynamic_nats(network, IDS, CPU, RATE)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
