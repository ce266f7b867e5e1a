"""What the programs of this folder run on: the package that their first argument names."""

import importlib
import sys

NAME = sys.argv[1]
mp = importlib.import_module(NAME)
if NAME == "manyhands":
    executor = mp.ProcessPoolExecutor
else:
    executor = importlib.import_module("concurrent.futures").ProcessPoolExecutor
