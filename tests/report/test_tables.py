from gptmodel.report import tables
from gptmodel.report.results import Everything
from gptmodel.results.samples import Samples
from tests.support import records, runs


def two_models(a: tuple[float, float], b: tuple[float, float], has_test: bool = True) -> Everything:
    """Return a run of two models, each with its bits on test and on validation (which is all, without a test text)."""
    metrics = {
        name: records.metrics(test if has_test else validation, has_test, validation)
        for name, (test, validation) in {"gpt": a, "word": b}.items()
    }
    models = {name: runs.model(name, has_test, metrics=scores) for name, scores in metrics.items()}
    return runs.run(has_test).model_copy(update={"models": models})


def test_the_best_model_on_test_comes_first_beside_its_baselines() -> None:
    run = two_models((2.5, 2.0), (2.25, 2.2))
    table = tables.comparison(run)
    assert list(table["model"]) == ["word", "gpt"]
    assert list(table["test_bits_per_char"]) == [2.25, 2.5]
    assert list(table["bigram_bits_per_char"]) == [3.4, 3.4]
    *lines, blank, baselines = tables.comparison_markdown(run).splitlines()
    assert (len(lines), blank) == (4, "")
    assert len({line.count("|") for line in lines}) == 1
    assert "| word | 1,000 | 2.200 | **2.250** | 2.150 | 2.350 |" in lines[2]
    assert lines[0].endswith("| trained in (min:s) | training tokens/s | ONNX tokens/s |")
    assert lines[2].endswith("| 7:05 | 12,345 | 900 |")
    assert baselines.startswith("The baselines, in bits per character of test: uniform 6.500, unigram 4.500, ")


def test_without_a_test_split_validation_decides() -> None:
    run = two_models((0, 2.0), (0, 1.9), has_test=False)
    table = tables.comparison(run)
    assert list(table["model"]) == ["word", "gpt"]
    assert "test_bits_per_char" not in table
    shown = tables.comparison_markdown(run)
    assert "bits/char test" not in shown
    assert "The baselines, in bits per character of validation: uniform" in shown


def test_curves_positions_and_gallery_hold_every_model_in_the_order_of_params() -> None:
    run = two_models((2.5, 2.5), (2.25, 2.25))
    points = tables.curves(run)
    assert list(points["model"]) == ["gpt"] * 3 + ["word"] * 3
    assert list(points["characters"]) == [0, 480, 960] * 2
    assert list(points["validation_bits_per_char"]) == [6.5, 3.0, 2.0, 6.5, 3.1, 2.1]
    assert tables.positions(run).values.tolist()[:2] == [["gpt", 1.0, 3.0], ["gpt", 2.0, 2.5]]
    gallery = tables.gallery(run)
    assert gallery.count("> **Il** 𝄞n toit") == 2
    assert gallery.index("## gpt") < gallery.index("## word")
    assert tables.excerpt(run).count("**, temperature 0.7, seed 1\n\n> **Il** 𝄞n toit") == 2


def test_an_excerpt_is_cut() -> None:
    written = Samples(samples=[records.sample("a" * 999)])
    run = runs.run().model_copy(update={"models": {"gpt": runs.model("gpt", samples=written)}})
    assert tables.excerpt(run) == f"**gpt**, temperature 0.7, seed 1\n\n> **Il** {'a' * tables.EXCERPT} […]\n"
