"""Processes that an environment of these tests starts, as those do that talk to a simulator; standard library only."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SERVER = """
import os, signal, socket, sys, time
kind, port, told = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if kind in ("daemon", "stranger"):
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
if kind in ("deaf", "stranger"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
listening = socket.socket()
listening.bind(("127.0.0.1", port))
listening.listen()
with open(told + ".tmp", "w") as file: file.write(str(os.getpid()))
os.rename(told + ".tmp", told)
time.sleep(3600)
"""
KINDS = ("child", "daemon", "deaf", "stranger")
"""A plain child · one that left group and parent · one that ignores SIGTERM · one that is both, its variables gone."""
_started = False


def serve(ports: list[int]) -> None:
    """Start a server of each kind, once a process; their numbers go to files `KIND.N` of the working folder."""
    global _started
    if _started:
        return
    _started = True
    life = len(list(Path().glob("child.*")))
    for kind, port in zip(KINDS, ports, strict=True):
        told = Path(f"{kind}.{life}").absolute()
        command = [sys.executable, "-I", "-S", "-c", SERVER, kind, str(port), str(told)]
        server = subprocess.Popen(command, env={} if kind == "stranger" else None)
        while not told.exists():
            if server.poll():
                raise OSError(f"the {kind} of life {life} could not serve: is port {port} taken?")
            time.sleep(0.01)
