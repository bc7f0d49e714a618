"""Stage evaluate@MODEL: the checkpoint and the text -> models/MODEL/evaluation (scores, costs, samples, novelty)."""

from gptmodel import files, layout, params
from gptmodel.data.corpus import read_splits
from gptmodel.data.dataset import Dataset
from gptmodel.decoding import samples
from gptmodel.decoding.sampling import Sampling
from gptmodel.errors import one_line_errors
from gptmodel.evaluation import contamination, novelty, scores
from gptmodel.model import checkpoint, devices
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.tracking import outputs
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Score the model named on the command line on validation and test, and let it write."""
    settings, folder = params.load(layout.PARAMS), layout.ModelFolder(arguments.model())
    device = devices.use(settings.device, settings.threads)
    network, meta = checkpoint.load(folder.checkpoint, device)
    data, texts = Dataset.read(layout.TOKENS / meta.level), read_splits(layout.TEXT)
    asked = settings.samples
    contamination.check_causal(network, data.ids["train"], device)
    with outputs.tracked(meta, folder, "evaluate"):
        scored = scores.score(network, data, texts, device, settings.evaluation.dynamic_rate, meta)
        written = samples.write_all(
            TorchDecoder(network),
            data.tokenizer,
            samples.prompts(asked.prompts, meta.text),
            [Sampling(temperature, asked.top_k, asked.top_p) for temperature in asked.temperatures],
            asked.max_new_tokens,
            settings.seed,
        )
        new = novelty.assess(written, texts["train"], texts["test"] or texts["validation"], meta.text.language)
        with files.whole_folder(folder.evaluation) as partial:
            scored.write(partial)
            written.write(partial / "details" / "samples.json")
            files.write_text(partial / "details" / "samples.md", written.markdown())
            new.write(partial / "details" / "novelty.json")
        print("\n".join([f"{meta.name}: bits per character: {scored.metrics.summary()}", *new.warnings]))


if __name__ == "__main__":
    main()
