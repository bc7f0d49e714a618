"""Stage train@VARIANT: data/tokens/LEVEL -> models/VARIANT/ (checkpoint, history.csv, timeline.md, training.json).

On several processes: `torchrun --standalone --nproc_per_node=N -m pipelines.train VARIANT`, or GPTMODEL_PROCESSES=N.
"""

from gptmodel import batches, devices, experiment, params, processes, session, stop
from gptmodel.corpus import read_clean
from gptmodel.dataset import Dataset
from gptmodel.errors import one_line_errors
from pipelines import layout


def main() -> None:
    """Train the model named on the command line, or go on where its training was stopped."""
    with one_line_errors():
        settings, name = params.load(layout.PARAMS), layout.variant()
        config, device = settings.variant(name), devices.pick(settings.device)
        processes.relaunch("pipelines.train")
        with processes.join(device.type) as world, stop.requests() as asked:
            data = Dataset.read(layout.TOKENS / config.tokenizer)
            batches.check_context(config.context, data.ids, name)
            described = experiment.describe(name, settings, data, read_clean(layout.CLEAN), device.type)
            session.run(described, settings, layout.MODELS / name, world.device(device), world, asked)


if __name__ == "__main__":
    main()
