"""Which class an expression is of, as far as annotations and assignments tell without a type checker.

A type checker knows better and takes a minute; this takes a second. It follows annotations of parameters,
fields, properties and functions, calls of classes, `X | None`, and the items of the usual containers. Where
it cannot tell it says None.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from tests.modules import FLOORS, MODULES, source_of, tree_of

__all__ = [
    "CLASSES",
    "Class",
    "Function",
    "assigned_in",
    "attributes_of",
    "functions_of",
    "is_foreign",
    "is_own",
    "known_in",
    "nodes_in",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef
ITEMS = {"list", "set", "frozenset", "deque", "tuple", "Iterable", "Iterator", "Sequence", "Collection"}
MAPPINGS = {"dict", "Mapping", "OrderedDict", "defaultdict"}
TAKES = {"get", "pop", "popleft", "popitem", "setdefault"}


class Kind(NamedTuple):
    """A type as it is written, and the module whose names it is written in."""

    node: ast.expr
    module: str


class Class(NamedTuple):
    """A class of the four packages."""

    name: str
    module: str
    node: ast.ClassDef

    @property
    def methods(self) -> dict[str, Function]:
        """What it defines itself, the last of each name."""
        return {node.name: node for node in self.node.body if isinstance(node, Function)}


@cache
def nodes_in(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Every node of a tree."""
    return tuple(ast.walk(tree))


@cache
def assigned_in(function: ast.AST) -> tuple[ast.Attribute, ...]:
    """Every attribute that is assigned somewhere in a function."""
    return tuple(target for node in nodes_in(function) for target in targets_of(node))


def functions_of(tree: ast.AST) -> Iterator[tuple[str, Function, ast.ClassDef | None]]:
    """Every function with its dotted name inside the module, and the class that it is a method of."""

    def walk(
        node: ast.AST, path: tuple[str, ...], owner: ast.ClassDef | None
    ) -> Iterator[tuple[str, Function, ast.ClassDef | None]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield ".".join((*path, child.name)), child, owner
                yield from walk(child, (*path, child.name), owner)
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, (*path, child.name), child)
            elif not isinstance(child, ast.expr):
                yield from walk(child, path, owner)

    yield from walk(tree, (), None)


def classes() -> dict[str, Class]:
    """Every class by its dotted name."""
    return {
        f"{module}.{node.name}": Class(f"{module}.{node.name}", module, node)
        for module, path in MODULES.items()
        for node in nodes_in(tree_of(path))
        if isinstance(node, ast.ClassDef)
    }


CLASSES = classes()
CLASSES_OF = {module: [owner for owner in CLASSES.values() if owner.module == module] for module in MODULES}


@cache
def names_of(module: str) -> dict[str, str]:
    """What each imported or defined name of a module stands for: a dotted name."""
    found = {}
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in nodes_in(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            source = source_of(node, package)
            found |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
    for node in tree_of(path).body:
        if isinstance(node, ast.ClassDef | Function):
            found[node.name] = f"{module}.{node.name}"
    return found


def resolve(dotted: str, depth: int = 5) -> str:
    """Follow what packages export again to where it is defined."""
    module, _, name = dotted.rpartition(".")
    if depth and dotted not in CLASSES and module in MODULES and name in names_of(module):
        further = names_of(module)[name]
        return dotted if further == dotted else resolve(further, depth - 1)
    return dotted


@cache
def unwrapped(kind: Kind | None) -> Kind | None:
    """The type without quotes, `| None` and `Final[…]`."""
    if kind is None:
        return None
    node = kind.node
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return unwrapped(Kind(ast.parse(node.value, mode="eval").body, kind.module))
    if isinstance(node, ast.BinOp):
        left, right = (
            isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.right)
        )
        if left or right:
            return unwrapped(Kind(node.right if left else node.left, kind.module))
    if isinstance(node, ast.Subscript) and last_name(node.value) in (
        "Final",
        "ClassVar",
        "Annotated",
        "type",
    ):
        inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
        return unwrapped(Kind(inner, kind.module))
    return kind


def last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@cache
def class_of(kind: Kind | None) -> Class | None:
    """The class of ours that a type names."""
    kind = unwrapped(kind)
    if kind is None:
        return None
    node = kind.node.value if isinstance(kind.node, ast.Subscript) else kind.node
    first, *rest = ast.unparse(node).split(".")
    dotted = ".".join([names_of(kind.module).get(first, f"{kind.module}.{first}"), *rest])
    return CLASSES.get(resolve(dotted))


def item_of(kind: Kind | None) -> Kind | None:
    """What is in a container."""
    kind = unwrapped(kind)
    if kind is None or not isinstance(kind.node, ast.Subscript):
        return None
    inside = kind.node.slice.elts if isinstance(kind.node.slice, ast.Tuple) else [kind.node.slice]
    name = last_name(kind.node.value)
    if name in ITEMS:
        return Kind(inside[0], kind.module)
    return Kind(inside[1], kind.module) if name in MAPPINGS and len(inside) == 2 else None


def bases_of(owner: Class) -> Iterator[Class]:
    """The class and those of ours that it derives from."""
    yield owner
    for base in owner.node.bases:
        further = class_of(Kind(base, owner.module))
        if further is not None and further is not owner:
            yield from bases_of(further)


@cache
def fields_of(name: str) -> dict[str, Kind | None]:
    """The attributes that a class has by itself; the type of each, if that is told."""
    owner = CLASSES[name]
    fields: dict[str, Kind | None] = {}
    for node in owner.node.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            fields[node.target.id] = Kind(node.annotation, owner.module)
    for method in owner.methods.values():
        known = parameters_of(method, owner)
        if "property" in map(last_name, method.decorator_list) and method.returns is not None:
            fields.setdefault(method.name, Kind(method.returns, owner.module))
        for node in nodes_in(method):
            annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            for target in targets_of(node):
                if is_own(target):
                    kind = Kind(annotation, owner.module) if annotation is not None else None
                    if (
                        kind is None
                        and isinstance(value, ast.Name | ast.Call)
                        and isinstance(node, ast.Assign)
                    ):
                        kind = type_of(value, known, owner.module, depth=2)
                    if fields.get(target.attr) is None:
                        fields[target.attr] = kind
    return fields


def slots_of(owner: Class) -> set[str]:
    """The names in `__slots__`."""
    return {
        constant.value
        for node in owner.node.body
        if isinstance(node, ast.Assign) and "__slots__" in map(ast.unparse, node.targets)
        for constant in nodes_in(node.value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }


@cache
def attributes_of(owner: Class) -> set[str]:
    """What an object of this class keeps: its slots, and what its own methods assign to `self`; for a struct
    that may change, its fields. Without what it inherits from others of ours."""
    found = {
        target.attr for method in owner.methods.values() for target in assigned_in(method) if is_own(target)
    }
    if any(last_name(base) == "Struct" for base in owner.node.bases) and not is_frozen(owner):
        found |= {
            node.target.id
            for node in owner.node.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            and "ClassVar" not in ast.unparse(node.annotation)
        }  # fmt: skip
    inherited = [attributes_of(base) for base in bases_of(owner) if base is not owner]
    return (found | slots_of(owner)).difference(*inherited)


def is_frozen(owner: Class) -> bool:
    """Whether a struct's fields cannot be assigned."""
    return any(keyword.arg == "frozen" for keyword in owner.node.keywords)


def targets_of(node: ast.AST) -> Iterator[ast.Attribute]:
    """The attributes that a statement assigns or deletes."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = list(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor):
        targets = [node.target]
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        targets = [node.optional_vars]
    while targets:
        target = targets.pop()
        if isinstance(target, ast.Attribute):
            yield target
        elif isinstance(target, ast.Tuple | ast.List):
            targets += target.elts
        elif isinstance(target, ast.Starred):
            targets.append(target.value)


def is_own(target: ast.Attribute) -> bool:
    """Whether this is an attribute of `self`, or of the class itself."""
    return isinstance(target.value, ast.Name) and target.value.id in ("self", "cls")


Known = dict[str, Kind | None]


def parameters_of(function: Function, owner: Class | None) -> Known:
    """The parameters of a function that say what they are."""
    module = owner.module if owner is not None else ""
    arguments = function.args
    known: Known = {
        one.arg: Kind(one.annotation, module)
        for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if one.annotation is not None
    }
    if owner is not None:
        known["self"] = Kind(ast.Name(owner.node.name), owner.module)
    return known


def known_in(function: Function, owner: Class | None, module: str) -> Known:
    """What is known of the names inside a function; the first that tells counts."""
    known = {name: Kind(kind.node, module) for name, kind in parameters_of(function, owner).items() if kind}
    for node in nodes_in(function):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            known.setdefault(node.target.id, Kind(node.annotation, module))
    for _ in range(2):  # what is made of a name that is told below
        for node in nodes_in(function):
            if isinstance(node, ast.Assign):
                pairs = [pair for target in node.targets for pair in paired(target, node.value)]
            elif isinstance(node, ast.NamedExpr):
                pairs = [(node.target, node.value)]
            elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
                kind = item_of(type_of(node.iter, known, module))
                if kind is not None:
                    known.setdefault(node.target.id, kind)
                continue
            else:
                continue
            for target, value in pairs:
                if isinstance(target, ast.Name) and target.id not in known:
                    kind = type_of(value, known, module)
                    if kind is not None:
                        known[target.id] = kind
    return known


def paired(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """`a, b = c, d` as two assignments."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def field_type(kind: Kind | None, name: str) -> Kind | None:
    """What an attribute of this type is."""
    owner = class_of(kind)
    if owner is not None:
        for base in bases_of(owner):
            found = fields_of(base.name).get(name)
            if found is not None:
                return found
    return None


def type_of(node: ast.expr, known: Known, module: str, depth: int = 8) -> Kind | None:
    """What an expression is, as far as can be told."""
    if not depth:
        return None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        return field_type(type_of(node.value, known, module, depth - 1), node.attr)
    if isinstance(node, ast.Subscript):
        return item_of(type_of(node.value, known, module, depth - 1))
    if isinstance(node, ast.NamedExpr | ast.Await):
        return type_of(node.value, known, module, depth - 1)
    if isinstance(node, ast.IfExp):
        first = type_of(node.body, known, module, depth - 1)
        return first if first is not None else type_of(node.orelse, known, module, depth - 1)
    if isinstance(node, ast.BoolOp):
        return type_of(node.values[0], known, module, depth - 1)
    return type_of_call(node, known, module, depth) if isinstance(node, ast.Call) else None


def type_of_call(node: ast.Call, known: Known, module: str, depth: int) -> Kind | None:
    """What a call of a class, a method or a container's method gives."""
    if class_of(Kind(node.func, module)) is not None:
        return Kind(node.func, module)
    if isinstance(node.func, ast.Attribute):
        of = type_of(node.func.value, known, module, depth - 1)
        owner = class_of(of)
        for base in bases_of(owner) if owner is not None else ():
            method = base.methods.get(node.func.attr)
            if method is not None and method.returns is not None:
                return Kind(method.returns, base.module)
        if node.func.attr in TAKES:
            return item_of(of)
        if node.func.attr in ("values", "copy"):
            kind = item_of(of)
            return None if kind is None else Kind(ast.Subscript(ast.Name("list"), kind.node), kind.module)
    elif isinstance(node.func, ast.Name):
        if node.func.id in ("list", "sorted", "tuple", "iter", "reversed", "set") and node.args:
            return type_of(node.args[0], known, module, depth - 1)
        for statement in tree_of(MODULES[module]).body:
            if isinstance(statement, Function) and statement.name == node.func.id and statement.returns:
                return Kind(statement.returns, module)
    return None


@cache
def attributes_in(module: str) -> frozenset[str]:
    """All attributes that classes of a module have."""
    return frozenset(
        name for owner in CLASSES_OF[module] for name in (*attributes_of(owner), *fields_of(owner.name))
    )


@cache
def attributes_of_ours() -> frozenset[str]:
    """All attributes that classes of the four packages have."""
    return frozenset(name for module in MODULES for name in attributes_in(module))


def is_foreign(target: ast.Attribute, known: Known, module: str) -> bool:
    """Whether this is an attribute of an object whose class stands in another module of ours.

    Where nothing tells what the object is, the attribute's name decides: it is not foreign if a class of this
    module has one called so, nor if no class of ours has. The interpreter's own (`__cause__`) never are.
    """
    if target.attr.startswith("__"):
        return False
    kind = unwrapped(type_of(target.value, known, module))
    owner = class_of(kind)
    if owner is not None:
        return all(base.module != module for base in bases_of(owner))
    if kind is not None:
        first = ast.unparse(kind.node).partition("[")[0].partition(".")[0]
        if names_of(kind.module).get(first, "typing").partition(".")[0] not in ("typing", *FLOORS):
            return False  # a library's
    return target.attr not in attributes_in(module) and target.attr in attributes_of_ours()
