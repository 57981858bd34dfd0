#!/usr/bin/env python3
"""Checks that inside a module no files need each other in a circle.

    check_circles.py BUILD_DIR

Reads the symbols of the objects in each library of node/ and frontends/: a file needs the files that
define what it leaves undefined. Prints each circle and exits 1 if one is not allowed. Begins
with a test of itself.
"""

import pathlib
import sys

sys.dont_write_bytecode = True  # the source directory may be read-only

from check_layers import symbols  # pylint: disable=wrong-import-position

# Library -> sets of files that may need each other.
ALLOWED = {
    # One algorithm: each part changes the state of the others.
    "raft": [{"election", "membership", "raft", "reads", "replication", "snapshot", "transfer"}],
    # A server owns its calls, and the last call ends the server.
    "rpc": [{"call", "server"}],
    # One connection: what it sends, its calls and its subscriptions.
    "frontend_http": [{"ws", "ws_call", "ws_send", "ws_subscription", "ws_upgrade"}],
}


def circles(objects):
    """The sets of objects that need each other (Tarjan's strongly connected components)."""
    definer = {symbol: name for name, (defined, _) in objects.items() for symbol in defined}
    needs = {name: {definer[s] for s in undefined if s in definer} - {name}
             for name, (_, undefined) in objects.items()}
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(needs[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            found.append({member.removesuffix(".c.o") for member in stack[at:]})
            del stack[at:]

    for name in sorted(needs):
        if name not in index:
            visit(name)
    return [circle for circle in found if len(circle) > 1]


def self_test():
    made_up = {
        "a.c.o": ({"a_open"}, {"b_open", "malloc"}),
        "b.c.o": ({"b_open"}, {"c_open"}),
        "c.c.o": ({"c_open"}, {"a_open", "d_open"}),
        "d.c.o": ({"d_open", "d_close"}, {"free"}),
    }
    assert circles(made_up) == [{"a", "b", "c"}]
    made_up["c.c.o"] = ({"c_open"}, {"d_open"})
    assert not circles(made_up)


def main(arguments):
    if len(arguments) != 1:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    self_test()
    build_dir = pathlib.Path(arguments[0]).resolve()
    libraries = sorted(path for top in ("node", "frontends")
                       for path in (build_dir / top).glob("*/libraftogram_*.a"))
    breaches = 0 if libraries else 1
    for library in libraries:
        module = library.stem.removeprefix("libraftogram_")
        for circle in circles(symbols(library)):
            if any(circle <= allowed for allowed in ALLOWED.get(module, [])):
                continue
            breaches += 1
            print(f"{module}: {', '.join(sorted(circle))} need each other")
    print(f"{len(libraries)} libraries: circles checked")
    print("circles: ok" if breaches == 0 else f"circles: {breaches} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
