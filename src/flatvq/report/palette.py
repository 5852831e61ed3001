"""The style of each arm on the page: the hue shows the model, shade and dashes the codebook settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flatvq.records import Arm

__all__ = ["Style", "styles_of"]

HUES = 8
SOLID = ("none", "12 3", "12 3 2 3", "16 4 6 4")
DASHED = ("5 3", "2 3", "7 3 2 3", "4 2 1 2")


@dataclass(frozen=True)
class Style:
    """How an arm is drawn.

    Attributes:
        hue: index of one of the page's eight hues, which colour-blind readers can distinguish.
        healthy: full shade and mostly solid lines; otherwise a softer shade and dashed lines.
        dash: SVG dash pattern of the line.
    """

    hue: int
    healthy: bool
    dash: str

    @property
    def css(self) -> str:
        """The custom properties that the style sheet of the page uses."""
        return f"--c:var(--{'hue' if self.healthy else 'soft'}-{self.hue});--dash:{self.dash}"


def styles_of(arms: Sequence[Arm]) -> dict[str, Style]:
    """Assign a style to each arm.

    Args:
        arms: the arms of the study.

    Returns:
        The styles by arm name. Arms with the same levels and kind of hierarchy share a hue.

    Example:
        >>> level = {"grid": [16, 16], "codebook_size": 256, "code_dim": 64}
        >>> one = Arm(name="one", healthy=True, level_table=[level])
        >>> naive = Arm(name="naive", healthy=False, level_table=[level])
        >>> two = Arm(name="two", healthy=True, level_table=[level, level])
        >>> [(style.hue, style.dash) for style in styles_of([one, naive, two]).values()]
        [(0, 'none'), (0, '5 3'), (1, 'none')]
    """
    structures = list(dict.fromkeys((arm.level_table, arm.hierarchy) for arm in arms))
    by_arm: dict[str, Style] = {}
    used: Counter[tuple[int, bool]] = Counter()
    for arm in arms:
        hue = structures.index((arm.level_table, arm.hierarchy)) % HUES
        dashes = SOLID if arm.healthy else DASHED
        by_arm[arm.name] = Style(hue, arm.healthy, dashes[used[hue, arm.healthy] % len(dashes)])
        used[hue, arm.healthy] += 1
    return by_arm
