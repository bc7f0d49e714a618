"""gptmodel: train a small GPT on your own text, measure it honestly, run it with ONNX Runtime.

The package is flat: one noun per file. It imports nothing here, so that `import gptmodel` is instant.
"""
