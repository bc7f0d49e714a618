"""The clock that the benchmark stage and the benchmark against peers have in common."""

import itertools
import time
from collections.abc import Callable, Sequence

import pytest

from gptmodel.runtime import timing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves on by one second whenever it is read."""
    now = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))


def decode(prompts: Sequence[Sequence[int]], new_tokens: int, tick: Callable[[], None]) -> list[list[int]]:
    for _ in range(new_tokens):
        tick()
    return [[1] * new_tokens for _ in prompts]


def test_the_rate_is_that_of_all_rows_after_the_first_token(clock: None) -> None:
    assert timing.tokens_per_second(decode, [[5], [6], [7]], 9, repeats=3, warm_up=2) == 3 * 8 / 8


def test_the_first_token_has_its_own_time(clock: None) -> None:
    assert timing.first_token_seconds(decode, [5], repeats=2) == 1


def test_a_decoder_that_gives_another_number_of_tokens_is_refused(clock: None) -> None:
    with pytest.raises(ValueError, match="9 new tokens were asked for: 9 steps, rows of 8"):
        timing.timed(lambda *given: [row[1:] for row in decode(*given)], [[5]], 9)
    with pytest.raises(ValueError, match="9 new tokens were asked for: 8 steps, rows of 9"):
        timing.timed(lambda prompts, new, tick: decode(prompts, new - 1, tick) and [[1] * new], [[5]], 9)


def test_the_repeats_end_when_the_seconds_are_spent_but_there_is_one() -> None:
    runs = iter([(1.0, 2.0), (1.0, 2.0), (0.0, 9.0)])
    assert timing.repeated(lambda: next(runs), 5, seconds=5) == [(1.0, 2.0)] * 2
    assert timing.repeated(lambda: (9.0, 9.0), 5, seconds=1) == [(9.0, 9.0)]
    assert len(timing.repeated(lambda: (9.0, 9.0), 5)) == 5


def test_the_peak_memory_is_at_least_what_was_held() -> None:
    before = timing.peak_memory_bytes()
    held = bytearray(50_000_000)
    held[::4096] = b"x" * len(held[::4096])
    assert timing.peak_memory_bytes() >= before > 1_000_000
    assert timing.peak_memory_bytes() > 50_000_000
