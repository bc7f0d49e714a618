"""Every JSON file that stages exchange, as typed records: the only definition of its keys.

May import: params, strict, files, errors. One file per producer, so that a stage depends on the records it reaches only.
Start reading: record.py, then training.py.
"""
