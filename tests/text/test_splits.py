import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.errors import UserError
from gptmodel.params import Split
from gptmodel.text.splits import split

SHARES = st.sampled_from([(0.85, 0.075, 0.075), (0.9, 0.1, 0.0), (0.5, 0.25, 0.25), (0.7, 0.3, 0.0), (0.1, 0.6, 0.3)])


def params(shares: tuple[float, float, float], boundary: str) -> Split:
    return Split.model_validate(
        dict(zip(("train", "validation", "test"), shares, strict=True)) | {"boundary": boundary}
    )


@settings(max_examples=200, deadline=None)
@given(st.text("ab\n\r é…", max_size=300), SHARES, st.sampled_from(["line", "character"]))
def test_the_splits_put_together_are_the_text_or_a_share_is_empty(
    text: str, shares: tuple[float, float, float], boundary: str
) -> None:
    try:
        splits = split(text, params(shares, boundary))
    except UserError:
        return
    assert "".join(splits) == text
    assert all(bool(piece) == bool(share) for piece, share in zip(splits, shares, strict=True))
    if boundary == "line":
        assert splits.train.endswith("\n")
        assert splits.validation.endswith("\n") or not splits.test
    # each cut is at its share, or at the first line start behind it
    for wanted, got in ((shares[0], len(splits.train)), (shares[0] + shares[1], len(splits.train + splits.validation))):
        at = int(len(text) * wanted) if wanted < 1 else len(text)
        assert got == at if boundary == "character" else got >= at and "\n" not in text[at : got - 1]


def test_the_tinyshakespeare_protocol_cuts_exactly_where_nanogpt_does() -> None:
    text = "First Citizen:\nSpeak, speak.\n" * 999
    splits = split(text, params((0.9, 0.1, 0.0), "character"))
    assert splits.train == text[: int(len(text) * 0.9)]
    assert splits.validation == text[int(len(text) * 0.9) :]
    assert splits.test == ""


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_split_that_would_be_empty_is_refused_by_name(name: str) -> None:
    text = "un seul paragraphe sans fin" if name == "validation" else "a\n" * 50 + "b" * 50
    with pytest.raises(UserError, match=rf"split\.{name}.*boundary: character"):
        split(text, params((0.5, 0.25, 0.25), "line"))
