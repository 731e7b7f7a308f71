"""Make training pairs from a corpus, and split its questions honestly.

    python -m jobs.pairs configs/quickstart.yaml

reads   the chunks, alias indexes and questions of `corpus`
writes  <store>/pairs/<name>/
          pairs-train.jsonl, pairs-dev.jsonl   query, positive, negatives, ids, phase, source
          questions-{train,dev,test}.jsonl     the question bank, divided
          qrels-{dev,test}.tsv                 which chunks answer which question (TREC)
          rejected.jsonl, report.json          what was left out, and why

Test and dev questions are never trained on, nor queries nearly the same. What the corpus and the
alias indexes say is trained on: that is the domain.
"""

import sys

from codex_forge.job import Door

DOOR = Door("pairs", __doc__, "codex_forge.pairs.run:run", ("corpus", "pairs"))

if __name__ == "__main__":
    sys.exit(DOOR.main())
