"""Compare a candidate with a baseline on the same questions or scored pairs: verdict, tier, report.

    python -m jobs.compare configs/quickstart.yaml
    python -m jobs.compare configs/quickstart.yaml compare.others=[bm25,hybrid]

reads   <store>/evaluate/<name>-base/ and <store>/evaluate/<name>/ (or the artifacts that
        `compare.baseline` and `compare.candidate` name), those of `compare.others`, and the
        run's audit, when there is one
writes  <store>/compare/<name>/ (<candidate>-vs-<baseline> when these are given)
          report.json         every number, with intervals, p-values, slices, lineage
          report.html         one self-contained page for people
          summary.md          the tables as Markdown
          per_question.csv    both scores of every question
          per_pair.csv        both cosines of every scored pair

The verdict is `improved` only when the interval of the difference excludes 0 and the randomisation
test agrees; tiers and gates are judged at the lower end of the interval. With
compare.gate.enforce=true a miss exits 3, and all that was missed is named. See docs/comparison.md.
"""

import sys

from codex_forge.job import Door

DOOR = Door("compare", __doc__, "codex_forge.compare.run:run", ("compare",))

if __name__ == "__main__":
    sys.exit(DOOR.main())
