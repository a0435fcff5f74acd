"""A terminal of a given size, as a person would see it: tmux runs the program, and what is on its screen is looked at until it
is what it should be or a deadline is over."""
import contextlib
import shutil
import subprocess
import tempfile
import time

DEADLINE_S = 60


class Screen:
    def __init__(self, columns, rows, command, environment, directory):
        self.socket = f"{directory}/tmux"
        self.environment = {**environment, "TERM": "xterm", "SHELL": "/bin/sh"}
        self.environment.pop("TMUX", None)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c",
                  'trap : INT; "$@"; echo "status $?"; exec cat', "sh", *map(str, command))

    def tmux(self, *words):
        return subprocess.run(["tmux", "-u", "-S", self.socket, *words], env=self.environment, check=True,
                              capture_output=True, text=True, timeout=60).stdout

    def text(self, *options):
        return self.tmux("capture-pane", "-p", *options)

    def lines(self):
        return self.text().split("\n")

    def keys(self, *names):
        self.tmux("send-keys", *names)

    def resize(self, columns, rows):
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def is_other_page(self):
        return self.tmux("display-message", "-p", "#{alternate_on}").strip() == "1"

    def wait_for(self, wanted):
        """The screen as soon as it holds a text, or a condition on it is true."""
        is_there = wanted if callable(wanted) else lambda text: wanted in text
        deadline = time.monotonic() + DEADLINE_S
        while not is_there(text := self.text()):
            assert time.monotonic() < deadline, f"not seen: {wanted}\n{text}"
        return text

    def close(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")


@contextlib.contextmanager
def screen(columns, rows, command, environment):
    directory = tempfile.mkdtemp(prefix="pool-tmux-")  # a short path: it has a socket
    made = Screen(columns, rows, command, environment, directory)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)
