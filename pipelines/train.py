"""Stage train@VARIANT: data/tokens/LEVEL -> models/VARIANT/ (checkpoint, history.csv, timeline.md)."""

import torch

from gptmodel import batches, bigram, devices, evaluation, gpt, networks, optim, params, tracking, training
from gptmodel.checkpoint import Meta
from gptmodel.corpus import read_clean
from gptmodel.dataset import Dataset
from gptmodel.errors import one_line_errors
from gptmodel.journal import Journal
from gptmodel.progress import progress
from gptmodel.provenance import fingerprint
from pipelines import layout

CODE = [batches, bigram, evaluation, gpt, networks, optim, training]  # what determines the weights


def main() -> None:
    """Train the model named on the command line."""
    with one_line_errors():
        settings = params.load(layout.PARAMS)
        name = layout.variant()
        config = settings.variant(name)
        device = devices.pick(settings.device)
        data = Dataset.read(layout.TOKENS / config.tokenizer)
        batches.check_context(config.context, data.ids, name)
        hashes = data.hashes()
        corpus = read_clean(layout.CLEAN)
        identity = {"model": config.model_dump(mode="json"), "seed": settings.seed, "data": hashes}
        meta = Meta(
            variant=name,
            level=config.tokenizer,
            network=config.architecture(),
            vocab_size=data.tokenizer.vocab_size,
            tokenizer_sha256=hashes["tokenizer.json"],
            corpus=corpus.model_dump(mode="json"),
            fingerprint=fingerprint(identity, CODE),
            seed=settings.seed,
        )
        torch.manual_seed(settings.seed)
        network = networks.build(meta.network, meta.vocab_size).to(device)
        with (
            tracking.run(**meta.identity(), stage="train") as run,
            progress(f"train {name} on {device.type}", config.steps, "steps") as on_step,
        ):
            run.log_params({**identity["model"], "seed": settings.seed, "device": device.type})
            journal = Journal(layout.MODELS / name, network, data, meta, settings.timeline, run)
            ids = data.ids
            for split in ids:
                run.log_dataset(f"{corpus.name}/{split}", hashes[f"{split}.npy"], split, str(data.folder))
            journal.record(
                training.train(network, ids["train"], ids["validation"], config, settings.seed, device, on_step)
            )


if __name__ == "__main__":
    main()
