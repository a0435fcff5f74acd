#!/usr/bin/python3
"""What libpool-core.so shows, against the list in exports.txt, so that nothing appears in the ABI or leaves it unseen.

    check_exports.py LIBRARY [--update]
"""
import pathlib
import subprocess
import sys

LIST = pathlib.Path(__file__).with_name("exports.txt")


def main():
    library = sys.argv[1]
    table = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", library], check=True,
                           capture_output=True, text=True).stdout
    # The version node itself (POOL_0) is listed as an absolute symbol.
    found = {line.split()[0].split("@")[0] for line in table.splitlines() if line.split()[1] != "A"}
    strangers = sorted(name for name in found if not name.startswith("pool_"))
    if strangers:
        print("not ours to export:", *strangers, sep="\n  ")
        return 1
    if "--update" in sys.argv:
        LIST.write_text("".join(f"{name}\n" for name in sorted(found)), encoding="ascii")
        print(f"{len(found)} names written to {LIST.name}")
        return 0
    listed = set(LIST.read_text(encoding="ascii").split())
    for name in sorted(found - listed):
        print(f"new: {name}")
    for name in sorted(listed - found):
        print(f"gone: {name}")
    if found != listed:
        print(f"If that is meant: tests/static/check_exports.py {library} --update, and a line in CHANGELOG.md.")
        return 1
    print(f"{len(found)} names, as listed")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
