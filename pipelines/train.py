"""Stage train@MODEL: data/tokens/LEVEL -> models/MODEL/training (checkpoint, history, timeline, speed).

On several processes: `torchrun --standalone --nproc_per_node=N -m pipelines.train MODEL`, or GPTMODEL_PROCESSES=N.
"""

from gptmodel import layout, params
from gptmodel.data.dataset import Dataset
from gptmodel.decoding import samples
from gptmodel.errors import one_line_errors
from gptmodel.model import devices
from gptmodel.tracking import outputs
from gptmodel.training import batches, demand, distributed, experiment, session, signals
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Train the model named on the command line, or go on where its training was stopped."""
    settings = params.load(layout.PARAMS)
    name = arguments.model()
    model = settings.model(name)
    device = devices.use(settings.device, settings.threads)
    distributed.relaunch("pipelines.train")
    with distributed.join(device.type) as world, signals.requests() as asked:
        data = Dataset.read(layout.TOKENS / model.tokenizer)
        batches.check_context(model.context, data.ids, name)
        described = experiment.describe(name, settings, data, device.type)
        prompt = samples.prompts([settings.timeline.prompt], data.text)[0]
        timeline = settings.timeline.model_copy(update={"prompt": prompt})
        folder = layout.ModelFolder(name)
        if folder.path.exists():
            folder.path.mkdir(exist_ok=True)  # a file in its place is found before the training, not after it
        own_device = world.device(device)
        demand.check_memory(name, model, settings.engine, described.meta.vocab_size, own_device, world.size)
        with (
            session.held(described, timeline, settings.resume, own_device, world, asked) as training,
            outputs.watching(described.meta, folder, tracked=world.is_main) as observer,
        ):
            training.run(folder.training, observer)


if __name__ == "__main__":
    main()
