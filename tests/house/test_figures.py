"""What README says about the default run beside the figures that are recorded of it."""

import re

from tests.support.closure import ROOT
from tools.docs import generate

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_names_the_models_that_beat_every_baseline() -> None:
    table, baselines = (generate.RESULTS / "default-comparison.md").read_text(encoding="utf-8").split("\n\n")
    scores = {name: float(bits) for name, bits in re.findall(r"^\| ([\w-]+) .*?\*\*([\d.]+)\*\*", table, re.MULTILINE)}
    best = min(map(float, re.findall(r" (\d+\.\d+)", baselines)))
    assert len(scores) == 5
    assert [f"`{name}`" for name, bits in scores.items() if bits < best] == re.findall(r"only (`.*`) is better", README)
