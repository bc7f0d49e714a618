"""gptmodel: train a small GPT on your own text, measure it honestly, run it with ONNX Runtime.

    >>> import gptmodel
    >>> model = gptmodel.load("models/gpt-char/bundle")  # doctest: +SKIP
    >>> model.generate("Il était ", seed=1)  # doctest: +SKIP

`load` and `Model` are imported when they are first asked for, so that `import gptmodel` is instant.
"""

from typing import TYPE_CHECKING, Any

from gptmodel.errors import UserError

if TYPE_CHECKING:
    from gptmodel.api import Model, load

__all__ = ["Model", "UserError", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "load"):
        from gptmodel import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
