"""Stage explain@VARIANT: models/VARIANT/checkpoint and the text -> sight.json, what can be seen of the model."""

from gptmodel import checkpoint, devices, mirror, params, sight, tracking
from gptmodel.dataset import Dataset
from gptmodel.errors import one_line_errors
from pipelines import layout


def main() -> None:
    """Look into the model named on the command line while it reads a passage."""
    with one_line_errors():
        settings, folder = params.load(layout.PARAMS), layout.MODELS / layout.variant()
        network, meta = checkpoint.load(folder / "checkpoint", devices.pick(settings.device))
        data = Dataset.read(layout.TOKENS / meta.level)
        with tracking.run(**meta.identity(), stage="explain") as run:
            shown = sight.build(
                network, data, layout.CLEAN, settings.sight.passage_characters, settings.sight.attention_tokens
            )
            sight.write(folder / "sight.json", shown)
            mirror.explained(run, folder)
            print(f"{meta.variant}: {len(shown['surprisal'])} tokens of the {shown['passage']['split']} text explained")


if __name__ == "__main__":
    main()
