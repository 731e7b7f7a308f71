"""Fine-tune the base model on audited pairs.

    python -m jobs.train configs/quickstart.yaml train.epochs=2

reads   <store>/pairs/<name>/, <store>/audit/<name>/ (must have passed), `model.base`
writes  <store>/train/<name>/
          model/           a folder that SentenceTransformer(path) loads, with its model card
          metrics.jsonl    loss, learning rate and gradient norm by step
          loss.svg         the loss curves
          training.log     what was said
          metadata.json    closing summary: losses, pairs a second, peak memory

Stopped by SIGTERM or SIGUSR1 it finishes its step, stores a checkpoint and ends with 75; started
again it goes on from there. Several processes: python -m jobs.torchrun --help.
"""

import sys

from codex_forge.job import Door

DOOR = Door("train", __doc__, "codex_forge.train.run:run", ("model", "train"))

if __name__ == "__main__":
    sys.exit(DOOR.main())
