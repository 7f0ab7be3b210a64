"""HTML and SVG as function calls. Text is escaped where it enters: no class or file name can become markup."""

import html
from collections.abc import Iterable
from typing import TypeAlias

Child: TypeAlias = "str | int | Iterable[Child] | None"

VOID = {"br", "circle", "col", "img", "line", "meta", "path", "polyline", "rect", "wbr"}  # elements without content


class Html(str):
    """Text that is markup already and is not escaped again."""


def tag(element: str, *children: Child, **attributes: str | float | None) -> Html:
    """`<element attributes>children</element>`. Strings are escaped unless they are `Html`; None stands for nothing.

    Attribute names lose a final underscore (`class_`), others become hyphens (`stroke_width`). Numbers are rounded to
    hundredths, which is finer than any screen.
    """
    given = "".join(f' {_name(name)}="{_attribute(value)}"' for name, value in attributes.items() if value is not None)
    if element in VOID and not children:
        return Html(f"<{element}{given}/>")
    return Html(f"<{element}{given}>{join(children)}</{element}>")


def join(*children: Child) -> Html:
    """Children, nested as they may be, one after the other."""
    parts = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str | int):
            parts.append(html.escape(str(child)))
        elif child is not None:
            parts.append(join(*child))
    return Html("".join(parts))


def breakable(text: str) -> Html:
    """Text whose lines may break after an underscore, as long class names have them."""
    return Html("_<wbr/>".join(html.escape(part) for part in text.split("_")))


def _name(name: str) -> str:
    return name.removesuffix("_").replace("_", "-")


def _attribute(value: str | float) -> str:
    return html.escape(value) if isinstance(value, str) else f"{round(value, 2):g}"
