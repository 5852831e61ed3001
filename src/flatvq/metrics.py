"""The metrics of a trial: one entry for each, which records, tables and reports read.

A metric is stored under its key in `metrics.json` and `study.json`, and has a column in the tables.
`flatvq.evaluate` computes the metrics of flatvq. The `compute` of a `Metric` computes a metric of another
package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flatvq.number_format import NumberFormat
from flatvq.registry import Registry

__all__ = ["LEVEL_METRICS", "PRIMARY", "TRIAL_METRICS", "Metric", "Table", "shown_in"]

Table = Literal["terminal", "arms", "trials"]
"""A table that shows metrics: the terminal's, the report's table of arms (means over seeds), and the report's
table of single trials."""

PRIMARY = "psnr_db"
"""Key of the metric that comparisons are made in."""

_FOUR_DIGITS = NumberFormat(digits=4)


@dataclass(frozen=True)
class Metric:
    """A metric, as records store it and tables show it.

    Args:
        key: its key in `metrics.json` and in a trial of `study.json`.
        label: its name in a table's head.
        unit: its unit; empty for none.
        format: how its values are written.
        higher_is_better: whether a higher value is better; None for a metric without a better direction.
        minimum: smallest valid value.
        maximum: largest valid value.
        tables: the tables that show it.
        compute: the function that computes it; None for the metrics of flatvq. A metric of a trial maps
            reconstructions and originals, both float32 [B, C, H, W] in [0, 1], to one value for each image,
            [B]; their mean is stored. A metric of a level maps the counts of its codes over the held-out
            split, int64 [K] ([Q, K] for Q codebooks), to a number.
        smallest_crop: side of the smallest image for which it is defined.
        needs: the key of the section `evaluate` that turns the measurement on; empty if it is always made.

    Example:
        >>> TRIAL_METRICS["psnr_db"].heading, TRIAL_METRICS["mse"].format(0.0031)
        ('PSNR, dB', '3.100')
    """

    key: str
    label: str
    unit: str = ""
    format: NumberFormat = _FOUR_DIGITS
    higher_is_better: bool | None = True
    minimum: float = -3.5e38
    maximum: float = 3.5e38
    tables: tuple[Table, ...] = ("terminal", "arms", "trials")
    compute: Callable[..., Any] | None = None
    needs: str = ""
    smallest_crop: int = 1

    @property
    def heading(self) -> str:
        """Label and unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def direction(self) -> str:
        """Which values are better, in words; empty if neither."""
        if self.higher_is_better is None:
            return ""
        return "higher is better" if self.higher_is_better else "lower is better"


def _by_key(*metrics: Metric) -> dict[str, Metric | str]:
    return {metric.key: metric for metric in metrics}


_TRIAL = _by_key(
    Metric("psnr_db", "PSNR", "dB", NumberFormat(digits=2), minimum=-1000, maximum=1000),
    Metric(
        "psnr_of_mean_mse_db",
        "PSNR of mean MSE",
        "dB",
        NumberFormat(digits=2),
        minimum=-1000,
        maximum=1000,
        tables=("trials",),
    ),
    # SSIM and MS-SSIM have some room for rounding.
    Metric("ssim", "SSIM", minimum=-1.01, maximum=1.01),
    Metric("ms_ssim", "MS-SSIM", minimum=-1.01, maximum=1.01, tables=("arms", "trials"), smallest_crop=176),
    Metric(
        "mse",
        "MSE × 1000",
        format=NumberFormat(digits=3, factor=1000),
        higher_is_better=False,
        minimum=0,
        maximum=1,
        tables=("arms", "trials"),
    ),
    Metric(
        "effective_bits_per_image",
        "effective bits",
        format=NumberFormat(),
        higher_is_better=None,
        tables=("trials",),
    ),
    Metric(
        "coded_bits_per_image",
        "coded bits",
        format=NumberFormat(),
        higher_is_better=False,
        minimum=0,
        tables=("arms", "trials"),
        needs="prior_images",
    ),
    Metric(
        "text_error_rate",
        "errors in text",
        format=NumberFormat("percent", 1),
        higher_is_better=False,
        minimum=0,
        tables=("arms", "trials"),
        needs="text",
    ),
    Metric(
        "contrast_kept",
        "contrast kept",
        format=NumberFormat("percent", 1),
        tables=("arms", "trials"),
        needs="detail",
    ),
    Metric(
        "fine_contrast_kept",
        "contrast kept, finest octave",
        format=NumberFormat("percent", 1),
        tables=("arms", "trials"),
        needs="detail",
    ),
)
TRIAL_METRICS: Registry[Metric] = Registry("metric", "flatvq.metrics", _TRIAL)
"""Metrics of a trial by key, in the order of the columns."""

_LEVEL = _by_key(
    Metric("usage", "usage", format=NumberFormat("percent", 1), minimum=0, maximum=1),
    Metric("perplexity", "perplexity", format=NumberFormat()),
    Metric("used_codes", "codes used", format=NumberFormat(), minimum=0, tables=()),
    Metric("codes_for_99", "codes for 99 % of the counts", format=NumberFormat(), minimum=0, tables=()),
    Metric(
        "quantization_error",
        "quantization error",
        format=NumberFormat(digits=3),
        higher_is_better=False,
        tables=(),
    ),
)
LEVEL_METRICS: Registry[Metric] = Registry("level metric", "flatvq.level_metrics", _LEVEL)
"""Metrics of one level's codebook by key, in the order of the columns."""


def shown_in(table: Table, metrics: Mapping[str, Metric]) -> list[Metric]:
    """Return the metrics that a table shows, in the order of its columns.

    Example:
        >>> [metric.label for metric in shown_in("terminal", LEVEL_METRICS)]
        ['usage', 'perplexity']
    """
    return [metric for metric in metrics.values() if table in metric.tables]
