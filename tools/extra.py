"""Prints the requirements of one of the package's extras, from pyproject.toml.

The Makefile needs the tools before there is a wheel whose extras pip could install.
"""

import pathlib
import sys
import tomllib

project = tomllib.loads((pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
print("\n".join(project["optional-dependencies"][sys.argv[1]]))
