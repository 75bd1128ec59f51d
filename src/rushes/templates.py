"""Pages: a package's `templates/NAME.html`, filled in. Values are escaped, so that names cannot become markup."""

from typing import Any

from jinja2 import Environment, PackageLoader


def page(package: str, template: str, /, **values: Any) -> str:
    """Fills in a template.

    Args:
        package: dotted name of the package with the folder `templates`.
        template: file in that folder.
        values: what the template uses; it can call functions.
    """
    environment = Environment(loader=PackageLoader(package), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(**values)
