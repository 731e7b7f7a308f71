"""Fine-tune the base model on audited pairs.

    python -m jobs.train configs/quickstart.yaml train.epochs=2
    python -m jobs.train configs/quickstart.yaml --plan    # steps, time, memory, disk; no training

reads   <store>/pairs/<name>/, <store>/audit/<name>/ (must have passed), `model.base`, and the
        teachers of `train.distillation`
writes  <store>/train/<name>/
          model/           a folder that SentenceTransformer(path) loads, with its model card
          metrics.jsonl    by step: loss, learning rate, gradient norm, and measures of dev data
          loss.svg         their curves; dev.svg: those of each domain
          training.log     what was said
          metadata.json    closing summary: losses, best measure, speed, time by phase, memory
          tensorboard/     where train.report_to names it

One stage, or several (train.stages): a curriculum, texts before pairs, distillation. The best
weights by train.validation.metric are kept. docs/training.md says which objective learns from what.

Stopped by SIGTERM or SIGUSR1 it finishes its step, stores a checkpoint and ends with 75; started
again it goes on from there. Several processes: python -m jobs.torchrun --help.
"""

import sys

from codex_forge.job import Door

DOOR = Door("train", __doc__, "codex_forge.train.run:run", ("model", "train"), plans=True)

if __name__ == "__main__":
    sys.exit(DOOR.main())
