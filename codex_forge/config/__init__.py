"""A run's config as a frozen value: read from one YAML, checked whole, torch-free."""

from codex_forge.config.load import changed, flatten, keys_of, load_config, parse_config
from codex_forge.config.section import Section
from codex_forge.config.sections import RunConfig

__all__ = ["RunConfig", "Section", "changed", "flatten", "keys_of", "load_config", "parse_config"]
