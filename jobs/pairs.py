"""Make training pairs from a corpus and ready-made data, and split the questions honestly.

    python -m jobs.pairs configs/quickstart.yaml

reads   the chunks, alias indexes and questions of `corpus`, and the files of `pairs.data`
writes  <store>/pairs/<name>/
          pairs-{train,dev}.jsonl         query, positive, negatives; ids, sources, phase ...
          scored-{train,dev,test}.jsonl   scored and labelled pairs, when `pairs.data` has some
          questions-{train,dev,test}.jsonl, qrels-{train,dev,test}.tsv    the question bank, divided
          chunks.jsonl                    the texts of ready-made data, when there is no corpus
          rejected.jsonl, report.json     what was left out, and why; where pairs came from

Test and dev questions are never trained on, nor queries nearly the same. What the corpus and the
alias indexes say is trained on: that is the domain.

With --shards N each task mines its share of the queries; the artifact is whole when all N are
there.
"""

import sys

from codex_forge.job import Door

DOOR = Door(
    "pairs", __doc__, "codex_forge.pairs.run:run", ("corpus", "model", "pairs"), sharded=True
)

if __name__ == "__main__":
    sys.exit(DOOR.main())
