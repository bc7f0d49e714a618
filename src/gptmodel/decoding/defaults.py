"""How text is generated where nobody says otherwise: the command line, HTTP, MLflow, the Python API, the benchmark."""

MAX_NEW_TOKENS = 200
TEMPERATURE = 0.8
TOP_K = 0  # all tokens
TOP_P = 0.95
REPETITION_PENALTY = 1.0  # none
