"""The networks in PyTorch, their weights on disk, and what a token costs them.

May import: the ground, results, data, decoding.
Start reading: gpt.py, then networks.py, then loss.py.
"""
