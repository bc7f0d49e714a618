import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.data import windows


@settings(max_examples=200, deadline=None)
@given(tokens=st.integers(1, 200), context=st.integers(1, 12), data=st.data())
def test_a_plan_scores_every_token_but_the_first_once_and_in_order(
    tokens: int, context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context))
    planned = windows.plan(tokens, context, stride)
    scored = [window.first_scored + i for window in planned for i in range(window.scored)]
    assert scored == list(range(1, tokens))
    for number, window in enumerate(planned):
        assert window.start == number * stride
        assert window.length == min(context, tokens - 1 - window.start)
        assert window.first_scored - window.start > (context - stride if number else 0)  # the past that it sees


@given(tokens=st.integers(1, 200), context=st.integers(1, 12), most=st.integers(1, 50))
def test_batches_hold_the_windows_in_order_and_never_mix_lengths(tokens: int, context: int, most: int) -> None:
    planned = windows.plan(tokens, context)
    batches = windows.batches(planned, most)
    assert [window for batch in batches for window in batch] == planned
    for batch in batches:
        assert len({window.length for window in batch}) == 1
        assert len(batch) == 1 or sum(window.length for window in batch) <= most


@given(tokens=st.integers(1, 300), length=st.integers(1, 12))
def test_spread_windows_are_stretches_from_the_beginning_to_the_end(tokens: int, length: int) -> None:
    ids = np.arange(tokens, dtype=np.uint16)
    spread_NT = windows.spread(ids, min(length, tokens))
    assert (np.diff(spread_NT, axis=1) == 1).all()
    assert (np.diff(spread_NT[:, 0]) > 0).all()
    assert set(spread_NT.flatten().tolist()) == set(range(tokens))  # so short a text is read whole
