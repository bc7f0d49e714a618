"""Stage train@VARIANT: data/tokens/LEVEL -> models/VARIANT/ (checkpoint, history.csv, timeline.md)."""

import torch

from gptmodel import batches, devices, experiment, networks, params, tracking, training
from gptmodel.corpus import read_clean
from gptmodel.dataset import Dataset
from gptmodel.errors import one_line_errors
from gptmodel.journal import Journal
from gptmodel.progress import progress
from pipelines import layout


def main() -> None:
    """Train the model named on the command line."""
    with one_line_errors():
        settings, name = params.load(layout.PARAMS), layout.variant()
        config, device = settings.variant(name), devices.pick(settings.device)
        data = Dataset.read(layout.TOKENS / config.tokenizer)
        batches.check_context(config.context, data.ids, name)
        meta = experiment.describe(name, settings, data, read_clean(layout.CLEAN))
        torch.manual_seed(settings.seed)
        network = networks.build(meta.network, meta.vocab_size).to(device)
        with (
            tracking.run(**meta.identity(), stage="train") as run,
            progress(f"train {name} on {device.type}", config.steps, "steps") as on_step,
        ):
            run.log_params({**config.model_dump(mode="json"), "seed": settings.seed, "device": device.type})
            journal = Journal(layout.MODELS / name, network, data, meta, settings.timeline, run)
            journal.log_data()
            journal.record(training.train(network, data.ids, config, settings.seed, device, on_step))


if __name__ == "__main__":
    main()
