"""List the modes, or print the JSON schema of a run's config.

python -m jobs           the modes, a line each
python -m jobs schema    a JSON schema that editors understand
"""

import ast
import json
import signal
import sys
from pathlib import Path

ORDER = ("pairs", "audit", "train", "embed", "evaluate", "compare")


def listing() -> str:
    """The modes in the order of a run, with the first line of what each door says of itself."""
    lines = ["modes, in the order of a run:"]
    for mode in ORDER:
        tree = ast.parse((Path(__file__).parent / f"{mode}.py").read_text(encoding="utf-8"))
        first = (ast.get_docstring(tree) or "").splitlines()[0]
        lines.append(f"  python -m jobs.{mode:<9} CONFIG.yaml   {first}")
    lines.append(
        "\n`python -m jobs.<mode> --help` explains one; `python -m jobs schema` prints the"
    )
    lines.append("JSON schema of the config.")
    return "\n".join(lines)


def schema() -> str:
    """The JSON schema of a run's config."""
    from codex_forge.config import RunConfig

    tree = RunConfig.model_json_schema()
    tree["title"] = "codex-forge run"
    return json.dumps(tree, indent=1)


def main(arguments: list[str]) -> int:
    """Answer `python -m jobs ...`."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `python -m jobs schema | head` is no error
    if arguments == ["schema"]:
        print(schema())
        return 0
    print(listing())
    known = not arguments or arguments[0] in ("-h", "--help", "list")
    if not known:
        print(f"\nerror: unknown command {arguments[0]!r}", file=sys.stderr)
    return 0 if known else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
