"""The papers agree with the code: modes, exit codes, file tree, make targets."""

from __future__ import annotations

import importlib
import re

import pytest

from codex_forge.errors import EXIT_CODES
from jobs.__main__ import ASKING, LAUNCHERS, MANY, ORDER
from tests.conftest import ROOT


def test_every_mode_has_its_doors() -> None:
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"^MODES := (.*)$", makefile, re.MULTILINE)
    assert listed
    assert tuple(listed.group(1).split()) == ORDER
    doors = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {
        "__init__",
        "__main__",
        *LAUNCHERS,
        *ASKING,
    }
    assert doors == {*ORDER, *MANY}
    for mode in (*ORDER, *MANY):
        assert importlib.import_module(f"jobs.{mode}").DOOR.mode == mode
        assert re.search(rf"^{mode}:(?: \$\(READY\))? ## ", makefile, re.MULTILINE)


def test_the_table_of_exit_codes_is_the_code() -> None:
    table = (ROOT / "docs" / "exit-codes.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert documented == {*EXIT_CODES, 130}


DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_file_tree_of_the_readme_is_the_tree() -> None:
    text = (ROOT / "README.md").read_text().split("## Where things are")[1]
    block = text.split("```")[1]
    package = block.split("codex_forge/\n")[1].split("configs/")[0]
    named = set(re.findall(r"([a-z_]+)(?:\.py|/)(?= |$|\n)", package))
    there = {
        path.stem
        for path in (ROOT / "codex_forge").iterdir()
        if (path.suffix == ".py" or path.is_dir()) and not path.name.startswith("__")
    }
    assert named == there
    for folder in re.findall(r"^([a-z]+)/", block, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_make_targets_of_the_papers_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE)) | set(ORDER)
    for document in ("README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml"):
        text = (ROOT / document).read_text()
        for target in re.findall(r"(?:`|^ +|: |^)make ([a-z0-9-]+)", text, re.MULTILINE):
            assert target in targets, (document, target)
