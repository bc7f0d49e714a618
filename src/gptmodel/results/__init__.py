"""Every JSON file that stages exchange, as typed records: the only definition of its keys.

May import: params, strict, files, errors. One file per producer: a stage depends on those it reaches.
Start reading: record.py, then training.py.
"""
