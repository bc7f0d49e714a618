"""Stage export@VARIANT: models/VARIANT/checkpoint -> bundle/ and hf/ beside it, or nothing if unequal to torch."""

import json

from gptmodel import checkpoint, export, mirror, params, tracking
from gptmodel.dataset import Dataset
from gptmodel.errors import one_line_errors
from pipelines import layout


def main() -> None:
    """Export the model named on the command line."""
    with one_line_errors():
        limits = params.load(layout.PARAMS).export
        folder = layout.MODELS / layout.variant()
        network, meta = checkpoint.load(folder / "checkpoint")
        data = Dataset.read(layout.TOKENS / meta.level)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        export.write_bundle(folder / "bundle", network, meta, data, metrics, limits)
        export.write_hf(folder / "hf", network, data.tokenizer)
        with tracking.run(**meta.identity(), stage="export") as run:
            mirror.exported(run, folder)


if __name__ == "__main__":
    main()
