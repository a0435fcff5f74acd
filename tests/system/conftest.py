"""What several system tests share: a range of ports of its own for each test, and a host with fake workers."""
import itertools
import os
import random
import socket

import pytest
from pool_host import Host

PORTS_OF_A_TEST = 40
FIRST, LAST = 16000, 31999  # below the ephemeral ports
# pytest-xdist runs several processes, gw0, gw1, ...: each has a share of the ports.
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_N_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_N_BLOCKS = (LAST - FIRST + 1) // PORTS_OF_A_TEST // _N_PROCESSES
_blocks = itertools.count(random.randrange(_N_BLOCKS))


def _is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def take_ports():
    """(first, last): a range that nobody listens on, and that no other test of this run is given."""
    for block in itertools.islice(_blocks, 1000):
        first = FIRST + (_PROCESS * _N_BLOCKS + block % _N_BLOCKS) * PORTS_OF_A_TEST
        if all(_is_free(port) for port in range(first, first + PORTS_OF_A_TEST)):
            return first, first + PORTS_OF_A_TEST - 1
    raise AssertionError("no free ports")


@pytest.fixture
def ports():
    return take_ports()


@pytest.fixture
def host(tmp_path, ports):
    """A host with a backend `fake` on the CPU."""
    made = Host(tmp_path, ports)
    yield made
    made.stop_everything()
