"""A bundle as an MLflow `pyfunc` model: prompts in, the prompts' continuations out. MLflow runs this file by itself.

It needs the inference runtime only, and the library beside it (see `registry`, which logs both).

Source: https://mlflow.org/docs/latest/ml/model/models-from-code
"""

from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pandas import DataFrame

import gptmodel
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings


class TextModel(PythonModel):
    """Continues prompts."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle."""
        self.model = gptmodel.load(context.artifacts["bundle"])

    def predict(
        self, context: PythonModelContext, model_input: DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        """Return the continuation of each prompt of the first column, without the prompt."""
        prompts = [str(prompt) for prompt in model_input.iloc[:, 0]]
        try:
            settings = _settings(**(params or {}))  # all of them: MLflow fills in the defaults of the signature
            return [finished.text for finished in self.model.complete(prompts, settings)]
        except gptmodel.UserError as error:  # a server answers 400 to it
            raise MlflowException.invalid_parameter_value(str(error)) from None


def _settings(max_new_tokens: int, seed: int, stop: list[str], **sampling: Any) -> Settings:
    return Settings(int(max_new_tokens), Sampling(**sampling), int(seed), tuple(stop))


set_model(TextModel())
