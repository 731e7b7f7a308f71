"""Why a question gained or lost: ranks before and after, and the training pairs behind it.

    python -m jobs.why configs/quickstart.yaml "bilirubin encephalopathy"

reads   the two <store>/evaluate/ artifacts that `compare` compares, and what they were made from
writes  nothing: the answer goes to the terminal, with --json for machines

QUESTION is a query_id, the text of a question, or a part of one that no other question holds. The
answer shows both scores, the chunks of both sides with their ranks, the topics and the names that
covered them, the train pairs nearest to the question, and the settings they were made with.
"""

import signal
import sys

from codex_forge.job import Door

DOOR = Door("why", __doc__, "codex_forge.compare.why:run", ("compare",), asks=True)

if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` is no error
    sys.exit(DOOR.main())
