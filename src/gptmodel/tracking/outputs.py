"""What of a model's files goes where in its MLflow run: a function for each stage, used by the stage and by `sync`.

Each reads what its stage wrote to models/NAME (the truth) and logs it; what the run already holds is not logged again.

Left out on purpose: what no file holds (how long each stage took, how busy the machine was).
"""

import json
import re
from pathlib import Path
from typing import Any

from gptmodel.tracking.run import Run

EXCERPT = 600  # characters of a sample in the description, of which MLflow keeps 8000
FILES = {  # what each stage writes about a model, in models/NAME
    "train": ("training.json", "history.csv", "timeline.md"),
    "evaluate": ("metrics.json", "samples.md", "surprisal.npz", "breakdown.json", "novelty.json", "samples.json"),
    "explain": ("sight.json",),
    "export": ("bundle/bundle.json",),
    "benchmark": ("benchmark.json",),
}
EVALUATION = re.compile(r"## step (\d+): ([\d.]+) bits per character\n\n(.*)", re.DOTALL)


def trained(run: Run, folder: Path) -> None:
    """Log the outputs of the stage train, less the curves."""
    run.log_metrics(_json(folder / "training.json"), "training")
    for name in FILES["train"]:
        run.log_file(folder / name)
    run.log_table(timeline((folder / "timeline.md").read_text(encoding="utf-8")), "timeline.json")


def evaluated(run: Run, folder: Path) -> None:
    """Log the outputs of the stage evaluate."""
    novelty = _json(folder / "novelty.json")
    run.log_metrics({**_json(folder / "metrics.json"), "novelty": novelty["samples"], "held_out": novelty["held_out"]})
    for name in FILES["evaluate"][:-1]:
        run.log_file(folder / name)
    run.log_table(_json(folder / "samples.json"), "samples.json")  # as a table


def explained(run: Run, folder: Path) -> None:
    """Log the outputs of the stage explain."""
    run.log_file(folder / "sight.json")


def exported(run: Run, folder: Path) -> None:
    """Log the outputs of the stage export."""
    run.log_metrics(_json(folder / "bundle" / "bundle.json")["graphs"], "parity")
    run.log_folder(folder / "bundle", "bundle")


def benchmarked(run: Run, folder: Path) -> None:
    """Log the outputs of the stage benchmark."""
    figures = _json(folder / "benchmark.json")
    run.log_metrics({key: value for key, value in figures.items() if key != "workload"}, "speed")
    run.set_tags({"benchmark": figures["machine"]})


def reported(run: Run, reports: Path) -> None:
    """Log the outputs of the stage report."""
    run.log_folder(reports, "report")


def describe(run: Run, summary: str, folder: Path, reports: Path | None = None) -> None:
    """Set the run's description: the figures in a line, the beginning of a sample, how the models compare."""
    from gptmodel.decoding.samples import Sample

    sample = Sample(**_json(folder / "samples.json")[0]).markdown(EXCERPT)
    table = (reports / "comparison.md").read_text(encoding="utf-8") if reports else ""
    run.set_note(f"{summary}\n\n{sample}\n{table}\nAll samples: artifact samples.md; while it learned: timeline.md.\n")


LOG = {"train": trained, "evaluate": evaluated, "explain": explained, "export": exported, "benchmark": benchmarked}


def timeline(markdown: str) -> list[dict[str, object]]:
    r"""Return the samples of timeline.md as the rows of a table.

    >>> timeline("## step 20: 3.104 bits per character\n\ntemperature 0.7, seed 1\n\n> **Le** roi\\\n> dort\n")
    [{'step': 20, 'sample': 'Le roi\ndort', 'bits_per_char': 3.104}]
    """
    rows: list[dict[str, object]] = []
    for entry in re.split(r"^(?=## step )", markdown, flags=re.MULTILINE):
        if found := EVALUATION.match(entry):
            lines = [line[2:].removesuffix("\\") for line in found[3].splitlines() if line.startswith("> ")]
            text = "\n".join(lines).replace("**", "", 2)  # around the prompt
            rows.append({"step": int(found[1]), "sample": text, "bits_per_char": float(found[2])})
    return rows


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
