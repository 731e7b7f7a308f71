"""Artifacts: folders of a store that exist only once their manifest does.

Data first, manifest last, one writer at a time. A manifest names every file with its size and
sha256, the inputs that the artifact was made from, the settings that determine it, and a
fingerprint over both. An artifact of n shards is whole when all n manifests are there and agree;
nobody seals it.
"""

from codex_forge.artifact.manifest import FileEntry, Input, Manifest, Recipe, hash_file, hash_json
from codex_forge.artifact.reading import Artifact, open_artifact
from codex_forge.artifact.uploads import Uploads
from codex_forge.artifact.work import Block, Blocks, Checkpoint, Checkpoints, Work
from codex_forge.artifact.writing import Draft, begin, is_whole

__all__ = [
    "Artifact",
    "Block",
    "Blocks",
    "Checkpoint",
    "Checkpoints",
    "Draft",
    "FileEntry",
    "Input",
    "Manifest",
    "Recipe",
    "Uploads",
    "Work",
    "begin",
    "hash_file",
    "hash_json",
    "is_whole",
    "open_artifact",
]
