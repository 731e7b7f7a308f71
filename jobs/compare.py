"""Compare a candidate with a baseline on the same questions: verdict, tier, report.

    python -m jobs.compare configs/quickstart.yaml

reads   <store>/evaluate/<name>-base/ and <store>/evaluate/<name>/ (or the artifacts that
        `compare.baseline` and `compare.candidate` name)
writes  <store>/compare/<name>/ (<candidate>-vs-<baseline> when these are given)
          report.json         every number, with intervals, p-values, slices, lineage
          report.html         one self-contained page for people
          summary.md          the tables as Markdown
          per_question.csv    both scores of every question

The verdict is `improved` only when the interval of the difference excludes 0; tiers and gates are
judged at the lower end of the interval. With compare.gate.enforce=true a miss exits 3.
"""

import sys

from codex_forge.job import Door

DOOR = Door("compare", __doc__, "codex_forge.compare.run:run", ("compare",))

if __name__ == "__main__":
    sys.exit(DOOR.main())
