"""XML of strangers: no entities, no document type, bounded."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError, indent, register_namespace, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from softphone.packages import PackageError

LARGEST = 64 * 1024
"Bytes of a document."
MOST = 2000
"Elements of a document."
DEEPEST = 32
LONGEST = 500
"Characters of a text that is shown."


def parse_xml(data: bytes, tag: str) -> Element:
    """The root, which has to be ``tag`` (``{namespace}name``). Raises PackageError."""
    if len(data) > LARGEST:
        raise PackageError(f"the document has more than {LARGEST} bytes")
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as exc:
        raise PackageError(f"this is no XML that is taken: {type(exc).__name__} {exc}"[:200]) from None
    if root.tag != tag:
        raise PackageError(f"the document is {root.tag[:80]!r}, not {tag!r}")
    level, count = [root], 0
    for _ in range(DEEPEST):
        count += len(level)
        level = [child for element in level for child in element]
        if not level:
            break
    if level or count > MOST:
        raise PackageError(f"the document has more than {MOST} elements, or {DEEPEST} levels")
    return root


def text_of(element: Element | None) -> str:
    """The text in an element, on one line, as it may be shown."""
    text = "" if element is None else element.text or ""
    plain = "".join(char if char.isprintable() else " " for char in text[: 4 * LONGEST])
    return " ".join(plain.split())[:LONGEST]


def print_xml(root: Element, namespaces: dict[str, str]) -> bytes:
    """The document; ``namespaces`` are prefixes with their URIs."""
    for prefix, uri in namespaces.items():
        register_namespace(prefix, uri)
    indent(root)
    document: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
    return document


__all__ = ["Element", "parse_xml", "print_xml", "text_of"]
