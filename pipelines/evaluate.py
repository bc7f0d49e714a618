"""Stage evaluate@VARIANT: models/VARIANT/checkpoint and the text -> metrics, surprisal, breakdown, samples, novelty."""

from gptmodel import checkpoint, devices, files, leaks, mirror, novelty, params, samples, scores, tracking
from gptmodel.dataset import Dataset
from gptmodel.encoding import read_splits
from gptmodel.errors import one_line_errors
from gptmodel.torch_decoder import TorchDecoder
from pipelines import layout


def main() -> None:
    """Score the model named on the command line on validation and test, and let it write."""
    with one_line_errors():
        settings, folder = params.load(layout.PARAMS), layout.MODELS / layout.variant()
        device = devices.pick(settings.device)
        network, meta = checkpoint.load(folder / "checkpoint", device)
        data, texts = Dataset.read(layout.TOKENS / meta.level), read_splits(layout.CLEAN)
        leaks.check_causal(network, data.ids["train"], device)
        leaks.check_tokenizer(data.tokenizer, texts["train"], settings.tokenizers)
        with tracking.run(**meta.identity(), stage="evaluate") as run:
            scored = scores.score(network, data, texts, device, settings.evaluation.dynamic_rate)
            metrics = {"best_step": meta.best_step, **scored.metrics}
            written = samples.write_all(TorchDecoder(network), data.tokenizer, settings.samples, settings.seed)
            new = novelty.assess(written, texts["train"], texts["test"] or texts["validation"], meta.language)
            markdown = "\n".join(sample.markdown() for sample in written)
            scored.costs.write(folder / "surprisal.npz")
            files.write_json(folder / "breakdown.json", {"fingerprint": meta.fingerprint, **scored.breakdown})
            files.write_json(folder / "novelty.json", new)
            files.write_json(folder / "samples.json", [sample.as_dict() for sample in written])
            files.write_text(folder / "samples.md", markdown)
            files.write_json(folder / "metrics.json", metrics)
            summary = scores.summary(meta, metrics)
            print("\n".join([f"{meta.variant}: {summary}", *new["warnings"]]))
            mirror.evaluated(run, folder)
            mirror.describe(run, summary, folder)


if __name__ == "__main__":
    main()
