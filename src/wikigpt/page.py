"""The pages that we write: one file each, in English and Chinese, that runs no script and loads nothing."""

from typing import Any

from markupsafe import Markup


def render_page(template: str, filters: dict[str, Any] | None = None, **values: Any) -> str:
    """The HTML of a template of this package, such as "corpus/report.html.j2", that extends `page.html.j2`.

    Args:
        filters: for use in the template, beside `number` (1,234) and the function `t` (a text in both languages).
        values: what the template names; `chinese` says which language the page shows first.
    """
    from jinja2 import Environment, PackageLoader

    pages = Environment(loader=PackageLoader("wikigpt", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.globals["t"] = both_languages
    pages.filters |= {"number": "{:,}".format, **(filters or {})}
    return pages.get_template(template).render(**values)


def both_languages(english: str, chinese: str) -> Markup:
    """Two spans, one of which the page's language switch hides."""
    return Markup('<span class="en" lang="en">{}</span><span class="zh" lang="zh-Hans">{}</span>').format(
        english, chinese
    )
