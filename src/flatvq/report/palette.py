"""One look per arm over the whole page: hue by the model's structure, shade and dash by its codebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatvq.records import Arm

__all__ = ["Look", "looks"]

HUES = 8
SOLID = ("none", "12 3", "12 3 2 3", "16 4 6 4")
BROKEN = ("5 3", "2 3", "7 3 2 3", "4 2 1 2")


@dataclass(frozen=True)
class Look:
    """How an arm is drawn.

    Attributes:
        hue: which of the page's eight hues, told apart by colour-blind readers too.
        healthy: full shade and mostly solid lines; otherwise a softer shade and broken lines.
        dash: the stroke's dash pattern.
    """

    hue: int
    healthy: bool
    dash: str

    @property
    def css(self) -> str:
        """The custom properties that the page's style sheet draws with."""
        return f"--c:var(--{'hue' if self.healthy else 'soft'}-{self.hue});--dash:{self.dash}"


def looks(arms: Sequence[Arm]) -> dict[str, Look]:
    """Give each arm its look.

    Args:
        arms: the study's arms.

    Returns:
        A look by arm name: arms of the same levels and kind of hierarchy share a hue.

    Example:
        >>> level = {"grid": [16, 16], "codebook_size": 256, "code_dim": 64}
        >>> one = Arm(name="one", healthy=True, level_table=[level])
        >>> naive = Arm(name="naive", healthy=False, level_table=[level])
        >>> two = Arm(name="two", healthy=True, level_table=[level, level])
        >>> [(look.hue, look.dash) for look in looks([one, naive, two]).values()]
        [(0, 'none'), (0, '5 3'), (1, 'none')]
    """
    structures = list(dict.fromkeys((arm.level_table, arm.hierarchy) for arm in arms))
    chosen: dict[str, Look] = {}
    alike: dict[tuple[int, bool], int] = {}
    for arm in arms:
        hue = structures.index((arm.level_table, arm.hierarchy)) % HUES
        place = alike.setdefault((hue, arm.healthy), 0)
        alike[hue, arm.healthy] += 1
        dashes = SOLID if arm.healthy else BROKEN
        chosen[arm.name] = Look(hue, arm.healthy, dashes[place % len(dashes)])
    return chosen
