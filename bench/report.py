"""Tables for people, one JSON document for programs, and the plot for the README."""

import math
import os
import pathlib
import platform
import shutil
import statistics
import subprocess


def machine():
    def first_line(path, key):
        for line in pathlib.Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
        return ""

    filesystem = subprocess.run(["stat", "-f", "-c", "%T", "/tmp"], capture_output=True, text=True)
    return {"cpu": first_line("/proc/cpuinfo", "model name"), "cores": os.cpu_count(),
            "memoryBytes": int(first_line("/proc/meminfo", "MemTotal").split()[0]) * 1024,
            "kernel": platform.release(), "filesystem": filesystem.stdout.strip(),
            "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
            "loadAtStart": os.getloadavg()[0]}


def version(command):
    answer = subprocess.run(command, capture_output=True, text=True)
    lines = (answer.stdout + answer.stderr).strip().splitlines()
    return lines[0] if lines else ""


def spread(values, digits=0):
    """Median, and the range where there is one."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def print_table(title, heads, rows):
    if not rows:
        return
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    print(f"\n{title}\n")
    for row in [heads, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")


def group(runs, *keys):
    """(values of keys) -> runs, in order of appearance."""
    groups = {}
    for run in runs:
        groups.setdefault(tuple(run.get(key) for key in keys), []).append(run)
    return groups


def medians(runs, *path):
    values = []
    for run in runs:
        value = run
        for key in path:
            value = value[key]
        values.append(value)
    return values


def ratio(own, other):
    return f"{own / other:.2f}" if other else "-"


def load_rows(runs):
    rows = []
    groups = group(runs, "work", "inFlight", "system")
    for (work, in_flight, system), same in groups.items():
        reference = {"ws-write": "write", "kv-read": "read"}.get(work, work)
        etcd = groups.get((reference, in_flight, "etcd"))
        throughput, p50 = medians(same, "throughput"), medians(same, "latencyUs", "p50")
        cells = ["", ""]
        if etcd and system != "etcd":
            cells = [ratio(statistics.median(throughput),
                           statistics.median(medians(etcd, "throughput"))),
                     ratio(statistics.median(p50),
                           statistics.median(medians(etcd, "latencyUs", "p50")))]
        failed = sum(sum(run["outcomes"].values()) - run["outcomes"]["ok"] for run in same)
        rows.append([work, in_flight, system, spread(throughput),
                     spread([value / 1000 for value in p50], 2),
                     spread([value / 1000 for value in medians(same, "latencyUs", "p99")], 2),
                     *cells, spread(medians(same, "serverCpuUs")),
                     spread(medians(same, "leaderCpuUs")), failed or ""])
    return rows


LOAD_WORKS = ("write", "ws-write", "read", "kv-read")
COMPARED = [("messages",), ("latencyUs", "p50"), ("latencyUs", "p99"), ("serverCpuUs",),
            ("leaderCpuUs",)]
COMPARED_FANOUT = [("deliveries",), ("deliveryUs", "p50"), ("deliveryUs", "p99"),
                   ("serverCpuUs",), ("leaderCpuUs",)]


def shape_text(run):
    if run["work"] == "fan-out":
        return f"{run['rate']:.0f}/s" if run["rate"] else "flat out"
    each = run["messagesPerOperation"]
    return f"{run['inFlight']} of {each}" if run["work"] == "publish" else run["inFlight"]


def before_rows(runs):
    """This build to the other, each round's two figures with each other: what disturbed a round
    disturbed both."""
    rows = []
    runs = [run for run in runs if run["work"] in (*LOAD_WORKS, "publish", "fan-out")]
    keys = ("work", "inFlight", "messagesPerOperation", "rate")
    for (work, *_), same in group(runs, *keys).items():
        new = {run["round"]: run for run in same if run["system"] == "raftogram"}
        old = {run["round"]: run for run in same if run["system"] == "raftogram-before"}
        both = sorted(new.keys() & old.keys())
        if not both:
            continue
        cells = []
        for path in COMPARED_FANOUT if work == "fan-out" else COMPARED:
            pairs = zip(medians([new[number] for number in both], *path),
                        medians([old[number] for number in both], *path))
            cells.append(spread([ours / before for ours, before in pairs if before], 2))
        rows.append([work, shape_text(same[0]), len(both), *cells])
    return rows


def publish_rows(runs):
    """Frames of ours beside single writes of the others, all as messages a second."""
    rows = []
    groups = group(runs, "inFlight", "messagesPerOperation", "system")
    others = {system: statistics.median(medians(same, "messages"))
              for (_, _, system), same in groups.items() if system in ("etcd", "nats")}
    for (in_flight, messages, system), same in groups.items():
        rate = medians(same, "messages")
        cells = [ratio(statistics.median(rate), others.get(other)) if system != other else ""
                 for other in ("etcd", "nats")]
        failed = sum(sum(run["outcomes"].values()) - run["outcomes"]["ok"] for run in same)
        rows.append([in_flight, messages, system, spread(rate),
                     spread([value / 1000 for value in medians(same, "latencyUs", "p50")], 2),
                     spread([value / 1000 for value in medians(same, "latencyUs", "p99")], 2),
                     *cells, spread(medians(same, "serverCpuUs"), 1),
                     spread(medians(same, "leaderCpuUs"), 1), failed or ""])
    return rows


def fanout_rows(runs):
    rows = []
    groups = group(runs, "rate", "subscribers", "system")
    for (rate, subscribers, system), same in groups.items():
        nats = groups.get((rate, subscribers, "nats"))
        deliveries = medians(same, "deliveries")
        cell = ""
        if nats and system != "nats":
            cell = ratio(statistics.median(deliveries),
                         statistics.median(medians(nats, "deliveries")))
        rows.append([f"{rate:.0f}/s" if rate else "flat out", subscribers, system,
                     spread(deliveries), cell,
                     spread([value / 1000 for value in medians(same, "deliveryUs", "p50")], 2),
                     spread([value / 1000 for value in medians(same, "deliveryUs", "p99")], 2),
                     spread([run["serverCpuUs"] / subscribers for run in same], 2)])
    return rows


def gap_rows(runs):
    rows = []
    for (name, system), same in group(runs, "signal", "system").items():
        outcomes = {key: sum(run["outcomes"][key] for run in same) for key in same[0]["outcomes"]}
        rows.append([name, system, len(same), spread(medians(same, "gapMs"), 0),
                     spread(medians(same, "gapBeforeMs"), 0), " ".join(f"{key}:{count}" for key, count in outcomes.items() if count)])
    return rows


def fill_rows(runs):
    rows = []
    for run in runs:
        def megabytes(key, kind):
            return "/".join(f"{node[kind] / 1e6:.0f}" for node in run[key])
        rows.append([run["system"], f"{run['messages']:,}",
                     megabytes("idleMemory", "Anonymous"), megabytes("memory", "Anonymous"),
                     megabytes("idleMemory", "Rss"), megabytes("memory", "Rss"),
                     f"{statistics.median(run['diskPerMessage']):.0f}",
                     f"{statistics.median(run['storePerMessage']):.0f}"
                     if "storePerMessage" in run else ""])
    return rows


def snapshot_rows(runs):
    def megabytes(node):
        return f"{node['Anonymous'] / 1e6:.0f} / {node['Rss'] / 1e6:.0f}"
    return [[run["system"], run["way"], f"{run['storeBytes'] / 1e6:,.0f}", f"{run['seconds']:.1f}",
             f"{run['storeBytes'] / 1e6 / run['seconds']:.0f}", f"{run['diskSeconds']:.1f}",
             megabytes(run["memoryBefore"]), megabytes(run["leaderPeak"]),
             megabytes(run["wipedPeak"]),
             f"{run['latencyUs']['p50'] / 1000:.1f} / {run['latencyUs']['p99'] / 1000:.1f}",
             " ".join(f"{key}:{count}" for key, count in run["outcomes"].items() if count)]
            for run in runs]


def print_all(document):
    runs = document["runs"]
    about = document["machine"]
    print(f"\n{about['cpu']}, {about['cores']} cores, {about['memoryBytes'] / 2**30:.0f} GiB, "
          f"{about['system']}, Linux {about['kernel']}, {about['filesystem']}; "
          f"load average {about['loadAtStart']:.1f} at the start, {about['loadAtEnd']:.1f} at the "
          "end (this run's own included)")
    for name, text in document["versions"].items():
        print(f"  {name}: {text}")
    print("Three nodes and the client share the machine. Median (range) over the rounds.")
    of = group(runs, "work")
    loads = [run for work in LOAD_WORKS for run in of.get((work,), [])]
    print_table(f"Closed loop, {document['options']['size']}-byte payloads, client on the leader",
                ["work", "in flight", "system", "ops/s", "p50 ms", "p99 ms", "rate/etcd", "p50/etcd",
                 "CPU us/op", "of leader", "failed"], load_rows(loads))
    print_table("Publish: frames to their acknowledgement, beside etcd's Put and NATS's publish",
                ["in flight", "messages in each", "system", "messages/s", "p50 ms", "p99 ms",
                 "rate/etcd", "rate/nats", "CPU us/message", "of leader", "failed"],
                publish_rows(of.get(("publish",), [])))
    print_table("Fan-out over WebSocket, subscribers over three nodes",
                ["pace", "subscribers", "system", "deliveries/s", "/nats", "p50 ms", "p99 ms",
                 "CPU us/delivery"], fanout_rows(of.get(("fan-out",), [])))
    print_table("Write gap when the leader is lost (tries at 1000/s, each to the next node)",
                ["signal", "system", "runs", "gap ms", "longest before", "answers"], gap_rows(of.get(("gap",), [])))
    print_table("Fresh start to the first write", ["system", "seconds"],
                [[system, spread(medians(same, "seconds"), 2)]
                 for (system,), same in group(of.get(("start",), []), "system").items()])
    print_table("Footprint, each node (MB) and bytes on disk a message",
                ["system", "messages", "anonymous idle", "after", "RSS idle", "after", "disk",
                 "of it store"], fill_rows(of.get(("fill",), [])))
    print_table("Snapshot to a node with an empty disk, beside 200 writes/s; memory anonymous / RSS, MB",
                ["system", "sent as", "store MB", "ready after s", "MB/s", "plain copy and fsync s",
                 "leader before", "leader at most", "new node at most", "write p50 / p99 ms", "writes"],
                snapshot_rows(of.get(("snapshot",), [])))
    print_table("This build to the one before: ratios of each round, median (range)",
                ["work", "in flight", "rounds", "rate", "p50", "p99", "CPU", "of leader"],
                before_rows(runs))
    for failure in document["failures"]:
        print(f"\nFAILED: {failure}")


# ---- the plot ----

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 180, 56, 58
COLOURS = {"raftogram": "#0b6bcb", "raftogram-before": "#0891b2", "etcd": "#c2410c",
           "nats": "#15803d", "nats-sync-always": "#7c3aed"}
LABELS = {"raftogram-before": "raftogram, before", "nats": "NATS R3 (no fsync)", "nats-sync-always": "NATS R3 (fsync)",
          "etcd": "etcd", "raftogram": "raftogram"}


def ticks(low, high):
    """1, 2 and 5 of each decade within the range."""
    values = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        values += [step * 10 ** power for step in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def short(value):
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def plot(document):
    """Throughput against median latency of durable writes, one line a system, one point for each
    number in flight; both axes logarithmic."""
    lines = {}
    writes = [run for run in document["runs"] if run["work"] == "write"]
    for (system, in_flight), same in group(writes, "system", "inFlight").items():
        lines.setdefault(system, []).append(
            (statistics.median(medians(same, "throughput")),
             statistics.median(medians(same, "latencyUs", "p50")) / 1000, in_flight))
    points = [point for line in lines.values() for point in line if point[0] > 0]
    if not points:
        return None
    x_low, x_high = min(p[0] for p in points) / 1.3, max(p[0] for p in points) * 1.3
    y_low, y_high = min(p[1] for p in points) / 1.4, max(p[1] for p in points) * 1.4

    def x(value):
        part = math.log(value / x_low) / math.log(x_high / x_low)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def y(value):
        part = math.log(value / y_low) / math.log(y_high / y_low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="system-ui, sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           f'<text x="{LEFT}" y="24" font-size="14" font-weight="600" fill="#111827">'
           f'Writes to three nodes on one machine, {document["options"]["size"]}-byte payloads'
           '</text>',
           f'<text x="{LEFT}" y="40" font-size="11" fill="#6b7280">{document["machine"]["cores"]} '
           f'cores shared with the client; load average {document["machine"]["loadAtStart"]:.1f} '
           'before the run</text>']
    for value in ticks(x_low, x_high):
        out.append(f'<path d="M{x(value):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#e5e7eb"/>'
                   f'<text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" '
                   f'fill="#4b5563">{short(value)}</text>')
    for value in ticks(y_low, y_high):
        out.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>'
                   f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end" '
                   f'fill="#4b5563">{short(value)}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle" '
               'fill="#111827">acknowledged writes a second</text>'
               f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
               'text-anchor="middle" fill="#111827">median latency, ms</text>')
    for place, (system, line) in enumerate(lines.items()):
        colour = COLOURS.get(system, "#374151")
        legend = TOP + 14 + 20 * place
        out.append(f'<path d="M{WIDTH - RIGHT + 12} {legend - 4}h16" stroke="{colour}" '
                   f'stroke-width="3"/><text x="{WIDTH - RIGHT + 34}" y="{legend}" '
                   f'font-weight="600" fill="{colour}">{LABELS.get(system, system)}</text>')
        line.sort(key=lambda point: point[2])
        path = "L".join(f"{x(rate):.1f} {y(latency):.1f}" for rate, latency, _ in line)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for rate, latency, in_flight in line:
            out.append(f'<circle cx="{x(rate):.1f}" cy="{y(latency):.1f}" r="3.5" fill="{colour}"/>'
                       f'<text x="{x(rate):.1f}" y="{y(latency) - 8:.1f}" font-size="10" '
                       f'text-anchor="middle" fill="{colour}">{in_flight}</text>')
    out.append(f'<text x="{WIDTH - 12}" y="{HEIGHT - 14}" text-anchor="end" font-size="10" '
               'fill="#6b7280">small numbers: in flight</text></svg>')
    return "\n".join(out) + "\n"


def find_program(name, folders):
    """On the path, or where --with-peers unpacked it."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))
