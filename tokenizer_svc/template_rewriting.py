"""The syntax tree of a chat template, with a check wherever Jinja's sandbox offers no hook.

Loops, comparisons, `~`, literals of lists and dictionaries, and slices compile to plain Python.
Each gets an internal filter around it; their names begin with a space, which no template can write.
Tags that read other templates or switch escaping on are refused by name.
"""

from typing import Any, NoReturn

from jinja2 import TemplateAssertionError, nodes
from jinja2.visitor import NodeTransformer

TICK = " tick"
CONCAT = " concat"
MEASURED = " measured"
SLICED = " sliced"

_REFUSED_TAGS: dict[type[nodes.Node], str] = {
    nodes.Extends: "extends",
    nodes.FromImport: "from",
    nodes.Import: "import",
    nodes.Include: "include",
    nodes.ScopedEvalContextModifier: "autoescape",
}


def rewritten(template: nodes.Template) -> nodes.Template:
    """The same template with checks. Raises TemplateAssertionError for a refused tag."""
    _Rewriter().visit(template)
    return template


class _Rewriter(NodeTransformer):
    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        tag = _REFUSED_TAGS.get(type(node))
        if tag is not None:
            _refuse(tag, node.lineno)
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 (Jinja's visitor)
        self.generic_visit(node)
        tick = _filtered(nodes.Const(None, lineno=node.lineno), TICK)
        node.body.insert(0, nodes.ExprStmt(tick, lineno=node.lineno))
        if node.test is not None:
            node.test = _filtered(node.test, TICK)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 (likewise)
        self.generic_visit(node)
        node.expr = _filtered(node.expr, TICK)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 (likewise)
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), CONCAT)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 (likewise)
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        part = node.arg
        bounds = [
            bound if bound is not None else nodes.Const(None, lineno=node.lineno)
            for bound in (part.start, part.stop, part.step)
        ]
        return _filtered(node.node, SLICED, bounds)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802 (likewise)
        return self._measured(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802 (likewise)
        return self._measured(node, node.items) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802 (likewise)
        return self._measured(node, [pair.value for pair in node.items])

    def _measured(self, node: nodes.Expr, items: list[nodes.Expr]) -> nodes.Node:
        if all(isinstance(item, nodes.Const) for item in items):
            return node
        self.generic_visit(node)
        return _filtered(node, MEASURED)


def _filtered(node: nodes.Node, name: str, args: list[nodes.Expr] | None = None) -> nodes.Filter:
    return nodes.Filter(node, name, args or [], [], None, None, lineno=node.lineno)


def _refuse(tag: str, line: int) -> NoReturn:
    raise TemplateAssertionError(f"the tag {tag} is not offered", line)
