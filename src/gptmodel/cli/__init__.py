"""The command line `gptmodel`: one file per command, which imports its room when it runs.

May import: every room.
Start reading: app.py, then generate.py.
"""
