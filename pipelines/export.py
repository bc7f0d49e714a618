"""Stage export@VARIANT: models/VARIANT/checkpoint -> bundle/ and hf/, with model cards; nothing if unequal to torch."""

from gptmodel import checkpoint, export, hf, mirror, model_card, params, tracking
from gptmodel.dataset import Dataset
from gptmodel.errors import one_line_errors
from gptmodel.outputs import read_json
from pipelines import layout


def main() -> None:
    """Export the model named on the command line."""
    with one_line_errors():
        settings, name = params.load(layout.PARAMS), layout.variant()
        folder, config = layout.MODELS / name, settings.variant(name)
        network, meta = checkpoint.load(folder / "checkpoint")
        data = Dataset.read(layout.TOKENS / meta.level)
        metrics = read_json(folder / "metrics.json")
        export.write_bundle(folder / "bundle", network, meta, data, metrics, settings.export)
        export.write_hf(folder / "hf", network, data.tokenizer)
        model_card.write(folder, layout.LADDER, meta, config, hf.home(network))
        with tracking.run(**meta.identity(), stage="export") as run:
            mirror.exported(run, folder)


if __name__ == "__main__":
    main()
