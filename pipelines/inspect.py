"""Stage inspect@MODEL: the checkpoint and the text -> models/MODEL/inspection, what can be seen of the model."""

from gptmodel import files, layout, params
from gptmodel.data.corpus import read_splits
from gptmodel.data.dataset import Dataset
from gptmodel.errors import one_line_errors
from gptmodel.evaluation import inspection
from gptmodel.model import checkpoint, devices
from gptmodel.tracking import outputs
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Look into the model named on the command line while it reads a passage."""
    settings, folder = params.load(layout.PARAMS), layout.ModelFolder(arguments.model())
    network, meta = checkpoint.load(folder.checkpoint, devices.use(settings.device, settings.threads))
    data, texts = Dataset.read(layout.TOKENS / meta.level), read_splits(layout.TEXT)
    with outputs.tracked(meta, folder, "inspect"):
        shown = inspection.build(network, data, texts, settings.inspection)
        with files.whole_folder(folder.inspection) as partial:
            shown.write(partial / "inspection.json")
        print(f"{meta.name}: {len(shown.surprisal)} tokens of the {shown.passage.split} text inspected")


if __name__ == "__main__":
    main()
