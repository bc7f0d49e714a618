"""How text is generated where nobody says otherwise: the only place for the command line, HTTP, Python and MLflow.

It imports nothing, so that `gptmodel --help`, which shows these values, is instant.
"""

MAX_NEW_TOKENS = 200
TEMPERATURE = 0.8
TOP_K = 0  # all tokens
TOP_P = 0.95
REPETITION_PENALTY = 1.0  # none
