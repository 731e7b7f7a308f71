"""Audit pairs and corpus before money is spent: token lengths, evidence, pair quality, leaks.

    python -m jobs.audit configs/quickstart.yaml

reads   <store>/pairs/<name>/, chunks and indexes of `corpus`, the tokenizer of `model.base`
writes  <store>/audit/<name>/
          report.html      the verdict, lengths with their histograms, defects with examples, advice
          report.json      the same as numbers
          findings.jsonl   every defect and leak, with its file and line in the pairs
          lengths.svg      histograms of the token lengths

Exits 3 when the verdict is `fail`; `train` refuses pairs without a passed audit.
"""

import sys

from codex_forge.job import Door

DOOR = Door("audit", __doc__, "codex_forge.audit.run:run", ("corpus", "model", "audit"))

if __name__ == "__main__":
    sys.exit(DOOR.main())
