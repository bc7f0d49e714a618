"""gptmodel: train a small GPT on your own text, measure it honestly, run it with ONNX Runtime.

Each folder is a room; its `__init__` says what it is, what it may import and where to start reading. Nothing is
imported here, so that `import gptmodel` is instant.
"""
