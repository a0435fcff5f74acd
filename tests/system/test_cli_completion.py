"""rbees-pool completion: the scripts, run by the shells themselves. A shell that is not installed is skipped and says so."""
import os
import shutil
import subprocess

import pytest
from pool_host import BUILD

CASES = [
    ("", {"worker", "gpu", "git", "status", "completion"}),
    ("wor", {"worker"}),
    ("worker sp", {"spawn"}),
    ("worker spawn --para", {"--parallel"}),
    ("--json worker sp", {"spawn"}),
    ("--config x.toml worker sp", {"spawn"}),
    ("git submodules up", {"update"}),
    ("worker list --jso", {"--json"}),
    ("completion ", {"bash", "zsh", "fish"}),
    ("worker show ", {"one"}),
    ("worker logs --tail 5 ", {"one"}),
    ("worker spawn --gpu ", {"0"}),
    ("nonsense ", set()),
]

BASH = '''
source "$SCRIPT"
COMP_WORDS=(rbees-pool "$@")
COMP_CWORD=$#
_rbees_pool
printf '%s\\n' "${COMPREPLY[@]}"
'''

FISH = 'source $SCRIPT; complete -C "rbees-pool $LINE"'

# compadd, _describe and _files are what the completion system gives; here they print what they are told.
ZSH = r'''
compdef() { :; }
compadd() {
    if [[ $1 == -a ]]; then print -l -- ${(P)2}; else print -l -- $@; fi
}
_describe() {
    [[ $1 == -o ]] && shift
    local -a described
    described=(${(P)2})
    print -l -- ${described%%:*}
}
_files() { print files $@; }
_call_program() { shift; "$@"; }
source $SCRIPT
words=(rbees-pool "$@")
CURRENT=$#words
_rbees_pool
'''


@pytest.fixture
def shell_environment(host, tmp_path):
    gpus = tmp_path / "gpus.toml"
    gpus.write_text('[[gpus]]\nuuid = "GPU-00000000-0000-4000-8000-000000000001"\nname = "G"\n'
                    'vram_total_bytes = "24 GiB"\nvram_used_bytes = 0\n')
    host.config.write_text(host.config.read_text() + f'[gpu]\ninventory = "static:{gpus}"\n')
    assert host.spawn("one", "--wait").returncode == 0
    script = tmp_path / "script"

    def environment(shell):
        script.write_text(host.run("completion", shell).stdout)
        return {**host.environment, "PATH": f"{BUILD / 'bin'}:{os.environ['PATH']}", "POOL_CONFIG": str(host.config),
                "SCRIPT": str(script), "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}

    return environment


@pytest.mark.parametrize("shell, check", [("bash", ["-n"]), ("zsh", ["-f", "-n"]), ("fish", ["--no-execute"])])
def test_completion(shell, check, shell_environment):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    environment = shell_environment(shell)
    assert subprocess.run([shell, *check, environment["SCRIPT"]], env=environment, capture_output=True).returncode == 0
    for line, wanted in CASES:
        words = line.split(" ") if line else [""]
        if shell == "fish":
            command = ["fish", "--no-config", "-c", FISH]
        else:
            command = [shell, "-f" if shell == "zsh" else "--norc", "-c", ZSH if shell == "zsh" else BASH, shell, *words]
        done = subprocess.run(command, env={**environment, "LINE": line}, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)
        shown = {entry.split("\t")[0].strip() for entry in done.stdout.split("\n")} - {""}
        assert not done.stderr, (line, done.stderr)
        assert shown >= wanted and (wanted or not shown), (shell, line, shown)
        if wanted and not line.endswith(" ") and line:
            last = words[-1]
            if shell != "zsh":  # whose completion system leaves out what does not match
                assert all(entry.startswith(last) for entry in shown), (shell, line, shown)


def test_unknown_shell(host):
    assert host.refusal("completion", "tcsh")["details"]["field"] == "SHELL"
