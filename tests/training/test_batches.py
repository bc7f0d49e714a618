"""Laws of the training windows: pure in (seed, step), and in shuffled order every epoch reads the text once."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gptmodel.errors import UserError
from gptmodel.training.batches import Windows, check_context, gather
from gptmodel.training.distributed import World

ORDERS = ["shuffled", "random"]


@st.composite
def texts(draw: st.DrawFn) -> dict[str, Any]:
    """Draw everything but the order; often the shortest text possible."""
    context = draw(st.integers(1, 20))
    return {
        "context": context,
        "tokens": context + draw(st.one_of(st.just(1), st.integers(1, 200))),
        "batch_size": draw(st.integers(1, 40)),
        "seed": draw(st.integers(0, 2**40)),
    }


def epoch(windows: Windows, number: int) -> list[int]:
    """Return the first tokens of all windows of one epoch, from the batches that they lie in."""
    first, last = number * windows.per_epoch, (number + 1) * windows.per_epoch
    steps = range(first // windows.batch_size, -(-last // windows.batch_size))
    starts = np.concatenate([windows.starts(step) for step in steps])
    skipped = first - steps[0] * windows.batch_size
    found: list[int] = starts[skipped : skipped + windows.per_epoch].tolist()
    return found


@settings(max_examples=200, deadline=None)
@given(values=texts(), number=st.integers(0, 3))
def test_an_epoch_reads_the_text_once_but_for_its_ends(values: dict[str, Any], number: int) -> None:
    windows = Windows(**values, order="shuffled")
    tokens, context = windows.tokens, windows.context
    starts = sorted(epoch(windows, number))
    assert np.diff(starts).tolist() == [context] * (len(starts) - 1)  # below each other: no gap, no overlap
    assert 0 <= starts[0] < context
    unread = tokens - 1 - (starts[-1] + context)  # the last window predicts the token after it, which is in the text
    assert 0 <= unread <= 2 * (context - 1)
    assert starts[0] + unread <= 2 * (context - 1)


@settings(max_examples=100, deadline=None)
@given(values=texts(), order=st.sampled_from(ORDERS), step=st.integers(0, 10**9))
def test_a_batch_is_a_pure_function_of_seed_and_step(values: dict[str, Any], order: Any, step: int) -> None:
    once = Windows(**values, order=order).starts(step)
    Windows(**values, order=order).starts(step + 1)
    Windows(**values | {"seed": values["seed"] + 1}, order=order).starts(step)
    again = Windows(**values, order=order).starts(step)
    assert once.dtype == again.dtype == np.int64
    assert once.tolist() == again.tolist()
    assert len(once) == values["batch_size"]
    assert once.min() >= 0
    assert once.max() + values["context"] < values["tokens"]


@settings(max_examples=50, deadline=None)
@given(values=texts(), order=st.sampled_from(ORDERS), ranks=st.integers(1, 8), step=st.integers(0, 100))
def test_the_ranks_rows_below_each_other_are_the_global_batch(
    values: dict[str, Any], order: Any, ranks: int, step: int
) -> None:
    assume(values["batch_size"] >= ranks)
    starts = Windows(**values, order=order).starts(step)
    parts = [starts[World(rank, ranks, rank).rows(len(starts))] for rank in range(ranks)]
    assert np.concatenate(parts).tolist() == starts.tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_seeds_steps_and_epochs_differ(order: Any) -> None:
    def draw(seed: int, step: int) -> bytes:
        return Windows(1000, 8, 16, seed, order).starts(step).tobytes()

    assert len({draw(1, 2), draw(1, 3), draw(2, 2), draw(2, 1)}) == 4
    windows = Windows(1000, 8, 16, 1, order)
    assert len({tuple(epoch(windows, number)) for number in range(5)}) == 5


def test_every_phase_comes_and_every_window_comes_at_every_place() -> None:
    windows = Windows(tokens=30, context=5, batch_size=4, seed=0, order="shuffled")
    epochs = [epoch(windows, number) for number in range(300)]
    assert {starts[0] % 5 for starts in epochs} == set(range(5))
    assert {(starts[0] - starts[0] % 5) // 5 for starts in epochs} == set(range(windows.per_epoch))


def test_a_batch_can_lie_across_two_epochs_and_hold_many() -> None:
    across = Windows(tokens=23, context=4, batch_size=3, seed=1, order="shuffled")
    assert across.per_epoch == 4
    one, two = (Windows(tokens=23, context=4, batch_size=4, seed=1, order="shuffled").starts(step) for step in (0, 1))
    assert across.starts(1).tolist() == [one[3], two[0], two[1]]
    many = Windows(tokens=23, context=4, batch_size=8, seed=1, order="shuffled").starts(0)
    assert many.tolist() == [*one, *two]


def test_random_windows_reach_both_ends() -> None:
    windows = Windows(tokens=12 + 3, context=12, batch_size=4, seed=0, order="random")
    assert {start for step in range(50) for start in windows.starts(step).tolist()} == {0, 1, 2}


@pytest.mark.parametrize("order", ORDERS)
def test_the_shortest_text_is_one_window(order: Any) -> None:
    windows = Windows(tokens=13, context=12, batch_size=3, seed=0, order=order)
    x, y = gather(torch.arange(13, dtype=torch.int32), torch.from_numpy(windows.starts(9)), 12)
    assert x.tolist() == [list(range(12))] * 3
    assert torch.equal(y, x + 1)
    assert x.dtype == torch.int64


def test_a_context_longer_than_a_split_is_refused_by_name() -> None:
    ids = np.arange(100, dtype=np.uint16)
    check_context(12, {"train": ids, "validation": ids[:13], "test": ids[:0]}, "gpt-char")  # an empty split is not used
    with pytest.raises(UserError, match=r"models.gpt-char.context: 12 .* validation split \(12 tokens\)"):
        check_context(12, {"train": ids, "validation": ids[:12]}, "gpt-char")
