from io import BytesIO

import numpy as np
import pytest
from matplotlib import image
from matplotlib.lines import Line2D

from gptmodel.report import figures, tables
from tests.support import runs


def test_every_model_has_its_two_curves_and_the_point_that_was_kept() -> None:
    run = runs.run()
    [axes] = figures.curves(tables.curves(run), "Le Toit").axes
    assert len(axes.lines) == 3 * len(run.models)
    for index, (name, model) in enumerate(run.models.items()):
        learned = [point for point in model.history if point.step]  # step 0 has no place on a logarithmic axis
        characters = [point.characters for point in learned]
        validation, train, kept = axes.lines[3 * index : 3 * index + 3]
        assert validation.get_label() == name
        assert_line(validation, characters, [point.validation_bits_per_char for point in learned])
        assert_line(train, characters, [point.train_bits_per_char for point in learned])
        assert_line(kept, [960], [model.metrics.validation.bits_per_char])
        assert validation.get_color() == train.get_color() == kept.get_color()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(run.models)
    assert axes.get_title().startswith("Le Toit: ")


def assert_line(line: Line2D, x: list[int], y: list[float | None]) -> None:
    assert (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) == (x, y)


def test_the_image_shows_the_curves_in_their_colours() -> None:
    pixels = image.imread(BytesIO(figures.png(figures.curves(tables.curves(runs.run()), "Le Toit"))))
    assert pixels.shape == (600, 1080, 4)
    for color in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C)):  # matplotlib's first three
        painted = np.abs(pixels[..., :3] * 255 - np.array(color)).max(axis=2) < 1
        assert painted.sum() == pytest.approx(1000, abs=900)
