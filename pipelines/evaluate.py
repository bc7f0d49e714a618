"""Stage evaluate@VARIANT: models/VARIANT/checkpoint and the text -> metrics.json, samples.json, samples.md."""

from gptmodel import checkpoint, devices, files, networks, params, samples, tracking
from gptmodel.dataset import Dataset
from gptmodel.decoding import Sampling
from gptmodel.errors import one_line_errors
from gptmodel.scores import score_split
from gptmodel.torch_decoder import TorchDecoder
from pipelines import layout


def main() -> None:
    """Score the model named on the command line on validation and test, and let it write."""
    with one_line_errors():
        settings = params.load(layout.PARAMS)
        folder = layout.MODELS / layout.variant()
        device = devices.pick(settings.device)
        network, meta = checkpoint.load(folder / "checkpoint", device)
        data = Dataset.read(layout.TOKENS / meta.level)
        with tracking.run(**meta.identity(), stage="evaluate") as run:
            metrics = {"parameters": networks.count_parameters(network), "best_step": meta.best_step}
            scored = [split for split in ("validation", "test") if len(data.ids[split])]
            for split in scored:
                text = (layout.CLEAN / f"{split}.txt").read_bytes().decode("utf-8")
                metrics[split] = score_split(network, data, split, text, device)
                print(f"{meta.variant}, {split}: {metrics[split]['bits_per_char']:.4f} bits per character")
            how, decoder = settings.samples, TorchDecoder(network)
            written = []
            for temperature in how.temperatures:
                sampling = Sampling(temperature, how.top_k, how.top_p)
                written += samples.write(
                    decoder, data.tokenizer, how.prompts, sampling, how.max_new_tokens, settings.seed
                )
            markdown = "\n".join(sample.markdown() for sample in written)
            files.write_json(folder / "samples.json", [sample.as_dict() for sample in written])
            files.write_text(folder / "samples.md", markdown)
            files.write_json(folder / "metrics.json", metrics)
            run.log_metrics(metrics)
            run.log_file(folder / "samples.md")
            run.log_file(folder / "metrics.json")
            bits = ", ".join(f"{split} {metrics[split]['bits_per_char']:.3f}" for split in scored)
            run.set_note(f"{meta.corpus['title']}, {meta.level} level. Bits per character: {bits}.\n\n{markdown}")


if __name__ == "__main__":
    main()
