from io import BytesIO

import numpy as np
import pytest
from matplotlib import image

from gptmodel.report import figures, tables
from tests.support import runs


def test_every_model_has_its_two_curves_and_the_point_that_was_kept() -> None:
    run = runs.run()
    [axes] = figures.curves(tables.curves(run), "Le Toit").axes
    lines = iter(axes.lines)
    for name, model in run.models.items():
        learned = [point for point in model.history if point.step]  # step 0 has no place on a logarithmic axis
        validation, train, kept = next(lines), next(lines), next(lines)
        assert validation.get_label() == name
        assert validation.get_xdata().tolist() == train.get_xdata().tolist() == [p.characters for p in learned]
        assert validation.get_ydata().tolist() == [point.validation_bits_per_char for point in learned]
        assert train.get_ydata().tolist() == [point.train_bits_per_char for point in learned]
        assert (kept.get_xdata().item(), kept.get_ydata().item()) == (960, model.metrics.validation.bits_per_char)
        assert validation.get_color() == train.get_color() == kept.get_color()
    assert next(lines, None) is None
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(run.models)
    assert axes.get_title().startswith("Le Toit: ")


def test_the_image_shows_the_curves_in_their_colours() -> None:
    pixels = image.imread(BytesIO(figures.png(figures.curves(tables.curves(runs.run()), "Le Toit"))))
    assert pixels.shape == (600, 1080, 4)
    for color in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C)):  # matplotlib's first three
        painted = np.abs(pixels[..., :3] * 255 - np.array(color)).max(axis=2) < 1
        assert painted.sum() == pytest.approx(1000, abs=900)
