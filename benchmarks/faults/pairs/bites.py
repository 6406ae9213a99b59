"""What each fault of these programs costs: plain training, and no diagnosis.

python -m benchmarks.faults.pairs.bites --seeds 3 --processes 2    # writes bites.csv beside this
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.faults.bites import LEAST, measure

__all__ = ["LEAST", "TABLE"]

TABLE = Path(__file__).with_name("bites.csv")

if __name__ == "__main__":
    measure("shown,held", TABLE, __doc__)
