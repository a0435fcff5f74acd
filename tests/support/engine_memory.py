"""What memory a real llama-server takes, as it says itself in its log: model, cache, recurrent state, compute buffers.

The server is started with -v on the CPU and ended as soon as it has reserved its buffers; nothing is computed.
"""
import os
import re
import selectors
import subprocess
import time

DEADLINE_S = 60
MIB = 1 << 20
# "load_tensors:   CPU_Mapped model buffer size =    50.53 MiB" and the like; kinds by what stands before "buffer size".
BUFFER = re.compile(rb"(\S+) +(model|output|KV|RS|compute) buffer size = +([0-9.]+) MiB")
BUILD = re.compile(rb"build (\d+)")


class EngineError(Exception):
    pass


def parse(log):
    """Bytes by kind; a kind that is not there took nothing."""
    sums = {"model": 0, "output": 0, "KV": 0, "RS": 0, "compute": 0}
    for match in BUFFER.finditer(log):
        sums[match.group(2).decode()] += int(float(match.group(3)) * MIB)
    build = BUILD.search(log)
    return sums, int(build.group(1)) if build else 0


def measure(engine, model, ctx, parallel=1, extra=(), port=0):
    """Starts the engine and reads its log until the buffers are there. Raises EngineError with the log's end."""
    argv = [engine, "-m", str(model), "--device", "none", "--host", "127.0.0.1", "--port", str(port or 18099)]
    argv += ["-c", str(ctx), "-np", str(parallel), "--no-warmup", "-v", *extra]
    environment = {**os.environ, "LLAMA_ARG_FIT": "off"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
        try:
            return parse(read_until_reserved(process))
        finally:
            process.kill()


def read_until_reserved(process):
    log, deadline = b"", time.monotonic() + DEADLINE_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"reserve took" not in log:
            if not selector.select(max(0, deadline - time.monotonic())):
                raise EngineError("no buffers within %d s: %s" % (DEADLINE_S, log[-500:]))
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                errors = [line for line in log.splitlines() if b" E " in line]
                raise EngineError(b"\n".join(errors[-3:] or log.splitlines()[-3:]).decode(errors="replace"))
            log += chunk
    return log
