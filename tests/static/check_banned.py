#!/usr/bin/python3
"""What may not stand in the product: unbounded or hidden functions, calls that act on a bare pid, sleeps, and, in the
library, ending the program or printing. Comments and strings are not looked at."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

EVERYWHERE = [
    (r"v?sprintf|strcpy|stpcpy|strcat|strtok|gets|tmpnam|mktemp|alloca", "unbounded, or with hidden state"),
    (r"atoi|atol|atoll|atof|v?f?scanf|v?sscanf", "accepts what it should refuse; use base/number.h"),
    (r"system|popen", "runs a shell"),
    (r"localtime|gmtime|asctime|ctime|setenv|unsetenv|putenv|setlocale", "not for more than one thread"),
    (r"sleep|usleep|nanosleep|clock_nanosleep", "sleeps; wait for an event with a deadline"),
]
IN_LIBRARY = [
    (r"exit|_exit|quick_exit|abort", "ends the program; the library reports an error"),
    (r"v?printf|puts|putchar|perror", "prints; the library is silent"),
]
SPECIAL = [
    (re.compile(r"\bwaitpid\s*\(\s*-\s*1"), "waits for children of anybody"),
    (re.compile(r"\bkill\s*\([^;]*,\s*0\s*\)"), "a zombie and a stranger answer too; use a pidfd"),
]
BAD_NAMES = re.compile(r"^(utils?|common|helpers?|misc)\.")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def check(path, is_library):
    name = path.relative_to(ROOT).as_posix()
    if BAD_NAMES.match(path.name):
        yield f"{name}: a file is named after what it does"
    code = TOKEN.sub(blank, path.read_text(encoding="utf-8", errors="replace"))
    patterns = [(re.compile(rf"(?<![\w.>])(?:{words})\s*\("), why)
                for words, why in EVERYWHERE + (IN_LIBRARY if is_library else [])]
    for number, line in enumerate(code.split("\n"), 1):
        for pattern, why in patterns + SPECIAL:
            for match in pattern.finditer(line):
                yield f"{name}:{number}: {match.group().rstrip('( ')}: {why}"


def main():
    files = sorted(path for folder in ("src", "include") for path in (ROOT / folder).rglob("*")
                   if path.suffix in (".c", ".h", ".cpp"))
    complaints = []
    for path in files:
        is_library = path.relative_to(ROOT).parts[:2] in (("src", "base"), ("src", "core"))
        complaints += check(path, is_library)
    print("\n".join(complaints) if complaints else f"{len(files)} files are clean")
    return 1 if complaints or not files else 0


if __name__ == "__main__":
    sys.exit(main())
