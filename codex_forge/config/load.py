"""From YAML text, environment and command-line overrides to a checked `RunConfig`.

Every mistake is named with its file and its full key; an unknown key with the nearest known one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from codex_forge.config.sections import RunConfig
from codex_forge.errors import ConfigError, nearest

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

_SHOWN = 10

_SAID = {
    "model_type": "must be a section, with its keys below it",
    "tuple_type": "must be a list",
    "string_type": "must be text; put it in quotes",
}
"""What we say instead of pydantic, by its type of error."""

_KEY_VARIABLE = "pairs.synthesis.generator.api_key_variable"
_FORMS = {
    "name": "must be 3 to 100 letters, digits, `.`, `_`, `-`, with a letter or digit at both ends",
    _KEY_VARIABLE: "must be the name of an environment variable, not the key itself",
}
"""What a text that its pattern refuses must look like, by its key."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is not a word", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read `path`, expand `${VAR:-default}`, apply `section.key=value` overrides, check it all.

    Raises:
        ConfigError: with the file, the key and what to do.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot read the config ({reason})", where=path, do="give the path of a YAML file"
        ) from error
    return parse_config(text, overrides, where=str(path))


def parse_config(text: str, overrides: Sequence[str] = (), *, where: str) -> RunConfig:
    """Like `load_config`, from the YAML text itself; `where` names it in errors."""
    tree = _yaml(text, where)
    if not isinstance(tree, dict):
        raise ConfigError("is not a mapping of sections", where=where, do="see configs/")
    for override in overrides:
        _apply(tree, override)
    tree = _expand(tree, where)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, where) from error


def changed(config: RunConfig, values: Mapping[str, Any], *, where: str) -> RunConfig:
    """The config with some dotted keys set otherwise, checked whole; `where` names it in errors.

    Raises:
        ConfigError: with the key and what to do.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        place = tree
        *sections, last = key.split(".")
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[last] = value
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, where) from error


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{where}:{mark.line + 1}" if mark else where
        raise ConfigError(
            f"not valid YAML ({problem})", where=place, do="mend that line"
        ) from error


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in the tree; the value is read as YAML."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"cannot read the override {override!r}", do="write section.key=value")
    place = tree
    *sections, last = key.strip().split(".")
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{section} in the override {override!r} is not a section")
        place = inner
    place[last] = _yaml(value, f"override {key}")


def _expand(value: Any, where: str) -> Any:
    """Replace `${VAR:-default}` in every string; a string that is one variable is read as YAML."""
    if isinstance(value, dict):
        return {key: _expand(inner, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, where) for inner in value]
    if not isinstance(value, str) or "${" not in value:
        return value

    def fill(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name) or default
        if found is None:
            raise ConfigError(
                f"the variable {name} is not set",
                where=where,
                do=f"export {name}, or write ${{{name}:-default}}",
            )
        return found

    filled = _VARIABLE.sub(fill, value)
    return _yaml(filled, where) if _VARIABLE.fullmatch(value) else filled


def _explain(error: ValidationError, where: str) -> ConfigError:
    """The first mistakes of a config in our words, one line each."""
    lines = [_explain_one(detail) for detail in error.errors()]
    shown = "\n  ".join(lines[:_SHOWN])
    more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return ConfigError(shown + more, where=where)


def _explain_one(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key}; {_nearest(detail['loc'])}"
    if detail["type"] == "missing":
        return f"{key} is missing; add it"
    said = _FORMS if detail["type"] == "string_pattern_mismatch" else {}
    message = said.get(key) or _SAID.get(
        detail["type"], detail["msg"].removeprefix("Value error, ")
    )
    message = message[:1].lower() + message[1:]
    secret = key == _KEY_VARIABLE or message.startswith("credentials")
    hidden = isinstance(detail["input"], dict) or secret
    got = "" if hidden else f" (got {detail['input']!r})"
    return f"{key}: {message}{got}" if key else message


def _nearest(location: Sequence[str | int]) -> str:
    """Advice for an unknown key: its nearest sibling, or the nearest key of any section."""
    *sections, word = location
    prefix = "".join(f"{section}." for section in sections)
    siblings = {name: prefix + name for name in _section_at(sections).model_fields}
    anywhere = {key.rsplit(".", 1)[-1]: key for key in reversed([k for k, _ in keys_of(RunConfig)])}
    if word in anywhere:
        return f"did you mean {anywhere[str(word)]}?"
    for known in (siblings, anywhere):
        if near := nearest(str(word), known):
            return f"did you mean {known[near]}?"
    return f"known: {', '.join(sorted(siblings.values()))}"


def _section_at(location: Sequence[str | int]) -> type[BaseModel]:
    """The section that a location of pydantic's leads to, through lists of sections as well."""
    section: Any = RunConfig
    for part in location:
        if isinstance(part, str):
            inner = section.model_fields[part].annotation
            section = next(iter(get_args(inner)), inner)
    return cast(type[BaseModel], section)


def keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key below a section as (dotted key, field), depth first.

    A key that holds a list of sections (`[]`), or perhaps a section, comes before their keys.
    """
    for name, field in section.model_fields.items():
        inner = _inner_section(field.annotation)
        listed = "[]" if get_origin(field.annotation) is tuple else ""
        if inner is not field.annotation:
            yield f"{prefix}{name}", field
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}{listed}.")


def _inner_section(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, perhaps in a list or perhaps none at all."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def type_name(annotation: Any) -> str:
    """A type as people write it: `int`, `trained | base`, `list of float`."""
    args = get_args(annotation)
    origin = str(getattr(annotation, "__origin__", ""))
    if "Literal" in origin:
        return " | ".join(str(arg) for arg in args)
    if origin == "<class 'tuple'>":
        return f"list of {type_name(args[0])}"
    if origin == "<class 'dict'>":
        return f"mapping of {type_name(args[0])} to {type_name(args[1])}"
    if hasattr(annotation, "__metadata__"):
        return type_name(args[0])
    if args:
        return " | ".join(type_name(arg) for arg in args)
    return "none" if annotation is type(None) else str(getattr(annotation, "__name__", annotation))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
