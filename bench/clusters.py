"""Local three-node clusters to measure: ours, etcd's and NATS's, on free ports of 127.0.0.1."""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

NODES = 3
HOST = "127.0.0.1"
PORTS = (10240, 32000)  # below Linux's ip_local_port_range
given_ports = set()


class Failure(Exception):
    """Something of the world went wrong; the text says what."""


def free_ports(count):
    """Ports that were free a moment ago; none is given twice, and none is one that the kernel gives
    to outgoing connections: it may be taken between two starts of a node."""
    ports = []
    while len(ports) < count:
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in given_ports:
            given_ports.add(port)
            ports.append(port)
    return ports


def await_condition(what, condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value is not None and value is not False:
            return value
        time.sleep(0.01)
    raise Failure(f"timed out waiting for {what}")


def http_json(url, body=None, seconds=1.0):
    """None if there is no answer that is JSON."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=seconds) as answer:
            return json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return None


class Cluster:
    """What all systems share: processes, their directories and what they use."""

    name = ""
    ports_per_node = 0

    def __init__(self, folder):
        self.folder = pathlib.Path(folder) / self.name
        self.folder.mkdir(parents=True)
        self.processes = [None] * NODES
        ports = free_ports(NODES * self.ports_per_node)
        self.ports = [ports[i * self.ports_per_node:(i + 1) * self.ports_per_node]
                      for i in range(NODES)]
        self.started_ns = 0

    # What a system tells of itself.
    def command(self, index):
        raise NotImplementedError

    def leader(self):
        """The index of the node that leads, or None."""
        raise NotImplementedError

    def address(self, index):
        """Where the load generator's writes go."""
        return f"{HOST}:{self.ports[index][0]}"

    # Life.
    def data_dir(self, index):
        return self.folder / f"node{index + 1}"

    def start_node(self, index):
        log = open(self.folder / f"node{index + 1}.log", "ab")
        self.processes[index] = subprocess.Popen(
            self.command(index), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            cwd=self.folder, start_new_session=True)
        log.close()

    def start(self):
        self.started_ns = time.monotonic_ns()
        for index in range(NODES):
            self.start_node(index)

    def signal_node(self, index, number):
        self.processes[index].send_signal(number)

    def await_end(self, index, seconds=20.0):
        try:
            return self.processes[index].wait(seconds)
        except subprocess.TimeoutExpired:
            self.processes[index].kill()
            self.processes[index].wait()
            raise Failure(f"{self.name} node{index + 1} did not end within {seconds:.0f} s")

    def stop(self):
        for process in self.processes:
            if process is not None and process.poll() is None:
                process.kill()
        for process in self.processes:
            if process is not None:
                process.wait()

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_alive(self):
        for index, process in enumerate(self.processes):
            if process is not None and process.poll() is not None:
                log = (self.folder / f"node{index + 1}.log").read_text(errors="replace")
                raise Failure(f"{self.name} node{index + 1} ended with {process.returncode}: "
                              f"{log[-600:]}")

    def await_leader(self, seconds=30.0):
        def condition():
            self.check_alive()
            return self.leader()
        return await_condition(f"a leader of {self.name}", condition, seconds)

    def await_whole(self, seconds=30.0):
        """After a restart: there is a leader, and the node that came back takes part."""
        self.await_leader(seconds)

    def addresses(self, first=None):
        """All addresses, those of `first` in front."""
        order = list(range(NODES))
        if first is not None:
            order = [first] + [index for index in order if index != first]
        return ",".join(self.address(index) for index in order)

    # What it uses.
    def cpu_seconds(self):
        """Of each node's living threads."""
        return [sum(int(path.read_text().split()[0])
                    for path in pathlib.Path(f"/proc/{process.pid}/task").glob("*/schedstat")) / 1e9
                if process.poll() is None else 0.0
                for process in self.processes]

    def memory_bytes(self):
        """Anonymous resident memory and all resident memory of each node."""
        return [process_memory_bytes(process.pid) for process in self.processes]

    def disk_bytes(self):
        """What each node's directory occupies."""
        return [folder_bytes(self.data_dir(index)) for index in range(NODES)]

    def store_bytes(self):
        """The part of it that stays when the log has been compacted; None if that is not told
        apart."""
        return None


def process_memory_bytes(pid):
    found = {"Anonymous": 0, "Rss": 0}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key = line.split(":")[0]
        if key in found:
            found[key] = int(line.split()[1]) * 1024
    return found


def folder_bytes(folder):
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


class Raftogram(Cluster):
    name = "raftogram"
    ports_per_node = 3  # gRPC, HTTP, between nodes

    def __init__(self, folder, daemon, name="raftogram"):
        self.name = name
        super().__init__(folder)
        self.daemon = daemon
        peers = "\n".join(
            f"    - {{node_id: node{i + 1}, raft_addr: \"{HOST}:{p[2]}\", "
            f"grpc_addr: \"{HOST}:{p[0]}\", http_addr: \"{HOST}:{p[1]}\"}}"
            for i, p in enumerate(self.ports))
        for i, port in enumerate(self.ports):
            (self.folder / f"node{i + 1}.yaml").write_text(
                f"cluster:\n  node_id: node{i + 1}\n"
                f"  raft_bind_addr: {HOST}:{port[2]}\n  grpc_bind_addr: {HOST}:{port[0]}\n"
                f"  health_bind_addr: {HOST}:{port[1]}\n  data_dir: {self.data_dir(i)}\n"
                f"  peers:\n{peers}\n")

    def command(self, index):
        return [self.daemon, "-config", str(self.folder / f"node{index + 1}.yaml")]

    def http_address(self, index):
        return f"{HOST}:{self.ports[index][1]}"

    def http_addresses(self):
        return ",".join(self.http_address(index) for index in range(NODES))

    def leader(self):
        for index in range(NODES):
            if self.processes[index].poll() is None:
                health = http_json(f"http://{self.http_address(index)}/health")
                if health is not None and health.get("is_leader"):
                    return index
        return None

    def is_ready(self, index):
        try:
            with urllib.request.urlopen(f"http://{self.http_address(index)}/readyz", timeout=1):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def await_whole(self, seconds=30.0):
        self.await_leader(seconds)
        await_condition("all raftogram nodes to be ready",
                        lambda: all(self.is_ready(index) for index in range(NODES)), seconds)

    def store_bytes(self):
        totals = []
        for index in range(NODES):
            stores = [path for path in self.data_dir(index).rglob("*.mdb")
                      if path.name != "lock.mdb"]
            totals.append(sum(path.stat().st_blocks * 512 for path in stores))
        return totals


class Etcd(Cluster):
    name = "etcd"
    ports_per_node = 2  # clients, between nodes

    def __init__(self, folder, program):
        super().__init__(folder)
        self.program = program

    def command(self, index):
        client, peer = self.ports[index]
        initial = ",".join(f"node{i + 1}=http://{HOST}:{p[1]}" for i, p in enumerate(self.ports))
        return [self.program, "--name", f"node{index + 1}", "--data-dir", str(self.data_dir(index)),
                "--listen-client-urls", f"http://{HOST}:{client}",
                "--advertise-client-urls", f"http://{HOST}:{client}",
                "--listen-peer-urls", f"http://{HOST}:{peer}",
                "--initial-advertise-peer-urls", f"http://{HOST}:{peer}",
                "--initial-cluster", initial, "--initial-cluster-state", "new",
                "--initial-cluster-token", "bench", "--logger", "zap", "--log-level", "error"]

    def leader(self):
        for index in range(NODES):
            if self.processes[index].poll() is None:
                status = http_json(f"http://{self.address(index)}/v3/maintenance/status", {})
                if status and status.get("leader") == status["header"]["member_id"]:
                    return index
        return None


class Nats(Cluster):
    name = "nats"
    ports_per_node = 3  # clients, between nodes, WebSocket

    def __init__(self, folder, program, sync_interval=None):
        if sync_interval is not None:
            self.name = f"nats-sync-{sync_interval}"
        super().__init__(folder)
        self.program = program
        routes = ", ".join(f"nats://{HOST}:{p[1]}" for p in self.ports)
        sync = "" if sync_interval is None else f", sync_interval: {sync_interval}"
        for i, port in enumerate(self.ports):
            (self.folder / f"node{i + 1}.conf").write_text(
                f"server_name: node{i + 1}\nlisten: {HOST}:{port[0]}\n"
                f"jetstream {{ store_dir: \"{self.data_dir(i)}\"{sync} }}\n"
                f"cluster {{ name: bench, listen: {HOST}:{port[1]}, routes: [{routes}] }}\n"
                f"websocket {{ listen: \"{HOST}:{port[2]}\", no_tls: true }}\n")

    def command(self, index):
        return [self.program, "-c", str(self.folder / f"node{index + 1}.conf")]

    def is_supported(self):
        """Whether this version knows what its configuration says."""
        return subprocess.run([*self.command(0), "-t"], capture_output=True).returncode == 0

    def websocket_addresses(self):
        return ",".join(f"{HOST}:{port[2]}" for port in self.ports)

    def leader(self):
        for index in range(NODES):
            if self.processes[index].poll() is not None:
                continue
            name = stream_leader(self.ports[index][0])
            if name is not None:
                return int(name.removeprefix("node")) - 1
        return None


def stream_leader(port, stream="bench"):
    """The name of the server that leads the stream, asked for in NATS's own protocol."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.settimeout(1)
            connection.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n'
                               b"SUB bench.info 1\r\n"
                               b"PUB $JS.API.STREAM.INFO." + stream.encode() +
                               b" bench.info 0\r\n\r\n")
            received = b""
            while b"\r\nMSG " not in received or not received.endswith(b"}\r\n"):
                piece = connection.recv(65536)
                if not piece:
                    return None
                received += piece
            answer = json.loads(received.split(b"\r\nMSG ", 1)[1].split(b"\r\n", 1)[1])
            return answer.get("cluster", {}).get("leader")
    except (OSError, ValueError):
        return None


