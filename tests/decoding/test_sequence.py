from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.decoding.sampling import InvalidSetting, Sampling
from gptmodel.decoding.sequence import Settings, StopFilter

FREE = Sampling(temperature=1.0)


@settings(max_examples=60, deadline=None)
@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_a_stop_filter_gives_the_same_however_the_text_is_cut(text: str, stop: list[str], data: st.DataObject) -> None:
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    expected = text[: min(ends)[1]] if ends else text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    filter, passed = StopFilter(stop), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        passed.append(filter.push(text[start:end]))
        held = text[:end].removeprefix("".join(passed))
        assert filter.stopped or any(s.startswith(held) for s in [*stop, ""]) or not held
    assert "".join(passed) + filter.flush() == expected
    assert filter.stopped == bool(ends)


@pytest.mark.parametrize(
    ("values", "name"),
    [((0, FREE, 0), "max_new_tokens"), ((1, FREE, -1), "seed"), ((1, FREE, 0, ("a", "")), "stop")],
)
def test_settings_that_make_no_sense_are_named(values: tuple[Any, ...], name: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        Settings(*values)
    assert error.value.field == name
    assert str(error.value) == f"{name} {error.value.reason}"
