"""Score a retriever on the held-out questions.

    python -m jobs.evaluate configs/quickstart.yaml                              trained model
    python -m jobs.evaluate configs/quickstart.yaml embed.model=base             base model
    python -m jobs.evaluate configs/quickstart.yaml evaluate.retriever=bm25      words alone

reads   <store>/pairs/<name>/, <store>/embed/<name>/ (dense), chunks and indexes of `corpus`
writes  <store>/evaluate/<name>/ (<name>-base, <name>-bm25)
          run.trec             the ranking of every question (TREC)
          per_question.jsonl   measures, covered topics and retrieved chunks of every question
          report.json          rubric 0-5, recall@k, mrr@10, ndcg@10, map, slices, latency
"""

import sys

from codex_forge.job import Door

DOOR = Door("evaluate", __doc__, "codex_forge.evaluate.run:run", ("corpus", "embed", "evaluate"))

if __name__ == "__main__":
    sys.exit(DOOR.main())
