"""Score a retriever on the held-out questions, and a model on the held-out scored pairs.

    python -m jobs.evaluate configs/quickstart.yaml                              trained model
    python -m jobs.evaluate configs/quickstart.yaml embed.model=base             base model
    python -m jobs.evaluate configs/quickstart.yaml evaluate.retriever=bm25      words alone
    python -m jobs.evaluate configs/quickstart.yaml evaluate.retriever=hybrid    words and meaning
    python -m jobs.evaluate configs/quickstart.yaml evaluate.retriever=chroma    the collection
    python -m jobs.evaluate configs/incidents.yaml embed.model=base              scored pairs alone

reads   <store>/pairs/<name>/, <store>/embed/<name>/ (all but bm25), chunks and indexes of `corpus`;
        for scored pairs alone the model itself: no corpus, no embeddings
writes  <store>/evaluate/<name>/ (<name>-base, <name>-bm25, <name>-hybrid, <name>-chroma)
          run.trec, qrels.txt  the ranking of every question, and what answers it (TREC)
          per_question.jsonl   measures, covered topics and retrieved chunks of every question
          per_question.csv     the same for a spreadsheet, without the chunks
          per_pair.jsonl       the cosine of every scored pair
          report.json          all numbers: rubric 0-5, recall@k, mrr@10, ndcg@10, map, slices,
                               scored pairs, queries that must pass, speed
          summary.md           the same for people
"""

import sys

from codex_forge.job import Door

DOOR = Door("evaluate", __doc__, "codex_forge.evaluate.run:run", ("corpus", "embed", "evaluate"))

if __name__ == "__main__":
    sys.exit(DOOR.main())
