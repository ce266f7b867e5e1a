"""Pools and queues in event loops of asyncio, and the module of what workers run for them (`awaited`)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
