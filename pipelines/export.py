"""Stage export@MODEL: the checkpoint -> models/MODEL/bundle and hf, with model cards; nothing if unequal to torch."""

from gptmodel import layout, params
from gptmodel.data.corpus import read_clean
from gptmodel.data.dataset import Dataset
from gptmodel.errors import one_line_errors
from gptmodel.export import bundle_writer, hf, model_card
from gptmodel.model import checkpoint, devices
from gptmodel.tracking import outputs
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Export the model named on the command line."""
    settings, folder = params.load(layout.PARAMS), layout.ModelFolder(arguments.model())
    network, meta = checkpoint.load(folder.checkpoint, devices.use("cpu", settings.threads))
    data, corpus = Dataset.read(layout.TOKENS / meta.level), read_clean(layout.CLEAN)
    results = model_card.Results.read(meta, corpus, folder.evaluation, layout.BASELINES)
    with outputs.tracked(meta, folder, "export"):
        bundle_writer.write_bundle(folder.bundle, network, data, results, settings.export)
        hf.write_folder(folder.hf, network, data.tokenizer, results)


if __name__ == "__main__":
    main()
