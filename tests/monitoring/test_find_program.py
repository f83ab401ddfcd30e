"""scripts/find-program with a PATH of its own: a made-up machine, so that nothing is installed on this one."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.monitoring.programs import FIND_PROGRAM

TOOLS = ("bash", "cat", "chmod", "flock", "grep", "mktemp", "rm", "sleep", "tail", "touch")
DENIES = "#!/bin/sh\nexit 101\n"
ALLOWS = "#!/bin/sh\nexit 0\n"
# Installs what the package holds, unless a service could start; tells its arguments.
APT = """#!/bin/sh
echo "$@" >> "$MACHINE/apt.log"
case "$*" in *update*) touch "$MACHINE/updated"; exit 0 ;; esac
if [ -e "$MACHINE/needs-update" ] && [ ! -e "$MACHINE/updated" ]; then echo "E: 404 Not Found"; exit 100; fi
if [ -e "$MACHINE/broken" ]; then echo "E: no space left"; exit 100; fi
if [ -e "$MACHINE/slow" ]; then touch "$MACHINE/running"; sleep 2; fi
"$FIND_PROGRAM_POLICY" prometheus start; [ $? -eq 101 ] || echo started >> "$MACHINE/apt.log"
printf '#!/bin/sh\\nexit 0\\n' > "$MACHINE/bin/prometheus-alertmanager"
printf '#!/bin/sh\\nexit 0\\n' > "$MACHINE/bin/promtool"
chmod 755 "$MACHINE/bin/prometheus-alertmanager" "$MACHINE/bin/promtool"
"""


class Machine:
    """A folder that stands for a machine: its PATH, its policy of services, its package manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "policy-rc.d"
        (folder / "bin").mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            if found is None:
                pytest.skip(f"this machine has no {tool}")
            (folder / "bin" / tool).symlink_to(found)

    def add(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)

    def with_apt(self, *, user: int = 0) -> "Machine":
        self.add("bin/id", f"#!/bin/sh\necho {user}\n")
        self.add("bin/apt-get", APT)
        self.add("bin/systemctl", '#!/bin/sh\necho "systemctl $*" >> "$MACHINE/apt.log"\n')
        return self

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.folder / "bin"),
            "MACHINE": str(self.folder),
            "FIND_PROGRAM_POLICY": str(self.policy),
            "FIND_PROGRAM_LOCK": str(self.folder / "lock"),
            "TMPDIR": str(self.folder),
        }

    def find(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(FIND_PROGRAM), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [FIND_PROGRAM, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def apt_log(self) -> list[str]:
        log = self.folder / "apt.log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    # `#!/usr/bin/env bash` needs env itself, which is called by its full path.
    return Machine(tmp_path)


def test_from_path(machine: Machine) -> None:
    machine.add("bin/promtool", "#!/bin/sh\nexit 0\n")
    done = machine.find("promtool")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{machine.folder}/bin/promtool\n", "")


def test_debians_name_of_the_daemon(machine: Machine) -> None:
    machine.add("bin/prometheus-alertmanager", "#!/bin/sh\nexit 0\n")
    assert machine.find("alertmanager").stdout == f"{machine.folder}/bin/prometheus-alertmanager\n"


def test_a_browser_has_no_service_to_keep_off(machine: Machine) -> None:
    machine.with_apt()
    machine.add(
        "bin/apt-get",
        '#!/bin/sh\nprintf \'#!/bin/sh\\nexit 0\\n\' > "$MACHINE/bin/chromium"\nchmod 755 "$MACHINE/bin/chromium"\n',
    )
    done = machine.find("chromium")
    assert (done.returncode, done.stdout) == (0, f"{machine.folder}/bin/chromium\n")
    assert "service" not in done.stderr
    assert not machine.policy.exists()
    assert machine.apt_log == []


def test_a_shim_that_does_not_run_is_passed_over(machine: Machine) -> None:
    machine.add("bin/alertmanager", "#!/bin/sh\nexit 127\n")
    machine.add("bin/prometheus-alertmanager", "#!/bin/sh\nexit 0\n")
    assert machine.find("alertmanager").stdout == f"{machine.folder}/bin/prometheus-alertmanager\n"


@pytest.mark.parametrize("name", ["", "grafana", "-h"])
def test_an_unknown_name_is_refused(machine: Machine, name: str) -> None:
    done = machine.find(name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("victoria-metrics, vmalert and chromium.\n")


@pytest.mark.parametrize(
    ("user", "why"), [(1000, "only root can install it"), (0, "this is no Debian or Ubuntu system")]
)
def test_one_sentence_where_it_cannot_be_installed(machine: Machine, user: int, why: str) -> None:
    machine.add("bin/id", f"#!/bin/sh\necho {user}\n")
    done = machine.find("prometheus")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"prometheus was not found and {why}: install Prometheus 2.42 or newer")
    assert len(done.stderr.splitlines()) == 1


def test_another_package_has_its_own_sentence(machine: Machine) -> None:
    machine.add("bin/id", "#!/bin/sh\necho 1000\n")
    done = machine.find("vmalert")
    assert done.returncode == 1
    assert "install VictoriaMetrics 1.79 or newer (Debian: apt-get install victoria-metrics;" in done.stderr
    assert "Alertmanager" not in done.stderr


def test_installs_without_starting_or_enabling_the_service(machine: Machine) -> None:
    machine.with_apt()
    done = machine.find("promtool")
    assert (done.returncode, done.stdout) == (0, f"{machine.folder}/bin/promtool\n"), done.stderr
    assert "installing Debian's package prometheus, without starting its service" in done.stderr
    assert "started" not in machine.apt_log
    assert machine.apt_log[-1] == "systemctl disable prometheus"
    assert "install --no-install-recommends prometheus" in machine.apt_log[0]
    assert "DPkg::Lock::Timeout=120" in machine.apt_log[0]
    assert not machine.policy.exists()
    assert not list(machine.folder.glob("tmp.*"))


def test_old_package_lists_are_refreshed(machine: Machine) -> None:
    machine.with_apt()
    machine.add("needs-update", "")
    done = machine.find("alertmanager")
    assert done.stdout == f"{machine.folder}/bin/prometheus-alertmanager\n", done.stderr
    assert ["update" in line for line in machine.apt_log] == [False, True, False, False]


def test_a_failed_installation_tells_why_and_leaves_no_policy(machine: Machine) -> None:
    machine.with_apt()
    machine.add("broken", "")
    done = machine.find("prometheus")
    assert (done.returncode, done.stdout) == (1, "")
    assert "E: no space left" in done.stderr
    assert "Debian's package prometheus could not be installed (see above)" in done.stderr
    assert not machine.policy.exists()


def test_an_administrators_policy_is_kept(machine: Machine) -> None:
    machine.with_apt()
    machine.add("policy-rc.d", DENIES)
    assert machine.find("promtool").returncode == 0
    assert machine.policy.read_text(encoding="utf-8") == DENIES


def test_an_administrators_policy_that_starts_services_is_respected(machine: Machine) -> None:
    machine.with_apt()
    machine.add("policy-rc.d", ALLOWS)
    done = machine.find("promtool")
    assert done.returncode == 1
    assert "lets packages start their services" in done.stderr
    assert machine.policy.read_text(encoding="utf-8") == ALLOWS
    assert machine.apt_log == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_policy(machine: Machine, number: signal.Signals) -> None:
    machine.with_apt()
    machine.add("slow", "")
    process = machine.start("promtool")
    deadline = time.monotonic() + 20
    while not (machine.folder / "running").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert machine.policy.exists()
    # Ctrl-C reaches the whole process group, as from a terminal.
    os.killpg(process.pid, number)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert not machine.policy.exists()
    assert not list(machine.folder.glob("tmp.*"))


def test_a_killed_calls_policy_is_cleared_away_by_the_next(machine: Machine) -> None:
    machine.with_apt()
    machine.add("slow", "")
    process = machine.start("promtool")
    deadline = time.monotonic() + 20
    while not (machine.folder / "running").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    assert machine.policy.exists()
    assert machine.find("promtool").returncode == 0
    assert not machine.policy.exists()


def test_two_callers_install_once(machine: Machine) -> None:
    machine.with_apt()
    machine.add("slow", "")
    both = [machine.start("promtool"), machine.start("promtool")]
    told = [process.communicate(timeout=60) for process in both]
    assert [stdout for stdout, _ in told] == [f"{machine.folder}/bin/promtool\n"] * 2
    assert sum("install " in line for line in machine.apt_log) == 1
    assert sum("waiting for another find-program" in stderr for _, stderr in told) == 1
