"""Stage evaluate@VARIANT: models/VARIANT/checkpoint and the text -> metrics.json, samples.json, samples.md."""

from gptmodel import checkpoint, devices, files, params, samples, scores, tracking
from gptmodel.dataset import Dataset
from gptmodel.errors import one_line_errors
from gptmodel.torch_decoder import TorchDecoder
from pipelines import layout


def main() -> None:
    """Score the model named on the command line on validation and test, and let it write."""
    with one_line_errors():
        settings, folder = params.load(layout.PARAMS), layout.MODELS / layout.variant()
        device = devices.pick(settings.device)
        network, meta = checkpoint.load(folder / "checkpoint", device)
        data = Dataset.read(layout.TOKENS / meta.level)
        with tracking.run(**meta.identity(), stage="evaluate") as run:
            metrics = {"best_step": meta.best_step, **scores.score(network, data, layout.CLEAN, device)}
            written = samples.write_all(TorchDecoder(network), data.tokenizer, settings.samples, settings.seed)
            markdown = "\n".join(sample.markdown() for sample in written)
            files.write_json(folder / "samples.json", [sample.as_dict() for sample in written])
            files.write_text(folder / "samples.md", markdown)
            files.write_json(folder / "metrics.json", metrics)
            summary = f"{meta.corpus['title']}, {meta.level} level: {scores.summary(metrics)}"
            print(f"{meta.variant}: {summary}")
            run.log_metrics(metrics)
            run.log_file(folder / "samples.md")
            run.log_file(folder / "metrics.json")
            run.set_note(f"{summary}\n\n{markdown}")


if __name__ == "__main__":
    main()
