"""The description of packages is a program of its own, `describe.py`: tests import it too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
