"""Audit pairs and corpus before money is spent: token lengths, pair quality, leaks.

    python -m jobs.audit configs/quickstart.yaml

reads   <store>/pairs/<name>/, the chunks of `corpus`, the tokenizer of `model.base`
writes  <store>/audit/<name>/
          report.json      lengths by kind of text, share truncated, advice, verdict pass | fail
          findings.jsonl   every defect and leak, with its line in pairs-train.jsonl
          lengths.svg      histograms of the token lengths

Exits 3 when the verdict is `fail`; `train` refuses pairs without a passed audit.
"""

import sys

from codex_forge.job import Door

DOOR = Door("audit", __doc__, "codex_forge.audit:run", ("corpus", "model", "audit"))

if __name__ == "__main__":
    sys.exit(DOOR.main())
