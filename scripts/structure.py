"""Print how the packages are structured, measured from their imports.

    python -m scripts.structure [--modules] [PACKAGE ...]

A room is a folder directly under a package, or a module directly under it. For the modules and for
the rooms of each package, this prints how many there are, the imports between them, the depth (the
length of the longest chain of imports, where a cycle counts as one) and the cycles. Then it prints
the largest room, folder (without its subfolders) and module in lines, the rooms by level, lowest
first, and a longest chain of modules. Imports inside functions and under `TYPE_CHECKING` count.
Packages are looked up from the current directory.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import grimp
import networkx as nx

PACKAGES = ("store", "engine", "lmsi_tui")
SHORT = 20
"""An `__init__.py` with fewer lines only describes its package, and is left out."""


def modules_of(package: str) -> nx.DiGraph:
    """The modules of a package, each with its `lines`, and an edge to every module it imports."""
    imports = grimp.build_graph(package, cache_dir=None)
    graph = nx.DiGraph()
    for module in sorted(imports.modules):
        path = _path_of(module)
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if path.name != "__init__.py" or lines >= SHORT:
            graph.add_node(module, lines=lines)
    for module in graph:
        imported = imports.find_modules_directly_imported_by(module)
        graph.add_edges_from((module, target) for target in imported if target in graph)
    return graph


def _path_of(module: str) -> Path:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def rooms_of(modules: nx.DiGraph) -> nx.DiGraph:
    """The rooms, each with its `lines`, and an edge where a module imports one of another room."""
    lines = Counter[str]()
    for module, count in modules.nodes(data="lines"):
        lines[room_of(module)] += count
    rooms = nx.DiGraph()
    for room, count in lines.items():
        rooms.add_node(room, lines=count)
    rooms.add_edges_from(
        (room_of(module), room_of(target))
        for module, target in modules.edges
        if room_of(module) != room_of(target)
    )
    return rooms


def room_of(module: str) -> str:
    """The room of a module: `engine.answers` for `engine.answers.forms.numbers`."""
    return ".".join(module.split(".")[:2])


def cycles(graph: nx.DiGraph) -> list[list[str]]:
    """Groups whose members all import each other, directly or not; largest first."""
    groups = (sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1)
    return sorted(groups, key=len, reverse=True)


def levels(graph: nx.DiGraph) -> list[list[str]]:
    """The nodes by level: the lowest import nothing, each other level only levels below it.

    The members of a cycle are on one level.
    """
    condensed = nx.condensation(graph.reverse())
    return [
        sorted(name for group in level for name in condensed.nodes[group]["members"])
        for level in nx.topological_generations(condensed)
    ]


def longest_chain(graph: nx.DiGraph) -> list[str]:
    """Nodes of a longest chain of imports, one for each level; for a cycle, its first member."""
    condensed = nx.condensation(graph)
    chain = nx.dag_longest_path(condensed)
    return [min(condensed.nodes[group]["members"]) for group in chain]


def describe(package: str, *, list_imports: bool) -> list[str]:
    """The lines to print for a package."""
    modules = modules_of(package)
    rooms = rooms_of(modules)
    lines = [package]
    for kind, graph in (("modules", modules), ("rooms", rooms)):
        groups = cycles(graph)
        lines.append(
            f"  {len(graph)} {kind}, {graph.number_of_edges()} imports, "
            f"depth {len(levels(graph))}, {len(groups)} cycles"
        )
        lines += [f"    cycle of {len(group)}: {', '.join(group)}" for group in groups]
    by_folder = Counter[str]()
    for module, count in modules.nodes(data="lines"):
        by_folder[module.rpartition(".")[0]] += count
    by_room, by_module = (Counter(dict(graph.nodes(data="lines"))) for graph in (rooms, modules))
    for kind, sizes in (("room", by_room), ("folder", by_folder), ("module", by_module)):
        ((largest, count),) = sizes.most_common(1)
        lines.append(f"  largest {kind}: {largest}, {count:,} lines")
    for number, level in enumerate(levels(rooms), start=1):
        names = (f"{room} ({rooms.nodes[room]['lines']:,})" for room in level)
        lines.append(f"  level {number}: {', '.join(names)}")
    lines.append(f"  longest chain: {' -> '.join(longest_chain(modules))}")
    if list_imports:
        lines += [f"  {module} -> {target}" for module, target in sorted(modules.edges)]
    return lines


def main() -> int:
    """Print the given packages, by default all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--modules", action="store_true", help="list every import")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", default=PACKAGES)
    args = parser.parse_args()
    for package in args.packages:
        print(*describe(package, list_imports=args.modules), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
