"""What a training reads: texts by number, rows of a stage, its batches, and what teachers say."""
