#!/usr/bin/env python3
"""Reads the built programs and tells which protection against exploits one of them lacks.

    check_hardening.py --optimised|--debug PROGRAM...

With --optimised FORTIFY must be there as well: it needs optimisation. Prints each lack as
`program: what`, and exits 1 if there is any. cmake/hardening.cmake has the flags.
"""

import pathlib
import platform
import re
import subprocess
import sys

# What gcc notes in the debug information of each source file that it compiles.
COMPILER_FLAGS = ["-fstack-protector-strong", "-fstack-clash-protection"]
COMPILER_FLAGS_OF = {"x86_64": ["-fcf-protection=full"],
                     "aarch64": ["-mbranch-protection=standard"]}


def readelf(program, *options):
    return subprocess.run(["readelf", "--wide", *options, str(program)], check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout


def check_segments(program):
    headers = readelf(program, "--file-header", "--segments")
    dynamic = readelf(program, "--dynamic")
    lacks = []
    if not re.search(r"Type:\s+DYN", headers) or not re.search(r"\(FLAGS_1\).*\bPIE\b", dynamic):
        lacks.append("is no position-independent executable (-fPIE -pie)")
    if "GNU_RELRO" not in headers:
        lacks.append("has no segment that is read-only after relocation (-z relro)")
    if not re.search(r"\(FLAGS_1\).*\bNOW\b|\(BIND_NOW\)", dynamic):
        lacks.append("binds symbols lazily, so that its table of them stays writable (-z now)")
    stack = re.search(r"GNU_STACK(?:\s+0x\w+){5}\s+(\w+)", headers)
    if stack is None or "E" in stack.group(1):
        lacks.append("has a stack that can be executed (-z noexecstack)")
    if re.search(r"^\s*LOAD.*\bRWE\b", headers, re.MULTILINE):
        lacks.append("has memory that can be written and executed")
    if "(TEXTREL)" in dynamic:
        lacks.append("has relocations in its code")
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        lacks.append("looks for libraries in a folder of its own (RPATH)")
    if platform.machine() == "x86_64":
        if "SHSTK" not in readelf(program, "--notes"):
            lacks.append("is not marked for a shadow stack (-fcf-protection, -z shstk)")
    return lacks


def check_symbols(program, is_optimised):
    wanted = set(re.findall(r"\bUND (__\w+_chk(?:_fail)?|__stack_chk_fail)\b",
                            readelf(program, "--dyn-syms")))
    lacks = []
    if "__stack_chk_fail" not in wanted:
        lacks.append("does not check its stack (-fstack-protector-strong)")
    if is_optimised and not any(name.endswith("_chk") for name in wanted):
        lacks.append("calls no checked function of glibc (-D_FORTIFY_SOURCE=2)")
    return lacks


def check_sources(program):
    """What every source file was compiled with. Programs without debug information pass."""
    information = readelf(program, "--debug-dump=info", "--dwarf-depth=1")
    lacks = []
    for unit in re.split(r"^\s*Compilation Unit @", information, flags=re.MULTILINE)[1:]:
        name = re.search(r"DW_AT_name\s*:.*?([^\s:]+)$", unit, re.MULTILINE)
        producer = re.search(r"DW_AT_producer\s*:(?:.*\):)?\s*(GNU C\S* .*)$", unit, re.MULTILINE)
        if producer is None:
            continue
        for flag in COMPILER_FLAGS + COMPILER_FLAGS_OF.get(platform.machine(), []):
            if flag not in producer.group(1).split():
                lacks.append(f"{name.group(1)} was compiled without {flag}")
    return lacks


def main(arguments):
    if len(arguments) < 2 or arguments[0] not in ("--optimised", "--debug"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    is_optimised = arguments[0] == "--optimised"
    programs = [pathlib.Path(name) for name in arguments[1:]]
    breaches = []
    for program in programs:
        for lack in (check_segments(program) + check_symbols(program, is_optimised)
                     + check_sources(program)):
            breaches.append(f"{program.name}: {lack}")
    for breach in breaches:
        print(breach)
    print("hardening:", f"{len(breaches)} lacks" if breaches else "ok")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
