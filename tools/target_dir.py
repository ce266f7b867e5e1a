"""Prints the folder that cargo builds into, whatever the environment or a config file says."""

import json
import subprocess

metadata = subprocess.run(
    ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"], capture_output=True, check=True
)
print(json.loads(metadata.stdout)["target_directory"])
