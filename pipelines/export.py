"""Stage export@VARIANT: models/VARIANT/checkpoint -> models/VARIANT/bundle/, or nothing if unequal."""

import json
from dataclasses import asdict

import onnxruntime

from gptmodel import bundle, checkpoint, files, networks, onnx_graph, params, parity, tracking
from gptmodel.dataset import Dataset
from gptmodel.errors import UserError, one_line_errors
from gptmodel.onnx_decoder import OnnxDecoder
from gptmodel.provenance import versions
from gptmodel.torch_decoder import TorchDecoder
from pipelines import layout


def main() -> None:
    """Export the model named on the command line, once ONNX Runtime is proven to compute what torch computes."""
    with one_line_errors():
        tolerance = params.load(layout.PARAMS).export.tolerance
        folder = layout.MODELS / layout.variant()
        network, meta = checkpoint.load(folder / "checkpoint")
        data = Dataset.read(layout.TOKENS / meta.level)
        tokenizer = data.folder / "tokenizer.json"
        if files.sha256(tokenizer) != meta.tokenizer_sha256:
            raise UserError(f"{tokenizer} is not the one {meta.variant} was trained with: run `dvc repro`")
        model = onnx_graph.build(network).SerializeToString()
        reference = TorchDecoder(network)
        decoder = OnnxDecoder(model, reference.context, "cpu")
        proof = asdict(parity.check(reference, decoder, data.ids["validation"], network.context, tolerance))
        info = bundle.Info(
            variant=meta.variant,
            level=meta.level,
            context=reference.context,
            vocab_size=meta.vocab_size,
            network=meta.network.model_dump(mode="json"),
            parameters=networks.count_parameters(network),
            corpus=meta.identity()["corpus"],
            metrics=json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
            parity=proof,
            versions=versions("gptmodel", "torch", "onnx") | {"onnxruntime": onnxruntime.__version__},
            best_step=meta.best_step,
            fingerprint=meta.fingerprint,
        )
        bundle.write(folder / "bundle", model, tokenizer, info)
        with tracking.run(**meta.identity(), stage="export") as run:
            run.log_metrics(proof, "parity")
            run.log_folder(folder / "bundle", "bundle")


if __name__ == "__main__":
    main()
