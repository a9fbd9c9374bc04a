#!/usr/bin/env python3
"""Measures every goal of docs/performance.md and prints the table: one command, `make goals`.

usage: goals.py BINARY [--quick] [--only NAME,…] [--runs N] [--lines N] [--corpus FILE]

Runs of what is compared are interleaved, the first of each is thrown away, and the median counts, so that a busy minute
meets all of them. Work is measured in CPU seconds; a wall clock is used only where the goal is a wait. The log lines are
those of mixes.rs, made anew in a temporary directory. mtail, ripgrep and vectorscan (libvectorscan-dev) take part if they
are installed. `--corpus` adds a log of yours to the mixes.

What one prints here is for one machine at one time: compare ratios.
"""
import argparse
import collections
import contextlib
import http.client
import multiprocessing
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
MIXES = ["hsm", "mixed", "sshd", "catalogue", "unmatched"]
DEADLINE = 120  # seconds that anything may take to come about


def say(text):
    print(text, file=sys.stderr, flush=True)


def until(what, condition, wait=0.01):
    """Polls until `condition` gives something, and returns that."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(wait)
    raise TimeoutError(what)


def cpu_of(pid):
    """CPU seconds of a live process, all of its threads, also those that ended."""
    return time.clock_gettime((~pid << 3) | 2)  # the kernel's number for the scheduler's clock of a process


def memory_of(pid, field):
    """MiB of `VmRSS` (now) or `VmHWM` (the most so far)."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1]) / 1024


class NotReady(OSError):
    """A scrape that was refused."""


Run = collections.namedtuple("Run", "cpu wall")


def run(command):
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # ripgrep says by 1 that nothing matched.
    if process.returncode not in (0, 1 if command[0] == "rg" else 0):
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return Run(usage.ru_utime + usage.ru_stime, time.monotonic() - started)


def interleaved(jobs, runs):
    """The median of each job's runs, by its name. A job is a command, or a function that gives a `Run`."""
    seen = {name: [] for name in jobs}
    for number in range(runs + 1):
        for name, job in jobs.items():
            one = job() if callable(job) else run(job)
            if number:
                seen[name].append(one)
    return {
        name: Run(*(statistics.median(column) for column in zip(*those))) for name, those in seen.items()
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


LINES_OF_BATCH = 100


def write_readings(path, filler, batches, every):
    """Appends a batch of lines every so many seconds, the last of each with its number as a reading. Returns when."""
    written = []
    reading = "2025 Jan  2 12:05:01 clock  local4 notice  ipmievd: Fan sensor Fan1A . Lower Critical going low (Reading {} < Threshold 2000 RPM)\n"
    with open(path, "ab", buffering=0) as out:
        at = time.monotonic()
        for number in range(1, batches + 1):
            first = number * LINES_OF_BATCH % (len(filler) - LINES_OF_BATCH)
            batch = filler[first : first + LINES_OF_BATCH - 1]
            text = b"".join(batch) + reading.format(number).encode()
            written.append(time.monotonic())
            out.write(text)
            at += every
            time.sleep(max(0, at - time.monotonic()))
    return written


class Exporter:
    """A running exporter."""

    def __init__(self, binary, *arguments):
        self.port = free_port()
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [binary, f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error", *arguments],
            stdout=subprocess.DEVNULL,
        )
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            until("a first scrape", self._answers, wait=0.0005)
        except BaseException:
            self.process.kill()
            raise
        self.ready = time.monotonic() - self.started

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the exporter ended with {self.process.returncode}")
        try:
            return self.scrape()
        except OSError:
            self.connection.close()

    def scrape(self, **headers):
        self.connection.request("GET", "/metrics", headers=headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise NotReady(f"a scrape was answered with {answer.status}")
        if not headers and b"\nappliance_log_exporter_ready 0\n" in body:
            raise NotReady("the backlog is not read")
        return body

    def lines_read(self):
        found = re.findall(rb"^appliance_log_exporter_lines_read_total\{[^}]*\} (\S+)", self.scrape(), re.M)
        return sum(map(float, found))

    def cpu(self):
        return cpu_of(self.process.pid)

    def memory(self, field="VmRSS"):
        return memory_of(self.process.pid, field)

    def settled(self):
        """CPU seconds once there is nothing more to do: no scrape disturbs what is measured."""
        quiet = 0.4
        before, since = self.cpu(), time.monotonic()
        deadline = since + DEADLINE
        at = before
        while time.monotonic() - since < quiet:
            if time.monotonic() > deadline:
                raise TimeoutError("the exporter does not come to rest")
            time.sleep(0.02)
            now = self.cpu()
            if now - before > 0.002:
                before, since = now, time.monotonic()
            at = now
        return at

    def read(self, lines):
        """Waits until that many lines are read."""
        until(f"{lines} lines read", lambda: self.lines_read() >= lines, wait=0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Goals:
    def __init__(self, options, directory):
        self.binary = os.path.abspath(options.binary)
        self.runs = options.runs or (3 if options.quick else 5)
        self.lines = options.lines or (200_000 if options.quick else 2_000_000)
        self.quick = options.quick
        self.corpus = options.corpus
        self.directory = pathlib.Path(directory)
        self.rows = []
        self.maker = self.directory / "mixes"
        subprocess.run(["rustc", "--edition=2024", "-O", "-o", self.maker, HERE / "mixes.rs"], check=True)

    def row(self, measure, goal, measured, reached=None):
        word = "–" if reached is None else "yes" if reached else "no"
        self.rows.append((measure, goal, measured, word))
        say(f"  {measure}: {measured} ({goal}: {word})")

    def log(self, mix, lines, seed=1):
        path = self.directory / f"{mix}-{lines}-{seed}.log"
        if not path.exists():
            with open(path, "wb") as out:
                subprocess.run([self.maker, mix, str(lines), str(seed)], stdout=out, check=True)
        return path

    def own(self, name):
        path = self.directory / name
        path.mkdir()
        return path

    def replayed(self, *files):
        return [self.binary, "replay", *map(str, files)]

    # Each of the following is a measure that `--only` can name.

    def replay(self):
        """The whole job on each mix, and beside it what others do."""
        logs = {mix: self.log(mix, self.lines) for mix in MIXES}
        counts = {mix: self.lines for mix in MIXES}
        if self.corpus:
            logs["yours"] = self.corpus
            with open(self.corpus, "rb") as text:
                counts["yours"] = sum(1 for _ in text)
        sample = self.log("unmatched", 20_000)
        told = subprocess.run([self.binary, "check", "--coverage", sample], capture_output=True, text=True).stdout
        if "\n0 of 20000 lines recognised" not in told:
            raise RuntimeError("a rule has come to match lines of the mix `unmatched`: change those")
        others = {}
        if shutil.which("mtail"):
            # A tenth: it takes as long for that as all others for the whole.
            programs = str(HERE / "mtail")
            others["mtail"] = lambda log: ["mtail", "--one_shot", "--one_shot_format=prometheus", "--progs", programs, "--logs", log]
        if shutil.which("rg"):
            others["ripgrep"] = lambda log: ["rg", "-c", "-f", str(HERE / "patterns.txt"), log]
        if pathlib.Path("/usr/include/hs/hs.h").exists() and shutil.which("cc"):
            scanner = self.directory / "vectorscan"
            subprocess.run(["cc", "-O2", "-o", scanner, HERE / "vectorscan.c", "-lhs"], check=True)
            others["vectorscan"] = lambda log: [str(scanner), str(HERE / "patterns.txt"), log]
        for absent in {"mtail", "ripgrep", "vectorscan"} - set(others):
            say(f"  {absent} is not installed: not compared")
        jobs = {("start", "ours"): self.replayed("/dev/null")}
        lines = {}
        for mix, log in logs.items():
            jobs[mix, "ours"] = self.replayed(log)
            for other, command in others.items() if mix in ("hsm", "mixed", "yours") else ():
                short = log
                if other == "mtail":
                    short = self.directory / f"tenth-of-{mix}.log"
                    with open(log, "rb") as whole, open(short, "wb") as tenth:
                        lines[mix] = counts[mix] // 10
                        tenth.writelines(line for line, _ in zip(whole, range(lines[mix])))
                jobs[mix, other] = command(str(short))
        # Their starts are deducted like ours.
        for other, command in others.items():
            one = self.log("mixed", 1)
            jobs["start", other] = command(str(one))
        seen = interleaved(jobs, self.runs)
        start = seen["start", "ours"].cpu
        self.row("start: `replay /dev/null`", "", f"{start * 1000:.0f} ms of CPU")
        for mix in logs:
            with_start = seen[mix, "ours"].cpu
            cpu = with_start - start
            rate = counts[mix] / cpu
            goal = 10e6 if mix == "unmatched" else 6e6
            text = f"{rate / 1e6:.2f} M lines/s of CPU, start deducted ({counts[mix] / with_start / 1e6:.2f} M with it)"
            name = "lines of which none matches" if mix == "unmatched" else f"replay of {mix}"
            self.row(f"{name}, {counts[mix]:,} lines", f"≥ {goal / 1e6:.0f} M lines/s", text, rate >= goal)
            for other, least in (("mtail", 60), ("vectorscan", 1.5), ("ripgrep", None)):
                if (mix, other) not in seen:
                    continue
                those = lines[mix] if other == "mtail" else counts[mix]
                theirs = those / (seen[mix, other].cpu - seen["start", other].cpu)
                ratio = rate / theirs
                self.row(
                    f"{mix}: beside {other}, starts deducted",
                    f"≥ {least} ×" if least else "",
                    f"{ratio:.2f} × ({theirs / 1e6:.2f} M lines/s)",
                    ratio >= least if least else None,
                )

    def appliances(self):
        """What a line costs with 4,000 appliances beside what it costs with 200; a quarter of the lines is deducted."""
        jobs = {}
        for number in (200, 4_000):
            mix = f"appliances-{number}"
            jobs[number, "few"] = self.replayed(self.log(mix, self.lines // 4))
            jobs[number, "all"] = self.replayed(self.log(mix, self.lines))
        seen = interleaved(jobs, self.runs)
        cost = {
            number: (seen[number, "all"].cpu - seen[number, "few"].cpu) / (self.lines * 3 / 4) * 1e6
            for number in (200, 4_000)
        }
        ratio = cost[4_000] / cost[200]
        text = f"{ratio:.2f} × ({cost[200]:.3f} and {cost[4_000]:.3f} µs of CPU)"
        self.row("a line with 4,000 appliances, beside 200", "≤ 1.3 ×", text, ratio <= 1.3)

    def rules(self):
        """What a number of rules costs, on lines of all rules in turn and on lines of the same 100 rules."""
        jobs, memory = {}, {}
        sizes = {100: 2, 1_000: 20, 10_000: 200}
        lines = max(self.lines, 400_000)  # many, for a load of a second is deducted
        few, short = self.log("made-2", lines), {}
        goals = {100: (None, 0.2, 16), 1_000: (10, 0.5, 48), 10_000: (40, 2, 256)}
        jobs["bare"] = self.replayed("/dev/null")
        for rules, packs in sizes.items():
            directory = self.own(f"packs-{rules}")
            subprocess.run([self.maker, "packs", str(packs), directory], check=True)
            flag = f"--rules.dir={directory}"
            all_of = self.log(f"made-{packs}", lines)
            # Each rule twice: afterwards everything that is made at first sight is there.
            short[rules] = self.log(f"made-{packs}", 2 * rules)
            jobs[rules, "load"] = [*self.replayed("/dev/null"), flag]
            jobs[rules, "short"] = [*self.replayed(short[rules]), flag]
            jobs[rules, "all"] = [*self.replayed(short[rules], all_of), flag]
            jobs[rules, "same"] = [*self.replayed(short[rules], few), flag]
            with Exporter(self.binary, f"--log.file={all_of}", flag) as exporter:
                exporter.read(lines)
                memory[rules] = exporter.memory("VmHWM")
        with Exporter(self.binary, f"--log.file={self.log('made-2', lines)}") as exporter:
            exporter.read(lines)
            bare_memory = exporter.memory("VmHWM")
        seen = interleaved(jobs, self.runs)
        self.row("memory with the shipped packs alone", "", f"{bare_memory:.1f} MiB")
        first = None
        for rules in sizes:
            falls, seconds, most = goals[rules]
            load = seen[rules, "load"].cpu - seen["bare"].cpu
            self.row(f"{rules:,} rules: load, beyond the shipped packs", f"< {seconds} s", f"{load:.3f} s of CPU", load < seconds)
            self.row(f"{rules:,} rules: memory, whole process", f"< {most} MiB", f"{memory[rules]:.1f} MiB", memory[rules] < most)
            rate = {
                kind: lines / (seen[rules, kind].cpu - seen[rules, "short"].cpu) for kind in ("all", "same")
            }
            first = first or rate
            for kind, name in (("all", "all rules in turn"), ("same", "the same 100 rules")):
                fall = 100 * (1 - rate[kind] / first[kind])
                self.row(
                    f"{rules:,} rules: lines of {name}",
                    f"falls < {falls} %" if falls else "",
                    f"{rate[kind] / 1e6:.2f} M lines/s of CPU" + (f", falls by {fall:.0f} %" if falls else ""),
                    fall < falls if falls else None,
                )

    def cores(self):
        """Eight files that wait to be read, on one core and on two: wall clock from start to readiness."""
        cores = [str(core) for core in sorted(os.sched_getaffinity(0))[:2]]
        if len(cores) < 2:
            raise RuntimeError("there is one core only")
        # So many lines that what each thread learns at first hardly counts.
        files = [self.log("mixed", self.lines // 2, seed) for seed in range(1, 9)]
        seen = interleaved(
            {
                (name, full): lambda cores=cores, full=full: self.caught_up(cores, files if full else [os.devnull])
                for name, cores in {"one": cores[0], "two": ",".join(cores)}.items()
                for full in (False, True)
            },
            self.runs,
        )
        taken = {
            name: Run(*(with_all - idle for with_all, idle in zip(seen[name, True], seen[name, False])))
            for name in ("one", "two")
        }
        ratio = taken["one"].wall / taken["two"].wall
        self.row(
            "two cores, 8 files, until all is read",
            "≥ 1.8 × one core",
            f"{ratio:.2f} × ({taken['one'].wall:.2f} s and {taken['two'].wall:.2f} s, start deducted;"
            f" {taken['one'].cpu:.2f} and {taken['two'].cpu:.2f} s of CPU)",
            ratio >= 1.8,
        )

    def caught_up(self, cores, files):
        """Follows these files on these cores until the exporter tells its supervisor that it has read what was there."""
        with tempfile.TemporaryDirectory() as directory:
            told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            told.bind(f"{directory}/notify")
            told.settimeout(DEADLINE)
            began = time.monotonic()
            process = subprocess.Popen(
                ["taskset", "-c", cores, self.binary, "--log.level=error", f"--web.listen-address=127.0.0.1:{free_port()}"]
                + [f"--log.file={file}" for file in files],
                env={**os.environ, "NOTIFY_SOCKET": f"{directory}/notify"},
            )
            try:
                while b"READY=1" not in told.recv(4096):
                    pass
                return Run(cpu=cpu_of(process.pid), wall=time.monotonic() - began)
            finally:
                told.close()
                process.kill()
                process.wait()

    def follow(self):
        """A file that is followed while it is written as fast as a disk takes it."""
        log = self.log("mixed", self.lines)
        live = self.directory / "live.log"

        def followed():
            live.write_bytes(b"")
            with Exporter(self.binary, f"--log.file={live}") as exporter:
                before = exporter.settled()
                with open(log, "rb") as source, open(live, "ab") as out:
                    while piece := source.read(1 << 20):
                        out.write(piece)
                after = exporter.settled()
                if exporter.lines_read() != self.lines:
                    raise RuntimeError("came to rest before all was read")
            live.unlink()
            return Run(after - before, 0)

        seen = interleaved(
            {"follow": followed, "replay": self.replayed(log), "start": self.replayed("/dev/null")}, self.runs
        )
        replay = self.lines / (seen["replay"].cpu - seen["start"].cpu)
        follow = self.lines / seen["follow"].cpu
        self.row(
            "following a live file (mixed)",
            "≥ 0.9 × replay",
            f"{follow / replay:.2f} × ({follow / 1e6:.2f} and {replay / 1e6:.2f} M lines/s of CPU)",
            follow >= 0.9 * replay,
        )

    def visible(self):
        """From the write of a reading to the end of the first scrape that has it, at 10,000 lines a second."""
        batches, every = (500 if self.quick else 2_000), 0.01
        filler = self.log("hsm", 50_000).read_bytes().splitlines(keepends=True)
        live = self.directory / "visible.log"
        live.touch()
        pattern = re.compile(rb'^ipmi_sensor_reading\{appliance="clock",[^}]*\} (\d+)', re.M)
        seen = []  # by reading, from 1
        # A process of its own, lest it wait for the one that scrapes.
        fork = multiprocessing.get_context("fork")
        with Exporter(self.binary, f"--log.file={live}") as exporter, ProcessPoolExecutor(1, mp_context=fork) as writer:
            writing = writer.submit(write_readings, live, filler, batches, every)
            began = time.monotonic()
            deadline = began + batches * every + DEADLINE
            scrapes = 0
            while len(seen) < batches:
                body = exporter.scrape()
                now = time.monotonic()
                if now > deadline:
                    raise TimeoutError("not all readings became visible")
                scrapes += 1
                if found := pattern.search(body):
                    seen += [now] * (int(found[1]) - len(seen))
                # A pause, so that the scraper does not take the core from what it measures.
                time.sleep(0.001)
            written = writing.result()
        delays = sorted(1000 * (read - wrote) for read, wrote in zip(seen, written))
        share = lambda of: delays[int(of * (len(delays) - 1))]
        rate = LINES_OF_BATCH * batches / (written[-1] - written[0] + every)
        self.row(
            f"write to visible in /metrics, at {rate:,.0f} lines/s and {scrapes / (seen[-1] - began):.0f} scrapes/s",
            "p99 < 20 ms",
            f"p50 {share(0.5):.1f} ms, p99 {share(0.99):.1f} ms, most {delays[-1]:.1f} ms",
            share(0.99) < 20,
        )

    def start(self):
        """From the start of the process to the end of the first scrape."""
        logs = {"one empty file": self.log("mixed", 0), "1,000 lines of 50 appliances": self.log("mixed", 1_000)}

        def started(log):
            with Exporter(self.binary, f"--log.file={log}") as exporter:
                return Run(exporter.cpu(), exporter.ready)

        seen = interleaved({name: lambda of=log: started(of) for name, log in logs.items()}, 2 * self.runs)
        for name, one in seen.items():
            self.row(
                f"start to first scrape, {name}",
                "< 100 ms",
                f"{1000 * one.wall:.0f} ms, {1000 * one.cpu:.0f} ms of CPU",
                one.wall < 0.1,
            )

    def fleet(self):
        """A scrape of 100,000 series, and the memory of 1,000 appliances."""
        series = lambda body: sum(1 for line in body.splitlines() if line and not line.startswith(b"#"))
        with Exporter(self.binary, f"--log.file={self.log('fleet-10', 0)}") as exporter:
            exporter.read(400)
            for_each = exporter.scrape().count(b'appliance="appliance-') / 10
        for appliances in (round(100_000 / for_each), 1_000):
            log = self.log(f"fleet-{appliances}", 0)
            with Exporter(self.binary, f"--log.file={log}") as exporter:
                exporter.read(40 * appliances)
                count = series(exporter.scrape())
                if appliances == 1_000:
                    rss = exporter.memory()
                    self.row(
                        f"RSS, 1,000 appliances × {count / 1000:.0f} series, after scrapes",
                        "< 128 MiB with 300 series each",
                        f"{rss:.0f} MiB, {1024 * rss / count:.2f} KiB a series",
                        rss < 128,
                    )
                    continue
                kinds = {
                    "classic text": {},
                    "OpenMetrics": {"Accept": "application/openmetrics-text"},
                    "OpenMetrics, gzip": {"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"},
                }

                def scraped(headers):
                    before, began = exporter.cpu(), time.monotonic()
                    exporter.scrape(**headers)
                    return Run(exporter.cpu() - before, time.monotonic() - began)

                seen = interleaved({kind: lambda of=headers: scraped(of) for kind, headers in kinds.items()}, 2 * self.runs)
                for kind, one in seen.items():
                    plain = "gzip" not in kind
                    self.row(
                        f"scrape of {count:,} series, {kind}",
                        "< 20 ms of CPU" if plain else "",
                        f"{1000 * one.cpu:.1f} ms of CPU",
                        one.cpu < 0.02 if plain else None,
                    )

    def demo(self):
        """Memory of the demo after a while."""
        seconds = 5 if self.quick else 20
        with Exporter(self.binary, "demo") as exporter:
            time.sleep(seconds)
            exporter.scrape()
            rss = exporter.memory()
        self.row(f"RSS of the demo after {seconds} s", "< 16 MiB", f"{rss:.1f} MiB", rss < 16)

    def idle(self):
        """A thousand files that nobody writes to."""
        quiet = self.own("quiet")
        line = self.log("mixed", 1).read_bytes()
        for number in range(1_000):
            (quiet / f"{number}.log").write_bytes(line)
        seconds = 10 if self.quick else 40
        with Exporter(self.binary, f"--log.file={quiet}/*.log") as exporter:
            exporter.read(1_000)
            exporter.settled()
            before = exporter.cpu()
            time.sleep(seconds)
            share = 100 * (exporter.cpu() - before) / seconds
        self.row("idle, 1,000 quiet files", "< 0.1 % of a core", f"{share:.3f} %", share < 0.1)


MEASURES = ["replay", "appliances", "rules", "cores", "follow", "visible", "start", "fleet", "demo", "idle"]


def main():
    parser = argparse.ArgumentParser(description="Measures the goals of docs/performance.md.")
    parser.add_argument("binary")
    parser.add_argument("--quick", action="store_true", help="fewer lines, runs and seconds: to see that it works")
    parser.add_argument("--only", default=",".join(MEASURES), help="of " + ", ".join(MEASURES))
    parser.add_argument("--runs", type=int, help="runs of each, beside the first")
    parser.add_argument("--lines", type=int, help="lines of each mix")
    parser.add_argument("--corpus", help="a log of yours, replayed beside the mixes")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    with contextlib.ExitStack() as stack:
        goals = Goals(options, stack.enter_context(tempfile.TemporaryDirectory(prefix="appliance_log_exporter-goals-")))
        failed = []
        for name in names:
            say(f"{name}: {getattr(goals, name).__doc__}")
            try:
                getattr(goals, name)()
            except (RuntimeError, TimeoutError, OSError) as error:
                # The others still say something.
                say(f"  not measured: {error}")
                failed.append(name)
            for log in goals.directory.glob("*.log"):
                log.unlink()
    print("| measure | goal | measured | reached |")
    print("|---|---|---|---|")
    for row in goals.rows:
        print("| " + " | ".join(row) + " |")
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


main()
