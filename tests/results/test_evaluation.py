from tests.support.cards import results


def test_the_summary_of_the_scores_is_one_line_with_the_splits_that_have_text() -> None:
    both = "validation 2.123 (2.046 to 2.234), test 2.123 (2.046 to 2.234)"
    assert results().metrics.summary() == both
    assert results(has_test=False).metrics.summary() == both.split(", ")[0]
