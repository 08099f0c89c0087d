"""Blocks that wrap content: `{% panel %}…{% endpanel %}`, `{% section %}…{% endsection %}`, with slots.

A `{% slot aside %}…{% endslot %}` inside goes to that place of the component's template; what is outside any slot is
its body. Both render `templates/components/`; slots see the page's whole context.
"""

from __future__ import annotations

from typing import Any

from django import template
from django.template.base import FilterExpression, Node, NodeList, Parser, Token
from django.template.context import Context
from django.utils.safestring import SafeString

register = template.Library()


class SlotNode(Node):
    """Content for one named place. It renders only through the block around it."""

    def __init__(self, *, name: str, nodelist: NodeList) -> None:
        self.name = name
        self.nodelist = nodelist

    def render(self, context: Context) -> SafeString:
        raise template.TemplateSyntaxError(f"The slot {self.name} stands outside a panel or section.")


class WrapNode(Node):
    """A block whose body and slots are handed to a component's template."""

    child_nodelists = ("nodelist", "slots")

    def __init__(self, *, component: str, inputs: dict[str, FilterExpression], slots: NodeList, body: NodeList) -> None:
        self.component = component
        self.inputs = inputs
        self.slots = slots
        self.nodelist = body

    def render(self, context: Context) -> SafeString:
        filled: dict[str, Any] = {name: value.resolve(context) for name, value in self.inputs.items()}
        filled |= {slot.name: slot.nodelist.render(context) for slot in self.slots if isinstance(slot, SlotNode)}
        filled["body"] = self.nodelist.render(context)
        if context.template is None:
            raise template.TemplateSyntaxError("A panel renders inside a template only.")
        component = context.template.engine.get_template(self.component)
        return component.render(context.new(filled))


def _wrap(parser: Parser, token: Token) -> WrapNode:
    """Parse `{% name key=value … %}` up to its end tag."""
    name, *bits = token.split_contents()
    inputs = {}
    for bit in bits:
        key, separator, value = bit.partition("=")
        if not separator:
            raise template.TemplateSyntaxError(f"{name} takes key=value pairs, not {bit}.")
        inputs[key] = parser.compile_filter(value)
    nodes = parser.parse((f"end{name}",))
    parser.delete_first_token()
    slots = NodeList(node for node in nodes if isinstance(node, SlotNode))
    body = NodeList(node for node in nodes if not isinstance(node, SlotNode))
    return WrapNode(component=f"components/{name}.html", inputs=inputs, slots=slots, body=body)


register.tag("panel", _wrap)
register.tag("section", _wrap)


@register.tag
def slot(parser: Parser, token: Token) -> SlotNode:
    """Parse `{% slot name %}…{% endslot %}`."""
    try:
        _, name = token.split_contents()
    except ValueError as error:
        raise template.TemplateSyntaxError("A slot takes one name, unquoted.") from error
    nodelist = parser.parse(("endslot",))
    parser.delete_first_token()
    return SlotNode(name=name, nodelist=nodelist)
