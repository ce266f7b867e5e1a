"""Arrays and other large objects on their way to workers and back.

Always: of the libraries only numpy has to be installed; what needs another is skipped without it. What runs in workers is in
`handlers`, so that children of every start method can import it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
