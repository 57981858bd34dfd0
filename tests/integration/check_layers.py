#!/usr/bin/env python3
"""Checks which module includes which, and that the pure parts are pure.

    check_layers.py SOURCE_DIR [BUILD_DIR]

Reads the #include lines of node/, frontends/ and ctl/. With a build directory it also reads the
symbols of the raft library and of the state machine's apply. Prints each breach as
`file:line: what`, and exits 1 if there is any.
"""

import pathlib
import re
import subprocess
import sys

# Module (a folder) -> the other modules whose headers it may include. "proto" stands for generated
# messages. The daemon is the program itself and may include everyone.
MAY_INCLUDE = {
    "base": set(),
    "auth": {"base"},
    "raft": {"base"},
    "storage": {"base"},
    "store": {"base"},
    "chat": {"base", "store"},
    "json": {"base", "proto"},
    "rpc": {"base"},
    "h2": {"base"},
    "config": {"base", "auth"},
    "peer": {"base", "rpc", "json", "raft", "proto"},
    "driver": {"base", "raft", "storage", "store", "chat", "peer"},
    "dispatch": {"base", "json", "proto", "chat", "driver"},
    "frontend_grpc": {"base", "json", "h2", "proto", "dispatch"},
    "frontend_http": {"base", "json", "proto", "dispatch"},
    "ctl": {"base", "auth", "json", "rpc", "proto"},
}
PROGRAM = "daemon"

# Pairs that may share these headers only.
ONLY_HEADERS = {
    ("config", "auth"): {"node/auth/settings.h"},
    ("ctl", "auth"): {"node/auth/token.h", "node/auth/secret_file.h"},
    ("peer", "raft"): {"node/raft/raft.h"},
    ("frontend_grpc", "dispatch"): {"node/dispatch/dispatch.h", "node/dispatch/frontend.h"},
    ("frontend_http", "dispatch"): {"node/dispatch/dispatch.h", "node/dispatch/frontend.h"},
}

# Headers for the program only: it alone chooses the kind of store.
PROGRAM_HEADERS = {"node/store/lmdb.h", "node/dispatch/service.h"}

# Foreign header (a prefix) -> the only modules that know the library.
FOREIGN = {
    "lmdb.h": {"store"},
    "grpc/": {"rpc"},
    "nghttp2/": {"h2"},
    "jwt.h": {"auth"},
    "argon2.h": {"auth"},
    "yaml.h": {"config"},
    "libwebsockets.h": {"frontend_http"},
    "systemd/": {PROGRAM},
}

# The pure parts: nothing that could tell the time, roll dice, or reach the world.
PURE_HEADERS = {
    "assert.h", "inttypes.h", "limits.h", "stdbool.h", "stddef.h", "stdint.h", "stdlib.h",
    "stdnoreturn.h", "string.h", "uthash.h",
}
PURE_HEADERS_OF = {"node/chat/apply.c": {"stdio.h"}}  # snprintf; its symbols show if it does more
PURE_SOURCES = ("node/raft/", "node/chat/apply.c")

# What the raft library may need from outside. Random numbers come from a seed that an event or the
# configuration brought: base/random.h computes them without asking anybody.
RAFT_SYMBOLS = {
    "calloc", "check_failed", "free", "malloc", "memchr", "memcmp", "memcpy", "memmove", "memset",
    "random_below", "random_next", "random_seed", "realloc",
}
# Put there by the compiler.
TOOL_SYMBOLS = re.compile(r"^(__(asan|ubsan|tsan|msan|sanitizer|sancov|gcov|llvm)_|__stack_chk_"
                          r"|_GLOBAL_OFFSET_TABLE_$|__start___sancov|__stop___sancov)")

# FORTIFY's name of a function that also knows the size of what it writes to: __memcpy_chk.
FORTIFIED = re.compile(r"^__(\w+)_chk$")

# Locks are fine: readers look at the overlay that apply writes.
APPLY_FORBIDDEN = re.compile(
    r"^(time|clock|clock_.*|gettimeofday|localtime.*|gmtime.*|nanosleep|usleep|sleep"
    r"|rand|rand_r|random|srand.*|srandom|drand48|.*rand48|getrandom|getentropy|random_.*"
    r"|open|open64|openat.*|read|pread.*|write|pwrite.*|fsync|fdatasync|close|rename.*|unlink.*"
    r"|fopen.*|fread|fwrite|fprintf|printf|puts|perror|dprintf|socket|connect|send.*|recv.*"
    r"|poll|ppoll|epoll_.*|getenv|mdb_.*|fs_.*|log_write|pthread_create|pthread_join|pthread_cond_timedwait|mailbox_.*)$")

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def module_of(path):
    """The module of a file, by its path inside the repository: its folder."""
    parts = path.parts
    if parts[0] == "frontends":
        return "frontend_" + parts[1] if len(parts) > 2 else None
    if parts[0] == "ctl":
        return "ctl"
    return parts[1] if parts[0] == "node" and len(parts) > 2 else None


def resolve(source_dir, includer, name):
    """The repository path that a quoted include means; None if it is generated."""
    for folder in (includer.parent, pathlib.Path("node"), pathlib.Path("frontends")):
        if (source_dir / folder / name).is_file():
            return folder / name
    return None


def check_quoted(source_dir, path, module, name):
    if name.endswith(".pb-c.h"):
        target, target_module = None, "proto"
    else:
        target = resolve(source_dir, path, name)
        if target is None:
            # Generated for the module itself (the embedded page), so without a folder.
            return f'"{name}" is in no module' if "/" in name else None
        target_module = module_of(target)
    if module == PROGRAM or target_module == module:
        return None
    if target_module not in MAY_INCLUDE[module]:
        return f'{module} must not include {target_module} ("{name}")'
    if target is not None and target.stem.endswith("_internal"):
        return f'"{name}" is internal to {target_module}'
    if target is not None and target.as_posix() in PROGRAM_HEADERS:
        return f'"{name}" is for {PROGRAM} only'
    only = ONLY_HEADERS.get((module, target_module))
    if only is not None and target.as_posix() not in only:
        return f"{module} may include {', '.join(sorted(only))} only, not {target.as_posix()}"
    return None


def check_foreign(path, module, name, is_quoted):
    for prefix, modules in FOREIGN.items():
        if name.endswith(".pb-c.h"):
            continue  # generated messages live under the names of their packages, grpc/ too
        if name.startswith(prefix) and module not in modules:
            return f"<{name}> belongs to {', '.join(sorted(modules))} only, not to {module}"
    if is_quoted or not path.as_posix().startswith(PURE_SOURCES):
        return None
    if name not in PURE_HEADERS | PURE_HEADERS_OF.get(path.as_posix(), set()):
        return f"<{name}> in pure code; it may include {', '.join(sorted(PURE_HEADERS))}"
    return None


def check_file(source_dir, path):
    module = module_of(path)
    if module != PROGRAM and module not in MAY_INCLUDE:
        return [f"{path}:1: is in no module that tests/integration/check_layers.py knows"]
    breaches = []
    lines = (source_dir / path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match is None:
            continue
        is_quoted = match.group(1) == '"'
        name = match.group(2)
        breach = check_foreign(path, module, name, is_quoted)
        if breach is None and is_quoted:
            breach = check_quoted(source_dir, path, module, name)
        if breach is not None:
            breaches.append(f"{path}:{number}: {breach}")
    return breaches


def check_includes(source_dir):
    breaches = []
    count = 0
    for top in ("node", "frontends", "ctl"):
        for path in sorted((source_dir / top).rglob("*.[ch]")):
            breaches += check_file(source_dir, path.relative_to(source_dir))
            count += 1
    print(f"{count} files: includes checked")
    return breaches


def symbols(archive):
    """Object -> (defined, undefined) global symbol names, of every object in the archive."""
    output = subprocess.run(["nm", "--format=posix", str(archive)], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    objects = {}
    current = None
    for line in output.splitlines():
        header = re.match(r".*\[(.+)\]:$", line)
        if header is not None:
            current = objects.setdefault(header.group(1), (set(), set()))
            continue
        fields = line.split()
        if len(fields) >= 2 and fields[1] in "Uvw":
            current[1].add(FORTIFIED.sub(r"\1", fields[0]))
        elif len(fields) >= 2 and (fields[1].isupper() or fields[1] in "iu"):
            current[0].add(FORTIFIED.sub(r"\1", fields[0]))
    return objects


def check_raft_symbols(build_dir):
    archive = build_dir / "node" / "raft" / "libraftogram_raft.a"
    if not archive.is_file():
        return [f"{archive}: is not there; build first"]
    objects = symbols(archive)
    defined = set().union(*(d for d, _ in objects.values()))
    breaches = []
    for name, (_, undefined) in sorted(objects.items()):
        for symbol in sorted(undefined - defined - RAFT_SYMBOLS):
            if TOOL_SYMBOLS.match(symbol) is None:
                breaches.append(f"{archive.name}({name}): needs {symbol}; the raft core is pure")
    print(f"{archive.name}: symbols of {len(objects)} objects checked")
    return breaches


def check_apply_symbols(source_dir, build_dir):
    if not (source_dir / "node" / "chat" / "apply.c").is_file():
        return ["node/chat/apply.c: is not there; say in check_layers.py where apply is now"]
    archive = build_dir / "node" / "chat" / "libraftogram_chat.a"
    if not archive.is_file():
        return [f"{archive}: is not there; build first"]
    objects = symbols(archive)
    if "apply.c.o" not in objects:
        return [f"{archive}: has no apply.c.o; build again"]
    _, undefined = objects["apply.c.o"]
    print(f"{archive.name}(apply.c.o): {len(undefined)} symbols checked")
    return [f"{archive.name}(apply.c.o): needs {symbol}; apply is deterministic and does no I/O"
            for symbol in sorted(undefined) if APPLY_FORBIDDEN.match(symbol) is not None]


def main(arguments):
    if len(arguments) not in (1, 2):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    source_dir = pathlib.Path(arguments[0]).resolve()
    breaches = check_includes(source_dir)
    if len(arguments) == 2:
        build_dir = pathlib.Path(arguments[1]).resolve()
        breaches += check_raft_symbols(build_dir)
        breaches += check_apply_symbols(source_dir, build_dir)
    for breach in breaches:
        print(breach)
    print("layers: ok" if not breaches else f"layers: {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
