"""python/cpython#82300: a process looks into a segment and ends, and with it goes the segment, which is another's."""

import subprocess
import sys
import time
from importlib import import_module

from subject import NAME

LOOK = f"from {NAME}.shared_memory import SharedMemory; import sys; SharedMemory(sys.argv[1]).close()"

if __name__ == "__main__":
    shared_memory = import_module(f"{NAME}.shared_memory")
    segment = shared_memory.SharedMemory(create=True, size=100)
    try:
        subprocess.run([sys.executable, "-c", LOOK, segment.name], check=True, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            with open(f"/dev/shm/{segment.name}"):
                time.sleep(0.02)
        print("fine")
    finally:
        try:
            segment.close()
            segment.unlink()
        except FileNotFoundError:
            pass
