"""Print the structure of the packages, measured from their imports.

    python -m scripts.structure [--modules] [PACKAGE ...]

For each package: how many modules and rooms there are, the imports between them, how many floors
the imports make, import cycles, and the largest room and module in lines. A room is a folder
directly under the package; a module directly under the package is a room of its own. The floors
are the longest chain of imports once every cycle counts as one.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import grimp
import networkx as nx


def imports_of(package: str) -> nx.DiGraph:
    """The modules of a package, with an edge from each to every module that it imports."""
    graph = grimp.build_graph(package, cache_dir=None)
    modules = nx.DiGraph()
    modules.add_nodes_from(name for name in graph.modules if lines(name))
    for module in modules:
        imported = graph.find_modules_directly_imported_by(module)
        modules.add_edges_from((module, target) for target in imported if target in modules)
    return modules


def room_of(module: str) -> str:
    """The room that a module is in: `engine.answers` for `engine.answers.numbers`."""
    return ".".join(module.split(".")[:2])


def rooms_of(modules: nx.DiGraph) -> nx.DiGraph:
    """The rooms of a package, with an edge where a module of one imports a module of another."""
    rooms = nx.DiGraph()
    rooms.add_nodes_from(room_of(module) for module in modules)
    rooms.add_edges_from(
        (room_of(a), room_of(b)) for a, b in modules.edges if room_of(a) != room_of(b)
    )
    return rooms


def floors(graph: nx.DiGraph) -> int:
    """The number of modules on the longest chain of imports; a cycle counts once."""
    return int(nx.dag_longest_path_length(nx.condensation(graph))) + 1


def cycles(graph: nx.DiGraph) -> list[list[str]]:
    """The groups of modules that import each other, largest first."""
    groups = (sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1)
    return sorted(groups, key=len, reverse=True)


def lines(module: str) -> int:
    """Lines of a module's source; 0 for a package that only has a docstring or nothing."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin)
    count = len(path.read_text(encoding="utf-8").splitlines())
    return 0 if path.name == "__init__.py" and count < 20 else count


def report(package: str, show_modules: bool) -> None:
    """Print one package."""
    modules = imports_of(package)
    rooms = rooms_of(modules)
    size = Counter[str]()
    for module in modules:
        size[room_of(module)] += lines(module)
    largest = max(modules, key=lines)
    room, room_lines = size.most_common(1)[0]
    for name, graph in (("modules", modules), ("rooms", rooms)):
        groups = cycles(graph)
        print(
            f"{package}: {len(graph)} {name}, {floors(graph)} floors, "
            f"{graph.number_of_edges()} imports, "
            f"{len(groups)} cycles" + "".join(f" of {len(group)}" for group in groups)
        )
        for group in groups:
            print("  cycle: " + ", ".join(group))
    print(
        f"  largest room: {room}, {room_lines} lines; largest module: {largest}, {lines(largest)}"
    )
    order = list(nx.topological_generations(nx.condensation(rooms.reverse())))
    members = nx.condensation(rooms.reverse()).nodes(data="members")
    for floor, group in enumerate(order, start=1):
        names = sorted(name for node in group for name in dict(members)[node])
        print(f"  {floor:2}  " + ", ".join(f"{name} ({size[name]})" for name in names))
    if show_modules:
        for a, b in sorted(modules.edges):
            print(f"  {a} -> {b}")


def main() -> int:
    """Print the packages that were named, or all three."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--modules", action="store_true", help="list every import")
    parser.add_argument("packages", nargs="*", default=["store", "engine", "lmsi_tui"])
    args = parser.parse_args()
    for package in args.packages:
        report(package, args.modules)
    return 0


if __name__ == "__main__":
    sys.exit(main())
