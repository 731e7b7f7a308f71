"""Jobs that are killed, starved and cut off on purpose; nothing may be lost or half there.

    python -m tests.chaos kills     SIGKILL and SIGTERM at random moments of every mode
    python -m tests.chaos faults    a store that refuses, breaks off, hangs, goes away
    python -m tests.chaos ranks     ranks of one training that are stopped at different moments

Each part runs real processes on a local folder and a real S3 server, prints a table, writes
`build/chaos/<part>.json`, and ends with 1 when a promise was broken. What was drawn (moments,
signals, weather) follows from `--seed`.
"""
