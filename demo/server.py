"""A server on the loopback interface that lets every client wait before it answers.

Run as a program: prints its port, serves until its standard input ends (that is, until whoever
started it is gone, however that happened).
"""

import asyncio
import sys


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """One question, one pause, one answer."""
    question = await reader.readline()
    await asyncio.sleep(delay)
    writer.write(b"answer to " + question)
    await writer.drain()
    writer.close()


async def serve(delay: float) -> None:
    """Serves until standard input ends."""
    server = await asyncio.start_server(lambda r, w: answer(r, w, delay), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
