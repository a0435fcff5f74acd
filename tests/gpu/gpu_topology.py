"""How the GPUs are connected, beside what nvidia-smi says of it: its matrix, and its active NVLinks."""
import re
import subprocess

from gpu_ground import PATIENCE_S

MARKS = {None: "?", "internal": "PIX", "single": "PIX", "multiple": "PXB", "hostbridge": "PHB", "node": "NODE", "system": "SYS"}


def ask_smi_text(*words):
    """What it prints, without escape sequences; empty where it does not know the question."""
    done = subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout) if done.returncode == 0 else ""


def read_matrix(text):
    """{(index, index): mark} of the GPUs in `nvidia-smi topo -m`; NICs and affinities are passed over."""
    rows = [line.split() for line in text.splitlines() if re.match(r"\s*GPU\d+\s", line)]
    if len(rows) < 2:
        return {}
    columns = []
    for word in rows[0]:
        if not re.fullmatch(r"GPU\d+", word):
            break
        columns.append(int(word[3:]))
    return {(int(row[0][3:]), other): mark for row in rows[1:] for other, mark in zip(columns, row[1:])}


def read_links(text):
    """{uuid: number of active links} of `nvidia-smi nvlink -s`; one without NVLink has none."""
    counts, uuid = {}, None
    for line in text.splitlines():
        head = re.search(r"UUID: ([^)\s]+)\)", line)
        if head:
            uuid = head.group(1)
            counts[uuid] = 0
        elif uuid and re.match(r"\s*Link \d+: [0-9.]+ GB/s", line):
            counts[uuid] += 1
    return counts


def mark_of(peer):
    return f"NV{peer['nvlinks']}" if peer["nvlinks"] else MARKS[peer["common_ancestor"]]


def check_pairs(report, ours):
    text = ask_smi_text("topo", "-m")
    theirs = read_matrix(text)
    if not theirs:
        report.note("nvidia-smi topo -m has no matrix here: pairs are not compared")
        return
    for gpu in ours:
        for peer in (peer for peer in gpu["peers"] if peer["gpu_id"] > gpu["gpu_id"]):
            one, other = gpu["gpu_id"], peer["gpu_id"]
            said = {theirs.get((one, other)), theirs.get((other, one))}
            report.check(said == {mark_of(peer)}, f"GPU {one} and {other}: {mark_of(peer)}, nvidia-smi {' and '.join(map(str, said))}")


def check_links(report, ours):
    theirs = read_links(ask_smi_text("nvlink", "-s"))
    if not theirs:
        report.note("nvidia-smi nvlink -s tells nothing here: links are not compared")
    for gpu in (gpu for gpu in ours if gpu["uuid"] in theirs):
        active = sum(link["active"] for link in gpu["nvlinks"] or [])
        report.check(active == theirs[gpu["uuid"]],
                     f"GPU {gpu['gpu_id']}: {active} active NVLinks, nvidia-smi {theirs[gpu['uuid']]}")


def check_topology(ground, report):
    ours = ground.ask("gpu", "topology")["gpus"]
    report.section("How the GPUs are connected")
    if len(ours) > 1:
        check_pairs(report, ours)
    else:
        report.note("SKIPPED: one GPU, there is no pair to compare with nvidia-smi topo -m")
    check_links(report, ours)
