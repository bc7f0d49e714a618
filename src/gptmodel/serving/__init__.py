"""A bundle behind HTTP: completions, streams, many sequences decoded at once.

May import: the ground, results, data, decoding, runtime.
Start reading: app.py, then service.py, then scheduler.py.
"""
