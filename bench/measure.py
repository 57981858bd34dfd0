"""What is measured, one function for each kind. Each run gives a dict that goes into the JSON
document as it is; nothing is averaged here."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time

from clusters import Failure, await_condition, process_memory_bytes

WORKS = {
    "write": {"raftogram": "send", "etcd": "etcd-put", "nats": "nats-publish"},
    "read": {"raftogram": "history", "etcd": "etcd-range"},
    "kv-read": {"raftogram": "kv-read"},
    "ws-write": {"raftogram": "ws-send"},
    "publish": {"raftogram": "publish", "etcd": "etcd-put", "nats": "nats-publish"},
}
# In flight and messages in each. Where an operation is one message only the first is measured.
PUBLISH_SHAPES = [(256, 1), (16, 64)]
# How long before and after the leader is lost, by what the systems need to come back.
GAP_SECONDS_AFTER = {"raftogram": 1.8, "etcd": 3.5, "nats": 8.5}
GAP_SECONDS_BEFORE = 0.6
GAP_TRIES_PER_SECOND = 1000


UNIMPLEMENTED = "status 12:"


class Unimplemented(Failure):
    """An earlier build does not have what is to be measured."""


class Bench:
    def __init__(self, program):
        self.program = program

    def start(self, *arguments):
        return subprocess.Popen([self.program, *map(str, arguments)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def finish(self, process, seconds):
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Failure(f"raftogram-bench did not end within {seconds:.0f} s") from None
        if process.returncode != 0:
            raise Failure(err.strip() or f"raftogram-bench ended with {process.returncode}")
        return json.loads(out)

    def run(self, *arguments, seconds=90):
        return self.finish(self.start(*arguments), seconds)


def kind_of(cluster):
    """nats-sync-always is measured as nats is, and raftogram-before as raftogram."""
    return cluster.name.split("-")[0]


def has_work(cluster, work, messages=1):
    """Only Publish has many messages in an operation."""
    kind = kind_of(cluster)
    return kind in WORKS[work] and (messages == 1 or WORKS[work][kind] == "publish")


def first_write(bench, cluster):
    cluster.start()
    prefix = {"raftogram": "", "etcd": "etcd-", "nats": "nats-"}[kind_of(cluster)]
    result = bench.run(prefix + "first-write", "-to", cluster.addresses(), "-since",
                       cluster.started_ns)
    return {"system": cluster.name, "work": "start", "seconds": result["seconds"]}


def with_cpu(cluster, leader, run):
    """Adds what the servers' processors did to what `run` returns."""
    before = cluster.cpu_seconds()
    result = run()
    used = [after - begin for after, begin in zip(cluster.cpu_seconds(), before)]
    done = max(1, result["outcomes"]["ok"])
    done *= result["messagesPerOperation"]
    result["serverCpuUs"] = sum(used) / done * 1e6
    result["leaderCpuUs"] = used[leader] / done * 1e6
    return result


def load(bench, cluster, work, in_flight, seconds, extra=(), messages=1):
    leader = cluster.await_leader()
    if work == "ws-write":
        to = cluster.http_address(leader)
    else:
        to = cluster.address(leader)
    result = with_cpu(cluster, leader, lambda: bench.run(
        WORKS[work][kind_of(cluster)], "-to", to, "-in-flight", in_flight, "-seconds", seconds,
        "-warmup", min(0.4, seconds / 3), "-messages-per-frame", messages, *extra))
    if result["outcomes"]["ok"] == 0 and result.get("firstError", "").startswith(UNIMPLEMENTED):
        raise Unimplemented(f"{cluster.name} does not know {work}")
    if result["outcomes"]["ok"] == 0:
        raise Failure(f"nothing succeeded: {result.get('firstError', result['outcomes'])}")
    del result["gaps"]
    return {**result, "system": cluster.name, "work": work}


def fanout(bench, cluster, subscribers, rate, seconds):
    leader = cluster.await_leader()
    is_nats = kind_of(cluster) == "nats"
    to = cluster.websocket_addresses() if is_nats else cluster.http_addresses()
    pace = ["-rate", rate, "-in-flight", 4096] if rate else ["-in-flight", 512]
    result = with_cpu(cluster, leader, lambda: bench.run(
        "nats-fanout" if is_nats else "ws-fanout", "-to", to, "-publish", cluster.address(leader),
        "-channel", "fan", "-subscribers", subscribers, "-seconds", seconds, "-warmup", 0.4,
        *pace))
    del result["gaps"]
    return {**result, "system": cluster.name, "work": "fan-out"}


def fill(bench, cluster, messages):
    """Many messages, and what they cost in memory and on disk."""
    leader = cluster.await_leader()
    idle = cluster.memory_bytes()
    disk, store = cluster.disk_bytes(), cluster.store_bytes()
    result = with_cpu(cluster, leader, lambda: bench.run(
        WORKS["write"][kind_of(cluster)], "-to", cluster.address(leader), "-in-flight", 64,
        "-seconds", 60, "-warmup", 0, "-count", messages))
    time.sleep(2.5)  # stores are written behind the log
    done = max(1, result["outcomes"]["ok"])
    grown = [after - begin for after, begin in zip(cluster.disk_bytes(), disk)]
    out = {"system": cluster.name, "work": "fill", "messages": done,
           "idleMemory": idle, "memory": cluster.memory_bytes(),
           "diskPerMessage": [size / done for size in grown],
           "throughput": result["throughput"], "serverCpuUs": result["serverCpuUs"]}
    if store is not None:
        out["storePerMessage"] = [(after - begin) / done
                                  for after, begin in zip(cluster.store_bytes(), store)]
    return out


def gap(bench, cluster, signal_name):
    """The longest time without an acknowledged write when the leader is lost: tries at a fixed rate,
    each to the next node, none repeated, so that no client's cleverness is measured."""
    cluster.await_whole()
    leader = cluster.await_leader()
    kind = kind_of(cluster)
    seconds = GAP_SECONDS_BEFORE + GAP_SECONDS_AFTER[kind]
    process = bench.start(WORKS["write"][kind], "-to", cluster.addresses(first=leader),
                          "-rate", GAP_TRIES_PER_SECOND, "-seconds", seconds, "-warmup", 0,
                          "-deadline-ms", 1000)
    time.sleep(GAP_SECONDS_BEFORE)
    lost_ns = time.monotonic_ns()
    cluster.signal_node(leader, getattr(signal, signal_name))
    ended = []
    waiter = threading.Thread(target=lambda: ended.append(cluster.await_end(leader)))
    waiter.start()
    try:
        result = bench.finish(process, seconds + 20)
    finally:
        waiter.join()
    cluster.start_node(leader)
    # Pauses that ended before have other causes. Below 3 ms the generator tells none.
    after = [ms for begin_ns, ms in result["gaps"] if begin_ns + ms * 1e6 > lost_ns]
    before = [ms for begin_ns, ms in result["gaps"] if begin_ns + ms * 1e6 <= lost_ns]
    return {"system": cluster.name, "work": "gap", "signal": signal_name,
            "gapMs": max(after, default=3.0), "gapBeforeMs": max(before, default=3.0),
            "exitCode": ended[0] if ended else None, "outcomes": result["outcomes"],
            "firstError": result.get("firstError")}


# ---- a snapshot to a new node ----

SNAPSHOT_PAYLOAD_BYTES = 6000  # so many messages that the log does not hold them all
SAMPLE_SECONDS = 0.02
COPY_BLOCK_BYTES = 1 << 20
WRITE_SECONDS = 20  # beside it, from its beginning


class MemoryPeak:
    """The most that each node had while the block ran. Pages of mapped files are the kernel's to
    take back; anonymous memory is the process's own."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.peaks = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def watch(self):
        while not self.over.wait(SAMPLE_SECONDS):
            try:
                now = self.cluster.memory_bytes()
            except OSError:
                continue  # a process that has ended is told of by others
            self.peaks = [{key: max(peak[key], node[key]) for key in node}
                          for peak, node in zip(self.peaks or now, now)]


def copy_seconds(source, target):
    """What the disk itself needs for the same bytes: read, written and synced once."""
    begin = time.monotonic()
    with open(source, "rb", buffering=0) as reader, open(target, "wb", buffering=0) as writer:
        while block := reader.read(COPY_BLOCK_BYTES):
            writer.write(block)
        os.fsync(writer.fileno())
    seconds = time.monotonic() - begin
    os.unlink(target)
    return seconds


def snapshot(bench, cluster, megabytes):
    """A node comes back with an empty disk to a cluster that has so much, and goes on writing."""
    cluster.await_whole()
    leader = cluster.await_leader()
    count = megabytes * 1000000 // SNAPSHOT_PAYLOAD_BYTES
    bench.run("send", "-to", cluster.address(leader), "-in-flight", 64, "-seconds", 600, "-warmup",
              0, "-count", count, "-size", SNAPSHOT_PAYLOAD_BYTES, seconds=700)
    time.sleep(2.5)  # stores are written behind the log
    wiped = (leader + 1) % len(cluster.processes)
    cluster.signal_node(wiped, signal.SIGKILL)
    cluster.await_end(wiped)
    shutil.rmtree(cluster.data_dir(wiped))
    store = max(cluster.data_dir(leader).rglob("*.mdb"), key=lambda path: path.stat().st_blocks)
    disk = copy_seconds(store, cluster.folder / "copy")
    before = process_memory_bytes(cluster.processes[leader].pid)

    writes = bench.start("send", "-to", cluster.address(leader), "-rate", 200, "-seconds",
                         WRITE_SECONDS, "-warmup", 0, "-in-flight", 256)
    begin = time.monotonic()
    cluster.start_node(wiped)
    with MemoryPeak(cluster) as memory:
        await_condition("the wiped node to be ready", lambda: cluster.is_ready(wiped), 300)
        seconds = time.monotonic() - begin
    written = bench.finish(writes, WRITE_SECONDS + 20)
    # With little data the leader's log may have it all, and needs no snapshot.
    log = (cluster.folder / f"node{wiped + 1}.log").read_text(errors="replace")
    way = "snapshot" if "a snapshot is installed" in log else "log"
    return {"system": cluster.name, "work": "snapshot", "way": way, "storeBytes": store.stat().st_blocks * 512,
            "seconds": seconds, "diskSeconds": disk, "memoryBefore": before,
            "leaderPeak": memory.peaks[leader], "wipedPeak": memory.peaks[wiped],
            "outcomes": written["outcomes"], "latencyUs": written["latencyUs"]}
