"""The process of a sleeping job. It imports little, so that it starts quickly."""

from __future__ import annotations

import signal
import time
from pathlib import Path


def sleep_until_stopped(seconds: float, checkpoint: Path) -> None:
    def stop(number: int, frame: object) -> None:
        checkpoint.with_suffix(".saved").touch()
        raise SystemExit(3)

    signal.signal(signal.SIGTERM, stop)
    checkpoint.touch()
    time.sleep(seconds)
