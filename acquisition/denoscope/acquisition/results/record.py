"""Base of everything that goes into a file or comes from one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Record"]


class Record(BaseModel):
    """Values that go into a file or come from one."""

    # Built when first used, as every model here: building all of them is a quarter of the time of `import live`.
    model_config = ConfigDict(extra="ignore", validate_assignment=True, defer_build=True)

    def as_json(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return self.model_dump(mode="json", fallback=str)
