"""What libraries do with our contexts and pools: each test needs a library, and is skipped without it.

Always: none of them is a dependency of the package.  What runs in workers is in `chores`, so that children
of every start method can import it; what needs `manyhands.install()` runs in a program of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
