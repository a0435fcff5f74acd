#!/usr/bin/python3
"""The include rule: cli, managerd -> core -> base; gpu, catalog and registry do not know each other; lifecycle knows
all three; api knows types alone. A room is a folder of src/; "types" and "config" are the files right in src/core."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)

# Which rooms of src/ a room may include, beside itself.
ROOMS = {
    "base": set(),
    "types": {"base"},
    "config": {"base", "types"},
    "gpu": {"base", "types"},
    "catalog": {"base", "types"},
    "registry": {"base", "types"},
    "api": {"base", "types"},
    "lifecycle": {"base", "types", "config", "gpu", "catalog", "registry", "api"},
    "cli": {"base", "types", "config", "gpu", "catalog", "registry", "lifecycle", "api"},
    "managerd": {"base", "types", "config", "gpu", "catalog", "registry", "lifecycle", "api"},
}
# Which public headers a room may not include: those of rooms it must not know. base knows the error value alone.
PUBLIC_OF_ROOM = {"gpu.h": "gpu", "gpu_event.h": "gpu", "catalog.h": "catalog", "registry.h": "registry", "config.h": "config",
                  "lifecycle.h": "lifecycle", "api.h": "api"}
# What is in <pool/...> for everybody.
SHARED_PUBLIC = {"error.h", "version.h", "worker.h"}


def room_of(path):
    """The room a path below src/ belongs to."""
    parts = pathlib.PurePath(path).parts
    if parts[0] != "core":
        return parts[0]
    if len(parts) > 2:
        return parts[1]
    return "config" if parts[1].startswith("config") else "types"


def check_source(path):
    relative = path.relative_to(ROOT / "src").as_posix()
    room = room_of(relative)
    if room not in ROOMS:
        yield f"src/{relative}: no room '{room}' in the include rule"
        return
    for bracket, name in INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace")):
        if name.startswith("pool/"):
            header = name.removeprefix("pool/")
            owner = PUBLIC_OF_ROOM.get(header)
            if room == "base" and header != "error.h":
                yield f"src/{relative}: base includes <{name}>; it may know <pool/error.h> alone"
            elif room in ("gpu", "catalog", "registry") and header not in SHARED_PUBLIC and owner != room:
                yield f"src/{relative}: {room} may not know <{name}>"
        elif bracket == '"':
            if ".." in name:
                yield f'src/{relative}: "{name}": includes start at src/'
                continue
            target = name if (ROOT / "src" / name).exists() else f"{pathlib.PurePath(relative).parent}/{name}"
            if not (ROOT / "src" / target).exists():
                yield f'src/{relative}: "{name}" is not below src/'
            elif room_of(target) not in ROOMS[room] | {room}:
                yield f'src/{relative}: {room} may not know {room_of(target)} ("{name}")'


def check_public_header(path):
    for bracket, name in INCLUDE.findall(path.read_text(encoding="utf-8")):
        if bracket == '"' or ("/" in name and not name.startswith(("pool/", "sys/"))):
            yield f"include/pool/{path.name}: includes {name}; a public header knows <pool/...> and the system alone"


def find_cycles(files):
    """Headers that include each other in a circle."""
    edges = {}
    for path, prefix in files:
        names = {name for _, name in INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace"))}
        edges[prefix] = names
    state = {}

    def visit(node, trail):
        if state.get(node) == "done":
            return
        if node in trail:
            yield "includes in a circle: " + " -> ".join(trail[trail.index(node):] + [node])
            return
        for target in sorted(edges.get(node, ())):
            if target in edges:
                yield from visit(target, trail + [node])
        state[node] = "done"

    for node in sorted(edges):
        yield from visit(node, [])


def main():
    sources = sorted(path for path in (ROOT / "src").rglob("*") if path.suffix in (".c", ".h", ".cpp"))
    headers = sorted((ROOT / "include/pool").glob("*.h"))
    complaints = [line for path in sources for line in check_source(path)]
    complaints += [line for path in headers for line in check_public_header(path)]
    complaints += find_cycles([(path, path.relative_to(ROOT / "src").as_posix()) for path in sources
                               if path.suffix == ".h"] + [(path, f"pool/{path.name}") for path in headers])
    print("\n".join(complaints) if complaints else f"{len(sources)} sources and {len(headers)} headers keep the rule")
    return 1 if complaints or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
