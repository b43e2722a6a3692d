"""A real Slurm of one node on this machine, for the tests marked `slurm`: Debian's munge, slurmctld
and slurmd, started by hand and ended with the tests. Two GPUs are pretended by gres.conf, so that
the scheduler hands them out; nothing computes on them.

The daemons want their configuration in /etc/slurm, so this is for a machine that has no other
Slurm, and for root.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

CONF, GRES = Path("/etc/slurm/slurm.conf"), Path("/etc/slurm/gres.conf")
OURS = "# A test's own cluster of one machine; it may be removed."
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
# Seconds until a job that is started again may begin are a credential's life and one more.
SETTINGS = """\
{ours}
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=3
CredType=cred/munge
StateSaveLocation={place}/ctld
SlurmdSpoolDir={place}/d
SlurmctldPidFile={place}/ctld.pid
SlurmdPidFile={place}/d.pid
SlurmctldLogFile={place}/ctld.log
SlurmdLogFile={place}/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=100000,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
KillWait=60
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverTimeLimit=0
"""


def why_not() -> str:
    """Why there can be no cluster on this machine, "" if there can be one."""
    if os.geteuid():
        return "a Slurm of its own needs root"
    lacking = [name for name in PROGRAMS if not _program(name)]
    if lacking:
        return f"{', '.join(lacking)} not installed; `make system` installs them on Debian"
    if CONF.exists() and not CONF.read_text().startswith(OURS):
        return f"{CONF} is another cluster's"
    if CONF.exists() and subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0:
        return "the Slurm of another test is running"
    return ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Cluster:
    """The daemons, their folder, and the commands that ask them."""

    def __init__(self, place: Path):
        self.place, self.daemons = place, []

    def start(self) -> "Cluster":
        for name in ("ctld", "d"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        Path("/run/munge").mkdir(mode=0o755, exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        host = socket.gethostname().partition(".")[0]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        CONF.write_text(
            SETTINGS.format(
                ours=OURS,
                host=host,
                place=self.place,
                cpus=os.cpu_count(),
                memory=memory - 500,
            )
        )
        GRES.write_text(
            f"{OURS}\nNodeName={host} Name=gpu File=/dev/null\n"
            f"NodeName={host} Name=gpu File=/dev/zero\n"
        )
        self.host = host
        self._daemon(["munged", "--foreground", "--force"], user="munge")
        self._wait(lambda: Path("/run/munge/munge.socket.2").exists(), "munged")
        self._daemon(["slurmctld", "-D", "-c"])
        self._daemon(["slurmd", "-D", "-c"])
        self._wait(lambda: self.state() == "idle", "the node")
        return self

    def _daemon(self, command: list[str], user: str | None = None) -> None:
        """Starts a daemon that ends with this process, however that ends."""
        words = ["setpriv", "--pdeathsig", "TERM"]
        words += [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        with open(self.place / f"{command[0]}.out", "w") as log:
            self.daemons.append(
                subprocess.Popen(
                    [*words, _program(command[0]), *command[1:]],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def _wait(self, holds, what: str, seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                logs = "\n".join(
                    f"{path.name}: {path.read_text()[-800:]}"
                    for path in sorted(self.place.glob("*.*"))
                    if path.suffix in (".log", ".out")
                )
                raise TimeoutError(f"{what} did not come up in {seconds:.0f} s\n{logs}")
            time.sleep(0.2)

    def ask(self, *words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else ""

    def state(self) -> str:
        """Of the node, such as idle, mixed or draining."""
        return self.ask("sinfo", "--noheader", "--format", "%T").rstrip("*")

    def jobs(self) -> dict[str, str]:
        """Number -> state of the jobs that are waiting or running."""
        lines = self.ask("squeue", "--noheader", "--format", "%A %T").splitlines()
        return dict(line.split() for line in lines)

    def stop(self) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            for number in self.jobs():
                self.ask("scancel", "--signal=KILL", number)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
        for path in (CONF, GRES):
            path.unlink(missing_ok=True)
