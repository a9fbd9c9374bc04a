#!/usr/bin/env python3
"""What a received message costs, beside rsyslogd that writes a file which is followed: receive.py PROGRAM [LINES]

Each program runs on core 0, the sender on core 1. CPU seconds count, not the clock, so that it may be run on a busy
machine: millions of messages for each CPU second of all programs that take part. What was sent is what was counted, plus
what the kernel dropped of datagrams; if not, it says so and ends with 1.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

LINES = [
    "<174>Nov 28 12:05:{s:02} hsm1 NTLS[8508]: info : 0xc0000002 : Connection accepted from: 192.168.0.{n}/4{s:02}21",
    "<174>Nov 28 12:05:{s:02} hsm1 NTLS[8508]: info : 0 : NTLS Client \"192.168.0.{n}\" has disconnected: 192.168.0.{n}/4{s:02}21",
    "<165>Nov 28 12:05:{s:02} hsm1 ipmievd: Temperature sensor CPU             . Upper Critical going high Deasserted "
    "(Reading {n} > Threshold 172 degrees C)",
    "<86>Nov 28 12:05:{s:02} hsm1 sshd[9876]: Accepted publickey for monitor from 192.168.0.{n} port 4{s:02}21 ssh2",
    "<30>Nov 28 12:05:{s:02} hsm1 smartd[2345]: Device: /dev/sda [SAT], SMART Usage Attribute: 194 Temperature_Celsius "
    "changed from 1{s:02} to 1{n}",
]
TEXTS = [line.format(s=i % 60, n=10 + i % 80) for i in range(2_000) for line in LINES]
SECONDS_MAX = 300


def port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return any_socket.getsockname()[1]


def cpu_seconds(process):
    """User and system time of a process, as proc(5) has them."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(*command):
    command = ["taskset", "-c", "0", *map(str, command)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Exporter:
    def __init__(self, program, *flags):
        self.port = port()
        self.process = start(program, f"--web.listen-address=127.0.0.1:{self.port}", *flags)
        wait_until(lambda: self.value("ready") == 1)

    def value(self, metric):
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10)
        except OSError:
            return None
        text = answer.read().decode()
        found = re.findall(rf"^appliance_log_exporter_{metric}(?:{{.*}})? (\S+)$", text, re.M)
        return sum(map(float, found)) if found else None


def wait_until(condition):
    end = time.monotonic() + SECONDS_MAX
    while not condition():
        if time.monotonic() > end:
            sys.exit("it takes too long")
        time.sleep(0.2)


def messages(count):
    for number in range(0, count, len(TEXTS)):
        yield TEXTS[: min(len(TEXTS), count - number)]


def send_stream(to, count):
    with socket.create_connection(("127.0.0.1", to)) as stream:
        for texts in messages(count):
            stream.sendall("".join(text + "\n" for text in texts).encode())


def send_datagrams(to, count):
    encoded = [text.encode() for text in TEXTS]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", to))
        for number in range(count):
            sender.send(encoded[number % len(encoded)])


def in_sender(send, to, count):
    """In a process of its own, on the other core."""
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {os.cpu_count() - 1})
        send(to, count)
        os._exit(0)
    return pid


def measure(name, processes, exporter, send, to, count):
    before = sum(map(cpu_seconds, processes))
    sender = in_sender(send, to, count)
    os.waitpid(sender, 0)

    def dropped():
        return exporter.value("syslog_datagrams_dropped_total") or 0

    def counted():
        return exporter.value("lines_read_total")

    last = None
    while (now := (counted(), dropped())) != last and sum(now) < count:
        last = now
        time.sleep(1)
    read, lost = counted(), dropped()
    spent = sum(map(cpu_seconds, processes)) - before
    exact = "" if read + lost == count else f", {count - read - lost:.0f} are missing"
    print(f"{name:50} {read / spent / 1e6:5.2f} M/CPU s ({read:.0f} read, {lost:.0f} dropped{exact})", flush=True)
    for process in processes:
        process.terminate()
        process.wait()
    return not exact


def measure_rsyslogd(program, module, count):
    with tempfile.TemporaryDirectory() as directory:
        to = port()
        config, log = f"{directory}/rsyslog.conf", f"{directory}/messages.log"
        pathlib.Path(config).write_text(
            f'global(workDirectory="{directory}")\nmodule(load="{module}")\n'
            f'input(type="{module}" port="{to}" address="127.0.0.1")\n'
            f'action(type="omfile" file="{log}" template="RSYSLOG_TraditionalFileFormat")\n'
        )
        pathlib.Path(log).touch()
        exporter = Exporter(program, f"--log.file={log}", f"--state.dir={directory}/state")
        rsyslogd = start("rsyslogd", "-n", "-f", config, "-i", f"{directory}/pid")

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", to)) == 0

        wait_until(listens)
        before = cpu_seconds(rsyslogd)
        terminate = rsyslogd.terminate
        spent = {}
        rsyslogd.terminate = lambda: (spent.update(rsyslogd=cpu_seconds(rsyslogd) - before), terminate())
        both = [exporter.process, rsyslogd]
        good = measure(f"rsyslogd {module}, file, followed", both, exporter, send_stream, to, count)
        print(f"{f'of that, rsyslogd {module} and file alone':50} {count / spent['rsyslogd'] / 1e6:5.2f} M/CPU s")
        return good


def main():
    program, count = sys.argv[1], int((sys.argv + ["1000000"])[2])
    good = True
    for spool in (False, True):
        for transport, send, kind in (
            ("tcp", send_stream, socket.SOCK_STREAM),
            ("udp", send_datagrams, socket.SOCK_DGRAM),
        ):
            with tempfile.TemporaryDirectory() as directory:
                to = port(kind)
                state = [f"--state.dir={directory}/state"] if spool else []
                exporter = Exporter(program, f"--syslog.listen={transport}://127.0.0.1:{to}", *state)
                name = f"{transport}, {'spool' if spool else 'no state directory'}"
                good &= measure(name, [exporter.process], exporter, send, to, count)
    for module in ("imtcp", "imptcp"):
        good &= measure_rsyslogd(program, module, count)
    sys.exit(not good)


main()
