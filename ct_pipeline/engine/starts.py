"""How often this process started an engine: a study is meant to start as few as it can."""

from dataclasses import dataclass


@dataclass
class EngineStarts:
    """Counts the engines of any kind that were started."""

    count: int = 0


ENGINE_STARTS = EngineStarts()
