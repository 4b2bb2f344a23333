"""Wikitext → prose, as BERT was trained on it: "text passages", without lists, tables, headings and apparatus.

Devlin et al., "BERT", 2018, arXiv 1810.04805, section 3.1 (pre-training data). The grammar is `mwparserfromhell`'s;
what stays and what goes is decided here, node by node. Templates go, but for the few that stand for words of a sentence
(`{{convert|5|km|mi}}`, `{{lang|fr|mot}}`), without which the sentence would have a hole.
"""

import re
from collections.abc import Collection

import mwparserfromhell
from mwparserfromhell import nodes
from mwparserfromhell.wikicode import Wikicode

NAMESPACES = frozenset({"file", "image", "media", "category"})
"""Namespaces whose links place a picture or file the page, and are no part of a sentence."""

# fmt: off
LAST_SECTIONS = frozenset({
    "bibliography", "citations", "external links", "footnotes", "further reading", "notes", "notes and references",
    "other sources", "primary sources", "references", "references and further reading", "references and notes",
    "references and sources", "secondary sources", "see also", "selected bibliography", "sources",
    "sources and references", "specific references", "works cited",
})
# fmt: on
"""English headings, in lower case, under which an article keeps its apparatus rather than prose."""

_PARAGRAPH, _BREAK = "\n\n", "\x00"  # _BREAK marks a line of a list or of preformatted text

_HEADING = re.compile(r"^(={2,6})(.+?)\1[ \t]*$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_APPARATUS = re.compile(
    r"<(ref|references|math|chem|ce|gallery|timeline|score|code|pre|source|syntaxhighlight|hiero|imagemap|graph|mapframe"
    r"|poem|templatestyles|indicator)\b[^<>]*?(?:/>|>.*?</\1\s*>)",
    re.DOTALL | re.IGNORECASE,
)
_TABLE = re.compile(r"^[ :]*\{\|(?:(?!^[ :]*\{\|).)*?^[ :]*\|\}(?!\})", re.DOTALL | re.MULTILINE)
_INTERLANGUAGE = re.compile(r"(?:[a-z]{2,3}|simple)(?:-[a-z]+)*\s*:")


def prose(wikitext: str, namespaces: Collection[str] = NAMESPACES) -> str:
    """The running text of an article: paragraphs, each on one line, separated by newlines.

    Args:
        wikitext: source of a page.
        namespaces: lower-case names of the namespaces whose links are dropped (a dump names them in its own language).
    """
    source = _APPARATUS.sub("", _COMMENT.sub("", wikitext))
    tables = 1
    while tables:  # the innermost first
        source, tables = _TABLE.subn("", source)
    source = _without_last_sections(source)
    text = _text(mwparserfromhell.parse(source), namespaces)
    unclosed = ("|", "!", "{|", *(f"{namespace}:" for namespace in namespaces))  # tables and files that did not parse
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip() and not line.lstrip("[ ").lower().startswith(unclosed) and _BREAK not in line:
            blocks[-1].append(line)
        else:
            blocks.append([])
    paragraphs = (_tidy(" ".join(lines)) for lines in blocks)
    return "\n".join(paragraph for paragraph in paragraphs if _is_prose(paragraph))


def _without_last_sections(source: str) -> str:
    """`source` without its `LAST_SECTIONS` and their subsections; the other headings become paragraph breaks."""
    kept, position, dropped_level = [], 0, 7
    for heading in _HEADING.finditer(source):
        if dropped_level == 7:
            kept.append(source[position : heading.start()])
        level = len(heading[1])
        if level <= dropped_level:
            dropped_level = level if heading[2].strip(" \t':").lower() in LAST_SECTIONS else 7
        position = heading.end()
    if dropped_level == 7:
        kept.append(source[position:])
    return _PARAGRAPH.join(kept)


def _text(wikicode: Wikicode | None, namespaces: Collection[str]) -> str:
    return "" if wikicode is None else "".join(_node_text(node, namespaces) for node in wikicode.nodes)


def _node_text(node: nodes.Node, namespaces: Collection[str]) -> str:
    match node:
        case nodes.Text():
            return node.value.replace("\n ", f"\n{_BREAK}")
        case nodes.HTMLEntity():
            return node.normalize()
        case nodes.Wikilink():
            title = str(node.title).strip()
            namespace, colon, _ = title.partition(":")
            if (colon and namespace.strip().lower() in namespaces) or _INTERLANGUAGE.match(title):
                return ""
            return _text(node.text or node.title, namespaces).removeprefix(":")
        case nodes.ExternalLink():
            return _text(node.title, namespaces)
        case nodes.Template():
            return _template_text(node, namespaces)
        case nodes.Tag():
            return _tag_text(node, namespaces)
    return ""  # comments, arguments, headings that the parser alone takes for such


def _tag_text(tag: nodes.Tag, namespaces: Collection[str]) -> str:
    name = str(tag.tag).strip().lower()
    if name in ("li", "dt", "dd", "hr"):
        return _BREAK if tag.wiki_markup else ""
    if name in ("table", "ul", "ol", "dl"):
        return ""
    if name == "br":
        return " "
    contents = _text(tag.contents, namespaces)
    return f"{_PARAGRAPH}{contents}{_PARAGRAPH}" if name in ("blockquote", "p", "center", "div") else contents


# fmt: off
_FIRST_ARGUMENT = frozenset({
    "abbr", "angbr", "as written", "big", "em", "keypress", "larger", "linktext", "mvar", "nihongo", "nihongo2", "nobr",
    "not a typo", "nowrap", "sc", "small", "smallcaps", "smaller", "strong", "sub", "sup", "vanchor", "visible anchor",
})
# fmt: on
_SECOND_ARGUMENT = frozenset({"lang", "rtl-lang", "script", "ipa-all"})
_CHARACTERS = {
    **dict.fromkeys(("snd", "spnd", "spaced ndash"), " – "),
    **dict.fromkeys(("ndash", "endash", "en dash"), "–"),
    **dict.fromkeys(("mdash", "emdash", "em dash", "mdashb"), "—"),
    **dict.fromkeys(("nbsp", "spaces", "space", "thinsp"), " "),
    **{"'": "'", "' \"": "' \"", "\" '": "\" '", "'s": "'s", "!": "|", "=": "=", "circa": "c. ", "c.": "c. "},
}
_QUOTES = frozenset({"quote", "blockquote", "bquote", "quotation", "cquote"})
_RANGES = {"to": " to ", "-": "–", "–": "–", "and": " and ", "or": " or ", "by": " by ", "x": " × ", "to(-)": " to "}


def _template_text(template: nodes.Template, namespaces: Collection[str]) -> str:
    """The words that a template puts into its sentence; none for all but a few kinds."""
    name = " ".join(str(template.name).replace("_", " ").split()).lower()
    arguments = {str(each.name).strip(): each.value for each in template.params}

    def argument(key: str) -> str:
        return _text(arguments.get(key), namespaces).strip()

    positional = [argument(str(place)) for place in range(1, len(arguments) + 1) if str(place) in arguments]
    if name in _CHARACTERS:
        return _CHARACTERS[name] + "".join(positional if name in ("circa", "c.") else ())
    if name in _QUOTES:
        return f"{_PARAGRAPH}{argument('1') or argument('text')}{_PARAGRAPH}"
    if name in ("convert", "cvt") and len(positional) > 1:
        if positional[1] in _RANGES and len(positional) > 3:
            return f"{positional[0]}{_RANGES[positional[1]]}{positional[2]} {positional[3]}"
        return f"{positional[0]} {positional[1]}"
    if name in ("frac", "sfrac", "fraction") and positional:
        return {1: "1/{0}", 2: "{0}/{1}", 3: "{0} {1}/{2}"}.get(len(positional), "").format(*positional)
    if name == "as of" and positional:
        return ("as of " if "lc" in arguments else "As of ") + " ".join(positional)
    if name in ("chem", "transl", "transliteration") and positional:
        return "".join(positional) if name == "chem" else positional[-1]
    if name in _FIRST_ARGUMENT or name.startswith("lang-"):
        return argument("1")
    return argument("2") if name in _SECOND_ARGUMENT else ""


_LEFTOVERS = re.compile(r"\{\{[^{}]*\}\}|</?[a-zA-Z][^<>]*>|'{2,}|\[\[|\]\]|\{\{|\}\}|__[A-Z]+__")
_HOLES = (  # what a dropped template leaves behind
    (re.compile(r"\s+"), " "),
    (re.compile(r"\(\s*(?:[,;:]\s*)+"), "("),
    (re.compile(r"(?:\s*[,;:])+\s*\)"), ")"),
    (re.compile(r"([,;])(?:\s*[,;])+"), r"\1"),
    (re.compile(r"(?<!\S)\(\s*(?:or|and)?\s*\)"), " "),
    (re.compile(r"\(\s+"), "("),
    (re.compile(r"\s+(\)|[,;.](?=\s|$))"), r"\1"),
    (re.compile(r"\s+"), " "),
)
_ENDS_SENTENCE = re.compile(r"[.!?…。！？।؟۔]")


def _tidy(paragraph: str) -> str:
    paragraph = _LEFTOVERS.sub("", paragraph)
    for hole, mended in _HOLES:
        paragraph = hole.sub(mended, paragraph)
    return paragraph.strip(" ,;")


def _is_prose(paragraph: str) -> bool:
    """Whether a paragraph holds a sentence, rather than a caption, or what introduces a list or follows a formula."""
    shortest = 200 if paragraph[:1].islower() else 40
    return len(paragraph) >= shortest and bool(_ENDS_SENTENCE.search(paragraph))
