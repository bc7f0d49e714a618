"""A bundle as an MLflow `pyfunc` model: prompts in, the prompts' continuations out. MLflow runs this file by itself.

It needs the inference runtime only, and the library beside it (see `registry`, which logs both).

Left out on purpose: streaming and several samples per prompt (MLflow's protocol has no place for them).
Source: https://mlflow.org/docs/latest/ml/model/models-from-code
"""

from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pandas import DataFrame

from gptmodel.decoding.generation import Settings, complete
from gptmodel.decoding.sampling import Sampling
from gptmodel.errors import UserError
from gptmodel.runtime.bundle import Bundle


class TextModel(PythonModel):
    """Continues prompts."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle."""
        self.bundle = Bundle.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext, model_input: DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        """Return the continuation of each prompt of the first column, without the prompt."""
        how = dict(params or {})  # all of them: MLflow fills in the defaults of the signature
        stop, count, seed = tuple(how.pop("stop")), how.pop("max_new_tokens"), how.pop("seed")
        prompts = [str(prompt) for prompt in model_input.iloc[:, 0]]
        try:
            settings = Settings(int(count), Sampling(**how), int(seed), stop)
        except UserError as error:  # a server answers 400 to it
            raise MlflowException.invalid_parameter_value(str(error)) from None
        done = complete(self.bundle.decoder, self.bundle.tokenizer, prompts, settings)
        return [one.text for one in done]


set_model(TextModel())
