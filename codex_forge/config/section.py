"""What every section of a run's YAML shares: strict values, and paths without secrets."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


def refuse_secret(url: str) -> None:
    """Configs go into manifests and logs: no URL in them may carry credentials."""
    scheme, _, rest = url.partition("://")
    # A secret may hold `/`: then what looks like the bucket is `KEY:SECR`.
    host = rest.split("/", 1)[0]
    if re.search(r"[?&](x-amz-|awsaccesskeyid=|signature=|sig=|token=)", url, re.IGNORECASE):
        raise ValueError("a signed URL is a secret; give the plain one and credentials apart")
    port = scheme in ("http", "https") and host.rpartition(":")[2].isdigit()
    if "@" in host or (":" in host and not port and not host.startswith("arn:")):
        raise ValueError("credentials do not belong in a URL; set AWS_ACCESS_KEY_ID and so on")


def _one_is_a_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Paths = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_is_a_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""Paths, globs and URLs; one may stand without the brackets of a list."""


class Section(BaseModel):
    """A frozen value; a key that it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads `on` and `yes` as true, which Python takes for the number 1."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("must not be true or false; quote it if it is a word")
        return value
