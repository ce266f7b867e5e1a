"""Children's functions for these tests are in `sharers`, so that every start method can import them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
